"""One loop for every document: load, change, write, and again from the start where somebody else has written."""

import pytest

from chronos_cli.errors import TemporaryError, UnreadableError
from chronos_cli.store.interface import OutcomeUnknown, VersionConflict
from chronos_cli.store.repository import Repository
from tests.memory_store import MemoryStore

KEY = "cron/tick.json"


class Contested(MemoryStore):
    """A store in which somebody else writes before each of our first writes, or our write's answer is lost."""

    def __init__(self, *troubles):
        super().__init__()
        self.troubles = list(troubles)

    def _before(self, key, write):
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble == "nobody":  # as a bucket may say of a write that met another request
            raise VersionConflict(key)
        if trouble == "another":
            found = self.read(key)
            data = b"theirs" if found is None else found.data + b" theirs"
            super().create(key, data) if found is None else super().replace(key, data, found.version)
            raise VersionConflict(key)
        version = write()
        if trouble == "lost":
            raise OutcomeUnknown(key)
        return version

    def create(self, key, data, *, durable=True):
        return self._before(key, lambda: super(Contested, self).create(key, data, durable=durable))

    def replace(self, key, data, version, *, durable=True):
        return self._before(key, lambda: super(Contested, self).replace(key, data, version, durable=durable))


def repository(*troubles):
    """A repository over such a store, and how long it has waited."""
    waits = []
    return Repository(Contested(*troubles), sleep=waits.append, random=lambda: 0.5), waits


def ours(found):
    """Add one word of ours, unless it stands there."""
    words = [] if found is None else found.data.split()
    return None if b"ours" in words else b" ".join([*words, b"ours"])


@pytest.mark.parametrize(
    ("troubles", "stored"),
    [
        ((), b"ours"),
        (("another",), b"theirs ours"),
        (("another", "another"), b"theirs theirs ours"),
        (("lost",), b"ours"),
        (("another", "lost"), b"theirs ours"),
    ],
)
def test_what_others_write_meanwhile_is_kept(troubles, stored):
    """A change is made on what is there: nothing of anybody's is lost, and a write whose answer is lost counts once."""
    documents, waits = repository(*troubles)
    documents.update(KEY, ours)
    assert documents.read(KEY).data == stored
    assert len(waits) == len(troubles)
    version = documents.read(KEY).version
    documents.update(KEY, ours)
    assert documents.read(KEY).version == version, "None leaves a document as it is"


def test_waits_grow_and_end():
    """Each wait is longer than the one before, up to half a second, and at last the error says what to do."""
    documents, waits = repository(*["another"] * 1000)
    with pytest.raises(TemporaryError, match=r"cron/tick\.json changed under every attempt"):
        documents.update(KEY, lambda _: b"ours")
    assert waits == sorted(waits)
    assert waits[0] == 0.005
    assert waits[-1] == 0.5


def test_what_a_change_raises_leaves_the_document():
    """An error of the change's own reaches the caller, once, and nothing is written."""
    documents, waits = repository()
    documents.update(KEY, ours)
    with pytest.raises(ZeroDivisionError):
        documents.update(KEY, lambda _: 1 / 0)
    assert documents.read(KEY).data == b"ours"
    assert waits == []


@pytest.mark.parametrize("trouble", ["nobody", "another", "lost"])
def test_what_cannot_be_read_is_kept_before_anything_is_written_over_it(trouble):
    """A conflict does not prove that somebody has kept the bytes: they are looked for."""
    rows, _ = repository(trouble)
    error = UnreadableError("it is not JSON", key="cron/runs/j/r.json", data=b"{", version="1")
    aside = rows.set_aside(error)
    assert rows.read(aside).data == (b"theirs" if trouble == "another" else b"{")
