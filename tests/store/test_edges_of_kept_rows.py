"""Rows and changes of the jobs at their edges: which rows are kept, what is read for that, how often a change is tried."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from chronos_cli.core.row import RunState
from chronos_cli.errors import TemporaryError
from chronos_cli.frozen import replace
from chronos_cli.store import proof
from chronos_cli.store.documents import ATTEMPTS, DocumentRepository
from chronos_cli.store.interface import JOBS_KEY, VersionConflict
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.repository import Repository
from chronos_cli.store.rows import _lived_horizon
from tests.core.making import T, at
from tests.memory_store import MemoryStore
from tests.store.test_edges_of_the_repository import NEVER, ended, kept, repository

HOUR = timedelta(hours=1)


def named(*instants):
    return [f"{instant:%Y%m%dT%H%M%SZ}" for instant in instants]


def test_a_row_of_this_very_second_is_past():
    """It takes the place of the one before it."""
    found = repository({"id": "j"})
    for seconds in (0, 60):
        found.rows.create(ended(at(seconds)))
    assert kept(found, now=at(60)) == named(at(60))


def test_a_row_of_the_second_from_which_a_clock_has_leapt_is_one_since():
    """It takes no place of those before it."""
    leap = 730 * 86_400
    found = repository({"id": "j", "chronos": {"leapt_from": [at(60).isoformat()]}})
    for seconds in (0, 60, leap):
        found.rows.create(ended(at(seconds)))
    assert kept(found, now=at(leap + 60), sure=False) == named(T, at(leap))


def test_what_is_not_known_of_the_time_needs_no_witness():
    """Names alone count then."""
    found = repository({"id": "j"})
    for seconds in (0, 60):
        found.rows.create(ended(at(seconds)))
    assert kept(found, sure=False) == named(at(60))


def test_young_rows_are_not_read():
    """But for the newest, of which the last that is settled is looked for; at the very horizon a row is young."""
    found = repository({"id": "j"})
    for seconds in range(0, 300, 60):
        found.rows.create(ended(at(seconds)))
    found.documents.seen.clear()
    assert found.rows.prune("j", keep=4, horizon="20261120T120100Z") == 1
    rows = [key.rpartition("/")[2] for key in found.documents.seen if "runs" in key]
    assert rows == [f"{name}.json" for name in named(at(240), T)]


def test_it_is_said_how_many_rows_went():
    """What was left back by its maker is one of them; what stays is none."""
    found = repository({"id": "j", "chronos": {"open": []}})
    found.rows.create(replace(ended(T), state=RunState.QUEUED))
    found.rows.create(replace(ended(at(30)), state=RunState.RUNNING))
    for seconds in (60, 120, 180):
        found.rows.create(ended(at(seconds)))
    assert found.rows.prune("j", keep=1, horizon=NEVER) == 3
    assert found.rows.ids("j") == named(at(30), at(180))
    assert found.rows.prune("j", keep=1, horizon=NEVER) == 0


@pytest.mark.parametrize(
    ("gap", "span", "since"),
    [
        (25 * HOUR, 24 * HOUR, named(T)[0]), (25 * HOUR, 25 * HOUR, ""), (25 * HOUR + timedelta(seconds=1), HOUR, ""),
        (HOUR, timedelta(), named(T)[0]), (HOUR, timedelta(minutes=59), named(T)[0]),
    ],
    ids=str,
)  # fmt: skip
def test_rows_are_as_old_as_what_was_lived_between_them(gap, span, since):
    """A day and an hour at most between two: more may be a leap."""
    assert _lived_horizon(named(T - gap, T), T, span) == since
    assert _lived_horizon([], T, span) == ""


def pausing():
    """A repository of one job, and how long it has paused."""
    pauses = []
    store = MemoryStore()
    store.create(JOBS_KEY, b'{"jobs": [{"id": "j"}]}')
    return Repository(store, sleep=pauses.append, random=lambda: 0.5), pauses


def conflicts(store, *errors):
    """The next writes of the jobs meet these; None: none."""
    met, write = list(errors), MemoryStore.replace

    def replaced(key, data, version, *, durable=True):
        if met and (error := met.pop(0)) is not None:
            raise error
        return write(store, key, data, version, durable=durable)

    store.replace = replaced


def test_a_change_pauses_after_a_conflict_longer_each_time_and_not_at_all_without():
    """Others get through meanwhile."""
    found, pauses = pausing()
    found.change(lambda jobs: jobs.put("j", {"id": "j", "a": 1}))
    assert pauses == []
    conflicts(found.documents, VersionConflict(), VersionConflict())
    found.change(lambda jobs: jobs.put("j", {"id": "j", "a": 2}))
    assert pauses == [0.02, 0.04]


def test_a_change_is_tried_sixty_times():
    """With a pause between two tries of half a second at most, half as much again by chance."""
    found, pauses = pausing()
    conflicts(found.documents, *[VersionConflict()] * 1_000)
    tries = []
    with pytest.raises(TemporaryError, match=r"jobs\.json changed under every attempt"):
        found.change(lambda jobs: (tries.append(1), jobs.put("j", {"id": "j", "a": 1})))
    assert (len(tries), len(pauses), max(pauses)) == (ATTEMPTS, ATTEMPTS - 1, 0.5)
    pauses.clear()
    with pytest.raises(TemporaryError, match="cron/x changed under every attempt"):
        found.until_stored("cron/x", lambda: conflict(tries))
    assert (len(tries), len(pauses)) == (2 * ATTEMPTS, ATTEMPTS)


def conflict(tries):
    tries.append(1)
    raise VersionConflict


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_pauses_double_up_to_their_bounds_and_vary_by_chance(chance):
    """Of a conflict, and of what failed."""
    pauses = []
    found = DocumentRepository(MemoryStore(), sleep=pauses.append, random=lambda: chance)
    for number in (0, 1, 6, 7, 50):
        found.pause(number)
    for number in (0, 1, 7, 8, 50):
        found.wait_to_retry(number)
    factor = 0.5 + chance
    assert pauses == [wait * factor for wait in (0.005, 0.01, 0.32, 0.5, 0.5, 0.02, 0.04, 2.56, 5.0, 5.0)]


def test_a_store_is_proven_before_its_first_change_whichever_that_is(monkeypatch):
    """Once in the life of a repository; reading needs no proof."""
    proven = []
    monkeypatch.setattr(proof, "ensure_proven", proven.append)
    for change in ("change", "change_together"):
        found = repository({"id": "j"})
        found.documents.needs = True
        found.jobs()
        assert proven == []
        for _ in range(2):
            if change == "change":
                found.change(lambda jobs: None)
            else:
                found.change_together([lambda jobs: None])
        assert proven == [found.documents]
        proven.clear()


def test_what_was_read_before_is_known_to_the_next_read(monkeypatch):
    """Of ten thousand jobs the one that changed is decoded."""
    found = repository({"id": "j"})
    known, parse = [], JobsFile.parse

    def noted(data, **how):
        known.append(how["known"])
        return parse(data, **how)

    monkeypatch.setattr(JobsFile, "parse", noted)
    first = found.jobs()
    found.documents.replace(JOBS_KEY, json.dumps({"jobs": [{"id": "k"}]}).encode(), found.read(JOBS_KEY).version)
    second = found.jobs()
    found.change(lambda jobs: None)
    assert known == [None, first, second]


def test_a_repository_is_where_its_documents_are_and_deletes_and_proves_them():
    """The key of a proof is what it is told."""
    found = DocumentRepository(MemoryStore(), sleep=lambda _: None, random=lambda: 0.5)
    assert found.location == "memory"
    found.documents.create("a/b", b"x")
    found.delete("a/b")
    assert list(found.keys("a/")) == []
    made = []
    found.documents.delete = lambda key, **_: made.append(key)
    found.prove(lambda: "t")
    assert made == ["cron/proof/t.json"]
