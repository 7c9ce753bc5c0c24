"""Reconcile: put the store right, compare its wishes with what NAS holds, and make NAS agree. It runs no job.

The on-failure command is told of what reconcile itself enters as missed or lost: nobody else will come upon it.

NAS is listed first and the store read after, so a job added in between is armed and never cancelled. A list that fails
changes nothing. Safe from any number of places at once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.contract import is_job_id
from chronos_cli.core.plan import Action, ArmState, Plan, Step, Wish, instant_to_send, make_plan
from chronos_cli.errors import ChronosError, NasRejectedError, RefusedError
from chronos_cli.frozen import frozen, replace
from chronos_cli.nas.interface import ArmRequest, CancelRequest
from chronos_cli.operations.arming import (
    DELIVERED,
    STALE_GENERATION,
    arm,
    confirmation,
    failure,
    overtaken,
    refusal,
    request_of,
)
from chronos_cli.operations.look import Settled, present_wake, settle_all
from chronos_cli.store.arms import ArmDocument
from chronos_cli.store.repository import no_arm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from chronos_cli.core.decision import Wake
    from chronos_cli.nas.interface import ArmList, Nas, Result
    from chronos_cli.operations.context import Context, Wire
    from chronos_cli.store.repository import Stored

LIST_BUDGET_S: Final = 60.0
_IN_FLIGHT = timedelta(seconds=5)


@frozen
class Done:
    """What became of one step that called NAS."""

    step: Step
    error: ChronosError | None = None


@frozen
class Reconciled:
    """The plan, what was carried out of it, and how many jobs were put right in the store (`settled`)."""

    plan: Plan
    done: tuple[Done, ...] = ()
    settled: tuple[str, ...] = ()
    invalid: Mapping[str, str] | None = None
    dry_run: bool = False

    @property
    def failed(self) -> tuple[Done, ...]:
        """The steps that NAS did not take."""
        return tuple(item for item in self.done if item.error is not None)


def reconcile(
    ctx: Context,
    *,
    only: Iterable[str] | None = None,
    dry_run: bool = False,
    prune: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Reconciled:
    """Make NAS's arms equal to the store's wishes (`only`: for these jobs, nothing else is looked at).

    Raises what listing NAS or reading the store raises; then nothing was changed anywhere. Failures of single steps
    are in the result.
    """
    wire = _wire(ctx)
    chosen = None if only is None else frozenset(only)
    with wire.connect(LIST_BUDGET_S) as nas:
        listed = nas.list()
        settled = settle_all(ctx, only=chosen, write=not dry_run)
        documents = _documents(ctx, settled, listed, chosen)
        plan = make_plan(
            _wishes(settled.wakes, documents, wire),
            # A record that cannot be read wishes we do not know what: its timer is left as it is.
            {
                arm.job_id: arm.fire_at
                for arm in listed.arms
                if (chosen is None or arm.job_id in chosen) and arm.job_id not in settled.invalid
            },
            callback_url=wire.callback_url,
            store_has_jobs=settled.any_jobs,
            prune=prune,
        )
        result = Reconciled(plan=plan, settled=settled.changed, invalid=settled.invalid, dry_run=dry_run)
        if dry_run:
            return result
        _note_held(ctx, plan, documents, listed)
        done = _carry_out(ctx, wire, nas, plan, settled, documents, listed, progress)
    if settled.over:
        from chronos_cli.operations.alert import alert

        alert(ctx, settled.over)
    return replace(result, done=tuple(done))


def cancel(ctx: Context, job_ids: Iterable[str]) -> list[Done]:
    """Drop the timers of jobs at NAS, whatever the store wishes; the next reconcile arms them again."""
    wire = _wire(ctx)
    done = []
    with wire.connect(LIST_BUDGET_S) as nas:
        requests = [CancelRequest(job_id=job_id) for job_id in job_ids]
        for result in nas.apply(requests):
            step = Step(action=Action.CANCEL, job_id=result.request.job_id)
            if result.ok:
                ctx.repository.change_arm(result.request.job_id, _cancelled_at(ctx.clock()))
            done.append(Done(step=step, error=result.error))
    return done


def _documents(
    ctx: Context, settled: Settled, listed: ArmList, chosen: frozenset[str] | None
) -> dict[str, ArmDocument]:
    """The arm documents that matter: of every job with a wish, as read with it, and of everything else NAS holds."""
    documents = {job_id: stored.value for job_id, stored in settled.arms.items() if stored is not None}
    ids = {arm.job_id for arm in listed.arms if is_job_id(arm.job_id)} - settled.wakes.keys()
    for job_id in ids if chosen is None else ids & chosen:
        stored = ctx.repository.arm(job_id)
        if stored is not None:
            documents[job_id] = stored.value
    return documents


def _wishes(wakes: Mapping[str, Wake | None], documents: Mapping[str, ArmDocument], wire: Wire) -> list[Wish]:
    """Every job's wish; an arm sent under another portal or audience is none of this store's any more."""
    wishes = []
    for job_id in sorted(wakes.keys() | documents.keys()):
        document = documents.get(job_id)
        known = job_id in wakes
        if document is not None and not _same_identity(document, wire):
            document = None
        if not known and document is None:
            continue
        sent = (document or ArmDocument(job_id=job_id)).sent()
        wishes.append(Wish(job_id=job_id, wake=wakes.get(job_id), sent=sent, known=known))
    return wishes


def _same_identity(document: ArmDocument, wire: Wire) -> bool:
    return document.portal_url in (None, wire.portal_url) and document.audience in (None, "", wire.audience)


def _note_held(ctx: Context, plan: Plan, documents: Mapping[str, ArmDocument], listed: ArmList) -> None:
    """What NAS shows as held is confirmed, whoever's answer was lost."""
    schedule_ids = {arm.job_id: arm.schedule_id for arm in listed.arms}
    for step in plan.steps:
        document = documents.get(step.job_id)
        if step.action is not Action.KEEP or document is None or document.state is ArmState.CONFIRMED:
            continue
        sent, answer_id = document, schedule_ids.get(step.job_id)
        ctx.repository.change_arm(
            step.job_id,
            lambda found, sent=sent, answer_id=answer_id: (  # type: ignore[misc]
                replace(found, state=ArmState.CONFIRMED, confirmed_at=ctx.clock(), schedule_id=answer_id, error=None)
                if found.generation == sent.generation
                else found
            ),
        )


def _carry_out(
    ctx: Context,
    wire: Wire,
    nas: Nas,
    plan: Plan,
    settled: Settled,
    documents: Mapping[str, ArmDocument],
    listed: ArmList,
    progress: Callable[[int, int], None] | None,
) -> list[Done]:
    steps = {step.job_id: step for step in plan.changes}
    sent: dict[str, Stored[ArmDocument]] = {}
    held = {arm.job_id: arm.fire_at for arm in listed.arms}
    requests: list[ArmRequest | CancelRequest] = []
    again: list[Step] = []
    for job_id, step in steps.items():
        wake = settled.wakes.get(job_id)
        if step.action is Action.CANCEL or wake is None:
            if present_wake(ctx, job_id) is None:
                requests.append(CancelRequest(job_id=job_id))
            continue
        lost = _spent(documents.get(job_id), held, ctx.clock())
        seen = settled.arms.get(job_id) or no_arm(job_id)
        known = seen.value.generation
        stored = ctx.repository.swap_arm(job_id, _sending(wire, wake, ctx.clock, lost=lost, known=known), seen)
        document = stored.value
        if document.state is ArmState.UNCONFIRMED and document.wake == wake.at and document.generation != known:
            sent[job_id] = stored
            requests.append(request_of(document))
        else:
            again.append(step)
    done = []
    for result in nas.apply(requests, progress=progress):
        step = steps[result.request.job_id]
        error, certain = _note_result(ctx, result, sent.get(step.job_id))
        if error is None and step.action is Action.CANCEL:
            certain = present_wake(ctx, step.job_id) is None
        if certain:
            done.append(Done(step=step, error=error))
        else:
            again.append(step)
    return done + [Done(step=step, error=_arm_again(ctx, nas, step.job_id)) for step in again]


def _arm_again(ctx: Context, nas: Nas, job_id: str) -> ChronosError | None:
    """Arm what a job wishes now: its wish came, or changed, while NAS was being told of an older one."""
    try:
        arm(ctx, nas, job_id, present_wake(ctx, job_id), fresh=True)
    except ChronosError as error:  # handed on: it is this step's result
        return error
    return None


def _sending(
    wire: Wire, wake: Wake, clock: Callable[[], datetime], *, lost: bool, known: int
) -> Callable[[ArmDocument], ArmDocument]:
    """The change that notes what is being sent, unless somebody has sent something since the wake was worked out."""

    def change(document: ArmDocument) -> ArmDocument:
        if document.generation != known:
            return document
        now = clock()
        before = document.sent()
        at = instant_to_send(wake, replace(before, spent=before.spent or lost), now)
        return document.sending(
            wake, at, callback_url=wire.callback_url, portal_url=wire.portal_url, audience=wire.audience, now=now
        )

    return change


def _spent(document: ArmDocument | None, held: Mapping[str, datetime | None], now: datetime) -> bool:
    """Whether NAS once took the key it was sent and yet does not hold it: then that key may never arm again."""
    if document is None or document.state is not ArmState.CONFIRMED or document.fire_at is None:
        return False
    return held.get(document.job_id) != document.fire_at and document.fire_at > now + _IN_FLIGHT


def _note_result(
    ctx: Context, result: Result, under_way: Stored[ArmDocument] | None
) -> tuple[ChronosError | None, bool]:
    """Write down one result. Returns its error, and whether NAS is certain not to hold somebody else's wish."""
    job_id, error = result.request.job_id, result.error
    if under_way is None:
        if error is None:
            ctx.repository.change_arm(job_id, _cancelled_at(ctx.clock()))
        return error, True
    sent = under_way.value
    if isinstance(error, NasRejectedError) and error.reason == STALE_GENERATION:
        return None, False
    if isinstance(error, RefusedError):
        ctx.repository.change_arm(job_id, refusal(sent, error))
    elif error is not None:
        ctx.repository.change_arm(job_id, failure(sent, error))
    elif result.answer is not None:
        document = ctx.repository.swap_arm(job_id, confirmation(sent, result.answer, ctx.clock()), under_way).value
        return None, not (result.answer.state == DELIVERED or overtaken(document, sent))
    return error, True


def _cancelled_at(now: datetime) -> Callable[[ArmDocument], ArmDocument]:
    return lambda document: replace(
        document, state=ArmState.CANCELLED, wake=None, generation=document.next_generation(now), error=None
    )


def _wire(ctx: Context) -> Wire:
    if ctx.wire is None:
        raise ChronosError("no NAS is configured", hint="set cron.chronos.portal_url and cron.chronos.callback_url")
    return ctx.wire
