"""Context of every operation: documents, clock, the way to NAS, the machine. Nothing is looked up elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from chronos_cli.core.clock import Trust, judged
from chronos_cli.errors import ConfigError, StandbyError, TemporaryError
from chronos_cli.frozen import field, frozen, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from chronos_cli.core.job import HomeDefaults, Job
    from chronos_cli.core.row import Row
    from chronos_cli.nas_client.interface import Nas
    from chronos_cli.running.interface import Processes
    from chronos_cli.store.repository import Repository


def _no_stop(_: str) -> None:
    return None


@frozen
class NasTarget:
    """Portal and identity under which arms go: part of every arm document."""

    portal_url: str
    callback_url: str
    audience: str
    connect: Callable[[float], AbstractContextManager[Nas]]
    """Open the way to NAS, with a budget in seconds for all that is asked of it."""


@frozen
class Retention:
    """Number of rows of a job that are kept at any age, and how long the others are."""

    keep: int = 50
    days: int = 30


@frozen
class FleetJobs:
    """The jobs of the other homes of a fleet, which may be known at NAS under the same identity as this one.

    `profile_of`: the profile that has a job, by job id. `may_wake`: that in which it may have a timer. `same_agent`:
    those of them in a home that names no other audience than this one: a namesake here has the same slot at NAS.
    `instants`: the next and the last time of each of those. `unread`: why a profile's jobs are not known, by its name;
    `foreign`: which of these are another user's.
    """

    profile_of: Mapping[str, str] = field(default_factory=dict)
    may_wake: Mapping[str, str] = field(default_factory=dict)
    same_agent: frozenset[str] = frozenset()
    instants: Mapping[str, frozenset[datetime]] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()

    def all_known(self) -> FleetJobs:
        """Return this. Raises TemporaryError where a profile cannot be read: a timer may be for one of its jobs."""
        for name, why in self.unread.items():
            hint = "mend that profile first: until then nothing is cancelled that may be its own"
            raise TemporaryError(f"the jobs of the profile {name} are not known: {why}", hint=hint)
        return self


def _steady() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@frozen
class Context:
    """The outside, injected. `wire` is None where no NAS is configured: then nothing is armed."""

    home: HomeDefaults
    repository: Repository
    processes: Processes
    clock: Callable[[], datetime]
    token: Callable[[], str]
    environ: Mapping[str, str] = field(default_factory=dict)
    """The environment this process was started with, its secrets included: for those that must find them."""
    wire: NasTarget | None = None
    unset: str = "cron.chronos.portal_url"
    """The setting that lacks where `wire` is None, and below the file that it belongs into."""
    settings_file: str = "config.yaml"
    steady: Callable[[], float] = _steady
    """Seconds on the boot clock, which goes on while the machine sleeps, where it has one."""
    trust: Trust = Trust.ALONE
    """Knowledge of the clock, here and now."""
    ahead: timedelta | None = None
    """By how much this machine's clock was ahead of the witness's; None where none was heard."""
    retention: Retention = field(default_factory=Retention)
    budget_s: float | None = None
    """The platform's deadline for a synchronous run, which caps its lease; None where there is none."""
    standby: str = ""
    """Where it is said that another machine has the jobs of this store; empty where this one is active."""
    elsewhere: Callable[[], FleetJobs] = FleetJobs
    """Reads the jobs of the other homes of the same fleet: asked only where NAS holds what no job here explains."""
    checkpoint: Callable[[str], None] = _no_stop
    """Called at every named step; a test hook stops the process there."""

    outbox: list[tuple[Job, Row]] = field(default_factory=list)
    """Rows found over, each with its job, of which the on-failure command is still to be told."""

    def send_alerts(self, *, frozen: bool = False) -> None:
        """Tell the on-failure command what is in the outbox; every door does so once its caller waits for nothing else.

        `frozen`: the platform freezes what goes on after the answer, so the command has less time, as it has where
        there is a deadline.
        """
        over = [self.outbox.pop(0) for _ in range(len(self.outbox))]
        if over:
            from chronos_cli.operations.alerts import EACH_WITHIN_S, FROZEN_WITHIN_S, alert

            hurried = frozen or self.budget_s is not None
            alert(self, over, each_within_s=FROZEN_WITHIN_S if hurried else EACH_WITHIN_S)

    def heard(self, witness: datetime | None) -> Context:
        """Return the same outside once another clock was heard (None: it was not); ours is set back where it is ahead.

        What was heard holds for this moment: from here on the time goes by the boot clock, since the
        wall's may be set while this process goes.
        """
        if witness is None:
            return self
        now = self.clock()
        back, trust = judged(now, witness)
        right, since = now - back, self.steady()
        return replace(
            self, trust=trust, ahead=now - witness, clock=lambda: right + timedelta(seconds=self.steady() - since)
        )

    def by_witness(self, witness: datetime | None) -> Context:
        """Return the same outside by NAS's clock where ours contradicts it: for what a person asks for, here and now.

        NAS fires by its own clock, and what comes next can be changed again; nothing is brought back by it.
        """
        if witness is None or judged(self.clock(), witness)[1] is Trust.CONFIRMED:
            return self.heard(witness)
        ahead, since = self.clock() - witness, self.steady()
        return replace(
            self, trust=Trust.CORRECTED, ahead=ahead, clock=lambda: witness + timedelta(seconds=self.steady() - since)
        )

    def require_wire(self) -> NasTarget:
        """Return the way to NAS. Raises ConfigError where none is configured."""
        if self.wire is None:
            hint = f"set it in {self.settings_file}, see `chronos init`"
            raise ConfigError(f"no NAS is configured: {self.unset} is not set", hint=hint)
        return self.wire

    def must_be_active(self, doing: str) -> None:
        """Refuse what only the active machine may do: claim, start, arm, cancel. Raises StandbyError."""
        if self.standby:
            raise StandbyError(f"{doing} is refused: this machine is on standby ({self.standby})")
