"""Rules of a tick and of a reconcile, each at its edge and by itself."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.core.claim import run_id_of
from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Decision, FireRequest, Liveness, Outcome, Purpose, Start, Trigger, Wake
from chronos_cli.core.plan import Action, ArmState, Removals
from chronos_cli.core.row import RunState, begun, row_of
from chronos_cli.errors import DocumentError, HeldError, NasRejectedError, StandbyError, TemporaryError
from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import Arm, ArmAnswer, ArmList, CallResult
from chronos_cli.operations import evaluate as evaluation
from chronos_cli.operations import witness
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.arming import reconcile
from chronos_cli.operations.arming.arm import STALE_GENERATION
from chronos_cli.operations.context import FleetJobs
from chronos_cli.operations.evaluate import Evaluation, evaluate
from chronos_cli.operations.firing import tick
from chronos_cli.store.repository import STOP_KEY
from tests.core.making import T, at, entry, job, record
from tests.faults.world import World
from tests.protocol.test_arming_rules import ARMED, HOUR, NOW, WAKE, context, stored
from tests.protocol.test_rules_of_looks import home

IDLE = Evaluation(decision=Decision(outcome=Outcome.IDLE), job=None)


def ticking(monkeypatch, *records, **more):
    """A home whose looks find nothing to do; what is looked at, and whether alerts were sent."""
    ctx, told = home(*records, **more), []
    ctx.must_be_active, ctx.wire, ctx.send_alerts = lambda _: None, None, lambda: told.append("alerts")

    def together(_, fires):
        told.append([job_id for job_id, _ in fires])
        return [IDLE] * len(fires)

    monkeypatch.setattr(tick, "evaluate_together", together)
    return ctx, told


def named(job_id, seconds):
    return record(next_run_at=None if seconds is None else at(seconds).isoformat()) | {"id": job_id}


def test_what_has_waited_longest_is_claimed_first_and_alerts_go_out_at_the_end(monkeypatch):
    """One without a next time counts as due now; a job that is not due is left alone."""
    ctx, told = ticking(monkeypatch, named("a", -60), named("b", None), named("c", -600), named("d", 60))
    tick.tick(ctx, None)
    assert told == [["c", "a", "b"], "alerts"]


def test_nas_is_asked_for_its_clock_only_where_that_settles_something(monkeypatch):
    """A job that is long late needs a witness; one that has just come due does not."""
    late = -3 * 86_400
    for seconds, trust, heard in ((-60, Trust.UNHEARD, 0), (late, Trust.UNHEARD, 1), (late, Trust.ALONE, 0)):
        ctx, _ = ticking(monkeypatch, named("a", seconds), trust=trust)
        asked = []
        monkeypatch.setattr(tick, "hear", lambda ctx, asked=asked: asked.append(1) or ctx)
        tick.tick(ctx, None)
        assert len(asked) == heard


def test_a_hold_that_is_over_by_a_clock_that_was_ahead_stands(monkeypatch):
    """NAS's clock tells so: nothing is claimed."""
    ctx, told = ticking(monkeypatch, named("a", 0), trust=Trust.UNHEARD, now=T + timedelta(days=3))
    ends = {"reason": "a test", "expires_at": at(3_600).isoformat()}
    ctx.repository.documents.create(STOP_KEY, json.dumps(ends).encode())
    right = SimpleNamespace(**{**vars(ctx), "clock": lambda: T, "trust": Trust.CORRECTED})
    monkeypatch.setattr(tick, "hear", lambda _: right)
    with pytest.raises(HeldError, match="a test"):
        tick.tick(ctx, None)
    assert told == []


def test_a_next_time_of_another_offset_is_looked_at_before_it_comes():
    """It is put right by the first tick, not at the wrong time."""
    daily = {"schedule": {"kind": "cron", "expr": "0 9 * * *"}}
    assert tick.is_due(job(next_run_at="2026-11-29T09:00:00+06:00", **daily), T)
    assert not tick.is_due(job(next_run_at="2026-11-29T09:00:00+00:00", **daily), T)


@pytest.mark.parametrize("trust", [Trust.UNHEARD, Trust.CONFIRMED, Trust.CORRECTED])
def test_what_was_sent_by_a_clock_ahead_is_known_once_a_witness_is_heard(trust):
    """Else it may be this one that is behind; what is no longer wanted is dropped whatever its time."""
    ctx = context()
    ctx.trust = trust
    late = replace(ARMED, sent_at=NOW + HOUR, fire_at=WAKE.at + HOUR)
    (wish,) = reconcile._wishes({"j": WAKE}, {"j": late}, ctx.wire, ctx)
    assert wish.sent.fire_at == (late.fire_at if trust is Trust.UNHEARD else None)
    (wish,) = reconcile._wishes({"j": None}, {"j": late}, ctx.wire, ctx)
    assert (wish.sent.fire_at, wish.owes_cancel) == (late.fire_at, True)


class Listing:
    """A NAS that lists these, and notes what is dropped and sent."""

    def __init__(self, world, **held):
        self.arms = tuple(
            Arm(job_id=job_id, fire_at=fire_at, fire_at_text="", schedule_id="1")
            for job_id, instants in held.items()
            for fire_at in instants
        )
        self.dropped, real = [], world.nas
        real.list = lambda: ArmList(arms=self.arms)
        real.cancel = lambda job_id, generation=None: self.dropped.append(job_id)


def test_only_where_nas_holds_several_timers_of_a_job_are_all_of_them_dropped_first(tmp_path):
    """One that stands at another time is replaced by the new one."""
    world = World(tmp_path, job_ids=("a", "b"))
    nas = Listing(
        world, a=[world.cursor("a") + 5 * HOUR, world.cursor("a") + 6 * HOUR], b=[world.cursor("b") + 5 * HOUR]
    )
    result = reconcile.reconcile(world.context())
    assert {step.job_id: step.action for step in result.plan.steps} == {"a": Action.MOVE, "b": Action.MOVE}
    assert nas.dropped == ["a"]
    assert set(world.nas.held) == {"a", "b"}


@pytest.mark.parametrize(("same_agent", "action"), [((), Action.CANCEL), (("a",), Action.KEEP)])
def test_a_timer_of_a_job_that_two_homes_have_is_this_ones_unless_they_share_its_slot(tmp_path, same_agent, action):
    """What no job here has is the other's either way."""
    world = World(tmp_path, job_ids=("a",))
    reconcile.reconcile(world.context())
    held = world.nas.held["a"]
    world.context().repository.change(
        lambda jobs: jobs.put("a", {**jobs.get("a"), "enabled": False, "state": "paused"})
    )
    Listing(world, a=[held], x=[held])
    fleet = FleetJobs(profile_of={"a": "p", "x": "p"}, same_agent=frozenset(same_agent))
    ctx = replace(world.context(), elsewhere=lambda: fleet)
    plan = reconcile.reconcile(ctx, dry_run=True).plan
    assert {step.job_id: step.action for step in plan.steps} == {"a": action, "x": Action.KEEP}


CURSOR_ARM = replace(ARMED, wake=T, fire_at=T, keys={T: "cursor"})


@pytest.mark.parametrize(
    ("documents", "seconds", "change", "left"),
    [
        ([CURSOR_ARM], 0, {}, True), ([CURSOR_ARM], 29.9, {}, True), ([CURSOR_ARM], 30, {}, False), ([], 0, {}, False),
        ([replace(CURSOR_ARM, state=ArmState.UNCONFIRMED)], 0, {}, False), ([CURSOR_ARM], 0, {"next_run_at": None}, False),
        ([CURSOR_ARM], 0, {"ours": {"open": [entry(at(-300))]}}, False),
    ],
)  # fmt: skip
def test_what_nas_has_confirmed_to_hold_is_left_to_it_for_some_seconds(documents, seconds, change, left):
    """Not a run in hand, which nobody else may settle; nor what cannot be read."""
    ctx = context(*documents, now=at(seconds))
    assert tick._left_to_nas(ctx, job(**change), 30.0) is left
    ctx.repository.arms.get = lambda _: raised(DocumentError("closed"))
    assert tick._left_to_nas(ctx, job(**change), 30.0) is False
    ctx.wire = None
    assert tick._left_to_nas(ctx, job(**change), 30.0) is False


def raised(error):
    raise error


def test_only_a_job_in_force_or_with_a_run_in_hand_is_due():
    """Whatever its next time says."""
    off = {"state": "paused"}
    assert [tick.is_due(found, at(1)) for found in (job(), job(**off), job(ours={"open": [entry(T)]}, **off))] == [
        True,
        False,
        True,
    ]
    assert not tick.is_due(job(), at(-1))


def test_a_job_that_only_an_unheard_clock_calls_late_says_how_late():
    """In whole days; one without a next time is no day late."""
    late = job(next_run_at=(T - timedelta(days=3, hours=2)).isoformat())
    assert "it is 3 days late" in tick._unconfirmed(late, T).message
    assert "it is 0 days late" in tick._unconfirmed(job(next_run_at=None), T).message
    assert [tick._is_doubtful(late, T, trust) for trust in (Trust.UNHEARD, Trust.ALONE)] == [True, False]
    assert not tick._is_doubtful(job(next_run_at=None), T, Trust.UNHEARD)
    assert not tick._is_doubtful(job(state="paused", next_run_at=late.cursor.isoformat()), T, Trust.UNHEARD)


def test_a_tick_arms_only_where_there_is_a_nas_and_something_to_come(monkeypatch):
    """What NAS cannot be told is said of that job alone."""
    armed = []
    monkeypatch.setattr(tick, "rearm", lambda _, job_id, wake: armed.append((job_id, wake)))
    looked = Evaluation(decision=Decision(outcome=Outcome.IDLE, wake=WAKE), job=None)
    assert tick._rearm(SimpleNamespace(wire=None), "j", looked) == {}
    assert tick._rearm(SimpleNamespace(wire=1), "j", IDLE) == {}
    assert armed == []
    assert tick._rearm(SimpleNamespace(wire=1), "j", looked) == {}
    assert armed == [("j", WAKE)]
    silent = TemporaryError("it does not answer")
    monkeypatch.setattr(tick, "rearm", lambda *_: raised(silent))
    assert tick._rearm(SimpleNamespace(wire=1), "j", looked) == {"j": silent}


def test_a_witness_is_needed_where_it_decides_what_is_settled():
    """A single job's change asks for it as well where its next time is past."""
    late = job(next_run_at=(T - timedelta(days=3)).isoformat(), policy={"grace": 60})
    assert [witness.needs_witness(found, T) for found in (job(), late)] == [False, True]
    assert not witness.needs_witness(job(state="paused", next_run_at=late.cursor.isoformat()), T)
    going = job(ours={"open": [entry(T)]}, policy={"timeout": 60})
    assert [witness.needs_witness(going, at(seconds)) for seconds in (110, 110.1)] == [False, True]
    assert [witness._is_passed(job(), at(seconds)) for seconds in (-1, 0, 1)] == [False, True, True]
    assert witness._is_passed(job(state="paused"), T)
    assert not witness._is_passed(job(next_run_at=None), T)
    assert not witness._is_passed(job(state="completed"), T)


def test_the_jobs_of_a_store_that_can_be_read_are_looked_at(monkeypatch):
    """All of them, or those that are asked for."""
    ctx = home(record(), record() | {"id": "k"}, {"id": "torn", "schedule": 7}, "no record")
    assert [found.id for found in witness.stored_jobs(ctx)] == ["j", "k"]
    assert [found.id for found in witness.stored_jobs(ctx, {"k", "gone"})] == ["k"]


@pytest.mark.parametrize(("said", "trust"), [(T, Trust.CONFIRMED), (None, Trust.UNHEARD)])
def test_nas_is_asked_for_its_clock_by_a_list(said, trust):
    """Where it cannot be had, nothing is known of ours."""
    told = SimpleNamespace(
        heard=lambda witness: SimpleNamespace(trust=Trust.CONFIRMED, witness=witness), trust=Trust.UNHEARD
    )
    nas = SimpleNamespace(list=lambda: ArmList(arms=(), server_time=said))
    told.wire = SimpleNamespace(connect=lambda _: contextlib.nullcontext(nas))
    assert witness.hear(told).trust is trust
    told.wire = SimpleNamespace(connect=lambda _: raised(TemporaryError("it does not answer")))
    assert witness.hear(told) is told
    told.wire = None
    assert witness.hear(told) is told


def test_a_reconcile_of_some_jobs_leaves_the_timers_of_the_others(tmp_path):
    """Whatever NAS holds for them."""
    world = World(tmp_path, job_ids=("a", "b"))
    Listing(world, a=[world.cursor("a") + 5 * HOUR], b=[world.cursor("b") + 5 * HOUR], x=[world.cursor("a")])
    plan = reconcile.reconcile(world.context(), only=["a"], dry_run=True).plan
    assert {step.job_id: step.action for step in plan.steps} == {"a": Action.MOVE}


def test_what_nas_shows_as_held_is_confirmed_though_its_answer_was_lost(tmp_path):
    """With the name that NAS has for it."""
    world = World(tmp_path, job_ids=("a",))
    reconcile.reconcile(world.context())
    repository = world.context().repository
    repository.arms.change("a", lambda document: replace(document, state=ArmState.UNCONFIRMED, schedule_id=None))
    reconcile.reconcile(world.context())
    found = repository.arms.get("a").value
    assert (found.state, found.schedule_id) == (ArmState.CONFIRMED, "1")


@pytest.mark.parametrize(
    ("change", "wake", "now", "may"),
    [
        ({}, WAKE, 0, True), ({}, WAKE, 59, True), ({}, WAKE, 60, False), ({}, WAKE, -1, False),
        ({}, replace(WAKE, at=WAKE.at + timedelta(seconds=2)), 0, False), ({}, replace(WAKE, at=WAKE.at + timedelta(seconds=1)), 0, True),
        ({"purpose": "retry"}, WAKE, 0, False), ({"wake": None}, WAKE, 0, False), ({}, replace(WAKE, purpose=Purpose.RETRY), 0, False),
    ],
)  # fmt: skip
def test_what_was_sent_with_a_tolerance_may_come_until_that_is_over(change, wake, now, may):
    """A cursor alone, and one that is due."""
    document = replace(ARMED, tolerance=60, **change)
    assert reconcile._may_still_come(document, wake, WAKE.at + timedelta(seconds=now)) is may


class Dropping:
    """A NAS whose cancels fail in turn, and that notes their generations."""

    def __init__(self, *errors):
        self.errors, self.cancelled = list(errors), []

    def cancel(self, job_id, generation=None):
        self.cancelled.append(generation)
        if self.errors:
            raise self.errors.pop(0)

    def apply(self, requests, *, progress=None):
        for request in requests:
            error = self.errors.pop(0) if self.errors else None
            self.cancelled.append(request.generation)
            yield CallResult(request=request, error=error)


STALE = NasRejectedError("stale", reason=STALE_GENERATION, generation=2**52)
NUMBERED = replace(ARMED, features=("generation",))


@pytest.mark.parametrize(
    ("documents", "sure", "asked"),
    [([], False, 1), ([ARMED], False, 1), ([replace(ARMED, fire_at=NOW)], False, 0), ([replace(ARMED, fire_at=NOW)], True, 1),
     ([replace(ARMED, state=ArmState.CANCELLED)], False, 0)],
)  # fmt: skip
def test_what_nas_may_hold_is_dropped(documents, sure, asked):
    """Also where nothing says so, when it has to be sure. What is over already is not asked for."""
    ctx, nas = context(*documents), Dropping()
    document, stale = arming._drop(ctx, nas, "j", sure=sure)
    assert (len(nas.cancelled), stale) == (asked, False)
    assert document == (ctx.repository.arms.get("j").value if documents or asked else document)
    assert (document.state is ArmState.CANCELLED) is bool(asked or documents[0].state is ArmState.CANCELLED)


def test_a_slot_that_another_home_shares_is_not_dropped():
    """The document says that this one wants nothing of it."""
    ctx, nas = context(ARMED), Dropping()
    ctx.elsewhere = lambda: SimpleNamespace(same_agent={"j"})
    assert arming._drop(ctx, nas, "j", sure=False)[0].state is ArmState.CANCELLED
    assert nas.cancelled == []


def test_a_cancel_is_numbered_where_nas_numbers_wishes():
    """Newer than all that were sent; where NAS holds a newer one still, newer than that."""
    assert [arming.cancel_of("j", document, NOW).generation for document in (None, ARMED)] == [None, None]
    assert arming.cancel_of("j", NUMBERED, NOW).generation > NUMBERED.generation
    ctx, nas = context(NUMBERED), Dropping(STALE)
    document, stale = arming._drop(ctx, nas, "j", sure=False)
    assert (document.generation, document.state, stale) == (2**52, ArmState.CONFIRMED, True)
    with pytest.raises(NasRejectedError):
        arming._drop(ctx, Dropping(NasRejectedError("no")), "j", sure=False)


def test_a_cancel_that_a_person_asked_for_goes_on_until_nas_takes_it():
    """It is written down once it has; another error is handed on, and nothing noted."""
    ctx, nas = context(NUMBERED), Dropping(STALE)
    request = arming.cancel_of("j", NUMBERED, NOW)
    assert arming.drop_noted(ctx, nas, request, STALE) is None
    assert nas.cancelled == [2**52 + 1, 2**52 + 1]
    assert stored(ctx).state is ArmState.CANCELLED
    ctx, error = context(NUMBERED), TemporaryError("it does not answer")
    assert arming.drop_noted(ctx, nas, request, error) is error
    assert stored(ctx).state is ArmState.CONFIRMED


@pytest.mark.parametrize(
    ("sent_at", "fire_at", "astray"),
    [(601, 601, True), (600, 601, False), (601, 600, False), (-1, 601, False), (None, 601, False), (601, None, False)],
)
def test_only_what_a_clock_ahead_has_sent_for_later_than_it_is_meant_is_astray(sent_at, fire_at, astray):
    """By more than clocks part that agree."""
    sent = None if sent_at is None else NOW + timedelta(seconds=sent_at)
    document = replace(ARMED, sent_at=sent, fire_at=fire_at and WAKE.at + timedelta(seconds=fire_at))
    assert document.is_astray(WAKE, NOW) is astray


@pytest.mark.parametrize(
    ("at_once", "told"),
    [(0, ["abc", "a ends", "b ends", "c ends"]), (2, ["ab", "a ends", "c", "b ends", "c ends"]),
     (1, ["a", "a ends", "b", "b ends", "c", "c ends"])],
)  # fmt: skip
def test_what_waits_for_a_slot_is_claimed_when_one_is_free(at_once, told, monkeypatch):
    """Until then it is anybody's."""
    ctx, _ = ticking(monkeypatch, *(named(job_id, -60) for job_id in "abc"))
    said = []

    def together(_, fires):
        said.append("".join(job_id for job_id, _ in fires))
        return [IDLE] * len(fires)

    def launch(ctx, job_id, looked, launcher, running):
        wait = lambda: said.append(f"{job_id} ends")  # noqa: E731
        running.append((job_id, SimpleNamespace(first_of=lambda going: going[0], wait=wait)))

    monkeypatch.setattr(tick, "evaluate_together", together)
    monkeypatch.setattr(tick, "_launch", launch)
    tick.tick(ctx, None, max_parallel=at_once)
    assert said == told


def test_what_could_not_be_looked_at_or_started_keeps_no_other_from_running(monkeypatch):
    """It is said of that job alone."""
    ctx, _ = ticking(monkeypatch, named("a", -60), named("b", -50), named("c", -40))
    torn, full = DocumentError("torn"), OSError("no room")
    claimed = Evaluation(decision=Decision(outcome=Outcome.CLAIMED, starts=(START,), owed=(OWED,)), job=None)
    monkeypatch.setattr(tick, "evaluate_together", lambda *_: [torn, claimed, claimed])
    launches = iter([raises(full), lambda *_: iter(())])

    def launch_each(*args):
        return next(launches)(*args)

    monkeypatch.setattr(tick, "launch_each", launch_each)
    done = tick.tick(ctx, None)
    assert (done.failed["a"], done.failed["b"].message) == (torn, "no runner could be started: no room")
    assert (done.started, done.owed, set(done.failed)) == ((START.entry.run,), (OWED, OWED), {"a", "b"})


def raises(error):
    return lambda *_: raised(error)


START = Start(entry=job(ours={"open": [entry(T)]}).open[0], attempt=1)
OWED = row_of("j", START.entry, job().policy)


def test_what_a_look_owes_has_its_row_before_anything_else_is_done():
    """Also where the run waits for its turn behind another."""
    found = job(
        policy={"overlap": "queue"},
        next_run_at=at(300).isoformat(),
        ours={"claimed_through": T.isoformat(), "open": [entry(T)]},
    )
    ctx = home(dict(found.record), now=at(301))
    ctx.processes = SimpleNamespace(elapsed=lambda _: None, liveness=lambda _: Liveness.ALIVE, result=lambda _: None)
    ctx.must_be_active = lambda _: None
    ctx.repository.rows.create(
        begun(row_of("j", found.open[0], found.policy), starter="s", owner={}, now=T, lease_ends_at=at(9_000))
    )
    looked = evaluate(ctx, "j", FireRequest(via=Trigger.TICK, token="t"))
    assert looked.decision.outcome is Outcome.QUEUED
    assert ctx.repository.rows.get("j", "20261120T120500Z").value.state is RunState.QUEUED


def test_a_run_that_is_to_make_room_is_asked_to_end():
    """Once the newer occurrence is on record as queued."""
    found = job(
        policy={"overlap": "replace"},
        next_run_at=at(300).isoformat(),
        ours={"claimed_through": T.isoformat(), "open": [entry(T)]},
    )
    ctx, asked = home(dict(found.record), now=at(301)), []
    ctx.processes = SimpleNamespace(
        elapsed=lambda _: None, liveness=lambda _: Liveness.ALIVE, result=lambda _: None, ask_to_end=asked.append
    )
    ctx.must_be_active = lambda _: None
    row = begun(row_of("j", found.open[0], found.policy), starter="s", owner={}, now=T, lease_ends_at=at(9_000))
    ctx.repository.rows.create(row)
    assert evaluate(ctx, "j", FireRequest(via=Trigger.TICK, token="t")).decision.outcome is Outcome.QUEUED
    assert asked == [row]


def test_what_nas_holds_and_was_also_provisioned_teaches_nothing_of_answers(monkeypatch):
    """However it was first told of it."""
    told = []
    monkeypatch.setattr(reconcile, "note_answers", lambda *_, taken: told.append(taken))
    monkeypatch.setattr(reconcile, "note_missing", lambda *_: told.append("missing"))
    sent = replace(ARMED, only_answered=True, in_answer=True, sent_at=NOW - HOUR)
    reconcile._learn(context(), {"j": sent}, {"j": WAKE.at})
    assert told == []


@pytest.mark.parametrize(("wake", "rounds"), [(None, 1), (WAKE, 2)])
def test_a_wake_that_was_sent_by_a_clock_ahead_is_sent_again_once_nas_has_said_so(wake, rounds, monkeypatch):
    """What wants nothing is dropped by whatever clock."""
    monkeypatch.setattr(arming, "present_wake", lambda *_: wake)
    ahead = NOW + 3 * HOUR
    ctx, sent = context(replace(ARMED, sent_at=ahead, fire_at=ahead + HOUR), now=ahead), []
    right = context()
    right.repository, right.trust = ctx.repository, Trust.CORRECTED
    ctx.trust, ctx.heard = Trust.UNHEARD, lambda _: right

    def provision(request):
        sent.append(request.fire_at)
        return ArmAnswer(schedule_id="s")

    nas = SimpleNamespace(server_time=NOW, provision=provision, cancel=lambda *_: sent.append(None))
    document = arming.arm(ctx, nas, "j", wake)
    assert len(sent) == rounds
    assert document.fire_at == (WAKE.at if wake else ahead + HOUR)


@pytest.mark.parametrize(("hours", "doubts"), [(-1, ["a"]), (1, [])])
def test_by_a_clock_that_is_behind_nobody_doubts_what_is_ahead(hours, doubts, tmp_path):
    """By one that is ahead of NAS's it is said, and left as it is."""
    world = World(tmp_path, job_ids=("a",))
    far = (world.clock() + timedelta(days=900)).isoformat()
    world.context().repository.change(lambda jobs: jobs.put("a", {**jobs.get("a"), "next_run_at": far}))
    world.nas.list = lambda: ArmList(arms=(), server_time=world.clock() + timedelta(hours=hours))
    result = reconcile.reconcile(world.context(), dry_run=True)
    assert (list(result.doubts), result.trust) == (doubts, Trust.CORRECTED)


def test_rows_and_debts_ahead_of_a_clock_are_known():
    """None of these runs again."""
    ctx, found = home(record()), job(ours={"open": [entry(at(600)), entry(None, run="manual-20261120T121500Z-x")]})
    for seconds in (-300, 300):
        ctx.repository.rows.create(
            row_of("j", replace(START.entry, run=run_id_of(at(seconds)), fire_at=at(seconds)), found.policy)
        )
    assert evaluation._rows_ahead(ctx, found, T) == {at(300), at(600)}


@pytest.mark.parametrize(
    ("trust", "found", "asks"),
    [
        (Trust.UNHEARD, job(), True),
        (Trust.UNHEARD, job(next_run_at=at(300).isoformat()), False),
        (Trust.ALONE, job(), False),
    ],
)
def test_a_persons_change_of_what_is_past_asks_nas_for_its_clock(trust, found, asks):
    """Else it decides nothing for good."""
    nas = SimpleNamespace(list=lambda: ArmList(arms=(), server_time=T))
    ctx = SimpleNamespace(
        clock=lambda: at(1),
        trust=trust,
        wire=SimpleNamespace(connect=lambda _: contextlib.nullcontext(nas)),
        by_witness=lambda said: said,
    )
    assert witness.hear_for_change(ctx, found) is (T if asks else ctx)
    assert witness.hear_for_change(ctx) is ctx


def test_a_look_that_nas_will_see_to_sooner_is_left_as_it_was_sent():
    """Whoever it wakes finds nothing to do, and arms the next."""
    ctx = context()
    later = Wake(at=WAKE.at + HOUR, purpose=Purpose.LOOK)
    held = {"j": Arm(job_id="j", fire_at=WAKE.at, fire_at_text="", schedule_id="s")}
    for listed, at_ in ((held, WAKE.at), ({}, later.at)):
        (wish,) = reconcile._wishes({"j": later}, {"j": ARMED}, ctx.wire, ctx, listed)
        assert wish.wake.at == at_


def test_the_runs_that_did_not_end_well_are_told_apart():
    """Of those that ended while the tick waited."""
    rows = tuple(replace(OWED, state=state) for state in (RunState.OK, RunState.FAILED, RunState.LOST))
    done = tick.TickResult(started=(), rows=rows, failed={}, unarmed={}, doubts={})
    assert done.unsuccessful == rows[1:]


@pytest.mark.parametrize("via", list(Trigger))
def test_a_machine_on_standby_takes_nothing(via):
    """Who only settles or looks may."""
    ctx = home(record())

    def must_be_active(doing):
        raise StandbyError(f"{doing} is refused")

    ctx.must_be_active = must_be_active
    refused = via in (Trigger.RELAY, Trigger.TICK, Trigger.MANUAL)
    with pytest.raises(StandbyError) if refused else contextlib.nullcontext():
        evaluate(ctx, "j", FireRequest(via=via, token="t"))
    assert ctx.repository.rows.ids("j") == []


@pytest.mark.parametrize(
    ("prune", "held", "refused"), [(True, "x", True), (False, "x", False), (True, "a", False), (False, "a", False)]
)
def test_what_no_job_here_explains_is_pruned_only_where_all_other_homes_are_known(prune, held, refused, tmp_path):
    """It may be for a job of one that cannot be read."""
    world = World(tmp_path, job_ids=("a",))
    world.context().repository.change(
        lambda jobs: jobs.put("a", {**jobs.get("a"), "enabled": False, "state": "paused"})
    )
    Listing(world, **{held: [world.clock() + HOUR]})
    ctx = replace(world.context(), elsewhere=lambda: FleetJobs(unread={"p": "rotten"}))
    with pytest.raises(TemporaryError, match="profile p") if refused else contextlib.nullcontext():
        reconcile.reconcile(ctx, dry_run=True, removals=Removals(prune=prune))
