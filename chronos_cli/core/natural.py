"""Schedules in words, where the words have one reading: those of newer Hermes versions, which store and show them.

    every hour | every minute
    [every] DAYS [at] TIME    DAYS: daily, every day, weekdays, weekends, monday, mon, or a list of days
                              TIME: 9am, 9:30 pm, 14:00, 7 (of 24 hours), noon, midnight

A single day without `every` (`monday 9am`) may also mean the next one alone, and `every day` no hour at all: such
texts are refused, so that a person says which is meant.
"""

from __future__ import annotations

import re
from typing import Final

_RATES: Final = {"every minute": 60, "every hour": 3_600}
_SPANS: Final = {
    "daily": "*", "everyday": "*", "weekdays": "1-5", "weekends": "0,6",
    "every day": "*", "every weekday": "1-5", "every weekend": "0,6", "every weekdays": "1-5", "every weekends": "0,6",
}  # fmt: skip
_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_SHORT: Final = {"tues": 2, "weds": 3, "thur": 4, "thurs": 4}
_TIME: Final = r"(\d{1,2})(?::(\d\d))? ?(am|pm)?"
_CLOCK: Final = {"noon": (12, 0), "midday": (12, 0), "midnight": (0, 0)}


def read_rate(text: str) -> int | None:
    """Return the seconds of a rate in words, None where the text is none."""
    return _RATES.get(_plain(text))


def read_days(text: str) -> str | None:
    """Return the five cron fields of days and a time in words, None where the text has not that one reading."""
    body = _plain(text)
    for span, field in _SPANS.items():
        for before in (f"{span} at ", f"{span} "):
            if body.startswith(before):
                return _fields(field, body.removeprefix(before))
    words = body.split(" ")
    every = words[0] == "every"
    place = int(every)
    days: list[int] = []
    plural = True
    while place < len(words) and (words[place] == "and" or _day(words[place]) is not None):
        day = _day(words[place])
        if day is not None:
            plural = plural and words[place].endswith("days")
            days += [] if day in days else [day]
        place += 1
    if not days or not (every or plural) or words[place - 1] == "and":
        return None
    place += words[place : place + 1] == ["at"]
    return _fields(",".join(map(str, days)), " ".join(words[place:]))


def _plain(text: str) -> str:
    return " ".join(text.lower().replace(",", " ").split())


def _day(word: str) -> int | None:
    """Return the day of the week of a word, 0 for Sunday."""
    if word in _SHORT:
        return _SHORT[word]
    names = (name for name in _DAYS if word in (name, f"{name}s", name[:3]))
    found = next(names, None)
    return None if found is None else _DAYS.index(found)


def _fields(days: str, time: str) -> str | None:
    clock = _CLOCK.get(time)
    match = re.fullmatch(_TIME, time)
    if match is not None:
        hour, minute = int(match[1]), int(match[2] or 0)
        if match[3]:
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + (12 if match[3] == "pm" else 0)
        clock = (hour, minute)
    if clock is None or clock[0] > 23 or clock[1] > 59:
        return None
    return f"{clock[1]} {clock[0]} * * {days}"
