"""Other programs' spellings of a schedule at their edges: each shape, and what it is told to write."""

from __future__ import annotations

import pytest

from chronos_cli.core.field_faults import fault_of
from chronos_cli.core.foreign_schedules import told

TIME = "write a time as 9am, 9:30pm or 21:30"
LAST = "give the days, or LW for the last weekday of a month"
BACK = "give the days, or L for the last one"
SUNDAY = "write '*' for '?', and weekdays by name: there Sunday is 1"
NO_SECOND = "use five fields, without the second that stands first and the year"
NO_YEAR = "write its five fields without the year"
UNIT = "its unit is minutes, hours or days: write 'every 5m'"


@pytest.mark.parametrize(
    ("text", "write"),
    [
        ("rate(1 minute)", "write 'every 1m'"), ("rate(2 hours)", "write 'every 2h'"), ("rate(3 days)", "write 'every 3d'"),
        ("rate(1 week)", UNIT), ("rate(0 days)", UNIT), ("rate(5)", UNIT), ("rate(05 minutes)", "write 'every 5m'"),
        ("P2D", "write 'every 2d'"), ("PT90S", "write 'every 90s'"), ("P1WT5M", "write 'every 1w5m'"), ("@300", "write 'every 300s', which counts from start to start"),
        ("every two hours", "write 'every 2h'"), ("every second minute", "write 'every 2m'"), ("@every thirty days", "write 'every 30d'"),
        ("@every_5m", "write 'every 5m'"), ("@10 min", "write 'every 10 min'"),
        ("-0 9 * * *", "write '0 9 * * *'"), ("'every 5m'", "write every 5m"), ('" every 5m "', "write every 5m"),
        ("Weekly", "write '@weekly'"), ("every day", "write 'every 1d'"), ("every week", "write 'every 7d'"), ("every hour", "write 'every 1h'"),
        ("0 9 * * Monday", "write '0 9 * * mon'"), ("0 9 1 January,june tuesday", "write '0 9 1 jan,jun tue'"),
        ("TZ=UTC 0 9 * * *", "write '0 9 * * *' and give --tz UTC"), ("cron_tz=Asia/Tokyo 0 9 * * *", "write '0 9 * * *' and give --tz Asia/Tokyo"),
        ("H 9 * * *", "write one number, and let --jitter spread the jobs"), ("0~30 9 * * *", "write one number, and let --jitter spread the jobs"),
        ("@every 90", "write 'every 90s'"), ("@bi-annually", "write '0 0 1 1,7 *'"), ("@weekends", "write '0 0 * * 6,0'"),
    ],
)  # fmt: skip
def test_a_spelling_is_told_what_to_write(text, write):
    """With its own numbers in it."""
    reason, hint = told(text)
    assert reason.startswith(f"'{text}' ")
    assert hint == write


@pytest.mark.parametrize(
    ("time", "fields"),
    [
        ("0:00", "0 0"), ("7", "0 7"), ("23:59", "59 23"), ("22", "0 22"), ("24:00", None), ("23:60", None), ("9:58", "58 9"), ("12:59", "59 12"),
        ("12am", "0 0"), ("12 pm", "0 12"), ("1am", "0 1"), ("1:05pm", "5 13"), ("11pm", "0 23"), ("13pm", None), ("0am", None), ("13:00", "0 13"),
    ],
)  # fmt: skip
def test_a_time_of_the_day_is_written_as_fields(time, fields):
    """By itself each day; beside a day that has another reading, on that day."""
    assert told(time)[1] == (TIME if fields is None else f"write '{fields} * * *' for every day")
    assert told(f"at {time} every day")[1] == told(time)[1]
    for words, day in (("monday", "mon"), ("every sunday at", "sun"), ("day", "*"), ("daily at", "*"), ("weekdays", "1-5"), ("weekends at", "6-7")):  # fmt: skip
        assert told(f"{words} {time}")[1] == (TIME if fields is None else f"write '{fields} * * {day}'")
    assert told("noon")[1] == told("midday daily")[1] == "write '0 12 * * *' for every day"


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ("0 10 * * ?", "write '0 10 * * *'"), ("0/5 10 ? * MON-FRI", "write '0/5 10 * * MON-FRI'"), ("0 10 15W * ?", LAST), ("0 10 LW * ?", "write '0 10 LW * *'"),
        ("0 10 L-3 * ?", BACK), ("0 10 L * ?", "write '0 10 L * *'"), ("0 10 ? * L", SUNDAY), ("0 10 ? * 2L", SUNDAY), ("0 10 ? * 2#1", SUNDAY),
        ("0 10 ? * MON/2", "write '0 10 * * MON/2'"),
    ],
)  # fmt: skip
def test_question_marks_are_stars(fields, hint):
    """Unless something else in the fields counts as it does not here; with the second first, and as AWS writes it, alike."""
    assert told(fields)[1] == hint
    for text in (f"0 {fields}", f"00 {fields} *", f"cron({fields})", f"cron({fields} *)"):
        assert told(text)[1] == hint, text
    for text in (f"30 {fields}", f"0 {fields} 2030"):
        assert told(text)[1] == NO_SECOND, text
    for text in (f"cron({fields} 2030)", f"cron({fields} * *)", "cron(0 10 *)"):
        assert told(text)[1] == NO_YEAR, text


def test_a_weekday_by_number_is_no_number_of_ours_where_sunday_is_one():
    """Five fields alone have them as here."""
    assert told("0 10 ? * 2")[1] == "write '0 10 * * 2'"
    for text in ("0 0 10 ? * 2", "cron(0 10 ? * 2 *)"):
        assert told(text)[1] == SUNDAY


def test_a_text_that_nobody_writes_is_not_explained():
    """Nor is one that is well formed."""
    for text in ("hello", "0 9 * *", "a b c d e", "x * * * *"):
        assert told(text) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("0 9 * * * UTC", ("names its zone behind its fields", "write '0 9 * * *' and give --tz UTC")),
        ("0 9 * * * UTC x", None),
        ("0 9 * * * /bin/true", ("has a command behind its five fields", "write '0 9 * * *'")),
        ("0 9 * * * 5", None), ("0 9 * * * mon", None), ("0 9 x! * * /bin/true", None),
        ("0 9 1, 2 * *", ("has a blank behind a comma", "write '0 9 1,2 * *'")),
        ("0 9 * * 1\u20145", ("has a dash that is no '-'", "write '0 9 * * 1-5'")),
        ("0 9 * * ,1,,2,", ("has nothing beside a comma", "write '0 9 * * 1,2'")), ("0 9 , * *", None),
        ("*/0 * * * *", ("is not a cron expression: bad minute", "a step is 1 or more: write '* * * * *'")),
        ("0 1-5/00,9 * * *", ("is not a cron expression: bad hour", "a step is 1 or more: write '0 1-5,9 * * *'")), ("*/10 9 * * *", None), ("*/01 9 * * *", None),
        ("0 9 l-3 * *", ("is not a cron expression: bad day-of-month: it counts back from the last day", "give the days, or L for the last one")),
        ("0 9 1,L-3 * *", ("is not a cron expression: bad day-of-month: it counts back from the last day", "give the days, or L for the last one")),
        ("0 L-3 * * *", None),
        ("0 9 * * friL,SUNL", ("is not a cron expression: bad day-of-week", "write '0 9 * * 5L,0L'")),
        ("0 9 * * L", ("is not a cron expression: bad day-of-week: L alone", "write 6 for each Saturday, or 6L for the last one of a month")),
        ("0 9 * * 1#0", ("is not a cron expression: bad day-of-week", "a weekday has a first to a fifth of a month: #1 to #5")),
        ("0 9 * * 1#6", ("is not a cron expression: bad day-of-week", "a weekday has a first to a fifth of a month: #1 to #5")), ("0 9 * * 1#1,2#5", None),
        ("59 23 31 12 7", None), ("0 0 1 1 0", None), ("60 0 1 1 0", ("is not a cron expression: bad minute", "minutes go from 0 to 59")),
        ("0 24 1 1 0", ("is not a cron expression: bad hour", "hours go from 0 to 23")),
        ("0 0 0 1 0", ("is not a cron expression: bad day-of-month", "days of the month go from 1 to 31, and L is the last one")),
        ("0 0 32 1 0", ("is not a cron expression: bad day-of-month", "days of the month go from 1 to 31, and L is the last one")),
        ("0 0 1 0 0", ("is not a cron expression: bad month", "months go from 1 to 12, or from jan to dec")),
        ("0 0 1 mon 0", ("is not a cron expression: bad month", "months go from 1 to 12, or from jan to dec")),
        ("0 0 1 1 jan", ("is not a cron expression: bad day-of-week", "days of the week go from 0 to 7, or from sun to sat")),
        ("0 0 1 1 8", ("is not a cron expression: bad day-of-week", "days of the week go from 0 to 7, or from sun to sat")),
        ("0 0 15W 1 0", None), ("0 0 L 1 0", None), ("0 0 LW jan sun", None), ("*/75 0 1 1 0", None), ("0 0 1", None), ("a 0 1 1 0", None),
    ],
)  # fmt: skip
def test_a_fault_of_five_fields_has_its_cure(text, fault):
    """The first that is found; where nothing is known to be wrong, nothing is said."""
    assert fault_of(text) == fault
