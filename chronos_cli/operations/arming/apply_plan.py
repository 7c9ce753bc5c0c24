"""Carrying out a plan: note what is sent, send it, note what NAS said, and arm again what has changed meanwhile."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING

from chronos_cli.core.plan import Action, ArmReason, ArmState, Step
from chronos_cli.errors import ChronosError, RefusedError
from chronos_cli.frozen import frozen
from chronos_cli.nas_client.interface import ArmRequest, CancelRequest
from chronos_cli.operations.arming.arm import (
    DELIVERED,
    arm,
    behind_nas,
    cancel_of,
    cancelled,
    confirmation,
    failure,
    is_stale,
    on_its_way,
    overtaken,
    refusal,
    request_of,
    stale,
)
from chronos_cli.operations.arming.packing import SendNote
from chronos_cli.operations.evaluate import present_wake
from chronos_cli.store.arms.store import no_arm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from chronos_cli.core.decision import Wake
    from chronos_cli.nas_client.interface import CallResult, Nas
    from chronos_cli.operations.arming.packing import Packing
    from chronos_cli.operations.context import Context, NasTarget
    from chronos_cli.operations.evaluate_all import EvaluationOfAll
    from chronos_cli.store.arms.document import ArmDocument
    from chronos_cli.store.documents import StoredDocument

    _Change = Callable[[ArmDocument], ArmDocument]
    _Wish = tuple[Wake, StoredDocument[ArmDocument], _Change]
    """Wish of a job, its document as it was seen, and the change that notes what is being sent."""

_IN_FLIGHT = timedelta(seconds=5)


@frozen
class StepResult:
    """Outcome of one step that called NAS."""

    step: Step
    error: ChronosError | None = None


@frozen
class PlanFacts:
    """Facts that a plan is founded on: the evaluation of all jobs, their arm documents, and what NAS holds by job."""

    settled: EvaluationOfAll
    documents: Mapping[str, ArmDocument]
    held: Mapping[str, datetime | None]


def apply_plan(
    ctx: Context,
    nas: Nas,
    changes: Iterable[Step],
    facts: PlanFacts,
    packing: Packing,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[StepResult]:
    """Make NAS agree, step by step: note what is sent, send it, note what NAS said, arm again what was contested."""
    wire, settled, documents, held = ctx.require_wire(), facts.settled, facts.documents, facts.held
    steps = {step.job_id: step for step in changes}
    wishes: dict[str, _Wish] = {}
    requests: list[ArmRequest | CancelRequest] = []
    for job_id, step in steps.items():
        wake = settled.wakes.get(job_id)
        if step.action is not Action.CANCEL and wake is not None:
            dropped = step.held is not None and job_id not in held  # with all that NAS held for it; it may know the key
            lost = dropped or _spent(documents.get(job_id), held, ctx.clock())
            seen = settled.arms.get(job_id) or no_arm(job_id)
            wishes[job_id] = wake, seen, _sending(wire, wake, ctx.clock, lost=lost, known=seen.value.generation)
        elif present_wake(ctx, job_id) is None:
            requests.append(cancel_of(job_id, documents.get(job_id), ctx.clock()))
    packed = packing.packable(wishes)
    taken = packing.send({job_id: wishes[job_id][2](wishes[job_id][1].value) for job_id in steps if job_id in packed})
    sent: dict[str, StoredDocument[ArmDocument]] = {}
    again: list[Step] = []
    for job_id, (wake, seen, change) in wishes.items():
        document = packing.sent(job_id)
        if document is None:
            sent[job_id] = ctx.repository.arms.swap(job_id, change, None if job_id in taken else seen)
            document = sent[job_id].value
        ours = document.generation != seen.value.generation and document.wake == wake.at
        if ours and document.state is ArmState.UNCONFIRMED:
            requests.append(request_of(document))
        else:
            again.append(steps[job_id])
    done = []
    results = (_noted(ctx, result, packing, sent) for result in nas.apply(requests, progress=progress))
    for noted in chain.from_iterable(results):
        step, certain = steps[noted.job_id], noted.certain
        if noted.error is None and step.action is Action.CANCEL:
            certain = certain and present_wake(ctx, step.job_id) is None
        if certain:
            done.append(StepResult(step=step, error=noted.error))
        else:
            again.append(step)
    return done + [StepResult(step=step, error=_arm_again(ctx, nas, step.job_id)) for step in again]


def _arm_again(ctx: Context, nas: Nas, job_id: str) -> ChronosError | None:
    """Arm what a job wishes now: its wish came, or changed, while NAS was being told of an older one."""
    try:
        arm(ctx, nas, job_id, present_wake(ctx, job_id), ArmReason(dropped=True))
    except ChronosError as error:  # handed on: it is this step's result
        return error
    return None


def _sending(wire: NasTarget, wake: Wake, clock: Callable[[], datetime], *, lost: bool, known: int) -> _Change:
    """The change that notes what is being sent, unless somebody has sent something since the wake was worked out."""

    def change(document: ArmDocument) -> ArmDocument:
        if document.generation != known:
            return document
        return on_its_way(document, wake, wire, clock(), ArmReason(dropped=lost))

    return change


def _spent(document: ArmDocument | None, held: Mapping[str, datetime | None], now: datetime) -> bool:
    """Return whether NAS once took the key it was sent and yet does not hold it: then that key may never arm again."""
    if document is None or document.state is not ArmState.CONFIRMED or document.fire_at is None:
        return False
    return held.get(document.job_id) != document.fire_at and document.fire_at > now + _IN_FLIGHT


def _noted(
    ctx: Context, result: CallResult, packing: Packing, under_way: Mapping[str, StoredDocument[ArmDocument]]
) -> list[SendNote]:
    """Write down one result. Of a job that was sent from a pack, it is known with the last of that pack."""
    job_id, error = result.request.job_id, result.error
    sent = packing.sent(job_id)
    if sent is not None:
        change, certain = _verdict(result, sent, ctx.clock())
        return packing.note(SendNote(job_id=job_id, error=error if certain else None, certain=certain), change)
    if isinstance(result.request, CancelRequest):
        return [_noted_cancel(ctx, result.request, error)]
    stored = under_way[job_id]
    change, certain = _verdict(result, stored.value, ctx.clock())
    if change is not None:
        document = ctx.repository.arms.swap(job_id, change, stored).value
        certain = certain and not (error is None and overtaken(document, stored.value))
    return [SendNote(job_id=job_id, error=error if certain else None, certain=certain)]


def _noted_cancel(ctx: Context, request: CancelRequest, error: ChronosError | None) -> SendNote:
    job_id = request.job_id
    if is_stale(error):
        ctx.repository.arms.change(job_id, behind_nas(error))
        return SendNote(job_id=job_id, error=None, certain=False)
    if error is None:
        ctx.repository.arms.change(job_id, cancelled(request, ctx.clock()))
    return SendNote(job_id=job_id, error=error, certain=True)


def _verdict(result: CallResult, sent: ArmDocument, now: datetime) -> tuple[_Change | None, bool]:
    """Return what NAS's answer to an arm changes, and whether NAS is certain not to hold somebody else's wish."""
    error = result.error
    if is_stale(error):
        return stale(sent, error), False
    if isinstance(error, RefusedError):
        return refusal(sent, error), True
    if error is not None:
        return failure(sent, error), True
    if result.answer is None:
        return None, True
    return confirmation(sent, result.answer, now), result.answer.state != DELIVERED
