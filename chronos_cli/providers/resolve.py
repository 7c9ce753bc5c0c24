"""Which provider is active, and why. Jobs are never left without a trigger: the built-in one is always the net."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.frozen import frozen
from chronos_cli.providers.builtin import NAMES, BuiltinScheduler
from chronos_cli.providers.interface import Activation

if TYPE_CHECKING:
    from chronos_cli.config import Config
    from chronos_cli.operations.context import Context
    from chronos_cli.providers.interface import CronScheduler


@frozen
class Resolved:
    """The active provider. `wanted` is what the configuration names; `warning` why it is not that one."""

    provider: CronScheduler
    wanted: str
    warning: str | None = None


def resolve_provider(config: Config, context: Context) -> Resolved:
    """The provider that `cron.provider` names, if it can work here; else the built-in one. Never raises.

    On standby none of them is asked or told anything.
    """
    wanted = config.provider.strip()
    if context.standby:
        from chronos_cli.providers.standby import StandbyScheduler

        warning = f"nothing is armed or fires here: this machine is on standby ({context.standby})"
        return Resolved(provider=StandbyScheduler(), wanted=wanted or "builtin", warning=warning)
    activation = Activation(config=config, context=context)
    builtin = BuiltinScheduler(activation)
    if wanted in NAMES:
        return Resolved(provider=builtin, wanted=wanted or "builtin")
    found, problem = _load(wanted, activation)
    if found is not None and problem is None:
        try:
            problem = None if found.is_available() else found.unavailable_because() or "it is not available"
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; the net must hold
            problem = f"asking whether it is available failed: {type(error).__name__}: {error}"
    if found is None or problem is not None:
        warning = f"cron.provider '{wanted}' cannot be used ({problem}); the built-in trigger takes its place"
        return Resolved(provider=builtin, wanted=wanted, warning=warning)
    return Resolved(provider=found, wanted=wanted)


def _load(name: str, activation: Activation) -> tuple[CronScheduler | None, str | None]:
    if name == "chronos":
        from chronos_cli.providers.chronos import ChronosScheduler

        return ChronosScheduler(activation), None
    from chronos_cli.providers.plugins import load_plugin

    return load_plugin(name, activation)
