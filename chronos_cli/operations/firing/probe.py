"""The probe: one fire of a job that is none, to prove the whole way from here to NAS and back.

`doctor --probe` writes down what it expects in `cron/probe.json` and has NAS call. A fire for the probe's id is
verified like any other, and then only written down there. Where it is the one expected, the callback also has NAS hold
another instant before it answers: whether that is still held after the 2xx shows if NAS keeps the slot.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.errors import ChronosError
from chronos_cli.frozen import frozen, names, replace
from chronos_cli.nas_client.interface import ArmRequest
from chronos_cli.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.operations.context import Context
    from chronos_cli.store.interface import Document

PROBE_ID: Final = "chronos.probe"
"""The job id that is reserved for it."""

PROBE_KEY: Final = "cron/probe.json"
LATER: Final = timedelta(hours=1)
"""Distance of the second instant: never reached, since the probe cancels it."""

_BUDGET_S: Final = 10.0
_INSTANTS: Final = ("fire_at", "sent_at", "received_at", "again")


@frozen
class Probe:
    """The probe's document. Instants are aware.

    `again`: the instant that was armed during the fire; `again_error`: why none could be.
    """

    fire_at: datetime
    sent_at: datetime
    callback_url: str
    received_at: datetime | None = None
    delivery_id: str | None = None
    again: datetime | None = None
    again_error: str | None = None

    @property
    def answered(self) -> bool:
        """Return whether the callback was done with the fire."""
        return self.received_at is not None and (self.again is not None or self.again_error is not None)

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        found = ((name, getattr(self, name)) for name in names(self))
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in found if v is not None}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Probe:
        """Read the stored form. Raises KeyError, TypeError or ValueError."""
        known: dict[str, Any] = {name: document[name] for name in names(cls) if name in document}
        if not all(isinstance(value, str) for value in known.values()):
            raise TypeError("every member is a text")
        instants: dict[str, Any] = {name: datetime.fromisoformat(known[name]) for name in _INSTANTS if name in known}
        if not all(moment.tzinfo for moment in instants.values()):
            raise ValueError("an instant needs a UTC offset")
        return cls(**known | instants)


def read_probe(ctx: Context) -> Probe | None:
    """Return the last probe's document, None where there is none that can be read."""
    try:
        found = ctx.repository.read(PROBE_KEY)
    except ChronosError:
        return None  # as good as none: what then reads or writes it says why
    return None if found is None else _read(found.data)


def _read(data: bytes) -> Probe | None:
    try:
        return Probe.from_json(read_json(data))
    except (ValueError, KeyError, TypeError):
        return None  # a new probe replaces it


def expect(ctx: Context, probe: Probe) -> None:
    """Write down what is expected, in place of the last probe. Raises StoreError, TemporaryError."""
    _change(ctx, lambda _: probe)


def receive(ctx: Context, fire_at: datetime | None, delivery: str | None) -> str:
    """Take a verified fire of the probe's id: runs nothing. Returns what it was, for the answer.

    An unexpected one (a late redelivery) is answered like the others, so that it is not sent again. Raises
    StoreError, TemporaryError: then NAS tries again.
    """
    now = ctx.clock()
    before = read_probe(ctx)
    if before is None or before.received_at is not None or fire_at not in (None, before.fire_at):
        return "no probe waits for this fire"
    noted = replace(before, received_at=now, delivery_id=delivery)
    _change(ctx, lambda stored: noted if stored == before else stored)
    try:
        again = _arm_again(ctx, now)
        done = replace(noted, again=again)
    except ChronosError as error:
        done = replace(noted, again_error=error.message)
    _change(ctx, lambda stored: done if stored == noted else stored)
    return "the probe arrived"


def _arm_again(ctx: Context, now: datetime) -> datetime:
    wire = ctx.require_wire()
    at = now.replace(microsecond=0) + LATER
    with wire.connect(_BUDGET_S) as nas:
        nas.provision(ArmRequest(job_id=PROBE_ID, fire_at=at, callback_url=wire.callback_url))
    return at


def _change(ctx: Context, fn: Callable[[Probe | None], Probe | None]) -> None:
    def once(found: Document | None) -> bytes | None:
        before = None if found is None else _read(found.data)
        after = fn(before)
        return None if after is None or after == before else (json.dumps(after.to_json(), indent=1) + "\n").encode()

    ctx.repository.update(PROBE_KEY, once, durable=False)
