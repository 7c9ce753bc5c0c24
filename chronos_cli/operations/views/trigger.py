"""Triggers of a home's jobs, working or not: timers that NAS holds, or a tick that ran lately."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.durations import span
from chronos_cli.frozen import frozen
from chronos_cli.operations.views.armed_wake import ArmedWake

if TYPE_CHECKING:
    from chronos_cli.operations.views.listing import Listing

LATELY: Final = timedelta(minutes=10)
"""The greatest age of the last tick for ticks to count as running: a few of the usual intervals."""

INSTALL: Final = "chronos tick --install crontab --yes"


@frozen
class TriggerHealth:
    """The trigger of jobs. `working`: None where no job waits for it, or where it cannot be told from here."""

    working: bool | None
    because: str
    last_tick_at: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """As `status` says it."""
        at = self.last_tick_at
        return {
            "working": self.working,
            "because": self.because,
            "last_tick_at": None if at is None else at.isoformat(),
        }


def trigger_of(found: Listing, ticked: str | None, *, active: str) -> TriggerHealth:
    """Judge what triggers jobs. `ticked`: when a tick last ran, as stored; `active`: the active provider's name."""
    at = _instant(ticked)
    ago = None if at is None else max(found.now - at, timedelta())
    when = "no tick has run yet" if ago is None else f"the last tick ran {span(ago.total_seconds())} ago"
    live = [view for view in found.jobs if view.state == "live" and view.problem is None]
    if not live:
        return TriggerHealth(working=None, because=f"no job waits for one; {when}", last_tick_at=at)
    if ago is not None and ago <= LATELY:
        return TriggerHealth(working=True, because=when, last_tick_at=at)
    if active == "builtin":
        return TriggerHealth(working=False, because=when, last_tick_at=at)
    if active != "chronos":
        return TriggerHealth(working=None, because=f"{active} triggers jobs; {when}", last_tick_at=at)
    armed = [view for view in live if view.arm.state is ArmedWake.ARMED]
    if not armed:
        return TriggerHealth(working=False, because=f"NAS holds no timer of theirs, and {when}", last_tick_at=at)
    if not any(view.arm.checked for view in armed):
        return TriggerHealth(working=None, because=f"NAS was not asked; {when}", last_tick_at=at)
    return TriggerHealth(working=True, because=f"NAS holds their timers; {when}", last_tick_at=at)


def _instant(text: str | None) -> datetime | None:
    try:
        moment = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None  # nothing that we wrote
    return moment if moment is not None and moment.tzinfo is not None else None
