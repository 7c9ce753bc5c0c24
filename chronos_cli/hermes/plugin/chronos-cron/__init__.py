"""A Hermes plug-in: hermes-agent's jobs get their timers through chronos-cron. Copy this folder into `plugins/`.

All it does is in the package `chronos_cli`, which must be installed in the environment of hermes-agent; this file only
fits it to hermes' interface. Where chronos itself finds it in a home that both use, it is chronos' own provider.
"""  # noqa: N999 - hermes names a provider by its folder

from __future__ import annotations

from pathlib import Path
from typing import Any

HOME = Path(__file__).absolute().parent.parent.parent


def register(ctx: Any) -> None:
    """Hand the provider over: what hermes calls, and chronos too."""
    try:
        from cron.scheduler_provider import CronScheduler  # type: ignore[import-not-found]
    except ImportError:  # this is chronos, in a home that it shares with hermes
        from chronos_cli.hermes.inside import own_provider

        ctx.register_cron_scheduler(own_provider(HOME))
        return

    class ChronosCron(CronScheduler):  # type: ignore[misc] # hermes' class is there in hermes only
        """The timer of each job is at NAS; a due job runs under chronos' claim."""

        @property
        def name(self) -> str:
            """Return its name in `cron.provider`."""
            return "chronos-cron"

        def is_available(self) -> bool:
            """Return whether chronos is installed and configured; looks at files only."""
            try:
                from chronos_cli.hermes import inside as inside_hermes
            except ImportError:  # not installed here: hermes says so and takes its own trigger
                return False
            return inside_hermes.is_available()

        def start(self, stop_event: Any, *, adapters: Any = None, loop: Any = None, interval: int = 60) -> None:
            """Arm all jobs, judge fire tokens from now on, and return."""
            from chronos_cli.hermes import inside as inside_hermes

            del stop_event, adapters, loop, interval
            self.recover_interrupted()
            inside_hermes.take_verifier()
            self.on_jobs_changed()

        def on_jobs_changed(self) -> None:
            """Make NAS follow the store; a failure is logged, and the next reconcile mends it."""
            from chronos_cli.hermes import inside as inside_hermes

            inside_hermes.follow()

        def fire_due(self, job_id: str, *, adapters: Any = None, loop: Any = None) -> bool:
            """Run what is due of a job, in a process of its own; whether anything was started."""
            from chronos_cli.hermes import inside as inside_hermes

            del adapters, loop
            return inside_hermes.fire_due(job_id)

        def reconcile(self) -> None:
            """Make NAS agree with the store. Raises what chronos raises."""
            from chronos_cli.hermes import inside as inside_hermes

            inside_hermes.reconcile_home()

    ctx.register_cron_scheduler(ChronosCron())
