"""Schedules in the spelling of other programs are refused with the right one, and what a hint says to write is taken."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.core.schedule import Cron, Interval, normal_form
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ScheduleError

NOW = datetime.now(UTC)
SOON = f"{NOW.year + 2}-03-01T10:00:00"  # in the names of tests: the same in each process that collects them

SPELLINGS = [
    # what others write, and what is written here
    ("every 5m x", "every 5m"), ("every 5 minutes echo a", "every 5 minutes"), ("@every 5m x", "every 5m"),
    ("every five minutes", "every 5m"), ("every other day", "every 2d"), ("every month", "@monthly"),
    ("every year", "@yearly"), ("every quarter", "0 0 1 1,4,7,10 *"), ("@every 90", "every 90s"),
    ("@every 500ms", "every 1s"), ("every 0.5 ms", "every 1s"), ("@weekdays", "0 0 * * 1-5"), ("@weekend", "0 0 * * 6,0"),
    ("@biweekly", "every 14d"), ("@1h", "every 1h"), ("@every5m", "every 5m"), ("@every_10", "every 10s"),
    ("rate(5 min)", "every 5m"), ("RATE( 1 HOUR )", "every 1h"), ("rate(7 days)", "every 7d"),
    ("rate(5)", "every 5m"), ("rate(0 minutes)", "every 5m"), ("cron(0 10 * * ? *)", "0 10 * * *"),
    ("CRON(0 10 ? * MON-FRI *)", "0 10 * * MON-FRI"), ("cron(0 10 * * *)", "0 10 * * *"),
    ("cron(0 10 LW * ? *)", "0 10 LW * *"), (f"at({SOON})", SOON), ("0 10 ? * 1", "0 10 * * 1"),
    ("0 0 10 ? * MON", "0 10 * * MON"), ("0 0/5 14 * * ? *", "0/5 14 * * *"), ("0 10 * * friL", "0 10 * * 5L"),
    ("0 10 * * FRIL,monL", "0 10 * * 5L,1L"), ("*/0 * * * *", "* * * * *"), ("1-5/0,3/00 * * * *", "1-5,3 * * * *"),
    ("0 9 * * 1-5 Europe/Berlin", "0 9 * * 1-5"), ("0 9 * * * UTC", "0 9 * * *"), ("0 9 * * 1\u20135", "0 9 * * 1-5"),
    ("0 9 * * 1,", "0 9 * * 1"), ("1,2,,3 * * * *", "1,2,3 * * * *"), ("0, 30 9 * * *", "0,30 9 * * *"),
    ("*/5 * * * * /bin/echo a b", "*/5 * * * *"), ("PT5M", "every 5m"), ("P1DT12H", "every 1d12h"), ("R/PT1H", "every 1h"),
    ("noon", "0 12 * * *"), ("at 9am", "0 9 * * *"), ("9:30 pm every day", "30 21 * * *"), ("09:00 daily", "0 9 * * *"),
    ("TZ=Asia/Tokyo every 5m", "every 5m"), ("@quarterly", "0 0 1 1,4,7,10 *"), ("Daily", "@daily"),
]  # fmt: skip

TOLD = [
    # what others write, and what the hint says of it where there is no one spelling
    ("60 * * * *", "minutes go from 0 to 59"), ("* 24 * * *", "hours go from 0 to 23"),
    ("0 0 32 * *", "days of the month go from 1 to 31"), ("0 0 * 13 *", "months go from 1 to 12"),
    ("0 0 * * 8", "days of the week go from 0 to 7"), ("0 0 * * Mo-Fr", "or from sun to sat"), ("0 0 * juin *", "jan to dec"),
    ("0 0 * * 5#6", "#1 to #5"), ("0 0 * * L", "6L for the last one"), ("0 0 L-3 * *", "L for the last one"),
    ("0 0 15W * *", "LW"), ("cron(0 10 15W * ? *)", "LW"), ("cron(0 10 L-3 * ? *)", "L for the last one"),
    ("cron(0 10 ? * 6L *)", "there Sunday is 1"), ("cron(0 10 ? * L *)", "there Sunday is 1"), ("0 10 ? * 2#1", "there Sunday is 1"),
    ("0 0 10 ? * 2", "there Sunday is 1"), ("30 0 10 ? * MON", "without the second"), ("25:00", "9am, 9:30pm or 21:30"),
    ("Mon..Fri 09:00", "five fields"), ("*-*-* 09:00:00", "five fields"), ("@startup", "init"), ("'0 9 * * *'", "write 0 9 * * *"),
]  # fmt: skip


def refused(text):
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text, now=NOW, zone=UTC)
    return caught.value


@pytest.mark.parametrize(("text", "right"), SPELLINGS)
def test_another_programs_spelling_is_refused_with_ours(text, right):
    """The hint has it, and it is one that is taken."""
    assert f"write '{right}'" in refused(text).hint
    assert parse_schedule(right, now=NOW, zone=UTC)


@pytest.mark.parametrize(("text", "words"), TOLD)
def test_what_has_no_one_spelling_is_refused_with_what_to_do(text, words):
    """The range that a field has, or how the other program counts."""
    assert words in refused(text).hint


@pytest.mark.parametrize("text", [text for text, _ in (*SPELLINGS, *TOLD)])
def test_no_hint_names_what_is_refused(text):
    """Whatever stands in quotes behind "write" is a schedule."""
    for spelled in re.findall(r"write '([^']*[^'* ][^']*)'", refused(text).hint):
        assert parse_schedule(spelled, now=NOW, zone=UTC)


@pytest.mark.parametrize(("text", "same"), [
    ("@EVERY 1H30M", "every 90m"), ("Every 5 Minutes", "every 5m"), ("every 1h 30m", "every 90m"), ("@every 1.5h", "every 90m"),
    ("EVERY DAY AT 9AM", "0 9 * * *"), ("@Daily", "@daily"), ("0 9 * JAN Mon-FRI", "0 9 * JAN Mon-FRI"), ("0 0 l * 5l", "0 0 l * 5l"),
])  # fmt: skip
def test_names_and_words_are_read_in_both_cases(text, same):
    """As people write them."""
    found = parse_schedule(text, now=NOW, zone=UTC)
    assert isinstance(found, Cron | Interval)
    assert normal_form(found, UTC) == same


@pytest.mark.parametrize(
    "text",
    [
        "@every " + "1h " * 300 + "!",
        "every " + "9" * 900 + " x",
        "1," * 400 + " * * * *",
        "(" * 900,
        "rate(" + " " * 900,
    ],
)
def test_long_texts_are_refused_at_once(text):
    """No pattern tries them over and over."""
    begun = datetime.now(UTC)
    refused(text)
    assert datetime.now(UTC) - begun < timedelta(seconds=5)
