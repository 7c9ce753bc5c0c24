"""What every operation is handed: documents, clock, the way to NAS, the machine. Nothing is looked up elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.errors import StandbyError
from chronos_cli.frozen import field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from chronos_cli.core.job import Home
    from chronos_cli.nas.interface import Nas
    from chronos_cli.running.interface import Processes
    from chronos_cli.store.repository import Repository


def _no_stop(_: str) -> None:
    return None


@frozen
class Wire:
    """Where arms go and under which identity: part of every arm document."""

    portal_url: str
    callback_url: str
    audience: str
    connect: Callable[[float], Nas]
    """Open the way to NAS, with a budget in seconds for all that is asked of it."""


@frozen
class Retention:
    """How many rows of a job are kept whatever their age, and how long the others."""

    keep: int = 50
    days: int = 30


@frozen
class Context:
    """The outside, injected. `wire` is None where no NAS is configured: then nothing is armed."""

    home: Home
    repository: Repository
    processes: Processes
    clock: Callable[[], datetime]
    token: Callable[[], str]
    environ: Mapping[str, str] = field(default_factory=dict)
    """The environment this process was started with, its secrets included: for those that must find them."""
    wire: Wire | None = None
    retention: Retention = field(default_factory=Retention)
    budget_s: float | None = None
    """The platform's deadline for a synchronous run, which caps its lease; None where there is none."""
    standby: str = ""
    """Where it is said that another machine has the jobs of this store; empty where this one is active."""
    checkpoint: Callable[[str], None] = _no_stop
    """Called at every named step; a test hook stops the process there."""

    def must_be_active(self, doing: str) -> None:
        """Refuse what only the active machine may do: claim, start, arm, cancel. Raises StandbyError."""
        if self.standby:
            raise StandbyError(f"{doing} is refused: this machine is on standby ({self.standby})")
