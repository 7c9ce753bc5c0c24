"""The walk against the plain reading of Debian's rules, around every move of clocks that tzdata has for 2024 to 2027.

The default suite takes one zone for each kind of move (what the wall shows before and after it); the whole is a soak.
Of moves at another minute than :00 there are those of Pacific/Chatham (03:45 becomes 02:45, 02:45 becomes 03:45), of
shifts that are no whole hour those of Australia/Lord_Howe.
"""

import random
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from itertools import islice, product, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest

from chronos_cli.core.schedule import Cron, Timetable
from tests.conftest import at_length
from tests.core.debian_rules import due, moves, walls

START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
MINUTES = ("*", "*/15", "*/7", "0", "30", "45", "0,30", "7-55/12", "59", "0-59")
HOURS = ("*", "*/2", "*/3", "2", "3", "0", "1-3", "22,23", "1-23/2", "0-23", "*,2")
DAYS = ("* * *", "1-7 * 0", "*/2 * *", "* 3,10 0", "31 3,10 *")
EXPRESSIONS = [f"{minute} {hour} {day}" for minute, hour, day in product(MINUTES, HOURS, DAYS)]
TWICE = ("*/15 3 * * *", "45 */3 * * *", "* 3 * * *", "*/10 3 * * *", "*/15 3,9 * * *", "30 * * * *")


def walked(expr, zone, after, end):
    table = Timetable(schedule=Cron(expr=expr), zone=zone, anchor=after)
    return list(takewhile(lambda instant: instant <= end, table.walk(after)))


def agree(name, expressions, at, rng):
    """Hold the walk over one move against the rules: from before it, and from anywhere within it; forwards and back."""
    zone = ZoneInfo(name)
    start, end = at - timedelta(hours=15), at + timedelta(hours=28)
    minutes = walls(zone, start, end)
    for expr in expressions:
        expected = due(expr, minutes)
        assert walked(expr, zone, start, end) == expected, (name, at, expr)
        asked = at + timedelta(seconds=rng.randrange(-9_000, 9_000))
        following = [instant for instant in expected if instant > asked]
        assert walked(expr, zone, asked, end) == following, (name, asked, expr)
        table = Timetable(schedule=Cron(expr=expr), zone=zone, anchor=start)
        if len(following) < len(expected):
            assert table.latest(asked) == expected[-len(following) - 1], (name, asked, expr)


@cache
def every_move():
    """Every move of every zone: (zone, instant, before, after)."""
    names = sorted(available_timezones() - {"localtime"})
    return [(name, *move) for name in names for move in moves(ZoneInfo(name), START, END)]


ONE_OF_EACH_KIND = (
    ("Africa/Cairo", 2024, 2), ("Africa/Casablanca", 2024, 2), ("America/Havana", 2025, 2), ("America/Nuuk", 2024, 2),
    ("America/Santiago", 2024, 2), ("Antarctica/Troll", 2026, 2), ("Asia/Almaty", 2024, 1), ("Asia/Beirut", 2026, 2),
    ("Asia/Famagusta", 2024, 2), ("Atlantic/Azores", 2027, 2), ("Australia/Lord_Howe", 2026, 2), ("Europe/Berlin", 2026, 2),
    ("Europe/London", 2025, 2), ("Pacific/Chatham", 2026, 2), ("Pacific/Easter", 2025, 2), ("America/New_York", 2027, 2),
)  # fmt: skip


@pytest.mark.parametrize(("name", "year", "count"), ONE_OF_EACH_KIND)
def test_each_kind_of_move_is_walked_as_debian_says(name, year, count):
    """Back and ahead by two hours, one, or a half; over midnight, at midnight, at a quarter to: minute by minute the same."""
    rng = random.Random(name)
    found = moves(ZoneInfo(name), datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC))
    assert len(found) >= count
    for at, _, _ in found[:2]:
        agree(name, [*rng.sample(EXPRESSIONS, 45), *TWICE], at, rng)


@pytest.mark.soak
def test_every_move_of_every_zone_is_walked_as_debian_says():
    """All of tzdata; each expression meets each kind of move."""
    rng = random.Random(2024)
    every = every_move()
    kinds = {kind[2:] for kind in every}
    assert kinds <= {
        move[1:]
        for name, year, _ in ONE_OF_EACH_KIND
        for move in moves(ZoneInfo(name), datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC))
    }, "tzdata has a kind of move that the short selection lacks"
    for kind in sorted(kinds):
        name, at, *_ = next(move for move in every if move[2:] == kind)
        agree(name, EXPRESSIONS, at, rng)
    for name, at, *_ in every[:: at_length(1, 7)]:
        agree(name, rng.sample(EXPRESSIONS, at_length(60, 5)), at, rng)


@pytest.mark.parametrize("expr", EXPRESSIONS[::11] + list(TWICE))
def test_a_walk_over_four_years_goes_on(expr):
    """Where the clocks move at a quarter to, every expression advances, each instant later than the one before."""
    zone = ZoneInfo("Pacific/Chatham")
    table = Timetable(schedule=Cron(expr=expr), zone=zone, anchor=START)
    last = START
    for instant in islice(table.walk(datetime(2026, 3, 30, tzinfo=UTC)), 400):
        assert instant > last
        last = instant


class Erratic(tzinfo):
    """A zone that no table holds: its clocks jump to and fro every few minutes, by odd amounts."""

    def utcoffset(self, moment):
        return timedelta(minutes=(moment.replace(tzinfo=None).minute // 7) * 13 - 40)

    def dst(self, _):
        return timedelta()

    def tzname(self, _):
        return "erratic"

    def fromutc(self, moment):
        return moment + self.utcoffset(moment)


@pytest.mark.parametrize("expr", ["* * * * *", "*/15 3 * * *", "0 3 * * *", "30 2 1 * *"])
def test_no_zone_can_hold_a_walk_up(expr):
    """Whatever a zone says of its clocks, a walk ends or moves on, in order."""
    found = list(islice(Cron(expr=expr).walk(START, Erratic()), 200))
    assert found == sorted(set(found))
    assert len(found) == 200
