"""The timing of one process: wait until the next timer is due, claim what may be called now, hand it to the workers."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from chronos_cli.nas_server.timers.interface import RegistryUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.event_log import EventLog
    from chronos_cli.nas_server.relay.limits import CallLimits
    from chronos_cli.nas_server.relay.workers import Workers
    from chronos_cli.nas_server.timers.model import Delivery, DueTimer
    from chronos_cli.nas_server.timers.registry import TimerRegistry

LOOK_S = 1.0
"""The longest sleep of the dispatcher: timers that another process put there (a redrive) are seen within this."""

BLOCKED_S = 0.1
"""The sleep while due timers may not be called yet, unless a place comes free."""

SWEEP_S = 300.0

ALIVE_S = 8.0
"""The greatest age of the last look that ended well, for this to count as alive."""


class Dispatcher:
    """A thread that finds due timers. `clock`: seconds since the epoch.

    `lag`: how long a timer has to be due before it is taken here; above 0 where reminders bring them in time, and this
    is what catches those whose reminder or worker was lost.
    """

    def __init__(
        self,
        *,
        registry: TimerRegistry,
        workers: Workers,
        gate: CallLimits,
        journal: EventLog,
        clock: Callable[[], float],
        lag: float = 0.0,
    ) -> None:
        self._registry, self._workers, self._gate = registry, workers, gate
        self._journal, self._clock = journal, clock
        self._changed = threading.Condition()
        self._wake_at = 0.0
        self._woken = False
        self._stopping = False
        self._swept_at = clock()
        self._lag = lag
        self._behind = False
        self._looked_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        workers.freed = self._freed

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def nudge(self, due_at: float) -> None:
        """A timer was armed for `due_at`: look earlier, if that is earlier than the next look."""
        if due_at < self._wake_at:
            with self._changed:
                self._woken = True
                self._changed.notify()

    def behind(self) -> None:
        """A timer was due that might not be called yet: look for it here as soon as it may."""
        with self._changed:
            self._behind = self._woken = True
            self._changed.notify()

    def stop(self) -> None:
        """Claim nothing more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout=10)

    @property
    def alive(self) -> bool:
        """Return whether due timers are being looked for: the last look ended well, and not long ago."""
        return self._thread.is_alive() and time.monotonic() - self._looked_at < ALIVE_S

    def _freed(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify()

    def _run(self) -> None:
        while not self._stopping:
            try:
                wait = self._look()
                self._looked_at = time.monotonic()
                if self._clock() - self._swept_at > SWEEP_S:
                    self._swept_at = self._clock()
                    self._registry.sweep()
            except RegistryUnavailableError as error:
                self._journal.write("error", where="dispatcher", message=error.line())
                wait = LOOK_S
            with self._changed:
                if wait > 0 and not self._woken and not self._stopping:
                    self._wake_at = self._clock() + wait
                    self._changed.wait(wait)
                self._wake_at, self._woken = 0.0, False

    def _look(self) -> float:
        """Claim and hand out what can start now; returns how long to sleep."""
        free = self._workers.free
        if free <= 0:
            return LOOK_S
        hosts, agents = self._gate.blocked()
        if self._hand_out(free, hosts, agents):
            return 0.0
        if hosts or agents:
            return BLOCKED_S
        self._behind = False
        next_due_at = self._registry.next_due_at()
        return LOOK_S if next_due_at is None else min(LOOK_S, max(0.001, next_due_at + self._lag - self._clock()))

    def _hand_out(self, free: int, hosts: list[str], agents: list[int]) -> bool:
        """Claim at most `free` due timers and give them to the workers; whether there were any."""
        entered: dict[str, DueTimer] = {}

        def admit(due: DueTimer) -> bool:
            if due.schedule_id not in entered:
                if not self._gate.enter(due.host, due.agent_id):
                    return False
                entered[due.schedule_id] = due
            return True

        lag = 0.0 if self._behind else self._lag
        claimed: list[Delivery] = []
        try:
            claimed = self._registry.take(lag=lag, limit=free, skip_hosts=hosts, skip_agents=agents, admit=admit)
        finally:
            self._workers.hand_over(claimed, entered, self._gate)
        return bool(claimed)
