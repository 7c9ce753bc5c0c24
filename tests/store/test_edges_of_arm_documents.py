"""Arm documents and packs at their edges: which line counts, what is read again, and what is written of nothing."""

from __future__ import annotations

import pytest

from chronos_cli.core.plan import ArmState
from chronos_cli.errors import DocumentError
from chronos_cli.frozen import replace
from chronos_cli.store.arms.document import ArmDocument
from chronos_cli.store.arms.pack import PREFIX, Pack, create_pack, find_line, newest, rank, read_packs, render
from chronos_cli.store.arms.store import arm_key
from chronos_cli.store.interface import VersionConflict
from chronos_cli.store.memory import MemoryStore
from chronos_cli.store.repository import Repository
from tests.core.making import T, at

ARM = ArmDocument(job_id="j", state=ArmState.CONFIRMED, generation=7, keys={T: "cursor"})


class Store(MemoryStore):
    """One that counts what is read and which folders are listed; `closed`: what cannot be read."""

    def __init__(self):
        super().__init__()
        self.seen, self.closed = [], set()

    def read(self, key):
        self.seen.append(key)
        if key in self.closed:
            raise DocumentError("closed", key=key)
        return super().read(key)

    def list(self, prefix):
        self.seen.append(prefix)
        return super().list(prefix)


@pytest.fixture
def home():
    return Repository(Store(), sleep=lambda _: None, random=lambda: 0.5)


def packed(*lines):
    """Packs of one line of job j each, in the order in which they are read."""
    return [Pack(key=f"{number}", version="1", lines={"j": line}) for number, line in enumerate(lines)]


def test_a_field_of_a_later_version_is_passed_over_and_an_absent_one_says_nothing():
    """Neither makes a document unreadable."""
    stored = {"job_id": "j", "state": "confirmed", "wake": None, "of a later version": {"x": 1}, "another": None}
    assert ArmDocument.from_json(stored) == ArmDocument(job_id="j", state=ArmState.CONFIRMED)


def test_an_empty_text_is_stored_where_nothing_is_not():
    """A document whose address is empty is another one than a document that has none."""
    document = ArmDocument(job_id="j", callback_url="", features=(), generation=0)
    assert document.to_json() == {"job_id": "j", "state": "cancelled", "callback_url": ""}
    assert ArmDocument.from_json(document.to_json()) == document


def test_a_pack_that_is_closed_to_us_says_nothing(home):
    """It is one of the packs all the same, and its lines are not looked for for ever."""
    create_pack(home, "p", {"j": ARM})
    home.documents.closed = {f"{PREFIX}p.json"}
    (pack,) = read_packs(home.documents)
    assert (pack.key, pack.lines, find_line(home.documents, "j")) == (f"{PREFIX}p.json", {}, None)


def test_of_lines_that_say_the_same_wish_the_one_that_is_read_last_counts():
    """The packs and the search for one line agree on it."""
    one, other = ({"generation": 3, "state": "unconfirmed", "idle": idle} for idle in (1, 2))
    assert newest(packed(one, other))["j"] == other
    store = MemoryStore()
    for name, line in (("a", one), ("b", other)):
        store.create(f"{PREFIX}{name}.json", render({"j": line}))
    assert find_line(store, "j") == other


def test_keys_that_are_none_are_neither_lost_nor_a_fault():
    """What a line that counts says of its keys is taken as it stands."""
    old, new = {"generation": 1, "keys": {"a": "cursor"}}, {"generation": 2}
    assert newest(packed(old, new))["j"] == new
    assert newest(packed(new | {"keys": {"b": "look"}}, {"generation": 1, "keys": []}))["j"]["keys"] == {"b": "look"}


@pytest.mark.parametrize("line", [{}, {"generation": None}, {"generation": "9"}])
def test_a_line_without_a_generation_ranks_below_any_that_has_one(line):
    """It may have come from anywhere."""
    assert rank(line) == (0, False)
    assert rank(line | {"state": "confirmed"}) == (0, True)
    assert newest(packed({"generation": 1}, line))["j"] == {"generation": 1}


def test_a_pack_that_a_bucket_says_is_there_and_is_not_is_written_again(home):
    """As a bucket may answer while another request for that name is under way."""
    create, said = home.documents.create, [VersionConflict()]

    def once(key, data, *, durable=True):
        if said:
            raise said.pop()
        return create(key, data, durable=durable)

    home.documents.create = once
    pack = create_pack(home, "p", {"j": ARM})
    assert home.read(pack.key).version == pack.version


def test_a_document_of_the_jobs_own_is_changed_without_a_look_at_packs(home):
    """Thousands of jobs may stand there."""
    create_pack(home, "p", {"j": ARM})
    home.arms.change("j", lambda found: replace(found, idle=1))
    home.documents.seen.clear()
    assert home.arms.change("j", lambda found: replace(found, idle=2)).idle == 2
    assert home.documents.seen == [arm_key("j")]


def test_a_document_that_took_over_all_keys_of_its_pack_is_not_read_again(home):
    """The look at the packs afterwards found no key that it lacks."""
    create_pack(home, "p", {"j": ARM})
    home.documents.seen.clear()
    home.arms.change("j", lambda found: replace(found, idle=1))
    assert home.documents.seen.count(arm_key("j")) == 1


def test_a_wish_that_another_process_overtakes_while_keys_are_taken_over_is_told_as_it_was_written(home):
    """Its version is an old one then: the next conditional write of its caller finds out."""
    create_pack(home, "p", {"j": ARM})
    create, overtaken = home.documents.create, replace(ARM, generation=9)

    def meanwhile(key, data, *, durable=True):
        version = create(key, data, durable=durable)
        if key == arm_key("j"):
            create_pack(home, "q", {"j": replace(ARM, generation=8, keys={at(60): "cursor"})})
            home.arms.change("j", lambda _: overtaken)
        return version

    home.documents.create = meanwhile
    stored = home.arms.swap("j", lambda found: replace(found, idle=1))
    assert (stored.value.generation, stored.value.idle) == (7, 1)
    assert home.arms.get("j").value.generation == 9
    with pytest.raises(VersionConflict):
        home.documents.replace(arm_key("j"), b"{}", stored.version)
