"""Finding providers that others wrote: entry points, and folders in the home."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chronos_cli.providers.interface import Activation, CronScheduler


def load_plugin(name: str, activation: Activation) -> tuple[CronScheduler | None, str | None]:
    """The provider of that name, or None with the reason."""
    del activation
    return None, f"there is no provider '{name}'"
