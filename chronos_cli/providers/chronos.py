"""The chronos trigger: NAS holds one one-shot per job and calls back when it is due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.contract import FEATURE_SPREAD
from chronos_cli.core.plan import HELD_STATES, Removals
from chronos_cli.operations.arming.arm import FIRE_BUDGET_S, arm
from chronos_cli.operations.arming.reconcile import ReconcileResult, reconcile
from chronos_cli.operations.evaluate import present_wake
from chronos_cli.operations.firing.fire import fire
from chronos_cli.providers.interface import CronScheduler, Notified

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from chronos_cli.providers.interface import Activation


class ChronosScheduler(CronScheduler):
    """Arms at NAS. Every method talks to NAS at most once per job, and returns."""

    def __init__(self, activation: Activation) -> None:
        self._config = activation.config
        self._context = activation.context
        self._heard: datetime | None = None

    @property
    def name(self) -> str:
        """Return `chronos`."""
        return "chronos"

    @property
    def server_time(self) -> datetime | None:
        """Return NAS's clock, by its last answer about a job."""
        return self._heard

    def is_available(self) -> bool:
        """Return whether both URLs and a token source are configured."""
        return self.unavailable_because() is None

    def unavailable_because(self) -> str | None:
        """Return what is missing from the configuration."""
        from chronos_cli.nas_client.tokens import HomeTokens

        for key, value in (("portal_url", self._config.portal_url), ("callback_url", self._config.callback_url)):
            if not value:
                return f"cron.chronos.{key} is not set"
        if self._context.wire is None:
            return "NAS is left out of this command"
        return HomeTokens.of(self._config, self._context.environ).problem()

    def start(self, *args: Any, **kwargs: Any) -> None:
        """Arm all jobs and return."""
        del args, kwargs
        self.reconcile()

    def on_jobs_changed(self) -> None:
        """Make NAS follow all changes."""
        self.reconcile()

    def register_job(self, job_id: str) -> Notified:
        """Provision the job's present wake, or cancel where it has none. Raises StandbyError, and what NAS raises."""
        self._context.must_be_active(f"arming job {job_id}")
        wire = self._context.wire
        if wire is None:
            return Notified(armed=None)
        wake = present_wake(self._context, job_id)
        with wire.connect(FIRE_BUDGET_S) as nas:
            try:
                document = arm(self._context, nas, job_id, wake)
            finally:
                self._heard = nas.server_time
        spreads = wake is None or not wake.tolerance or FEATURE_SPREAD in document.features
        note = None if spreads else f"NAS spreads nothing: job {job_id} is called at its instant all the same"
        return Notified(armed=wake is not None and document.state in HELD_STATES, document=document, note=note)

    def fire_due(self, job_id: str, **kwargs: Any) -> bool:
        """Settle a job as a relay without an instant would; whether anything was started."""
        from chronos_cli.operations.firing.launchers import InlineLauncher

        del kwargs
        try:
            report = fire(self._context, job_id, fire_at=None, delivery=None, launcher=InlineLauncher())
        finally:
            self._context.send_alerts()
        return bool(report.started)

    def reconcile(self) -> ReconcileResult:
        """Make NAS's arms equal to the store's wishes."""
        return self.follow(())

    def follow(self, gone: Collection[str]) -> ReconcileResult:
        """Make NAS's arms equal to the store's wishes, after jobs of these ids were taken out."""
        try:
            return reconcile(self._context, removals=Removals(gone=frozenset(gone)))
        finally:
            self._context.send_alerts()
