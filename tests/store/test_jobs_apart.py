"""Jobs that are kept apart, a document each: what fires write, what people change, and the moves both ways."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.errors import ConflictError, NotFoundError, StoreError, TemporaryError
from chronos_cli.store.interface import JOB_PREFIX, JOBS_KEY, JobsMovedError, OutcomeUnknown
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.listing import job_key, read_listing
from chronos_cli.store.repository import Repository
from tests.errors.hinted import tries
from tests.memory_store import MemoryStore


class Bucket(MemoryStore):
    """A bucket in memory that counts its calls by kind and key, and has things happen in between."""

    keeps_jobs_apart = True

    def __init__(self):
        super().__init__()
        self.calls, self.before, self.after = [], {}, {}

    def _met(self, verb, key, call):
        """`before` and `after`: what happens once at a call, by its verb, or by its verb and key."""
        self.calls.append((verb, key))
        for name in ((verb, key), verb):
            self.before.pop(name, lambda: None)()
        result = call()
        for name in ((verb, key), verb):
            self.after.pop(name, lambda: None)()
        return result

    def read(self, key):
        return self._met("read", key, lambda: MemoryStore.read(self, key))

    def create(self, key, data, *, durable=True):
        return self._met("create", key, lambda: MemoryStore.create(self, key, data))

    def replace(self, key, data, version, *, durable=True):
        return self._met("replace", key, lambda: MemoryStore.replace(self, key, data, version))

    def delete(self, key, *, durable=True):
        return self._met("delete", key, lambda: MemoryStore.delete(self, key))

    def list(self, prefix):
        return self._met("list", prefix, lambda: MemoryStore.list(self, prefix))


def repository(store):
    return Repository(store, sleep=lambda _: None, random=lambda: 0.5)


def home(*ids):
    store = Bucket()
    for job_id in ids:
        repository(store).change(lambda jobs, job_id=job_id: jobs.add(job(job_id)))
    store.calls.clear()
    return store


def job(job_id, **more):
    return {"id": job_id, "name": job_id.title(), "schedule_display": "every 5m", "runs": 0, **more}


def folder(store):
    return read_listing(MemoryStore.read(store, JOBS_KEY).data).folder


def key(store, job_id):
    return job_key(folder(store), job_id)


def stored(store):
    return {record.id: record.value for record in repository(store).jobs().records}


def fire(job_id):
    def fn(jobs):
        record = jobs.get(job_id)
        jobs.put(job_id, {**record, "runs": record["runs"] + 1})
        return record["runs"] + 1

    return fn


def raising(error):
    def do():
        raise error

    return do


# -- what a fire costs, and where it writes ----------------------------------------------------------------------------


def test_a_fire_reads_and_writes_its_own_document_alone():
    """A read and a conditional write, once the process knows the folder; the listing is not touched."""
    store = home("a", "b")
    replica = repository(store)
    assert replica.change(fire("a")) == 1
    store.calls.clear()
    assert replica.change(fire("a")) == 2
    assert store.calls == [("read", key(store, "a")), ("replace", key(store, "a"))]
    assert replica.change(lambda jobs: jobs.get("b")["runs"]) == 0
    assert stored(store)["a"]["runs"] == 2


def test_fires_of_different_jobs_never_meet():
    """What another replica writes in between is no conflict, unless it is the same job."""
    store = home("a", "b")
    one, other = repository(store), repository(store)
    one.change(fire("a")), other.change(fire("b"))
    store.calls.clear()
    store.before["replace", key(store, "a")] = lambda: other.change(fire("b"))
    assert one.change(fire("a")) == 2
    assert [verb for verb, _ in store.calls].count("replace") == 2
    store.before["replace", key(store, "a")] = lambda: other.change(fire("a"))
    assert one.change(fire("a")) == 4
    assert {name: value["runs"] for name, value in stored(store).items()} == {"a": 4, "b": 2}


def test_a_document_holds_the_whole_record_and_the_listing_what_people_look_for():
    """The document is a jobs.json of its job; the listing is refused by whatever takes it for one."""
    store = home("b", "a")
    document = json.loads(store.read(key(store, "a")).data)
    assert document["jobs"] == [job("a")]
    listing = store.read(JOBS_KEY).data
    assert [(entry["id"], entry["name"], entry["schedule"]) for entry in json.loads(listing)["listing"]] == [
        ("b", "B", "every 5m"), ("a", "A", "every 5m")]  # fmt: skip
    with pytest.raises(StoreError, match="has a text as its `jobs`, not a list"):
        JobsFile.parse(listing)


def test_jobs_are_read_in_the_order_of_the_listing():
    """And those that it does not know yet after them; it is only a copy."""
    store = home("c", "a", "b")
    assert list(stored(store)) == ["c", "a", "b"]
    found = store.read(JOBS_KEY)
    document = json.loads(found.data)
    document["listing"] = [*document["listing"][1:], {"id": "gone"}, 5]
    store.replace(JOBS_KEY, json.dumps(document).encode(), found.version)
    assert list(stored(store)) == ["a", "b", "c"]
    repository(store).change(lambda jobs: jobs.put("a", {**jobs.get("a"), "name": "new"}))
    listed = json.loads(store.read(JOBS_KEY).data)["listing"]
    assert [(entry["id"], entry.get("name")) for entry in listed] == [("a", "new"), ("b", "B"), ("gone", None)]


def test_an_empty_home_keeps_jobs_apart_from_the_first_one_on():
    """Reading it makes nothing; of two that add the first job at once both are there."""
    store = Bucket()
    assert (repository(store).jobs().records, repository(store).jobs().absent) == ([], True)
    with pytest.raises(NotFoundError):
        repository(store).change(lambda jobs: jobs.remove("a"))
    assert not store.list("")
    store.before["create", JOBS_KEY] = lambda: repository(store).change(lambda jobs: jobs.add(job("b")))
    repository(store).change(lambda jobs: jobs.add(job("a")))
    assert sorted(stored(store)) == ["a", "b"]


# -- add and remove ----------------------------------------------------------------------------------------------------


@tries("store/apart.py", "choose another id, or edit that job")
def test_an_id_is_taken_in_any_case_and_by_an_unusable_document():
    store = home("a")
    for name in ("a", "A"):
        with pytest.raises(ConflictError, match="there is a job 'a' already"):
            repository(store).change(lambda jobs, name=name: jobs.add(job(name)))
    store.replace(key(store, "a"), b"garbage", store.read(key(store, "a")).version)
    with pytest.raises(ConflictError):
        repository(store).change(lambda jobs: jobs.add(job("a")))
    repository(store).change(lambda jobs: jobs.add(job("b")))
    assert repository(store).jobs().get("b") == job("b")


def test_a_removed_job_leaves_nothing():
    """Neither a document, nor a line of the listing; the id may be used again at once."""
    store = home("a", "b")
    repository(store).change(lambda jobs: jobs.remove("a"))
    assert list(stored(store)) == ["b"]
    assert store.list(JOB_PREFIX) == [key(store, "b")]
    repository(store).change(lambda jobs: jobs.add(job("a")))
    assert list(stored(store)) == ["b", "a"]


def test_a_removal_that_meets_a_fire_looks_again():
    """A bucket deletes without a condition, so the record is taken out by a write that has one."""
    store = home("a")
    seen = []
    store.before["replace", key(store, "a")] = lambda: repository(store).change(fire("a"))

    def remove(jobs):
        seen.append(jobs.get("a")["runs"])
        jobs.remove("a")

    repository(store).change(remove)
    assert seen == [0, 1]
    with pytest.raises(TypeError):
        repository(store).change(fire("a"))


def test_a_fire_that_has_read_a_job_which_is_removed_then_takes_nothing():
    store = home("a")
    store.before["replace", key(store, "a")] = lambda: repository(store).change(lambda jobs: jobs.remove("a"))
    with pytest.raises(TypeError, match="NoneType"):
        repository(store).change(fire("a"))
    assert not store.list(JOB_PREFIX)


def test_a_removal_whose_answer_is_lost_is_carried_out():
    store = home("a")
    store.after["replace", key(store, "a")] = raising(OutcomeUnknown("lost"))
    repository(store).change(lambda jobs: jobs.remove("a"))
    assert not store.list(JOB_PREFIX)


def test_the_document_of_a_removed_job_is_deleted_by_the_process_that_removed_it():
    """Another one that adds the job waits for that: the deletion would take the new job. After a day nobody comes."""
    store = home("a")
    store.before["delete"] = raising(TemporaryError("the bucket is away"))
    repository(store).change(lambda jobs: jobs.remove("a"))
    assert stored(store) == {}
    where = store.list(JOB_PREFIX)[0]
    left = store.read(where)
    with pytest.raises(TemporaryError):
        repository(store).change(lambda jobs: jobs.add(job("a")))
    assert store.read(where).data == left.data
    old = json.loads(left.data) | {"updated_at": (datetime.now(UTC) - timedelta(days=1, minutes=1)).isoformat()}
    store.replace(where, json.dumps(old).encode(), left.version)
    repository(store).change(lambda jobs: jobs.add(job("a")))
    assert stored(store) == {"a": job("a")}


def test_several_jobs_change_together_or_one_by_one():
    """Each has its own write; what one function raises stands in its place."""
    store = home("a", "b", "c")

    def refuses(_):
        raise ConflictError("no")

    first, error, last = repository(store).change_together([fire("a"), refuses, fire("c")])
    assert (first, str(error), last) == (1, "no", 1)
    repository(store).change(lambda jobs: [jobs.remove(name) for name in "ab"])
    assert list(stored(store)) == ["c"]


def test_a_change_of_several_jobs_that_meets_another_leaves_none_out():
    store = home("a", "b")
    store.before["replace", key(store, "b")] = lambda: repository(store).change(fire("b"))

    def both(jobs):
        for name in "ab":
            jobs.put(name, {**jobs.get(name), "name": "new"})

    repository(store).change(both)
    assert {name: (value["name"], value["runs"]) for name, value in stored(store).items()} == {
        "a": ("new", 0), "b": ("new", 1)}  # fmt: skip


def test_one_bad_document_stays_with_its_job():
    """It is named, left as it is, and removed like every unusable record; the others fire as ever."""
    store = home("a", "b")
    for name, data in (("a", b"{"), ("x", json.dumps({"jobs": [job("y")]}).encode())):
        where = job_key(folder(store), name)
        found = store.read(where)
        store.create(where, data) if found is None else store.replace(where, data, found.version)
    problems = {record.number: (record.id, record.problem) for record in repository(store).jobs().records}
    assert "cannot be parsed" in problems["record 1"][1]
    assert problems["record 2"] == ("b", None)
    assert problems["record 3"] == ("y", "it stands in the document of 'x'")
    assert repository(store).jobs().get("a") is None
    assert "cannot be parsed" in repository(store).jobs().problem_of("a")
    assert repository(store).jobs().problem_of("b") is None
    assert repository(store).change(fire("b")) == 1

    def take_out(jobs):
        for index in (0, 2):
            jobs.remove_record(index)

    repository(store).change(take_out)
    assert list(stored(store)) == ["b"]
    assert store.list(JOB_PREFIX) == [key(store, "b")]


@tries("store/layout.py", 'put it back, or write it anew: {"jobs": "apart", "folder')
def test_a_lost_jobs_json_is_not_taken_for_no_jobs():
    store = home("a")
    name = folder(store)
    store.delete(JOBS_KEY)
    with pytest.raises(StoreError, match="is gone, and there are documents") as caught:
        repository(store).jobs()
    store.create(JOBS_KEY, caught.value.hint.partition("anew: ")[2].encode())
    assert (list(stored(store)), folder(store)) == (["a"], name)


@tries("store/listing.py", "write the name of the folder in")
def test_a_listing_that_names_no_folder_is_refused():
    store = home("a")
    found, name = store.read(JOBS_KEY), folder(store)
    broken = store.replace(JOBS_KEY, b'{"jobs": "apart", "listing": 5}', found.version)
    for use in (repository(store).jobs, lambda: repository(store).change(fire("a"))):
        with pytest.raises(StoreError, match="is a listing that names no folder"):
            use()
    broken = store.replace(JOBS_KEY, b'{"jobs": "apart",', broken)
    with pytest.raises(StoreError, match=r"cron/jobs\.json cannot be parsed: it is not JSON"):
        repository(store).jobs()
    store.replace(JOBS_KEY, json.dumps({"jobs": "apart", "folder": name, "listing": 5}).encode(), broken)
    assert stored(store) == {"a": job("a")}


# -- moves -------------------------------------------------------------------------------------------------------------


def together(*ids):
    store = Bucket()
    store.create(JOBS_KEY, json.dumps({"jobs": [job(job_id) for job_id in ids]}).encode())
    return store


def test_a_listing_whose_members_somebody_sorted_is_one_all_the_same():
    """As `jq -S` writes it; a job that has a `folder`, and bytes that are no JSON, are no listing."""
    store = home("a", "b")
    before = store.read(JOBS_KEY)
    store.replace(JOBS_KEY, json.dumps(json.loads(before.data), sort_keys=True).encode(), before.version)
    assert [record.id for record in repository(store).jobs().records] == ["a", "b"]
    assert read_listing(b'{"jobs": [{"id": "a", "folder": "f"}]}') is None
    assert read_listing(b'{"folder": ') is None


def test_a_home_from_before_goes_on_as_it_is():
    """With one document of all jobs, until it is moved: an older replica may still be at it."""
    store = together("a", "b")
    replica = repository(store)
    assert replica.change(fire("a")) == 1
    assert [value["runs"] for value in stored(store).values()] == [1, 0]
    assert replica.change_together([fire("a"), fire("b")]) == [2, 1]
    assert store.list(JOB_PREFIX) == []
    assert json.loads(store.read(JOBS_KEY).data)["jobs"][0]["runs"] == 2


def test_both_moves_keep_every_record_and_say_whether_there_was_one_to_make():
    store = together("b", "a")
    before = stored(store)
    assert repository(store).layout.keep_apart()
    assert not repository(store).layout.keep_apart()
    assert list(stored(store).items()) == list(before.items())
    assert len(store.list(JOB_PREFIX)) == 2
    assert repository(store).layout.keep_together()
    assert not repository(store).layout.keep_together()
    assert list(stored(store).items()) == list(before.items())
    assert repository(Bucket()).layout.keep_apart()


def test_what_a_move_leaves_behind_counts_for_nothing_and_goes_a_day_later():
    """Until then it tells a process that stood still that its folder is no longer the one."""
    store = home("a")
    left = key(store, "a")
    repository(store).layout.keep_together()
    repository(store).layout.keep_apart()
    assert store.list(JOB_PREFIX) == sorted([left, key(store, "a")])
    old = json.loads(store.read(left).data)
    assert old["moved"] is True
    old["updated_at"] = (datetime.now(UTC) - timedelta(days=1, minutes=1)).isoformat()
    store.replace(left, json.dumps(old).encode(), store.read(left).version)
    repository(store).layout.keep_apart()
    assert store.list(JOB_PREFIX) == [key(store, "a")]


def test_a_process_that_stood_still_while_it_added_a_job_adds_it_where_the_jobs_are():
    """A move marks the place of a job that is listed and has no document yet, so none is made beside it."""
    store = home("a")

    store.before["create", key(store, "b")] = repository(store).layout.keep_together
    repository(store).change(lambda jobs: jobs.add(job("b")))
    assert list(stored(store)) == ["a", "b"]
    assert [entry["id"] for entry in json.loads(store.read(JOBS_KEY).data)["jobs"]] == ["a", "b"]


@pytest.mark.parametrize("apart", [True, False])
def test_a_replica_that_fires_at_any_call_of_a_move_loses_nothing(apart):
    """It knows the layout from before; each of its fires counts once, whichever it meets."""
    for at in range(60):
        store = together("a", "b", "c") if apart else home("a", "b", "c")
        replicas = [repository(store) for _ in range(2)]
        for replica in replicas:
            replica.change(fire("b"))
        calls = [0]

        def strikes(at=at, calls=calls, replicas=replicas, store=store):
            calls[0] += 1
            if calls[0] == at + 1:
                replicas[0].change(fire("b")), replicas[1].change(lambda jobs: jobs.add(job("new")))
                repository(store).change(lambda jobs: jobs.remove("a"))

        mover = repository(Striking(store, strikes))
        assert mover.layout.keep_apart() if apart else mover.layout.keep_together()
        if calls[0] <= at:
            break
        found = stored(store)
        assert {name: value["runs"] for name, value in found.items()} == {"b": 3, "c": 0, "new": 0}, at
        for replica in replicas:
            replica.change(fire("b"))
        assert stored(store)["b"]["runs"] == 5
    assert 3 < at < 59


@pytest.mark.parametrize("apart", [True, False])
def test_a_move_may_stop_at_any_call(apart):
    """A replica fires on, and the next move brings it to its end."""
    for at in range(60):
        store = together("a", "b") if apart else home("a", "b")
        replica = repository(store)
        replica.change(fire("a"))
        left = [at]

        def stops(left=left):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        try:
            layout = repository(Striking(store, stops)).layout
            layout.keep_apart() if apart else layout.keep_together()
        except KeyboardInterrupt:
            pass
        else:
            break
        assert replica.change(fire("a")) == 2, at
        assert stored(store)["a"]["runs"] == 2
        again = repository(store).layout
        again.keep_apart() if apart else again.keep_together()
        assert {name: value["runs"] for name, value in stored(store).items()} == {"a": 2, "b": 0}
    assert 3 < at < 59


class Striking(Bucket):
    """The same bucket, to which something happens before each call, and before what would be the next one."""

    def __init__(self, store, strikes):
        super().__init__()
        self._documents, self._shared, self._strikes = store._documents, store, strikes

    def _met(self, verb, key, call):
        self._strikes()
        self._writes = self._shared._writes
        result = call()
        self._shared._writes = self._writes
        return result


def test_a_fire_that_meets_a_move_whose_process_is_gone_finishes_it():
    store = home("a", "b")
    replica = repository(store)
    replica.change(fire("a"))
    left = store.read(key(store, "a"))
    store.replace(key(store, "a"), json.dumps(json.loads(left.data) | {"moved": True}).encode(), left.version)
    assert replica.jobs().get("a")["runs"] == 1
    assert replica.change(fire("a")) == 2
    assert [entry["id"] for entry in json.loads(store.read(JOBS_KEY).data)["jobs"]] == ["a", "b"]


@tries("store/layout.py", "mend it first")
def test_a_record_that_cannot_be_used_is_not_moved():
    store = together("a")
    found = store.read(JOBS_KEY)
    store.replace(JOBS_KEY, json.dumps({"jobs": [job("a"), job("a")]}).encode(), found.version)
    with pytest.raises(StoreError, match="cannot be moved: it has the id of record 1"):
        repository(store).layout.keep_apart()
    repository(store).change(lambda jobs: jobs.remove_record(1))
    assert repository(store).layout.keep_apart()
    store = home("a", "b")
    store.replace(key(store, "b"), b"{", store.read(key(store, "b")).version)
    with pytest.raises(StoreError, match=r"b\.json cannot be moved"):
        repository(store).layout.keep_together()
    assert repository(store).change(fire("a")) == 1


@tries("store/layout.py", "let it rest for a moment with `chronos hold`, and move again")
def test_a_move_that_comes_too_late_again_and_again_says_so():
    store = together("a")

    mover = repository(Striking(store, lambda: repository(store).change(fire("a"))))
    with pytest.raises(TemporaryError, match="changed under every attempt") as caught:
        mover.layout.keep_apart()
    assert "chronos hold" in caught.value.hint
    assert repository(store).layout.keep_apart()


@tries("store/interface.py", "try again")
def test_a_process_that_meets_a_move_while_it_changes_a_job_looks_again():
    store = home("a")
    seen = repository(store).layout.open()
    repository(store).layout.keep_together()
    with pytest.raises(JobsMovedError) as caught:
        seen.get("a")
    assert (caught.value.code, caught.value.exit_code, caught.value.http_status) == ("jobs_moved", 75, 503)
    assert repository(store).layout.open() is None


def test_a_reader_finds_the_jobs_where_they_are():
    """It goes by what its process saw before, and by what it meets."""
    store = home("a", "b")
    reader = repository(store)
    for move in (repository(store).layout.keep_together, repository(store).layout.keep_apart):
        views = [reader.jobs() for _ in range(3)]
        move()
        store.calls.clear()
        assert views[0].get("a") == job("a")
        assert [record.id for record in views[1].records] == ["a", "b"]
        assert views[2].problem_of("a") is None
    assert reader.jobs().get("a") == job("a")
    store.calls.clear()
    assert reader.jobs().get("a") == job("a")
    assert store.calls == [("read", key(store, "a"))]


def test_of_two_moves_at_once_one_counts():
    store = together("a")
    store.before["replace", JOBS_KEY] = repository(store).layout.keep_apart
    assert not repository(store).layout.keep_apart()
    assert list(stored(store)) == ["a"]


# -- threads and replicas ----------------------------------------------------------------------------------------------


def test_replicas_that_fire_while_it_is_moved_to_and_fro_count_every_fire():
    """Four threads, each with a replica of its own, against eight moves."""
    store, guard = together(*"abcd"), threading.Lock()

    class Shared(Bucket):
        def _met(self, verb, key, call):
            time.sleep(random.random() / 2_000)
            with guard:
                self._writes = store._writes
                result = call()
                store._writes = self._writes
            return result

    def replica():
        made = Shared()
        made._documents = store._documents
        return Repository(made, sleep=lambda s: time.sleep(s / 20), random=random.random)

    fired = dict.fromkeys("abcd", 0)
    over = threading.Event()

    def fires(name):
        mine = replica()
        while not over.is_set():
            mine.change(fire(name))
            fired[name] += 1
            time.sleep(0.05)

    threads = [threading.Thread(target=fires, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            for name in ("keep_apart", "keep_together"):
                for _ in range(20):  # on a busy machine it may come too late again and again
                    with suppress(TemporaryError):
                        getattr(replica().layout, name)()
                        break
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert {name: value["runs"] for name, value in stored(store).items()} == fired
    assert min(fired.values()) > 0
