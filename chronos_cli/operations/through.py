"""Seeing a begun run through: its end, what its end starts, and the wake the job then needs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chronos_cli.core.claim import run_id_of
from chronos_cli.core.row import RunState
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import replace
from chronos_cli.operations.fire import keeps_slot, rearm
from chronos_cli.operations.look import present_wake
from chronos_cli.operations.run import Begun, Claim, after_end, begin, finish
from chronos_cli.streams import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.core.decision import Wake
    from chronos_cli.core.job import Job
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context


def see_through(
    ctx: Context,
    run: Begun,
    *,
    ended: Callable[[Row], object] | None = None,
    settled: Callable[[], object] | None = None,
    waited_for: bool = True,
) -> Row:
    """Wait for a run's end, record it, run what was queued behind it, and arm the job's next wake.

    With `ended` (called with the row once the end is on record) this is a runner that outlives the answer to its fire.
    A NAS that clears its slot on a 2xx drops our arm with that answer, so unless NAS promised to keep it the wake is
    provisioned once more: after `settled`, which is called when nothing else is left to do and returns when the answer
    has left. A wake that cannot be armed here is written down as unconfirmed, and one line on stderr says so:
    reconcile, the next fire or a tick mends it. Returns the row.

    `waited_for`: whether somebody waits for `settled`; then the on-failure command, if there is one, runs before that,
    since whoever waits may end the container with us in it. Else it comes last and keeps nobody.
    """
    row = finish(ctx, run)
    job_id, waiting = row.job_id, [run]
    over: list[tuple[Job, Row]] = []
    _note(ctx, row)
    if ended is not None:
        ended(row)
    while waiting:
        waiting.pop()
        looked = after_end(ctx, job_id)
        over += looked.over
        # A machine that was put on standby meanwhile leaves what was queued to the active one, which finds it claimed.
        for start in looked.decision.starts if looked.job is not None and not ctx.standby else ():
            begun = begin(ctx, Claim.of(looked.job, start, ctx.token()))  # type: ignore[arg-type]
            if begun is not None:
                _note(ctx, finish(ctx, begun))
                waiting.append(begun)
    again = ended is not None and not _keeps_slot(ctx, job_id)
    _arm(ctx, job_id, looked.decision.wake, force=again and settled is None)
    if waited_for:
        _alert(ctx, over)
    if settled is not None:
        settled()
        if again:
            _arm(ctx, job_id, present_wake(ctx, job_id), force=True)
    if not waited_for:
        _alert(ctx, over)
    _prune(ctx, job_id)
    return row


def _arm(ctx: Context, job_id: str, wake: Wake | None, *, force: bool) -> None:
    try:
        ctx.must_be_active("arming")
        rearm(ctx, job_id, wake, force=force and wake is not None)
    except ChronosError as error:
        log(f"job {job_id} ended, but its wake was not armed: {error.line()}")


def _alert(ctx: Context, over: list[tuple[Job, Row]]) -> None:
    """Tell the on-failure command; what it needs is imported where there is something to tell."""
    if over:
        from chronos_cli.operations.alert import EACH_WITHIN_S, FROZEN_WITHIN_S, alert

        alert(ctx, over, each_within_s=EACH_WITHIN_S if ctx.budget_s is None else FROZEN_WITHIN_S)


def _keeps_slot(ctx: Context, job_id: str) -> bool:
    stored = ctx.repository.arm(job_id)
    return stored is not None and keeps_slot(stored.value)


def _note(ctx: Context, row: Row) -> None:
    """A scheduled run that went well ends the complaint that runs cannot be started."""
    if row.state is RunState.OK and row.scheduled_at is not None:
        ctx.repository.change_arm(row.job_id, lambda document: replace(document, last_fire_error=None))


def _prune(ctx: Context, job_id: str) -> None:
    horizon = run_id_of(ctx.clock() - timedelta(days=ctx.retention.days))
    ctx.repository.prune_rows(job_id, keep=ctx.retention.keep, horizon=horizon)
