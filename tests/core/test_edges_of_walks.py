"""Rules of a walk over the clock on the wall at their edges: far instants, and hours that are skipped or come twice."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from chronos_cli.core.cron_fields import fields_of
from chronos_cli.core.wall import walk

# Berlin: on 29 March 2026 02:00 becomes 03:00 (01:00 UTC), on 25 October 03:00 becomes 02:00 (01:00 UTC).
BERLIN = ZoneInfo("Europe/Berlin")
# Lord Howe: on 4 October 2026 02:00 becomes 02:30 (15:30 UTC of the 3rd), on 5 April 02:00 becomes 01:30 (15:00 UTC of the 4th).
HOWE = ZoneInfo("Australia/Lord_Howe")


def walked(expr, after, number, zone=BERLIN):
    """The next instants, in UTC to the minute; none has seconds."""
    found = list(islice(walk(fields_of(expr), datetime.fromisoformat(after).replace(tzinfo=UTC), zone), number))
    assert all(moment.tzinfo is UTC and not moment.second for moment in found)
    return [f"{moment:%m-%d %H:%M}" for moment in found]


@pytest.mark.parametrize(
    ("expr", "after", "expected"),
    [
        # Months lie between, and with them a move of the clocks: the time on the wall is that of its own day.
        ("0 9 1 * *", "2026-01-05T00:00", ["02-01 08:00", "03-01 08:00", "04-01 07:00", "05-01 07:00"]),
        ("0 9 1 * *", "2026-08-05T00:00", ["09-01 07:00", "10-01 07:00", "11-01 08:00", "12-01 08:00"]),
        ("0 9 28,29,30 3 *", "2026-01-01T00:00", ["03-28 08:00", "03-29 07:00", "03-30 07:00", "03-28 07:00"]),
        ("0 9 24,25,26 10 *", "2026-01-01T00:00", ["10-24 07:00", "10-25 08:00", "10-26 08:00"]),
        # A time that is skipped is the first instant after the gap, once; the next one is that of the wall again.
        ("30 2 29 3 *", "2026-01-01T00:00", ["03-29 01:00", "03-29 00:30"]),
        ("0,30,59 2 29 3 *", "2026-01-01T00:00", ["03-29 01:00", "03-29 00:00"]),
        ("30 2 * * *", "2026-03-27T12:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("0 3 * * *", "2026-03-27T12:00", ["03-28 02:00", "03-29 01:00", "03-30 01:00"]),
        ("1 3 * * *", "2026-03-27T12:00", ["03-28 02:01", "03-29 01:01", "03-30 01:01"]),
        ("59 1 * * *", "2026-03-27T12:00", ["03-28 00:59", "03-29 00:59", "03-29 23:59"]),
        # A time that comes twice is the first of them.
        ("30 2 25 10 *", "2026-01-01T00:00", ["10-25 00:30", "10-25 00:30"]),
        ("30 2 * * *", "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
        ("0 3 * * *", "2026-10-24T12:00", ["10-25 02:00", "10-26 02:00"]),
        ("59 1 * * *", "2026-10-24T12:00", ["10-24 23:59", "10-26 00:59"]),
    ],
)  # fmt: skip
def test_a_time_on_the_wall_comes_once_a_day(expr, after, expected):
    """Whatever moves of the clocks lie between it and the one before."""
    assert walked(expr, after, len(expected)) == expected


@pytest.mark.parametrize(
    ("expr", "after", "expected"),
    [
        ("*/30 2 25 10 *", "2026-01-01T00:00", ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30", "10-25 00:00"]),
        ("*/30 2 29 3 *", "2026-01-01T00:00", ["03-29 00:00"]),
        ("*/20 * * * *", "2026-03-29T00:30", ["03-29 00:40", "03-29 01:00", "03-29 01:20"]),
        ("*/20 * * * *", "2026-10-25T00:30", ["10-25 00:40", "10-25 01:00", "10-25 01:20", "10-25 01:40", "10-25 02:00"]),
        ("5 * * * *", "2026-10-25T00:00", ["10-25 00:05", "10-25 01:05", "10-25 02:05"]),
    ],
)  # fmt: skip
def test_a_rhythm_goes_on_through_a_move_of_the_clocks(expr, after, expected):
    """What is skipped is not made up for, and what comes twice runs twice."""
    assert walked(expr, after, len(expected)) == expected


@pytest.mark.parametrize(
    ("expr", "after", "expected"),
    [
        # 02:10 comes for the second time at 01:10 UTC.
        ("30 2 * * *", "2026-10-25T01:10", ["10-26 01:30"]),
        ("5 2,3 * * *", "2026-10-25T01:00:00", ["10-25 02:05", "10-26 01:05"]),
        ("5 2,3 * * *", "2026-10-25T00:59:59", ["10-25 02:05", "10-26 01:05"]),
        ("*/30 * * * *", "2026-10-25T01:10", ["10-25 01:30", "10-25 02:00"]),
        ("0 3 * * *", "2026-10-25T01:10", ["10-25 02:00"]),
    ],
)  # fmt: skip
def test_a_walk_may_begin_in_an_hour_that_comes_twice(expr, after, expected):
    """What it repeats had its turn; a rhythm goes on."""
    assert walked(expr, after, len(expected)) == expected


def test_what_comes_next_is_later_than_what_is_asked_for_and_has_no_seconds():
    """By one second is enough."""
    for after in ("2026-06-01T07:00:00", "2026-06-01T07:00:01", "2026-06-01T07:00:59", "2026-06-01T07:00:59.9"):
        assert walked("* 9 * * *", after, 1) == ["06-01 07:01"]
    assert walked("* 9 * * *", "2026-06-01T06:59:59.9", 1) == ["06-01 07:00"]


def test_a_move_of_half_an_hour_skips_and_repeats_as_much():
    """As Lord Howe has it."""
    assert walked("15 2 * * *", "2026-10-02T00:00", 3, HOWE) == ["10-02 15:45", "10-03 15:30", "10-04 15:15"]
    assert walked("45 1 * * *", "2026-04-03T00:00", 3, HOWE) == ["04-03 14:45", "04-04 14:45", "04-05 15:15"]
    assert walked("*/15 1 5 4 *", "2026-04-04T00:00", 6, HOWE) == [
        "04-04 14:00", "04-04 14:15", "04-04 14:30", "04-04 14:45", "04-04 15:00", "04-04 15:15",
    ]  # fmt: skip


def test_a_clock_that_is_moved_by_seconds_is_back_at_whole_minutes_at_once():
    """Monrovia went ahead by 44 minutes and 30 seconds on 7 January 1972."""
    zone, after = ZoneInfo("Africa/Monrovia"), datetime(1972, 1, 7, 0, 43, 40, tzinfo=UTC)
    found = list(islice(walk(fields_of("* * * * *"), after, zone), 4))
    assert [f"{moment.astimezone(zone):%H:%M:%S}" for moment in found] == [
        "00:45:00",
        "00:46:00",
        "00:47:00",
        "00:48:00",
    ]
    assert list(islice(walk(fields_of("10 0 * * *"), after, zone), 1)) == [datetime(1972, 1, 7, 0, 44, 30, tzinfo=UTC)]
    assert list(islice(walk(fields_of("45 0 7 * *"), after, zone), 1)) == [datetime(1972, 1, 7, 0, 45, tzinfo=UTC)]
