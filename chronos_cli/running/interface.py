"""Interface to the machine: lock a run, begin its process, wait for its end, tell whether another's lives.

The real one is `running.local`; the simulation brings its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from chronos_cli.core.decision import Liveness
    from chronos_cli.core.row import Row, RunResult, RunState


@frozen
class Task:
    """One attempt to be begun. `record` is the job's; `fire_at` None for a manual run.

    `inherit_env`: as in its policy; `zone_name`: that of its schedule.
    """

    record: Mapping[str, Any]
    job_id: str
    run_id: str
    fire_at: datetime | None
    attempt: int
    inherit_env: tuple[str, ...] | None = None
    zone_name: str = "UTC"


@frozen
class AttemptEnd:
    """End of an attempt: `ok`, `failed`, `timeout` or `interrupted`."""

    state: RunState
    exit_status: int | None = None
    reason: str | None = None


class Echo(Protocol):
    """Shows what a job prints while it runs; it never waits for a slow reader."""

    def show(self, data: bytes) -> None:
        """Show this next."""

    def go_on(self) -> None:
        """Show what had to wait, as far as that can be done now."""


class Attempt(ABC):
    """An attempt whose process goes."""

    output: str | None
    """The key of its captured output, if it has any."""

    @abstractmethod
    def wait(self) -> AttemptEnd:
        """Wait for the end: of the job, of its time, or by a signal. Ends what is left of its process group."""

    def first_of(self, others: Sequence[Attempt]) -> Attempt:
        """Wait until one of these, itself among them, is over, and return it: its `wait` then returns at once."""
        del others
        return self

    def keep_output(self) -> None:
        """Bring the output to its key, where that is elsewhere. Raises ChronosError or OSError."""
        return None  # noqa: RET501 - it is where it belongs


class LockedRun(ABC):
    """Run whose lock this process holds, from before its row says `running` until after its end."""

    owner: Mapping[str, Any]
    """Owner, as the row records it."""

    unhandled: tuple[str, ...] = ()
    """Fields of the record that nothing here acts on."""

    @abstractmethod
    def begin(self, *, lease_ends_at: datetime | None, timeout_s: float) -> Attempt:
        """Start the job's process. Raises ActionError or OSError where it cannot be started.

        `timeout_s` counts suspended time. `lease_ends_at`: where the platform may stop time itself, the wall clock's
        instant at which the run is over as well.
        """

    @abstractmethod
    def conclude(self, result: RunResult, *, durable: bool) -> None:
        """Write the result beside the lock, where it is found if the row cannot be written. Raises OSError."""

    @abstractmethod
    def release(self, *, keep: bool = False) -> None:
        """Let go of the lock, and of all that stands beside it; `keep` that where the run's end is not on record."""


class Processes(ABC):
    """The machine's side of runs."""

    @abstractmethod
    def lock(self, task: Task) -> LockedRun:
        """Take the lock of one attempt. Raises ChronosError where no lock can be had."""

    @abstractmethod
    def liveness(self, row: Row) -> Liveness:
        """Return whether a run's owner lives, as far as this machine can know; sends no signal."""

    def result(self, row: Row) -> RunResult | None:
        """Return how a run ended whose row still says `running`, where its own process has written that down here."""
        del row
        return None

    def forget(self, row: Row) -> None:
        """Remove what stands beside the lock of a run whose end is on record now. Never raises."""
        del row

    def sweep(self, in_hand: Callable[[str, str], bool]) -> None:
        """Remove what stands beside old locks but of runs that are `in_hand(job_id, run_id)`. Never raises OSError."""
        del in_hand

    @property
    def results_are_seen(self) -> bool:
        """Return whether every look at this store sees what stands beside a lock, since both lie in one place."""
        return False

    @property
    def told_to_stop(self) -> bool:
        """Return whether this process was told to stop."""
        return False

    def found(self, job_id: str, run_id: str) -> tuple[Mapping[str, Any], bool] | None:
        """Return the owner of a run whose row cannot be read, as far as a lock tells it, and whether that is held.

        None where it has none here.
        """
        del job_id, run_id
        return None

    @abstractmethod
    def end_leftovers(self, row: Row) -> None:
        """End what is left of a run whose owner is dead or past its lease, before its row is settled."""

    def show(self, run_id: str, echo: Echo) -> None:
        """Have the output of a run shown while it goes, if it is begun in this process."""
        del run_id, echo

    def ask_to_end(self, row: Row) -> bool:
        """Ask the supervisor of a run to end it, soon; sends no signal. Returns whether it can be asked from here."""
        del row
        return False

    def elapsed(self, owner: Mapping[str, Any]) -> float | None:
        """Return the seconds since an owner took its lock, by the boot clock; None where this machine cannot tell."""
        del owner
        return None

    def alert(self, argv: Sequence[str], event: bytes, *, facts: Mapping[str, str], timeout_s: float) -> str | None:
        """Run an on-failure command with an event on its stdin and `facts` as variables; None, or why it failed."""
        del argv, event, facts, timeout_s
        return "cannot be run here"
