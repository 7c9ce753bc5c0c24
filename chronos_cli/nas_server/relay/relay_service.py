"""The relaying half of a process: the workers, and what brings them their timers on either backend."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Protocol

from chronos_cli.nas_server.relay.callbacks import CallbackClient
from chronos_cli.nas_server.relay.delivery import Relay
from chronos_cli.nas_server.relay.dispatcher import Dispatcher
from chronos_cli.nas_server.relay.workers import Workers
from chronos_cli.nas_server.timers.postgres import PostgresBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.event_log import EventLog
    from chronos_cli.nas_server.keys import KeyRing
    from chronos_cli.nas_server.metrics import Metrics
    from chronos_cli.nas_server.options import Settings
    from chronos_cli.nas_server.relay.limits import CallLimits
    from chronos_cli.nas_server.timers.model import Delivery
    from chronos_cli.nas_server.timers.registry import TimerRegistry

CATCH_UP_S = 3.0
"""On PostgreSQL: how late a timer has to be before it is taken without its reminder."""


class DueTimers(Protocol):
    """A source that brings due timers to the workers."""

    @property
    def alive(self) -> bool:
        """Return whether it does."""
        ...

    def start(self) -> None:
        """Begin."""
        ...

    def nudge(self, due_at: float) -> None:
        """A timer was armed for then."""
        ...

    def stop(self) -> None:
        """Bring no more."""
        ...


class Relaying:
    """The relays of this process, going until `stop`."""

    def __init__(
        self,
        settings: Settings,
        *,
        registry: TimerRegistry,
        keys: KeyRing,
        gate: CallLimits,
        journal: EventLog,
        counts: Metrics,
        issuer: str,
        pay: Callable[[Delivery], float],
    ) -> None:
        self._timeout = settings.relay_timeout_s
        client = CallbackClient(settings.policy, timeout=settings.relay_timeout_s)
        relay = Relay(
            keys=keys,
            client=client,
            backoff=settings.backoff,
            issuer=issuer,
            clock=time.time,
            draw=random.random,
            pay=pay,
        )
        self._workers = workers = Workers(
            size=settings.relays,
            registry=registry,
            relay=relay,
            gate=gate,
            journal=journal,
            metrics=counts,
            clock=time.time,
        )
        workers.armed = self.nudge
        lag = CATCH_UP_S if settings.home.postgres else 0.0
        dispatcher = Dispatcher(
            registry=registry, workers=workers, gate=gate, journal=journal, clock=time.time, lag=lag
        )
        self._timings: list[DueTimers] = [dispatcher]
        if isinstance(registry.backend, PostgresBackend):
            from chronos_cli.nas_server.relay.due_source import Reminders

            reminders = Reminders(
                registry.backend,
                registry=registry,
                workers=workers,
                gate=gate,
                dispatcher=dispatcher,
                journal=journal,
                clock=time.time,
            )
            self._timings.insert(0, reminders)
        else:
            # This process is the only one: what was claimed, was claimed by one that died.
            registry.release_claims()
        for timing in self._timings:
            timing.start()

    @property
    def alive(self) -> bool:
        """Return whether due timers are being looked for."""
        return all(timing.alive for timing in self._timings)

    def nudge(self, due_at: float) -> None:
        """A timer was armed for `due_at`."""
        for timing in self._timings:
            timing.nudge(due_at)

    def stop(self) -> bool:
        """Claim nothing more and let the relays in flight end; False where one did not."""
        for timing in self._timings:
            timing.stop()
        return self._workers.stop(self._timeout + 5)
