"""The five fields of a cron expression: Debian's dialect (entry.c of its cron), and a little more.

As in Debian: numbers, `a-b`, `a-b/n`, `*/n` and lists of them, names of months and weekdays, Sunday as 0 and 7, days
joined with OR unless one of the two fields begins with a star. Beyond it: `a/n` (from a to the end), `L` and `LW` (the
last day and the last weekday of a month), `5L` (the last Friday), `1#2` (the second Monday).
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import ScheduleError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_YEARS: Final = 50
"""A day that matches is looked for so far ahead: 29 February on a given weekday skips 40 years around 2100."""

_PLACES: Final = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day-of-month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day-of-week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_LAST, _LAST_WEEKDAY = -1, -2
_NTH_LAST, _WEEK, _SATURDAY, _SUNDAY = 0, 7, 6, 7
_MOST_NTH = 5
_MOST_DIGITS = 9


@frozen
class Fields:
    """The times an expression allows: ascending minutes and hours, months, and days.

    `days` may hold -1 (the last one) and -2 (the last weekday), `nth` holds (weekday, n), n 0 for the last.
    `joined`: both days must match. `starred`: minute or hour begins with a star, a wildcard job in Debian's words.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    nth: frozenset[tuple[int, int]]
    joined: bool
    starred: bool

    def on_day(self, day: date) -> bool:
        """Say if the day is one of the expression's, its month aside."""
        if self.joined:
            return self._on_date(day) and self._on_weekday(day)
        return self._on_date(day) or self._on_weekday(day)

    def times(self, first: datetime) -> Iterator[datetime]:
        """Yield the naive times that match from `first` on, ascending; end where no day matches for `MOST_YEARS`.

        Raises OverflowError past the last year of the calendar.
        """
        today = first.date()
        for day in self._matching(today):
            hours = self.hours
            if day == today:
                hours = hours[bisect_left(hours, first.hour) :]
                if hours and hours[0] == first.hour:
                    for minute in self.minutes[bisect_left(self.minutes, first.minute) :]:
                        yield datetime.combine(day, time(first.hour, minute))
                    hours = hours[1:]
            for hour in hours:
                for minute in self.minutes:
                    yield datetime.combine(day, time(hour, minute))

    def _matching(self, day: date) -> Iterator[date]:
        until = day.year + MOST_YEARS
        while day.year <= until:
            if day.month not in self.months:
                day = _next_month(day)
                continue
            if self.on_day(day):
                yield day
                until = day.year + MOST_YEARS
            day += timedelta(days=1)

    def _on_date(self, day: date) -> bool:
        if day.day in self.days:
            return True
        last = self.days & {_LAST, _LAST_WEEKDAY}
        if not last:
            return False
        end = _next_month(day) - timedelta(days=1)
        working = end - timedelta(days=max(0, end.isoweekday() - 5))
        return (_LAST in last and day == end) or (_LAST_WEEKDAY in last and day == working)

    def _on_weekday(self, day: date) -> bool:
        weekday = day.isoweekday() % _WEEK
        if weekday in self.weekdays:
            return True
        if not self.nth:
            return False
        is_last = (day + timedelta(days=_WEEK)).month != day.month
        return (weekday, (day.day + 6) // _WEEK) in self.nth or (is_last and (weekday, _NTH_LAST) in self.nth)


def _next_month(day: date) -> date:
    """Return the first day of the next month. Raises OverflowError past the calendar's last."""
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)


@lru_cache(maxsize=2048)  # a day has 1,440 minutes, and large homes spread their jobs over them
def fields_of(expr: str) -> Fields:
    """Read five fields. Raises ScheduleError naming the field that cannot be understood."""
    minute, hour, day, month, weekday = expr.lower().split()
    plain, nth, days, ends = [], set(), [], set()
    for part in weekday.split(","):
        found = _nth(expr, part)
        if found is None:
            plain.append(part)
        else:
            nth.add(found)
    for part in day.split(","):
        if part in ("l", "lw"):
            ends.add(_LAST if part == "l" else _LAST_WEEKDAY)
        else:
            days.append(part)
    return Fields(
        minutes=tuple(sorted(_values(expr, 0, minute.split(",")))),
        hours=tuple(sorted(_values(expr, 1, hour.split(",")))),
        days=frozenset(_values(expr, 2, days) | ends),
        months=frozenset(_values(expr, 3, month.split(","))),
        weekdays=frozenset(value % _WEEK for value in _values(expr, 4, plain)),
        nth=frozenset(nth),
        joined=day.startswith("*") or weekday.startswith("*"),
        starred=minute.startswith("*") or hour.startswith("*"),
    )


def _values(expr: str, place: int, parts: list[str]) -> set[int]:
    """Return the values of one field; no part is no value."""
    _, low, high, _ = _PLACES[place]
    values: set[int] = set()
    for part in parts:
        span, stepped, step_text = part.partition("/")
        first_text, ranged, last_text = span.partition("-")
        step = _number(expr, place, step_text) if stepped else 1
        if span == "*":
            first, last = low, high
        else:
            first = _element(expr, place, first_text)
            last = _element(expr, place, last_text) if ranged else high if stepped else first
        if step < 1:
            raise _bad(expr, place)
        if last < first:
            raise _bad(expr, place, _unwrapped(place, first_text, last_text, first, last))
        values.update(range(first, last + 1, step))
    return values


def _nth(expr: str, part: str) -> tuple[int, int] | None:
    """Return the weekday and its number in the month, of `1#2` and `5L`; None for any other part."""
    name, hash_sign, number = part.partition("#")
    if hash_sign:
        nth = _number(expr, 4, number)
        if not 1 <= nth <= _MOST_NTH:
            raise _bad(expr, 4)
        return _element(expr, 4, name) % _WEEK, nth
    if part.endswith("l") and part[:-1].isdigit():
        return _element(expr, 4, part[:-1]) % _WEEK, _NTH_LAST
    return None


def _element(expr: str, place: int, text: str) -> int:
    _, low, high, names = _PLACES[place]
    value = names.index(text) + low if text in names else _number(expr, place, text)
    if not low <= value <= high:
        raise _bad(expr, place)
    return value


def _number(expr: str, place: int, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise _bad(expr, place)
    return int(text)


def _bad(expr: str, place: int, hint: str = "write '0 9 * * 1-5'") -> ScheduleError:
    return ScheduleError(f"'{expr}' is not a cron expression: bad {_PLACES[place][0]}", hint=hint)


def _unwrapped(place: int, first_text: str, last_text: str, first: int, last: int) -> str:
    """Return how to write a range that goes on past its field's end."""
    _, low, high, _ = _PLACES[place]
    end = _SATURDAY if high == _SUNDAY else high

    def span(begin: int, finish: int) -> str:
        return str(begin) if begin == finish else f"{begin}-{finish}"

    pieces = [span(first, max(first, end)), span(low, last)]
    if (high, last) == (_SUNDAY, 0):
        pieces = [span(first, _SUNDAY)]
    return f"'{first_text}-{last_text}' ends before it begins: write {','.join(pieces)}"
