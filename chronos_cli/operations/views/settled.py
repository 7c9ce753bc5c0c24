"""A listing that is looked at again before it alarms: the store and NAS are read one after the other.

A fire between the two readings makes a timer look missing, or a different one. A job that would alarm is therefore
looked at again, and for as long as the job is seen to be on the move: claimed, armed or called within the last seconds.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import ChronosError
from chronos_cli.operations.views.armed_wake import BAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_client.interface import ArmList
    from chronos_cli.operations.views.listing import JobView, Listing

AGAIN_AFTER_S: Final = 0.3
"""The time between the first look and the second."""

_LATER_S: Final = (0.5, 1.0, 1.5)
"""The times between further looks, which only a job that is on the move gets."""

MOVING: Final = timedelta(seconds=5)
"""For so long after a claim, an arm or a call a job counts as on the move: a slow answer of NAS fits in."""


def settled(
    look: Callable[[ArmList | None], Listing],
    held: ArmList | None,
    ask: Callable[[], ArmList],
    *,
    sleep: Callable[[float], object] = time.sleep,
    again_after_s: float = AGAIN_AFTER_S,
) -> Listing:
    """Return a listing whose alarms stood in two looks. `held`: what NAS said at first; `ask`: has it say it again.

    Where NAS was not asked, or cannot be asked again, the first look is all there is.
    """
    found = look(held)
    if held is None:
        return found
    for wait in (again_after_s, *_LATER_S):
        before = {_alarm(view) for view in found.jobs if alarms(view) and _may_pass(view, found)}
        if not before:
            break
        sleep(wait)
        try:
            found = look(ask())
        except ChronosError:
            break
        if any(_alarm(view) in before and not _is_moving(view, found) for view in found.jobs if alarms(view)):
            break
    return found


def alarms(view: JobView) -> bool:
    """Say if a job looks as if its timer were not as it should be, or its start overdue."""
    return view.state == "live" and view.problem is None and (view.arm.state in BAD or view.overdue_s is not None)


def _alarm(view: JobView) -> tuple[object, ...]:
    return view.id, view.arm.state, view.arm.wanted, view.arm.held, view.overdue_s is not None


def _may_pass(view: JobView, found: Listing) -> bool:
    """Say if another look can show a job otherwise: one that was never armed, and not made just now, stays so."""
    return view.arm.moved_at is not None or view.arm.held is not None or _is_moving(view, found)


def _is_moving(view: JobView, found: Listing) -> bool:
    if view.overdue_s is not None:
        return False
    return view.arm.in_flight or (view.touched_at is not None and abs(found.now - view.touched_at) <= MOVING)
