"""Ask NAS for its clock where the time matters."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.core.clock import UNCHECKED, Trust, is_ahead, is_near
from chronos_cli.core.job import Standing, parse_job
from chronos_cli.core.row import LEASE_MARGIN
from chronos_cli.errors import ChronosError

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from chronos_cli.core.job import Job
    from chronos_cli.operations.context import Context

WITNESS_BUDGET_S: Final = 10.0


def hear(ctx: Context) -> Context:
    """Return the same outside once NAS was asked for its clock, or as it was where that cannot be had."""
    witness = _asked(ctx)
    return ctx if witness is None else ctx.heard(witness)


def hear_for_change(ctx: Context, *found: Job) -> Context:
    """Return the outside for a person's change: NAS is asked first where its clock decides what is settled for good.

    So it does where a next time is past: the change enters it as passed over, and that row would outlive the change.
    """
    now = ctx.clock()
    if ctx.trust is not Trust.UNHEARD or not any(_is_passed(job, now) or needs_witness(job, now) for job in found):
        return ctx
    return ctx.by_witness(_asked(ctx))


def stored_jobs(ctx: Context, only: Collection[str] | None = None) -> list[Job]:
    """Return the jobs of the store (`only` these ids) that can be read."""
    found = []
    for record in ctx.repository.jobs().records:
        if record.id is not None and isinstance(record.value, dict) and (only is None or record.id in only):
            with suppress(ChronosError):  # it is left alone; the commands that read it name it
                found.append(parse_job(record.value, ctx.home))
    return found


def needs_witness(job: Job, now: datetime) -> bool:
    """Return whether it matters for a job if the clock is right.

    So it does long past its time, ahead of what its schedule explains, and where a run's lease may be over.
    """
    lease = timedelta(seconds=job.policy.timeout) + LEASE_MARGIN
    if any(now - entry.claimed_at > min(UNCHECKED, lease) for entry in job.open):
        return True
    return job.standing is Standing.LIVE and (_is_long_past(job, now) or is_ahead(job, now))


def _is_passed(job: Job, now: datetime) -> bool:
    return job.standing in (Standing.LIVE, Standing.PAUSED) and job.cursor is not None and job.cursor <= now


def _is_long_past(job: Job, now: datetime) -> bool:
    return job.cursor is not None and job.cursor <= now and not is_near(job, job.cursor, now)


def _asked(ctx: Context) -> datetime | None:
    if ctx.wire is None:
        return None
    try:
        with ctx.wire.connect(WITNESS_BUDGET_S) as nas:
            return nas.list().server_time
    except ChronosError:
        return None  # then nothing is settled that needs a witness, and each such job says so
