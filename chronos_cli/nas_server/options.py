"""Options of a serving process."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from chronos_cli.nas_server.addresses import CallbackPolicy
from chronos_cli.nas_server.http.agent_calls import Limits
from chronos_cli.nas_server.relay.backoff import Backoff
from chronos_cli.nas_server.relay.limits import Bounds

if TYPE_CHECKING:
    from pathlib import Path

    from chronos_cli.nas_server.home import NasHome


class Role(StrEnum):
    """The roles of a process: answer the agents, relay due timers, or both."""

    WEB = "web"
    WORKER = "worker"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Serving options. `operator_listen`: host and port where operators need no token, elsewhere `metrics_token`.

    `port` 0 picks a free one. `portal_url`: our public URL, the issuer of tokens, if it differs.
    `require_callback_proof`: take and call no callback that has not proved whose it is.
    """

    home: NasHome
    host: str
    port: int
    role: Role = Role.BOTH
    portal_url: str | None = None
    policy: CallbackPolicy = field(default_factory=CallbackPolicy)
    limits: Limits = field(default_factory=Limits)
    bounds: Bounds = field(default_factory=Bounds)
    backoff: Backoff = field(default_factory=Backoff)
    relay_timeout_s: float = 30.0
    ready_file: Path | None = None
    operator_listen: tuple[str, int] | None = None
    metrics_token: str | None = None
    log_file: Path | None = None
    require_callback_proof: bool = False
