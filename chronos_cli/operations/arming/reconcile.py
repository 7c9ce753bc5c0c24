"""Reconcile: put the store right, compare its wishes with what NAS holds, and make NAS agree. It runs no job.

Reconcile tells the on-failure command of what it enters as missed or lost: no other process will find it.

NAS is listed first and the store read after, so a job added in between is armed and never cancelled. A list that fails
changes nothing. Safe from any number of places at once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.contract import is_job_id
from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Purpose
from chronos_cli.core.instant import SECOND
from chronos_cli.core.plan import (
    HELD_STATES,
    NONE_ASKED,
    Action,
    ArmState,
    DesiredArm,
    HeldTimers,
    Plan,
    Removals,
    Step,
    make_plan,
    serves,
)
from chronos_cli.errors import DocumentError
from chronos_cli.frozen import field, frozen, replace
from chronos_cli.nas_client.interface import CancelRequest
from chronos_cli.operations.arming.apply_plan import PlanFacts, StepResult, apply_plan
from chronos_cli.operations.arming.arm import cancel_of, drop_noted
from chronos_cli.operations.arming.slot_memory import note_answers, note_missing
from chronos_cli.operations.context import FleetJobs
from chronos_cli.operations.evaluate_all import evaluate_all
from chronos_cli.store.arms.batch import PACK_FROM, ArmBatch
from chronos_cli.store.arms.document import ArmDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from chronos_cli.core.clock import TimeDoubt
    from chronos_cli.core.decision import Wake
    from chronos_cli.core.plan import LastArm
    from chronos_cli.nas_client.interface import Arm, ArmList, Nas
    from chronos_cli.operations.context import Context, NasTarget
    from chronos_cli.operations.evaluate_all import EvaluationOfAll

    Change = Callable[[ArmDocument], ArmDocument]

LIST_BUDGET_S: Final = 60.0
_SOON: Final = timedelta(seconds=5)
_LONG: Final = timedelta(minutes=2)


@frozen
class ReconcileResult:
    """Plan, what was carried out of it, and the jobs that were put right in the store (`settled`).

    `trust`: what NAS's clock made of this machine's; `ahead`: by how much this one is ahead of it, None where NAS did
    not say. `doubts`: next times that are strange, and that this reconcile leaves as they are.
    """

    plan: Plan
    done: tuple[StepResult, ...] = ()
    settled: tuple[str, ...] = ()
    invalid: Mapping[str, str] | None = None
    dry_run: bool = False
    trust: Trust = Trust.UNHEARD
    ahead: timedelta | None = None
    doubts: Mapping[str, TimeDoubt] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[StepResult, ...]:
        """Return the steps that NAS did not take."""
        return tuple(item for item in self.done if item.error is not None)


def reconcile(
    ctx: Context,
    *,
    only: Iterable[str] | None = None,
    dry_run: bool = False,
    removals: Removals = NONE_ASKED,
    progress: Callable[[int, int], None] | None = None,
    pack_from: int = PACK_FROM,
) -> ReconcileResult:
    """Make NAS's arms equal to the store's wishes (`only`: for these jobs, nothing else is looked at).

    `pack_from`: from so many jobs on, their arm documents are written together.
    Raises StandbyError unless it is a dry run, and what listing NAS or reading the store raises; then nothing was
    changed anywhere. Failures of single steps are in the result.
    """
    if not dry_run:
        ctx.must_be_active("reconcile")
        ctx.repository.mend_store_id(ctx.token)
    wire = ctx.require_wire()
    chosen = None if only is None else frozenset(only)
    with wire.connect(LIST_BUDGET_S) as nas:
        listed = _list(nas, chosen)
        witness, said = listed.server_time, ctx.clock()
        ctx = ctx.heard(witness)
        settled = evaluate_all(ctx, only=chosen, write=not dry_run)
        held = {arm.job_id: arm.fire_at for arm in listed.arms}
        facts = PlanFacts(settled=settled, documents=_documents(settled, listed), held=held)
        several = _several(listed, ctx.clock())
        plan = _planned(ctx, listed, facts, several, removals)
        result = ReconcileResult(
            plan=plan,
            settled=settled.changed,
            invalid=settled.invalid,
            dry_run=dry_run,
            trust=ctx.trust,
            ahead=None if witness is None else said - (nas.server_time or witness),
            # By a clock that is behind NAS's everything is ahead.
            doubts={} if ctx.trust is Trust.CORRECTED and witness is not None and said < witness else settled.doubts,
        )
        if dry_run:
            return result
        batch = ArmBatch(ctx.repository, settled.index, settled.arms, ctx.token, pack_from)
        batch.change_many(_shown_changes(ctx, plan, facts, listed))
        _learn(ctx, facts.documents, held)
        crowded = {step.job_id: step for step in plan.changes if step.action is Action.MOVE and step.job_id in several}
        refused = _dropped(nas, crowded)
        held = {job_id: at for job_id, at in held.items() if job_id not in crowded}
        changes = [step for step in plan.changes if step.job_id not in refused]
        done = apply_plan(ctx, nas, changes, replace(facts, held=held), batch, progress=progress)
        if chosen is None:
            batch.tidy(settled.wakes.keys() | held.keys(), ctx.clock())
    return replace(result, done=(*refused.values(), *done))


def _list(nas: Nas, chosen: frozenset[str] | None) -> ArmList:
    """Return what NAS lists, of the chosen jobs alone where some were. Raises what `Nas.list` raises."""
    listed = nas.list()
    return replace(listed, arms=tuple(arm for arm in listed.arms if chosen is None or arm.job_id in chosen))


def _planned(ctx: Context, listed: ArmList, facts: PlanFacts, several: Mapping[str, int], removals: Removals) -> Plan:
    """Return the plan: each wish of the store against what NAS lists. Raises TemporaryError, see `FleetJobs`."""
    wakes, invalid, wire = facts.settled.wakes, facts.settled.invalid, ctx.require_wire()
    arms = {arm.job_id: arm for arm in listed.arms}
    # A record that cannot be read wishes we do not know what: its timer is left as it is.
    wishes = [wish for wish in _wishes(wakes, facts.documents, wire, ctx, arms) if wish.job_id not in invalid]
    held = {job_id: at for job_id, at in facts.held.items() if job_id not in invalid}
    unwanted = {job_id for job_id in held if wakes.get(job_id) is None}
    unwanted |= {wish.job_id for wish in wishes if wish.owes_cancel}
    fleet = ctx.elsewhere() if unwanted else FleetJobs()
    if removals.prune and unwanted - wakes.keys():
        fleet.all_known()
    elsewhere = {
        job_id: profile
        for job_id, profile in fleet.profile_of.items()
        if job_id not in wakes or job_id in fleet.same_agent
    }
    return make_plan(
        wishes,
        HeldTimers(at=held, several=several),
        callback_url=wire.callback_url,
        store_has_jobs=facts.settled.any_jobs,
        removals=removals,
        elsewhere=elsewhere,
    )


def _several(listed: ArmList, now: datetime) -> dict[str, int]:
    """Return the jobs of which NAS lists more than one timer still to come, and how many: some NAS replace no timer.

    A redelivery that is owed beside the new timer is past already, or in flight, and stays.
    """
    ahead: dict[str, set[datetime]] = {}
    for arm in listed.arms:
        if arm.fire_at is not None and arm.fire_at > now + _SOON and arm.state != "in_flight":
            ahead.setdefault(arm.job_id, set()).add(arm.fire_at)
    return {job_id: len(found) for job_id, found in ahead.items() if len(found) > 1}


def _dropped(nas: Nas, steps: Mapping[str, Step]) -> dict[str, StepResult]:
    """Drop every timer of these jobs, so that the one to be sent is the only one. Return the failures by job."""
    requests = [CancelRequest(job_id=job_id) for job_id in steps]
    results = nas.apply(requests) if requests else ()
    failed = ((result.request.job_id, result.error) for result in results if not result.ok)
    return {job_id: StepResult(step=steps[job_id], error=error) for job_id, error in failed}


def _learn(ctx: Context, documents: Mapping[str, ArmDocument], held: Mapping[str, datetime | None]) -> None:
    """Learn from what an answer was to leave or to arm: NAS holds it, or long after it does not."""
    now = ctx.clock()
    for job_id, document in documents.items():
        answered = document.state is ArmState.ANSWERED
        if answered and document.fire_at is not None and held.get(job_id) == document.fire_at:
            if document.only_answered:
                note_answers(ctx, document, taken=True)
                return
            continue
        before_answer = document.in_answer and document.state is ArmState.CONFIRMED
        if document.spent or not (answered or before_answer):
            continue
        due, sent = document.fire_at, document.sent_at
        settled = sent is not None and now - sent > _LONG
        if settled and due is not None and job_id not in held and not now - _LONG < due < now + _SOON:
            if answered:
                note_answers(ctx, document, taken=False)
            else:
                note_missing(ctx, document)
            return


def cancel(ctx: Context, job_ids: Iterable[str]) -> list[StepResult]:
    """Drop the timers of jobs at NAS, whatever the store wishes; the next reconcile arms them again."""
    ctx.must_be_active("cancel")
    wire = ctx.require_wire()
    done = []
    with wire.connect(LIST_BUDGET_S) as nas:
        requests = {}
        for job_id in job_ids:
            stored = ctx.repository.arms.get(job_id)
            requests[job_id] = cancel_of(job_id, None if stored is None else stored.value, ctx.clock())
        for result in nas.apply(list(requests.values())):
            job_id = result.request.job_id
            error = drop_noted(ctx, nas, requests[job_id], result.error)
            done.append(StepResult(step=Step(action=Action.CANCEL, job_id=job_id), error=error))
    return done


def _documents(settled: EvaluationOfAll, listed: ArmList) -> dict[str, ArmDocument]:
    """Return the arm documents of every job with a wish, as read with it, and of everything else that NAS holds."""
    documents = {job_id: stored.value for job_id, stored in settled.arms.items() if stored is not None}
    for job_id in {arm.job_id for arm in listed.arms if is_job_id(arm.job_id)} - settled.wakes.keys():
        try:
            stored = settled.index.get(job_id)
        except DocumentError:
            continue  # its timer is left as it is
        if stored is not None:
            documents[job_id] = stored.value
    return documents


def _wishes(
    wakes: Mapping[str, Wake | None],
    documents: Mapping[str, ArmDocument],
    wire: NasTarget,
    ctx: Context,
    held: Mapping[str, Arm] | None = None,
) -> list[DesiredArm]:
    """Return every job's wish; an arm sent under another portal or audience is none of this store's any more.

    Nor is an arm the job's that a clock which was ahead sent for too late.
    """
    wishes, now = [], ctx.clock()
    for job_id in sorted(wakes.keys() | documents.keys()):
        document = documents.get(job_id)
        known = job_id in wakes
        if document is not None and not _same_identity(document, wire):
            document = None
        if not known and document is None:
            continue
        wake, sent = wakes.get(job_id), (document or ArmDocument(job_id=job_id)).sent()
        known_clock = ctx.trust is not Trust.UNHEARD
        if document is not None and wake is not None and known_clock and document.is_astray(wake, now):
            sent = replace(sent, fire_at=None)
        elif (
            document is not None
            and wake is not None
            and (_may_still_come(document, wake, now) or _is_served(sent, wake, (held or {}).get(job_id), now))
        ):
            wake = replace(wake, at=document.wake or wake.at, tolerance=document.tolerance)
        owes_cancel = _owes_cancel(document, wake, now)
        wishes.append(DesiredArm(job_id=job_id, wake=wake, sent=sent, known=known, owes_cancel=owes_cancel))
    return wishes


def _may_still_come(document: ArmDocument, wake: Wake, now: datetime) -> bool:
    """Return whether a cursor that is due now was sent with a tolerance that is not over: NAS may call until then."""
    if document.wake is None or wake.purpose is not Purpose.CURSOR or document.purpose != Purpose.CURSOR.value:
        return False
    return document.wake <= now < document.wake + timedelta(seconds=document.tolerance) and wake.at <= now + SECOND


def _is_served(sent: LastArm, wake: Wake, held: Arm | None, now: datetime) -> bool:
    return held is not None and serves(sent, wake, held.fire_at, now, tried=held.is_tried(now, _LONG))


def _owes_cancel(document: ArmDocument | None, wake: Wake | None, now: datetime) -> bool:
    """Return whether what was sent is to be taken back even if NAS does not list it: a list may lag."""
    if document is None or wake is not None or document.fire_at is None or document.fire_at <= now:
        return False
    return document.state in (ArmState.UNCONFIRMED, *HELD_STATES)


def _same_identity(document: ArmDocument, wire: NasTarget) -> bool:
    return document.portal_url in (None, wire.portal_url) and document.audience in (None, "", wire.audience)


def _shown_changes(ctx: Context, plan: Plan, facts: PlanFacts, listed: ArmList) -> dict[str, Change]:
    """Return the changes that confirm what NAS lists, where the answer to its arm was lost."""
    schedule_ids = {arm.job_id: arm.schedule_id for arm in listed.arms}
    shown = [step.job_id for step in plan.steps if _shown(step, facts.documents)]
    return {job_id: _listed(ctx, facts.documents[job_id], schedule_ids.get(job_id)) for job_id in shown}


def _listed(ctx: Context, sent: ArmDocument, schedule_id: str | None) -> Change:
    return lambda found: found.listed(sent, schedule_id, ctx.clock())


def _shown(step: Step, documents: Mapping[str, ArmDocument]) -> bool:
    document = documents.get(step.job_id) if step.wanted is not None else None  # else it is kept for another home
    return step.action is Action.KEEP and document is not None and document.state is not ArmState.CONFIRMED
