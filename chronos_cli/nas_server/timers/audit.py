"""The record of changes to agents and keys: one row a change, written with it, never changed and never deleted here."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.timers.interface import Backend, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change. `actor`: the user and machine that made it; `at`: seconds since the epoch."""

    at: float
    actor: str
    action: str
    subject: str
    detail: dict[str, object]


def record(session: Session, at: float, action: str, subject: str, **detail: object) -> None:
    """Write a change down, in the transaction that makes it. `detail` holds no secret."""
    session.run(
        "INSERT INTO audit (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)",
        (at, _actor(), action, subject, json.dumps(detail, sort_keys=True)),
    )


def record_alone(backend: Backend, clock: Callable[[], float], action: str, subject: str, **detail: object) -> None:
    """Write down a change that was made elsewhere: keys are files."""
    backend.write(lambda session: record(session, clock(), action, subject, **detail))


def entries(backend: Backend, limit: int) -> list[AuditEntry]:
    """Return the latest changes, the latest first."""
    rows = backend.read(
        lambda session: session.all(
            "SELECT at, actor, action, subject, detail FROM audit ORDER BY id DESC LIMIT ?", (limit,)
        )
    )
    return [
        AuditEntry(at=row[0], actor=row[1], action=row[2], subject=row[3], detail=json.loads(row[4])) for row in rows
    ]


def _actor() -> str:
    """Return the user, by number where it has no name, and the machine; behind sudo the user that called it."""
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    before = os.environ.get("SUDO_USER")
    return f"{before + ' as ' if before else ''}{name}@{socket.gethostname()}"
