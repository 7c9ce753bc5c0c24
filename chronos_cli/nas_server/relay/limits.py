"""Limits on calls under way: fair shares between agents, a window and a circuit breaker per host.

An agent may hold as many calls as are free besides: one alone gets half of all, five greedy ones leave a sixth for
others. A host's window opens with each quick and healthy answer and closes with failures: slow answers cost the slow.
Where agents share a host, each has a few places there of its own, also when the others hold all the rest.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K")

QUICK_S = 1.0
SLOW_S = 2.0

SHARED = 64
"""The calls to one host up to which an agent finds places of its own beyond the window, fewer as they are taken."""

KNOWN = 10_000
"""The hosts that are remembered; beyond it those that are not called just now are forgotten, the oldest first."""


class Circuit(StrEnum):
    """Closed lets calls through, open none, half open a single one."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """At most so many calls at once in `total`, per host and per agent.

    A host begins with `probation` places until it answered, then has `floor` to `per_host` of them. The breaker opens
    after `failures` in a row, for `open_s`, then twice that, up to `open_max_s`; then one call is the probe.
    """

    total: int = 1024
    per_host: int = 512
    per_agent: int = 512
    probation: int = 4
    floor: int = 16
    failures: int = 5
    open_s: float = 5.0
    open_max_s: float = 60.0


@dataclass(slots=True)
class _Host:
    busy: int = 0
    window: int = 0
    failures: int = 0
    opened: int = 0
    open_until: float = 0.0
    probed_at: float = float("-inf")


class CallLimits:
    """The state of all hosts and agents that are being called. `clock`: seconds that only grow."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        self.bounds = bounds
        self._clock = clock
        self._busy = 0
        self._hosts: dict[str, _Host] = {}
        self._agents: dict[int, int] = {}
        self._pairs: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Return how many calls could start, if they were of many agents and hosts."""
        return self.bounds.total - self._busy

    def enter(self, host: str, agent_id: int) -> bool:
        """Take a place for one call, if there is one."""
        with self._lock:
            state = self._hosts.get(host)
            if state is None:
                window = min(self.bounds.probation, self.bounds.per_host)
                state = self._hosts[host] = _Host(window=window)
                self._forget_one()
            held = self._agents.get(agent_id, 0)
            there = self._pairs.get((host, agent_id), 0)
            if held >= min(self.bounds.per_agent, self.bounds.total - self._busy) or not self._open_to(state, there):
                return False
            if state.opened:
                state.probed_at = self._clock()
            state.busy += 1
            self._busy += 1
            self._agents[agent_id] = held + 1
            self._pairs[host, agent_id] = there + 1
            return True

    def leave(self, host: str, agent_id: int, *, healthy: bool | None, took_s: float = 0.0) -> None:
        """Give the place back. `healthy`: whether the host answered as a live one does; None says nothing about it."""
        with self._lock:
            state = self._hosts[host]
            state.busy -= 1
            self._busy -= 1
            _give_back(self._agents, agent_id)
            _give_back(self._pairs, (host, agent_id))
            if healthy:
                self._answered(state, took_s)
            elif healthy is False:
                self._failed(state)

    def seen(self, host: str) -> None:
        """Note that a host shows life in another way (its agent provisions): probe it soon, if it was given up."""
        with self._lock:
            state = self._hosts.get(host)
            if state is not None and state.opened:
                state.open_until = min(state.open_until, state.probed_at + self.bounds.open_s)

    def circuits(self) -> dict[str, Circuit]:
        """Return the breakers that are not closed, by host."""
        with self._lock:
            now = self._clock()
            return {
                name: Circuit.OPEN if state.open_until > now else Circuit.HALF_OPEN
                for name, state in self._hosts.items()
                if state.opened
            }

    def _open_to(self, state: _Host, there: int) -> bool:
        """Return whether a host takes a call of an agent that has `there` under way with it."""
        if state.opened:
            now = self._clock()
            return state.open_until <= now and now - state.probed_at >= self.bounds.open_s and state.busy == 0
        own = min(self.bounds.probation, (min(SHARED, self.bounds.per_host) - state.busy) // 8)
        return state.busy < state.window or there < own

    def _forget_one(self) -> None:
        """Forget a host that is not called just now, where there are too many: agents choose their names."""
        if len(self._hosts) > KNOWN:
            for name, state in list(islice(self._hosts.items(), 64)):
                del self._hosts[name]
                if not state.busy:
                    return
                self._hosts[name] = state

    def _answered(self, state: _Host, took_s: float) -> None:
        floor = min(self.bounds.floor, self.bounds.per_host)
        window = state.window if not state.opened else 0
        if took_s <= QUICK_S:
            # So that a window triples with each round of answers.
            window += 2
        elif took_s > SLOW_S:
            window -= 1
        state.window = min(self.bounds.per_host, max(floor, window))
        state.failures, state.opened, state.open_until = 0, 0, 0.0

    def _failed(self, state: _Host) -> None:
        state.failures += 1
        state.window = max(min(self.bounds.probation, self.bounds.per_host), state.window // 2)
        now = self._clock()
        if state.failures < self.bounds.failures or state.open_until > now:
            return
        if not state.opened:
            state.probed_at = now
        state.opened += 1
        state.open_until = now + min(self.bounds.open_max_s, self.bounds.open_s * 2 ** min(state.opened - 1, 16))


def _give_back(held: dict[K, int], key: K) -> None:
    """Count one less; what holds nothing is not kept."""
    if held[key] > 1:
        held[key] -= 1
    else:
        del held[key]
