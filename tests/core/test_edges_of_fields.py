"""Rules of the five fields at their edges: the times of a day, the ends of months, steps, and what is no field."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import islice

import pytest

from chronos_cli.core.cron_fields import fields_of
from chronos_cli.errors import ScheduleError


def days(expr, first=date(2026, 1, 1), last=date(2026, 12, 31)):
    """The days of a year that an expression has, months aside."""
    fields = fields_of(expr)
    every = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [day for day in every if fields.on_day(day)]


def times(expr, first, number):
    return [moment.isoformat(" ", "minutes") for moment in islice(fields_of(expr).times(first), number)]


def test_the_times_of_a_day_begin_with_the_minute_that_is_asked_for():
    """In its hour the minutes before it are past; in the next ones none is."""
    expr = "15,45 9,11 * * *"
    day, following = "2026-11-20", "2026-11-21"
    all_day = [
        f"{day} 09:15",
        f"{day} 09:45",
        f"{day} 11:15",
        f"{day} 11:45",
        f"{following} 09:15",
        f"{following} 09:45",
    ]
    for hour, minute, past in (
        (0, 0, 0),
        (9, 15, 0),
        (9, 16, 1),
        (9, 45, 1),
        (9, 46, 2),
        (10, 50, 2),
        (11, 45, 3),
        (11, 46, 4),
    ):
        assert times(expr, datetime(2026, 11, 20, hour, minute), 6 - past) == all_day[past:], (hour, minute)


def test_a_month_that_is_none_of_the_expressions_is_passed_over_whole():
    """Also from its last day, and over the end of a year."""
    for first in (datetime(2026, 2, 1), datetime(2026, 3, 31), datetime(2026, 12, 31, 23, 59)):
        assert times("0 0 1 1,2,4 *", first, 2) == {
            2: ["2026-02-01 00:00", "2026-04-01 00:00"], 3: ["2026-04-01 00:00", "2027-01-01 00:00"],
            12: ["2027-01-01 00:00", "2027-02-01 00:00"],
        }[first.month]  # fmt: skip


def test_a_day_that_never_comes_ends_the_search():
    """And one that comes after forty years is found, each time anew."""
    assert times("0 0 30 2 *", datetime(2026, 1, 1), 1) == []
    assert times("0 0 29 2 */7", datetime(2088, 3, 1), 2) == ["2128-02-29 00:00", "2156-02-29 00:00"]


def test_the_last_day_and_the_last_weekday_of_a_month():
    """A month that ends on a Saturday or a Sunday has its last weekday on the Friday before."""
    ends = [day.day for day in days("0 0 L * *")]
    assert ends == [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    working = [day.day for day in days("0 0 LW * *")]
    assert working == [30, 27, 31, 30, 29, 30, 31, 31, 30, 30, 30, 31]
    assert [day.day for day in days("0 0 L * *", date(2028, 2, 1), date(2028, 2, 29))] == [29]
    both = days("0 0 L,LW,5 * *", date(2026, 5, 1), date(2026, 5, 31))
    assert [day.day for day in both] == [5, 29, 31]


def test_the_first_to_the_fifth_and_the_last_weekday_of_a_month():
    """The fifth is not had by every month."""
    mondays = {n: [day.day for day in days(f"0 0 * * 1#{n}", date(2026, 6, 1), date(2026, 8, 31))] for n in range(1, 6)}
    assert mondays == {1: [1, 6, 3], 2: [8, 13, 10], 3: [15, 20, 17], 4: [22, 27, 24], 5: [29, 31]}
    assert [day.day for day in days("0 0 * * 1L", date(2026, 6, 1), date(2026, 8, 31))] == [29, 27, 31]
    tuesdays = {n: [day.day for day in days(f"0 0 * * 2#{n}", date(2026, 6, 1), date(2026, 8, 31))] for n in (1, 2)}
    assert tuesdays == {1: [2, 7, 4], 2: [9, 14, 11]}
    assert days("0 0 * * 7L") == days("0 0 * * 0L") == days("0 0 * * 0l")
    assert days("0 0 * * sun#2") == days("0 0 * * 7#2")
    either = days("0 0 * * 3,1#1,5L", date(2026, 6, 1), date(2026, 6, 30))
    assert [day.day for day in either] == [1, 3, 10, 17, 24, 26]


def test_days_are_joined_with_and_where_one_of_them_begins_with_a_star():
    """Else either will do."""
    june = date(2026, 6, 1), date(2026, 6, 30)
    assert [day.day for day in days("0 0 8 * 1", *june)] == [1, 8, 15, 22, 29]
    assert [day.day for day in days("0 0 9 * 1", *june)] == [1, 8, 9, 15, 22, 29]
    assert [day.day for day in days("0 0 */7 * 1", *june)] == [1, 8, 15, 22, 29]
    assert [day.day for day in days("0 0 */2 * 1", *june)] == [1, 15, 29]
    assert [day.day for day in days("0 0 8,9 * */2", *june)] == [9]


@pytest.mark.parametrize(
    ("field", "minutes"),
    [
        ("5", [5]), ("5-7", [5, 6, 7]), ("5-5", [5]), ("50/4", [50, 54, 58]), ("0/30", [0, 30]), ("10-20/5", [10, 15, 20]),
        ("10-19/5", [10, 15]), ("*/29", [0, 29, 58]), ("*/59", [0, 59]), ("*/60", [0]), ("0,59", [0, 59]), ("7,5,6-7", [5, 6, 7]),
        ("000000007", [7]), ("5-7/1", [5, 6, 7]), ("59/1", [59]),
    ],
)  # fmt: skip
def test_a_field_has_these_values(field, minutes):
    """Ascending, each once; a step counts from the first one."""
    assert list(fields_of(f"{field} * * * *").minutes) == minutes


def test_values_go_from_the_lowest_to_the_highest_of_their_field():
    """Names count as their numbers, in ranges too."""
    fields = fields_of("0-59 0-23 1-31 1-12 0-7")
    assert (fields.minutes, fields.hours) == (tuple(range(60)), tuple(range(24)))
    assert (fields.days, fields.months, fields.weekdays) == (set(range(1, 32)), set(range(1, 13)), set(range(7)))
    named = fields_of("0 0 * JAN-mar,Dec Mon-FRI")
    assert (named.months, named.weekdays) == ({1, 2, 3, 12}, {1, 2, 3, 4, 5})
    assert fields_of("0 0 * * 7").weekdays == fields_of("0 0 * * sun").weekdays == {0}


@pytest.mark.parametrize(
    ("expr", "place"),
    [
        ("60 * * * *", "minute"), ("-1 * * * *", "minute"), ("*/0 * * * *", "minute"), ("5-7/0 * * * *", "minute"),
        ("0000000007 * * * *", "minute"), ("*/x * * * *", "minute"), ("\u0665 * * * *", "minute"), ("5- * * * *", "minute"),
        (", * * * *", "minute"), ("jan * * * *", "minute"), ("0 24 * * *", "hour"), ("0 0 0 * *", "day-of-month"),
        ("0 0 32 * *", "day-of-month"), ("0 0 1 0 *", "month"), ("0 0 1 13 *", "month"), ("0 0 * * 8", "day-of-week"), ("0 0 * * 10", "day-of-week"),
        ("0 0 * * 1#0", "day-of-week"), ("0 0 * * 1#6", "day-of-week"), ("0 0 * * 8L", "day-of-week"), ("0 0 * * L", "day-of-week"),
        ("0 0 * * monL", "day-of-week"), ("0 0 W * *", "day-of-month"), ("0 0 * * 1#", "day-of-week"),
    ],
)  # fmt: skip
def test_what_is_no_value_names_its_field(expr, place):
    """No field is read as something near it."""
    with pytest.raises(ScheduleError, match=f"bad {place}$"):
        fields_of(expr)


@pytest.mark.parametrize(
    ("expr", "write"),
    [
        ("50-10 * * * *", "50-59,0-10"), ("59-0 * * * *", "59,0"), ("0 22-5 * * *", "22-23,0-5"), ("0 23-0 * * *", "23,0"),
        ("0 0 30-2 * *", "30-31,1-2"), ("0 0 * nov-feb *", "11-12,1-2"), ("0 0 * 12-1 *", "12,1"), ("0 0 * * 5-1", "5-6,0-1"),
        ("0 0 * * sat-mon", "6,0-1"), ("0 0 * * 7-1", "7,0-1"), ("0 0 * * 5-0", "5-7"), ("0 0 * * fri-sun", "5-7"),
    ],
)  # fmt: skip
def test_a_range_over_the_end_of_its_field_says_how_to_write_it(expr, write):
    """What is offered is read, and means the days that were meant."""
    with pytest.raises(ScheduleError) as refused:
        fields_of(expr)
    assert refused.value.hint.endswith(f"write {write}")


def test_a_minute_or_an_hour_that_begins_with_a_star_is_a_wildcard():
    """Such a job keeps its rhythm through a move of the clocks."""
    assert [fields_of(expr).starred for expr in ("*/5 9 * * *", "5 */2 * * *", "5 9 * * *", "5 9 */2 * *")] == [
        True, True, False, False,
    ]  # fmt: skip
