"""Memory of one NAS: does our answer to a fire leave the job's slot as it was, and does NAS arm what it carries?

The contract lets a 2xx delete whatever is in the slot. A NAS that names `keeps-slot` does not. Of another it is
learned: a wake that was sent *only before* an answer, and was due long after it, and came, was not deleted. After
enough of them, NAS is no longer looked at after an answer; the first missing one ends that. A list proves nothing: it
may hide what is in flight, or be older than the deletion.

A NAS that asks for the next wake in the answer is believed once it has armed one: the token of the next fire names a
generation that only an answer has said, or a list shows what only an answer has carried. Until then, and again after
one that was not armed, the wake is looked for after the answer, or provisioned beside it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import FEATURE_KEEPS_SLOT
from chronos_cli.core.plan import ArmState
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import frozen, names, replace
from chronos_cli.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.operations.context import Context, NasTarget
    from chronos_cli.store.arms.document import ArmDocument
    from chronos_cli.store.interface import Document

MEMORY_KEY: Final = "cron/nas.json"
ENOUGH: Final = 5
LONG_AFTER: Final = timedelta(seconds=60)
"""A wake due within this of its answer proves nothing: it may have been in flight before NAS took the answer."""

KEPT_FOR: Final = timedelta(days=30)
RENEWED_AFTER: Final = timedelta(days=15)


@frozen
class SlotMemory:
    """Memory of one portal under one identity: `delivered` wakes that an answer left in place, since `since`.

    `missed_at`: when one was missing last. `answers`: whether it armed the last answer of which that is known (None: of
    none), as seen at `answers_at`.
    """

    portal_url: str
    audience: str
    delivered: int
    since: datetime
    missed_at: datetime | None = None
    answers: bool | None = None
    answers_at: datetime | None = None

    def keeps(self, wire: NasTarget | ArmDocument, now: datetime) -> bool:
        """Return True where enough was seen of just this NAS, and not too long ago."""
        return self.delivered >= ENOUGH and self.is_of(wire) and abs(now - self.since) < KEPT_FOR

    def is_of(self, wire: NasTarget | ArmDocument) -> bool:
        """Return True where this is about the portal and identity of a wire, or of what was sent."""
        return (self.portal_url, self.audience) == (wire.portal_url, wire.audience)

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        found = ((name, getattr(self, name)) for name in names(self))
        return {
            key: value.isoformat() if isinstance(value, datetime) else value
            for key, value in found
            if value is not None
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SlotMemory:
        """Read the stored form. Raises KeyError, TypeError or ValueError."""
        missed, answered = (document.get(name) for name in ("missed_at", "answers_at"))
        memory = cls(
            portal_url=str(document["portal_url"]),
            audience=str(document["audience"]),
            delivered=max(0, min(int(document["delivered"]), ENOUGH)),
            since=datetime.fromisoformat(document["since"]),
            missed_at=None if missed is None else datetime.fromisoformat(missed),
            answers=None if answered is None else bool(document["answers"]),
            answers_at=None if answered is None else datetime.fromisoformat(answered),
        )
        instants = (memory.since, memory.missed_at, memory.answers_at)
        if any(moment is not None and moment.tzinfo is None for moment in instants):
            raise ValueError("an instant needs a UTC offset")
        return memory


def recall(ctx: Context) -> SlotMemory | None:
    """Return what is known of the NAS of this home, None where nothing is, or nothing that can be read."""
    try:
        found = ctx.repository.read(MEMORY_KEY)
    except ChronosError:
        return None
    return None if found is None else _read(found.data)


def keeps_slot(ctx: Context, document: ArmDocument) -> bool:
    """Return True where an answer leaves in the slot what was provisioned before it: promised by NAS, or learned."""
    if FEATURE_KEEPS_SLOT in document.features:
        return True
    memory = recall(ctx)
    return memory is not None and memory.keeps(document, ctx.clock())


def note_delivered(ctx: Context, document: ArmDocument) -> None:
    """Count a wake that came, as `document` tells of it before: sent in an answer's request, and due long after it.

    Nothing is written where that changes nothing.
    """
    now = ctx.clock()
    if not _proves(document):
        return

    def count(memory: SlotMemory | None) -> SlotMemory | None:
        fresh = memory is not None and memory.is_of(document) and abs(now - memory.since) < KEPT_FOR
        before = memory if fresh else None
        if before is not None and before.delivered >= ENOUGH and abs(now - before.since) < RENEWED_AFTER:
            return memory
        known = before or _of(document, memory, now)
        return replace(known, delivered=min(ENOUGH, 1 + known.delivered), since=now)

    _change(ctx, count)


def note_missing(ctx: Context, document: ArmDocument) -> None:
    """Forget what was learned: a wake that was sent before an answer is not there after it."""
    now = ctx.clock()

    def forget(memory: SlotMemory | None) -> SlotMemory | None:
        if memory is None or not memory.delivered or not memory.is_of(document):
            return None
        return replace(memory, delivered=0, since=now, missed_at=now)

    _change(ctx, forget)


def note_probed(ctx: Context, *, keeps: bool) -> None:
    """Write down what a probe of the whole way has shown, where no wake of a job has shown it yet."""
    now, wire = ctx.clock(), ctx.wire

    def change(memory: SlotMemory | None) -> SlotMemory | None:
        if wire is None or (keeps and memory is not None and memory.keeps(wire, now)):
            return memory
        known = _of(wire, memory, now)
        return replace(known, delivered=ENOUGH if keeps else 0, missed_at=None if keeps else now)

    _change(ctx, change)


def takes_answers(ctx: Context, wire: NasTarget | ArmDocument) -> bool | None:
    """Return whether NAS arms what our answers carry; None where that was not seen, or too long ago."""
    memory = recall(ctx)
    if memory is None or memory.answers_at is None or not memory.is_of(wire):
        return None
    return memory.answers if abs(ctx.clock() - memory.answers_at) < KEPT_FOR else None


def note_answers(ctx: Context, wire: NasTarget | ArmDocument, *, taken: bool) -> None:
    """Write down that NAS has armed what an answer carried, or has not. Nothing is written where that is known."""
    now = ctx.clock()

    def change(memory: SlotMemory | None) -> SlotMemory | None:
        base = memory if memory is not None and memory.is_of(wire) else _of(wire, None, now)
        if base.answers is taken and base.answers_at is not None and abs(now - base.answers_at) < RENEWED_AFTER:
            return base
        return replace(base, answers=taken, answers_at=now)

    _change(ctx, change)


def needs_look(ctx: Context, document: ArmDocument) -> bool:
    """Return whether NAS may not hold what a document says, once it has taken the answer after it, or carrying it."""
    if document.state is ArmState.ANSWERED:
        return takes_answers(ctx, document) is not True
    return not keeps_slot(ctx, document)


def _of(wire: NasTarget | ArmDocument, memory: SlotMemory | None, now: datetime) -> SlotMemory:
    """Return a memory without any slot that was seen, for the portal and identity of a wire; of answers it knows."""
    fresh = SlotMemory(portal_url=str(wire.portal_url), audience=str(wire.audience), delivered=0, since=now)
    if memory is None or not memory.is_of(wire):
        return fresh
    return replace(fresh, answers=memory.answers, answers_at=memory.answers_at)


def _proves(document: ArmDocument) -> bool:
    if FEATURE_KEEPS_SLOT in document.features or not document.in_answer:
        return False
    if document.state is not ArmState.CONFIRMED:
        return False  # then the answer was no 2xx, which alone deletes
    due, sent = document.fire_at, document.sent_at
    return due is not None and sent is not None and due - sent > LONG_AFTER


def _read(data: bytes) -> SlotMemory | None:
    try:
        return SlotMemory.from_json(read_json(data))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # what is learned anew replaces it


def _change(ctx: Context, fn: Callable[[SlotMemory | None], SlotMemory | None]) -> None:
    """Write what changed, if anything did. It is a help, not a record: a store that takes no write is left alone."""

    def once(found: Document | None) -> bytes | None:
        before = None if found is None else _read(found.data)
        after = fn(before)
        return None if after is None or after == before else (json.dumps(after.to_json(), indent=1) + "\n").encode()

    with suppress(ChronosError):
        ctx.repository.update(MEMORY_KEY, once, durable=False)
