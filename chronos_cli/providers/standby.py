"""The trigger of a machine on standby: none. Another machine has the same store and makes its jobs fire."""

from __future__ import annotations

from typing import Any

from chronos_cli.providers.interface import CronScheduler, Notified

NAME = "standby"


class StandbyScheduler(CronScheduler):
    """Arms nothing, fires nothing and follows no change; a command that made one prints a warning that says so."""

    @property
    def name(self) -> str:
        """Return `standby`."""
        return NAME

    def start(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: to arm is the active machine's work."""
        del args, kwargs

    def register_job(self, job_id: str) -> Notified:
        """Leave the change in the store; the active machine's reconcile or tick follows it."""
        del job_id
        return Notified(armed=False)
