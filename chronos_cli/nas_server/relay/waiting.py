"""Timers that are due and wait for a place: a bounded lane for each agent and host, served in turn.

A lane that is full keeps the oldest; what it does not take is read again once it has drained. So one agent with a
hundred thousand due costs a lane, and no other agent waits behind it.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.timers.model import DueTimer

MOST = 20_000
"""About as many are held in all; the more lanes there are, the shorter each is."""

LANE = 1_000
SHORTEST = 16
REFILL = 4
"""A lane with more than this part of its room asks for no more; it is filled again when it has drained to it."""

EACH = MOST // 4
"""The most that are held of one agent."""


class WaitingTimers:
    """The lanes. `shuffled`: mix what is read, so that several workers do not reach for the same ones."""

    def __init__(self, *, shuffled: bool = False) -> None:
        self._lanes: dict[tuple[int, str], deque[DueTimer]] = {}
        self._known: set[str] = set()
        self._of_agent: Counter[int] = Counter()
        self._cut: set[tuple[int, str]] = set()
        self._full: set[int] = set()
        self._shuffled = shuffled

    def __len__(self) -> int:
        return len(self._known)

    def add(self, timers: list[DueTimer]) -> None:
        """Take in what is new, as far as there is room."""
        if self._shuffled:
            random.shuffle(timers)
        for timer in timers:
            key = (timer.agent_id, timer.host)
            lane = self._lanes.get(key)
            if timer.schedule_id in self._known:
                continue
            if self._of_agent[timer.agent_id] >= EACH:
                self._full.add(timer.agent_id)
                continue
            if lane is not None and len(lane) >= self._room():
                self._cut.add(key)
                continue
            if lane is None:
                lane = self._lanes[key] = deque()
            lane.append(timer)
            self._known.add(timer.schedule_id)
            self._of_agent[timer.agent_id] += 1

    def busy(self) -> list[tuple[int, str]]:
        """Return the lanes that need no more now, and note that they leave something behind."""
        low = self._room() // REFILL
        busy = [key for key, lane in self._lanes.items() if len(lane) > low]
        self._cut.update(busy)
        return busy + [key for key, lane in self._lanes.items() if len(lane) <= low and key[0] in self._full]

    def drained(self) -> bool:
        """Return whether a lane or an agent that left something behind has room again; asked once, it is forgotten."""
        low = self._room() // REFILL
        drained = {key for key in self._cut if len(self._lanes.get(key, ())) <= low}
        self._cut -= drained
        emptied = {agent for agent in self._full if self._of_agent[agent] <= EACH // REFILL}
        self._full -= emptied
        return bool(drained or emptied)

    def _room(self) -> int:
        """Return how many one lane holds: the more lanes there are, the fewer."""
        return max(SHORTEST, min(LANE, MOST // (len(self._lanes) + 1)))

    def take(self, most: int, enter: Callable[[str, int], bool]) -> list[DueTimer]:
        """Take at most `most` for which there is a place, one of each lane in turn; the next time others begin."""
        taken: list[DueTimer] = []
        turn = deque(self._lanes)
        while turn and len(taken) < most:
            key = turn.popleft()
            if not enter(key[1], key[0]):
                continue
            lane = self._lanes.pop(key)
            timer = lane.popleft()
            self._known.discard(timer.schedule_id)
            self._of_agent[timer.agent_id] -= 1
            taken.append(timer)
            if lane:
                self._lanes[key] = lane
                turn.append(key)
        return taken
