"""Trigger providers: they make jobs fire. Other packages implement this; it grows only by methods with defaults.

A provider decides *when* a job is looked at. What a look means (claim, run, record) is the same for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from chronos_cli.config import Config
    from chronos_cli.operations.context import Context
    from chronos_cli.store.arms.document import ArmDocument


@frozen
class Notified:
    """The result of telling the provider of a changed job.

    `armed`: a remote authority now holds what the job wishes (None: this provider arms nothing). `document`: what is
    known of the arm. `note`: what of the wish the authority cannot do, for a warning.
    """

    armed: bool | None
    document: ArmDocument | None = None
    note: str | None = None


class CronScheduler(ABC):
    """A trigger provider. `name`, `start` are required; everything else has a default that is right for a local one."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Return its name in `cron.provider`."""

    @property
    def server_time(self) -> datetime | None:
        """Return the authority's clock as it was last heard; None where there is none, or it was not heard."""
        return None

    def is_available(self) -> bool:
        """Return whether it is configured here. Looks at configuration only, never at the network, and runs nothing."""
        return True

    def unavailable_because(self) -> str | None:
        """Return why `is_available` is False, for the one warning; None where it is True."""
        return None if self.is_available() else "it is not configured"

    @abstractmethod
    def start(self, *args: Any, **kwargs: Any) -> None:
        """Arm what is to be armed, and return; nothing stays behind."""

    def stop(self) -> None:  # noqa: B027 - a default, not a duty
        """Let go of what `start` took hold of."""

    def on_jobs_changed(self) -> None:  # noqa: B027 - a default, not a duty
        """Follow a change of jobs that are not known one by one (an import, a hold lifted)."""

    def follow(self, gone: Collection[str]) -> object:
        """Follow a person's change of jobs, and the removal of those in `gone`. Returns what was done, or None."""
        del gone
        self.on_jobs_changed()
        return None

    def register_job(self, job_id: str) -> Notified:
        """Make the trigger follow one job that was added, edited, paused, resumed or removed.

        Raises what the provider's authority raises; the change of the job stands either way.
        """
        del job_id
        self.on_jobs_changed()
        return Notified(armed=None)

    def fire_due(self, job_id: str, **kwargs: Any) -> bool:
        """Run a job if something of it is due, under the one claim; whether anything was started."""
        del job_id, kwargs
        return False

    def reconcile(self) -> object:
        """Make the authority agree with the store. Returns what was done, or None."""
        return None


@frozen
class Activation:
    """The parts that a provider is made from: the home's configuration and context."""

    config: Config
    context: Context
