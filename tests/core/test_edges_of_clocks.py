"""Rules of which clock is believed, each at its edge: how near is near, and what is ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.core.clock import (
    AGREES_WITHIN,
    UNCHECKED,
    Lease,
    Trust,
    displaced,
    doubt_about,
    is_ahead,
    is_near,
    judged,
    leaps_left,
    may_settle,
    mended_by,
    put_right,
)
from chronos_cli.core.job import parse_job
from tests.core.making import HOME, T, at, job, record

SECOND = timedelta(seconds=1)
DAILY, MONTHLY = {"kind": "cron", "expr": "0 9 * * *"}, {"kind": "cron", "expr": "0 12 20 * *"}
LAST = datetime(9999, 12, 21, tzinfo=UTC)
"""A day in the last month of the calendar: monthly, nothing comes after it."""


def cursor_at(moment, schedule=None, **more):
    """A job whose next time is an instant; every five minutes unless it says something else."""
    fields = {"schedule": schedule} if schedule else {}
    return job(next_run_at=moment.isoformat(), **fields, **more)


def test_clocks_agree_up_to_ten_minutes_and_one_behind_its_witness_is_not_set():
    """One that is ahead is set back by all of it."""
    for apart in (AGREES_WITHIN, -AGREES_WITHIN):
        assert judged(T + apart, T) == (timedelta(), Trust.CONFIRMED)
    assert judged(T + AGREES_WITHIN + SECOND, T) == (AGREES_WITHIN + SECOND, Trust.CORRECTED)
    assert judged(T - AGREES_WITHIN - SECOND, T) == (timedelta(), Trust.CORRECTED)


@pytest.mark.parametrize(("grace", "near"), [(60, UNCHECKED), (172_800, timedelta(days=2))])
def test_without_a_witness_that_was_heard_a_day_or_the_grace_may_be_settled(grace, near):
    """Whichever is longer; every other clock may settle whatever is past."""
    found = job(policy={"grace": grace})
    assert is_near(found, T, T + near)
    assert not is_near(found, T, T + near + SECOND)
    assert may_settle(found, T, T + near, Trust.UNHEARD)
    assert not may_settle(found, T, T + near + SECOND, Trust.UNHEARD)
    for trust in (Trust.ALONE, Trust.CONFIRMED, Trust.CORRECTED):
        assert may_settle(found, T, T + near + SECOND, trust)


def test_only_a_job_that_goes_on_can_be_ahead():
    """A paused one waits for a person, and a single time is as far off as somebody wanted it."""
    far = at(30 * 86_400)
    assert is_ahead(cursor_at(far), T)
    assert not is_ahead(cursor_at(far, enabled=False, state="paused"), T)
    assert not is_ahead(cursor_at(far, {"kind": "once", "run_at": far.isoformat()}), T)
    done = {"schedule": {"kind": "once", "run_at": T.isoformat()}, "ours": {"claimed_through": far.isoformat()}}
    assert not is_ahead(job(next_run_at=None, **done), T)
    assert not is_ahead(job(next_run_at=None), T)


def test_what_was_claimed_is_ahead_as_soon_as_clocks_that_agree_do_not_explain_it():
    """Whatever comes next."""
    for seconds, ahead in ((600, False), (601, True)):
        found = job(next_run_at=at(300).isoformat(), ours={"claimed_through": at(seconds).isoformat()})
        assert is_ahead(found, T) == ahead


def test_an_interval_explains_one_of_itself_after_what_clocks_agree_on():
    """To the second."""
    assert not is_ahead(cursor_at(at(600 + 300)), T)
    assert is_ahead(cursor_at(at(600 + 301)), T)


def test_at_the_end_of_the_calendar_a_schedule_explains_nothing():
    """Nor is a clock right then for what is more than a week ahead."""
    assert is_ahead(cursor_at(LAST + timedelta(days=1), MONTHLY), LAST)
    for days, right in ((8, True), (9, False)):
        assert mended_by(leapt([LAST + timedelta(days=days)], MONTHLY), LAST, Trust.ALONE) == right


def test_another_program_may_have_put_its_own_record_off_by_a_week():
    """One that has something of ours is not put off."""
    stored = {"next_run_at": at(86_400 * 8).isoformat(), "chronos": None}
    assert not is_ahead(job(**stored), T)
    assert not is_ahead(job(**stored | {"next_run_at": at(86_400 * 8 + 900).isoformat()}), T)
    assert is_ahead(job(**stored | {"next_run_at": at(86_400 * 8 + 901).isoformat()}), T)
    assert is_ahead(cursor_at(at(86_400 * 8)), T)


def leapt(came_next, schedule=DAILY):
    """A job that leapt from each of these next times."""
    return job(schedule=schedule, ours={"leapt_from": [moment.isoformat() for moment in came_next]})


@pytest.mark.parametrize(
    ("came_next", "schedule", "right"),
    [
        (timedelta(days=8), DAILY, True), (timedelta(days=8, seconds=1), DAILY, False),
        (-timedelta(days=1), DAILY, True), (-timedelta(days=1, seconds=1), DAILY, False),
        # 20 November, this very moment, is within what clocks agree on: December is next, and January the one after.
        (timedelta(days=30), MONTHLY, True), (timedelta(days=61), MONTHLY, True), (timedelta(days=92), MONTHLY, False),
    ],
)  # fmt: skip
def test_a_clock_is_right_that_is_about_where_the_tick_leapt_from(came_next, schedule, right):
    """A week before it or two of its instants, and a day after it."""
    found = leapt([T + came_next], schedule)
    assert mended_by(found, T, Trust.ALONE) == right
    assert mended_by(found, T, Trust.CONFIRMED)
    assert not mended_by(found, T, Trust.CORRECTED)


def test_the_leap_that_is_undone_goes_with_all_after_it():
    """Those before it stay noted; where a witness says so none does, and none where none is undone."""
    far, further = at(86_400 * 500), at(86_400 * 900)
    found = leapt([far, at(86_400), further])
    assert leaps_left(found, T, Trust.ALONE) == (far,)
    assert leaps_left(found, T, Trust.CONFIRMED) == ()
    assert leaps_left(leapt([far, further]), T, Trust.ALONE) == ()


def test_a_lease_is_over_at_its_end():
    """A second before it is not, and nothing of it is doubted.

    By a corrected clock it is five minutes later: NAS's may be so far ahead, and a run on another machine still go on.
    """
    lease, counted = (Lease(end=T, length=timedelta(hours=1), counted=counted) for counted in (False, True))
    for trust in Trust:
        late = timedelta(minutes=5 if trust is Trust.CORRECTED else 0)
        assert lease.is_over(T + late, trust)
        assert not lease.is_over(T + late - SECOND, trust)
        assert (counted.is_over(T, trust), counted.is_over(at(-1), trust)) == (True, False)
        assert lease.looked_at(at(-1), trust) == counted.looked_at(T, trust) == T
        assert lease.looked_at(T, trust) == T + late
        assert not lease.is_doubted(at(-1), trust)
        assert not lease.is_doubted(T, trust)


def test_a_day_after_its_end_a_lease_is_over_by_any_clock():
    """Later, one whose witness was not heard says nothing, not even where a doubt was noted."""
    lease = Lease(end=T, length=timedelta(hours=1), doubted_at=T + UNCHECKED + SECOND)
    assert all(lease.is_over(T + UNCHECKED, trust) for trust in Trust)
    assert Lease(end=None).looked_at(T, Trust.CORRECTED) is None
    later = lease.doubted_at + lease.length
    assert not lease.is_over(later, Trust.UNHEARD)
    assert lease.is_over(later, Trust.ALONE)
    assert not lease.is_over(later - SECOND, Trust.ALONE)
    assert lease.is_over(later + UNCHECKED, Trust.ALONE)
    assert not lease.is_over(later + UNCHECKED + SECOND, Trust.ALONE)


def test_a_lease_that_is_over_is_not_doubted():
    """Within a day of its end nobody needs a second look."""
    lease = Lease(end=T, length=timedelta(hours=1))
    assert not lease.is_doubted(at(60), Trust.ALONE)
    assert not lease.is_doubted(T + UNCHECKED, Trust.ALONE)
    assert lease.is_doubted(T + UNCHECKED + SECOND, Trust.ALONE)
    assert not Lease(end=None).is_doubted(T + UNCHECKED + SECOND, Trust.ALONE)


def test_a_job_is_put_right_to_the_first_instant_without_a_row():
    """One that has none left has no next time."""
    found = job()
    assert put_right(found, frozenset(), at(0.5)) == (T, at(300))
    assert put_right(found, frozenset({at(300), at(600)}), T) == (T, at(900))
    assert put_right(job(schedule={"kind": "once", "run_at": T.isoformat()}), frozenset({T}), T) == (T, None)


def stored_as(text, expr="0 9 * * *", **ours):
    """A job in UTC whose next time was stored in another offset."""
    return job(schedule={"kind": "cron", "expr": expr}, next_run_at=text, ours=ours)


NINE = datetime(2026, 11, 29, 9, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-11-29T09:00:07+06:00", "2026-11-29T09:00:00.25+06:00", "2026-11-29T09:00:00"])
def test_a_time_that_no_schedule_could_give_stands(text):
    """Seconds, or a part of one, were set by somebody."""
    assert displaced(stored_as(text)) is None


def test_an_interval_has_no_time_on_the_wall():
    """Whatever offset it is stored in."""
    assert displaced(job(next_run_at="2026-11-29T09:00:00+06:00")) is None


@pytest.mark.parametrize("offset", ["-06:00", "+06:00"])
def test_a_time_on_the_wall_that_was_claimed_is_not_due_again(offset):
    """On whichever side of it the stored one lies; a second less was another."""
    text = f"2026-11-29T09:00:00{offset}"
    assert displaced(stored_as(text, claimed_through=NINE.isoformat())) == NINE + timedelta(days=1)
    assert displaced(stored_as(text, claimed_through=(NINE - SECOND).isoformat())) == NINE


def test_a_time_that_the_schedule_does_not_give_on_the_wall_becomes_its_next_instant():
    """Of what the stored one itself names, not of what is read on the wall."""
    assert displaced(stored_as("2026-11-29T08:30:00+06:00", "0 6,9 * * *")) == NINE - timedelta(hours=3)


def anothers(**fields):
    """A job in UTC, once a day, that only another program has written."""
    stored = record(schedule=DAILY, **({"next_run_at": None} | fields))
    return parse_job({key: value for key, value in stored.items() if key != "chronos"}, HOME)


def test_of_a_job_without_a_next_time_the_offset_of_its_last_run_tells_that_another_zone_was_meant():
    """Nothing else of it does, while only another program has written it."""
    for text, code in (("2026-11-19T09:00:00+05:00", "displaced"), ("2026-11-19T09:00:00+00:00", None),
                       ("2026-11-19T09:00:00", None), (None, None)):  # fmt: skip
        doubt = doubt_about(anothers(last_run_at=text), T)
        assert (doubt and doubt.code) == code, text
    assert doubt_about(job(schedule=DAILY, next_run_at=None, last_run_at="2026-11-19T09:00:00+05:00"), T) is None


def test_a_next_time_that_somebody_set_is_no_doubt():
    """In whatever offset."""
    assert doubt_about(anothers(next_run_at="2026-11-21T09:00:07+05:00"), T) is None


def test_a_paused_job_is_doubted_where_that_is_asked():
    """One that is switched off never is."""
    held = {"next_run_at": "2026-11-21T09:00:00+05:00", "enabled": False}
    assert doubt_about(anothers(state="paused", **held), T, paused=True).code == "displaced"
    assert doubt_about(anothers(state="paused", **held), T) is None
    assert doubt_about(anothers(**held), T, paused=True) is None
