"""The arm of one job: make NAS hold the wake that the job needs, and write down what was sent and what NAS said.

The arm document says `unconfirmed` before the call and the result after it. Between the two, a reader of the document
knows that NAS may hold either wake. Where the wake has changed by the time NAS answers, it is sent again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeGuard

from chronos_cli.contract import FEATURE_ARM_IN_ANSWER, FEATURE_GENERATION
from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Purpose, Wake
from chronos_cli.core.instant import SECOND
from chronos_cli.core.plan import HELD_STATES, WANTED, ArmReason, ArmState, instant_to_send
from chronos_cli.errors import ChronosError, NasRejectedError, RefusedError, TemporaryError
from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import ArmRequest, CallResult, CancelRequest
from chronos_cli.operations.evaluate import present_wake

if TYPE_CHECKING:
    from datetime import datetime

    from chronos_cli.nas_client.interface import Nas
    from chronos_cli.operations.context import Context, NasTarget
    from chronos_cli.store.arms.document import ArmDocument

FIRE_BUDGET_S: Final = 10.0
"""All that a fire may ask of NAS, retries included: the relay is waiting."""

STALE_GENERATION: Final = "stale_generation"
"""Reason for which a NAS that knows generations rejects a wish: it holds a newer one."""

DELIVERED: Final = "delivered"
"""Answer of a NAS to a key it has already delivered: it holds nothing, and that key never arms again."""

_ROUNDS: Final = 8
ONE_NEED_WITHIN = timedelta(seconds=5)
"""Wakes this close are one need."""


def arm(
    ctx: Context,
    nas: Nas,
    job_id: str,
    wake: Wake | None,
    reason: ArmReason = WANTED,
    *,
    in_answer: bool = False,
) -> ArmDocument:
    """Provision a job's wake, whatever was armed before (None: drop what is armed), and return the arm document.

    `in_answer`: this is the request of a fire that is still to be answered.
    Its `state` is confirmed, or refused where NAS refuses this identity for good; every other failure is written down
    and raised (AuthError, NasUnavailableError, TemporaryError).
    """
    for number in range(_ROUNDS):
        if wake is None:
            # What was sent in an earlier round may have reached NAS after the cancel that the document tells of.
            document, stale = _drop(ctx, nas, job_id, sure=reason.dropped or number > 0)
            certain = not stale
        else:
            document, certain, stale = _send(ctx, nas, job_id, wake, reason, in_answer=in_answer)
        ctx.checkpoint("armed")
        if ctx.trust is Trust.UNHEARD:
            ctx = ctx.heard(nas.server_time)  # a wake that only a wrong clock calls due is sent as it is meant
            certain = certain and not (wake and ctx.trust is Trust.CORRECTED and document.is_astray(wake, ctx.clock()))
        needed = present_wake(ctx, job_id)
        told = needed is None or document.says(needed)  # the first answer of a NAS tells what it can be told
        if document.state is ArmState.REFUSED or (certain and told and is_same_need(needed, wake, ctx.clock())):
            return document
        # NAS may hold another wish than the present one; only an instant that it has never seen surely replaces it.
        # One that numbers wishes has only to be told again: many fires at once would else push each other ahead.
        reason = ArmReason(dropped=reason.dropped or not (certain or stale) or wake is None)
        if needed is not None and not (certain or stale):
            if number > 0:  # those who sent again at the same time would go on overtaking each other
                ctx.repository.pause(number + 2)
            ahead = ctx.clock() + SECOND * 2**number
            needed = replace(needed, at=max(needed.at, ahead))
        wake = needed
    raise changed_throughout(job_id)


def changed_throughout(job_id: str) -> TemporaryError:
    """Return the error of a job whose wake changed during every attempt to arm it."""
    return TemporaryError(f"the wake of job {job_id} changed under every attempt to arm it")


def is_armed(document: ArmDocument | None, wake: Wake, wire: NasTarget, now: datetime) -> bool:
    """Return whether NAS has confirmed just this wake, or an answer carries it, for this identity and callback."""
    return (
        document is not None
        and document.state in HELD_STATES
        and not document.spent
        and document.wake is not None
        and document.purpose is not None
        and document.says(wake)
        and is_same_need(Wake(at=document.wake, purpose=Purpose(document.purpose)), wake, now)
        and document.callback_url == wire.callback_url
        and document.portal_url == wire.portal_url
    )


def on_its_way(
    document: ArmDocument,
    wake: Wake,
    wire: NasTarget,
    now: datetime,
    reason: ArmReason = WANTED,
) -> ArmDocument:
    """Return a document as it stands once a wake is on its way to NAS."""
    at = instant_to_send(wake, document.sent(), now, reason)
    after = document.sending(
        wake, at, callback_url=wire.callback_url, portal_url=wire.portal_url, audience=wire.audience, now=now
    )
    return replace(
        after,
        idle=0 if reason.idle_fire is None else document.idle + 1,
        owed=None if reason.behind is None else document.owed,
    )


def _send(
    ctx: Context, nas: Nas, job_id: str, wake: Wake, reason: ArmReason, *, in_answer: bool
) -> tuple[ArmDocument, bool, bool]:
    """Send one wake. Returns the document, whether NAS is certain to hold what it says, and whether it has a newer."""
    wire = ctx.require_wire()

    def sending(document: ArmDocument) -> ArmDocument:
        return replace(on_its_way(document, wake, wire, ctx.clock(), reason), in_answer=in_answer)

    sent = ctx.repository.arms.change(job_id, sending)
    request = request_of(sent)
    ctx.checkpoint("arming")
    result = _provision(nas, request)
    if result.ok:
        ctx.checkpoint("provisioned")
    document = ctx.repository.arms.change(job_id, lambda found: heard(found, sent, result, ctx.clock()))
    if isinstance(result.error, RefusedError):
        # Another process may have sent a newer wish meanwhile: this identity is refused all the same.
        return replace(document, state=ArmState.REFUSED), True, False
    if is_stale(result.error):
        return document, document.stands_for(sent), True
    if result.error is not None:
        raise result.error
    doubtful = was_delivered(result) or document.overtook(sent) or document.is_late(ctx.clock())
    return document, not doubtful, False


def _provision(nas: Nas, request: ArmRequest) -> CallResult:
    try:
        return CallResult(request=request, answer=nas.provision(request))
    except ChronosError as error:  # handed on: it is the result
        return CallResult(request=request, error=error)


def heard(document: ArmDocument, sent: ArmDocument, result: CallResult, now: datetime) -> ArmDocument:
    """Return a document as it stands after the call that carried the wish `sent`."""
    answer, error = result.answer, result.error
    if is_stale(error):
        return document.stale(sent, error.generation)
    if isinstance(error, RefusedError):
        return document.refused(sent, error)
    if error is not None:
        return document.failed(sent, error)
    if answer is None:
        return document
    if was_delivered(result):
        return document.delivered(sent, answer.features)
    return document.confirmed(sent, answer.schedule_id, answer.features, now)


def was_delivered(result: CallResult) -> bool:
    """Return whether NAS delivered this key before: it holds nothing by it."""
    return result.answer is not None and result.answer.state == DELIVERED


def is_stale(error: ChronosError | None) -> TypeGuard[NasRejectedError]:
    """Return whether NAS has refused a wish because it holds a newer one."""
    return isinstance(error, NasRejectedError) and error.reason == STALE_GENERATION


def request_of(sent: ArmDocument) -> ArmRequest:
    """Return the request that carries an arm document's wish. Raises ValueError where it has none."""
    if sent.fire_at is None or sent.callback_url is None:
        raise ValueError("nothing is being sent")
    return ArmRequest(
        job_id=sent.job_id,
        fire_at=sent.fire_at,
        callback_url=sent.callback_url,
        generation=sent.generation if FEATURE_GENERATION in sent.features else None,
        accepts=(FEATURE_ARM_IN_ANSWER,) if sent.accepts else (),
        tolerance=sent.tolerance,
    )


def _drop(ctx: Context, nas: Nas, job_id: str, *, sure: bool) -> tuple[ArmDocument, bool]:
    """Cancel what NAS may still hold for a job that wants nothing; `sure`: whatever the document says.

    Returns the document, and whether NAS holds a newer wish than this one.
    """
    stored = ctx.repository.arms.get(job_id)
    if stored is not None and not sure and not stored.value.may_be_held(ctx.clock()):
        return stored.value, False
    request = cancel_of(job_id, None if stored is None else stored.value, ctx.clock())
    if job_id not in ctx.elsewhere().same_agent:  # else the slot is that home's: the job moved there, or has a namesake
        try:
            nas.cancel(job_id, request.generation)
        except NasRejectedError as error:
            if not is_stale(error):
                raise
            return note_cancel(ctx, request, error), True
    return note_cancel(ctx, request, None), False


def drop_noted(ctx: Context, nas: Nas, request: CancelRequest, error: ChronosError | None) -> ChronosError | None:
    """Note what came of a cancel that a person asked for, and return its error.

    One that NAS finds older than the wish it holds is sent again, newer than that.
    """
    for _ in range(_ROUNDS):
        if not is_stale(error):
            break
        request = cancel_of(request.job_id, note_cancel(ctx, request, error), ctx.clock())
        error = next(iter(nas.apply([request]))).error
    note_cancel(ctx, request, error)
    return error


def note_cancel(ctx: Context, request: CancelRequest, error: ChronosError | None) -> ArmDocument:
    """Note what NAS said to a cancel, and return the job's document. Raises StoreError and TemporaryError."""

    def change(found: ArmDocument) -> ArmDocument:
        if is_stale(error):
            return found.behind(error.generation)
        return found if error is not None else found.cancelled(request.generation, ctx.clock())

    return ctx.repository.arms.change(request.job_id, change)


def cancel_of(job_id: str, document: ArmDocument | None, now: datetime) -> CancelRequest:
    """Return the wish that NAS hold nothing for a job; where NAS numbers wishes, newer than all that were sent.

    An older answer that reaches NAS after this cancel then arms nothing.
    """
    numbered = document is not None and FEATURE_GENERATION in document.features
    return CancelRequest(job_id=job_id, generation=document.next_generation(now) if document and numbered else None)


def is_same_need(one: Wake | None, other: Wake | None, now: datetime) -> bool:
    """Return whether two wakes are the same need: the same instant, or both at once, or one lease read twice."""
    if one is None or other is None:
        return one is other
    soon = max(one.at, other.at) <= now + ONE_NEED_WITHIN
    close = (
        one.purpose is not Purpose.CURSOR and one.purpose is other.purpose and abs(one.at - other.at) <= ONE_NEED_WITHIN
    )
    return one.at == other.at or soon or close
