"""Rules of what a look may claim, each at its edge: which occurrence, what it covers, and what comes after it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chronos_cli.core.claim import (
    COMPLETED_STAYS,
    EARLY_LIMIT,
    ON_TIME_LIMIT,
    UNNAMED_TOLERANCE,
    claim_of,
    claimable_occurrence,
    is_expired_completed,
    right_cursor,
    successor,
)
from chronos_cli.core.decision import FireRequest, Trigger
from tests.core.making import T, at, entry, job, look, relay

SECOND = timedelta(seconds=1)
ONCE = {"kind": "once", "run_at": T.isoformat()}


def come(via):
    return FireRequest(via=via, token="t")


def test_a_call_may_claim_what_it_names_up_to_a_minute_before_its_time():
    """One that names another instant, or none, claims what is due; the last of them two seconds before."""
    found = job()
    for fire, early in ((relay(T), EARLY_LIMIT), (relay(None), UNNAMED_TOLERANCE), (relay(at(300)), timedelta())):
        assert claimable_occurrence(found, T, fire, T - early) == T
        assert claimable_occurrence(found, T, fire, T - early - SECOND) is None


@pytest.mark.parametrize("via", [via for via in Trigger if via is not Trigger.RELAY])
def test_who_brings_no_call_claims_what_is_due_and_nothing_by_hand_or_at_an_end(via):
    """Nor does anybody claim of a job that does not go on, or that has no next time."""
    claims = via not in (Trigger.MANUAL, Trigger.RUN_ENDED)
    assert claimable_occurrence(job(), T, come(via), T) == (T if claims else None)
    assert claimable_occurrence(job(), T, come(via), T - SECOND) is None
    assert claimable_occurrence(job(), None, come(via), T) is None
    assert claimable_occurrence(job(enabled=False, state="paused"), T, come(via), T) is None


def test_what_comes_next_is_later_than_now_and_than_what_was_claimed():
    """Whichever is later."""
    found = job()
    assert successor(found, None, T) == successor(found, at(-300), T) == at(300)
    assert successor(found, at(300), T) == at(600)


def test_a_next_time_stands_unless_it_was_claimed():
    """Then, and where there is none, the schedule says what comes next."""
    assert right_cursor(job(), T) == T
    assert right_cursor(job(ours={"claimed_through": at(-1).isoformat()}), T) == T
    assert right_cursor(job(ours={"claimed_through": T.isoformat()}), T) == at(300)
    for claimed in ({}, {"claimed_through": at(-300).isoformat()}):
        assert right_cursor(job(next_run_at=None, ours=claimed), T) == at(300)


def test_a_job_whose_runs_are_counted_has_none_left_unless_another_program_is_at_it():
    """A hermes that holds it may yet take the count back."""
    counted = {"repeat": {"times": 1, "completed": 1}}
    assert right_cursor(job(**counted), T) is None
    assert right_cursor(job(**counted, fire_claim={"at": at(-1).isoformat(), "by": "h"}), T) == T
    assert right_cursor(job(repeat={"times": 2, "completed": 1}), T) == T


def test_a_single_time_without_a_next_one_comes_due_unless_it_has_run():
    """With its jitter; what was claimed, by us or by another, has."""
    lost = {"schedule": ONCE, "next_run_at": None, "policy": {"jitter": 3_000}}
    found = job(**lost)
    assert found.timetable.offset > timedelta()
    assert right_cursor(found, T) == T + found.timetable.offset
    assert right_cursor(job(**lost, ours={"claimed_through": T.isoformat()}), T) is None
    assert right_cursor(job(**lost, last_run_at=T.isoformat()), T) is None


def effect(found, cursor, now):
    taken = claim_of(found, cursor, now)
    return taken.taken, taken.missed, taken.through


def test_within_grace_the_cursor_itself_is_taken_and_what_came_since_is_missed():
    """To the second; a part of one is none."""
    found = job(policy={"grace": 900})
    assert effect(found, T, at(299)) == (T, None, T)
    assert effect(found, T, at(300)) == (T, (at(300), at(300)), at(300))
    assert effect(found, T, at(900.9)) == (T, (at(300), at(900)), at(900))


def test_past_grace_the_newest_instant_is_taken_and_what_came_before_is_missed():
    """Unless that one is past it too."""
    found = job(policy={"grace": 200})
    assert effect(found, T, at(300)) == (at(300), (T, at(299)), at(300))
    assert effect(found, T, at(800)) == (at(600), (T, at(599)), at(600))
    assert effect(found, T, at(801)) == (None, (T, at(600)), at(600))


def test_without_grace_an_occurrence_is_on_time_for_five_seconds_and_its_tolerance():
    """Nothing can be started in no time."""
    for policy, late in (({"grace": 0}, ON_TIME_LIMIT), ({"grace": 0, "tolerance": 60}, ON_TIME_LIMIT + timedelta(seconds=60)),
                         ({"grace": 1, "tolerance": 60}, timedelta(seconds=61))):  # fmt: skip
        found = job(policy=policy)
        assert effect(found, T, T + late) == (T, None, T)
        assert effect(found, T, T + late + SECOND) == (None, (T, T), T)


def test_a_single_time_is_taken_or_missed():
    """Also where its next time is another than the schedule's, which has not come yet."""
    assert effect(job(schedule=ONCE, policy={"grace": 60}), T, at(60)) == (T, None, T)
    assert effect(job(schedule=ONCE, policy={"grace": 60}), T, at(61)) == (None, (T, T), T)
    later = job(schedule={"kind": "once", "run_at": at(1_000).isoformat()}, policy={"grace": 60})
    assert effect(later, T, at(61)) == (None, (T, T), T)


@pytest.mark.parametrize(
    ("cursor", "now", "taken", "missed"),
    [
        (0, 400, 300, (0, 1)), (0, 700, 600, (300, 2)),  # every five minutes
        (100, 700, 600, (300, 2)), (100, 310, 300, (100, 1)), (100, 1_000, 900, (600, 3)),  # set to a time between
        (100, 250, None, (100, 1)), (100, 501, None, (300, 2)), (0, 501, None, (300, 2)),  # and past all grace
    ],
)  # fmt: skip
def test_a_missed_range_ends_with_an_instant_of_its_own(cursor, now, taken, missed):
    """Not a second before the next one; a time that somebody set, which the schedule does not give, is one of them."""
    found = job(policy={"grace": 100}, next_run_at=at(cursor).isoformat())
    decision = look(found, relay(at(cursor)), now=at(now))
    assert [start.entry.fire_at for start in decision.starts] == ([] if taken is None else [at(taken)])
    (row,) = decision.owed
    assert (row.scheduled_at, row.through, row.count, row.exact) == (at(cursor), at(missed[0]), missed[1], True)


def test_a_range_is_counted_up_to_a_thousand_with_the_time_that_began_it():
    """More than that are told as at least a thousand."""
    times = job(schedule={"kind": "interval", "minutes": 1}).timetable
    assert times.passed(at(30), at(999 * 60)) == (at(999 * 60), 1_000, True)
    assert times.passed(at(30), at(1_000 * 60)) == (at(1_000 * 60), 1_000, False)
    assert times.passed(T, at(999 * 60 + 59)) == (at(999 * 60), 1_000, True)


def test_a_completed_job_leaves_after_a_week():
    """Counted from when it was done, or else from its last run; one that has a run left, or is not done, stays."""
    done = {"enabled": False, "state": "completed", "next_run_at": None, "schedule": ONCE}
    for fields in ({"ours": {"completed_at": T.isoformat()}, "last_run_at": at(-900).isoformat()}, {"last_run_at": T.isoformat()}):  # fmt: skip
        assert not is_expired_completed(job(**done, **fields), T + COMPLETED_STAYS)
        assert is_expired_completed(job(**done, **fields), T + COMPLETED_STAYS + SECOND)
    assert not is_expired_completed(job(**done), T + 2 * COMPLETED_STAYS)
    ran = {"last_run_at": T.isoformat()}
    assert not is_expired_completed(job(**done | {"state": "scheduled"}, **ran), T + 2 * COMPLETED_STAYS)
    assert is_expired_completed(job(**done, **ran), T + 2 * COMPLETED_STAYS)
    waiting = {"open": [entry(T)], "claimed_through": T.isoformat()}
    assert not is_expired_completed(job(**done, **ran, ours=waiting), T + 2 * COMPLETED_STAYS)
