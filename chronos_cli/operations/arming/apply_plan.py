"""The plan of a reconcile, applied: note what is sent, send it, note what NAS said, arm again what was contested."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chronos_cli.core.plan import Action, ArmReason, ArmState, Step
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import frozen
from chronos_cli.nas_client.interface import ArmRequest, CancelRequest
from chronos_cli.operations.arming.arm import (
    arm,
    cancel_of,
    heard,
    is_stale,
    note_cancel,
    on_its_way,
    request_of,
    was_delivered,
)
from chronos_cli.operations.evaluate import present_wake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from chronos_cli.nas_client.interface import CallResult, Nas
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.evaluate_all import EvaluationOfAll
    from chronos_cli.store.arms.batch import ArmBatch
    from chronos_cli.store.arms.document import ArmDocument

    Change = Callable[[ArmDocument], ArmDocument]

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
    batch: ArmBatch,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[StepResult]:
    """Make NAS agree: note what is sent, send it, note what NAS said, and arm again what was contested.

    Returns a result for each step that called NAS; their errors are in them. Raises StoreError and TemporaryError.
    """
    steps = {step.job_id: step for step in changes}
    unwanted = [job_id for job_id, step in steps.items() if not _wants(step, facts)]
    cancels = [
        cancel_of(job_id, facts.documents.get(job_id), ctx.clock())
        for job_id in unwanted
        if present_wake(ctx, job_id) is None
    ]
    sending = {job_id: _sending(ctx, step, facts) for job_id, step in steps.items() if _wants(step, facts)}
    sent = batch.change_many(sending)
    arms = [request_of(document) for document in sent.values() if _is_ours(document, facts)]

    results = list(nas.apply([*cancels, *arms], progress=progress))
    for request, error in ((result.request, result.error) for result in results):
        if isinstance(request, CancelRequest):
            note_cancel(ctx, request, error)
    noting = {
        result.request.job_id: _noting(sent[result.request.job_id], result, ctx.clock)
        for result in results
        if isinstance(result.request, ArmRequest)
    }
    batch.change_many(noting)

    done, again = [], [steps[job_id] for job_id in sending if job_id not in noting]
    for result in results:
        step = steps[result.request.job_id]
        if _is_certain(ctx, result, batch):
            done.append(StepResult(step=step, error=result.error))
        else:
            again.append(step)
    return done + [StepResult(step=step, error=_arm_again(ctx, nas, step.job_id)) for step in again]


def _wants(step: Step, facts: PlanFacts) -> bool:
    """Return whether a step sends a wake; any other drops what NAS holds."""
    return step.action is not Action.CANCEL and facts.settled.wakes.get(step.job_id) is not None


def _is_ours(document: ArmDocument, facts: PlanFacts) -> bool:
    """Return whether a document says that the wake of this plan is on its way, since the plan was made."""
    before, wake = facts.settled.arms.get(document.job_id), facts.settled.wakes.get(document.job_id)
    newer = document.generation != (0 if before is None else before.value.generation)
    return newer and document.waits_for(wake) and document.state is ArmState.UNCONFIRMED


def _is_certain(ctx: Context, result: CallResult, batch: ArmBatch) -> bool:
    """Return whether NAS surely holds what a request asked for, or surely does not for its error."""
    if result.error is not None:
        return not is_stale(result.error)
    if isinstance(result.request, CancelRequest):
        return present_wake(ctx, result.request.job_id) is None
    return not was_delivered(result) and result.request.job_id not in batch.contested


def _arm_again(ctx: Context, nas: Nas, job_id: str) -> ChronosError | None:
    """Arm what a job wishes now, and return the error: its wish came or changed while NAS was told of an older one."""
    try:
        arm(ctx, nas, job_id, present_wake(ctx, job_id), ArmReason(dropped=True))
    except ChronosError as error:  # handed on: it is this step's result
        return error
    return None


def _sending(ctx: Context, step: Step, facts: PlanFacts) -> Change:
    """Return the change that notes what is being sent, unless another process has sent something since the plan."""
    job_id, wire, before = step.job_id, ctx.require_wire(), facts.settled.arms.get(step.job_id)
    wake, known = facts.settled.wakes[job_id], 0 if before is None else before.value.generation
    dropped = step.held is not None and job_id not in facts.held  # with all that NAS held for it; it may know the key
    reason = ArmReason(dropped=dropped or _spent(facts.documents.get(job_id), facts.held, ctx.clock()))

    def change(document: ArmDocument) -> ArmDocument:
        if wake is None or document.generation != known:
            return document
        return on_its_way(document, wake, wire, ctx.clock(), reason)

    return change


def _noting(sent: ArmDocument, result: CallResult, clock: Callable[[], datetime]) -> Change:
    """Return the change that notes what NAS said to what was sent."""
    return lambda found: heard(found, sent, result, clock())


def _spent(document: ArmDocument | None, held: Mapping[str, datetime | None], now: datetime) -> bool:
    """Return whether NAS took the last key and yet does not hold it: then that key may never arm again."""
    if document is None or document.state is not ArmState.CONFIRMED or document.fire_at is None:
        return False
    return held.get(document.job_id) != document.fire_at and document.fire_at > now + _IN_FLIGHT
