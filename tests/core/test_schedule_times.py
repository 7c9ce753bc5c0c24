"""When schedules come due, around every kind of transition, and which texts are refused.

Transitions used here (IANA tz database):
    Europe/Berlin        2026-03-29 02:00 -> 03:00 (+1 to +2)    2026-10-25 03:00 -> 02:00
    America/New_York     2027-03-14 02:00 -> 03:00 (-5 to -4)    2026-11-01 02:00 -> 01:00
    Australia/Lord_Howe  2026-10-04 02:00 -> 02:30 (+10:30 to +11)    2026-04-05 02:00 -> 01:30
    Asia/Kathmandu, UTC  none
"""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_cli.core.instant import first_valid, parse_time
from chronos_cli.core.schedule import (
    Cron,
    Interval,
    Once,
    Timetable,
    both_days,
    check_cron,
    from_record,
    normal_form,
    shortest_gap,
    to_record,
)
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ScheduleError, UsageError

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def table(schedule, zone="UTC", anchor=NOW, offset=timedelta()):
    return Timetable(schedule=schedule, zone=ZoneInfo(zone), anchor=anchor, offset=offset)


def local(expr, zone, start, count):
    """The next instants as wall-clock texts, from a wall-clock start."""
    zoned = ZoneInfo(zone)
    begin = datetime.fromisoformat(start).replace(tzinfo=zoned)
    walk = table(Cron(expr=expr), zone).walk(begin)
    return [moment.astimezone(zoned).strftime("%m-%d %H:%M%z") for moment in islice(walk, count)]


@pytest.mark.parametrize("zone", ZONES)
def test_a_daily_job_keeps_its_local_hour_for_four_hundred_days(zone):
    """Across every transition a 09:00 job stays at 09:00, once a day."""
    zoned = ZoneInfo(zone)
    moments = list(islice(table(Cron(expr="0 9 * * *"), zone).walk(NOW), 400))
    assert {moment.astimezone(zoned).strftime("%H:%M") for moment in moments} == {"09:00"}
    days = [moment.astimezone(zoned).date() for moment in moments]
    assert [b - a for a, b in pairwise(days)] == [timedelta(days=1)] * 399


@pytest.mark.parametrize(
    ("zone", "expr", "start", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-03-28T00:00", ["03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200"]),
        ("America/New_York", "30 2 * * *", "2027-03-13T00:00", ["03-13 02:30-0500", "03-14 03:00-0400", "03-15 02:30-0400"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T00:00", ["10-03 02:15+1030", "10-04 02:30+1100", "10-05 02:15+1100"]),
    ],
)  # fmt: skip
def test_a_job_in_the_gap_runs_once_at_the_first_instant_after_it(zone, expr, start, expected):
    """A fixed time that a spring night skips runs once, as soon as the gap is over."""
    assert local(expr, zone, start, 3) == expected


@pytest.mark.parametrize(
    ("zone", "expr", "start", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        ("America/New_York", "30 1 * * *", "2026-10-31T12:00", ["11-01 01:30-0400", "11-02 01:30-0500"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00", ["04-05 01:45+1100", "04-06 01:45+1030"]),
    ],
)  # fmt: skip
def test_a_job_in_the_repeated_hour_runs_once(zone, expr, start, expected):
    """A fixed time that an autumn night has twice runs at its first pass only."""
    assert local(expr, zone, start, 2) == expected


@pytest.mark.parametrize(("zone", "start"), [("Europe/Berlin", "2026-10-24T23:00"), ("America/New_York", "2026-10-31T23:00"),
                                             ("Australia/Lord_Howe", "2026-04-04T23:00"), ("Europe/Berlin", "2026-03-28T23:00")])  # fmt: skip
def test_a_step_keeps_its_real_rhythm_through_a_transition(zone, start):
    """`*/5` comes every five real minutes, whatever the clocks on the wall do."""
    begin = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone))
    moments = list(islice(table(Cron(expr="*/5 * * * *"), zone).walk(begin), 80))
    assert {b - a for a, b in pairwise(moments)} == {timedelta(minutes=5)}


def test_every_second_hour_has_no_spurious_instant_in_spring():
    """`0 */2` skips from 00:00 to 04:00 when 02:00 does not exist, and back to even hours."""
    hours = [text[6:11] for text in local("0 */2 * * *", "Europe/Berlin", "2026-03-28T23:30", 4)]
    assert hours == ["00:00", "04:00", "06:00", "08:00"]


@pytest.mark.parametrize("zone", ZONES)
def test_an_interval_is_elapsed_time_and_keeps_its_anchor(zone):
    """`every 2h` is 7200 s across any transition, counted from its anchor however late somebody looks."""
    anchor = datetime(2026, 3, 28, 23, 17, tzinfo=UTC)
    times = table(Interval(seconds=7200), zone, anchor)
    moments = list(islice(times.walk(anchor), 20))
    assert {b - a for a, b in pairwise([anchor, *moments])} == {timedelta(hours=2)}
    assert (times.after(anchor + timedelta(days=40, minutes=3)) - anchor).total_seconds() % 7200 == 0


def test_the_leap_day_comes_every_four_years():
    """29 February comes in leap years only."""
    days = [moment.date().isoformat() for moment in islice(table(Cron(expr="0 0 29 2 *")).walk(NOW), 2)]
    assert days == ["2028-02-29", "2032-02-29"]


def test_what_was_claimed_in_the_first_pass_does_not_come_again_in_the_second():
    """Asked from within the repeated hour, a fixed-time job's next instant lies on the next day."""
    second_pass = datetime(2026, 11, 1, 1, 10, tzinfo=ZoneInfo("America/New_York"), fold=1)
    following = table(Cron(expr="30 1 * * *"), "America/New_York").after(second_pass)
    assert following.astimezone(ZoneInfo("America/New_York")).isoformat() == "2026-11-02T01:30:00-05:00"


@pytest.mark.parametrize(
    "expr", ["0 */6 * * *", "*/30 * * * *", "0 * * * *", "*/20 */3 * * *", "30 */2 * * *", "15 */4 * * 0"]
)
@pytest.mark.parametrize("first", [datetime(2026, 4, 3, tzinfo=UTC), datetime(2026, 10, 2, tzinfo=UTC)])
@pytest.mark.parametrize("minutes", [0, 600, 780, 840, 899, 900, 915, 930, 959, 960])
def test_half_an_hour_moved_loses_no_hour_after_it(expr, first, minutes):
    """On Lord Howe Island (2026-04-04T15:00Z back, 2026-10-03T15:30Z ahead) what has a star keeps to the wall, minute by minute."""
    zone = ZoneInfo("Australia/Lord_Howe")
    start = first + timedelta(minutes=minutes)
    minute, hour, _, _, day = expr.split()

    def meets(field, value):
        return field == "*" or (value % int(field[2:]) == 0 if field.startswith("*/") else value == int(field))

    def due(moment):
        wall = moment.astimezone(zone)
        return meets(minute, wall.minute) and meets(hour, wall.hour) and meets(day, wall.isoweekday() % 7)

    whole_days = [start + timedelta(minutes=number) for number in range(1, 5 * 1440) if not start.second]
    expected = [moment for moment in whole_days if due(moment)]
    found = list(
        takewhile(lambda moment: moment <= whole_days[-1], table(Cron(expr=expr), "Australia/Lord_Howe").walk(start))
    )
    assert found == expected


@settings(max_examples=150, deadline=None)
@given(
    expr=st.sampled_from(["*/7 * * * *", "0 9 * * 1-5", "30 2 * * *", "15 1 * * 0", "0 0 1 * *", "0 */6 * * *", "59 23 31 12 *"]),
    zone=st.sampled_from(ZONES),
    at=st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
)  # fmt: skip
def test_after_and_latest_agree(expr, zone, at):
    """The next instant is later than the question, and the newest before it is the same seen from behind."""
    times = table(Cron(expr=expr), zone)
    following = times.after(at)
    assert following > at
    assert times.latest(following) == following
    newest = times.latest(at)
    if newest is not None:
        assert newest <= at
        assert times.after(newest) == following


def test_counting_stops_at_a_thousand_without_walking_a_year():
    """A year of minutes counts as at least a thousand."""
    times = table(Cron(expr="* * * * *"))
    assert times.count(NOW, NOW + timedelta(minutes=999)) == (1000, True)
    assert times.count(NOW, NOW + timedelta(days=365)) == (1000, False)
    assert times.latest(NOW + timedelta(days=365)) == NOW + timedelta(days=365)


def test_jitter_shifts_every_instant_by_one_constant():
    """An offset moves all instants alike, and looking back finds the same ones."""
    times = table(Cron(expr="0 * * * *"), offset=timedelta(seconds=17))
    first, second = islice(times.walk(NOW), 2)
    assert (first.second, second - first) == (17, timedelta(hours=1))
    assert times.latest(first) == first
    assert shortest_gap(times, NOW) == 3600


@pytest.mark.parametrize(
    ("text", "form"),
    [("0  9 * * 1-5", "0 9 * * 1-5"), ("@daily", "@daily"), ("every 90 minutes", "every 90m"), ("every 120s", "every 2m"),
     ("every 1d", "every 1d"), ("in 90s", "2026-01-01T00:01:30+00:00"), ("+2h", "2026-01-01T02:00:00+00:00"),
     ("2026-06-01T12:00:00+02:00", "2026-06-01T10:00:00+00:00"), ("2026-06-01 12:00", "2026-06-01T12:00:00+00:00"),
     ("0 0 * jan MON", "0 0 * jan MON"), ("0 0 * * 5L", "0 0 * * 5L"), ("0 0 * * 1#2", "0 0 * * 1#2")],
)  # fmt: skip
def test_what_is_accepted_is_echoed_in_a_form_that_means_the_same(text, form):
    """The normal form reads as the same schedule, and the stored form too."""
    zone = ZoneInfo("UTC")
    parsed = parse_schedule(text, now=NOW, zone=zone)
    assert normal_form(parsed, zone) == form
    assert parse_schedule(form, now=NOW, zone=zone) == parsed
    assert from_record(to_record(parsed, zone), zone) == parsed


@pytest.mark.parametrize(
    ("text", "said"),
    [("30m", "in 30m"), ("2h", "every 2h"), ("* * * * * *", "every 10s"), ("* * * *", "4 fields"),
     ("0 0 31 2 *", "31 2"), ("every 0m", "no length"), ("in 0s", "no length"), ("in -5m", "negative"),
     ("every 99999999999999d", "century"), ("2020-01-01T00:00", "past"), ("", "empty"), ("@fortnightly", "@daily"),
     ("0 25 * * *", "hour"), ("a b c d e", "cannot read"), ("2026-13-01", "cannot read"),
     ("2026-06-01T00:00[Mars/Olympus]", "Mars/Olympus")],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_what_to_write_instead(text, said):
    """Two readings, impossible dates, zero, negative, overflowing and past times are refused."""
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text, now=NOW, zone=ZoneInfo("UTC"))
    assert said in caught.value.line()


def test_a_naive_time_means_the_jobs_zone_and_a_named_one_its_own():
    """RFC 9557's bracket names the zone; a contradicting offset is refused; the gap is left by its end."""
    berlin = ZoneInfo("Europe/Berlin")
    assert parse_time("2026-06-01T12:00", berlin) == datetime(2026, 6, 1, 10, tzinfo=UTC)
    assert parse_time("2026-06-01T12:00[America/New_York]", berlin) == datetime(2026, 6, 1, 16, tzinfo=UTC)
    assert first_valid(datetime(2026, 3, 29, 2, 30), berlin) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    with pytest.raises(UsageError, match="contradict"):
        parse_time("2026-06-01T12:00+05:00[America/New_York]", berlin)


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "no schedule"), ("daily", "the stored schedule 'daily' has no one reading"), ({"kind": "lunar"}, "lunar"), ({"kind": "cron"}, "no expression"),
     ({"kind": "cron", "expr": "* * * * * *"}, "six fields"), ({"kind": "interval", "minutes": 0}, "positive"),
     ({"kind": "once"}, "no time")],
)  # fmt: skip
def test_a_broken_stored_schedule_says_why(value, said):
    """A record that cannot be run names its reason, which `list` shows."""
    with pytest.raises(ScheduleError, match=said):
        from_record(value, ZoneInfo("UTC"))


def test_stored_numbers_may_be_spelled_as_text():
    """A hand-edited interval of "30" minutes is thirty minutes."""
    assert from_record({"kind": "interval", "minutes": "30"}, ZoneInfo("UTC")) == Interval(seconds=1800)


def test_restricting_both_days_is_worth_a_warning():
    """Day of month and day of week together are joined with OR, unless one starts with a star."""
    assert both_days(Cron(expr="0 0 13 * 5"))
    assert not both_days(Cron(expr="0 0 */2 * 5"))
    assert not both_days(Once(at=NOW))


@pytest.mark.parametrize(
    ("expr", "write"),
    [("0 22-2 * * *", "22-23,0-2"), ("50-5 * * * *", "50-59,0-5"), ("0 0 * * fri-mon", "5-6,0-1"), ("0 0 * * sat-sun", "6-7"),
     ("0 0 * nov-feb *", "11-12,1-2"), ("0 0 28-3 * *", "28-31,1-3"), ("0 0 * * 6-0", "6-7")],
)  # fmt: skip
def test_a_range_past_the_end_of_its_field_is_refused_with_how_to_write_it(expr, write):
    """`22-2` names its two parts, and what is named is accepted and means them."""
    with pytest.raises(ScheduleError) as caught:
        check_cron(expr)
    assert caught.value.hint.endswith(f"ends before it begins: write {write}")
    place = next(place for place, field in enumerate(expr.split()) if "-" in field)
    check_cron(" ".join(write if number == place else field for number, field in enumerate(expr.split())))


@pytest.mark.parametrize("expr", ["0 0 31 4 *", "0 0 30 2 *", "0 0 31 2,4,6,9,11 *"])
def test_a_day_that_no_month_has_is_refused(expr):
    """What never comes due says so, at once."""
    with pytest.raises(ScheduleError, match="never comes due"):
        check_cron(expr)


@pytest.mark.parametrize(
    ("expr", "days"),
    [("0 0 L * *", ["2026-01-31", "2026-02-28", "2026-03-31"]), ("0 0 LW * *", ["2026-01-30", "2026-02-27", "2026-03-31"]),
     ("0 0 * * 5L", ["2026-01-30", "2026-02-27", "2026-03-27"]), ("0 0 * * 1#2", ["2026-01-12", "2026-02-09", "2026-03-09"]),
     ("0 0 * * sun#1", ["2026-01-04", "2026-02-01", "2026-03-01"]), ("0 0 20/7 * *", ["2026-01-20", "2026-01-27", "2026-02-20"]),
     ("0 0 8-8/7 * *", ["2026-01-08", "2026-02-08", "2026-03-08"]), ("0 0 L * 1#1", ["2026-01-05", "2026-01-31", "2026-02-02"]),
     ("0 0 */28 2 1#5", ["2044-02-29", "2072-02-29", "2112-02-29"])],
)  # fmt: skip
def test_the_days_beyond_plain_numbers(expr, days):
    """Last days, last weekdays, n-th weekdays, and a step from a number; a range of one has its one, as in Debian."""
    assert [moment.date().isoformat() for moment in islice(table(Cron(expr=expr)).walk(NOW), 3)] == days
