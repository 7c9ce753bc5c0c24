"""Choice of the active provider, and why. Jobs always have a trigger: the built-in one is the net."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from chronos_cli.frozen import frozen
from chronos_cli.providers.builtin import NAMES, BuiltinScheduler
from chronos_cli.providers.interface import Activation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from chronos_cli.config import Config
    from chronos_cli.operations.context import Context
    from chronos_cli.providers.interface import CronScheduler, Notified

T = TypeVar("T")


@frozen
class ActiveProvider:
    """The active provider. `wanted` is what the configuration names; `warning` why it is not that one."""

    provider: CronScheduler
    wanted: str
    warning: str | None = None

    def register_job(self, job_id: str) -> Notified:
        """Tell the provider of one job. Raises ChronosError, also for any error of a plug-in."""
        return self._told(lambda: self.provider.register_job(job_id))

    def on_jobs_changed(self) -> None:
        """Tell the provider that jobs changed. Raises ChronosError, also for any error of a plug-in."""
        self._told(self.provider.on_jobs_changed)

    def follow(self, gone: Collection[str]) -> object:
        """Tell the provider that a person changed jobs. Raises ChronosError, also for any error of a plug-in."""
        return self._told(lambda: self.provider.follow(gone))

    @property
    def is_plug_in(self) -> bool:
        """Return whether it is neither one of our own nor what takes the place of another."""
        return self.warning is None and self.wanted != "chronos" and self.wanted not in NAMES

    def _told(self, call: Callable[[], T]) -> T:
        if not self.is_plug_in:
            return call()
        from chronos_cli.providers.plugins import tell_plugin

        return tell_plugin(self.wanted, call)


def resolve_provider(config: Config, context: Context) -> ActiveProvider:
    """Return the provider that `cron.provider` names, if it can work here; else the built-in one. Never raises.

    On standby none of them is asked or told anything.
    """
    wanted = config.provider.strip()
    if context.standby:
        from chronos_cli.providers.standby import StandbyScheduler

        warning = f"nothing is armed or fires here: this machine is on standby ({context.standby})"
        return ActiveProvider(provider=StandbyScheduler(), wanted=wanted or "builtin", warning=warning)
    activation = Activation(config=config, context=context)
    builtin = BuiltinScheduler(activation)
    if wanted in NAMES:
        return ActiveProvider(provider=builtin, wanted=wanted or "builtin")
    found, problem = _load(wanted, activation)
    if found is None or problem is not None:
        warning = f"cron.provider '{wanted}' cannot be used ({problem}); the built-in trigger takes its place"
        return ActiveProvider(provider=builtin, wanted=wanted, warning=warning)
    return ActiveProvider(provider=found, wanted=wanted)


def _load(name: str, activation: Activation) -> tuple[CronScheduler | None, str | None]:
    if name == "chronos":
        from chronos_cli.providers.chronos import ChronosScheduler

        ours = ChronosScheduler(activation)
        return ours, ours.unavailable_because()
    from chronos_cli.providers.plugins import ask_plugin, load_plugin

    found, problem = load_plugin(name, activation)
    return found, problem if found is None else ask_plugin(found)
