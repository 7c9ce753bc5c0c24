"""Changes that meet in one process become one write of the jobs, and each caller still has its own result."""

from __future__ import annotations

import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_cli.errors import ConflictError, StoreError, TemporaryError
from chronos_cli.store.group_change import PendingChange
from chronos_cli.store.interface import JOBS_KEY, OutcomeUnknown, VersionConflict
from chronos_cli.store.local import LocalStore
from chronos_cli.store.repository import Repository
from tests.memory_store import MemoryStore


class Troubled(MemoryStore):
    """A store whose next writes of the jobs go as it is told; `reads` says when a reader may go on."""

    def __init__(self, *troubles):
        super().__init__()
        super().create(JOBS_KEY, b'{"jobs": []}')
        self.troubles = list(troubles)
        self.writes = 0

    def replace(self, key, data, version, *, durable=True):
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble == "conflict":
            raise VersionConflict(key)
        if trouble == "refused":
            raise StoreError("the disk is full")
        written = super().replace(key, data, version, durable=durable)
        self.writes += 1
        if trouble == "lost":
            raise OutcomeUnknown(key)
        if trouble == "not durable":
            raise StoreError("written, but not durable")
        return written

    def ids(self):
        """The jobs as stored, in their order."""
        return [job["id"] for job in json.loads(self.read(JOBS_KEY).data)["jobs"]]


def repository(store):
    return Repository(store, sleep=lambda _: None, random=lambda: 0.5)


def adds(name):
    """Add a job, unless an earlier try of just this change has; says what the jobs then are."""

    def fn(jobs):
        if jobs.get(name) is None:
            jobs.add({"id": name, "by": name})
        return [record.id for record in jobs.records]

    return fn


def lead(store, *fns):
    """Let changes meet: all wait when the first of them comes to its turn. Their members, all over."""
    rows = repository(store)
    members = [PendingChange(fn) for fn in fns]
    rows._grouped._waiting += members
    while not all(member.over for member in members):
        rows._grouped._lead()
    return members


def test_changes_that_meet_are_one_write_and_each_sees_those_before_it():
    """One write for all; every result is that of its own function, in the order in which they came."""
    store = Troubled()
    members = lead(store, adds("a"), adds("b"), adds("c"))
    assert [member.outcome() for member in members] == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert (store.ids(), store.writes) == (["a", "b", "c"], 1)


def test_one_that_fails_fails_alone():
    """What a function raises is its caller's; what it had changed by then is not written."""

    def half(jobs):
        jobs.add({"id": "half"})
        raise ConflictError("not this one")

    store = Troubled()
    one, broken, two = lead(store, adds("a"), half, adds("b"))
    assert (one.outcome(), two.outcome()) == (["a"], ["a", "b"])
    with pytest.raises(ConflictError, match="not this one"):
        broken.outcome()
    assert (store.ids(), store.writes) == (["a", "b"], 1)


def test_a_record_that_cannot_be_written_fails_its_own_change_alone():
    """Where the whole cannot be rendered, each change is made by itself."""

    def unwritable(jobs):
        jobs.add({"id": "odd", "value": object()})

    store = Troubled()
    one, broken, two = lead(store, adds("a"), unwritable, adds("b"))
    assert (one.outcome(), two.outcome()) == (["a"], ["a", "b"])
    with pytest.raises(TypeError):
        broken.outcome()
    assert store.ids() == ["a", "b"]


def test_whoever_must_look_again_keeps_nobody():
    """A function that meets a conflict of its own runs again in the next group; the others have their results."""
    tries = []

    def twice(jobs):
        tries.append(1)
        jobs.add({"id": "t"})
        if len(tries) == 1:
            raise VersionConflict("its row")
        return "second"

    store = Troubled()
    one, again = lead(store, adds("a"), twice)
    assert (one.outcome(), again.outcome(), store.ids(), store.writes) == (["a"], "second", ["a", "t"], 2)


def test_nobody_hears_of_a_result_before_the_write_it_rests_on():
    """A member that only read what an earlier one had changed is told of the failed write too; one before it is not."""
    reads = lambda jobs: [record.id for record in jobs.records]  # noqa: E731
    store = Troubled("refused")
    before, changed, after = lead(store, reads, adds("a"), reads)
    assert before.outcome() == []
    for member in (changed, after):
        with pytest.raises(StoreError, match="the disk is full"):
            member.outcome()
    assert store.ids() == []


def test_a_write_that_may_not_be_durable_is_a_failure_of_all_that_rest_on_it():
    """It is there, and nobody may start anything by it: nobody finds its own token and takes it for stored."""
    members = lead(store := Troubled("not durable"), adds("a"), adds("b"))
    assert [type(member.error) for member in members] == [StoreError, StoreError]
    assert store.ids() == ["a", "b"]


@given(
    st.lists(st.sampled_from(["conflict", "lost", None]), max_size=4),
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_an_unknown_outcome_is_checked_by_each(troubles, names):
    """After conflicts and lost answers each change is there once, and each was told of its own."""
    store = Troubled(*troubles)
    members = lead(store, *map(adds, names))
    assert [name in member.outcome() for name, member in zip(names, members, strict=True)] == [True] * len(names)
    assert store.ids() == list(dict.fromkeys(names))


def test_conflicts_that_do_not_clear_end_in_an_error():
    """Each of a group gives up after as many tries as one alone."""
    members = lead(Troubled(*["conflict"] * 1000), adds("a"), adds("b"))
    for member in members:
        with pytest.raises(TemporaryError, match="changed under every attempt"):
            member.outcome()


def test_a_leader_that_is_stopped_leaves_nobody_waiting():
    """What ends the thread that does the work for others is an error for them."""

    def stopped(_):
        raise KeyboardInterrupt

    rows = repository(Troubled())
    members = [PendingChange(stopped), PendingChange(adds("a"))]
    rows._grouped._waiting += members
    with pytest.raises(KeyboardInterrupt):
        rows._grouped._lead()
    assert all(isinstance(member.error, TemporaryError) for member in members)
    assert "the change was given up: what made it with others was stopped" in str(members[1].error)


def test_threads_share_writes_and_lose_nothing(tmp_path):
    """Sixteen threads over a real file: all changes are there, in fewer writes than changes, and none is made twice."""
    (tmp_path / "cron").mkdir()
    (tmp_path / "cron/jobs.json").write_text('{"jobs": []}')
    written = []

    class Counting(LocalStore):
        def replace(self, key, data, version, *, durable=True):
            written.append(key)
            time.sleep(0.01)
            return super().replace(key, data, version, durable=durable)

    rows = Repository(Counting(tmp_path, lock_timeout_s=20), sleep=time.sleep, random=lambda: 0.5)
    told = {}
    threads = [
        threading.Thread(target=lambda name=name: told.update({name: rows.change(adds(name))}))
        for name in map("job-{}".format, range(16))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = [job["id"] for job in json.loads((tmp_path / "cron/jobs.json").read_text())["jobs"]]
    assert sorted(stored) == sorted(told)
    assert all(name in ids for name, ids in told.items())
    assert len(written) <= 8


def test_one_process_may_ask_for_several_at_once():
    """`change_together` is one write; what one raises stands in its place."""

    def refuses(_):
        raise ConflictError("not this one")

    store = Troubled()
    first, error, last = repository(store).change_together([adds("a"), refuses, adds("b")])
    assert (first, last, store.writes) == (["a"], ["a", "b"], 1)
    assert isinstance(error, ConflictError)
