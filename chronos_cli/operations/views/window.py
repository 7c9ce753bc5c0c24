"""The window of time that a timeline shows where no option names one: as much as there is to see."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEPS: Final = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1440, 2880, 10080, 20160, 43200, 129600, 259200, 527040)
)
FURTHEST: Final = _STEPS[-1]
"""A year: nothing is looked for that is further away."""

_USUAL: Final = timedelta(hours=1)
_FINEST: Final = 100
"""So many times the distance of the busiest job's neighbours a side may be long, or they run into one."""

_LEAST_SHARE: Final = 4
"""Neither side is less than this part of the other."""


def window(back: Sequence[Sequence[timedelta]], ahead: Sequence[Sequence[timedelta]]) -> tuple[timedelta, timedelta]:
    """Return how far back and ahead to draw: to each job's nearest, as far as the busiest can still be told apart.

    `back` and `ahead`: how far the two nearest rows, and times to come, of each job are away, the nearest first.
    """
    behind, before = _reach(back), _reach(ahead)
    if behind is None and before is None:
        return _USUAL, _USUAL
    behind, before = behind or timedelta(), before or timedelta()
    return max(behind, before / _LEAST_SHARE), max(before, behind / _LEAST_SHARE)


def _reach(distances: Sequence[Sequence[timedelta]]) -> timedelta | None:
    known = [times for times in distances if times]
    if not known:
        return None
    busiest = min(max(times) for times in known)
    furthest = max(min(times) for times in known)
    wanted = max(busiest, min(furthest, max(busiest, timedelta(seconds=1)) * _FINEST))
    return next((step for step in _STEPS if step > wanted), _STEPS[-1])
