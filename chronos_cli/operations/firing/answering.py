"""The answer to a fire that carries the job's next wake, where the delivery's token asks for it (`arm: answer`).

Then NAS settles and arms in one transaction, and nothing is asked of it in the fire's path. A wake is provisioned
beside that where the answer may come too late or has not come through, and where NAS may not arm what answers carry.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import KEEP
from chronos_cli.core.decision import Outcome
from chronos_cli.core.plan import WANTED, ArmReason, ArmState
from chronos_cli.errors import ChronosError, StandbyError, TokenError
from chronos_cli.frozen import frozen, replace
from chronos_cli.operations.arming.arm import (
    FIRE_BUDGET_S,
    arm,
    changed_throughout,
    is_armed,
    is_same_need,
)
from chronos_cli.operations.arming.carried import carry, next_of, withdraw
from chronos_cli.operations.arming.slot_memory import note_answers, takes_answers
from chronos_cli.operations.evaluate import present_wake

if TYPE_CHECKING:
    from chronos_cli.core.decision import FireRequest, Wake
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.fire import FireReport
    from chronos_cli.store.arms.document import ArmDocument

ACCEPTED: Final = "accepted"
"""The contract's `status` of a fire that was taken; any other fire has the protocol's own word."""

_ROUNDS: Final = 8


@frozen
class Door:
    """The way of an answer to NAS, where it goes there as a whole: then it may carry the job's next wake.

    `within_s`: the seconds in which it has left at the latest (None: not known). `looks`: NAS is looked at
    after it has left.
    """

    within_s: float | None = 0.0
    looks: bool = True


def answer_with(
    ctx: Context,
    document: ArmDocument,
    wake: Wake | None,
    came: FireRequest,
    door: Door,
    reason: ArmReason | None,
) -> ArmDocument:
    """Have the answer to a fire carry a wake, and provision it first where the answer alone may not do.

    `document`: as it stands; `reason`: of this arm, None where the wake was provisioned since the fire came. The wake
    is looked at again after it was noted: a later change arms under a newer generation. Raises what `arm` and `carry`
    raise.
    """
    job_id, delivery = document.job_id, _delivery_of(came)
    for _ in range(_ROUNDS):
        if reason is not None and _must_call(ctx, document, wake, came, door):
            with ctx.require_wire().connect(FIRE_BUDGET_S) as nas:
                arm(ctx, nas, job_id, wake, reason, in_answer=True)
            wake, reason = present_wake(ctx, job_id), WANTED
        carried = carry(ctx, job_id, wake, reason or WANTED, delivery=delivery, above=came.generation)
        needed = present_wake(ctx, job_id)
        if is_same_need(needed, wake, ctx.clock()):
            return carried
        wake, reason = needed, WANTED
        document = replace(carried, answered_to=document.answered_to)
    raise changed_throughout(job_id)


def _must_call(ctx: Context, document: ArmDocument, wake: Wake | None, came: FireRequest, door: Door) -> bool:
    """Return whether the answer alone may not do: it may come too late, not get through, or not be armed by NAS."""
    wire = ctx.require_wire()
    if wake is None and not document.may_be_held(ctx.clock()):
        return False
    if document.answered_to is not None and document.answered_to == _delivery_of(came):
        note_answers(ctx, wire, taken=False)  # our 2xx to this very delivery did not get through
        return True
    if wake is not None and (door.within_s is None or wake.at <= ctx.clock() + timedelta(seconds=door.within_s)):
        return True
    known = takes_answers(ctx, wire)
    # The look at NAS is for a timer that should be there, not for one that should be gone.
    return known is False or (known is None and (wake is None or not door.looks))


def _delivery_of(came: FireRequest) -> str | None:
    """Return what names a delivery over all its repetitions; None where nothing does."""
    return came.delivery or (came.fire_at.isoformat() if came.fire_at is not None else None)


def carried_to_the_end(ctx: Context, report: FireReport, came: FireRequest, door: Door | None) -> FireReport:
    """Return a report as it leaves: with the wake that the job has now, which its run's end may have changed.

    An answer that is no 2xx arms nothing, so the document must not say so. Raises what `answer_with` raises.
    """
    if report.arm is None or door is None or not isinstance(report.next, dict):
        return report
    if not 200 <= report.http_status < 300:
        withdraw(ctx, report.arm)
        return replace(report, next=None)
    if not report.runs:
        return report
    wake, stored = present_wake(ctx, report.job_id), ctx.repository.arms.get(report.job_id)
    if stored is None or ctx.wire is None:
        return report
    document, now = stored.value, ctx.clock()
    held = None if document.state is ArmState.CANCELLED else document.wake
    same = held is None if wake is None else held is not None and is_same_need(wake, replace(wake, at=held), now)
    if same and document.generation == report.arm.generation:
        return report
    armed = wake is not None and document.state is ArmState.CONFIRMED and is_armed(document, wake, ctx.wire, now)
    leaving = replace(document, answered_to=None)  # by this very fire, whose answer has not left yet
    document = answer_with(ctx, leaving, wake, came, replace(door, within_s=0.0), None if armed else WANTED)
    return replace(report, arm=document, next=next_of(document))


def body_of(report: FireReport) -> dict[str, Any]:
    """Return the body of the answer to a fire."""
    document = report.as_json()
    taken = report.outcome in (Outcome.CLAIMED, Outcome.QUEUED)
    document["status"] = ACCEPTED if taken and report.http_status < 300 else report.outcome.value
    if report.next is not None and 200 <= report.http_status < 300:
        document["next"] = report.next
    return document


def gone_body(job_id: str, *, by_answer: bool) -> dict[str, Any]:
    """Return the body of the answer about a job that is in no home: what NAS holds for it stays as it is."""
    word = Outcome.GONE.value
    document: dict[str, Any] = {"result": word, "job_id": job_id, "status": word}
    return document | ({"next": KEEP} if by_answer else {})


def error_body(error: ChronosError) -> dict[str, Any]:
    """Return the body of the answer to a fire that was not looked at: nothing that tells a stranger why."""
    if isinstance(error, TokenError):
        return {"result": "refused"}
    if isinstance(error, StandbyError):
        return {"result": error.code}
    return {"result": "error", "error": {"code": error.code, "retryable": error.http_status == 503}}
