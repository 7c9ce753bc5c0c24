"""Open runs of a job for a view: their rows as far as they can be read, and which of them go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.core.decision import Liveness
from chronos_cli.core.row import RunState
from chronos_cli.errors import DocumentError
from chronos_cli.operations.evaluate import as_known

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from chronos_cli.core.job import Job
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context


def open_rows(ctx: Context, job: Job) -> tuple[list[Row], list[str]]:
    """Return the rows of open runs, and what is wrong with those that cannot be read."""
    rows, unreadable = [], []
    for entry in job.open:
        try:
            stored = ctx.repository.rows.get(job.id, entry.run)
        except DocumentError as error:
            unreadable.append(error.line())
            continue
        if stored is not None:
            rows.append(as_known(ctx, stored.value))
    return rows, unreadable


def running_now(ctx: Context, job: Job, rows: Iterable[Row], now: datetime) -> tuple[tuple[str, ...], float | None]:
    """Return the runs that go, and the seconds by which the longest has outrun its timeout."""
    running, overrun = [], None
    for row in rows:
        if row.state is RunState.RUNNING and ctx.processes.liveness(row) is not Liveness.DEAD:
            running.append(row.run_id)
            if row.started_at is not None:
                gone = ctx.processes.elapsed(row.owner or {})
                over = (now - row.started_at).total_seconds() if gone is None else gone
                over -= job.policy.timeout
                overrun = max(over, overrun or 0.0) if over > 0 else overrun
    return tuple(running), overrun
