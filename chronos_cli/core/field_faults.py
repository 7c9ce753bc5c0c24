"""Faults of cron fields that have one cure, and what to write. Read only where a text is refused."""

from __future__ import annotations

import re
from typing import Final

_FIVE: Final = 5
_NAMES: Final = ("minute", "hour", "day-of-month", "month", "day-of-week")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SPANS: Final = (
    (0, 59, "minutes go from 0 to 59"),
    (0, 23, "hours go from 0 to 23"),
    (1, 31, "days of the month go from 1 to 31, and L is the last one"),
    (1, 12, "months go from 1 to 12, or from jan to dec"),
    (0, 7, "days of the week go from 0 to 7, or from sun to sat"),
)
_LAST_DAY: Final = re.compile(rf"(?:{'|'.join(_DAYS)})l")
_FIELD: Final = re.compile(r"[\d*?][\d*?,/#LW-]*|(?:[a-z]{3}[,/-]?)+", re.IGNORECASE)
_ZONE: Final = re.compile(r"UTC|[A-Z]\w+(?:/\w+)+")
_MOST_NTH: Final = 5


def fault_of(text: str) -> tuple[str, str] | None:
    """Return what is wrong with a text of fields, and how to write it; None where that is not known."""
    fields = text.split()
    if len(fields) < _FIVE or not re.match(r"[\d*]", text):
        return None
    joined = re.sub(r", +", ",", text)
    if joined != text and len(joined.split()) == _FIVE:
        return "has a blank behind a comma", f"write '{joined}'"
    if len(fields) > _FIVE:
        return _behind(fields)
    dashes = re.sub(r"[\u2010-\u2015\u2212]", "-", text)
    if dashes != text:
        return "has a dash that is no '-'", f"write '{dashes}'"
    tidied = " ".join(",".join(part for part in field.split(",") if part) for field in fields)
    if tidied != text and len(tidied.split()) == _FIVE:
        return "has nothing beside a comma", f"write '{tidied}'"
    return next((fault for place, field in enumerate(fields) if (fault := _of_field(fields, place, field))), None)


def _behind(fields: list[str]) -> tuple[str, str] | None:
    """Return the fault of five fields with something behind them that is no field."""
    times, rest = " ".join(fields[:_FIVE]), fields[_FIVE]
    if not all(_FIELD.fullmatch(field) for field in fields[:_FIVE]):
        return None
    if len(fields) == _FIVE + 1 and _ZONE.fullmatch(rest):
        return "names its zone behind its fields", f"write '{times}' and give --tz {rest}"
    if _FIELD.fullmatch(rest):
        return None
    return "has a command behind its five fields", f"write '{times}'"


def _of_field(fields: list[str], place: int, field: str) -> tuple[str, str] | None:
    low, high, span = _SPANS[place]
    lower = field.lower()
    bad = f"is not a cron expression: bad {_NAMES[place]}"

    def written(item: str) -> str:
        return f"write '{' '.join([*fields[:place], item, *fields[place + 1 :]])}'"

    if re.search(r"/0*(?![\d])(?:,|$)", lower) and "/" in lower:
        return bad, f"a step is 1 or more: {written(re.sub(r'/0*(?=,|$)', '', field))}"
    if place == 2 and re.search(r"(?:^|,)l-\d", lower):
        return f"{bad}: it counts back from the last day", "give the days, or L for the last one"
    if place == 4 and _LAST_DAY.search(lower):
        numbered = _LAST_DAY.sub(lambda match: f"{_DAYS.index(match[0][:3])}L", lower)
        return bad, written(numbered)
    if place == 4 and lower == "l":
        return f"{bad}: L alone", "write 6 for each Saturday, or 6L for the last one of a month"
    numbers = [int(number) for number in re.findall(r"(?<![/#\d])\d{1,9}", lower)]
    nth = [int(number) for number in re.findall(r"#(\d{1,9})", lower)]
    words = set(re.findall(r"[a-z]+", lower)) - {"l", "lw"} - set((*_MONTHS,) if place == 3 else (*_DAYS,))
    if any(not 1 <= number <= _MOST_NTH for number in nth):
        return bad, f"a weekday has a first to a fifth of a month: #1 to #{_MOST_NTH}"
    if any(not low <= number <= high for number in numbers) or (words and "w" not in lower):
        return bad, span
    return None
