"""The document of ticks, `cron/tick.json`: when the last two ran, and since when something installed runs them.

    {"at": ISO, "before": ISO, "installed": ISO}

It is not in the job store, which a tick must not rewrite for that. One tick is no trigger: a person may have run it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import DocumentError, TemporaryError
from chronos_cli.frozen import frozen, replace
from chronos_cli.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.store.interface import Document
    from chronos_cli.store.repository import Repository

TICK_KEY: Final = "cron/tick.json"


@frozen
class Ticks:
    """The last tick (`at`), the one before it, and when a trigger of ticks was installed; None where not known."""

    at: datetime | None = None
    before: datetime | None = None
    installed: datetime | None = None


def read_ticks(repository: Repository) -> Ticks:
    """Return what is known of ticks. Something unreadable there means that nothing is."""
    try:
        found = repository.read(TICK_KEY)
    except DocumentError:
        return Ticks()
    return _read(None if found is None else found.data)


def _read(data: bytes | None) -> Ticks:
    try:
        value = {} if data is None else read_json(data)
    except ValueError:
        return Ticks()
    if not isinstance(value, dict):
        return Ticks()
    return Ticks(**{name: _instant(value.get(name)) for name in ("at", "before", "installed")})


def note_tick(repository: Repository, now: datetime) -> None:
    """Write down that a tick runs, where that can be."""
    _note(  # that it is there already is our own write, whose answer was lost
        repository, lambda known: known if known.at == now else replace(known, at=now, before=known.at)
    )


def note_installed(repository: Repository, at: datetime | None) -> None:
    """Write down since when ticks are installed to run by themselves, or, with None, that they are no more."""
    _note(repository, lambda known: replace(known, installed=at))


def _note(repository: Repository, fn: Callable[[Ticks], Ticks]) -> None:
    def after(found: Document | None) -> bytes:
        known = fn(_read(None if found is None else found.data))
        moments = {"at": known.at, "before": known.before, "installed": known.installed}
        return json.dumps({name: at.isoformat() for name, at in moments.items() if at is not None}).encode()

    with suppress(DocumentError, TemporaryError):
        repository.update(TICK_KEY, after, durable=False)


def _instant(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None  # nothing that we wrote
    return moment if moment is not None and moment.tzinfo is not None else None
