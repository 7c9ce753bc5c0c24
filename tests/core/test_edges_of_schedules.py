"""Rules of schedules at their edges: the first and the last instant, how many, and what a stored one may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from chronos_cli.core.schedule import (
    COUNT_LIMIT,
    MAX_CRON,
    Cron,
    Interval,
    Once,
    Timetable,
    check_cron,
    comes_due,
    from_record,
    normal_form,
    read_words,
    shortest_gap,
    to_record,
)
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ScheduleError
from tests.core.making import T, at

SECOND = timedelta(seconds=1)


def table(schedule, offset=0):
    return Timetable(schedule=schedule, zone=UTC, anchor=at(-100), offset=timedelta(seconds=offset))


@pytest.mark.parametrize(
    ("schedule", "instants"),
    [
        (Interval(seconds=100), [at(-100), T, at(100)]), (Interval(seconds=50), [at(-50), T, at(50)]),
        (Cron(expr="* * * * *"), [at(-60), T, at(60)]), (Cron(expr="0 12 20 * *"), [at(-31 * 86_400), T, at(30 * 86_400)]),
        (Cron(expr="0 12 20 11 *"), [at(-365 * 86_400), T, at(365 * 86_400)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("offset", [0, 7])
def test_what_comes_next_is_later_and_the_latest_is_not(schedule, instants, offset):
    """By a second; the jitter moves both alike."""
    found = table(schedule, offset)
    before, now, following = (moment + timedelta(seconds=offset) for moment in instants)
    assert (found.after(now), found.after(now - SECOND), found.after(now + timedelta(seconds=0.9))) == (
        following,
        now,
        following,
    )
    assert (found.latest(now), found.latest(now - SECOND), found.latest(following - SECOND)) == (now, before, now)
    assert list(islice(found.walk(before), 2)) == [now, following]
    assert found.count(before, following) == (3, True)
    assert found.count(now, following - SECOND) == (1, True)
    assert found.count(now + SECOND, following - SECOND) == (0, True)


def test_a_single_instant_comes_once():
    """With its jitter."""
    found = table(Once(at=T), 7)
    assert (found.after(at(6)), found.after(at(7)), found.latest(at(6)), found.latest(at(7))) == (
        at(7),
        None,
        None,
        at(7),
    )
    assert found.count(at(7), at(7)) == (1, True)
    assert found.count(at(8), at(9)) == (0, True)


def test_nothing_comes_after_the_last_year():
    """And nothing came before the first."""
    last = datetime(9999, 12, 31, 23, 59, 30, tzinfo=UTC)
    assert table(Cron(expr="0 0 * * *")).after(last) is None
    assert table(Interval(seconds=60)).after(last) is None
    assert table(Cron(expr="0 12 29 2 *")).latest(T) == datetime(2024, 2, 29, 12, tzinfo=UTC)
    assert table(Cron(expr="0 0 29 2 */7")).latest(T) == datetime(2004, 2, 29, tzinfo=UTC)


def test_instants_are_counted_up_to_a_thousand():
    """One more is only said to be more."""
    every = table(Interval(seconds=1))
    assert every.count(at(1), at(COUNT_LIMIT)) == (COUNT_LIMIT, True)
    assert every.count(at(1), at(COUNT_LIMIT + 1)) == (COUNT_LIMIT, False)


@pytest.mark.parametrize(
    ("schedule", "gap"),
    [(Interval(seconds=7), 7), (Cron(expr="* * * * *"), 60), (Cron(expr="*/7 * * * *"), 240), (Cron(expr="0 9,17 * * *"), 8 * 3_600),
     (Cron(expr="0,59 * * * *"), 60), (Cron(expr="0 0 1 1 *"), 365 * 86_400), (Once(at=at(60)), 366 * 86_400)],
)  # fmt: skip
def test_the_shortest_gap_is_that_of_two_neighbours(schedule, gap):
    """What comes only once has the longest."""
    assert shortest_gap(table(schedule), T) == gap


def test_an_expression_of_a_thousand_characters_is_read():
    """One more is too long, and is not quoted; words of that length are none."""
    longest = "0," * 495 + "1 * * * *"
    padded = longest + " " * (MAX_CRON - len(longest))
    assert check_cron(padded).fields().minutes == (0, 1)
    for text in (padded + " ", "0," * 5_000):
        with pytest.raises(ScheduleError, match="too long") as refused:
            check_cron(text)
        assert len(refused.value.message) < 200
    with pytest.raises(ScheduleError, match="too long"):
        from_record({"kind": "cron", "expr": padded + " "}, UTC)
    assert read_words("daily at 9" + " " * (MAX_CRON - 10)) == Cron(expr="0 9 * * *")
    assert read_words("daily at 9" + " " * (MAX_CRON - 9)) is None
    assert read_words("0 9 * * *") is None


def test_a_day_that_some_month_has_comes_due():
    """In that month alone."""
    assert [comes_due(expr) for expr in ("0 0 31 1 *", "0 0 31 2,4 *", "0 0 31 2,4,5 *", "0 0 * 2 *", "0 0 30 2 1", "0 0 30 2 */1")] == [
        True, False, True, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stored", "seconds"),
    [({"minutes": 5}, 300), ({"seconds": 7}, 7), ({"minutes": 1, "seconds": 7}, 7), ({"minutes": "5"}, 300), ({"minutes": 0.5}, 30), ({"seconds": 1}, 1),
     ({"seconds": "x", "minutes": 2}, 120), ({"seconds": True, "minutes": 2}, 120), ({"seconds": 100 * 366 * 86_400}, 100 * 366 * 86_400),
     ({"seconds": 0}, None), ({"seconds": 0.9}, None), ({"minutes": True}, None), ({}, None), ({"seconds": 100 * 366 * 86_400 + 1}, None),
     ({"seconds": "inf"}, None), ({"seconds": "nan"}, None), ({"minutes": [5]}, None), ({"minutes": 10**400}, None)],
)  # fmt: skip
def test_a_stored_interval_is_a_positive_length(stored, seconds):
    """Its seconds count before its minutes."""
    value = {"kind": "interval", **stored}
    if seconds is None:
        with pytest.raises(ScheduleError, match="not a positive length"):
            from_record(value, UTC)
    else:
        assert from_record(value, UTC) == Interval(seconds=seconds)


@pytest.mark.parametrize(
    ("schedule", "display", "form"),
    [(Interval(seconds=300), "every 5m", "every 5m"), (Interval(seconds=90), "every 90s", "every 90s"), (Interval(seconds=7_200), "every 120m", "every 2h"),
     (Cron(expr="0 9 * * *"), "0 9 * * *", "0 9 * * *"), (Once(at=T), "once at 2026-11-20 21:00", "2026-11-20T21:00:00+09:00")],
)  # fmt: skip
def test_a_schedule_is_stored_as_hermes_has_it_and_reads_back(schedule, display, form):
    """In the zone of its job."""
    tokyo = ZoneInfo("Asia/Tokyo")
    stored = to_record(schedule, tokyo)
    assert (stored["display"], normal_form(schedule, tokyo)) == (display, form)
    assert ("seconds" in stored) == (schedule == Interval(seconds=90))
    assert from_record(stored, UTC) == schedule


def parsed(text, **more):
    return parse_schedule(text, now=T, zone=UTC, **more)


def test_a_time_is_ahead_unless_the_past_is_asked_for():
    """The present second is past."""
    assert parsed("2026-11-20T12:00:01") == Once(at=at(1))
    for text in ("2026-11-20T12:00", "2026-11-20T11:59:59"):
        with pytest.raises(ScheduleError, match="is past"):
            parsed(text)
        assert isinstance(parsed(text, allow_past=True), Once)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [("in 90s", Once(at=at(90))), ("+90s", Once(at=at(90))), ("+ 90s", Once(at=at(90))), ("In 1h30m", Once(at=at(5_400))), ("every 10s", Interval(seconds=10)),
     ("@every 10s", Interval(seconds=10)), ("@DAILY", Cron(expr="@daily")), ("daily at 9", Cron(expr="0 9 * * *")), ("0  9 * * *", Cron(expr="0 9 * * *"))],
)  # fmt: skip
def test_each_form_is_read(text, schedule):
    """Blanks and capitals aside."""
    assert parsed(text) == parsed(f"  {text} ") == schedule


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "is empty"), ("  ", "is empty"), ("in -5s", "is negative"), ("every 0s", "has no length"), ("in 0m", "has no length"), ("30m", "as once or as every"),
     ("in 9000000h", "longer than a century"), ("in five", "five"), ("2026-13-01T00:00", "cannot read the time"), ("2026-11-20 25:00", "cannot read the time"),
     ("soon", "cannot read the schedule 'soon'"), ("@sometimes", "there is no schedule"), ("0 9 * * * *", "six fields"), ("0 9 * *", "4 fields"),
     ("0 9 * * \u00e4", "do not know"), ("0 0 31 2 *", "never comes due")],
)  # fmt: skip
def test_what_is_no_schedule_says_why(text, said):
    """As near to what was meant as can be told."""
    with pytest.raises(ScheduleError) as refused:
        parsed(text)
    assert said in refused.value.message
