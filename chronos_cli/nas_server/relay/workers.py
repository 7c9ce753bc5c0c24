"""The threads that relay: each takes a claimed delivery, calls the agent, and writes down what became of it."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from chronos_cli.errors import ChronosError
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.model import Fate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chronos_cli.nas_server.event_log import EventLog
    from chronos_cli.nas_server.metrics import Metrics
    from chronos_cli.nas_server.relay.delivery import Relay
    from chronos_cli.nas_server.relay.limits import CallLimits
    from chronos_cli.nas_server.timers.model import Delivery, DeliveryOutcome, DueTimer
    from chronos_cli.nas_server.timers.registry import TimerRegistry


SETTLE_WAITS_S = (0.1, 0.3, 1.0, 2.0, 3.0, 4.0)
"""The waits between tries to write an outcome down: less in all than a claim's margin."""


class Workers:
    """`size` threads. `freed` is called whenever a place comes free, `armed` when an answer armed a wake.

    `clock`: seconds since the epoch.
    """

    def __init__(
        self,
        *,
        size: int,
        registry: TimerRegistry,
        relay: Relay,
        gate: CallLimits,
        journal: EventLog,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.size = size
        self.freed: Callable[[], None] = lambda: None
        self.armed: Callable[[float], None] = lambda _: None
        self._registry, self._relay, self._gate = registry, relay, gate
        self._journal, self._metrics, self._clock = journal, metrics, clock
        self._queue: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._busy = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, name=f"relay-{n}", daemon=True) for n in range(size)]
        for thread in self._threads:
            thread.start()

    @property
    def free(self) -> int:
        """Return how many deliveries could start right now."""
        return self.size - self._busy

    def hand_over(self, claimed: Sequence[Delivery], entered: dict[str, DueTimer], gate: CallLimits) -> None:
        """Relay what was claimed of the timers that have a place at the gate, and give back the other places."""
        for delivery in claimed:
            # The place was taken under the host the row had then; it is given back under the same.
            host = entered.pop(delivery.schedule_id).host
            with self._lock:
                self._busy += 1
            self._queue.put(replace(delivery, host=host))
        for due in entered.values():
            # Superseded or cancelled between the look and the claim.
            gate.leave(due.host, due.agent_id, healthy=None)

    def stop(self, timeout: float) -> bool:
        """Let the relays in flight end; False where some did not within `timeout` seconds in all."""
        for _ in self._threads:
            self._queue.put(None)
        deadline = self._clock() + timeout
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - self._clock()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (delivery := self._queue.get()) is not None:
            healthy: bool | None = None
            try:
                healthy = self._one(delivery)
            except ChronosError as error:
                # The timer stays claimed and comes back when its claim ends: late, not lost.
                self._journal.write("error", where="relay", delivery=delivery.schedule_id, message=error.line())
            finally:
                self._gate.leave(delivery.host, delivery.agent_id, healthy=healthy)
                with self._lock:
                    self._busy -= 1
                self.freed()

    def _one(self, delivery: Delivery) -> bool | None:
        started = self._clock()
        outcome, healthy = self._relay.deliver(delivery)
        kept = self._settle(outcome)
        wake = outcome.next_wake
        if wake is not None and wake.fire_at is not None:
            self.armed(wake.fire_at)
        lateness = max(0.0, started - delivery.due_at)
        self._metrics.relayed(outcome, lateness=lateness, seconds=outcome.at - started)
        self._journal.write(
            "relayed",
            agent=delivery.audience,
            job_id=delivery.job_id,
            fire_at=delivery.fire_text,
            delivery=delivery.schedule_id,
            attempt=delivery.attempt,
            status=outcome.status,
            outcome=outcome.fate.value,
            error=outcome.error,
            lateness_ms=round(lateness * 1000, 1),
            took_ms=round((outcome.at - started) * 1000, 1),
            retry_in_s=None if outcome.next_at is None else round(outcome.next_at - outcome.at, 1),
            superseded=not kept,
            next=None if wake is None else wake.fire_text or "none",
        )
        if outcome.fate is Fate.DEAD and kept:
            self._journal.write(
                "dead",
                agent=delivery.audience,
                job_id=delivery.job_id,
                fire_at=delivery.fire_text,
                delivery=delivery.schedule_id,
                attempts=delivery.attempt,
                error=outcome.error,
            )
        return healthy

    def _settle(self, outcome: DeliveryOutcome) -> bool:
        """Write the outcome down, trying for a while: a delivery that is not written down is made again."""
        for wait in SETTLE_WAITS_S:
            try:
                return self._registry.settle([outcome])[0]
            except RegistryUnavailableError as error:
                self._journal.write(
                    "error", where="settle", delivery=outcome.delivery.schedule_id, message=error.line()
                )
                time.sleep(wait)
        return self._registry.settle([outcome])[0]
