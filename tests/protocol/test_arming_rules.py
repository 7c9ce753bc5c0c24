"""Rules of arming, each by itself: what counts as armed, what a list teaches, what is noted of a fire, what is dropped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Decision, FireRequest, Outcome, Purpose, Trigger, Wake
from chronos_cli.core.plan import ArmReason, ArmState
from chronos_cli.core.row import RunState
from chronos_cli.errors import ExitCode, NasUnavailableError, RefusedError
from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import Arm, ArmList
from chronos_cli.operations import evaluate, evaluate_all
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.arming import carried, reconcile, slot_memory
from chronos_cli.operations.context import FleetJobs, NasTarget
from chronos_cli.operations.firing import after_answer, answering, fire, run_end, tick
from chronos_cli.operations.firing.answering import Door
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.store.arms.document import CARRIES, PLAIN, ArmDocument
from chronos_cli.store.repository import Repository
from tests.faults.world import World as FaultyWorld
from tests.memory_store import MemoryStore

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
WAKE = Wake(at=NOW + HOUR, purpose=Purpose.CURSOR)
ARMED = ArmDocument(
    job_id="j", state=ArmState.CONFIRMED, wake=WAKE.at, fire_at=WAKE.at, purpose="cursor", callback_url="https://me",
    portal_url="https://nas", audience="agent:1", generation=5, sent_at=NOW - HOUR, keys={WAKE.at: "cursor"},
)  # fmt: skip


class Nas:
    """A NAS that notes what is dropped."""

    server_time = None

    def __init__(self):
        self.cancelled = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def cancel(self, job_id, generation=None):
        self.cancelled.append(job_id)


def context(*documents, now=NOW, nas=None):
    """The outside as arming needs it, with these arm documents in its store."""
    repository = Repository(MemoryStore(), sleep=lambda _: None, random=lambda: 0.5)
    for document in documents:
        repository.arms.change(document.job_id, lambda _, document=document: document)
    wire = NasTarget(portal_url="https://nas", callback_url="https://me", audience="agent:1", connect=lambda _: nas)
    return SimpleNamespace(
        repository=repository, clock=lambda: now, wire=wire, require_wire=lambda: wire, checkpoint=lambda _: None,
        trust=Trust.CONFIRMED, elsewhere=lambda: SimpleNamespace(same_agent=()),
    )  # fmt: skip


def stored(ctx):
    return ctx.repository.arms.get("j").value


@pytest.mark.parametrize("state", [ArmState.CONFIRMED, ArmState.ANSWERED])
def test_an_arm_that_is_held_for_this_wake_is_armed(state):
    """NAS has said so, or an answer carries it."""
    wire = context().wire
    assert arming.is_armed(replace(ARMED, state=state), WAKE, wire, NOW)
    assert carried._stands(replace(ARMED, state=state), WAKE, wire)


@pytest.mark.parametrize(
    "change",
    [
        {"state": ArmState.UNCONFIRMED}, {"state": ArmState.CANCELLED}, {"spent": True}, {"wake": NOW + MINUTE}, {"wake": None},
        {"purpose": "retry"}, {"callback_url": "https://old"}, {"portal_url": "https://old"},
        {"features": ("spread",), "tolerance": 9},
    ],
    ids=str,
)  # fmt: skip
def test_an_arm_of_anything_else_is_not(change):
    """Each part of a wish counts: by itself it makes another."""
    wire = context().wire
    document = replace(ARMED, **change)
    assert carried._stands(document, WAKE, wire) is False
    if "purpose" not in change:  # two wakes at one instant are one need, whatever each is for
        assert not arming.is_armed(document, WAKE, wire, NOW)
    assert not arming.is_armed(None, WAKE, wire, NOW)


def test_a_refused_arm_stands_in_an_answer_and_is_not_armed():
    """NAS need not be told twice what it has refused; nobody may think that it holds it."""
    refused = replace(ARMED, state=ArmState.REFUSED)
    assert carried._stands(refused, WAKE, context().wire)
    assert not arming.is_armed(refused, WAKE, context().wire, NOW)


def test_two_wakes_are_one_need_at_one_instant_both_at_once_or_as_one_lease_read_twice():
    """A cursor is exact, however near another may be."""
    near = WAKE.at + arming.ONE_NEED_WITHIN
    lease = Wake(at=WAKE.at, purpose=Purpose.LEASE)
    assert arming.is_same_need(None, None, NOW)
    assert not arming.is_same_need(WAKE, None, NOW)
    assert not arming.is_same_need(None, WAKE, NOW)
    assert arming.is_same_need(WAKE, lease, NOW)
    assert arming.is_same_need(lease, replace(lease, at=near), NOW)
    assert not arming.is_same_need(lease, replace(lease, at=near + SECOND), NOW)
    assert not arming.is_same_need(WAKE, replace(WAKE, at=near), NOW)
    assert not arming.is_same_need(lease, Wake(at=near, purpose=Purpose.RETRY), NOW)
    assert arming.is_same_need(WAKE, replace(WAKE, at=near), WAKE.at)
    assert not arming.is_same_need(WAKE, replace(WAKE, at=near + SECOND), WAKE.at)


def test_only_what_lies_ahead_and_was_not_cancelled_may_be_held():
    """What is due now has been fired."""
    assert ARMED.may_be_held(WAKE.at - SECOND)
    assert not ARMED.may_be_held(WAKE.at)
    assert not replace(ARMED, state=ArmState.CANCELLED).may_be_held(NOW)
    assert not replace(ARMED, fire_at=None).may_be_held(NOW)


def test_a_job_that_wants_nothing_after_its_run_has_its_timer_dropped():
    """Where nothing was ever armed, and nothing is under way, NAS is not asked at all."""
    nas = Nas()
    assert run_end.rearm(context(nas=nas), "j", None) is None
    assert nas.cancelled == []
    ctx = context(ARMED, nas=nas)
    document = run_end.rearm(ctx, "j", None)
    assert (nas.cancelled, document.state, document.wake) == (["j"], ArmState.CANCELLED, None)
    assert document.generation > ARMED.generation


@pytest.mark.parametrize("sent", [NOW, NOW - fire.FIRE_BUDGET_S * SECOND + SECOND])
def test_what_a_fire_is_sending_is_not_sent_beside_it(sent):
    """It answers 503 where it fails."""
    under_way = replace(ARMED, state=ArmState.UNCONFIRMED, in_answer=True, sent_at=sent)
    assert run_end._is_under_way(under_way, WAKE, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"in_answer": False}, {"state": ArmState.CONFIRMED}, {"error": {"code": "x"}}, {"sent_at": None}, {"wake": NOW},
        {"sent_at": NOW + SECOND}, {"sent_at": NOW - fire.FIRE_BUDGET_S * SECOND},
    ],
    ids=str,
)  # fmt: skip
def test_what_was_sent_otherwise_or_long_ago_is_not_under_way(change):
    """Nor is what failed, or was sent for another wake."""
    under_way = replace(ARMED, state=ArmState.UNCONFIRMED, in_answer=True, sent_at=NOW)
    assert not run_end._is_under_way(replace(under_way, **change), WAKE, NOW)


EARLY = Decision(outcome=Outcome.EARLY, wake=WAKE)


def noted(document, came, *, decision=EARLY, began=NOW, door=None):
    ctx = context(document)
    fire._note(ctx, "j", decision, came, began=began, door=door)
    return stored(ctx)


def relay(fire_at=None, **more):
    return FireRequest(via=Trigger.RELAY, token="t", fire_at=fire_at, **more)


def test_an_early_fire_of_what_was_sent_is_owed():
    """By name, or without one; what was never sent is owed as well where it is known to stand for the wake."""
    assert noted(ARMED, relay(WAKE.at)).owed == WAKE.at
    assert noted(ARMED, relay()).owed == WAKE.at
    assert noted(replace(ARMED, sent_at=None), relay()).owed == WAKE.at


@pytest.mark.parametrize(
    ("change", "came"),
    [({"sent_at": NOW}, relay()), ({}, relay(NOW + 2 * HOUR)), ({"wake": NOW + 2 * HOUR}, relay(WAKE.at))],
    ids=["sent since", "another instant", "another wake"],
)
def test_a_late_copy_of_something_else_is_not_owed(change, came):
    """NAS does not come again for what was sent only after the fire came."""
    assert noted(replace(ARMED, **change), came).owed is None


def test_a_delivered_arm_has_spent_its_key_and_the_door_is_noted():
    """Only the very instant that was sent does; a note is kept of what settled nothing."""
    claimed = Decision(outcome=Outcome.CLAIMED, wake=replace(WAKE, at=NOW + 2 * HOUR))
    after = noted(ARMED, relay(WAKE.at), decision=claimed)
    assert (after.spent, after.last_callback, after.last_callback_at, after.notes) == (True, "claimed", NOW, ())
    assert after.door == PLAIN
    assert noted(ARMED, relay(WAKE.at), decision=claimed, door=object()).door == CARRIES
    assert not noted(ARMED, relay(NOW), decision=claimed).spent
    assert not noted(ARMED, relay(), decision=claimed).spent
    stale = Decision(outcome=Outcome.STALE, wake=WAKE)
    assert [note["outcome"] for note in noted(ARMED, relay(NOW), decision=stale).notes] == ["stale"]


def test_a_token_that_names_an_answers_generation_confirms_it():
    """Nothing but that answer has said this number."""
    answered = replace(ARMED, state=ArmState.ANSWERED, answered_to="d", wake=NOW + 2 * HOUR)
    claimed = Decision(outcome=Outcome.CLAIMED, wake=WAKE)
    assert noted(answered, relay(NOW, generation=5), decision=claimed).state is ArmState.CONFIRMED
    assert noted(answered, relay(NOW, generation=4), decision=claimed).state is ArmState.ANSWERED
    assert (
        noted(replace(answered, answered_to=None), relay(NOW, generation=5), decision=claimed).state
        is ArmState.ANSWERED
    )


@pytest.mark.parametrize(("later", "said"), [(arming.ONE_NEED_WITHIN, None), (arming.ONE_NEED_WITHIN + SECOND, "its run's end could not be followed up")])  # fmt: skip
def test_an_arm_well_after_the_wake_is_late(later, said, monkeypatch):
    """So far apart as clocks may be is near enough."""
    monkeypatch.setattr(fire, "present_wake", lambda *_: WAKE)
    assert fire._unarmed_since(context(replace(ARMED, wake=WAKE.at + later)), SimpleNamespace(job_id="j")) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"wake": None}, "its run's end could not be followed up"),
        ({"state": ArmState.REFUSED, "wake": None}, None),
        ({"state": ArmState.UNCONFIRMED, "error": {"message": "it is down"}}, "it is down"),
        ({"state": ArmState.UNCONFIRMED}, None),
    ],
)
def test_why_nas_may_not_wake_a_job_in_time(change, said, monkeypatch):
    """What is refused stays so; what failed says why; what is under way is in time."""
    monkeypatch.setattr(fire, "present_wake", lambda *_: WAKE)
    assert fire._unarmed_since(context(replace(ARMED, **change)), SimpleNamespace(job_id="j")) == said
    assert fire._unarmed_since(context(), SimpleNamespace(job_id="j")) is None


def test_a_list_teaches_whether_answers_arm_and_whether_the_slot_is_kept(monkeypatch):
    """One that shows what only an answer said is proof; one that lacks it is, long after and well before it is due."""
    told = []
    monkeypatch.setattr(reconcile, "note_answers", lambda _, document, *, taken: told.append((document.job_id, taken)))
    monkeypatch.setattr(reconcile, "note_missing", lambda _, document: told.append((document.job_id, "missing")))
    answered = replace(ARMED, state=ArmState.ANSWERED, only_answered=True, sent_at=NOW - reconcile._LONG - SECOND)
    before = replace(answered, state=ArmState.CONFIRMED, in_answer=True)

    def learnt(held, **documents):
        told.clear()
        reconcile._learn(context(), documents, held)
        return [what for _, what in told]

    assert learnt({"j": WAKE.at}, j=answered) == [True]
    assert learnt({"j": WAKE.at}, j=replace(answered, only_answered=False)) == []
    assert learnt({}, j=answered) == [False]
    assert learnt({}, j=before) == ["missing"]
    assert learnt({"j": NOW}, j=answered) == []
    for change in ({"spent": True}, {"sent_at": NOW - reconcile._LONG}, {"sent_at": None}, {"fire_at": None},
                   {"fire_at": NOW + reconcile._SOON - SECOND}, {"fire_at": NOW - reconcile._LONG + SECOND}):  # fmt: skip
        assert learnt({}, j=replace(answered, **change)) == []
        assert learnt({}, j=replace(before, **change)) == []
    assert learnt({}, j=replace(before, in_answer=False)) == []
    assert learnt({}, j=replace(before, state=ArmState.UNCONFIRMED)) == []
    assert learnt({}, j=replace(answered, fire_at=NOW + reconcile._SOON)) == [False]
    assert learnt({"a": WAKE.at}, a=replace(answered, only_answered=False), j=answered) == [False]


def test_timers_are_several_where_more_than_one_is_still_to_come():
    """What is due, or in flight, is a redelivery's; the same instant twice is one."""

    def several(*arms):
        listed = ArmList(
            arms=tuple(
                Arm(job_id="j", fire_at=at, fire_at_text="", schedule_id=None, state=state) for at, state in arms
            )
        )
        return reconcile._several(listed, NOW)

    soon, first, second = NOW + reconcile._SOON, NOW + HOUR, NOW + 2 * HOUR
    assert several((first, "armed"), (second, "armed")) == {"j": 2}
    assert several((first, "armed"), (first, "armed")) == {}
    assert several((first, "armed"), (second, "in_flight")) == {}
    assert several((first, "armed"), (soon, "armed")) == {}
    assert several((first, "armed"), (None, "armed")) == {}


def test_what_was_sent_and_is_still_to_come_is_owed_a_cancel_once_the_job_wants_nothing():
    """Not what was taken back, refused, or is over; whether NAS lists it counts for nothing."""
    owed = [state for state in ArmState if reconcile._owes_cancel(replace(ARMED, state=state), None, NOW)]
    assert owed == [ArmState.UNCONFIRMED, ArmState.ANSWERED, ArmState.CONFIRMED]
    assert not reconcile._owes_cancel(ARMED, WAKE, NOW)
    assert not reconcile._owes_cancel(None, None, NOW)
    assert not reconcile._owes_cancel(replace(ARMED, fire_at=NOW), None, NOW)
    assert not reconcile._owes_cancel(replace(ARMED, fire_at=None), None, NOW)


def test_an_arm_of_another_portal_or_audience_is_none_of_this_stores():
    """One that names neither is."""
    wire = context().wire
    assert reconcile._same_identity(ARMED, wire)
    assert reconcile._same_identity(replace(ARMED, portal_url=None, audience=None), wire)
    assert reconcile._same_identity(replace(ARMED, audience=""), wire)
    assert not reconcile._same_identity(replace(ARMED, portal_url="https://old"), wire)
    assert not reconcile._same_identity(replace(ARMED, audience="agent:2"), wire)
    assert [wish.sent.fire_at for wish in reconcile._wishes({"j": WAKE}, {"j": ARMED}, wire, context())] == [WAKE.at]
    other = replace(ARMED, audience="agent:2")
    assert [wish.sent.fire_at for wish in reconcile._wishes({"j": WAKE}, {"j": other}, wire, context())] == [None]
    assert reconcile._wishes({}, {"j": other}, wire, context()) == []
    assert [wish.known for wish in reconcile._wishes({}, {"j": ARMED}, wire, context())] == [False]


def test_a_newer_wish_of_the_same_instant_stands_for_ours():
    """It is held, and its key is not spent; an older one does not."""
    newer = replace(ARMED, generation=6)
    assert newer.stands_for(ARMED)
    for change in ({"generation": 5}, {"state": ArmState.UNCONFIRMED}, {"spent": True}, {"fire_at": NOW}):
        assert not replace(newer, **change).stands_for(ARMED)


def test_somebody_elses_wish_overtook_ours_unless_nas_numbers_them():
    """A cancel did as well, though its document still says the instant.

    The first wish of a job bears no number, since its NAS has not answered yet: against that one NAS holds no order.
    """
    assert not ARMED.overtook(ARMED)
    assert replace(ARMED, generation=6, fire_at=NOW).overtook(ARMED)
    assert replace(ARMED, generation=6, state=ArmState.CANCELLED).overtook(ARMED)
    assert not replace(ARMED, generation=6).overtook(ARMED)
    theirs, ours = (
        replace(ARMED, generation=6, fire_at=NOW, features=("generation",)),
        replace(ARMED, features=("generation",)),
    )
    assert not theirs.overtook(ours)
    assert theirs.overtook(ARMED)
    assert replace(theirs, features=()).overtook(ours), "it numbers wishes no more"


def test_what_was_past_when_it_came_to_nas_may_be_dropped_unless_it_keeps_slots():
    """The instant itself counts as past."""
    assert replace(ARMED, fire_at=NOW).is_late(NOW)
    assert not ARMED.is_late(NOW)
    assert not replace(ARMED, fire_at=None).is_late(NOW)
    assert not replace(ARMED, fire_at=NOW, features=(slot_memory.FEATURE_KEEPS_SLOT,)).is_late(NOW)


def test_a_late_failure_says_nothing_of_a_newer_wish():
    """Nor does a refusal, a confirmation, or a list: each is of the generation that it was asked for."""
    error, newer = RefusedError("no"), replace(ARMED, generation=6, state=ArmState.UNCONFIRMED)
    assert newer.failed(ARMED, error) == newer
    assert newer.refused(ARMED, error) == newer
    assert newer.listed(ARMED, "s", NOW) == newer
    assert ARMED.failed(ARMED, error).error == error.as_json()
    assert ARMED.refused(ARMED, error).state is ArmState.REFUSED
    shown = replace(ARMED, state=ArmState.UNCONFIRMED, in_answer=True, error={}).listed(ARMED, "s", NOW)
    assert (shown.state, shown.confirmed_at, shown.schedule_id, shown.error, shown.in_answer) == (ArmState.CONFIRMED, NOW, "s", None, False)  # fmt: skip


def test_what_was_seen_of_answers_is_believed_for_a_month():
    """Of this portal and identity alone; a clock that was set back by more than that has seen nothing."""
    ctx = context()
    assert slot_memory.takes_answers(ctx, ctx.wire) is None
    for taken in (True, False):
        slot_memory.note_answers(ctx, ctx.wire, taken=taken)
        assert slot_memory.takes_answers(ctx, ctx.wire) is taken
    for later, known in (
        (slot_memory.KEPT_FOR - SECOND, False),
        (slot_memory.KEPT_FOR, None),
        (-slot_memory.KEPT_FOR, None),
    ):
        ctx.clock = lambda later=later: NOW + later
        assert slot_memory.takes_answers(ctx, ctx.wire) is known
    ctx.clock = lambda: NOW
    assert slot_memory.takes_answers(ctx, replace(ARMED, audience="agent:2")) is None


@pytest.mark.parametrize(
    ("ahead", "since"), [(HOUR, NOW + HOUR), (timedelta(days=16), NOW), (timedelta(days=400), NOW)]
)
def test_what_a_clock_that_was_ahead_has_learned_is_dated_anew(ahead, since):
    """By far more than a month it was never learned; within an hour nothing is written."""
    ctx = context()
    proof = replace(ARMED, in_answer=True, sent_at=NOW - 2 * HOUR, wake=NOW, fire_at=NOW)
    ctx.clock = lambda: NOW + ahead
    for _ in range(slot_memory.ENOUGH):
        slot_memory.note_delivered(ctx, proof)
    ctx.clock = lambda: NOW
    slot_memory.note_delivered(ctx, proof)
    known = slot_memory.recall(ctx)
    assert (known.since, known.delivered) == (since, 1 if ahead > slot_memory.KEPT_FOR else slot_memory.ENOUGH)


@pytest.mark.parametrize(("status", "in_answer"), [(503, False), (202, True), (200, True)])
def test_what_was_sent_before_a_refusal_proves_nothing_of_the_slot(status, in_answer, monkeypatch):
    """A 503 leaves the slot as it is; a 2xx is what may clear it."""
    ctx = context(replace(ARMED, in_answer=True))
    ctx.heard, ctx.token = lambda _: ctx, lambda: "t"
    looked = SimpleNamespace(job=ARMED, decision=Decision(outcome=Outcome.DUPLICATE, wake=WAKE))
    monkeypatch.setattr(fire, "evaluate", lambda *_: looked)
    monkeypatch.setattr(fire, "launch_each", lambda *_: iter(()))
    monkeypatch.setattr(
        fire, "_arm_and_note", lambda _, __, report, *___, **____: replace(report, arm=stored(ctx), http_status=status)
    )
    monkeypatch.setattr(fire, "_ended", lambda _, report, __: report)
    monkeypatch.setattr(fire, "carried_to_the_end", lambda _, report, *__: report)
    report = fire.fire(ctx, "j", fire_at=NOW, delivery="d", launcher=None, heard=NOW)
    assert (report.http_status, report.next, stored(ctx).in_answer) == (status, None, in_answer)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_reconcile_mends_the_stores_name_and_a_dry_one_does_not(dry_run):
    """Before anything is asked of NAS; a dry run writes nothing at all."""
    mended = []

    def nas_is_next():
        raise LookupError

    ctx = SimpleNamespace(
        must_be_active=lambda _: None, token=None, require_wire=nas_is_next,
        repository=SimpleNamespace(mend_store_id=mended.append),
    )  # fmt: skip
    with pytest.raises(LookupError):
        reconcile.reconcile(ctx, dry_run=dry_run)
    assert len(mended) == (not dry_run)


DOOR = Door(within_s=60.0, looks=True)


@pytest.mark.parametrize(
    ("known", "document", "wake", "door", "calls"),
    [
        (True, ARMED, WAKE, DOOR, False),
        (None, ARMED, WAKE, DOOR, False),
        (False, ARMED, WAKE, DOOR, True),
        (None, ARMED, WAKE, replace(DOOR, looks=False), True),
        (True, ARMED, WAKE, replace(DOOR, looks=False), False),
        (True, ARMED, WAKE, replace(DOOR, within_s=None), True),
        (True, ARMED, replace(WAKE, at=NOW + MINUTE), DOOR, True),
        (True, ARMED, replace(WAKE, at=NOW + MINUTE + SECOND), DOOR, False),
        (True, ARMED, None, DOOR, False),
        (None, ARMED, None, DOOR, True),
        (None, replace(ARMED, state=ArmState.CANCELLED), None, DOOR, False),
        (True, replace(ARMED, answered_to="d"), WAKE, DOOR, True),
        (True, replace(ARMED, answered_to="e"), WAKE, DOOR, False),
    ],
)
def test_nas_is_called_beside_an_answer_that_may_not_do(known, document, wake, door, calls):
    """One that may come too late, that did not get through before, or that nobody is known to arm by."""
    ctx = context()
    if known is not None:
        slot_memory.note_answers(ctx, ctx.wire, taken=known)
    came = relay(NOW, delivery="d")
    assert answering._must_call(ctx, document, wake, came, door) == calls
    assert slot_memory.takes_answers(ctx, ctx.wire) is (False if document.answered_to == "d" else known)


def test_a_delivery_without_a_name_is_named_by_its_instant():
    """Nothing names one that has neither, and then no answer was to it."""
    names = [answering._delivery_of(came) for came in (relay(NOW, delivery="d"), relay(NOW), relay())]
    assert names == ["d", NOW.isoformat(), None]
    assert not answering._must_call(context(), ARMED, WAKE, relay(), DOOR)


def report_of(document, *, status=200, runs=(ARMED,)):
    return fire.FireReport(
        job_id="j", outcome=Outcome.CLAIMED, http_status=status, exit_code=ExitCode.OK, fire_at=NOW, arm=document, runs=runs,
        next={"fire_at": "x"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "needed", "again"),
    [(200, WAKE, False), (200, replace(WAKE, at=WAKE.at + HOUR), True), (200, None, True), (503, WAKE, False)],
)
def test_an_answer_carries_the_wake_that_its_jobs_run_left(status, needed, again, monkeypatch):
    """What it was to carry is carried still where nothing changed; one that is no 2xx carries nothing."""
    document = replace(ARMED, state=ArmState.ANSWERED, answered_to="d")
    ctx, called = context(document), []
    monkeypatch.setattr(answering, "present_wake", lambda *_: needed)

    def answer_with(ctx, leaving, wake, came, door, reason):
        called.append((leaving.answered_to, wake, door.within_s, reason is None))
        return ARMED

    monkeypatch.setattr(answering, "answer_with", answer_with)
    left = answering.carried_to_the_end(ctx, report_of(document, status=status), relay(NOW), DOOR)
    assert called == ([(None, needed, 0.0, False)] if again else [])
    if status == 503:
        assert (left.next, stored(ctx).state, stored(ctx).answered_to) == (None, ArmState.UNCONFIRMED, None)
    else:
        assert left.next == (carried.next_of(ARMED) if again else {"fire_at": "x"})
    untouched = report_of(document, runs=())
    assert answering.carried_to_the_end(ctx, untouched, relay(NOW), DOOR) is untouched


def test_an_arm_that_was_confirmed_by_the_runs_end_is_not_sent_again(monkeypatch):
    """It stands under a generation of its own, which the answer has to name."""
    sent = replace(ARMED, generation=9)
    ctx, called = context(sent), []
    monkeypatch.setattr(answering, "present_wake", lambda *_: WAKE)
    monkeypatch.setattr(answering, "answer_with", lambda *given: called.append(given[-1] is None) or ARMED)
    answering.carried_to_the_end(ctx, report_of(ARMED), relay(NOW), DOOR)
    assert called == [True]
    ctx = context(replace(sent, state=ArmState.UNCONFIRMED))
    answering.carried_to_the_end(ctx, report_of(ARMED), relay(NOW), DOOR)
    assert called == [True, False]


def test_a_list_for_some_jobs_reads_the_documents_of_those_alone():
    """With a wish or not: the others are nobody's business then."""
    read = []
    index = SimpleNamespace(get=read.append)
    listed = ArmList(
        arms=tuple(Arm(job_id=job, fire_at=NOW, fire_at_text="", schedule_id=None) for job in ("a", "b", "c"))
    )
    settled = SimpleNamespace(arms={}, wakes={"a": WAKE}, index=index)
    nas = SimpleNamespace(list=lambda: listed)
    for chosen, found in ((frozenset({"b", "d"}), ["b"]), (None, ["b", "c"])):
        read.clear()
        reconcile._documents(settled, reconcile._list(nas, chosen))
        assert sorted(read) == found


def test_what_another_portal_did_says_nothing_of_this_one():
    """Its memory is begun anew, and knows of no answers; the same portal's is kept."""
    ctx = context()
    slot_memory.note_answers(ctx, ctx.wire, taken=True)
    proof = replace(ARMED, in_answer=True, sent_at=NOW - 2 * HOUR, wake=NOW, fire_at=NOW)
    slot_memory.note_delivered(ctx, proof)
    assert (slot_memory.recall(ctx).delivered, slot_memory.recall(ctx).answers) == (1, True)
    slot_memory.note_delivered(ctx, replace(proof, audience="agent:2"))
    assert (slot_memory.recall(ctx).delivered, slot_memory.recall(ctx).answers) == (1, None)


@pytest.mark.parametrize(
    ("by_answer", "door", "job", "said"),
    [(True, DOOR, None, "keep"), (False, DOOR, None, None), (True, None, None, None), (True, DOOR, ARMED, None)],
)
def test_nas_is_told_to_keep_what_it_holds_only_where_it_asks_and_the_job_is_not_known(
    by_answer, door, job, said, monkeypatch
):
    """The answer has to get there, and the token to ask for it."""
    ctx = context()
    ctx.heard, ctx.token = lambda _: ctx, lambda: "t"
    asked = []
    looked = SimpleNamespace(job=job, invalid=None, decision=Decision(outcome=Outcome.GONE))
    ctx.elsewhere = FleetJobs
    monkeypatch.setattr(fire, "evaluate", lambda _, __, came: asked.append(came.by_answer) or looked)
    monkeypatch.setattr(fire, "launch_each", lambda *_: iter(()))
    monkeypatch.setattr(fire, "_arm_and_note", lambda _, __, report, *___, **____: report)
    report = fire.fire(ctx, "j", fire_at=NOW, delivery="d", launcher=None, heard=NOW, door=door, by_answer=by_answer)
    assert (report.next, asked) == (said, [by_answer and door is not None])


@pytest.mark.parametrize(
    ("came", "document", "outcome", "displaced"),
    [
        (relay(), replace(ARMED, fire_at=NOW + fire.UNNAMED_AHEAD), Outcome.CLAIMED, True),
        (relay(), ARMED, Outcome.CLAIMED, True),
        (relay(), replace(ARMED, features=("keeps-slot",)), Outcome.CLAIMED, False),
        (relay(), replace(ARMED, features=("keeps-slot",), fire_at=NOW), Outcome.CLAIMED, True),
        (relay(WAKE.at), ARMED, Outcome.CLAIMED, False),
        (relay(NOW), ARMED, Outcome.CLAIMED, False),
        (relay(NOW), replace(ARMED, keys={NOW: "cursor"}), Outcome.CLAIMED, True),
        (relay(NOW), replace(ARMED, keys={NOW: "cursor"}), Outcome.DUPLICATE, False),
    ],
)
def test_a_fire_shows_that_its_arm_is_gone_where_it_names_none_or_another_that_was_sent(
    came, document, outcome, displaced
):
    """Not where NAS keeps its slot, nor where a copy comes late."""
    assert fire._is_displaced(context(), document, Decision(outcome=outcome, wake=WAKE), came) is displaced


def test_a_next_time_that_is_left_ahead_is_said(tmp_path):
    """By a look at all jobs whose clock nobody has confirmed; what is put right is no doubt any more."""
    world = FaultyWorld(tmp_path)
    ctx = world.context()

    def ahead(jobs):
        record = dict(jobs.get("a"))
        jobs.put("a", record | {"next_run_at": (world.clock() + timedelta(days=900)).isoformat()})

    ctx.repository.change(ahead)
    ticked = tick.tick(replace(ctx, trust=Trust.ALONE), InlineLauncher())
    assert ([doubt.code for doubt in ticked.doubts.values()], ticked.started) == (["ahead"], ())
    left = evaluate_all.evaluate_all(replace(ctx, trust=Trust.UNHEARD))
    assert [(job_id, doubt.code) for job_id, doubt in left.doubts.items()] == [("a", "ahead")]
    assert evaluate_all.evaluate_all(replace(ctx, trust=Trust.CONFIRMED)).doubts == {}


def test_a_tick_names_the_jobs_whose_wake_nas_was_not_told_of(tmp_path):
    """What was due has run all the same; the next tick is the net."""
    world = FaultyWorld(tmp_path)

    def silent(request):
        raise NasUnavailableError("it does not answer")

    world.nas.provision = silent
    done = tick.tick(world.context(), InlineLauncher())
    assert (len(done.started), list(done.unarmed), done.failed) == (1, ["a"], {})
    assert "it does not answer" in done.unarmed["a"].message


def test_a_request_says_what_nas_is_known_to_understand():
    """A generation and an answer that arms only where NAS has named them."""
    plain = arming.request_of(ARMED)
    assert (plain.fire_at, plain.generation, plain.accepts, plain.tolerance) == (WAKE.at, None, (), 0)
    knows = replace(ARMED, features=("generation", "arm-in-answer"), door=CARRIES, tolerance=60)
    asked = arming.request_of(knows)
    assert (asked.generation, asked.accepts, asked.tolerance) == (5, ("arm-in-answer",), 60)
    for nothing in ({"fire_at": None}, {"callback_url": None}):
        with pytest.raises(ValueError, match="nothing is being sent"):
            arming.request_of(replace(ARMED, **nothing))


def test_an_occurrence_that_never_runs_leaves_nothing_in_hand(tmp_path):
    """No end of a run would take its entry out: the same fire does, once its row exists."""
    world = FaultyWorld(tmp_path)
    ctx = world.context()
    ctx.repository.change(lambda jobs: jobs.put("a", {**jobs.get("a"), "chronos": {**jobs.get("a")["chronos"], "policy": {"grace": 0}}}))  # fmt: skip
    world.moved += MINUTE
    looked = evaluate.evaluate(ctx, "a", relay(world.cursor("a")))
    assert looked.decision.outcome is Outcome.MISSED
    job, _ = evaluate.read_job(ctx, ctx.repository.jobs(), "a")
    assert job.open == ()
    assert [ctx.repository.rows.get("a", row.run_id).value.state.value for row in looked.decision.owed] == ["missed"]


@pytest.mark.parametrize(("word", "settled"), [("claimed", True), ("queued", True), ("stale", False), ("early", False)])
def test_only_a_callback_that_settled_something_is_taken_for_the_first_of_two(word, settled):
    """What came after one that did nothing is no second copy of it."""
    document = replace(ARMED, last_callback=word, last_callback_at=NOW)
    assert evaluate._settled_at(SimpleNamespace(value=document)) == (NOW if settled else None)
    assert evaluate._settled_at(None) is None


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ((), 0),
        (("ok",), 0),
        (("running",), 0),
        (("failed",), ExitCode.JOB_FAILED),
        (("ok", "lost"), ExitCode.JOB_FAILED),
    ],
)
def test_a_run_that_is_waited_for_and_fails_decides_the_exit_code(states, code):
    """A fire that failed itself keeps its own; what was claimed and has ended is answered by 200."""
    running = [
        SimpleNamespace(
            first_of=lambda going: going[0], wait=lambda state=state: SimpleNamespace(state=RunState(state))
        )
        for state in states
    ]
    ctx = SimpleNamespace(wire=None)
    report = replace(report_of(ARMED, runs=()), http_status=202, next=None)
    ended = fire._ended(ctx, report, running)
    assert (ended.exit_code, ended.http_status, len(ended.runs)) == (code, 200 if states else 202, len(states))
    refused = fire._ended(ctx, replace(report, exit_code=ExitCode.TEMPORARY, http_status=503), running)
    assert (refused.exit_code, refused.http_status) == (ExitCode.TEMPORARY, 503)


@pytest.mark.parametrize("outcome", [Outcome.IGNORED, Outcome.CLAIMED])
def test_a_job_that_is_out_of_force_is_not_armed_by_a_fire(outcome, monkeypatch):
    """Whatever of it still runs: its delivery is noted, and no more."""
    ctx, sent = context(ARMED), []
    monkeypatch.setattr(fire, "_provisioned", lambda *_: sent.append(1) or ARMED)
    looked = SimpleNamespace(decision=Decision(outcome=outcome, wake=replace(WAKE, at=WAKE.at + HOUR)))
    report = fire._arm_and_note(ctx, looked, report_of(None), relay(NOW), began=NOW)
    assert (len(sent), report.arm.last_callback) == (outcome is Outcome.CLAIMED, None if sent else outcome.value)


def test_what_a_look_after_the_answer_finds_is_this_jobs_own():
    """Nothing is meant to be there where nothing was sent, or what was sent is gone; another job's timer is no proof."""

    def looked(document, *arms):
        ctx = context(*([] if document is None else [document]), nas=ListingNas(arms))
        return after_answer._look(ctx, "j")

    mine, other = (Arm(job_id=job, fire_at=WAKE.at, fire_at_text="", schedule_id=None) for job in ("j", "k"))
    later = replace(mine, fire_at=NOW)
    assert looked(None, mine) == (None, None)
    assert looked(ARMED, other, later, mine) == (mine, ARMED)
    assert looked(ARMED, other, later) == (None, ARMED)
    for change in ({"state": ArmState.CANCELLED}, {"state": ArmState.REFUSED}, {"spent": True}):
        assert looked(replace(ARMED, **change), mine) == (None, None)


class ListingNas(Nas):
    """One that lists these arms."""

    def __init__(self, arms):
        super().__init__()
        self.arms = arms

    def list(self):
        return ArmList(arms=tuple(self.arms))


@pytest.mark.parametrize(
    ("change", "outcome", "armed"),
    [
        ({}, Outcome.CLAIMED, True), ({}, Outcome.DUPLICATE, False), ({"state": ArmState.ANSWERED}, Outcome.CLAIMED, False),
        ({"sent_at": NOW - SECOND}, Outcome.CLAIMED, False), ({"sent_at": None}, Outcome.CLAIMED, False),
        ({"wake": NOW + 2 * HOUR}, Outcome.CLAIMED, False),
    ],
)  # fmt: skip
def test_once_is_enough_where_the_runs_end_has_armed_since_the_fire_came(change, outcome, armed):
    """Confirmed, for this wake, by the fire that claimed."""
    document = replace(ARMED, sent_at=NOW, **change) if "sent_at" not in change else replace(ARMED, **change)
    decision = Decision(outcome=outcome, wake=WAKE)
    assert fire._is_armed_already(context(), document, decision, relay(WAKE.at), began=NOW) is armed


@pytest.mark.parametrize(
    ("owed", "outcome", "wake", "behind"),
    [
        (NOW, Outcome.DUPLICATE, WAKE, True), (None, Outcome.DUPLICATE, WAKE, False), (NOW, Outcome.CLAIMED, WAKE, False),
        (NOW + MINUTE, Outcome.DUPLICATE, WAKE, False), (NOW, Outcome.DUPLICATE, replace(WAKE, at=NOW), False),
    ],
)  # fmt: skip
def test_what_is_armed_beside_an_owed_fire_stands_behind_it(owed, outcome, wake, behind):
    """Where this fire is another one, settles nothing, and the wake is still the owed one's."""
    decision = Decision(outcome=outcome, wake=wake)
    reason = fire._reason_to_arm(context(), replace(ARMED, owed=owed), decision, relay(NOW + MINUTE))
    assert reason == ArmReason(behind=fire.UNNAMED_AHEAD if behind else None)


@pytest.mark.parametrize(("came", "since"), [(NOW + MINUTE, NOW + MINUTE), (None, NOW)])
def test_a_fire_that_found_nothing_to_do_puts_off_the_next_from_its_own_instant(came, since):
    """One that names none did so just now; any other outcome puts nothing off."""
    fired = relay(came)
    for outcome, idle in ((Outcome.IDLE, since), (Outcome.CLAIMED, None)):
        reason = fire._reason_to_arm(context(), ARMED, Decision(outcome=outcome, wake=WAKE), fired)
        assert reason.idle_fire == idle


def test_an_answer_that_does_not_get_to_nas_carries_nothing():
    """No door, nothing armed, or a word instead of a wake: the report leaves as it is."""
    for report, door in (
        (report_of(ARMED), None),
        (report_of(None), DOOR),
        (replace(report_of(ARMED), next="keep"), DOOR),
    ):
        assert answering.carried_to_the_end(context(ARMED), report, relay(NOW), door) is report


@pytest.mark.parametrize(
    ("outcome", "status", "word"),
    [
        (Outcome.CLAIMED, 202, "accepted"),
        (Outcome.QUEUED, 200, "accepted"),
        (Outcome.CLAIMED, 503, "claimed"),
        (Outcome.STALE, 200, "stale"),
    ],
)
def test_an_answer_accepts_what_it_takes_and_carries_a_wake_by_a_2xx_alone(outcome, status, word):
    """One that has NAS come again has accepted nothing."""
    body = answering.body_of(replace(report_of(ARMED, status=status), outcome=outcome))
    assert (body["status"], body.get("next")) == (word, {"fire_at": "x"} if status < 300 else None)


def test_what_nas_owes_again_is_remembered_by_a_wake_that_stands_behind_it_alone():
    """A fire that was told that it is early comes again; whatever else is sent replaces it."""
    owing, wire = replace(ARMED, owed=NOW), context().wire
    behind = arming.on_its_way(owing, WAKE, wire, NOW, ArmReason(behind=timedelta(minutes=6)))
    assert behind.owed == NOW
    assert behind.fire_at == max(WAKE.at, NOW + timedelta(minutes=6))
    assert arming.on_its_way(owing, WAKE, wire, NOW).owed is None


def test_what_a_clock_ahead_has_sent_is_no_arm_of_a_wake_and_is_still_to_be_cancelled_where_none_is_wanted():
    """It stands for too late, and all the same NAS has it from this store."""
    astray = replace(ARMED, sent_at=NOW + 24 * HOUR, fire_at=NOW + 25 * HOUR)
    wire = context().wire
    assert [wish.sent.fire_at for wish in reconcile._wishes({"j": WAKE}, {"j": astray}, wire, context())] == [None]
    assert [wish.sent.fire_at for wish in reconcile._wishes({"j": None}, {"j": astray}, wire, context())] == [
        astray.fire_at
    ]
