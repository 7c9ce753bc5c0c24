"""Schedules in words: those of newer Hermes versions, on the command line and in a store."""

import re
from datetime import UTC, datetime

import pytest

from chronos_cli.core.natural import read_days
from chronos_cli.core.schedule import Cron, Interval, from_record, normal_form
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ScheduleError

NOW = datetime(2026, 11, 20, 15, 4, tzinfo=UTC)
READ = [
    ("every hour", "every 1h"),
    ("every minute", "every 1m"),
    ("Every Monday 9am", "0 9 * * 1"),
    ("every monday at 9:30 pm", "30 21 * * 1"),
    ("weekdays at 9am", "0 9 * * 1-5"),
    ("every weekday at 12am", "0 0 * * 1-5"),
    ("weekends at noon", "0 12 * * 0,6"),
    ("every weekdays at 9am", "0 9 * * 1-5"),
    ("every weekends 10:00", "0 10 * * 0,6"),
    ("daily at 7", "0 7 * * *"),
    ("daily 07:05", "5 7 * * *"),
    ("every day at 12pm", "0 12 * * *"),
    ("everyday at midnight", "0 0 * * *"),
    ("every monday, wednesday and fri at 18:30", "30 18 * * 1,3,5"),
    ("mondays at 9am", "0 9 * * 1"),
    ("every sun 14:00", "0 14 * * 0"),
    ("every thurs at 23:59", "59 23 * * 4"),
    ("every monday and monday at 1am", "0 1 * * 1"),
    ("mondays, tuesdays at 1pm", "0 13 * * 1,2"),
    ("every saturday at 12:01", "1 12 * * 6"),
]
REFUSED = [
    "monday 9am",
    "mon at 9",
    "every day",
    "daily",
    "weekdays",
    "every monday",
    "every monday and at 9am",
    "daily at 25",
    "daily at 13pm",
    "sunday 24:00",
    "every sunday at 24:00",
    "sundays at 12:60",
    "daily at 0am",
    "daily at 9:60",
    "daily at 9am 5pm",
    "every 2 mondays at 9am",
    "every other monday at 9am",
    "weekdays at nine",
    "monday and tuesdays at 9am",
    "mondays, tuesday at 9am",
    "every 9am",
    "every at 9am",
    "every and 9am",
    "daily at 9 : 30",
    "and at 9am",
    "30m",
]


@pytest.mark.parametrize(("text", "normal"), READ)
def test_words_with_one_reading_are_taken(text, normal):
    """They are echoed in normal form, and read alike from a store: as a text, and wherever a record may have them."""
    schedule = parse_schedule(text, now=NOW, zone=UTC)
    assert normal_form(schedule, UTC) == normal
    for stored in (text, {"kind": "natural", "expr": text}, {"kind": None, "value": text}, {"display": text}):
        assert from_record(stored, UTC) == schedule
    if isinstance(schedule, Cron):
        assert from_record({"kind": "cron", "expr": text}, UTC) == schedule


@pytest.mark.parametrize("text", REFUSED)
def test_words_with_another_reading_are_refused(text):
    """What may mean one day alone, no hour, or two of them, is refused on input and in a store; what is offered is taken."""
    assert read_days(text) is None
    with pytest.raises(ScheduleError) as refused:
        parse_schedule(text, now=NOW, zone=UTC)
    for offered in re.findall("'([^']+)'", refused.value.hint):
        parse_schedule(offered, now=NOW, zone=UTC)
    with pytest.raises(ScheduleError):
        from_record(text, UTC)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("every 2h", Interval(seconds=7200)),
        ("0 9 * * 1-5", Cron(expr="0 9 * * 1-5")),
        ("@daily", Cron(expr="@daily")),
    ],
)
def test_a_stored_text_may_be_any_recurring_schedule(text, schedule):
    """A record of a person's hand has its schedule as one text."""
    assert from_record(text, UTC) == schedule


@pytest.mark.parametrize("text", ["in 30m", "2026-11-20T15:30", "", "soon"])
def test_a_stored_text_that_counts_from_another_moment_is_refused(text):
    """Whoever wrote `in 30m` meant their own now, which no record tells."""
    with pytest.raises(ScheduleError, match=r"the stored schedule .* has no one reading"):
        from_record(text, UTC)
