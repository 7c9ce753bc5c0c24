"""Rules of what a fire arms and answers, each at its edge: when NAS is called, and what becomes of what it says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Decision, Outcome, Start
from chronos_cli.core.plan import WANTED, ArmReason, ArmState
from chronos_cli.errors import ExitCode, NasUnavailableError, TemporaryError
from chronos_cli.frozen import replace
from chronos_cli.operations.arming import slot_memory
from chronos_cli.operations.arming.arm import on_its_way
from chronos_cli.operations.arming.carried import carry
from chronos_cli.operations.evaluate import Evaluation
from chronos_cli.operations.firing import answering, fire, run_end
from chronos_cli.operations.firing.answering import Door
from tests.core.making import T, entry, job
from tests.protocol.test_arming_rules import ARMED, HOUR, NOW, SECOND, WAKE, Nas, context, relay, stored

JOB = job(ours={"open": [entry(T)]})
LATER = replace(WAKE, at=WAKE.at + HOUR)
UNDER_WAY = replace(ARMED, state=ArmState.UNCONFIRMED, in_answer=True, sent_at=NOW)


@pytest.mark.parametrize(
    ("document", "wake", "force", "armed"),
    [
        (ARMED, WAKE, False, None), (ARMED, WAKE, True, True), (ARMED, LATER, False, False), (ARMED, None, False, False),
        (None, None, False, None), (None, None, True, None), (None, WAKE, False, False), (None, WAKE, True, True),
        (UNDER_WAY, WAKE, False, None), (UNDER_WAY, WAKE, True, True), (UNDER_WAY, LATER, False, False),
        (replace(ARMED, state=ArmState.ANSWERED), WAKE, True, False), (replace(ARMED, owed=NOW), WAKE, True, None),
        (replace(ARMED, owed=NOW), LATER, True, True), (replace(ARMED, owed=NOW, state=ArmState.UNCONFIRMED), WAKE, False, False),
    ],
)  # fmt: skip
def test_after_a_runs_end_its_wake_is_armed_once(document, wake, force, armed, monkeypatch):
    """Not where it stands, is being sent, or is owed; by a new key where NAS may have cleared its slot since."""
    ctx = context(*([] if document is None else [document]), nas=Nas())
    sent = []
    monkeypatch.setattr(
        run_end, "arm", lambda _, nas, job_id, wake, reason: sent.append((job_id, wake, reason.dropped)) or ARMED
    )
    found = run_end.rearm(ctx, "j", wake, force=force)
    assert sent == ([] if armed is None else [("j", wake, armed)])
    assert found == (document if armed is None else ARMED)
    ctx.wire = None
    assert run_end.rearm(ctx, "j", wake, force=force) is None


class Fire:
    """A fire whose look, launches and arming are played."""

    def __init__(
        self, monkeypatch, decision, *, found=JOB, launches=(), error=None, document=ARMED, arms=None, wire=True, **how
    ):
        self.told, self.ctx = [], context(document, nas=Nas())
        self.ctx.token, self.ctx.outbox = lambda: "t", []
        self.ctx.wire = self.ctx.wire if wire else None
        self.ctx.heard = lambda heard: SimpleNamespace(**{**vars(self.ctx), "trust": Trust.CONFIRMED})
        monkeypatch.setattr(
            fire,
            "replace",
            lambda thing, **changes: (
                SimpleNamespace(**{**vars(thing), **changes})
                if isinstance(thing, SimpleNamespace)
                else replace(thing, **changes)
            ),
        )

        def looked(ctx, job_id, came):
            self.trust, self.came = ctx.trust, came
            return Evaluation(decision=decision, job=found)

        def launch_each(ctx, looked, launcher):
            yield from launches
            if error is not None:
                raise error

        def arm(ctx, nas, job_id, wake, reason, **options):
            self.told.append(("armed", wake, options["in_answer"]))
            if isinstance(arms, Exception):
                raise arms
            return arms or ARMED

        monkeypatch.setattr(fire, "evaluate", looked)
        monkeypatch.setattr(fire, "launch_each", launch_each)
        monkeypatch.setattr(fire, "arm", arm)
        monkeypatch.setattr(fire, "_unarmed_since", lambda *_: None)
        self.report = fire.fire(
            self.ctx, "j", fire_at=how.pop("fire_at", NOW), delivery="d", launcher=None, begun=lambda report: self.told.append("begun"),
            elsewhere=lambda: self.told.append("elsewhere") or raised(TemporaryError("not known")), **how,
        )  # fmt: skip


def raised(error):
    raise error


def run(state="ok"):
    return SimpleNamespace(first_of=lambda going: going[0], wait=lambda: None)


START = Start(entry=JOB.open[0], attempt=1)
CLAIMED = Decision(outcome=Outcome.CLAIMED, starts=(START,), wake=LATER)


def test_what_was_claimed_is_armed_in_the_fires_own_request_and_accepted(monkeypatch):
    """Its run has begun by then."""
    fired = Fire(monkeypatch, CLAIMED, launches=[run()])
    assert (fired.report.outcome, fired.report.http_status, fired.report.started) == (
        Outcome.CLAIMED,
        202,
        (START.entry.run,),
    )
    assert fired.told == [("armed", LATER, True), "begun"]


def test_a_run_that_another_fire_has_started_is_a_duplicate(monkeypatch):
    """That one answers for it."""
    fired = Fire(monkeypatch, CLAIMED)
    assert (fired.report.outcome, fired.report.http_status, fired.report.started) == (Outcome.DUPLICATE, 200, ())


@pytest.mark.parametrize("error", [TemporaryError("no room"), OSError("no room")])
def test_a_run_that_does_not_start_is_come_again_for_and_nothing_is_armed(error, monkeypatch):
    """The claim stands; what has started beside it is waited for."""
    waited = []
    going = SimpleNamespace(first_of=lambda going: going[0], wait=lambda: waited.append(1))
    fired = Fire(monkeypatch, CLAIMED, launches=[going], error=error)
    assert (fired.report.http_status, fired.told, waited) == (503, ["begun"], [1])


@pytest.mark.parametrize(
    ("arms", "status", "said"),
    [(NasUnavailableError("silent"), 503, "its wake could not be armed: silent"), (None, 202, None),
     (replace(ARMED, state=ArmState.REFUSED), 202, "arm: refused")],
)  # fmt: skip
def test_an_arm_that_fails_has_nas_come_again_while_the_run_goes_on(arms, status, said, monkeypatch):
    """One that is refused for good does not."""
    fired = Fire(monkeypatch, CLAIMED, launches=[run()], arms=arms)
    assert (fired.report.http_status, fired.report.reason) == (status, said)
    assert fired.report.retry_after == (fire.RETRY_AFTER_S if status == 503 else None)


@pytest.mark.parametrize(
    ("outcome", "wake", "arms"),
    [
        (Outcome.EARLY, LATER, False),
        (Outcome.IDLE, LATER, True),
        (Outcome.DUPLICATE, None, False),
        (Outcome.IGNORED, LATER, False),
    ],
)
def test_only_what_is_to_come_is_armed(outcome, wake, arms, monkeypatch):
    """Who comes early comes again by itself, and what is out of force wants nothing."""
    fired = Fire(monkeypatch, Decision(outcome=outcome, wake=wake), home_is_named=True)
    assert fired.told == ([("armed", LATER, True)] if arms else []) + ["begun"]
    assert fired.report.http_status == (503 if outcome is Outcome.EARLY else 200)


def test_what_nothing_here_takes_may_be_another_homes_unless_this_one_was_named(monkeypatch):
    """Then it is answered here."""
    gone = Decision(outcome=Outcome.GONE)
    with pytest.raises(TemporaryError, match="not known"):
        Fire(monkeypatch, gone, found=None)
    named = Fire(monkeypatch, gone, found=None, home_is_named=True)
    assert (named.report.outcome, named.report.next, named.told) == (Outcome.GONE, None, ["begun"])
    asked = Fire(monkeypatch, gone, found=None, home_is_named=True, by_answer=True, door=Door())
    assert asked.report.next == "keep"


@pytest.mark.parametrize(
    ("heard", "trust"), [(None, Trust.ALONE), (NOW + HOUR, Trust.ALONE), (NOW + SECOND, Trust.CONFIRMED)]
)
def test_only_a_token_of_just_now_is_a_witness(heard, trust, monkeypatch):
    """One that is far from our clock is only old."""
    fired = Fire(monkeypatch, Decision(outcome=Outcome.IDLE), heard=heard)
    assert (fired.trust, fired.came.fire_at, fired.came.delivery) == (trust, NOW, "d")


def test_an_answer_carries_only_where_it_goes_to_nas_as_a_whole(monkeypatch):
    """And where the token asks for it."""
    idle = Decision(outcome=Outcome.IDLE, wake=None)
    for by_answer, door, carries in ((True, Door(), True), (True, None, False), (False, Door(), False)):
        fired = Fire(
            monkeypatch, idle, by_answer=by_answer, door=door, document=replace(ARMED, state=ArmState.CANCELLED)
        )
        assert (fired.came.by_answer, fired.report.next is not None) == (carries, carries)


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_wake_that_changes_while_it_is_carried_is_carried_anew(rounds, monkeypatch):
    """NAS is called beside the answer only where that alone may not do."""
    ctx, needs = context(ARMED), iter([LATER] * rounds * 2 + [LATER, LATER, LATER])
    slot_memory.note_answers(ctx, ctx.wire, taken=True)
    monkeypatch.setattr(answering, "present_wake", lambda *_: next(needs))
    called = []
    monkeypatch.setattr(answering, "arm", lambda *_, **__: called.append(1))
    wake = WAKE if rounds else LATER
    document = answering.answer_with(ctx, ARMED, wake, relay(NOW, delivery="d"), Door(within_s=60.0), WANTED)
    assert (document.wake, document.state, document.answered_to, called) == (LATER.at, ArmState.ANSWERED, "d", [])
    assert stored(ctx) == document


def test_an_answer_that_may_come_too_late_is_armed_beside(monkeypatch):
    """Once, unless a run's end has done so since the fire came."""
    monkeypatch.setattr(answering, "present_wake", lambda *_: WAKE)
    for armed, calls in ((False, 1), (True, 0)):
        ctx, called = context(ARMED, nas=Nas()), []
        monkeypatch.setattr(answering, "arm", lambda *_, in_answer, called=called, **__: called.append(in_answer))
        answering.answer_with(
            ctx, ARMED, WAKE, relay(NOW, delivery="d"), Door(within_s=None), None if armed else WANTED
        )
        assert called == [True] * calls


def test_a_wake_that_never_stands_still_is_not_carried(monkeypatch):
    """NAS comes again."""
    number = iter(range(1, 100))
    ctx = context(ARMED)
    slot_memory.note_answers(ctx, ctx.wire, taken=True)
    monkeypatch.setattr(answering, "present_wake", lambda *_: replace(WAKE, at=WAKE.at + next(number) * HOUR))
    with pytest.raises(TemporaryError, match="changed under every attempt to arm it"):
        answering.answer_with(ctx, ARMED, WAKE, relay(NOW, delivery="d"), Door(within_s=60.0), WANTED)


def test_the_status_of_a_fire_decides_its_exit_code():
    """Held and early ones are tried again."""
    assert [fire._EXIT.get(outcome, ExitCode.OK) for outcome in (Outcome.HELD, Outcome.EARLY, Outcome.IDLE)] == [
        ExitCode.TEMPORARY, ExitCode.TEMPORARY, ExitCode.OK
    ]  # fmt: skip


MINUTES = 360 * SECOND


@pytest.mark.parametrize(("ahead", "sent"), [(60 * SECOND, MINUTES), (MINUTES, MINUTES), (HOUR, HOUR)])
def test_what_stands_behind_an_owed_fire_is_so_far_ahead_at_least(ahead, sent):
    """What NAS owes is remembered by it alone."""
    wake, owed = replace(WAKE, at=NOW + ahead), replace(ARMED, owed=NOW)
    behind = on_its_way(owed, wake, context().wire, NOW, ArmReason(behind=MINUTES))
    assert (behind.wake, behind.fire_at - NOW, behind.owed) == (wake.at, sent, NOW)
    plain = on_its_way(owed, wake, context().wire, NOW)
    assert (plain.fire_at - NOW >= ahead, plain.owed, plain.idle) == (True, None, 0)
    assert on_its_way(replace(ARMED, idle=2), wake, context().wire, NOW, ArmReason(idle_fire=NOW)).idle == 3


def test_an_answer_names_the_runs_that_were_started():
    """And says nothing of them where there are none."""
    report = fire.FireReport(job_id="j", outcome=Outcome.CLAIMED, http_status=202, exit_code=ExitCode.OK)
    assert report.as_json() == {"result": "claimed", "job_id": "j"}
    assert replace(report, started=("r",)).as_json()["runs"] == ["r"]


def test_a_job_that_is_in_no_home_leaves_what_nas_holds_where_an_answer_could_change_it():
    """Nobody knows what it wants."""
    assert [answering.gone_body("j", by_answer=by_answer).get("next") for by_answer in (True, False)] == ["keep", None]


def test_what_was_seen_of_another_portals_answers_is_begun_anew():
    """Its slot as well."""
    ctx = context()
    slot_memory.note_probed(ctx, keeps=True)
    slot_memory.note_answers(ctx, ctx.wire, taken=True)
    other = replace(ctx.wire, portal_url="https://other")
    slot_memory.note_answers(ctx, other, taken=True)
    memory = slot_memory.recall(ctx)
    assert (memory.portal_url, memory.answers, memory.delivered) == ("https://other", True, 0)
    assert slot_memory.takes_answers(ctx, ctx.wire) is None


def test_without_a_nas_a_fire_is_noted_and_nothing_is_armed(monkeypatch):
    """Whatever its token asks for."""
    fired = Fire(monkeypatch, CLAIMED, launches=[run()], wire=False, by_answer=True, door=Door())
    assert (fired.told, fired.report.http_status, fired.report.next) == (["begun"], 202, "keep")
    assert fired.report.arm.last_callback == "claimed"


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        (WANTED, 0 * SECOND), (ArmReason(dropped=True), SECOND), (ArmReason(behind=2 * HOUR), HOUR),
        (ArmReason(idle_fire=WAKE.at + MINUTES), MINUTES + SECOND),
    ],
)  # fmt: skip
def test_an_arm_that_stands_is_carried_as_it_is_only_where_the_wake_is_plainly_wanted(reason, sent):
    """Any other reason has it sent anew, for an instant of its own."""
    ctx = context(ARMED)
    document = carry(ctx, "j", WAKE, reason, delivery="d", above=None)
    assert document.fire_at - WAKE.at == sent
    assert (document.state is ArmState.CONFIRMED) is (reason == WANTED)
