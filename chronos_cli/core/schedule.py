"""Schedules: cron in Debian's dialect, fixed intervals, and single instants.

A cron expression is walked in the job's IANA zone. Around a transition the behaviour is Debian cron's: a job at a
fixed time runs once on both days, a job with a star in minute or hour keeps its real rhythm. Where two readings of
one text are in use in the field (six fields; a bare `30m`), the text is refused and the hint names both.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.cron_fields import MOST_YEARS, fields_of
from chronos_cli.core.instant import SECOND, parse_time, text_in, whole
from chronos_cli.core.wall import walk
from chronos_cli.durations import format_duration, parse_duration
from chronos_cli.errors import ScheduleError, UsageError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chronos_cli.core.cron_fields import Fields

NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
COUNT_LIMIT: Final = 1_000
"""Missed instants are counted exactly up to here."""

MAX_CRON: Final = 1_000
"""The longest cron expression that is read, in characters: one that lists every minute and every hour has 250."""

_ANY_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""A day from which a schedule is walked to see that it comes due at all; any other would do."""

_FIELDS = 5
_SHOWN = 60
_WINDOWS = tuple(
    timedelta(seconds=s) for s in (120, 7_200, 90_000, 8 * 86_400, 63 * 86_400, 367 * 86_400, MOST_YEARS * 366 * 86_400)
)
_STEPS = frozenset({"*", *(f"*/{step}" for step in range(1, 60))})
_PLAIN = (
    _STEPS.union(map(str, range(60))),
    _STEPS.union(map(str, range(24))),
    frozenset({"*", *map(str, range(1, 29))}),
    frozenset({"*", *map(str, range(1, 13))}),
    frozenset({"*", *map(str, range(8))}),
)
"""The forms of most fields: an expression of these alone is well formed and comes due, unread."""

_CRON_FIELD = re.compile(r"[A-Za-z0-9*,/#-]+\Z")
LOOKS_LIKE_CRON = re.compile(r"[0-9*@]")


@frozen
class Cron:
    """Five fields, walked in the job's zone."""

    expr: str

    def fields(self) -> Fields:
        """Return the times that its expression allows."""
        return fields_of(NICKNAMES.get(self.expr.lower(), self.expr))

    def walk(self, after: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Yield the instants strictly later than `after`, ascending, each once."""
        return walk(self.fields(), after, zone)

    def latest(self, until: datetime, zone: tzinfo) -> datetime | None:
        """Return the newest instant not later than `until`. The search goes backwards in growing windows."""
        for window in _WINDOWS:
            newest = None
            for instant in self.walk(until - window, zone):
                if instant > until:
                    break
                newest = instant
            if newest is not None:
                return newest
        return None


@frozen
class Interval:
    """A fixed rate from an anchor: instant k is anchor + k steps, and no zone moves it."""

    seconds: int

    def walk(self, after: datetime, anchor: datetime) -> Iterator[datetime]:
        """Yield the instants strictly later than `after`, ascending."""
        step = timedelta(seconds=self.seconds)
        instant = anchor + ((after - anchor) // step + 1) * step
        while True:
            yield instant
            instant += step

    def latest(self, until: datetime, anchor: datetime) -> datetime:
        """Return the newest instant not later than `until`."""
        step = timedelta(seconds=self.seconds)
        return anchor + ((until - anchor) // step) * step


@frozen
class Once:
    """A single instant."""

    at: datetime


Schedule = Cron | Interval | Once


@frozen
class Timetable:
    """A schedule placed in the world: its zone, an interval's anchor, and the job's constant jitter."""

    schedule: Schedule
    zone: tzinfo
    anchor: datetime
    offset: timedelta = timedelta()

    def walk(self, after: datetime) -> Iterator[datetime]:
        """Yield the job's instants strictly later than `after`, ascending, whole seconds in UTC."""
        schedule, start = self.schedule, whole(after) - self.offset
        if isinstance(schedule, Once):
            moments: Iterator[datetime] = iter((schedule.at,) if schedule.at > start else ())
        elif isinstance(schedule, Interval):
            moments = schedule.walk(start, self.anchor)
        else:
            moments = schedule.walk(start, self.zone)
        try:
            for moment in moments:
                yield moment + self.offset
        except OverflowError:
            return  # past the last year a calendar knows: there is no further instant

    def after(self, moment: datetime) -> datetime | None:
        """Return the first instant strictly later than `moment`, or None when there is none."""
        return next(self.walk(moment), None)

    def latest(self, until: datetime) -> datetime | None:
        """Return the newest instant not later than `until`, or None."""
        schedule, end = self.schedule, whole(until) - self.offset
        if isinstance(schedule, Once):
            newest = schedule.at if schedule.at <= end else None
        elif isinstance(schedule, Interval):
            newest = schedule.latest(end, self.anchor)
        else:
            newest = schedule.latest(end, self.zone)
        return None if newest is None else newest + self.offset

    def count(self, first: datetime, last: datetime) -> tuple[int, bool]:
        """Count the instants in [first, last]; say whether that is exact (counting stops at `COUNT_LIMIT`)."""
        number = 0
        for instant in self.walk(first - SECOND):
            if instant > last:
                return number, True
            if number == COUNT_LIMIT:
                return number, False
            number += 1
        return number, True

    def passed(self, first: datetime, until: datetime) -> tuple[datetime, int, bool]:
        """Return the last instant of a range that began at `first`, how many it has, and whether that is exact.

        `first` is one of them, also where the schedule does not give it: a person or another program may have set it.
        """
        last = max(self.latest(until) or first, first)
        more, exact = self.count(first + SECOND, last)
        return last, min(more + 1, COUNT_LIMIT), exact and more < COUNT_LIMIT


def check_cron(expr: str) -> Cron:
    """Return a cron expression that is well formed and has an instant ahead. Raises ScheduleError."""
    if len(expr) > MAX_CRON:
        raise ScheduleError(
            f"a cron expression of {len(expr)} characters is too long: at most {MAX_CRON}", hint="write '0 9 * * 1-5'"
        )
    return _checked_cron(expr)


@lru_cache(maxsize=4096)
def _checked_cron(expr: str) -> Cron:
    fields = expr.split()
    if len(fields) == _FIELDS and all(field in plain for field, plain in zip(fields, _PLAIN, strict=True)):
        return Cron(expr=expr)
    if len(fields) == _FIELDS + 1:
        raise ScheduleError(
            f"'{expr}' has six fields, which some read as seconds first and others as seconds last",
            hint="use five fields, or 'every 10s' for seconds",
        )
    if len(fields) != _FIELDS:
        raise ScheduleError(f"'{expr}' has {len(fields)} fields instead of five", hint="write '0 9 * * 1-5'")
    if not all(_CRON_FIELD.match(field) for field in fields):
        raise ScheduleError(f"'{expr}' has a character that cron fields do not know", hint="write '0 9 * * 1-5'")
    if not comes_due(expr):
        raise ScheduleError(f"'{expr}' never comes due", hint="check the day and the month")
    return Cron(expr=expr)


def comes_due(expr: str) -> bool:
    """Return False for five fields that no day matches, as `0 0 31 2 *`. Raises ScheduleError for bad ones."""
    read = fields_of(expr)
    return expr.split()[2] == "*" or next(walk(read, _ANY_DAY, UTC), None) is not None


def from_record(value: object, zone: tzinfo) -> Schedule:
    """Return the schedule of a stored job (`kind`: cron, interval, once; or a text).

    Raises ScheduleError with the reason.
    """
    if isinstance(value, str):
        return _from_text(value)
    if not isinstance(value, dict):
        raise ScheduleError("the job has no schedule")
    kind = value.get("kind")
    if kind == "cron":
        return _stored_cron(value.get("expr"))
    if kind == "interval":
        return _stored_interval(value)
    if kind == "once":
        at = value.get("run_at")
        try:
            return Once(at=parse_time(at, zone) if isinstance(at, str) and len(at) <= MAX_CRON else _missing_run_at())
        except UsageError as error:
            raise ScheduleError(error.message) from error
    text = next((value[key] for key in ("expr", "value", "text", "display") if isinstance(value.get(key), str)), None)
    if kind in (None, "natural") and text is not None:
        return _from_text(text)
    named = f" '{kind[:40]}'" if isinstance(kind, str) else ""
    raise ScheduleError(f"the schedule kind{named} is not known here")


def _stored_cron(expr: object) -> Cron:
    if not isinstance(expr, str):
        raise ScheduleError("the cron schedule has no expression")
    if len(expr) > MAX_CRON:
        return check_cron(expr)
    if expr.startswith("@"):
        return nickname(expr.lower())
    in_words = None if LOOKS_LIKE_CRON.match(expr) else read_words(expr)
    return in_words if isinstance(in_words, Cron) else check_cron(" ".join(expr.split()))


def _stored_interval(value: Mapping[str, Any]) -> Interval:
    seconds = _stored_number(value.get("seconds"))
    minutes = _stored_number(value.get("minutes"))
    total = seconds if seconds is not None else minutes * 60 if minutes is not None else 0
    if not 1 <= total <= _MAX_INTERVAL_S:
        raise ScheduleError("the interval is not a positive length")
    return Interval(seconds=round(total))


def _from_text(text: str) -> Schedule:
    """Return the recurring schedule that a stored text names. One that counts from now is none, and is refused."""
    body = " ".join(text[:MAX_CRON].split())
    words = read_words(body)
    if words is not None:
        return words
    try:
        if body.lower().startswith("every "):
            return Interval(seconds=span_seconds(body[len("every ") :], body))
        if body.startswith("@"):
            return nickname(body.lower())
        if len(body.split()) == _FIELDS:
            return check_cron(body)
    except UsageError as error:
        raise ScheduleError(error.message, hint=error.hint) from error
    raise ScheduleError(f"the stored schedule '{body[:_SHOWN]}' has no one reading", hint="give it another schedule")


def read_words(text: str) -> Schedule | None:
    """Return the recurring schedule that plain words name, as `weekdays at 9am`; None for any other text."""
    from chronos_cli.core.natural import read_days, read_rate

    if len(text) > MAX_CRON:
        return None
    rate, fields = read_rate(text), read_days(text)
    return Interval(seconds=rate) if rate is not None else None if fields is None else check_cron(fields)


def to_record(schedule: Schedule, zone: tzinfo) -> dict[str, Any]:
    """Return the stored form, the one hermes writes wherever it can express the schedule."""
    if isinstance(schedule, Cron):
        return {"kind": "cron", "expr": schedule.expr, "display": schedule.expr}
    if isinstance(schedule, Interval):
        minutes, rest = divmod(schedule.seconds, 60)
        if not rest:
            return {"kind": "interval", "minutes": minutes, "display": f"every {minutes}m"}
        # A fraction of a minute is arithmetic that hermes can do too; `seconds` is what counts here.
        return {
            "kind": "interval",
            "minutes": schedule.seconds / 60,
            "seconds": schedule.seconds,
            "display": f"every {schedule.seconds}s",
        }
    local = schedule.at.astimezone(zone)
    return {"kind": "once", "run_at": local.isoformat(), "display": f"once at {local:%Y-%m-%d %H:%M}"}


def normal_form(schedule: Schedule, zone: tzinfo) -> str:
    """Return the schedule as it is echoed: what `parse_schedule` would read as the same."""
    if isinstance(schedule, Cron):
        return schedule.expr
    if isinstance(schedule, Interval):
        return f"every {format_duration(schedule.seconds)}"
    return text_in(schedule.at, zone)


def both_days(schedule: Schedule) -> bool:
    """Return whether a cron expression restricts both day of month and of week: cron joins them with OR."""
    if not isinstance(schedule, Cron) or schedule.expr.startswith("@"):
        return False
    fields = schedule.expr.split()
    return not fields[2].startswith("*") and not fields[4].startswith("*")


def shortest_gap(timetable: Timetable, start: datetime) -> int:
    """Return the shortest distance in seconds between neighbouring instants among the next five hundred."""
    if isinstance(timetable.schedule, Interval):
        return timetable.schedule.seconds
    previous, shortest = None, 366 * 86_400
    for number, instant in enumerate(timetable.walk(start)):
        if previous is not None:
            shortest = min(shortest, int((instant - previous).total_seconds()))
        if number == 500 or shortest == 60:
            break
        previous = instant
    return shortest


_MAX_INTERVAL_S = 100 * 366 * 86_400


def nickname(text: str) -> Cron:
    """Return the schedule of `@daily` and the like. Raises ScheduleError for an unknown one."""
    if text not in NICKNAMES:
        raise ScheduleError(f"there is no schedule '{text}'", hint=f"there are {', '.join(sorted(NICKNAMES))}")
    return Cron(expr=text)


def span_seconds(span: str, text: str) -> int:
    """Return the seconds of a length above zero, which stands in `text`. Raises ScheduleError and UsageError."""
    if span.strip().startswith("-"):
        raise ScheduleError(f"'{text}' is negative", hint="give a length above zero")
    seconds = parse_duration(span)
    if seconds == 0:
        raise ScheduleError(f"'{text}' has no length", hint="give a length above zero")
    return seconds


def _stored_number(value: object) -> float | None:
    """Return a stored number; hand-edited files spell some as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _missing_run_at() -> datetime:
    raise ScheduleError("the one-shot has no time")
