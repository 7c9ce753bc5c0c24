"""Rules of the repository at their edges, over a store in memory: what is read, what is written, and what is kept."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from chronos_cli.core.plan import ArmState
from chronos_cli.core.policy import Policy
from chronos_cli.core.row import RunState, begun, over, row_of
from chronos_cli.errors import DocumentError, NotFoundError, StoreError, TemporaryError, UnreadableError
from chronos_cli.frozen import replace
from chronos_cli.store.arms.document import ArmDocument
from chronos_cli.store.arms.pack import PREFIX as PACKS_PREFIX
from chronos_cli.store.arms.pack import create_pack
from chronos_cli.store.documents import ASIDE, why_not
from chronos_cli.store.interface import JOBS_KEY, OutcomeUnknown, VersionConflict
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.repository import STOP_KEY, STORE_KEY, Repository
from chronos_cli.store.rows import open_runs
from tests.core.making import T, at, entry, job
from tests.memory_store import MemoryStore

NEVER = "00000000T000000Z"


class Store(MemoryStore):
    """One whose next reads or writes of a key fail as they are told to; it counts what is read."""

    def __init__(self):
        super().__init__()
        self.failing, self.seen, self.backed, self.needs = {}, [], [], False

    @property
    def needs_proof(self):
        return self.needs

    def fails(self, key, *errors):
        self.failing[key] = list(errors)

    def _met(self, key):
        errors = self.failing.get(key)
        if errors and (error := errors.pop(0)) is not None:
            raise error

    def read(self, key):
        self.seen.append(key)
        self._met(f"read {key}")
        return super().read(key)

    def create(self, key, data, *, durable=True):
        self._met(key)
        return super().create(key, data, durable=durable)

    def replace(self, key, data, version, *, durable=True):
        self._met(key)
        return super().replace(key, data, version, durable=durable)

    def backups(self):
        return self.backed


def repository(*records, fleet=None):
    store = Store()
    if records:
        store.create(JOBS_KEY, json.dumps({"jobs": list(records)}).encode())
    return Repository(store, sleep=lambda _: None, random=lambda: 0.5, fleet=fleet)


def ended(run_at, *, state=RunState.OK, manual=False, finished=None, output=False):
    """A row that is over; `manual`: one that a person asked for."""
    stored = entry(None, run=f"manual-{run_at:%Y%m%dT%H%M%SZ}-0000cafe") if manual else entry(run_at)
    (open_,) = job(ours={"open": [stored]}).open
    row = begun(row_of("j", open_, Policy()), starter="s", owner={}, now=run_at, lease_ends_at=run_at)
    if output:
        row = replace(row, output=f"cron/output/j/{row.run_id}.log")
    return over(row, state, now=finished or run_at)


def test_what_was_read_last_is_parsed_once():
    """Until somebody writes; one that is not there says so."""
    empty = repository()
    assert (empty.jobs().records, empty.jobs().absent) == ([], True)
    found = repository({"id": "j"})
    first = found.jobs()
    assert found.jobs() is first
    found.change(lambda jobs: jobs.add({"id": "k"}))
    assert found.jobs() is not first
    assert [record.id for record in found.jobs().records] == ["j", "k"]
    other = Repository(found.documents, sleep=lambda _: None, random=lambda: 0.5)
    other.change(lambda jobs: jobs.remove("j"))
    assert [record.id for record in found.jobs().records] == ["k"]


def test_a_change_that_meets_another_looks_again():
    """What it decided is decided anew on what is there then."""
    found = repository({"id": "j"})
    found.documents.fails(JOBS_KEY, VersionConflict(), VersionConflict())
    seen = []
    found.change(lambda jobs: (seen.append(len(jobs.records)), jobs.add({"id": "k"})))
    assert seen == [1, 1, 1]
    found.documents.fails(JOBS_KEY, *[VersionConflict()] * 100)
    with pytest.raises(TemporaryError, match="changed under every attempt"):
        found.change(lambda jobs: jobs.remove("k"))


def test_a_write_that_fails_fails_the_changes_that_rest_on_it():
    """One that changed nothing rests on none."""
    found = repository({"id": "j"})
    found.documents.fails(JOBS_KEY, StoreError("the disk is full"))
    outcomes = found.change_together([lambda jobs: jobs.add({"id": "k"}), lambda jobs: "saw"])
    assert isinstance(outcomes[0], StoreError)
    assert found.change(lambda jobs: len(jobs.records)) == 1


def test_a_record_that_cannot_be_written_fails_alone():
    """Those that were to be written with it are."""
    found = repository({"id": "j"})
    rotten = {"id": "x", "value": object()}
    good = [lambda jobs, name=name: jobs.add({"id": name}) for name in "kl"]
    with pytest.raises(TypeError):
        found.change_together([good[0], lambda jobs: jobs.add(rotten), good[1]])
    assert [record.id for record in found.jobs().records] == ["j", "k", "l"]


@pytest.mark.parametrize(("layout", "together"), [(None, True), (False, True), (True, False)])
def test_changes_are_one_write_unless_the_jobs_are_kept_apart(layout, together):
    """Apart each has a document of its own; one that fails does not stop the others."""
    found, written = repository({"id": "j"}), []
    write = found.write
    found.write = lambda key, *more, **how: written.append(key) or write(key, *more, **how)
    if layout is not None:
        found.layout = SimpleNamespace(open=lambda: layout or None, together=lambda _: None)
        found.change = lambda fn: written.append("one") or fn(JobsFile.empty())
    outcomes = found.change_together([lambda jobs: jobs.add({"id": "k"}), lambda jobs: jobs.remove("none")])
    assert (outcomes[0], type(outcomes[1])) == (None, NotFoundError)
    assert written == ([JOBS_KEY] if together else ["one", "one"])


def test_a_store_is_proven_once_where_it_needs_that(monkeypatch):
    """Before the first change; who only reads proves nothing."""
    from chronos_cli.store import proof

    proven = []
    monkeypatch.setattr(proof, "ensure_proven", proven.append)
    found = repository({"id": "j"})
    found.change(lambda jobs: None)
    assert proven == []
    found.documents.needs = True
    found.jobs()
    assert proven == []
    found.change(lambda jobs: None)
    found.change_together([lambda jobs: None])
    assert len(proven) == 1


@pytest.mark.parametrize(
    ("copies", "said"),
    [
        ([b'{"jobs": [{"id": "a"}, {"id": "b"}]}'], "go back to what was there 2 min ago (2 jobs) with `cp '/b 0' memory/cron/jobs.json`"),
        ([b"torn", b'{"jobs": [{"id": "a"}]}'], "go back to what was there 2 min ago (1 job) with `cp '/b 1' memory/cron/jobs.json`"),
        ([b"torn"], "there is no copy of it that can be read"),
        ([], "there is no copy of it that can be read"),
    ],
)  # fmt: skip
def test_jobs_that_cannot_be_read_name_the_newest_copy_that_can(copies, said):
    """With its age and its number of jobs."""
    found = repository()
    found.documents.create(JOBS_KEY, b'{"jobs": [')
    found.documents.backed = [SimpleNamespace(data=data, path=f"/b {n}", age_s=120) for n, data in enumerate(copies)]
    with pytest.raises(StoreError) as raised:
        found.jobs()
    assert said in raised.value.hint


def test_an_update_is_made_again_from_what_is_there_then():
    """None leaves the document as it is."""
    found = repository()
    found.documents.fails("x", VersionConflict())
    seen = []
    found.update("x", lambda document: seen.append(document) or b"1")
    found.update("x", lambda document: seen.append(document.data) or None)
    assert (seen, found.read("x").data) == ([None, None, b"1"], b"1")


def test_a_row_is_read_as_that_of_its_own_run():
    """What is no name has none; what says that it is another's is no row of this run."""
    found = repository()
    row = ended(T)
    found.rows.create(row)
    assert found.rows.get("j", row.run_id).value == row
    found.documents.seen.clear()
    assert (
        found.rows.get("../j", row.run_id),
        found.rows.get("j", "../x"),
        found.rows.get("j", "20261120T120001Z"),
    ) == (None,) * 3
    assert found.documents.seen == ["cron/runs/j/20261120T120001Z.json"]
    found.documents.create("cron/runs/j/20261120T120500Z.json", json.dumps(row.to_json()).encode())
    found.documents.create("cron/runs/k/20261120T120000Z.json", json.dumps(row.to_json()).encode())
    for job_id, run_id in (("j", "20261120T120500Z"), ("k", "20261120T120000Z")):
        with pytest.raises(UnreadableError, match="the row of another run"):
            found.rows.get(job_id, run_id)


def test_rows_are_listed_by_their_time_whoever_asked_for_them():
    """What is none of them is left out, and so is what cannot be read."""
    found = repository()
    for row in (ended(at(300)), ended(at(60), manual=True), ended(T)):
        found.rows.create(row)
    for name in ("x.txt", "deeper/20261120T120000Z.json"):
        found.documents.create(f"cron/runs/j/{name}", b"{}")
    found.documents.create("cron/runs/j/20261120T121000Z.json", b"torn")
    names = ["20261120T120000Z", "manual-20261120T120100Z-0000cafe", "20261120T120500Z", "20261120T121000Z"]
    assert found.rows.ids("j") == names
    assert found.rows.ids("../j") == []
    assert [row.run_id for row in found.rows.of("j")] == names[2::-1]
    assert [row.run_id for row in found.rows.of("j", newest=2)] == [names[2]]
    assert len(list(found.rows.of("j", newest=0))) == 3


def test_bytes_that_are_set_aside_are_kept_once_under_their_own_name():
    """A conflict with nobody is tried again; another's bytes have another name."""
    found = repository()
    torn = UnreadableError("torn", hint="", key="cron/runs/j/r.json", data=b"torn", version="1")
    found.documents.fails(f"{ASIDE}cron+runs+j+r.json.3e0eab39", VersionConflict())
    key = found.set_aside(torn)
    assert key.startswith(f"{ASIDE}cron+runs+j+r.json.")
    assert found.read(key).data == b"torn"
    assert found.set_aside(torn) == key
    assert found.set_aside(UnreadableError("torn", hint="", key=torn.key, data=b"other", version="1")) != key
    found.documents.fails(key.replace("+j+", "+k+"), *[VersionConflict()] * 100)
    with pytest.raises(TemporaryError):
        found.set_aside(UnreadableError("torn", hint="", key="cron/runs/k/r.json", data=b"torn", version="1"))


def kept(found, **how):
    found.rows.prune("j", **({"keep": 1, "horizon": NEVER} | how))
    return found.rows.ids("j")


def test_a_job_with_few_and_young_rows_is_not_looked_at():
    """The names alone tell."""
    found = repository({"id": "j"})
    for seconds in (0, 60):
        found.rows.create(ended(at(seconds)))
    found.documents.seen.clear()
    assert found.rows.prune("j", keep=2, horizon="20261120T120000Z") == 0
    assert found.documents.seen == []
    assert found.rows.prune("j", keep=1, horizon="20261120T120000Z") == 1
    assert found.rows.prune("j", keep=2, horizon="20261120T120001Z") == 0


def test_a_row_goes_with_what_it_printed():
    """In all its attempts."""
    found = repository({"id": "j"})
    old = ended(T, output=True)
    found.rows.create(old)
    found.rows.create(ended(at(60), output=True))
    for row in (old, ended(at(60), output=True)):
        found.documents.create(row.output, b"said")
    assert kept(found) == ["20261120T120100Z"]
    assert list(found.keys("cron/output/")) == ["cron/output/j/20261120T120100Z.log"]


def test_rows_that_are_not_over_or_cannot_be_read_stay():
    """Whoever settles or mends them needs them."""
    found = repository({"id": "j"})
    going = replace(ended(T), state=RunState.RUNNING)
    found.rows.create(going)
    found.documents.create("cron/runs/j/20261120T120030Z.json", b"torn")
    found.rows.create(ended(at(60)))
    found.rows.create(ended(at(120)))
    assert kept(found) == ["20261120T120000Z", "20261120T120030Z", "20261120T120200Z"]


def left(record, state, *, unbegun=False):
    """What stays of a row in this state that nobody has in hand, behind one that is newer."""
    found = repository(*record)
    found.rows.create(replace(ended(T), state=state))
    found.rows.create(ended(at(60)))
    found.rows.prune("j", keep=1, horizon=NEVER, unbegun=lambda row: unbegun and row.state is RunState.RUNNING)
    return len(found.rows.ids("j")) == 2


def test_what_was_made_too_late_and_not_taken_back_goes_with_old_rows():
    """It waits to start, or its process has begun nothing, and no entry stands for it; where none can be read it stays."""
    known = [{"id": "j", "chronos": {"open": []}}]
    for state in (RunState.ACCEPTED, RunState.QUEUED):
        assert not left(known, state)
        assert not left([{"id": "j"}], state)
        assert left([], state)
        assert left([{"id": "j", "chronos": {"open": 5}}], state)
        assert left([{"id": "j", "chronos": {"open": [{"run": "20261120T120000Z"}]}}], state)
    assert left(known, RunState.RUNNING)
    assert not left(known, RunState.RUNNING, unbegun=True)


FIRST = replace(ended(T), state=RunState.QUEUED, finished_at=None)


def in_hand(row):
    return {"id": "j", "chronos": {"open": [{"run": row.run_id, "claim": row.claim}]}}


@pytest.mark.parametrize("state", [RunState.ACCEPTED, RunState.QUEUED])
def test_the_first_row_of_a_run_that_is_over_is_taken_back(state):
    """Its entry is gone, so its row was there, was terminal, and was pruned: what stood still makes nothing of it."""
    first = replace(FIRST, state=state)
    found = repository(in_hand(first))
    version = found.rows.make(first)
    assert found.rows.get("j", first.run_id).version == version
    over_ = repository({"id": "j"})
    with pytest.raises(VersionConflict):
        over_.rows.make(first)
    assert over_.rows.ids("j") == []
    for other in (replace(first, run_id="20261120T120001Z"), replace(first, claim="another")):
        with pytest.raises(VersionConflict):
            repository(in_hand(other)).rows.make(first)
    with pytest.raises(VersionConflict):
        repository().rows.make(first)


def test_a_first_row_that_is_an_end_says_what_the_pruned_one_said():
    """Nobody asks whether it is in hand."""
    found = repository({"id": "j"})
    found.documents.seen.clear()
    found.rows.make(replace(ended(T), state=RunState.SKIPPED))
    assert (found.rows.ids("j"), found.documents.seen) == (["20261120T120000Z"], [])


def test_a_row_that_somebody_has_settled_since_is_not_taken_back():
    """It is no longer as it was made; nor is one whose answer was lost anybody else's."""
    found = repository({"id": "j"})
    version = found.rows.create(FIRST)
    found.rows.replace(ended(T), version)
    found.rows.take_back(FIRST, version)
    assert found.rows.get("j", FIRST.run_id).value == ended(T)
    found.rows.take_back(replace(FIRST, run_id="20261120T120001Z"), version)


@pytest.mark.parametrize("stands", ["ours", "another's", "zero bytes", "nothing"])
def test_a_first_row_whose_answer_was_lost_is_found_again(stands):
    """Then it is judged like any other; what another made, or nobody, or what rotted meanwhile, is a conflict."""
    found = repository(in_hand(FIRST))

    def lost(row):
        if stands != "nothing":
            made = type(found.rows).create(
                found.rows, replace(row, delivery_id="another") if "other" in stands else row
            )
            if stands == "zero bytes":
                found.documents.replace(f"cron/runs/j/{row.run_id}.json", bytes(64), made)
        raise OutcomeUnknown

    found.rows.create = lost
    if stands == "ours":
        assert found.rows.make(FIRST) == found.rows.get("j", FIRST.run_id).version
    else:
        with pytest.raises(OutcomeUnknown):
            found.rows.make(FIRST)
        assert len(found.rows.ids("j")) == (stands != "nothing")


def test_a_range_of_long_ago_that_was_settled_lately_is_young():
    """It counts from when it became what it is."""
    found = repository({"id": "j"})
    for number in range(3):
        found.rows.create(ended(at(60 * number), finished=at(86_400) if number == 1 else None))
    assert kept(found, keep=3, horizon="20261121T120000Z") == ["20261120T120100Z", "20261120T120200Z"]
    assert kept(found, keep=3, horizon="20261121T120001Z") == ["20261120T120200Z"]


@pytest.mark.parametrize(
    ("sure", "left"), [(False, ["20261120T120100Z", "20281119T120100Z"]), (True, ["20281119T120100Z"])]
)
def test_rows_since_a_leap_take_no_place_of_those_before_it(sure, left):
    """The record tells from where a clock without a witness has leapt; once a witness confirms it, it was no leap."""
    leap = 730 * 86_400
    found = repository({"id": "j", "chronos": {"leapt_from": [at(300).isoformat(), at(120).isoformat()]}})
    for seconds in (0, 60, leap, leap + 60):
        found.rows.create(ended(at(seconds)))
    assert kept(found, now=at(leap + 120), sure=sure) == left


def test_rows_of_a_job_that_is_gone_grow_old_as_well():
    """Nothing is in hand, and no leap of a clock is known."""
    found = repository({"id": "k"})
    for seconds in (0, 60, 120):
        found.rows.create(ended(at(seconds)))
    assert kept(found, now=at(180), sure=False) == ["20261120T120200Z"]


def test_runs_in_hand_are_told_by_the_record():
    """Of what cannot be read it is not known: then they may be."""
    assert open_runs(None) == open_runs({"chronos": 1}) == open_runs({"chronos": {"open": 1}}) == frozenset()
    assert open_runs({"chronos": {"open": [{"run": "a"}, 1, {"run": "b"}]}}) == {"a", "b"}
    found = repository({"id": "j", "chronos": {"open": [{"run": "a"}]}}, {"id": "k"})
    assert [found.rows.may_be_in_hand(job_id, "a") for job_id in ("j", "k", "gone")] == [True, False, False]
    assert not found.rows.may_be_in_hand("j", "b")
    rotten = repository({"id": "k"}, ["no record"])
    assert [rotten.rows.may_be_in_hand(job_id, "a") for job_id in ("k", "gone")] == [False, True]


ARM = ArmDocument(
    job_id="j", state=ArmState.CONFIRMED, wake=T, fire_at=T, purpose="cursor", generation=5, keys={T: "cursor"}
)


def test_an_arm_document_that_is_not_what_it_should_be_stands_for_one_that_was_lost():
    """Another job's, or no document at all: it is made anew from what NAS holds."""
    found = repository()
    assert (found.arms.get("j"), found.arms.own("j")) == (None, None)
    found.arms.change("j", lambda _: ARM)
    assert found.arms.get("j").value == ARM
    found.documents.create("cron/arms/k.json", json.dumps(ARM.to_json()).encode())
    found.documents.create("cron/arms/torn.json", b"{")
    for job_id in ("k", "torn"):
        read = found.arms.get(job_id)
        assert (read.value.job_id, read.value.unreadable, read.value.state) == (job_id, True, ArmState.UNCONFIRMED)
        assert read.version
    assert found.arms.ids() == ["j", "k", "torn"]
    found.arms.drop("k")
    assert found.arms.get("k") is None


def test_a_change_that_changes_nothing_writes_nothing():
    """One that is tried on what was seen reads first where somebody else has written since."""
    found = repository()
    found.arms.change("j", lambda _: ARM)
    seen = found.arms.get("j")
    assert found.arms.swap("j", lambda document: document, seen) == seen
    newer = found.arms.swap("j", lambda document: replace(document, idle=1), seen)
    assert (newer.value.idle, newer.version != seen.version) == (1, True)
    last = found.arms.swap("j", lambda document: replace(document, spent=True), seen)
    assert (last.value.idle, last.value.spent) == (1, True)
    found.documents.seen.clear()
    found.arms.swap("j", lambda document: replace(document, idle=2), last)
    assert found.documents.seen == []


def test_a_pack_speaks_for_a_job_until_that_has_a_document_of_its_own():
    """Then the keys that the pack has used are known to it as well."""
    found = repository()
    pack = create_pack(found, "p", {"j": ARM, "k": replace(ARM, job_id="k")})
    assert pack.key.startswith(PACKS_PREFIX)
    assert (found.arms.get("j").value, found.arms.get("j").version) == (ARM, "")
    assert found.arms.own("j") is None
    arms = found.arms.all()
    assert (arms.ids, arms.own, arms.get("j").value, arms.get("gone")) == ({"j", "k"}, frozenset(), ARM, None)
    later = found.arms.change("j", lambda document: replace(document, generation=9))
    assert (found.arms.own("j").value, later.keys) == (later, {T: "cursor"})
    assert found.arms.all().own == {"j"}
    assert found.arms.all().get("j").value == later
    assert found.arms.all(but=[pack.key]).ids == {"j"}
    found.documents.delete(pack.key)
    assert (found.arms.get("k"), found.arms.all().ids) == (None, {"j"})


def test_a_document_that_is_made_beside_a_new_pack_takes_over_the_keys_of_that():
    """NAS may remember them for ever."""
    found = repository()

    def meanwhile(document):
        if not list(found.keys(PACKS_PREFIX)):
            create_pack(found, "p", {"j": ARM})
        return replace(document, generation=9, keys={at(60): "cursor"})

    assert found.arms.change("j", meanwhile).keys == {T: "cursor", at(60): "cursor"}


def test_a_pack_whose_write_lost_its_answer_is_known_by_its_bytes():
    """Nobody else has that name; other bytes under it are somebody's."""
    found = repository()
    create = MemoryStore.create

    def lost(key, data, *, durable=True):
        create(found.documents, key, data)
        raise VersionConflict

    found.documents.create = lost
    pack = create_pack(found, "p", {"j": ARM})
    assert pack.version == found.read(pack.key).version
    with pytest.raises(TemporaryError):
        create_pack(found, "p", {"j": replace(ARM, idle=1)})


def test_a_hold_of_the_fleet_is_one_here_too():
    """Until its end; one that cannot be read is engaged, and so is one that is there and says nothing."""
    fleet = Store()
    found = repository(fleet=fleet)
    assert (found.hold(T), repository().hold(T)) == (None, None)
    fleet.create(STOP_KEY, json.dumps({"reason": "a test", "expires_at": at(60).isoformat()}).encode())
    assert found.hold(T).reason == "a test"
    assert found.hold(at(60)) is None
    found.documents.create(STOP_KEY, b"")
    assert found.hold(at(60)) is not None
    found.documents.fails(f"read {STOP_KEY}", StoreError("closed"))
    assert "closed" in found.hold(T).text


def test_the_stores_name_is_made_once_and_anew_where_it_rotted():
    """The old bytes are kept; one that is closed to us is not made anew."""
    found = repository()
    names = iter(["first", "second", "third"])
    assert [found.store_id(lambda: next(names)) for _ in range(2)] == ["first", "first"]
    found.mend_store_id(lambda: next(names))
    assert found.store_id(lambda: next(names)) == "first"
    found.documents.replace(STORE_KEY, b"torn", found.read(STORE_KEY).version)
    found.mend_store_id(lambda: next(names))
    assert json.loads(found.read(STORE_KEY).data) == {"id": "second"}
    assert found.store_id(lambda: next(names)) == "second"
    assert [found.read(key).data for key in found.keys(ASIDE)] == [b"torn"]
    found.documents.fails(f"read {STORE_KEY}", DocumentError("closed"), DocumentError("closed"))
    assert found.store_id(lambda: next(names)).startswith("unreadable-")
    found.mend_store_id(lambda: next(names))
    found.documents.fails(STORE_KEY, None, VersionConflict())
    fresh = repository()
    fresh.mend_store_id(lambda: "mended")
    assert fresh.read(STORE_KEY) is None


def test_a_persons_run_of_just_now_stays_only_where_the_time_is_known():
    """Whoever asked for it may be trying to claim it; ten minutes later nobody is."""
    for now, left in ((at(600), 2), (at(659), 2), (at(661), 1), (None, 1)):
        found = repository({"id": "j"})
        for seconds in (60, 120):
            found.rows.create(ended(at(seconds), manual=True))
        assert len(kept(found, now=now)) == left


def test_why_a_document_cannot_be_read_is_said_in_words():
    """The text of a KeyError is its key alone."""
    assert why_not(KeyError("state")) == "it has no state"
    assert (why_not(ValueError("it is odd")), why_not(KeyError())) == ("it is odd", "")
    assert len(why_not(ValueError("x" * 500))) == 200


def test_a_persons_runs_of_a_clock_ahead_take_nobodys_place_either():
    """The time in their names tells."""
    found = repository({"id": "j"})
    for seconds in (0, 60, 7_200, 7_260):
        found.rows.create(ended(at(seconds), manual=True, finished=T))
    assert [name[7:23] for name in kept(found, now=at(3_600))] == ["20261120T120100Z", "20261120T140100Z"]


def test_arm_documents_whose_folder_cannot_be_listed_are_read_one_by_one():
    """A pack speaks for those that have none; a list of names spares the read of what is not there."""
    found = repository()
    create_pack(found, "p", {"k": replace(ARM, job_id="k")})
    found.arms.change("j", lambda _: ARM)
    known = found.arms.all()
    found.documents.seen.clear()
    assert (known.get("gone"), found.documents.seen) == (None, [])

    def closed(prefix):
        if prefix == "cron/arms/":
            raise DocumentError("closed")
        return MemoryStore.list(found.documents, prefix)

    found.documents.list = closed
    arms = found.arms.all()
    assert (arms.own, arms.get("j").value, arms.get("k").value.job_id, arms.get("gone")) == (
        frozenset(),
        ARM,
        "k",
        None,
    )
