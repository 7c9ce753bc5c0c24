"""An arm document by itself: what is stored of it and read again, its generations, its keys, and its notes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.contract import FEATURE_ARM_IN_ANSWER, FEATURE_GENERATION, FEATURE_SPREAD
from chronos_cli.core.decision import Purpose, Wake
from chronos_cli.core.plan import ArmState
from chronos_cli.frozen import replace
from chronos_cli.store.arms.document import CARRIES, KEY_MEMORY_S, MAX_KEYS, MAX_NOTES, PLAIN, ArmDocument

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WAKE = Wake(at=NOW + timedelta(hours=1), purpose=Purpose.CURSOR, tolerance=60)
FULL = ArmDocument(
    job_id="j", state=ArmState.CONFIRMED, wake=WAKE.at, fire_at=WAKE.at + SECOND, purpose="cursor", callback_url="https://me",
    portal_url="https://nas", audience="agent:1", generation=7, schedule_id="s", features=("a", "b"), sent_at=NOW,
    confirmed_at=NOW, error={"code": "x"}, keys={WAKE.at: "cursor"}, idle=2, spent=True, owed=NOW, in_answer=True,
    door=CARRIES, answered_to="d", only_answered=True, tolerance=60, last_callback_at=NOW, last_callback="claimed",
    last_fire_error={"at": "x"}, notes=({"at": "x"},),
)  # fmt: skip


STORED = json.loads(json.dumps(FULL.to_json()))


def sending(document, *, fire_at=WAKE.at, now=NOW):
    return document.sending(WAKE, fire_at, callback_url="https://me", portal_url="https://nas", audience="a", now=now)


def test_what_is_stored_is_read_again_and_nothing_empty_is_stored():
    """Every field comes back; one that says nothing, and the stand-in's mark, are not written."""
    assert ArmDocument.from_json(STORED) == FULL
    assert set(ArmDocument(job_id="j", unreadable=True).to_json()) == {"job_id", "state"}
    assert FULL.to_json()["keys"] == {WAKE.at.isoformat(): "cursor"}


@pytest.mark.parametrize(
    "change",
    [
        {"generation": True}, {"generation": -1}, {"generation": 2**63}, {"generation": "1"}, {"idle": 1.0}, {"spent": 1},
        {"wake": "2026-11-20T12:00:00"}, {"wake": 5}, {"keys": []}, {"keys": {"2026-11-20T12:00:00": "cursor"}},
        {"notes": ["x"]}, {"notes": {}}, {"features": [1]}, {"error": "x"}, {"state": "elsewhere"}, {"purpose": "other"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_what_it_stands_for_makes_a_document_unreadable(change):
    """A truth value is no number, a number no truth value, an instant has its offset."""
    with pytest.raises((TypeError, ValueError, KeyError)):
        ArmDocument.from_json(STORED | change)


def test_bounds_of_a_number_are_of_the_range_and_an_unknown_door_is_none():
    """Nought and the largest number of 63 bits are read."""
    assert ArmDocument.from_json(STORED | {"generation": 0}).generation == 0
    assert ArmDocument.from_json(STORED | {"generation": 2**63 - 1}).generation == 2**63 - 1
    assert [ArmDocument.from_json(STORED | {"door": door}).door for door in (CARRIES, PLAIN, "gate")] == [CARRIES, PLAIN, None]  # fmt: skip


def test_a_generation_is_the_milliseconds_since_1970_or_one_more_than_the_last():
    """So it rises when the document was lost, and when the clock was set back."""
    milliseconds = int(NOW.timestamp() * 1000)
    assert ArmDocument(job_id="j").next_generation(NOW) == milliseconds
    assert ArmDocument(job_id="j", generation=milliseconds).next_generation(NOW) == milliseconds + 1
    assert ArmDocument(job_id="j", generation=milliseconds + 5).next_generation(NOW) == milliseconds + 6


def test_an_answers_generation_is_above_the_one_that_its_token_named():
    """By one where that is ahead of the clock; the features that it shows NAS to have are kept."""
    milliseconds = int(NOW.timestamp() * 1000)
    answered = FULL.answering("e", above=milliseconds + 9, now=NOW)
    assert (answered.generation, answered.answered_to) == (milliseconds + 10, "e")
    assert answered.features == tuple(sorted({"a", "b", FEATURE_ARM_IN_ANSWER, FEATURE_GENERATION}))
    assert FULL.answering("e", above=None, now=NOW).generation == milliseconds


def test_a_document_under_way_says_nothing_of_what_the_last_one_came_to():
    """It is unconfirmed, has a generation of its own, and knows the key that it sends."""
    under_way = sending(replace(FULL, features=(FEATURE_SPREAD,), unreadable=True))
    assert (under_way.state, under_way.wake, under_way.sent_at, under_way.purpose) == (ArmState.UNCONFIRMED, WAKE.at, NOW, "cursor")  # fmt: skip
    assert (under_way.error, under_way.owed, under_way.answered_to) == (None, None, None)
    marks = under_way.spent, under_way.in_answer, under_way.only_answered, under_way.unreadable
    assert marks == (False, False, False, False)
    assert (under_way.tolerance, sending(FULL).tolerance) == (60, 0)


def test_keys_are_forgotten_an_hour_after_their_instant_by_the_earlier_clock_and_the_oldest_first():
    """A clock that was ahead at one send must not have keys forgotten that are still to come."""
    old = {NOW - timedelta(seconds=seconds): "cursor" for seconds in (KEY_MEMORY_S, KEY_MEMORY_S - 1)}
    kept = sending(ArmDocument(job_id="j", keys=old)).keys
    assert sorted(kept) == [NOW - timedelta(seconds=KEY_MEMORY_S - 1), WAKE.at]
    before = ArmDocument(job_id="j", keys=old, sent_at=NOW - SECOND)
    assert len(sending(before).keys) == 3
    assert len(sending(replace(before, sent_at=NOW + SECOND)).keys) == 2
    many = {NOW + n * SECOND: "cursor" for n in range(2 * MAX_KEYS)}
    kept = sending(ArmDocument(job_id="j", keys=many)).keys
    assert len(kept) == MAX_KEYS
    assert min(kept) == NOW + (MAX_KEYS + 1) * SECOND


def test_the_last_notes_are_kept_and_say_only_what_is_known():
    """Twenty of them; neither an instant nor a delivery is made up."""
    document = ArmDocument(job_id="j")
    for n in range(MAX_NOTES + 1):
        document = document.noted(f"o{n}", fire_at=None, delivery=None, now=NOW)
    assert [note["outcome"] for note in document.notes] == [f"o{n}" for n in range(1, MAX_NOTES + 1)]
    assert document.notes[0] == {"at": NOW.isoformat(), "outcome": "o1"}
    told = ArmDocument(job_id="j").noted("stale", fire_at=WAKE.at, delivery="d", now=NOW).notes[0]
    assert told == {"at": NOW.isoformat(), "outcome": "stale", "fire_at": WAKE.at.isoformat(), "delivery_id": "d"}


def test_a_request_asks_for_answers_where_nas_and_our_own_door_are_both_for_it():
    """Either alone is not enough."""
    both = replace(FULL, features=(FEATURE_ARM_IN_ANSWER,))
    assert both.accepts
    assert not FULL.accepts
    assert not replace(both, door=PLAIN).accepts


def test_a_tolerance_counts_where_nas_spreads():
    """One that knows no tolerance was told of all that it can hear."""
    assert replace(FULL, tolerance=0).says(WAKE)
    spreads = replace(FULL, features=(FEATURE_SPREAD,))
    assert spreads.says(WAKE)
    assert not replace(spreads, tolerance=0).says(WAKE)
    assert (FULL.sent().tolerance, spreads.sent().tolerance) == (None, 60)
