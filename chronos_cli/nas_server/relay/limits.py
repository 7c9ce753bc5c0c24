"""Limits on calls under way: bounds per host and per agent, and a circuit breaker per host.

So that one agent that is dead or slow delays nobody else: it holds a few workers at most, and while its breaker is open
it holds none. A host that has not answered yet in this process is given few connections at first.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Circuit(StrEnum):
    """Closed lets calls through, open none, half open a single one."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """At most so many relays at once per host and agent; `probation` for a host that has not answered yet.

    The breaker opens after `failures` in a row, for `open_s`, then twice that, up to `open_max_s`.
    """

    per_host: int = 16
    per_agent: int = 16
    probation: int = 4
    failures: int = 5
    open_s: float = 5.0
    open_max_s: float = 60.0


@dataclass(slots=True)
class _Host:
    busy: int = 0
    failures: int = 0
    answered: bool = False
    opened: int = 0
    open_until: float = 0.0


class CallLimits:
    """The state of all hosts and agents that are being called. `clock`: seconds that only grow."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        self.bounds = bounds
        self._clock = clock
        self._hosts: dict[str, _Host] = {}
        self._agents: dict[int, int] = {}
        self._lock = threading.Lock()

    def enter(self, host: str, agent_id: int) -> bool:
        """Take a place for one relay, if there is one."""
        with self._lock:
            state = self._hosts.setdefault(host, _Host())
            if not self._open_to(state) or self._agents.get(agent_id, 0) >= self.bounds.per_agent:
                return False
            state.busy += 1
            self._agents[agent_id] = self._agents.get(agent_id, 0) + 1
            return True

    def leave(self, host: str, agent_id: int, *, healthy: bool | None) -> None:
        """Give the place back. `healthy`: whether the host answered as a live one does; None says nothing about it."""
        with self._lock:
            state = self._hosts[host]
            state.busy -= 1
            left = self._agents[agent_id] - 1
            if left:
                self._agents[agent_id] = left
            else:
                del self._agents[agent_id]
            if healthy:
                state.failures, state.opened, state.answered, state.open_until = 0, 0, True, 0.0
            elif healthy is False:
                self._failed(state)
            if not state.busy and not state.failures and not state.opened and len(self._hosts) > 10_000:
                del self._hosts[host]

    def blocked(self) -> tuple[list[str], list[int]]:
        """The hosts and agents that have no place just now."""
        with self._lock:
            hosts = [name for name, state in self._hosts.items() if not self._open_to(state)]
            agents = [agent for agent, busy in self._agents.items() if busy >= self.bounds.per_agent]
            return hosts, agents

    def wait_s(self, host: str) -> float:
        """Return how long until it is worth asking again for a place at this host."""
        with self._lock:
            state = self._hosts.get(host)
            return 0.0 if state is None else max(0.0, state.open_until - self._clock())

    def circuits(self) -> dict[str, Circuit]:
        """The breakers that are not closed, by host."""
        with self._lock:
            now = self._clock()
            return {
                name: Circuit.OPEN if state.open_until > now else Circuit.HALF_OPEN
                for name, state in self._hosts.items()
                if state.opened
            }

    def _open_to(self, state: _Host) -> bool:
        if state.opened:
            return state.open_until <= self._clock() and state.busy == 0
        return state.busy < (
            self.bounds.per_host if state.answered else min(self.bounds.probation, self.bounds.per_host)
        )

    def _failed(self, state: _Host) -> None:
        state.failures += 1
        now = self._clock()
        if state.failures < self.bounds.failures or state.open_until > now:
            return
        state.opened += 1
        state.open_until = now + min(self.bounds.open_max_s, self.bounds.open_s * 2 ** min(state.opened - 1, 16))
