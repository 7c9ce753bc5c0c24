"""Arm documents and packs at their edges: which line counts, what is read again, and what is written of nothing."""

from __future__ import annotations

import pytest

from chronos_cli.contract import FEATURE_GENERATION, FEATURE_KEEPS_SLOT
from chronos_cli.core.clock import AGREES_WITHIN
from chronos_cli.core.decision import Purpose, Wake
from chronos_cli.core.plan import HELD_STATES, ArmState
from chronos_cli.errors import DocumentError, NasRejectedError
from chronos_cli.frozen import replace
from chronos_cli.store.arms.document import ArmDocument
from chronos_cli.store.arms.pack import PREFIX, Pack, create_pack, find_line, newest, rank, read_packs, render
from chronos_cli.store.arms.store import arm_key
from chronos_cli.store.interface import VersionConflict
from chronos_cli.store.repository import Repository
from tests.core.making import T, at
from tests.memory_store import MemoryStore

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


SENT = replace(
    ARM, state=ArmState.UNCONFIRMED, fire_at=T, wake=T, error={"code": "x"}, features=("old",), in_answer=True
)
NEWER = replace(SENT, generation=8)
REFUSED = NasRejectedError("no")


def test_what_nas_took_is_confirmed_unless_something_newer_was_sent():
    """The features are those that it named just now, either way."""
    found = SENT.confirmed(SENT, "s", ("b", "a"), at(1))
    assert found == replace(
        SENT, state=ArmState.CONFIRMED, confirmed_at=at(1), schedule_id="s", error=None, features=("a", "b")
    )
    assert NEWER.confirmed(SENT, "s", ("b", "a"), at(1)) == replace(NEWER, features=("a", "b"))


def test_what_nas_has_delivered_is_spent_unless_something_newer_was_sent():
    """Its key is good for nothing any more."""
    assert SENT.delivered(SENT, ("b", "a")) == replace(SENT, spent=True, features=("a", "b"))
    assert NEWER.delivered(SENT, ("b",)) == replace(NEWER, features=("b",))


def test_what_a_list_shows_is_confirmed_unless_something_newer_was_sent():
    """No answer carries it any more."""
    found = SENT.listed(SENT, "s", at(1))
    assert found == replace(
        SENT, state=ArmState.CONFIRMED, confirmed_at=at(1), schedule_id="s", error=None, in_answer=False
    )
    assert NEWER.listed(SENT, "s", at(1)) is NEWER


def test_what_nas_refused_is_refused_and_a_call_that_failed_left_it_open():
    """Unless something newer was sent."""
    assert SENT.failed(SENT, REFUSED) == replace(SENT, error=REFUSED.as_json())
    assert SENT.refused(SENT, REFUSED) == replace(SENT, error=REFUSED.as_json(), state=ArmState.REFUSED)
    assert NEWER.failed(SENT, REFUSED) is NEWER.refused(SENT, REFUSED) is NEWER


def test_a_generation_follows_the_one_that_nas_holds():
    """Never back, and not where something newer was sent."""
    assert [SENT.stale(SENT, generation).generation for generation in (6, 7, 8)] == [7, 7, 8]
    assert NEWER.stale(SENT, 9) is NEWER
    assert [SENT.behind(generation).generation for generation in (6, 7, 8)] == [7, 7, 8]


def test_a_cancel_forgets_what_it_is_newer_than():
    """Its own number, and any that the clock gives, are used up then; without a number it forgets whatever is there."""
    gone = replace(SENT, state=ArmState.CANCELLED, wake=None, error=None)
    far = int(T.timestamp() * 1000) + 10**6
    assert SENT.cancelled(6, T) is SENT
    assert SENT.cancelled(7, T) == SENT.cancelled(None, T) == replace(gone, generation=int(T.timestamp() * 1000))
    assert SENT.cancelled(far, T) == replace(gone, generation=far)


def test_one_wish_overtook_another_where_only_nas_can_tell_which_came_last():
    """Of another instant, or none, and not by numbers that both bear."""
    other = replace(NEWER, fire_at=at(60))
    numbered = [replace(arm, features=(FEATURE_GENERATION,)) for arm in (SENT, other)]
    assert other.overtook(SENT)
    assert replace(NEWER, state=ArmState.CANCELLED).overtook(SENT)
    assert not NEWER.overtook(SENT)
    assert not replace(SENT, fire_at=at(60)).overtook(SENT)
    assert not numbered[1].overtook(numbered[0])
    assert (other.overtook(numbered[0]), numbered[1].overtook(SENT)) == (True, True)
    assert [one.is_numbered_like(two) for one in numbered for two in (SENT, numbered[1])] == [False, True] * 2
    assert not SENT.is_numbered_like(numbered[0])


@pytest.mark.parametrize("state", list(ArmState))
def test_a_newer_wish_stands_for_one_of_its_very_instant_while_nas_holds_it(state):
    """Not once it was delivered."""
    newer = replace(NEWER, state=state)
    assert newer.stands_for(SENT) is (state in HELD_STATES)
    for other in ({"generation": 7}, {"generation": 6}, {"spent": True}, {"fire_at": at(1)}):
        assert not replace(newer, **other).stands_for(SENT)


def test_a_wish_is_late_from_its_very_instant_where_nas_keeps_no_slot():
    """One without an instant never."""
    assert [SENT.is_late(at(seconds)) for seconds in (-1, 0, 1)] == [False, True, True]
    assert not replace(SENT, features=(FEATURE_KEEPS_SLOT,)).is_late(at(1))
    assert not replace(SENT, fire_at=None).is_late(at(1))


def test_a_wish_is_astray_that_a_clock_ahead_has_sent_for_later_than_it_is_meant():
    """Clocks agree within some minutes; what is due already is meant for now."""
    within = AGREES_WITHIN.total_seconds()
    wake = Wake(at=at(100), purpose=Purpose.CURSOR)
    ahead = replace(SENT, sent_at=at(within + 1), fire_at=at(100 + within + 1))
    assert ahead.is_astray(wake, T)
    assert not replace(ahead, sent_at=at(within)).is_astray(wake, T)
    assert not replace(ahead, fire_at=at(100 + within)).is_astray(wake, T)
    assert not replace(ahead, sent_at=None).is_astray(wake, T)
    assert not replace(ahead, fire_at=None).is_astray(wake, T)
    past = Wake(at=at(-100), purpose=Purpose.CURSOR)
    assert [replace(ahead, fire_at=at(within + more)).is_astray(past, T) for more in (0, 1)] == [False, True]


def test_nas_may_hold_what_was_sent_until_its_instant_is_past():
    """Nothing that was cancelled, and nothing of no instant."""
    assert [SENT.may_be_held(at(seconds)) for seconds in (-1, 0)] == [True, False]
    assert not replace(SENT, state=ArmState.CANCELLED).may_be_held(at(-1))
    assert not replace(SENT, fire_at=None).may_be_held(at(-1))
    wake = Wake(at=T, purpose=Purpose.CURSOR)
    assert (SENT.waits_for(wake), SENT.waits_for(None), SENT.waits_for(replace(wake, at=at(1)))) == (True, False, False)
    assert not replace(SENT, wake=None).waits_for(None)
