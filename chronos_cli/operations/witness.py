"""Asking NAS for its clock, where it matters what time it is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.core.clock import UNCHECKED, Trust, is_ahead, is_near
from chronos_cli.core.job import Standing
from chronos_cli.core.row import LEASE_MARGIN
from chronos_cli.errors import ChronosError

if TYPE_CHECKING:
    from datetime import datetime

    from chronos_cli.core.job import Job
    from chronos_cli.operations.context import Context

WITNESS_BUDGET_S: Final = 10.0


def hear(ctx: Context) -> Context:
    """Return the same outside once NAS was asked for its clock, or as it was where that cannot be had."""
    witness = _asked(ctx)
    return ctx if witness is None else ctx.heard(witness)


def hear_for_change(ctx: Context, job: Job) -> Context:
    """Return the outside for a person's change: NAS is asked first where its clock decides what is settled for good."""
    passed = job.standing is Standing.PAUSED and _is_long_past(job, ctx.clock())
    if ctx.trust is not Trust.UNHEARD or not (passed or needs_witness(job, ctx.clock())):
        return ctx
    return ctx.by_witness(_asked(ctx))


def needs_witness(job: Job, now: datetime) -> bool:
    """Return whether it matters for a job if the clock is right.

    So it does long past its time, ahead of what its schedule explains, and where a run's lease may be over.
    """
    lease = timedelta(seconds=job.policy.timeout) + LEASE_MARGIN
    if any(now - entry.claimed_at > min(UNCHECKED, lease) for entry in job.open):
        return True
    return job.standing is Standing.LIVE and (_is_long_past(job, now) or is_ahead(job, now))


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
