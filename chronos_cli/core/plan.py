"""Plans for NAS: the arms that it should hold against those that it holds. A dry run prints a plan."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from chronos_cli.core.decision import Purpose
from chronos_cli.core.instant import SECOND, whole
from chronos_cli.frozen import field, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from chronos_cli.core.decision import Wake

_BACKOFF_BASE_S: Final = 5
_BACKOFF_CAP_S: Final = 900
_SHARE_GUARD_FROM: Final = 4
_SOON: Final = timedelta(seconds=5)
_COMES_WITHIN: Final = timedelta(seconds=60)
"""For so long NAS may have yet to call, or to say that it tried, for an instant that has come."""


class ArmState(StrEnum):
    """The last arm that was sent, as far as known. ANSWERED: the 2xx to a fire carries it, or carried it."""

    UNCONFIRMED = "unconfirmed"
    ANSWERED = "answered"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    CANCELLED = "cancelled"


HELD_STATES: Final = frozenset({ArmState.CONFIRMED, ArmState.ANSWERED})
"""The states of an arm that need not be sent again."""


GONE_STATES: Final = frozenset({ArmState.REFUSED, ArmState.CANCELLED})


@frozen
class LastArm:
    """The arm sent last: the wake that was wanted, the instant that was sent for it, and the keys used before.

    `keys` holds instants still ahead that were once sent, with their purpose; NAS may remember a key for ever.
    `spent`: NAS took the key and yet does not hold it, so it must not be used again. `unreadable`: something was sent
    from here, but the document that says what cannot be read; one made anew in its place is UNCONFIRMED, and says no
    more. `tolerance`: as it was sent; None where NAS spreads
    nothing.
    """

    wake: datetime | None = None
    fire_at: datetime | None = None
    purpose: str | None = None
    state: ArmState = ArmState.CANCELLED
    callback_url: str | None = None
    keys: Mapping[datetime, str] = field(default_factory=dict)
    idle: int = 0
    spent: bool = False
    unreadable: bool = False
    tolerance: int | None = None


@frozen
class ArmReason:
    """Reason why a wake is sent just now, as far as it decides which instant is sent; see `WANTED`.

    `idle_fire`: the instant of a fire that found nothing to do; the next one backs off. `dropped`: NAS may have dropped
    what was sent last, so its instant must not be sent again. `behind`: NAS owes a redelivery for this wake; what is
    sent stands behind that one, at least so far from now.
    """

    idle_fire: datetime | None = None
    dropped: bool = False
    behind: timedelta | None = None


WANTED: Final = ArmReason()
"""The plain reason: the job wants this wake."""


def instant_to_send(wake: Wake, sent: LastArm, now: datetime, reason: ArmReason = WANTED) -> datetime:
    """Return the instant to send for a wake: never one that NAS may take for an arm it has already dealt with.

    A key that was sent for another purpose, or that something else has displaced since, goes one second later.
    """
    at = max(whole(wake.at), whole(now) + SECOND)
    if reason.idle_fire is not None:
        at = max(at, whole(now) + backoff(sent.idle), reason.idle_fire + SECOND)
    if reason.behind is not None:
        at = max(at, whole(now + reason.behind))
    while at in sent.keys and (reason.dropped or not _still_armed(at, wake, sent)):
        at += SECOND
    return at


def backoff(idle: int) -> timedelta:
    """Return how far a wake that found nothing to do moves on: 5 s doubling to 15 min."""
    return timedelta(seconds=min(_BACKOFF_BASE_S * 2 ** min(idle, 10), _BACKOFF_CAP_S))


def _still_armed(at: datetime, wake: Wake, sent: LastArm) -> bool:
    return (
        at == sent.fire_at
        and sent.purpose == wake.purpose.value
        and not sent.spent
        and sent.state is not ArmState.CANCELLED
    )


class Action(StrEnum):
    """The actions of a plan for one job."""

    ARM = "arm"
    MOVE = "move"
    CANCEL = "cancel"
    KEEP = "keep"
    ORPHAN = "orphan"


@frozen
class DesiredArm:
    """The wake one job wants of NAS (`wake` None: nothing) and the last arm sent for it.

    `owes_cancel`: what was sent is still to come and was never taken back, though the job wants nothing.
    """

    job_id: str
    wake: Wake | None
    sent: LastArm = LastArm()
    known: bool = True
    owes_cancel: bool = False


@frozen
class Step:
    """One line of a plan. `ours`: the arm document says that this store armed it."""

    action: Action
    job_id: str
    held: datetime | None = None
    wanted: datetime | None = None
    reason: str = ""


@frozen
class Plan:
    """All steps, by job id; `guard` says why cancels are held back, if they are."""

    steps: tuple[Step, ...]
    guard: str | None = None

    @property
    def changes(self) -> tuple[Step, ...]:
        """Return the steps that call NAS."""
        return tuple(step for step in self.steps if step.action in (Action.ARM, Action.MOVE, Action.CANCEL))

    def counts(self) -> dict[str, int]:
        """Return how many steps there are of each action."""
        return {action.value: sum(1 for step in self.steps if step.action is action) for action in Action}


@frozen
class HeldTimers:
    """Timers that NAS holds: the instant by job id (`at`; None where it cannot be read).

    `several`: the jobs of which it holds more than one still to come, which no contract allows, and how many.
    """

    at: Mapping[str, datetime | None]
    several: Mapping[str, int] = field(default_factory=dict)


@frozen
class Removals:
    """Removals that a person asked for, so that their number is no reason to doubt the store; see `NONE_ASKED`.

    `prune`: all timers that no job wants. `gone`: those of jobs that were just taken out of the store.
    """

    prune: bool = False
    gone: frozenset[str] = frozenset()


NONE_ASKED: Final = Removals()
"""Nobody asked for any: what is gone from the store may have been lost."""


def make_plan(
    wishes: Iterable[DesiredArm],
    timers: HeldTimers,
    *,
    callback_url: str,
    store_has_jobs: bool,
    removals: Removals = NONE_ASKED,
    elsewhere: Mapping[str, str] | None = None,
) -> Plan:
    """Compare wishes with what NAS holds.

    `elsewhere`: the profile that has a job: what is held for it, and not wanted here, is that profile's.

    Cancels only what this store armed, unless all is to be pruned. Jobs that vanished from the store are suspicious in
    numbers: an empty store, or more than half of all arms, cancels nothing that was not asked for.
    """
    held, prune = timers.at, removals.prune
    steps = []
    by_id = {wish.job_id: wish for wish in wishes}
    theirs = {
        job_id: profile
        for job_id, profile in (elsewhere or {}).items()
        if job_id in held and (job_id not in by_id or by_id[job_id].wake is None)
    }
    for job_id in sorted(by_id.keys() | held.keys()):
        wish = by_id.get(job_id)
        if job_id in theirs:
            reason = f"a job of the profile {theirs[job_id]}"
            steps.append(Step(action=Action.KEEP, job_id=job_id, held=held[job_id], reason=reason))
            continue
        if wish is not None and wish.owes_cancel and job_id not in held and job_id in (elsewhere or {}):
            continue
        step = _step(job_id, wish, held, callback_url, prune=prune)
        count = timers.several.get(job_id)
        if count is not None and step is not None and step.action in (Action.KEEP, Action.MOVE):
            step = replace(step, action=Action.MOVE, reason=f"NAS holds {count} timers for it")
        if step is not None:
            steps.append(step)
    missing = [s for s in steps if s.action is Action.CANCEL and s.job_id not in removals.gone]
    unknown = [s for s in missing if not (s.job_id in by_id and by_id[s.job_id].known)]
    guard = None if prune else _guard(len(unknown), len(held) - len(theirs), store_has_jobs=store_has_jobs)
    if guard is not None:
        refused = {s.job_id for s in unknown}
        steps = [_held_back(s, guard) if s.job_id in refused else s for s in steps]
    return Plan(steps=tuple(steps), guard=guard)


def _step(
    job_id: str, wish: DesiredArm | None, held: Mapping[str, datetime | None], callback_url: str, *, prune: bool
) -> Step | None:
    wanted = wish.wake if wish is not None else None
    at = held.get(job_id)
    if wanted is None:
        if job_id not in held:
            if wish is None or not wish.owes_cancel:
                return None
            return Step(action=Action.CANCEL, job_id=job_id, reason="no job wants it, and NAS may list it later")
        ours = wish is not None and (wish.sent.fire_at is not None or wish.sent.state is ArmState.UNCONFIRMED)
        if ours or prune:
            return Step(action=Action.CANCEL, job_id=job_id, held=at, reason="no job wants it")
        return Step(action=Action.ORPHAN, job_id=job_id, held=at, reason="not armed from this store")
    assert wish is not None  # noqa: S101 - a wake comes from a wish
    if job_id not in held:
        return Step(action=Action.ARM, job_id=job_id, wanted=wanted.at, reason="not armed")
    reason = _why_move(wish.sent, wanted, at, callback_url)
    if reason is not None:
        return Step(action=Action.MOVE, job_id=job_id, held=at, wanted=wanted.at, reason=reason)
    return Step(action=Action.KEEP, job_id=job_id, held=at, wanted=wanted.at, reason=off_by(at, wanted.at))


def _why_move(sent: LastArm, wanted: Wake, held: datetime | None, callback_url: str) -> str | None:
    """Return why what NAS holds is not what is wanted, or None."""
    if sent.unreadable:
        return "its arm document cannot be read"
    if sent.callback_url is not None and sent.callback_url != callback_url:
        return "the callback URL changed"
    if held == wanted.at and sent.state in HELD_STATES and sent.wake != held != sent.fire_at:
        return "NAS lists it, but has taken another since"  # a list may be late
    if held != wanted.at and (held is None or held != sent.fire_at or sent.wake != wanted.at):
        return "armed for another time"
    if sent.tolerance is not None and held == sent.fire_at and sent.tolerance != wanted.tolerance:
        return "its tolerance changed"
    return None


def off_by(held: datetime | None, wanted: datetime) -> str:
    """Return how far from the wanted instant NAS holds a timer, in words; "" within a second."""
    seconds = 0 if held is None else int((held - wanted).total_seconds())
    if abs(seconds) <= 1:
        return ""
    return f"held {abs(seconds)} s {'later' if seconds > 0 else 'earlier'} than wanted"


def serves(sent: LastArm, wake: Wake, held: datetime | None, now: datetime, *, tried: bool = False) -> bool:
    """Return whether the timer that was sent last, which NAS holds, does what a wish for another instant asks.

    A look that comes sooner than wanted does: it finds nothing to do and arms the next. So does one for what is due
    now, while NAS still calls: the instant that a wish has then is only "at once". `tried`: NAS says that it comes
    again by itself; else it has a minute for its call. One lease read twice is the same wish.
    """
    if held is None or sent.wake is None or held != sent.fire_at or sent.spent or sent.state in GONE_STATES:
        return False
    if held > now and wake.purpose is Purpose.LOOK and held <= wake.at:
        return True
    if sent.purpose == wake.purpose == Purpose.LEASE and abs(sent.wake - wake.at) <= _SOON:
        return True
    due = held <= now + SECOND and (wake.at <= now + _SOON or wake.purpose is Purpose.LOOK)
    return due and (tried or held >= now - _COMES_WITHIN)


def _guard(unknown: int, held: int, *, store_has_jobs: bool) -> str | None:
    if not unknown:
        return None
    if not store_has_jobs:
        return "the store has no jobs while NAS holds arms"
    if held >= _SHARE_GUARD_FROM and unknown * 2 > held:
        return f"{unknown} of {held} arms belong to jobs that are gone from the store"
    return None


def _held_back(step: Step, guard: str) -> Step:
    return Step(action=Action.ORPHAN, job_id=step.job_id, held=step.held, reason=guard)
