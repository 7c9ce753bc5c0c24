"""The end of a run: record it, start what was queued behind it, and arm the wake that the job then needs."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.core.claim import run_id_of
from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Liveness
from chronos_cli.core.plan import ArmReason, ArmState
from chronos_cli.core.row import RunState
from chronos_cli.errors import ChronosError, DocumentError
from chronos_cli.frozen import replace
from chronos_cli.operations.arming.arm import FIRE_BUDGET_S, arm, is_armed
from chronos_cli.operations.arming.slot_memory import needs_look
from chronos_cli.operations.firing.run import BegunRun, after_end, begin, finish
from chronos_cli.operations.firing.shared_end import EndRequest, EndResult
from chronos_cli.streams import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from chronos_cli.core.decision import Wake
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context
    from chronos_cli.store.arms.document import ArmDocument

    AskServer = Callable[[EndRequest], EndResult | None]

_LEFT: Final = "what follows its end is left to the next fire, tick or reconcile"
_TRIES: Final = 3
_PAUSES: Final = 3


def wait_and_follow_up(
    ctx: Context,
    run: BegunRun,
    *,
    ended: Callable[[Row], object] | None = None,
    settled: Callable[[], object] | None = None,
    waited_for: bool = True,
    looks: bool = False,
    server: AskServer | None = None,
) -> Row:
    """Wait for a run's end, record it, run what was queued behind it, and arm the job's next wake.

    With `ended` (called with the row once the end is on record) this is a runner that outlives the answer to its fire.
    `settled` is called when nothing is left to do that the answer may wait for, and returns when it has left: a runner
    that nobody waits for arms after that, and so finds what the fire itself has armed. `looks`: nobody else looks
    whether NAS still holds that after the answer. A wake that cannot be armed here is written down as unconfirmed, and
    one line on stderr says so: reconcile, the next fire or a tick mends it. Returns the row.

    `server`: looks at the job in place of this runner, if it can, by a write that it shares with others.

    `waited_for`: a caller waits for `settled`. Then the on-failure command, if there is one, runs before that,
    since the caller may end the container with us in it. Else it comes last and delays nothing.
    """
    inline = ended is None
    row = finish(ctx, run, waited_for=inline or waited_for)
    job_id = row.job_id
    with _said(job_id, "the arm's complaint stands"):
        _note(ctx, row)
    if ended is not None:
        ended(row)
    wake: Wake | None = None
    followed = False
    with _said(job_id, _LEFT):
        wake = _follow(ctx, job_id, server, waited_for=inline or waited_for)
        followed = True
    if waited_for:
        if followed:
            _arm(ctx, job_id, wake)
        ctx.send_alerts()
    if settled is not None:
        settled()
    if not waited_for:
        if followed:
            _arm(ctx, job_id, wake)
        ctx.send_alerts()
    if looks:
        with _said(job_id, "its wake was not looked at again"):
            _look_again(ctx, job_id)
    with _said(job_id, "its old rows were left"):
        _prune(ctx, job_id)
    return row


def end_and_begin(ctx: Context, run: BegunRun, going: list[BegunRun]) -> Row:
    """Wait for the end of one of several runs under this process, record it, and begin what was queued behind it.

    That goes into `going`, to be waited for beside the others. The job's next wake is armed when nothing of it is left
    there. Raises TemporaryError where the end could not be recorded.
    """
    row = finish(ctx, run, waited_for=True)
    job_id = row.job_id
    with _said(job_id, "the arm's complaint stands"):
        _note(ctx, row)
    with _said(job_id, _LEFT):
        next_step = _look_after(ctx, job_id)
        going.extend(_begin_each(ctx, next_step))
        if not going:
            _arm(ctx, job_id, next_step.wake)
    ctx.send_alerts()
    with _said(job_id, "its old rows were left"):
        _prune(ctx, job_id)
    return row


def end_what_followed(ctx: Context, run: BegunRun, going: list[BegunRun]) -> None:
    """Do the same for a run that another's end has begun, whose row is not waited for."""
    with _said(run.row.job_id, _LEFT):
        end_and_begin(ctx, run, going)


def _begin_each(ctx: Context, next_step: EndResult) -> Iterator[BegunRun]:
    """Begin the runs that a look has decided on, one by one.

    A machine that was put on standby meanwhile leaves what was queued to the active one, which finds it claimed.
    """
    for ticket in () if ctx.standby else next_step.tickets:
        begun = begin(ctx, ticket)
        if begun is not None:
            yield begun


def _follow(ctx: Context, job_id: str, server: AskServer | None = None, *, waited_for: bool) -> Wake | None:
    """Take the run out of hand, and run what was queued behind it to its end; the wake that the job then needs."""
    while True:
        next_step = _look_after(ctx, job_id, server)
        ran = False
        for begun in _begin_each(ctx, next_step):
            ran = True
            row = finish(ctx, begun, waited_for=waited_for)
            with _said(job_id, "the arm's complaint stands"):
                _note(ctx, row)
        if not ran:
            return next_step.wake


def _look_after(ctx: Context, job_id: str, server: AskServer | None = None) -> EndResult:
    """Look at a job whose run is over, again where the store cannot be had for a moment. Raises ChronosError.

    Where the server was asked and did not answer its write may stand all the same: it bears the token of ours.
    """
    token = ctx.token()
    told = None if server is None else server(EndRequest.of(ctx, job_id, token))
    if told is not None:
        ctx.checkpoint("settled")
        return told
    for tried in range(_TRIES - 1):
        try:
            return EndResult.of(ctx, after_end(ctx, job_id, token))
        except ChronosError:
            ctx.repository.wait_to_retry(tried + _PAUSES)
    return EndResult.of(ctx, after_end(ctx, job_id, token))


@contextmanager
def _said(job_id: str, what: str) -> Iterator[None]:
    """Say on stderr what could not be done after a run whose end is on record: none of it undoes that."""
    try:
        yield
    except ChronosError as error:
        log(f"job {job_id} ended, but {what}: {error.line()}")


def _arm(ctx: Context, job_id: str, wake: Wake | None) -> None:
    with _said(job_id, "its wake was not armed"):
        ctx.must_be_active("arming")
        rearm(ctx, job_id, wake)


def _look_again(ctx: Context, job_id: str) -> None:
    stored = ctx.repository.arms.get(job_id)
    if ctx.wire is not None and stored is not None and needs_look(ctx, stored.value):
        from chronos_cli.operations.firing.after_answer import arm_again_if_deleted

        arm_again_if_deleted(ctx, job_id, time.sleep)


def _note(ctx: Context, row: Row) -> None:
    """Take back the complaint that runs cannot be started, once a scheduled run went well."""
    if row.state is RunState.OK and row.scheduled_at is not None:
        with suppress(DocumentError):  # the next arm of the job says what is wrong
            ctx.repository.arms.change(row.job_id, lambda document: replace(document, last_fire_error=None))


def _prune(ctx: Context, job_id: str) -> None:
    now = ctx.clock()
    horizon, sure = run_id_of(now - timedelta(days=ctx.retention.days)), ctx.trust in (Trust.CONFIRMED, Trust.CORRECTED)
    with suppress(DocumentError):  # rows that cannot be listed are kept; history and doctor name them
        ctx.repository.rows.prune(
            job_id,
            keep=ctx.retention.keep,
            horizon=horizon,
            now=now,
            sure=sure,
            unbegun=lambda row: ctx.processes.liveness(row) is Liveness.UNSTARTED,
        )
    ctx.processes.sweep(ctx.repository.rows.may_be_in_hand)


def rearm(ctx: Context, job_id: str, wake: Wake | None, *, force: bool = False) -> ArmDocument | None:
    """Arm the wake of a job after a run's end, if it is not armed already. Raises what `arm` raises.

    `force`: NAS may have cleared its slot since; then the same instant goes a second later, as it may remember the key.
    What an answer carried in vain NAS has never heard of: that is sent as it is.
    """
    if ctx.wire is None:
        return None
    stored = ctx.repository.arms.get(job_id)
    if not force and wake is not None and stored and is_armed(stored.value, wake, ctx.wire, ctx.clock()):
        return stored.value
    if wake is None and stored is None:
        return None
    if not force and stored is not None and _is_under_way(stored.value, wake, ctx.clock()):
        return stored.value  # a fire is at it, and answers 503 where it fails
    if force and stored is not None and stored.value.owed is not None and stored.value.waits_for(wake):
        return stored.value
    with ctx.wire.connect(FIRE_BUDGET_S) as nas:
        untold = stored is not None and stored.value.state is ArmState.ANSWERED
        return arm(ctx, nas, job_id, wake, ArmReason(dropped=force and not untold))


def _is_under_way(document: ArmDocument, wake: Wake | None, now: datetime) -> bool:
    """Say if a fire that is still to be answered is sending just this wake."""
    sending = document.in_answer and document.state is ArmState.UNCONFIRMED and not document.error
    recent = document.sent_at is not None and timedelta() <= now - document.sent_at < timedelta(seconds=FIRE_BUDGET_S)
    return sending and recent and document.waits_for(wake)
