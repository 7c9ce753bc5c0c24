"""A fire, from its delivery to its answer: look, start, arm, answer. Both doors call this: the shim and the command.

claim   one conditional write takes the occurrence and moves the cursor
start   the run goes, before anything may cancel the redelivery of this very fire
arm     the job's present wake is provisioned, in this very request, or the answer carries it where NAS asks for that
answer  only now NAS may forget the fire
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import KEEP
from chronos_cli.core.clock import Trust, judged
from chronos_cli.core.decision import NO_EFFECT_OUTCOMES, FireRequest, Outcome, Trigger
from chronos_cli.core.occurrence import UNNAMED_AHEAD
from chronos_cli.core.plan import ArmReason, ArmState
from chronos_cli.core.row import RunState
from chronos_cli.errors import ChronosError, DocumentError, ExitCode
from chronos_cli.frozen import frozen, replace
from chronos_cli.operations.arming.arm import FIRE_BUDGET_S, ONE_NEED_WITHIN, arm, is_armed
from chronos_cli.operations.arming.carried import next_of
from chronos_cli.operations.arming.slot_memory import keeps_slot, note_answers, note_delivered, takes_answers
from chronos_cli.operations.evaluate import evaluate, present_wake
from chronos_cli.operations.firing.answering import answer_with, carried_to_the_end
from chronos_cli.operations.firing.launchers import launch_each, wait_for
from chronos_cli.operations.firing.probe import PROBE_ID, receive
from chronos_cli.store.arms.document import CARRIES, PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from chronos_cli.core.decision import Decision
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context, FleetJobs
    from chronos_cli.operations.evaluate import Evaluation
    from chronos_cli.operations.firing.answering import Door
    from chronos_cli.operations.firing.launchers import Launcher, Running
    from chronos_cli.store.arms.document import ArmDocument

RETRY_AFTER_S: Final = 30


@frozen
class FireReport:
    """The answer to a fire. `exit_code` and `http_status` are those of the protocol's table.

    `next`: the wake that the answer carries (docs/nas/contract.md has its form), None where it carries none.
    """

    job_id: str
    outcome: Outcome
    http_status: int
    exit_code: ExitCode
    fire_at: datetime | None = None
    reason: str | None = None
    retry_after: int | None = None
    arm: ArmDocument | None = None
    runs: tuple[Row, ...] = ()
    started: tuple[str, ...] = ()
    next: Mapping[str, Any] | str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what the callback's body and `--json` say."""
        document: dict[str, Any] = {"result": self.outcome.value, "job_id": self.job_id}
        if self.fire_at is not None:
            document["fire_at"] = self.fire_at.isoformat()
        if self.reason is not None:
            document["reason"] = self.reason
        if self.retry_after is not None:
            document["retry_after"] = self.retry_after
        if self.started:
            document["runs"] = list(self.started)
        return document


def fire(
    ctx: Context,
    job_id: str,
    *,
    fire_at: datetime | None,
    delivery: str | None,
    launcher: Launcher,
    heard: datetime | None = None,
    door: Door | None = None,
    by_answer: bool = False,
    generation: int | None = None,
    home_is_named: bool = False,
    elsewhere: Callable[[], FleetJobs] | None = None,
    begun: Callable[[FireReport], None] = lambda _: None,
) -> FireReport:
    """Settle everything due for a job, also what the fire does not name, and return the answer.

    `heard`: NAS's clock, as the verified token says it. One that is far from ours is only an old token. `door`: how the
    answer gets to NAS, None where its body may not. `by_answer`, `generation`: as the token says them. `home_is_named`:
    NAS asks for a job of just this home; `elsewhere`: reads the others that may be meant. `begun`: is told what was
    decided once it has begun and is armed, before any run is waited for.

    Raises StoreError, LockTimeoutError, UnservedError or TemporaryError while nothing has been taken; after that, every
    failure is in the report (503 and a retry), since the redelivery finds what is left to do.
    """
    if job_id == PROBE_ID:
        probed = _probed(fire_at, receive(ctx, fire_at, delivery))
        return replace(probed, next=KEEP) if by_answer and door is not None else probed
    began = ctx.clock()
    near = heard is not None and judged(began, heard)[1] is Trust.CONFIRMED
    ctx = ctx.heard(heard) if near else replace(ctx, trust=Trust.ALONE)
    came = FireRequest(
        via=Trigger.RELAY,
        token=ctx.token(),
        fire_at=fire_at,
        delivery=delivery,
        generation=generation,
        by_answer=by_answer and door is not None,
    )
    looked = evaluate(ctx, job_id, came)
    decision = looked.decision
    if not home_is_named and decision.outcome in _MAYBE_ANOTHERS:
        from chronos_cli.operations.firing.fleet import must_be_of_this_home  # rare, and each fire loads this module

        must_be_of_this_home(elsewhere or ctx.elsewhere, looked, job_id, fire_at)
    report = FireReport(
        job_id=job_id,
        outcome=decision.outcome,
        http_status=_STATUS.get(decision.outcome, 200),
        exit_code=_EXIT.get(decision.outcome, ExitCode.OK),
        fire_at=fire_at,
        reason=decision.reason,
        retry_after=decision.retry_after,
        # What a job wants is unknown where it is gone or cannot be read: NAS keeps what it holds.
        next=KEEP if came.by_answer and (looked.job is None or ctx.wire is None) else None,
    )
    running: list[Running] = []
    try:
        # Into the list one by one: what has started is waited for, also when the next one cannot start.
        running.extend(launch_each(ctx, looked, launcher))
    except (ChronosError, OSError) as error:
        report = _not_started(ctx, report, error)
        begun(report)
        return _ended(ctx, report, running)
    if running or report.outcome is not Outcome.CLAIMED:
        report = replace(report, started=tuple(start.entry.run for start in decision.starts))
    else:  # another fire started it between our look and our start
        report = replace(report, outcome=Outcome.DUPLICATE, http_status=200)
    if looked.job is not None:
        try:
            report = _arm_and_note(ctx, looked, report, came, began=began, door=door)
        except ChronosError as error:  # its arm document cannot be written: what runs goes on to its end all the same
            report = _unarmed(report, None, error.message)
    begun(report)
    report = _ended(ctx, report, running)
    try:
        report = carried_to_the_end(ctx, report, came, door)
    except ChronosError as error:
        report = replace(_unarmed(report, report.arm, error.message), next=None)
    if report.arm is not None and report.arm.in_answer and report.http_status == 503:
        with suppress(ChronosError):  # a refusal leaves the slot as it is: what then comes proves nothing
            ctx.repository.arms.change(job_id, lambda document: replace(document, in_answer=False))
    return report


def _probed(fire_at: datetime | None, reason: str) -> FireReport:
    """Return the answer to a probe: it is no job, so there is nothing to settle, run or arm."""
    return FireReport(
        job_id=PROBE_ID,
        outcome=Outcome.PROBE,
        http_status=200,
        exit_code=ExitCode.OK,
        fire_at=fire_at,
        reason=reason,
    )


def _arm_and_note(
    ctx: Context,
    looked: Evaluation,
    report: FireReport,
    came: FireRequest,
    *,
    began: datetime,
    door: Door | None = None,
) -> FireReport:
    """Note the delivery on the job, and arm the present wake: within the budget, or by the answer."""
    decision = looked.decision
    document = _note(ctx, report.job_id, decision, came, began=began, door=door)
    if decision.outcome is Outcome.EARLY or ctx.wire is None:
        return replace(report, arm=document)
    wakeless = decision.outcome is Outcome.IGNORED or decision.wake is None
    try:
        if came.by_answer and door is not None:
            document = _answered(ctx, document, decision, came, began=began, door=door)
            report = replace(report, next=next_of(document))
        elif not wakeless and not _is_armed_already(ctx, document, decision, came, began=began):
            document = _provisioned(ctx, document, decision, came)
    except ChronosError as error:
        return _unarmed(report, document, error.message)
    return replace(report, arm=document, reason="arm: refused" if document.state is ArmState.REFUSED else report.reason)


def _note(
    ctx: Context, job_id: str, decision: Decision, came: FireRequest, *, began: datetime, door: Door | None
) -> ArmDocument:
    """Note a delivery on its job's arm document, and learn from it what NAS does."""
    now = ctx.clock()
    seen: list[ArmDocument] = []

    def note(document: ArmDocument) -> ArmDocument:
        seen[:] = [document]
        after = replace(
            document,
            last_callback_at=now,
            last_callback=decision.outcome.value,
            door=PLAIN if door is None else CARRIES,
        )
        if document.state is ArmState.ANSWERED and _names_answer(document, came):
            after = replace(after, state=ArmState.CONFIRMED, confirmed_at=now)
        if decision.outcome in NO_EFFECT_OUTCOMES:
            after = after.noted(decision.outcome.value, fire_at=came.fire_at, delivery=came.delivery, now=now)
        if decision.outcome is Outcome.EARLY and document.waits_for(decision.wake):
            # Of what was sent last, before this fire came, and not of a late copy of something else.
            sent_before = document.sent_at is None or document.sent_at < began
            if sent_before and came.fire_at in (None, document.fire_at):
                after = replace(after, owed=came.fire_at or document.fire_at)
        elif came.fire_at is not None and came.fire_at == document.fire_at:
            # This very arm was delivered, and its key with it: a NAS that remembers keys would take it for nothing.
            after = replace(after, spent=True)
        return after

    document = ctx.repository.arms.change(job_id, note)
    if document.spent and not seen[0].spent:
        note_delivered(ctx, seen[0])
    if _names_answer(seen[0], came):
        note_answers(ctx, seen[0], taken=True)
    return document


def _provisioned(ctx: Context, document: ArmDocument, decision: Decision, came: FireRequest) -> ArmDocument:
    """Provision the wake of a decision in the request of its fire. Raises what `arm` raises."""
    reason = _reason_to_arm(ctx, document, decision, came)
    with ctx.require_wire().connect(FIRE_BUDGET_S) as nas:
        return arm(ctx, nas, document.job_id, decision.wake, reason, in_answer=True)


def _answered(
    ctx: Context, document: ArmDocument, decision: Decision, came: FireRequest, *, began: datetime, door: Door
) -> ArmDocument:
    """Have the answer carry the wake of a decision, and provision it as well where that has to be.

    Raises StoreError and TemporaryError, and what `arm` raises.
    """
    armed = _is_armed_already(ctx, document, decision, came, began=began)
    reason = None if armed else _reason_to_arm(ctx, document, decision, came)
    return answer_with(ctx, document, decision.wake, came, door, reason)


def _reason_to_arm(ctx: Context, document: ArmDocument, decision: Decision, came: FireRequest) -> ArmReason:
    """Return why the wake of a decision is to be armed."""
    another = came.fire_at is not None and document.owed is not None and came.fire_at != document.owed
    owed = another and decision.outcome in NO_EFFECT_OUTCOMES and document.waits_for(decision.wake)
    return ArmReason(
        idle_fire=(came.fire_at or ctx.clock()) if decision.outcome is Outcome.IDLE else None,
        dropped=_is_displaced(ctx, document, decision, came),
        # NAS comes again for this wake, which it fired too early. What is armed beside it is for the case that it does
        # not, and so far ahead that it is not fired too early as well.
        behind=UNNAMED_AHEAD if owed else None,
    )


def _names_answer(document: ArmDocument, came: FireRequest) -> bool:
    """Return whether NAS has armed what an answer carried: the token names a generation that only that has said."""
    return document.answered_to is not None and came.generation == document.generation


def _unarmed(report: FireReport, document: ArmDocument | None, why: str) -> FireReport:
    """Return a report that has NAS come again, while what runs goes on: it may hold nothing for the job in time."""
    return replace(
        report,
        arm=document,
        http_status=503,
        exit_code=ExitCode.TEMPORARY,
        retry_after=RETRY_AFTER_S,
        reason=f"its wake could not be armed: {why}",
    )


def _is_armed_already(
    ctx: Context, document: ArmDocument, decision: Decision, came: FireRequest, *, began: datetime
) -> bool:
    """Say if the present wake was provisioned since this fire came, by its own run's end: then once is enough."""
    if ctx.wire is None or decision.wake is None or document.sent_at is None or document.sent_at < began:
        return False
    provisioned = document.state is ArmState.CONFIRMED  # not what the answer to another fire carries
    mine = provisioned and decision.outcome is Outcome.CLAIMED and not _is_displaced(ctx, document, decision, came)
    return mine and is_armed(document, decision.wake, ctx.wire, ctx.clock())


def _is_displaced(ctx: Context, document: ArmDocument, decision: Decision, came: FireRequest) -> bool:
    """Return whether this fire may show that NAS no longer holds what was sent last: its key is not sent again.

    One that names no instant may have been the very one that is armed, before its time by our clock. One of another
    instant that was sent once came from a call that reached NAS late, and took the place of the newer.
    """
    soon = document.fire_at is not None and document.fire_at - ctx.clock() <= UNNAMED_AHEAD
    if came.fire_at is None and soon:
        return True
    if keeps_slot(ctx, document):
        return False
    late = came.fire_at in document.keys and came.fire_at != document.fire_at
    return came.fire_at is None or (late and decision.outcome is not Outcome.DUPLICATE)


def _not_started(ctx: Context, report: FireReport, error: ChronosError | OSError) -> FireReport:
    """Return the report where no runner could be started. The claim stands, and the redelivery starts it."""
    detail = error.message if isinstance(error, ChronosError) else str(error)
    at = ctx.clock().isoformat()
    with suppress(ChronosError):  # what could not be started may be for the same reason that this cannot be written
        ctx.repository.arms.change(
            report.job_id, lambda document: replace(document, last_fire_error={"at": at, "detail": detail})
        )
    return replace(
        report,
        http_status=503,
        exit_code=ExitCode.TEMPORARY,
        retry_after=RETRY_AFTER_S,
        reason=f"no runner could be started: {detail}",
    )


def _ended(ctx: Context, report: FireReport, running: list[Running]) -> FireReport:
    """Return a report with the ends of the runs that are waited for: a failed one decides the exit code.

    The wake after such an end is part of this request too: where it could not be armed, NAS must come again.
    """
    rows, trouble = wait_for(running)
    report = replace(report, runs=rows)
    if trouble:  # NAS comes again, and that fire settles the run
        reason = trouble[0].message
        return replace(report, http_status=503, exit_code=ExitCode.TEMPORARY, retry_after=RETRY_AFTER_S, reason=reason)
    if rows and report.http_status == _STATUS[Outcome.CLAIMED]:
        report = replace(report, http_status=200)
    # A wake that the answer carries is armed as it leaves, unless NAS might not take it.
    carried = report.next is not None and ctx.wire is not None and takes_answers(ctx, ctx.wire)
    try:
        why = _unarmed_since(ctx, report) if rows and ctx.wire is not None and not carried else None
    except ChronosError as error:
        why = error.message
    if why is not None:
        return _unarmed(report, report.arm, why)
    failed = any(row.state not in (RunState.OK, RunState.RUNNING) for row in rows)
    return replace(report, exit_code=ExitCode.JOB_FAILED) if failed and report.exit_code is ExitCode.OK else report


def _unarmed_since(ctx: Context, report: FireReport) -> str | None:
    """Return why NAS may not wake the job in time after its run's end, or None: arming there may have failed."""
    wake = present_wake(ctx, report.job_id)
    try:
        stored = ctx.repository.arms.get(report.job_id)
    except DocumentError as error:
        return error.line()
    if wake is None or stored is None or stored.value.state is ArmState.REFUSED:
        return None
    document = stored.value
    if document.state is ArmState.UNCONFIRMED and document.error:
        return str(document.error.get("message"))
    late = document.wake is None or document.wake > wake.at + ONE_NEED_WITHIN
    return "its run's end could not be followed up" if late else None


_MAYBE_ANOTHERS: Final = frozenset({Outcome.GONE, Outcome.IGNORED, Outcome.STALE, Outcome.HELD})
_STATUS: Final = {Outcome.CLAIMED: 202, Outcome.QUEUED: 202, Outcome.EARLY: 503}
_EXIT: Final = {Outcome.HELD: ExitCode.TEMPORARY, Outcome.EARLY: ExitCode.TEMPORARY}
