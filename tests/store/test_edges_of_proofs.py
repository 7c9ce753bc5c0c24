"""The proof of compare-and-swap at its edges: each way in which a place may fail it, and what is left of it."""

from __future__ import annotations

import json

import pytest

from chronos_cli.errors import StoreError, TemporaryError
from chronos_cli.store.interface import Document, OutcomeUnknown, VersionConflict
from chronos_cli.store.proof import MARKER_KEY, ensure_proven, prove_compare_and_swap
from tests.memory_store import MemoryStore


class Place(MemoryStore):
    """One that says that it has to be proven; `after`: what becomes of a call of that number, counted over all writes."""

    needs_proof = True

    def __init__(self, **after):
        super().__init__()
        self.after, self.calls = after, []

    def _met(self, name, key, usual):
        self.calls.append(name)
        answer = self.after.get(f"{name}{self.calls.count(name)}")
        if isinstance(answer, Exception):
            raise answer
        return usual() if answer is None else answer(self, key)

    def create(self, key, data, *, durable=True):
        return self._met("create", key, lambda: super(Place, self).create(key, data, durable=durable))

    def replace(self, key, data, version, *, durable=True):
        return self._met("replace", key, lambda: super(Place, self).replace(key, data, version, durable=durable))

    def read(self, key):
        return self._met("read", key, lambda: super(Place, self).read(key))


def taken(place, key):
    """A write with a wrong version is taken."""
    return place._put(key, b"{}")


def prove(place):
    prove_compare_and_swap(place, token=lambda: "t")


def test_a_place_that_keeps_conditions_is_proven_and_nothing_is_left_of_it():
    """Two writes that have to be taken, two that must not, and two more with what was read."""
    place = Place()
    prove(place)
    assert (list(place.list("")), place.calls) == ([], ["create", "create", "replace", "replace", "read", "replace"])
    seen = []
    place.delete = lambda key, **_: seen.append(key)
    prove(place)
    prove_compare_and_swap(place)
    assert seen[0] == "cron/proof/t.json"
    assert len(seen[1]) == len("cron/proof/.json") + 16


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"create2": taken}, r"made a document that existed \(cron/proof/t.json\)"),
        ({"replace1": VersionConflict()}, "refuses a write with the right version"),
        ({"replace2": taken}, "took a write with an old version"),
        ({"read1": lambda place, key: None}, "does not hold what was written last"),
        (
            {"read1": lambda place, key: Document(data=b'{"probe": 1}', version="2")},
            "does not hold what was written last",
        ),
        ({"replace3": VersionConflict()}, "gives a document another version on reading"),
    ],
)
def test_a_place_that_does_not_is_told_what_it_does(after, said):
    """And what it has to do; the key goes all the same."""
    place = Place(**after)
    with pytest.raises(StoreError, match=said) as caught:
        prove(place)
    assert "If-Match" in caught.value.hint
    assert list(place.list("")) == []


@pytest.mark.parametrize("call", ["create2", "replace1", "replace2", "replace3"])
def test_an_answer_that_is_lost_proves_neither(call):
    """It can be tried again."""
    place = Place(**{call: OutcomeUnknown("lost")})
    with pytest.raises(TemporaryError, match="could not be found out: lost"):
        prove(place)
    assert list(place.list("")) == []


def test_a_place_is_proven_once_and_its_mark_is_good_for_it_alone():
    """A copy of a bucket has the mark of another; one that cannot be read proves nothing."""
    place = Place()
    ensure_proven(place)
    assert json.loads(place.read(MARKER_KEY).data) == {"compare_and_swap": "proven", "location": "memory"}
    place.calls.clear()
    ensure_proven(place)
    assert place.calls == ["read"]
    for mark in (b'{"location": "elsewhere"}', b"{}", b"torn", b"[]"):
        place._put(MARKER_KEY, mark)
        place.calls.clear()
        ensure_proven(place)
        assert len(place.calls) == 8
        assert json.loads(place.read(MARKER_KEY).data)["location"] == "memory"
    free = Place()
    free.needs_proof = False
    ensure_proven(free)
    assert free.calls == []


def test_a_mark_that_another_process_made_meanwhile_is_as_good():
    """Whatever it says: the next process proves it again if it must."""
    for after in ({"create3": VersionConflict()}, {"create3": OutcomeUnknown()}):
        ensure_proven(Place(**after))
    place = Place(replace4=VersionConflict())
    place._put(MARKER_KEY, b"torn")
    ensure_proven(place)
    assert place.read(MARKER_KEY).data == b"torn"


def test_what_failed_first_is_told_where_its_probe_cannot_be_deleted_either():
    """As on a network that is down: no error of tidying up hides why nothing can be written."""
    place = Place()

    def unreachable(text):
        def fail(key, *_, **__):
            raise TemporaryError(text)

        return fail

    place.create, place.delete = unreachable("cannot write"), unreachable("cannot delete")
    with pytest.raises(TemporaryError, match="cannot write"):
        prove_compare_and_swap(place)
    place = Place()
    place.delete = unreachable("cannot delete")
    with pytest.raises(TemporaryError, match="cannot delete"):
        prove_compare_and_swap(place)
