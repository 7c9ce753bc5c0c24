"""Triggers of a home's jobs, working or not: timers that NAS holds, or a tick that ran lately."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.clock import AGREES_WITHIN
from chronos_cli.core.instant import iso_text
from chronos_cli.durations import span
from chronos_cli.frozen import frozen
from chronos_cli.operations.views.armed_wake import ArmedWake

if TYPE_CHECKING:
    from datetime import datetime

    from chronos_cli.operations.views.listing import Listing
    from chronos_cli.store.ticks import Ticks

LATELY: Final = timedelta(minutes=10)
"""The greatest age of the last tick for ticks to count as running: a few of the usual intervals."""

APART: Final = timedelta(seconds=20)
"""The least time between two ticks that were not run by hand."""

INSTALL: Final = "chronos tick --install crontab --yes"


@frozen
class TriggerHealth:
    """The trigger of jobs. `working`: None where no job waits for it, or where it cannot be told from here."""

    working: bool | None
    because: str
    last_tick_at: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as `status` says it."""
        return {"working": self.working, "because": self.because, "last_tick_at": iso_text(self.last_tick_at)}


def trigger_of(found: Listing, ticks: Ticks, *, active: str, asked: bool = False) -> TriggerHealth:
    """Judge what triggers jobs. `active`: the active provider's name; `asked`: NAS was asked what it holds."""
    at, when = ticks.at, ticks_words(ticks, found.now)
    live = [view for view in found.jobs if view.state == "live" and view.problem is None]
    if not live:
        return TriggerHealth(working=None, because=f"no job waits for one; {when}", last_tick_at=at)
    if is_ticking(ticks, found.now):
        return TriggerHealth(working=True, because=when, last_tick_at=at)
    held = any(view.will_fire for view in live)
    if active == "builtin" and not held:
        return TriggerHealth(working=False, because=when, last_tick_at=at)
    if active not in ("builtin", "chronos"):
        return TriggerHealth(working=None, because=f"{active} triggers jobs; {when}", last_tick_at=at)
    armed = [view for view in live if view.arm.state is ArmedWake.ARMED]
    if not armed:
        return TriggerHealth(working=False, because=f"NAS holds no timer of theirs, and {when}", last_tick_at=at)
    if not any(view.arm.checked for view in armed):
        unknown = "NAS did not say what it holds" if asked else "NAS was not asked"
        return TriggerHealth(working=None, because=f"{unknown}; {when}", last_tick_at=at)
    return TriggerHealth(working=True, because=f"NAS holds their timers; {when}", last_tick_at=at)


def is_ticking(ticks: Ticks, now: datetime) -> bool:
    """Say if ticks run by themselves: two came lately, one after the other, or one since they were installed."""
    last = ticks.at
    if ticks.installed is not None and _was_lately(max(ticks.installed, last or ticks.installed), now):
        return True
    if last is None or ticks.before is None or not _was_lately(last, now):
        return False
    return APART <= last - ticks.before <= LATELY


def _was_lately(moment: datetime, now: datetime) -> bool:
    # A stamp that lies ahead is from a clock that was ahead, or this one is behind: it tells nothing of today.
    return -AGREES_WITHIN <= now - moment <= LATELY


def ticks_words(ticks: Ticks, now: datetime) -> str:
    """Return when a tick last ran, and, of one that may have been run by hand, that it is alone."""
    if ticks.at is None:
        return "no tick has run yet"
    if ticks.at - now > AGREES_WITHIN:
        return f"the clock of the last tick said {ticks.at.isoformat(timespec='seconds')}, which is still to come"
    when = f"the last tick ran {span(max(now - ticks.at, timedelta()).total_seconds())} ago"
    alone = _was_lately(ticks.at, now) and not is_ticking(ticks, now)
    return f"{when}, and nothing is known to run the next" if alone else when
