"""The built-in trigger: `chronos tick`, run by cron, a systemd timer or a CronJob. Always there, arms nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.providers.interface import CronScheduler

if TYPE_CHECKING:
    from chronos_cli.providers.interface import Activation

NAMES = frozenset({"", "builtin", "in-process", "inprocess"})
"""The values of `cron.provider` that mean this one."""


class BuiltinScheduler(CronScheduler):
    """Jobs fire when a tick finds them due."""

    def __init__(self, activation: Activation) -> None:
        self._activation = activation

    @property
    def name(self) -> str:
        """Return `builtin`."""
        return "builtin"

    def start(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: there is nothing to arm, as the tick reads the store."""
        del args, kwargs

    def fire_due(self, job_id: str, **kwargs: Any) -> bool:
        """Run a job now if it is due."""
        from chronos_cli.operations.firing.fire import fire
        from chronos_cli.operations.firing.launchers import InlineLauncher

        del kwargs
        try:
            report = fire(self._activation.context, job_id, fire_at=None, delivery=None, launcher=InlineLauncher())
        finally:
            self._activation.context.send_alerts()
        return bool(report.started)
