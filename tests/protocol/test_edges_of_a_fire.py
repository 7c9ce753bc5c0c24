"""Rules of a fire, of what it notes, and of the look after its answer, each at its edge and by itself."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.contract import KEEP
from chronos_cli.core.decision import Decision, Outcome
from chronos_cli.core.plan import ArmState
from chronos_cli.core.row import RunState
from chronos_cli.errors import DocumentError, ExitCode, TemporaryError
from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import Arm
from chronos_cli.operations.arming import slot_memory
from chronos_cli.operations.firing import after_answer, answering, fire
from chronos_cli.operations.firing.answering import Door
from chronos_cli.operations.firing.probe import PROBE_ID
from tests.protocol.test_arming_rules import ARMED, HOUR, NOW, SECOND, WAKE, ListingNas, context, noted, relay, stored

CLAIMED = Decision(outcome=Outcome.CLAIMED, wake=replace(WAKE, at=NOW + 2 * HOUR))


def test_a_refusal_stands_though_the_token_names_its_generation():
    """NAS has refused this identity; only a new provision tells that it does so no more."""
    refused = replace(ARMED, state=ArmState.REFUSED, answered_to="d")
    assert noted(refused, relay(generation=ARMED.generation)).state is ArmState.REFUSED


@pytest.mark.parametrize(("spent", "named", "counts"), [(False, WAKE.at, 1), (False, NOW, 0), (True, WAKE.at, 0), (False, None, 0)])  # fmt: skip
def test_a_wake_that_an_answer_left_in_place_counts_once_when_it_comes(spent, named, counts):
    """By its own instant, the first time that it is delivered."""
    ctx = context(replace(ARMED, in_answer=True, spent=spent))
    fire._note(ctx, "j", CLAIMED, relay(named), began=NOW, door=None)
    memory = slot_memory.recall(ctx)
    assert (0 if memory is None else memory.delivered) == counts


def test_what_was_learned_of_a_slot_is_believed_for_less_than_a_month():
    """At thirty days it is to be learned anew."""
    memory = slot_memory.SlotMemory(
        portal_url="https://nas", audience="agent:1", delivered=slot_memory.ENOUGH, since=NOW
    )
    wire = context().wire
    assert memory.keeps(wire, NOW + slot_memory.KEPT_FOR - SECOND)
    assert not memory.keeps(wire, NOW + slot_memory.KEPT_FOR)
    assert not replace(memory, delivered=slot_memory.ENOUGH - 1).keeps(wire, NOW)


def test_a_fire_without_a_nas_waits_for_its_run_and_arms_nothing():
    """Whatever another NAS was once seen to do."""
    ctx = context(ARMED)
    slot_memory.note_answers(ctx, ctx.wire, taken=True)
    ctx.wire = None
    row = SimpleNamespace(state=RunState.OK)
    run = SimpleNamespace(first_of=lambda going: going[0], wait=lambda: row)
    report = fire.FireReport(
        job_id="j", outcome=Outcome.CLAIMED, http_status=202, exit_code=ExitCode.OK, next=KEEP
    )  # fmt: skip
    ended = fire._ended(ctx, report, [run])
    assert (ended.http_status, ended.runs, ended.next) == (200, (row,), KEEP)


MINE = Arm(job_id="j", fire_at=WAKE.at, fire_at_text="", schedule_id="s")
NEAR = replace(ARMED, wake=NOW, fire_at=NOW, sent_at=NOW - HOUR, in_answer=True)


class Looks:
    """Looks after an answer: what NAS lists at each, and what became of the document meanwhile."""

    def __init__(self, monkeypatch, document, *lists, then=()):
        self.lists, self.then, self.waits, self.armed = iter(lists), iter(then), [], []
        self.ctx = context(document, nas=self)
        monkeypatch.setattr(after_answer, "present_wake", lambda *_: WAKE)
        monkeypatch.setattr(
            after_answer, "rearm", lambda _, job_id, wake, *, force: self.armed.append((job_id, wake, force))
        )

    server_time = None

    def __enter__(self):
        change = next(self.then, None)
        if change:
            self.ctx.repository.arms.change("j", lambda document: replace(document, **change))
        return ListingNas(next(self.lists))

    def __exit__(self, *error):
        return None

    def look(self):
        return after_answer.arm_again_if_deleted(self.ctx, "j", self.waits.append)


def test_a_wake_that_is_not_there_after_the_answer_is_armed_anew(monkeypatch):
    """It is looked for twice; one that is there the second time is left."""
    gone = Looks(monkeypatch, ARMED, [], [])
    slot_memory.note_probed(gone.ctx, keeps=True)
    assert gone.look() is True
    assert slot_memory.recall(gone.ctx).delivered == 0
    assert (gone.waits, gone.armed) == ([1.0, 4.0], [("j", WAKE, True)])
    there = Looks(monkeypatch, ARMED, [], [MINE])
    assert there.look() is False
    assert (there.waits, there.armed) == ([1.0, 4.0], [])


def test_a_wake_that_came_due_meanwhile_is_looked_for_once_more(monkeypatch):
    """It was there at first, and is rather in flight than deleted; where nobody was called by then, it is gone."""
    due = replace(MINE, fire_at=NOW)
    late = Looks(monkeypatch, NEAR, [due], [], [])
    assert late.look() is True
    assert (late.waits, late.armed) == ([1.0, 4.0, 10.0], [("j", WAKE, True)])
    called = Looks(monkeypatch, NEAR, [due], [], [], then=({}, {}, {"spent": True}))
    assert called.look() is False
    assert (len(called.waits), called.armed) == (3, [])


def test_what_an_answer_carried_and_nas_lists_is_confirmed(monkeypatch):
    """That shows that NAS arms by answers, where nothing else ever told it of this instant."""
    answered = replace(ARMED, state=ArmState.ANSWERED, answered_to="d", only_answered=True)
    seen = Looks(monkeypatch, answered, [MINE])
    assert seen.look() is False
    assert (stored(seen.ctx).state, stored(seen.ctx).schedule_id) == (ArmState.CONFIRMED, "s")
    assert slot_memory.takes_answers(seen.ctx, seen.ctx.wire) is True
    never = Looks(monkeypatch, answered, [], [])
    assert never.look() is True
    assert slot_memory.takes_answers(never.ctx, never.ctx.wire) is False


def test_what_somebody_sends_meanwhile_is_his_to_see_to(monkeypatch):
    """Unless NAS had confirmed it before the look, and it is gone by then: a run's end sent it, before NAS cleared its slot."""
    later = {"fire_at": WAKE.at + HOUR, "in_answer": False}
    sending = Looks(
        monkeypatch, ARMED, [], [], then=({}, later | {"confirmed_at": None, "state": ArmState.UNCONFIRMED})
    )
    assert (sending.look(), sending.armed) == (False, [])
    taken = {"confirmed_at": NOW, "state": ArmState.CONFIRMED}
    just_now = Looks(monkeypatch, ARMED, [], [], [replace(MINE, fire_at=later["fire_at"])], then=({}, later | taken))
    assert (just_now.look(), just_now.armed) == (False, [])
    confirmed = Looks(monkeypatch, ARMED, [], [], then=({}, later | {"confirmed_at": NOW - timedelta(seconds=1)}))
    assert (confirmed.look(), len(confirmed.armed)) == (True, 1)


def test_a_wake_that_a_clock_ahead_of_this_one_calls_confirmed_is_asked_for_once_more(monkeypatch):
    """NAS may have taken it after it was listed, or have cleared its slot since: the next list tells which."""
    later = {"fire_at": WAKE.at + HOUR, "in_answer": False, "confirmed_at": NOW + HOUR, "state": ArmState.CONFIRMED}
    gone = Looks(monkeypatch, ARMED, [], [], [], then=({}, later))
    assert (gone.look(), gone.armed) == (True, [("j", WAKE, True)])
    for more in ({"fire_at": WAKE.at + 2 * HOUR}, {"spent": True}):
        again = Looks(monkeypatch, ARMED, [], [], [], then=({}, later, more))
        assert (again.look(), again.armed) == (False, [])
    for more in ({"state": ArmState.UNCONFIRMED}, {"in_answer": True}):
        under_way = Looks(monkeypatch, ARMED, [], [], then=({}, later | more))
        assert (under_way.look(), under_way.armed) == (False, [])


@pytest.mark.parametrize(
    ("by_answer", "door", "said"), [(True, Door(), KEEP), (False, Door(), None), (True, None, None)]
)
def test_a_probe_leaves_what_nas_holds_where_its_answer_could_carry_a_wake(by_answer, door, said):
    """It is no job: nothing is settled, run or armed."""
    report = fire.fire(
        context(), PROBE_ID, fire_at=NOW, delivery="d", launcher=None, by_answer=by_answer, door=door
    )  # fmt: skip
    assert (report.outcome, report.next, report.http_status) == (Outcome.PROBE, said, 200)


def report_of(outcome=Outcome.CLAIMED, status=202):
    return fire.FireReport(job_id="j", outcome=outcome, http_status=status, exit_code=ExitCode.OK)


@pytest.mark.parametrize("error", [TemporaryError("no room"), OSError("no room")])
def test_a_run_that_cannot_be_started_is_said_on_the_job_and_asked_for_again(error):
    """By 503, after half a minute; the job says so until it runs."""
    ctx = context(ARMED)
    report = fire._not_started(ctx, report_of(), error)
    assert (report.http_status, report.exit_code, report.retry_after) == (503, ExitCode.TEMPORARY, fire.RETRY_AFTER_S)
    assert report.reason == "no runner could be started: no room"
    assert stored(ctx).last_fire_error == {"at": NOW.isoformat(), "detail": "no room"}


def test_an_arm_that_cannot_be_read_after_a_runs_end_has_nas_come_again(monkeypatch):
    """What it holds is not known."""
    monkeypatch.setattr(fire, "present_wake", lambda *_: WAKE)
    ctx = context()

    def closed(job_id):
        raise DocumentError("closed to us", hint="open it")

    ctx.repository.arms.get = closed
    assert "closed to us" in fire._unarmed_since(ctx, report_of())
    run = SimpleNamespace(first_of=lambda going: going[0], wait=lambda: SimpleNamespace(state=RunState.OK))
    ended = fire._ended(ctx, report_of(), [run])
    assert (ended.http_status, ended.retry_after) == (503, fire.RETRY_AFTER_S)


@pytest.mark.parametrize(
    ("states", "status", "code"),
    [([RunState.OK], 200, ExitCode.OK), ([RunState.FAILED], 200, ExitCode.JOB_FAILED), ([RunState.RUNNING], 200, ExitCode.OK),
     ([RunState.OK, RunState.LOST], 200, ExitCode.JOB_FAILED), ([], 202, ExitCode.OK)],
)  # fmt: skip
def test_what_is_waited_for_decides_the_answer(states, status, code):
    """A run that is over was claimed and done; one that nobody waits for was accepted."""
    ctx = context()
    ctx.wire = None
    runs = [
        SimpleNamespace(first_of=lambda going: going[0], wait=lambda state=state: SimpleNamespace(state=state))
        for state in states
    ]
    ended = fire._ended(ctx, report_of(), runs)
    assert (ended.http_status, ended.exit_code) == (status, code)
    early = fire._ended(ctx, report_of(Outcome.EARLY, 503), runs)
    assert early.http_status == 503


def test_a_run_whose_end_is_not_on_record_has_nas_come_again():
    """That fire settles it."""

    def fails():
        raise TemporaryError("the disk is full")

    ended = fire._ended(context(), report_of(), [SimpleNamespace(first_of=lambda going: going[0], wait=fails)])
    assert (ended.http_status, ended.retry_after, ended.reason) == (503, fire.RETRY_AFTER_S, "the disk is full")


@pytest.mark.parametrize(("keeps", "delivered", "missed"), [(True, slot_memory.ENOUGH, None), (False, 0, NOW)])
def test_a_probe_teaches_what_an_answer_does_to_the_slot(keeps, delivered, missed):
    """Where there is a NAS; what jobs have shown of it already stays."""
    ctx = context()
    slot_memory.note_answers(ctx, ctx.wire, taken=True)
    slot_memory.note_probed(ctx, keeps=keeps)
    memory = slot_memory.recall(ctx)
    assert (memory.delivered, memory.missed_at, memory.answers) == (delivered, missed, True)
    shown = ctx.repository.read(slot_memory.MEMORY_KEY)
    if keeps:
        ctx.clock = lambda: NOW + HOUR
        slot_memory.note_probed(ctx, keeps=True)
        assert ctx.repository.read(slot_memory.MEMORY_KEY) == shown
    ctx = context()
    ctx.wire = None
    slot_memory.note_probed(ctx, keeps=keeps)
    assert slot_memory.recall(ctx) is None


@pytest.mark.parametrize(
    ("change", "armed"),
    [({}, True), ({"callback_url": "https://old"}, False), ({"state": ArmState.UNCONFIRMED}, False)],
)
def test_what_a_runs_end_has_armed_is_carried_only_where_nas_holds_it_for_us(change, armed, monkeypatch):
    """Else it is sent again."""
    ctx, called = context(replace(ARMED, generation=9, **change)), []
    monkeypatch.setattr(answering, "present_wake", lambda *_: WAKE)
    monkeypatch.setattr(answering, "answer_with", lambda *given: called.append(given[-1] is None) or ARMED)
    report = replace(report_of(status=200), arm=ARMED, runs=(ARMED,), next={"fire_at": "x"})
    answering.carried_to_the_end(ctx, report, relay(NOW), Door(within_s=60.0))
    assert called == [armed]
