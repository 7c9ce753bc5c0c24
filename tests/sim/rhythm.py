"""The instants of a schedule, worked out here from what it means, and not by the code under test."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime
from functools import cache
from zoneinfo import ZoneInfo

HOUR, DAY = 3_600.0, 86_400.0
_STARS = {"*/5 * * * *": 300.0, "*/30 * * * *": 1_800.0, "0 * * * *": HOUR}


class Periodic:
    """An instant every `period` seconds; also what cron means where no clock is ever put."""

    __slots__ = ("period", "phase")

    def __init__(self, period: float, phase: float) -> None:
        self.period, self.phase = period, phase % period

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Periodic) and (self.period, self.phase) == (other.period, other.phase)

    __hash__ = None  # type: ignore[assignment]

    def has(self, at: float) -> bool:
        return (at - self.phase) % self.period == 0

    def next(self, after: float) -> float:
        return after + self.period - (after - self.phase) % self.period

    def count(self, first: float, last: float) -> int:
        return int((last - first) // self.period) + 1


class ListedAgent:
    """Instants listed one by one, for the nights on which clocks are put."""

    __slots__ = ("instants", "name", "offset")

    def __init__(self, name: tuple, instants: tuple[float, ...], offset: float) -> None:
        self.name, self.instants, self.offset = name, instants, offset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ListedAgent) and (self.name, self.offset) == (other.name, other.offset)

    __hash__ = None  # type: ignore[assignment]

    def has(self, at: float) -> bool:
        where = bisect_left(self.instants, at - self.offset)
        return self.instants[where] == at - self.offset

    def next(self, after: float) -> float:
        return self.instants[bisect_right(self.instants, after - self.offset)] + self.offset

    def count(self, first: float, last: float) -> int:
        return bisect_right(self.instants, last - self.offset) - bisect_left(self.instants, first - self.offset)


class Single:
    """One instant, ever."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Single) and self.at == other.at

    __hash__ = None  # type: ignore[assignment]


def cron(expr: str, zone: str, put_at: float | None, offset: float) -> Periodic | ListedAgent:
    """What a cron expression means: a star keeps its real rhythm, a time of day comes once on every date."""
    if put_at is not None:
        return ListedAgent((expr, zone, put_at), _listed(expr, zone, put_at), offset)
    if expr in _STARS:
        return Periodic(_STARS[expr], offset)
    minute, hour = (int(field) for field in expr.split()[:2])
    return Periodic(DAY, hour * HOUR + minute * 60 + offset)


@cache
def _minutes(zone: str, put_at: float) -> tuple[tuple[float, datetime], ...]:
    """Every minute of the fortnight about the night, and what the clock on the wall shows then."""
    wall, begin = ZoneInfo(zone), put_at - 3 * DAY
    instants = (begin + 60.0 * number for number in range(14 * 24 * 60))
    return tuple((at, datetime.fromtimestamp(at, wall)) for at in instants)


@cache
def _listed(expr: str, zone: str, put_at: float) -> tuple[float, ...]:
    """Minute by minute over the fortnight about the night: the clock on the wall decides.

    A time of day is had at the first minute of its date whose wall clock shows it or later: after a gap that is the
    first minute behind it, and of an hour that comes twice it is the first pass.
    """
    minute, hour = expr.split()[:2]
    step = 60 if minute == "0" else int(minute[2:]) if minute.startswith("*/") else 0
    found, had = [], set()
    for at, shown in _minutes(zone, put_at):
        if hour == "*":
            if shown.minute % step == 0:
                found.append(at)
        elif shown.date() not in had and (shown.hour, shown.minute) >= (int(hour), int(minute)):
            had.add(shown.date())
            found.append(at)
    return tuple(found[1:])  # the first date may have begun before
