"""Timers that are due and wait for a place: a bounded lane for each agent and host, served in turn.

A lane that is full keeps the oldest; what it does not take is read again once it has drained. So one agent with a
hundred thousand due costs a lane, and nobody stands behind it.
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
LOW = 250
"""A lane of more than this asks for no more; it is filled again when it has drained to it."""


class WaitingTimers:
    """The lanes. `shuffled`: mix what is read, so that several workers do not reach for the same ones."""

    def __init__(self, *, shuffled: bool = False) -> None:
        self._lanes: dict[tuple[int, str], deque[DueTimer]] = {}
        self._known: set[str] = set()
        self._of_agent: Counter[int] = Counter()
        self._cut: set[tuple[int, str]] = set()
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
            room = max(16, min(LANE, MOST // (len(self._lanes) + 1)))
            if (lane is not None and len(lane) >= room) or self._of_agent[timer.agent_id] >= MOST // 4:
                self._cut.add(key)
                continue
            if lane is None:
                lane = self._lanes[key] = deque()
            lane.append(timer)
            self._known.add(timer.schedule_id)
            self._of_agent[timer.agent_id] += 1

    def busy(self) -> list[tuple[int, str]]:
        """Return the lanes that need no more now, and note that they leave something behind."""
        busy = [key for key, lane in self._lanes.items() if len(lane) > LOW]
        self._cut.update(busy)
        return busy

    def drained(self) -> bool:
        """Return whether a lane that left something behind has room again; asked once, it is forgotten."""
        drained = {key for key in self._cut if len(self._lanes.get(key, ())) <= LOW}
        self._cut -= drained
        return bool(drained)

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
