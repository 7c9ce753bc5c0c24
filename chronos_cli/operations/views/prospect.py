"""The prospect of a job: its next occurrence will fire, or the reason why that cannot be said.

It is said only of what was just found to be so: NAS holds exactly the wake that the job wants, it lies ahead, nothing
holds the jobs back, this machine is the active one, and the last call did not fail.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.contract import FIRE_LEEWAY_S
from chronos_cli.durations import span
from chronos_cli.frozen import opaque
from chronos_cli.operations.views.armed_wake import ArmedWake

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from chronos_cli.nas_client.interface import Arm
    from chronos_cli.operations.views.armed_wake import ArmView
    from chronos_cli.store.holds import Hold

_ANSWERED: Final = "answered "
"""Beginning of what NAS says of a call that the other side did answer."""


_REFUSED: Final = "answered 401"
"""Beginning of what NAS says of a call whose token was refused; why, is known here."""


OVERDUE_AFTER: Final = timedelta(seconds=5)
"""The time after which an occurrence is called overdue, where NAS calls."""


TICK_INTERVAL: Final = timedelta(seconds=60)
"""Time between ticks, as they are installed: where only they look, an occurrence may be due for so long."""


@opaque
class Surroundings:
    """Facts that hold for every job of a home. `refused`: why the last call was refused, None where it was accepted.

    `unreachable`: why NAS cannot reach the callback, as its failed calls of any job show it. `clock`: how this clock
    stands to NAS's, where it is so wrong that calls are refused.
    """

    now: datetime
    zone: tzinfo
    standby: str = ""
    hold: Hold | None = None
    refused: str | None = None
    unreachable: str | None = None
    clock: str = ""


def clock_words(witness: datetime | None, now: datetime) -> str:
    """Return how far this clock is off NAS's, where that is more than what the token of a call may be off."""
    ahead = 0.0 if witness is None else (now - witness).total_seconds()
    if abs(ahead) <= FIRE_LEEWAY_S:
        return ""
    return f"clock is {span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} NAS's"


def unreachable(arms: tuple[Arm, ...]) -> str | None:
    """Return why NAS's calls do not get through at all, as far as an entry of its list tells of one that failed."""
    return next((arm.failed for arm in arms if arm.failed and not arm.failed.startswith(_ANSWERED)), None)


def failing_since(arms: tuple[Arm, ...], now: datetime) -> datetime | None:
    """Return the earliest instant of a fire that NAS could not deliver; None where it tells of none that was due."""
    due = (arm.failed_fire or arm.fire_at for arm in arms if arm.failed and not arm.failed.startswith(_ANSWERED))
    return min((moment for moment in due if moment is not None and moment <= now), default=None)


def obstacle(arm: ArmView, around: Surroundings, *, tolerance: int = 0) -> str | None:
    """Return why a live job's next occurrence cannot be promised, None where NAS holds it and nothing is against it.

    `tolerance`: the seconds by which NAS may call later.
    """
    if around.standby:
        return "standby"
    if around.hold is not None:
        return held_words(around.hold, around.now, around.zone)
    if around.clock:
        return around.clock
    if not arm.checked or arm.state is not ArmedWake.ARMED or arm.held is None:
        return None
    since = min(arm.held, arm.wanted) if arm.wanted is not None else arm.held
    late = (around.now - since).total_seconds() - tolerance
    failed = (
        (around.refused if arm.failed.startswith(_REFUSED) else None)
        or arm.failed
        or str((arm.last_fire_error or {}).get("detail") or "")
        or around.refused
        or around.unreachable
    )
    due = f"due {span(late)} ago" if late >= 0 else ""
    if failed:
        said = f"last call failed: {failed}"
        if arm.next_try is not None and arm.next_try > around.now:
            said += f", next try in {span((arm.next_try - around.now).total_seconds())}"
        return f"{due}, {said}" if due else said
    return f"{due}, waiting for NAS's call" if due else None


def held_words(hold: Hold, now: datetime, zone: tzinfo) -> str:
    """Return since when all jobs are held, by whom, and why: `held since 01:12 UTC by ann: db migration`."""
    since = ""
    if hold.engaged_at is not None:
        at = hold.engaged_at.astimezone(zone)
        form = "%H:%M %Z" if at.date() == now.astimezone(zone).date() else "%Y-%m-%d %H:%M %Z"
        since = f" since {at.strftime(form)}"
    by = f" by {hold.by}" if hold.by else ""
    return f"held{since}{by}: {hold.words(zone)}"


def overdue(cursor: datetime | None, around: Surroundings, *, arming: bool, tolerance: int) -> float | None:
    """Return for how many seconds an occurrence should have begun, None where it need not: yet, or under a hold.

    It may begin `tolerance` seconds later where NAS calls.
    """
    if cursor is None or around.hold is not None:
        return None
    late = around.now - cursor - timedelta(seconds=tolerance if arming else 0)
    return late.total_seconds() if late > OVERDUE_AFTER + (timedelta() if arming else TICK_INTERVAL) else None
