"""Walk over the times of a zone's wall clock that a cron expression names, in order, by Debian cron's rules.

It goes through the wall's minutes from one move of the clocks to the next, and does at a move what cron.c of Debian's
cron does: an expression with a star in minute or hour follows the wall, into a repeated part again and past a skipped
one; any other ("fixed time") runs at the first pass of a repeated part, and once at the end of a skipped one. No shift
and no minute of a move is special.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from chronos_cli.core.instant import SECOND, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronos_cli.core.cron_fields import Fields

_MINUTE, _FAR = timedelta(minutes=1), timedelta(days=2)


def walk(fields: Fields, after: datetime, zone: tzinfo) -> Iterator[datetime]:
    """Yield the instants strictly later than `after`, ascending, each once, in UTC.

    Every round either yields, moves on to a later move of the clocks, or ends.
    """
    passed = whole(after)
    shift = _shift(passed, zone)
    wall = _wall(passed, shift)
    start = wall + _MINUTE
    if not fields.starred and (first_pass := wall.replace(tzinfo=zone).astimezone(UTC)) < passed:
        # In a repeated part: what it repeats had its turn.
        moved = _move(first_pass, passed, zone)
        start = _whole_minute(_wall(moved, _shift(first_pass, zone)))
    while True:
        for due in fields.times(start):
            instant = _instant(due, shift)
            near = min(instant, passed + _FAR)
            moves = _shift(near, zone) != shift
            if not moves and near < instant:
                # A later move repeats only what is later than `passed`, and nothing of that was due.
                passed = instant - _FAR
                shift = _shift(passed, zone)
                near = instant = _instant(due, shift)
                moves = _shift(near, zone) != shift
            if not moves:
                yield instant
                passed = instant
                continue
            moved = _move(passed, near, zone)
            shift = _shift(moved, zone)
            resumed = _wall(moved, shift)
            if fields.starred:
                start = _whole_minute(resumed)
            elif due < resumed:  # Its time is skipped.
                yield moved
                start = resumed + _MINUTE
            else:
                start = due
            passed = moved
            break
        else:
            return


def _shift(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _wall(instant: datetime, shift: timedelta) -> datetime:
    return instant.replace(tzinfo=None) + shift


def _instant(due: datetime, shift: timedelta) -> datetime:
    return (due - shift).replace(tzinfo=UTC)


def _whole_minute(wall: datetime) -> datetime:
    return wall + _MINUTE if wall.second else wall


def _move(low: datetime, high: datetime, zone: tzinfo) -> datetime:
    """Return the first second in (low, high] at which the clocks are moved, found by halving."""
    before = _shift(low, zone)
    while high - low > SECOND:
        middle = whole(low + (high - low) / 2)
        low, high = (middle, high) if _shift(middle, zone) == before else (low, middle)
    return high
