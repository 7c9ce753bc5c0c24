"""Which clock is believed, what is settled without a witness, and what is put right again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_cli.core.clock import (
    AGREES_WITHIN,
    UNCHECKED,
    Trust,
    displaced,
    doubt_about,
    is_ahead,
    judged,
    lease_is_over,
    put_right,
)
from chronos_cli.core.decision import Facts, FireRequest, Trigger
from chronos_cli.core.job import HomeDefaults, OpenKind, parse_job
from chronos_cli.core.occurrence import decide

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FAR = datetime(2038, 1, 20, 3, 0, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2039, 1, 1)).map(lambda m: m.replace(tzinfo=UTC, microsecond=0))
TRIGGERS = st.sampled_from((Trigger.TICK, Trigger.RECONCILE, Trigger.RELAY))


def job_of(expr="0 9 * * *", zone="UTC", *, through=None, **fields):
    ours = {"timezone": zone} | ({"claimed_through": through.isoformat()} if through else {})
    record = {
        "id": "j",
        "schedule": {"kind": "cron", "expr": expr},
        "enabled": True,
        "state": "scheduled",
        "chronos": ours,
    }
    return parse_job(record | fields, HomeDefaults(zone=UTC, zone_name="UTC"))


def after(found, now, *, via=Trigger.TICK, **facts):
    decision = decide(found, Facts(**facts), FireRequest(via=via, token="t"), now)
    return found if decision.record is None else parse_job(decision.record, HomeDefaults(zone=UTC, zone_name="UTC"))


@given(MOMENTS, MOMENTS)
@settings(max_examples=200, deadline=None)
def test_a_clock_is_never_set_ahead_and_agrees_with_its_witness_then_or_is_behind_it(now, witness):
    """What is taken for the time is past by both clocks."""
    back, trust = judged(now, witness)
    assert back >= timedelta()
    assert now - back <= max(witness + AGREES_WITHIN, witness)
    assert (trust is Trust.CONFIRMED) == (abs(now - witness) <= AGREES_WITHIN)


@given(MOMENTS, MOMENTS, TRIGGERS)
@settings(max_examples=150, deadline=None)
def test_without_its_witness_nothing_is_settled_that_the_last_state_does_not_explain(cursor, now, via):
    """Whatever the clock says: at most what came due within a day of the next time is claimed, missed or passed over."""
    found = job_of(next_run_at=job_of().timetable.after(cursor).isoformat())
    left = after(found, now, via=via, trust=Trust.UNHEARD)
    settled = max([left.claimed_through or found.cursor, *(entry.through or entry.fire_at for entry in left.open)])
    assert settled - found.cursor <= UNCHECKED
    assert left.cursor - found.cursor <= 2 * UNCHECKED


@given(MOMENTS, MOMENTS)
@settings(max_examples=100, deadline=None)
def test_the_tick_alone_never_stops(cursor, now):
    """With nobody to ask, the newest instant within grace runs, however long the machine slept; the rest is missed."""
    found = job_of(next_run_at=job_of().timetable.after(cursor).isoformat())
    left = after(found, now)
    if now < found.cursor:
        assert left is found
        return
    assert [entry.kind for entry in left.open if entry.kind is OpenKind.RUN] == [OpenKind.RUN]
    assert left.cursor == found.timetable.after(now)


@given(st.integers(11, 60 * 24 * 365 * 12), st.sampled_from(("0 9 * * *", "*/5 * * * *", "0 * * * *")))
@settings(max_examples=100, deadline=None)
def test_what_a_clock_that_was_ahead_claimed_is_brought_back_by_one_that_a_witness_confirms(minutes, expr):
    """The next time is the first after now without a row, and what is claimed lies before it."""
    ahead = NOW + timedelta(minutes=minutes)
    through = job_of(expr).timetable.after(ahead)
    found = job_of(expr, through=through, next_run_at=job_of(expr).timetable.after(through).isoformat())
    assert is_ahead(found, NOW)
    for via in (Trigger.TICK, Trigger.RECONCILE, Trigger.RELAY):
        left = after(found, NOW, via=via, trust=Trust.CONFIRMED)
        assert (left.claimed_through, left.cursor) == (NOW, found.timetable.after(NOW))
        assert not is_ahead(left, NOW)
        rows = frozenset({found.timetable.after(NOW), through})
        left = after(found, NOW, via=via, trust=Trust.CONFIRMED, ahead=rows)
        assert left.cursor not in rows
        assert left.cursor > left.claimed_through >= NOW
    for trust in (Trust.UNHEARD, Trust.CORRECTED, Trust.ALONE):
        assert after(found, NOW, trust=trust, via=Trigger.RECONCILE).cursor == found.cursor, trust


def test_a_leap_of_the_tick_alone_is_undone_when_the_clock_is_right_again():
    """The tick noted from where it leapt; a clock by which that comes next is believed, another wrong one is not."""
    first = job_of(next_run_at="2026-11-21T09:00:00+00:00")
    leapt = after(first, FAR)
    assert leapt.cursor > FAR
    assert after(leapt, NOW).cursor == first.cursor
    twice = after(leapt, FAR + timedelta(days=800))
    assert after(twice, NOW).cursor == first.cursor
    assert after(leapt, NOW + timedelta(days=300)).cursor == leapt.cursor
    assert doubt_about(leapt, NOW).code == "ahead"
    assert doubt_about(leapt, FAR) is None


@pytest.mark.parametrize("trust", [Trust.ALONE, Trust.CONFIRMED])
def test_a_week_asleep_is_no_leap_to_be_undone(trust):
    """The clock that says so is right, and the next day all goes on."""
    found = after(job_of(next_run_at="2026-11-21T09:00:00+00:00"), NOW + timedelta(days=8), trust=trust)
    assert found.cursor == datetime(2026, 11, 29, 9, tzinfo=UTC)
    assert doubt_about(found, NOW + timedelta(days=8)) is None


def test_a_one_shot_is_not_completed_by_a_clock_without_its_witness():
    """It stays what comes next."""
    record = {"id": "j", "schedule": {"kind": "once", "run_at": "2026-11-21T09:00:00+00:00"}, "enabled": True,
              "state": "scheduled", "next_run_at": "2026-11-21T09:00:00+00:00", "chronos": {}}  # fmt: skip
    found = parse_job(record, HomeDefaults(zone=UTC, zone_name="UTC"))
    for via in (Trigger.TICK, Trigger.RECONCILE):
        assert after(found, FAR, trust=Trust.UNHEARD, via=via) is found


def test_a_lease_is_not_ended_by_a_clock_without_its_witness():
    """Hours past its end it is over; years past it only a clock says so that nobody confirms."""
    end = NOW - timedelta(hours=3)
    assert lease_is_over(end, NOW, Trust.UNHEARD)
    assert not lease_is_over(end, FAR, Trust.UNHEARD)
    assert lease_is_over(end, FAR, Trust.CONFIRMED)
    assert not lease_is_over(None, FAR, Trust.CONFIRMED)


@pytest.mark.parametrize(
    ("stored", "zone", "expected"),
    [
        ("2026-11-29T09:00:00+06:00", "Asia/Almaty", "2026-11-29T09:00:00+05:00"),
        ("2026-11-29T09:00:00+04:00", "Asia/Almaty", "2026-11-29T09:00:00+05:00"),
        ("2026-11-28T09:00:00+07:00", "UTC", "2026-11-28T09:00:00+00:00"),
        ("2026-11-28T09:00:00-08:00", "UTC", "2026-11-28T09:00:00+00:00"),
        ("2026-11-29T03:00:00Z", "Asia/Almaty", "2026-11-29T09:00:00+05:00"),
        ("2026-11-29T04:00:00Z", "Asia/Almaty", None),
        ("2026-11-29T09:00:00", "Asia/Almaty", None),
        ("2026-11-29T08:31:17+05:00", "Asia/Almaty", None),
        ("2026-11-29T08:31:17.25+07:00", "Asia/Almaty", None),
    ],
)
def test_a_next_time_of_another_offset_is_taken_for_the_same_time_on_the_wall(stored, zone, expected):
    """Once a day stays once a day. What its schedule gives stays, and so does a time that somebody set by hand."""
    found = job_of(zone=zone, next_run_at=stored)
    meant = displaced(found)
    assert meant == (expected and datetime.fromisoformat(expected))
    if expected:
        before = meant - timedelta(hours=20)
        assert doubt_about(found, before).code == "displaced"
        assert after(found, before, via=Trigger.RECONCILE).record["next_run_at"] == expected
        assert after(found, before).cursor == meant
        late = after(found, meant + timedelta(minutes=1))
        assert [entry.fire_at for entry in late.open] == [meant]
        assert late.cursor == meant + timedelta(days=1)


def test_every_day_of_a_zone_that_changed_its_rules_has_one_run():
    """Stored under one offset, walked under another, minute by minute: each date on the wall runs once."""
    for before in range(-11, 13):
        zone = timezone(timedelta(hours=before))
        found = job_of(zone="Asia/Almaty", next_run_at=datetime(2026, 11, 22, 9, tzinfo=zone).isoformat())
        ran, now = [], datetime(2026, 11, 21, 18, tzinfo=UTC)
        while now < datetime(2026, 11, 26, tzinfo=UTC):
            left = after(found, now)
            ran += [e.fire_at for e in left.open if e.kind is OpenKind.RUN]
            record = {**left.record, "chronos": {**left.record["chronos"], "open": []}}
            found, now = parse_job(record, HomeDefaults(zone=UTC, zone_name="UTC")), now + timedelta(minutes=30)
        dates = [moment.astimezone(ZoneInfo("Asia/Almaty")).date().day for moment in ran]
        assert dates == [22, 23, 24, 25], (before, dates)


def test_no_row_and_no_end_of_the_calendar_stops_putting_right():
    """Rows of every instant up to the last one are passed over; after the last comes nothing."""
    found = job_of("0 9 * * *")
    rows = [NOW.replace(hour=9) + timedelta(days=day) for day in range(1, 6)]
    assert put_right(found, frozenset(rows), NOW) == (NOW, rows[-1] + timedelta(days=1))
