"""What a command cannot do without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.errors import ConfigError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.operations.context import Context


def require_nas(invocation: Invocation, context: Context) -> None:
    """Refuse to go on where no NAS is configured. Raises ConfigError."""
    if context.wire is None:
        config = invocation.config()
        missing = "portal_url" if not config.portal_url else "callback_url"
        raise ConfigError(
            f"no NAS is configured: cron.chronos.{missing} is not set",
            hint=f"set it in {config.path}, see `chronos init`",
        )
