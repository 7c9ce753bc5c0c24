"""Requests that were let in, and the routes that they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.http import web
    from chronos_cli.nas_server.timers.model import Agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path's method, handler, and largest body; 0 where none is read."""

    method: str
    handler: Callable[[Admission], web.Response]
    most: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A request that was let in by its header: of an agent, or to a path that is open."""

    request: web.Request
    route: Route
    agent: Agent | None = None

    @property
    def most(self) -> int:
        """Return the largest body that is read."""
        return self.route.most

    @property
    def admitted(self) -> Agent:
        """Return the agent, on the paths that only agents reach."""
        if self.agent is None:
            raise TypeError(f"{self.request.path} is open to everybody")
        return self.agent
