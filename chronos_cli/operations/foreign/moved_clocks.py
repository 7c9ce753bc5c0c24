"""Days on which clocks move, and what another scheduler does on them that is not done here, or the other way round."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from chronos_cli.core.instant import SECOND, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import tzinfo

    Times = Callable[[datetime], Iterator[datetime]]

_DAY: Final = timedelta(days=1)
_BEFORE, _AFTER = timedelta(hours=3), timedelta(hours=25)
_DAYS: Final = 370


def first_difference(here: Times, there: Times, zone: tzinfo, now: datetime) -> tuple[list[datetime], list[datetime]]:
    """Return the starts that only one of the two has around the next moves of the clocks: here's and there's.

    Of the first move with a difference within a year; both are empty where there is none.
    """
    for moved in _moves(zone, now):
        start, end = max(now, moved - _BEFORE), moved + _AFTER
        mine, theirs = (Counter(takewhile(end.__ge__, times(start))) for times in (here, there))
        if mine != theirs:
            return sorted((mine - theirs).elements()), sorted((theirs - mine).elements())
    return [], []


def _moves(zone: tzinfo, now: datetime) -> Iterator[datetime]:
    low = whole(now)
    for _ in range(_DAYS):
        high = low + _DAY
        before = low.astimezone(zone).utcoffset()
        if high.astimezone(zone).utcoffset() != before:
            first, last = low, high
            while last - first > SECOND:
                middle = whole(first + (last - first) / 2)
                first, last = (middle, last) if middle.astimezone(zone).utcoffset() == before else (first, middle)
            yield last
        low = high
