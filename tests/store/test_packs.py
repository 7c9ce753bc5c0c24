"""Packs of arm documents: what they say, for whom, and how a reconcile that writes them keeps out of others' way."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from chronos_cli.core.decision import Purpose, Wake
from chronos_cli.core.job import HomeDefaults
from chronos_cli.core.plan import ArmState
from chronos_cli.errors import NasUnavailableError, TemporaryError
from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import Arm, ArmAnswer, ArmList, ArmRequest, CallResult, Nas
from chronos_cli.operations.arming.reconcile import reconcile
from chronos_cli.operations.context import Context, NasTarget
from chronos_cli.store.arms.batch import ArmBatch
from chronos_cli.store.arms.document import ArmDocument
from chronos_cli.store.arms.pack import PREFIX, create_pack, find_line, pack_key, render
from chronos_cli.store.arms.store import no_arm
from chronos_cli.store.interface import JOBS_KEY
from chronos_cli.store.repository import Repository
from tests.memory_store import MemoryStore

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CURSOR = NOW + timedelta(hours=1)
JOBS = ("a", "b", "c")


class HeldNas(Nas):
    """A NAS in memory: one slot for each job. `meanwhile` is called before it answers a batch."""

    def __init__(self):
        self.slots, self.requests, self.fails, self.meanwhile = {}, [], set(), None

    def provision(self, request):
        self.requests.append(request)
        self.slots[request.job_id] = request.fire_at
        return ArmAnswer(schedule_id=f"s{len(self.requests)}")

    def cancel(self, job_id, generation=None):
        self.slots.pop(job_id, None)

    def list(self):
        arms = [Arm(job_id=job, fire_at=at, fire_at_text="", schedule_id="s") for job, at in self.slots.items()]
        return ArmList(arms=tuple(arms))

    def apply(self, requests, *, progress=None):
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        for request in requests:
            if request.job_id in self.fails:
                yield CallResult(request=request, error=NasUnavailableError("down"))
            elif isinstance(request, ArmRequest):
                yield CallResult(request=request, answer=self.provision(request))
            else:
                self.cancel(request.job_id)
                yield CallResult(request=request)

    def close(self):
        pass


class World:
    """A store of three jobs, the NAS, and a context for both."""

    def __init__(self):
        self.store, self.nas, self.tokens = MemoryStore(), HeldNas(), 0
        records = [
            {"id": job, "schedule": {"kind": "interval", "minutes": 60}, "next_run_at": CURSOR.isoformat()}
            for job in JOBS
        ]
        self.store.create(JOBS_KEY, json.dumps({"jobs": records}).encode())
        self.repository = Repository(self.store, sleep=lambda _: None, random=lambda: 0.5)
        wire = NasTarget(portal_url="p", callback_url="c", audience="x", connect=lambda _: self.nas)
        self.ctx = Context(
            home=HomeDefaults(zone=UTC, zone_name="UTC"),
            repository=self.repository,
            processes=None,
            clock=lambda: NOW,
            token=self.token,
            wire=wire,
        )

    def token(self):
        self.tokens += 1
        return f"t{self.tokens}"

    def packs(self):
        return [json.loads(self.store.read(key).data) for key in self.store.list(PREFIX)]

    def own(self):
        return [key.removeprefix("cron/arms/").removesuffix(".json") for key in self.store.list("cron/arms/")]

    def states(self):
        return {job: self.repository.arms.get(job).value.state.value for job in JOBS}


@pytest.fixture
def world():
    return World()


def document(job_id, generation, **more):
    given = {"state": ArmState.UNCONFIRMED, "fire_at": CURSOR, "wake": CURSOR, "purpose": "cursor", **more}
    return ArmDocument(job_id=job_id, generation=generation, **given)


def test_many_jobs_are_armed_with_one_document(world):
    """A cold reconcile writes one pack for all, says in it what NAS answered, and finds all well the next time."""
    assert not reconcile(world.ctx, pack_from=2).failed
    (pack,) = world.packs()
    assert {job: line["state"] for job, line in pack.items()} == dict.fromkeys(JOBS, "confirmed")
    assert world.own() == []
    again = reconcile(world.ctx, pack_from=2)
    assert (again.done, len(world.nas.requests), len(world.packs())) == ((), 3, 1)


def test_few_jobs_have_documents_of_their_own(world):
    """Below the limit each job's arm document is written by itself."""
    reconcile(world.ctx, pack_from=4)
    assert (world.packs(), world.own()) == ([], list(JOBS))


def test_what_is_sent_is_written_before(world):
    """By the time NAS hears of it, the store says that an arm is under way."""
    seen = []
    world.nas.meanwhile = lambda: seen.append(world.states())
    reconcile(world.ctx, pack_from=2)
    assert seen == [dict.fromkeys(JOBS, "unconfirmed")]


def test_a_change_makes_a_document_of_the_jobs_own(world):
    """Whoever changes what a pack says starts from it, and from then on the job's own document counts."""
    reconcile(world.ctx, pack_from=2)
    before = world.repository.arms.get("b")
    assert before.version == ""
    world.repository.arms.change("b", lambda found: replace(found, idle=3))
    after = world.repository.arms.get("b")
    assert (after.value, world.own()) == (replace(before.value, idle=3), ["b"])
    assert after.version != ""


def test_of_two_packs_the_newer_wish_counts(world):
    """The larger generation, and of one generation the confirmed one: for a look at one job and for one at all."""
    create = partial(create_pack, world.repository)
    create("z", {"a": document("a", 1), "b": document("b", 7), "c": document("c", 5, state=ArmState.CONFIRMED)})
    create("y", {"a": document("a", 2), "b": document("b", 6), "c": document("c", 5)})
    arms = world.repository.arms.all()
    for job, generation, state in (("a", 2, "unconfirmed"), ("b", 7, "unconfirmed"), ("c", 5, "confirmed")):
        for found in (arms.get(job), world.repository.arms.get(job)):
            assert (found.value.generation, found.value.state.value) == (generation, state)


@pytest.mark.parametrize("text", ["", "[]", "{", '{\n"a": 1\n}\n', '{\n"a": {"state":\n}\n'])
def test_a_pack_that_cannot_be_read_says_nothing(world, text):
    """It can be learned again from NAS, so it stops nobody."""
    world.store.create(pack_key("broken"), text.encode())
    assert (world.repository.arms.get("a"), world.repository.arms.ids()) == (None, [])
    assert not reconcile(world.ctx, pack_from=2).failed


def test_one_line_is_found_without_parsing_the_rest(world):
    """A job whose name begins or ends like another's is not mistaken for it."""
    world.store.create(pack_key("p"), render({"aa": {"n": 1}, "a": {"n": 2}, "a.a": {"n": 3}}))
    assert [find_line(world.store, name) for name in ("a", "aa", "a.a", ".a", "b")] == [
        {"n": 2}, {"n": 1}, {"n": 3}, None, None,
    ]  # fmt: skip


def test_a_fire_that_arms_meanwhile_keeps_its_wish(world):
    """Its own document stands; and since NAS may have got either last, what the job needs now is armed once more."""
    other = CURSOR + timedelta(minutes=5)

    def fire():
        wake = Wake(at=other, purpose=Purpose.LOOK)
        world.repository.arms.change(
            "b", lambda d: d.sending(wake, other, callback_url="c", portal_url="p", audience="x", now=NOW)
        )

    world.nas.meanwhile = fire
    assert not reconcile(world.ctx, pack_from=2).failed
    assert world.own() == ["b"]
    assert len([request for request in world.nas.requests if request.job_id == "b"]) == 2
    found = world.repository.arms.get("b").value
    assert (found.state, found.wake, world.nas.slots["b"]) == (ArmState.CONFIRMED, CURSOR, found.fire_at)
    assert found.fire_at not in (CURSOR, other)


def test_a_key_that_a_pack_used_is_never_forgotten(world):
    """NAS may remember a key for ever: whoever makes a job's own document knows the keys of packs that came since."""
    create_pack(world.repository, "p", {"a": document("a", 1, keys={CURSOR: "cursor"})})
    early = world.repository.arms.swap("a", lambda found: replace(found, idle=1), no_arm("a"))
    assert (early.value.keys, early.value.idle) == ({CURSOR: "cursor"}, 1)
    assert world.repository.arms.get("a").value.keys == {CURSOR: "cursor"}
    other = CURSOR + timedelta(minutes=1)
    create_pack(world.repository, "q", {"b": document("b", 1, keys={CURSOR: "cursor"})})
    create_pack(world.repository, "r", {"b": document("b", 2, keys={other: "look"})})
    for found in (world.repository.arms.get("b"), world.repository.arms.all().get("b")):
        assert found.value.keys == {CURSOR: "cursor", other: "look"}


def test_a_key_used_by_a_reconcile_meanwhile_is_known_to_a_later_wish(world):
    """A fire that armed from an older state gets the key that the pack has used, though its own wish stands."""
    ahead = CURSOR + timedelta(minutes=5)
    newer = document("b", 10**15, fire_at=ahead, wake=ahead, purpose="look", keys={ahead: "look"})
    world.nas.meanwhile = lambda: world.store.create("cron/arms/b.json", json.dumps(newer.to_json()).encode()) and None
    reconcile(world.ctx, pack_from=2)
    assert {CURSOR, ahead} <= set(world.repository.arms.get("b").value.keys)


def test_a_pack_that_is_replaced_while_we_look_is_not_missed(world):
    """Between the list and the read one pack may take another's place; then the list is asked for once more."""
    create_pack(world.repository, "p", {"a": document("a", 1)})
    read = world.store.read

    def replaced(key):
        if key == pack_key("p"):
            create_pack(world.repository, "q", {"a": document("a", 2)})
            world.store.delete(key)
            world.store.read = read
        return read(key)

    for look in (lambda: world.repository.arms.get("a"), lambda: world.repository.arms.all().get("a")):
        world.store.read = replaced
        assert look().value.generation == 2
        world.store.delete(pack_key("q"))
        create_pack(world.repository, "p", {"a": document("a", 1)})


def test_a_note_taken_meanwhile_stays(world):
    """A delivery that settled nothing is noted in the job's own document; what NAS answered is added to it."""
    note = {"at": "x", "outcome": "early"}

    def noted():
        # As one does who read the document before the pack was written.
        empty = ArmDocument(job_id="b", notes=(note,))
        world.store.create("cron/arms/b.json", json.dumps(empty.to_json()).encode())

    world.nas.meanwhile = noted
    assert not reconcile(world.ctx, pack_from=2).failed
    found = world.repository.arms.get("b").value
    assert (found.notes, found.state, found.fire_at) == ((note,), ArmState.CONFIRMED, CURSOR)
    assert len(world.nas.requests) == 3


def test_another_reconcile_meanwhile_is_noticed(world):
    """Two packs name one job for different instants: it is armed once more, whoever of them came last."""
    rival = {job: document(job, 1, fire_at=CURSOR + timedelta(minutes=1)) for job in ("a", "b")}
    world.nas.meanwhile = lambda: create_pack(world.repository, "rival", rival) and None
    assert not reconcile(world.ctx, pack_from=2).failed
    assert sorted(world.own()) == ["a", "b"]
    assert world.nas.slots == {job: world.repository.arms.get(job).value.fire_at for job in JOBS}


def test_a_pack_that_is_tidied_away_meanwhile_loses_nothing(world):
    """Each job's own document then says what NAS answered."""
    world.nas.meanwhile = lambda: [world.store.delete(key) for key in world.store.list(PREFIX)] and None
    assert not reconcile(world.ctx, pack_from=2).failed
    assert (world.packs(), world.own()) == ([], list(JOBS))
    assert world.states() == dict.fromkeys(JOBS, "confirmed")


def test_a_crash_after_sending_is_mended_by_the_next_reconcile(world):
    """NAS holds what was sent but the answer was never written: the next look confirms it, together, and sends nothing."""

    def crash():
        raise KeyboardInterrupt

    world.nas.meanwhile = lambda: world.nas.slots.update(dict.fromkeys(JOBS, CURSOR)) or crash()
    with pytest.raises(KeyboardInterrupt):
        reconcile(world.ctx, pack_from=2)
    assert world.states() == dict.fromkeys(JOBS, "unconfirmed")
    assert reconcile(world.ctx, pack_from=2).done == ()
    assert world.states() == dict.fromkeys(JOBS, "confirmed")
    assert (world.own(), world.nas.requests) == ([], [])
    reconcile(world.ctx, pack_from=2)
    assert len(world.packs()) == 1


def test_an_arm_that_failed_says_so_in_the_pack(world):
    """What NAS did not take stays unconfirmed with its error, beside those it took."""
    world.nas.fails = {"b"}
    (failed,) = reconcile(world.ctx, pack_from=2).failed
    assert failed.step.job_id == "b"
    assert world.states() == {"a": "confirmed", "b": "unconfirmed", "c": "confirmed"}
    assert world.repository.arms.get("b").value.error["message"] == "down"
    world.nas.fails = set()
    assert not reconcile(world.ctx, pack_from=1).failed
    assert world.states() == dict.fromkeys(JOBS, "confirmed")


def test_packs_are_tidied(world):
    """Once most of a pack is superseded it is written again without that, and goes when nothing of it is left."""
    reconcile(world.ctx, pack_from=2)
    world.repository.arms.change("a", lambda found: replace(found, idle=1))
    reconcile(world.ctx)
    assert [sorted(pack) for pack in world.packs()] == [["a", "b", "c"]]
    world.repository.arms.change("b", lambda found: replace(found, idle=1))
    reconcile(world.ctx)
    assert [sorted(pack) for pack in world.packs()] == [["c"]]
    world.repository.arms.change("c", lambda found: replace(found, idle=1))
    reconcile(world.ctx)
    assert world.packs() == []


def test_a_line_of_a_job_that_is_gone_stays_until_its_instant_is_past(world):
    """Somebody may have sent it since NAS was listed; with the line, what NAS holds then is known to be ours."""
    later = NOW + timedelta(minutes=1)
    create_pack(world.repository, "gone", {"gone": document("gone", 1, fire_at=later)})
    reconcile(world.ctx)
    assert [sorted(pack) for pack in world.packs()] == [["gone"]]
    world.nas.slots["gone"] = later
    reconcile(world.ctx)
    assert "gone" not in world.nas.slots
    world.ctx = replace(world.ctx, clock=lambda: later)
    reconcile(world.ctx)
    assert world.packs() == []


def test_the_name_of_a_pack_is_never_taken_over(world):
    """A write whose answer was lost is recognised; somebody else's document of that name is left as it is."""
    made = create_pack(world.repository, "p", {"a": document("a", 1)})
    assert create_pack(world.repository, "p", {"a": document("a", 1)}).version == made.version
    with pytest.raises(TemporaryError):
        create_pack(world.repository, "p", {"a": document("a", 2)})
    assert world.store.read(made.key).data == render(made.lines)


def batch_of(world, *, pack_from=2):
    """A batch that is founded on what the store says now."""
    look = world.repository.arms.all()
    return ArmBatch(world.repository, look, {job: look.get(job) for job in JOBS}, world.token, pack_from)


def at_generation(generation, **more):
    """The change of every job's document to another, under this generation."""
    return {job: lambda _, job=job: document(job, generation, **more) for job in JOBS}


def later(found):
    return replace(found, tolerance=found.tolerance + 1)


def test_a_batch_goes_on_from_what_it_wrote_wherever_that_is(world):
    """In its pack at first; once that was tidied away, in documents of the jobs' own."""
    batch = batch_of(world)
    batch.change_many(at_generation(1))
    batch.change_many(dict.fromkeys(JOBS, later))
    assert (len(world.packs()), world.own()) == (1, [])
    (key,) = world.store.list(PREFIX)
    world.store.delete(key)
    for times in (2, 3):
        after = batch.change_many(dict.fromkeys(JOBS, later))
        assert {job: found.tolerance for job, found in after.items()} == dict.fromkeys(JOBS, times)
        assert {job: world.repository.arms.get(job).value.tolerance for job in JOBS} == dict.fromkeys(JOBS, times)
    assert (world.packs(), world.own(), batch.contested) == ([], list(JOBS), set())


def test_a_pack_says_of_each_job_what_was_changed_last(world):
    """A job of it that is not changed again keeps its line, and so it does when another's changes once more."""
    batch = batch_of(world)
    batch.change_many(at_generation(1))
    batch.change_many({"a": later})
    batch.change_many({"b": later})
    assert {job: world.repository.arms.get(job).value.tolerance for job in JOBS} == {"a": 1, "b": 1, "c": 0}
    assert (len(world.packs()), world.own()) == (1, [])


@pytest.mark.parametrize("pack_from", [2, 4])
@pytest.mark.parametrize(("minutes", "contested"), [(0, set()), (5, {"b"})])
def test_what_another_process_sent_since_is_contested_where_it_is_another_instant(world, pack_from, minutes, contested):
    """In a pack and out of it; the other's wish stands."""
    batch, other = batch_of(world, pack_from=pack_from), CURSOR + timedelta(minutes=minutes)
    batch.change_many(at_generation(1))
    world.repository.arms.change("b", lambda _: document("b", 2, fire_at=other))
    batch.change_many(dict.fromkeys(JOBS, lambda found: replace(found, state=ArmState.CONFIRMED)))
    assert batch.contested == contested
    found = world.repository.arms.get("b").value
    assert (found.generation, found.fire_at) == (2, other)


def test_a_job_that_another_process_touched_since_the_look_is_changed_by_itself(world):
    """Its change is made from what is stored by then, and its line in the pack counts for nothing."""
    batch = batch_of(world)
    world.repository.arms.change("b", lambda _: document("b", 7))
    after = batch.change_many(
        dict.fromkeys(JOBS, lambda found: replace(found, tolerance=1, generation=found.generation + 1))
    )
    assert {job: found.generation for job, found in after.items()} == {"a": 1, "b": 8, "c": 1}
    assert world.own() == ["b"]
    batch.change_many(dict.fromkeys(JOBS, later))
    assert {job: world.repository.arms.get(job).value.tolerance for job in JOBS} == dict.fromkeys(JOBS, 2)


def test_a_job_of_anothers_newer_pack_is_changed_from_that(world):
    """The pack came since the look: its wish must not be lost under a document that knows nothing of it."""
    batch, seen = batch_of(world), []
    create_pack(world.repository, "rival", {"b": document("b", 9)})
    batch.change_many({job: lambda found: seen.append(found.generation) or replace(found, tolerance=1) for job in JOBS})
    assert sorted(seen) == [0, 0, 0, 9]
    found = world.repository.arms.get("b").value
    assert (found.generation, found.tolerance, world.own()) == (9, 1, ["b"])
