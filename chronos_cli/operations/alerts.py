"""Run the on-failure command once per failed run; count repeats.

A row is told by whoever's look took its run out of `open`, since that write has one winner; and the row is marked, by
compare-and-swap, before the command runs: so it runs at most once, also after a crash. While a job goes on failing it
is told again only after `on_failure_again`; what failed meanwhile is the `repeats` of the next event. The rows carry
that count.
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.instant import iso_text
from chronos_cli.core.row import RunState
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import replace
from chronos_cli.store.interface import VersionConflict
from chronos_cli.streams import log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronos_cli.core.job import Job
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context
    from chronos_cli.store.documents import StoredDocument

BAD_ENDS: Final = frozenset({RunState.FAILED, RunState.TIMEOUT, RunState.INTERRUPTED, RunState.LOST, RunState.MISSED})
SCHEMA: Final = "chronos.failure/1"
EACH_WITHIN_S: Final = 30.0
FROZEN_WITHIN_S: Final = 3.0
"""The same where a caller waits for the answer, and the platform freezes the process after it."""
ALL_WITHIN_S: Final = 60.0
"""For how long one command goes on starting the command, however many rows it found."""

_LOOKED_BACK: Final = 20


def alert(ctx: Context, over: Iterable[tuple[Job, Row]], *, each_within_s: float = EACH_WITHIN_S) -> None:
    """Run the on-failure command for those of these rows that ended badly, have one, and were not told of yet.

    What goes wrong here is one line on stderr, and noted on the row: the job's own record is never touched. Raises
    nothing that belongs to the store: a failure that cannot be marked is not told.
    """
    until, left_out = time.monotonic() + ALL_WITHIN_S, 0
    for job, row in over:
        if not job.policy.on_failure or row.state not in BAD_ENDS or row.replaced:
            continue
        if time.monotonic() >= until:
            left_out += 1
            continue
        try:
            marked = _mark(ctx, job, row)
            if marked is not None and (marked.value.alert or {}).get("told"):
                _tell(ctx, job, marked, each_within_s)
        except ChronosError as error:
            log(f"job {row.job_id}: {row.run_id} was not told to the on-failure command: {error.line()}")
    if left_out:
        log(f"{left_out} failures were not told: the on-failure command took too long for those before them")


def _mark(ctx: Context, job: Job, row: Row) -> StoredDocument[Row] | None:
    """Write down that the row is told now, or counted with those before it; None when another process has done so."""
    from chronos_cli.store.documents import StoredDocument

    stored = ctx.repository.rows.get(row.job_id, row.run_id)
    if stored is None or not stored.value.terminal or stored.value.alert is not None:
        return None
    now = ctx.clock()
    # A run by hand is told each time, and never keeps the schedule's own failures from being told.
    last, recovered = ({}, False) if row.scheduled_at is None else _last_alert(ctx, row)
    untold = int(last.get("untold", 0))
    told_at = datetime.fromisoformat(last["told_at"]) if last else None
    again = timedelta(seconds=job.policy.on_failure_again)
    if told_at is None or recovered or not timedelta() <= now - told_at < again:
        note: dict[str, Any] = {"told": True, "told_at": now.isoformat(), "repeats": untold}
    else:
        note = {"told": False, "told_at": told_at.isoformat(), "untold": untold + row.count}
    marked = replace(stored.value, alert=note)
    try:
        return StoredDocument(value=marked, version=ctx.repository.rows.replace(marked, stored.version))
    except VersionConflict:
        return None  # another look found the same row over, and tells of it


def _last_alert(ctx: Context, row: Row) -> tuple[dict[str, Any], bool]:
    """Return the mark of the schedule's latest row that has one, and whether a run went well since it was told."""
    marks, wells = [], []
    for other in ctx.repository.rows.of(row.job_id, newest=_LOOKED_BACK):
        if other.run_id == row.run_id or other.scheduled_at is None:
            continue
        if other.alert is not None:
            marks.append(dict(other.alert))
        elif other.state is RunState.OK and other.finished_at is not None:
            wells.append(other.finished_at)
    if not marks:
        return {}, False
    last = max(marks, key=lambda mark: (mark["told_at"], mark.get("untold", 0)))
    return last, any(moment > datetime.fromisoformat(last["told_at"]) for moment in wells)


def _tell(ctx: Context, job: Job, marked: StoredDocument[Row], within_s: float) -> None:
    row = marked.value
    facts = {"CHRONOS_JOB_ID": job.id, "CHRONOS_RUN_ID": row.run_id, "CHRONOS_RUN_STATE": row.state.value}
    event = json.dumps(event_of(job, row), ensure_ascii=False) + "\n"
    problem = ctx.processes.alert(job.policy.on_failure, event.encode(), facts=facts, timeout_s=within_s)
    if problem is None:
        return
    log(f"job {job.id}: the on-failure command {job.policy.on_failure[0]} {problem}")
    try:
        ctx.repository.rows.replace(replace(row, alert={**(row.alert or {}), "error": problem}), marked.version)
    except VersionConflict:
        return  # retention took the row meanwhile; the line above has said it


def event_of(job: Job, row: Row) -> dict[str, Any]:
    """Return what the command reads, as docs/schemas/events/chronos.failure.1.json describes it."""
    instants = ("scheduled_at", "through", "started_at", "finished_at")
    return {
        "schema": SCHEMA,
        "job_id": job.id,
        "name": job.name,
        "run_id": row.run_id,
        "state": row.state.value,
        "kind": row.kind,
        **{name: iso_text(getattr(row, name)) for name in instants},
        "count": row.count,
        "exact": row.exact,
        "attempts": len(row.attempts),
        "exit_status": row.exit_status,
        "reason": row.reason or row.because,
        "failures_in_a_row": job.failures,
        "repeats": int((row.alert or {}).get("repeats", 0)),
        "logs": f"chronos logs {job.id}/{row.run_id}" if row.output else None,
    }
