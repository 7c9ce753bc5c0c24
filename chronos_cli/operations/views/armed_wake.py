"""The arm of a job as it is seen: what NAS holds, or last confirmed, beside what the job wants."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.instant import iso_text
from chronos_cli.core.plan import HELD_STATES, ArmState, off_by, serves
from chronos_cli.frozen import opaque

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from chronos_cli.core.decision import Wake
    from chronos_cli.nas_client.interface import Arm
    from chronos_cli.store.arms.document import ArmDocument


class ArmedWake(StrEnum):
    """The comparison of NAS's arm for a job with the one the job wants."""

    ARMED = "armed"
    MISSING = "missing"
    DIFFERENT = "different"
    ORPHAN = "orphan"
    UNCONFIRMED = "unconfirmed"
    REFUSED = "refused"
    NONE = "none"


BAD: Final = frozenset(
    {ArmedWake.MISSING, ArmedWake.DIFFERENT, ArmedWake.ORPHAN, ArmedWake.UNCONFIRMED, ArmedWake.REFUSED}
)


_TRIED_WITHIN: Final = timedelta(minutes=20)
"""NAS calls again by itself where it says so of a try no further away: the longest wait of ours is 15 minutes."""


@opaque
class ArmView:
    """The arm of a job. `verified_at`: when NAS last confirmed it; `checked`: now, by asking NAS, or from the store.

    `callback_url`: where NAS was told to call; another than the one configured now makes the arm a different one.
    `failed`, `attempts`, `next_try`: what NAS tells of calls in vain. `moved_at`: when it was last sent or called.
    `stands_in`: it is held for another instant than the wanted one, and does what is wanted all the same.
    """

    state: ArmedWake
    wanted: datetime | None = None
    held: datetime | None = None
    verified_at: datetime | None = None
    checked: bool = False
    error: Mapping[str, Any] | None = None
    last_callback_at: datetime | None = None
    last_fire_error: Mapping[str, Any] | None = None
    callback_url: str | None = None
    failed: str = ""
    attempts: int = 0
    next_try: datetime | None = None
    moved_at: datetime | None = None
    in_flight: bool = False
    stands_in: bool = False

    @property
    def off_by(self) -> str:
        """Return how far from the wanted instant NAS holds what is armed for it, in words; "" within a second."""
        known = self.state is ArmedWake.ARMED and not self.stands_in and self.wanted is not None
        return off_by(self.held, self.wanted) if known and self.wanted is not None else ""

    def as_json(self) -> dict[str, Any]:
        """Return it as `list` and `job show` say it."""
        return {
            "state": self.state,
            "wanted": iso_text(self.wanted),
            "held": iso_text(self.held),
            "off_by": self.off_by or None,
            "verified_at": iso_text(self.verified_at),
            "checked_with_nas": self.checked,
            "error": dict(self.error) if self.error else None,
            "last_callback_at": iso_text(self.last_callback_at),
            "last_fire_error": dict(self.last_fire_error) if self.last_fire_error else None,
            "callback_url": self.callback_url,
            "last_error": self.failed or None,
            "failed_attempts": self.attempts,
            "next_try_at": iso_text(self.next_try),
        }


def arm_view(
    wish: datetime | None,
    document: ArmDocument | None,
    held: Mapping[str, Arm] | None,
    job_id: str,
    now: datetime,
    callback_url: str | None = None,
    wake: Callable[[], Wake | None] = lambda: None,
) -> ArmView:
    """Compare a job's wish with what NAS holds, or, where NAS was not asked, with what it last confirmed.

    `callback_url`: where NAS should call, None where that is not known. `wake`: works out the wake that is needed now,
    which under a hold, or once the wish is due, is another instant; it is asked only where the two differ.
    """
    if document is None and held is None:  # as a new job stands, and every job of a home without NAS
        return ArmView(state=_stored_state(wish, None), wanted=wish)
    more: dict[str, Any] = {"wanted": wish, "error": None}
    if document is not None:
        more |= {
            "error": document.error,
            "verified_at": document.confirmed_at if document.state is ArmState.CONFIRMED else None,
            "last_callback_at": document.last_callback_at,
            "last_fire_error": document.last_fire_error,
            "callback_url": document.callback_url if document.wake is not None else None,
            "moved_at": max((at for at in (document.sent_at, document.last_callback_at) if at), default=None),
        }
    moved = callback_url is not None and more.get("callback_url") not in (None, callback_url)
    if held is None:
        state = _stored_state(wish, document)
        if state is ArmedWake.DIFFERENT:
            more["stands_in"] = _serves(document, wake(), _stored_held(document), now, tried=True)
            state = ArmedWake.ARMED if more["stands_in"] else state
        state = ArmedWake.DIFFERENT if moved and state is ArmedWake.ARMED else state
        return ArmView(state=state, held=_stored_held(document), **more)
    arm = held.get(job_id)
    more |= {"checked": True, "held": arm.fire_at if arm else None}
    if arm is not None:
        more |= {"failed": arm.failed, "attempts": arm.attempts, "next_try": arm.next_try}
        more["in_flight"] = arm.state == "in_flight"
    if arm is None:
        refused = document is not None and document.state is ArmState.REFUSED
        absent = ArmedWake.NONE if wish is None else ArmedWake.REFUSED if refused else ArmedWake.MISSING
        return ArmView(state=absent, **more)
    if wish is None:
        return ArmView(state=ArmedWake.ORPHAN, **more)
    stands_for_it = document is not None and document.fire_at == arm.fire_at and document.wake == wish
    agrees = arm.fire_at == wish or stands_for_it
    if not agrees:
        tried = arm.is_tried(now, _TRIED_WITHIN)
        agrees = more["stands_in"] = _serves(document, wake(), arm.fire_at, now, tried=tried)
    agrees = agrees and not moved
    return ArmView(state=ArmedWake.ARMED if agrees else ArmedWake.DIFFERENT, **(more | {"verified_at": now}))


def _serves(
    document: ArmDocument | None, wake: Wake | None, held: datetime | None, now: datetime, *, tried: bool = False
) -> bool:
    return document is not None and wake is not None and serves(document.sent(), wake, held, now, tried=tried)


def _stored_state(wish: datetime | None, document: ArmDocument | None) -> ArmedWake:
    if wish is None:
        return ArmedWake.NONE
    if document is None or document.state is ArmState.CANCELLED:
        return ArmedWake.MISSING
    if document.state is ArmState.REFUSED:
        return ArmedWake.REFUSED
    if document.state is ArmState.UNCONFIRMED:
        return ArmedWake.UNCONFIRMED
    return ArmedWake.ARMED if document.wake == wish else ArmedWake.DIFFERENT


def _stored_held(document: ArmDocument | None) -> datetime | None:
    return document.fire_at if document is not None and document.state in HELD_STATES else None
