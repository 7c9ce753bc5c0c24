"""Request rates of agents: one token bucket for each agent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BURST_S = 2.0
"""A bucket holds this many seconds' worth."""


class Rates:
    """The buckets of all agents. `clock`: seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[int, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, agent_id: int, rate: float, cost: float = 1.0) -> float:
        """Take `cost` from the agent's bucket, which fills by `rate` a second: 0 when taken, else how long to wait.

        A full bucket lets a request of any cost through, and owes the rest.
        """
        burst = max(1.0, rate * BURST_S)
        now = self._clock()
        with self._lock:
            at, level = self._buckets.get(agent_id, (now, burst))
            level = min(burst, level + (now - at) * rate)
            needed = min(cost, burst)
            taken = level >= needed
            self._buckets[agent_id] = (now, level - cost if taken else level)
        return 0.0 if taken else (needed - level) / rate
