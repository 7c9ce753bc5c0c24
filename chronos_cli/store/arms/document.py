"""The arm document: everything on the wire side of one job, `cron/arms/<job_id>.json`.

What was last sent to NAS and what NAS said; the keys used; the deliveries that settled nothing (notes, bounded); the
last callback and the last failure to start a run. All of it can be learned again from NAS, so it is not fsynced.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import FEATURE_ARM_IN_ANSWER, FEATURE_GENERATION, FEATURE_KEEPS_SLOT, FEATURE_SPREAD
from chronos_cli.core.clock import AGREES_WITHIN
from chronos_cli.core.decision import Purpose
from chronos_cli.core.plan import HELD_STATES, ArmState, LastArm
from chronos_cli.frozen import field, frozen, names, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from chronos_cli.core.decision import Wake
    from chronos_cli.errors import ChronosError

MAX_NOTES: Final = 20
MAX_KEYS: Final = 64
KEY_MEMORY_S: Final = 3_600

CARRIES: Final = "carries"
PLAIN: Final = "plain"
"""Values of `door`, on the callback that took a job's last fire: its answers carry the next wake, or they do not."""


@frozen
class ArmDocument:
    """One job's arm document. Instants are aware; `keys` maps instants once sent to their purpose.

    `owed`: the instant of a fire of this wake that was told that it is early: NAS comes again for it without an arm.
    `in_answer`: it was sent in the request of a fire, before that was answered, and not again since. `door`: CARRIES or
    PLAIN, None where no fire came yet. `answered_to`: the delivery whose answer carried what this document says;
    `only_answered`: nothing else ever told NAS of this instant.
    """

    job_id: str
    state: ArmState = ArmState.CANCELLED
    wake: datetime | None = None
    fire_at: datetime | None = None
    purpose: str | None = None
    callback_url: str | None = None
    portal_url: str | None = None
    audience: str | None = None
    generation: int = 0
    schedule_id: str | None = None
    features: tuple[str, ...] = ()
    sent_at: datetime | None = None
    confirmed_at: datetime | None = None
    error: Mapping[str, Any] | None = None
    keys: Mapping[datetime, str] = field(default_factory=dict)
    idle: int = 0
    spent: bool = False
    owed: datetime | None = None
    in_answer: bool = False
    door: str | None = None
    answered_to: str | None = None
    only_answered: bool = False
    tolerance: int = 0
    last_callback_at: datetime | None = None
    last_callback: str | None = None
    last_fire_error: Mapping[str, Any] | None = None
    notes: tuple[Mapping[str, Any], ...] = ()
    unreadable: bool = False
    """True where this only stands for a document that cannot be read; never stored."""

    @property
    def accepts(self) -> bool:
        """Return whether a provision may ask NAS to arm by answers: it can, and our callback is known to carry them."""
        return self.door == CARRIES and FEATURE_ARM_IN_ANSWER in self.features

    def sent(self) -> LastArm:
        """Return what the pure plan needs to know of it."""
        return LastArm(
            wake=self.wake,
            fire_at=self.fire_at,
            purpose=self.purpose,
            state=self.state,
            callback_url=self.callback_url,
            keys=self.keys,
            idle=self.idle,
            spent=self.spent,
            unreadable=self.unreadable,
            tolerance=self.tolerance if FEATURE_SPREAD in self.features else None,
        )

    def says(self, wake: Wake) -> bool:
        """Return whether NAS was told of a wake's tolerance, as far as it can spread at all."""
        return FEATURE_SPREAD not in self.features or self.tolerance == wake.tolerance

    def sending(
        self, wake: Wake, fire_at: datetime, *, callback_url: str, portal_url: str, audience: str, now: datetime
    ) -> ArmDocument:
        """Return it as it stands while an arm is under way: whether NAS took it is not known."""
        # A clock that was ahead at one send must not have keys forgotten that are still to come.
        by_both = now if self.sent_at is None else min(now, self.sent_at)
        recent = {at: why for at, why in self.keys.items() if (by_both - at).total_seconds() < KEY_MEMORY_S}
        newest = dict(sorted(recent.items())[-MAX_KEYS + 1 :])
        return replace(
            self,
            state=ArmState.UNCONFIRMED,
            wake=wake.at,
            fire_at=fire_at,
            purpose=wake.purpose.value,
            callback_url=callback_url,
            portal_url=portal_url,
            audience=audience,
            generation=self.next_generation(now),
            sent_at=now,
            error=None,
            unreadable=False,
            spent=False,
            owed=None,
            in_answer=False,
            answered_to=None,
            only_answered=False,
            tolerance=wake.tolerance if FEATURE_SPREAD in self.features else 0,
            keys={**newest, fire_at: wake.purpose.value},
        )

    def confirmed(
        self, sent: ArmDocument, schedule_id: str | None, features: Iterable[str], now: datetime
    ) -> ArmDocument:
        """Return it once NAS took what was `sent`; where something newer was sent since, only its `features` are noted.

        It has the features that this answer named and no others, whatever an older NAS promised.
        """
        heard = replace(self, features=tuple(sorted(features)))
        if self.generation != sent.generation:
            return heard
        return replace(heard, state=ArmState.CONFIRMED, confirmed_at=now, schedule_id=schedule_id, error=None)

    def delivered(self, sent: ArmDocument, features: Iterable[str]) -> ArmDocument:
        """Return it once NAS said that it delivered what was `sent` before: it holds nothing by that key, for good."""
        heard = replace(self, features=tuple(sorted(features)))
        return replace(heard, spent=True) if self.generation == sent.generation else heard

    def listed(self, sent: ArmDocument, schedule_id: str | None, now: datetime) -> ArmDocument:
        """Return it once a list of NAS shows what was `sent`, as it is where something newer was sent since."""
        if self.generation != sent.generation:
            return self
        # Its fire was answered with no 2xx, if at all: that proves nothing of the slot.
        found = replace(self, schedule_id=schedule_id, error=None, in_answer=False)
        return replace(found, state=ArmState.CONFIRMED, confirmed_at=now)

    def refused(self, sent: ArmDocument, error: ChronosError) -> ArmDocument:
        """Return it once NAS refused what was `sent` for good, as it is where something newer was sent since."""
        failed = self.failed(sent, error)
        return replace(failed, state=ArmState.REFUSED) if self.generation == sent.generation else failed

    def failed(self, sent: ArmDocument, error: ChronosError) -> ArmDocument:
        """Return it with the error of a call of unknown effect, as it is where something newer was sent since."""
        return replace(self, error=error.as_json()) if self.generation == sent.generation else self

    def stale(self, sent: ArmDocument, generation: int) -> ArmDocument:
        """Return it with the generation that NAS holds, so that the next wish is newer than what NAS knows.

        NAS has it from a document that was lost, or from a clock that was ahead. Something newer that was sent since
        keeps its own.
        """
        return replace(self, generation=generation) if self.generation == sent.generation < generation else self

    def behind(self, generation: int) -> ArmDocument:
        """Return it with at least the generation that NAS holds, so that the next cancel is newer than that."""
        return replace(self, generation=max(self.generation, generation))

    def cancelled(self, generation: int | None, now: datetime) -> ArmDocument:
        """Return it once NAS holds nothing, by a cancel of `generation` (None: of no number).

        It stays as it is where something newer than the cancel was sent since.
        """
        if generation is not None and self.generation > generation:
            return self
        newer = max(self.next_generation(now), generation or 0)
        return replace(self, state=ArmState.CANCELLED, wake=None, generation=newer, error=None)

    def overtook(self, sent: ArmDocument) -> bool:
        """Return whether another process sent another instant since: NAS alone knows which of the two came last."""
        if self.generation == sent.generation or self.is_numbered_like(sent):
            return False
        return self.fire_at != sent.fire_at or self.state is ArmState.CANCELLED

    def is_numbered_like(self, other: ArmDocument) -> bool:
        """Return whether both wishes bore numbers, by which NAS refuses the older; a job's first wish bears none."""
        return FEATURE_GENERATION in self.features and FEATURE_GENERATION in other.features

    def stands_for(self, sent: ArmDocument) -> bool:
        """Return whether it is newer than what was `sent`, held by NAS, and for the very same instant."""
        newer = self.generation > sent.generation and self.state in HELD_STATES
        return newer and not self.spent and self.fire_at == sent.fire_at

    def is_late(self, now: datetime) -> bool:
        """Return whether its instant may have been past when it reached NAS, which may ignore such without a word."""
        return self.fire_at is not None and self.fire_at <= now and FEATURE_KEEPS_SLOT not in self.features

    def is_astray(self, wake: Wake, now: datetime) -> bool:
        """Return whether a clock ahead of `now`, which is right, sent a wake for later than it is meant."""
        if self.sent_at is None or self.fire_at is None or self.sent_at <= now + AGREES_WITHIN:
            return False
        return self.fire_at > max(wake.at, now) + AGREES_WITHIN

    def may_be_held(self, now: datetime) -> bool:
        """Return whether NAS may still hold what was sent last."""
        return self.state is not ArmState.CANCELLED and self.fire_at is not None and self.fire_at > now

    def waits_for(self, wake: Wake | None) -> bool:
        """Return whether what was sent last was sent for this wake."""
        return wake is not None and self.wake == wake.at

    def answering(self, delivery: str | None, *, above: int | None, now: datetime) -> ArmDocument:
        """Return it as it stands once an answer carries it: under a generation of its own, newer than `above`."""
        return replace(
            self,
            generation=max(self.next_generation(now), -1 if above is None else above + 1),
            features=tuple(sorted({*self.features, FEATURE_ARM_IN_ANSWER, FEATURE_GENERATION})),
            answered_to=delivery,
        )

    def next_generation(self, now: datetime) -> int:
        """Return a generation above all earlier ones, also of a lost document: at least milliseconds since 1970."""
        return max(self.generation + 1, int(now.timestamp() * 1000))

    def noted(self, outcome: str, *, fire_at: datetime | None, delivery: str | None, now: datetime) -> ArmDocument:
        """Return it with one more delivery that settled nothing; the oldest goes."""
        note = {"at": now.isoformat(), "outcome": outcome}
        if fire_at is not None:
            note["fire_at"] = fire_at.isoformat()
        if delivery is not None:
            note["delivery_id"] = delivery
        return replace(self, notes=(*self.notes, note)[-MAX_NOTES:])

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        document: dict[str, Any] = {}
        for name in names(self):
            value = getattr(self, name)
            if name == "unreadable" or (not value and value != ""):
                continue
            if isinstance(value, datetime):
                value = value.isoformat()
            elif name == "keys":
                value = {at.isoformat(): purpose for at, purpose in value.items()}
            document[name] = value
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ArmDocument:
        """Read the stored form. Raises KeyError, TypeError or ValueError."""
        known: dict[str, Any] = {"state": document["state"]}
        for name, value in document.items():
            read = _READ.get(name)
            if read is not None and value is not None:
                known[name] = read(value)
        return cls(**known)


def unreadable_arm(job_id: str, why: str) -> ArmDocument:
    """Return the stand-in for an unreadable arm document: this store armed the job, what NAS holds is not known.

    The next arm of the job writes it anew, and NAS's list tells what it held.
    """
    message = f"its arm document cannot be read ({why}): `chronos reconcile` makes it anew from what NAS holds"
    error = {"code": "unreadable", "message": message}
    return ArmDocument(job_id=job_id, state=ArmState.UNCONFIRMED, error=error, unreadable=True)


def _a(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
        return value

    return read


_text, _whole, _object, _list = _a(str), _a(int), _a(dict), _a(list)


def _instant(value: Any) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError("an instant needs a UTC offset")
    return moment


def _number(value: Any) -> int:
    if not 0 <= _whole(value) < 2**63:
        raise ValueError("a number is out of range")
    return int(value)


def _keys(value: Any) -> Mapping[datetime, str]:
    return {_instant(at): _text(purpose) for at, purpose in _object(value).items()}


def _each(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(map(read, _list(value)))


_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("wake", "fire_at", "owed", "sent_at", "confirmed_at", "last_callback_at"), _instant),
    **dict.fromkeys(("job_id", "callback_url", "portal_url", "audience", "schedule_id"), _text),
    **dict.fromkeys(("last_callback", "answered_to"), _text),
    **dict.fromkeys(("error", "last_fire_error"), _object),
    **dict.fromkeys(("generation", "idle", "tolerance"), _number),
    "state": ArmState,
    "purpose": lambda value: Purpose(value).value,
    "door": lambda value: value if value in (CARRIES, PLAIN) else None,
    **dict.fromkeys(("spent", "in_answer", "only_answered"), _a(bool)),
    "keys": _keys,
    "notes": _each(_object),
    "features": _each(_text),
}
"""Readers of the stored values: a value of the wrong kind makes the document unreadable."""
