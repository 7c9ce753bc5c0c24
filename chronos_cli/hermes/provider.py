"""The provider that the plug-in folder hands to hermes-agent: hermes' interface before, our operations behind."""

from __future__ import annotations

from typing import Any

from chronos_cli.errors import RefusedError
from chronos_cli.hermes import inside


def make_provider(base: Any) -> Any:
    """Return our provider, made for a version of hermes: `base` is its interface, `CronScheduler`."""
    return type("ChronosCron", (ChronosCron, base), {})()


class ChronosCron:
    """The timer of each job is at NAS; a due job runs under chronos' claim.

    Hermes' interface grows: every method takes keywords that it does not know, and what only some versions have is
    called where it is found.
    """

    fires_over_loopback = True
    """Newer versions keep up the server that fires come in by for a provider that says so."""

    def __init__(self) -> None:
        self._ticker: Any = None
        self._begin_ticker: Any = None

    @property
    def name(self) -> str:
        """Return its name in `cron.provider`."""
        return "chronos-cron"

    def is_available(self) -> bool:
        """Return whether chronos is configured; looks at files only."""
        return inside.is_available()

    def start(self, stop_event: Any, **given: Any) -> None:
        """Arm all jobs, judge fire tokens from now on, and return; where NAS refuses us, hermes ticks itself."""
        recover = getattr(self, "recover_interrupted", None)
        if recover is not None:
            recover()
        inside.take_verifier()
        self._begin_ticker = lambda: inside.start_ticker(stop_event, given)
        self.on_jobs_changed()

    def on_jobs_changed(self) -> None:
        """Make NAS follow the store; a failure is logged, and the next reconcile mends it."""
        if inside.follow():
            self._fall_back()

    def register_job(self, job: Any, **_: Any) -> None:
        """Arm a job that was just made, given as its record or its id. Raises what NAS raises, for its maker."""
        try:
            inside.register(job)
        except RefusedError:
            self._fall_back()
            raise

    def claim_fire(self, job_id: str, *, force: bool = False, manual: bool = False, **_: Any) -> Any:
        """Take what is due of a job and start it; what `fire_claimed` is to be given, or None.

        `manual`, `force`: a person asks for a run now, which is none of the schedule's.
        """
        return inside.claim(job_id, asked=manual or force)

    def fire_claimed(self, claimed_job: Any, *, cancel_event: Any = None, **_: Any) -> bool:
        """Wait for the end of a claimed run; it goes on by itself where the caller stops waiting."""
        return inside.finish(claimed_job, cancel_event)

    def fire_due(self, job_id: str, *, force: bool = False, manual: bool = False, **_: Any) -> bool:
        """Run what is due of a job, in a process of its own, to its end; whether anything was started."""
        claimed = self.claim_fire(job_id, force=force, manual=manual)
        return claimed is not None and self.fire_claimed(claimed)

    def rearm_aborted_claim(self, claimed_job: Any, **_: Any) -> None:
        """Arm what a claim left to be armed that hermes gave up: the run has begun, and is told of by its row."""
        del claimed_job
        self.on_jobs_changed()

    def reconcile(self) -> None:
        """Make NAS agree with the store. Raises what chronos raises."""
        inside.reconcile_home()

    def _fall_back(self) -> None:
        if self._ticker is None and self._begin_ticker is not None:
            self._ticker = self._begin_ticker()
