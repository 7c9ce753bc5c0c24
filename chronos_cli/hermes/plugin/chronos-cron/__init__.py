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

    from chronos_cli.hermes.provider import make_provider

    ctx.register_cron_scheduler(make_provider(CronScheduler))
