"""Rules of looks at a store, each at its edge: what is over and told of, what cannot be read, and what a plan makes of it."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.core.clock import _is_about
from chronos_cli.core.decision import Decision, Facts, Outcome, Purpose, Wake
from chronos_cli.core.job import parse_job
from chronos_cli.core.plan import Action, ArmState, DesiredArm, LastArm, backoff
from chronos_cli.core.row import RunState, over, row_of
from chronos_cli.errors import TemporaryError
from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import ArmAnswer
from chronos_cli.operations import evaluate, evaluate_all
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.firing import launchers
from chronos_cli.store.arms.batch import ArmBatch
from chronos_cli.store.arms.document import ArmDocument
from chronos_cli.store.arms.pack import create_pack
from chronos_cli.store.documents import StoredDocument
from chronos_cli.store.group_change import GroupChange
from tests.core.making import HOME, URL, T, at, entry, job, plan_of, record
from tests.faults.world import PERIOD, World
from tests.protocol.test_arming_rules import ARMED, HOUR, NOW, WAKE, context, relay, stored
from tests.protocol.test_rules_of_looks import home

TOLD = {"on_failure": ["say"]}


def told(decision, found, rows=None):
    """The runs and states that the on-failure command is told of after a look."""
    facts = Facts(rows=rows or {})
    return [
        (row.run_id, row.state) for _, row in evaluate.rows_over(SimpleNamespace(home=HOME), found, decision, facts)
    ]


def test_what_is_over_after_a_look_is_told_once():
    """As it was settled, or as its row says; what still goes, or has no row, is not. Without a command nobody is told."""
    found = job(ours={"open": [entry(T), entry(at(-300)), entry(at(-600))]}, policy=TOLD)
    going, ended = (row_of("j", open_, found.policy) for open_ in found.open[:2])
    lost = over(going, RunState.LOST, now=at(1), reason="gone")
    ended = over(ended, RunState.FAILED, now=at(1))
    owed = replace(row_of("j", found.open[2], found.policy), run_id="20261120T115500Z", state=RunState.MISSED)
    waits = replace(owed, state=RunState.QUEUED)
    rows = {going.run_id: going, ended.run_id: ended}
    idle = Decision(outcome=Outcome.IDLE)
    assert told(idle, found, rows) == [(ended.run_id, RunState.FAILED)]
    settled = replace(idle, settle=(lost,), owed=(owed, waits))
    assert told(settled, found, rows) == [
        (lost.run_id, RunState.LOST), (ended.run_id, RunState.FAILED), (owed.run_id, RunState.MISSED)
    ]  # fmt: skip
    assert told(settled, job(ours={"open": [entry(T)]}), rows) == []
    assert told(settled, None, rows) == []
    after = record(name="later", policy=TOLD)
    ((job_after, _),) = evaluate.rows_over(
        SimpleNamespace(home=HOME), found, replace(idle, record=after), Facts(rows={ended.run_id: ended})
    )
    assert job_after == parse_job(after, HOME)


def test_a_record_that_cannot_be_run_says_why_and_what_gets_it_out_of_the_way():
    """Only one with a torn entry is mended by unlocking."""
    torn = record(ours={"open": [entry(T), 7]})
    assert evaluate.mend_of_record(torn, "j") == "mend it with `chronos job unlock j --yes`"
    for other in (record(), record(ours={"open": [entry(T)]}), record(ours={"open": 7}), record() | {"chronos": 7}):
        assert evaluate.mend_of_record(other, "j") == "put it right in cron/jobs.json, or `chronos job remove j --yes`"
    ctx = home(record(), record() | {"id": "k", "schedule": 7}, record() | {"id": "J"})
    jobs = ctx.repository.jobs()
    assert evaluate.read_job(ctx, jobs, "j")[1] is None
    assert evaluate.read_job(ctx, jobs, "gone") == (None, None)
    for job_id in ("k", "J"):
        found, why = evaluate.read_job(ctx, jobs, job_id)
        assert (found, bool(why)) == (None, True)
    assert [found.id for found in evaluate.read_all(ctx)] == ["j"]


def planned(wishes, held, **more):
    made = plan_of(wishes, held, **more)
    return {step.job_id: (step.action, step.reason) for step in made.steps}


SENT = LastArm(wake=WAKE.at, fire_at=WAKE.at, purpose="cursor", state=ArmState.CONFIRMED, callback_url=URL)


def test_what_nobody_knows_is_cancelled_where_a_person_wants_all_that_is_unknown_gone():
    """Else it is left alone, with all that is held for it."""
    assert planned([], {"x": NOW}, prune=True) == {"x": (Action.CANCEL, "no job wants it")}
    assert planned([], {"x": NOW})["x"][0] is Action.ORPHAN


def test_several_timers_of_a_job_that_wants_none_are_cancelled_like_one():
    """And one that is missing is armed, whatever was counted."""
    wishes = [DesiredArm(job_id="a", wake=None, sent=SENT), DesiredArm(job_id="b", wake=WAKE, sent=SENT)]
    found = planned(wishes, {"a": WAKE.at}, several={"a": 2, "b": 2, "gone": 2})
    assert {job_id: action for job_id, (action, _) in found.items()} == {"a": Action.CANCEL, "b": Action.ARM}


def test_a_wake_that_finds_nothing_to_do_comes_later_each_time():
    """Twice as late, up to a quarter of an hour."""
    assert [backoff(idle).seconds for idle in (0, 1, 7, 8, 100)] == [5, 10, 640, 900, 900]


@pytest.mark.parametrize(
    ("seconds", "about"), [(0, True), (-8 * 86_400, True), (-8 * 86_400 - 1, False), (86_400, True), (86_401, False)]
)
def test_a_time_that_came_next_before_a_leap_is_about_now_within_eight_days_before_and_one_after(seconds, about):
    """Or, for a slow schedule, before its next instant but one."""
    assert _is_about(job(policy={"grace": 60}), T, at(seconds)) is about
    monthly = job(schedule={"kind": "interval", "minutes": 30 * 1_440}, ours={"anchor": T.isoformat()})
    assert _is_about(monthly, at(60 * 86_400), at(86_400)) is True
    assert _is_about(monthly, at(61 * 86_400), at(-86_400)) is False


class Sending:
    """A NAS that takes what it is sent, and after each something changes."""

    server_time = None

    def __init__(self, ctx, *changes):
        self.ctx, self.changes, self.sent = ctx, list(changes), []

    def provision(self, request):
        self.sent.append((request.fire_at - WAKE.at).total_seconds())
        if self.changes and (change := self.changes.pop(0)) is not None:
            self.ctx.repository.arms.change("j", change)
        return ArmAnswer(schedule_id="s")


def another(document):
    return replace(document, generation=document.generation + 1, fire_at=NOW + 2 * HOUR)


def test_what_somebody_else_overtook_is_sent_again_by_an_instant_that_nas_has_never_seen(monkeypatch):
    """Only that surely replaces what NAS may hold; those who meet wait before they do so once more."""
    monkeypatch.setattr(arming, "present_wake", lambda *_: WAKE)
    ctx, waits = context(), []
    ctx.repository.pause = waits.append
    nas = Sending(ctx, another, another)
    document = arming.arm(ctx, nas, "j", WAKE)
    assert (document.state, document.wake, nas.sent, waits) == (ArmState.CONFIRMED, WAKE.at, [0, 1, 2], [3])
    plain = Sending(context(), None)
    assert arming.arm(plain.ctx, plain, "j", WAKE).fire_at == WAKE.at
    assert plain.sent == [0]


def test_a_wake_that_is_another_each_time_is_given_up(monkeypatch):
    """Nobody has it; the next look arms it."""
    number = iter(range(1, 100))
    monkeypatch.setattr(arming, "present_wake", lambda *_: replace(WAKE, at=WAKE.at + next(number) * HOUR))
    ctx, waits = context(), []
    ctx.repository.pause = waits.append
    nas = Sending(ctx)
    with pytest.raises(TemporaryError, match="changed under every attempt to arm it"):
        arming.arm(ctx, nas, "j", WAKE)
    assert waits == []
    assert nas.sent == [3_600.0 * n for n in range(8)]


def packed(*, change=None, meanwhile=None, features=()):
    """Send one job's document from a pack, and note it; what is known of it then, and its document."""
    ctx = context()
    ctx.token = iter("abc").__next__
    sent = replace(ARMED, state=ArmState.UNCONFIRMED, generation=50, features=features)
    seen = {"j": StoredDocument(value=replace(ARMED, generation=5), version="")}
    batch = ArmBatch(ctx.repository, ctx.repository.arms.all(), seen, ctx.token, pack_from=1)
    assert batch.change_many({"j": lambda _: sent}) == {"j": sent}
    if meanwhile is not None:
        ctx.repository.arms.change("j", lambda document: meanwhile)
    batch.change_many({"j": change or (lambda found: found)})
    return not batch.contested, stored(ctx)


def confirmed(document):
    return replace(document, state=ArmState.CONFIRMED)


@pytest.mark.parametrize(
    ("meanwhile", "features", "certain", "generation"),
    [
        (None, (), True, 50), (replace(ARMED, generation=40, fire_at=NOW), (), False, 50), (replace(ARMED, generation=40), (), True, 50),
        (replace(ARMED, generation=5, fire_at=NOW), (), True, 50), (replace(ARMED, generation=60, fire_at=NOW), (), False, 60),
        (replace(ARMED, generation=40, fire_at=NOW, features=("generation",)), ("generation",), True, 50),
    ],
)  # fmt: skip
def test_what_somebody_has_sent_beside_a_pack_leaves_it_in_doubt(meanwhile, features, certain, generation):
    """Where it is another wish, newer than all that was known; NAS itself tells where it numbers wishes."""
    found, document = packed(change=confirmed, meanwhile=meanwhile, features=features)
    assert (found, document.generation) == (certain, generation)
    assert packed(change=None, meanwhile=meanwhile, features=features)[1].generation == generation
    if meanwhile is None:
        assert document.state is ArmState.CONFIRMED
        assert packed()[1].state is ArmState.UNCONFIRMED
    if generation == 60:
        assert document.keys.keys() >= ARMED.keys.keys()


def test_of_several_runs_under_one_process_the_first_that_is_over_is_seen_first(monkeypatch):
    """With all that it has begun; what runs elsewhere is none of these."""
    ended = []
    monkeypatch.setattr(launchers, "begin", lambda _, claim: claim)
    monkeypatch.setattr(launchers, "end_and_begin", lambda _, begun, going: ended.append(begun.name) or begun.name)
    launcher = launchers.InlineLauncher()

    class Attempt:
        def __init__(self, name):
            self.name = name

        def first_of(self, others):
            return max(others, key=lambda other: other.name)

    runs = [launcher.launch(None, SimpleNamespace(name=name, attempt=Attempt(name))) for name in "abc"]
    elsewhere = SimpleNamespace(going=[])
    assert runs[0].first_of([elsewhere, *runs]) is runs[2]
    assert ended == ["c"]
    assert [run.wait() for run in runs] == ["a", "b", "c"]
    assert ended == ["c", "b", "a"]


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_a_change_is_tried_as_often_as_it_may_be(tries):
    """Each time after a longer pause."""
    pauses, seen = [], []
    change = GroupChange(once=seen.append, pause=pauses.append, attempts=tries)
    with pytest.raises(TemporaryError, match="changed under every attempt"):
        change.make(lambda jobs: None)
    assert (len(seen), pauses) == (tries, list(range(1, tries)))


def test_a_document_of_a_job_that_was_never_armed_says_nothing():
    """Its wake is looked for all the same."""
    empty = ArmDocument(job_id="j")
    assert not arming.is_armed(empty, Wake(at=T, purpose=Purpose.CURSOR), context().wire, NOW)
    assert not empty.is_astray(WAKE, NOW + timedelta(days=1))


@pytest.mark.parametrize(("features", "sent"), [((), [0, 1]), (("keeps-slot",), [0, 1])])
def test_a_key_that_nas_has_delivered_before_is_sent_a_second_later(features, sent, monkeypatch):
    """NAS holds nothing by it, and arms no wake by it again."""
    monkeypatch.setattr(arming, "present_wake", lambda *_: WAKE)
    ctx, asked = context(), []

    def provision(request):
        asked.append((request.fire_at - WAKE.at).total_seconds())
        return ArmAnswer(
            schedule_id="s", features=frozenset(features), state="delivered" if len(asked) == 1 else "armed"
        )

    document = arming.arm(ctx, SimpleNamespace(provision=provision, server_time=None), "j", WAKE)
    assert (asked, document.state, document.spent) == (sent, ArmState.CONFIRMED, False)


@pytest.mark.parametrize(
    ("wanted", "fire_at", "left"),
    [({"a", "b", "c"}, NOW, 3), ({"a"}, NOW, 1), ({"a"}, NOW + HOUR, 3), (set(), NOW, 0), ({"a", "b"}, NOW, 3)],
)
def test_a_pack_is_written_again_once_most_of_it_counts_no_more(wanted, fire_at, left):
    """What is still to come of a job that nobody knows may have been sent since NAS was listed."""
    ctx = context()
    documents = {name: replace(ARMED, job_id=name, fire_at=fire_at) for name in "abc"}
    create_pack(ctx.repository, "p", documents)
    ArmBatch(ctx.repository, ctx.repository.arms.all(), {}, str).tidy(wanted, NOW)
    assert len(ctx.repository.arms.all().lines) == left


def test_what_has_a_document_or_a_newer_line_leaves_its_pack():
    """The pack goes with its last one."""
    ctx = context()
    create_pack(ctx.repository, "p", {"a": replace(ARMED, job_id="a"), "b": replace(ARMED, job_id="b")})
    ctx.repository.arms.change("a", lambda document: replace(document, generation=9))
    batch = ArmBatch(ctx.repository, ctx.repository.arms.all(), {}, lambda: "newer", pack_from=1)
    batch.change_many({"b": lambda _: replace(ARMED, job_id="b", generation=9)})
    batch.tidy({"a", "b"}, NOW)
    assert [pack.lines.keys() for pack in ctx.repository.arms.all().packs] == [{"b"}]
    assert ctx.repository.arms.get("b").value.generation == 9


@pytest.mark.parametrize(
    ("cursor", "write", "writes"), [(-3 * 86_400, True, True), (-3 * 86_400, False, False), (60, True, False)]
)
def test_a_look_at_all_jobs_writes_only_what_is_to_be_put_right_and_only_where_it_may(cursor, write, writes):
    """A dry one says the same."""
    ctx = home(record(next_run_at=at(cursor).isoformat(), policy={"grace": 60}))
    before = ctx.repository.read("cron/jobs.json")
    found = evaluate_all.evaluate_all(ctx, write=write)
    assert found.changed == (("j",) if cursor < 0 else ())
    assert (ctx.repository.read("cron/jobs.json") != before) is writes


def test_a_fire_for_a_job_that_is_nowhere_finds_nothing_and_changes_nothing(tmp_path):
    """It is answered all the same: NAS has to stop."""
    ctx = World(tmp_path).context()
    before = ctx.repository.jobs().get("a")
    looked = evaluate.evaluate(ctx, "none", relay())
    assert (looked.decision.outcome, looked.job) == (Outcome.GONE, None)
    assert ctx.repository.jobs().get("a") == before


def test_a_job_whose_next_time_is_as_it_should_be_is_in_no_doubt(tmp_path):
    """A look at all jobs names those alone that it leaves as they are against their schedule."""
    world = World(tmp_path)
    world.moved -= PERIOD
    seen = evaluate_all.evaluate_all(world.context(), write=False)
    assert (seen.doubts, seen.changed, list(seen.wakes)) == ({}, (), ["a"])
