"""What every operation is handed: documents, clock, the way to NAS, the machine. Nothing is looked up elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from chronos_cli.core.job import Home
    from chronos_cli.nas.interface import Nas
    from chronos_cli.running.interface import Processes
    from chronos_cli.store.repository import Repository


def _no_stop(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """Where arms go and under which identity: part of every arm document."""

    portal_url: str
    callback_url: str
    audience: str
    connect: Callable[[float], Nas]
    """Open the way to NAS, with a budget in seconds for all that is asked of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many rows of a job are kept whatever their age, and how long the others."""

    keep: int = 50
    days: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
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
    checkpoint: Callable[[str], None] = _no_stop
    """Called at every named step; a test hook stops the process there."""
