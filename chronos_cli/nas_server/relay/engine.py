"""The relays of one process: an event loop that claims what is due, calls agents back, and writes down what came of it.

Claims are many rows in one statement, and outcomes that come within a moment of each other are one transaction. The
store is used from threads of their own, so that one that does not answer stops nothing that is under way.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from chronos_cli.errors import ChronosError
from chronos_cli.nas_server.relay.limits import SLOW_S
from chronos_cli.nas_server.relay.waiting import WaitingTimers
from chronos_cli.nas_server.timers.due import FIRST
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.model import Fate
from chronos_cli.nas_server.timers.sweep import PAGE as SWEEP_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chronos_cli.nas_server.event_log import EventLog
    from chronos_cli.nas_server.metrics import Metrics
    from chronos_cli.nas_server.relay.callbacks import CallbackClient
    from chronos_cli.nas_server.relay.delivery import Relay
    from chronos_cli.nas_server.relay.limits import CallLimits, Circuit
    from chronos_cli.nas_server.timers.due import DuePage
    from chronos_cli.nas_server.timers.model import Delivery, DeliveryOutcome, DueTimer
    from chronos_cli.nas_server.timers.registry import TimerRegistry

T = TypeVar("T")

LOOK_S = 1.0
"""The longest sleep between looks: what another process put there unannounced is seen within this."""

GATHER_S = 0.02
"""The time in which outcomes, and places that come free, gather for one transaction."""

CROWDED = frozenset({429, 503})
"""Answers by which a host that is alive says that it has enough to do."""

CLAIM = 250
SETTLE = 1_000
SWEEP_S = 10.0
HEARD_S = 10.0
"""The age from which on an arm says nothing any more of a host that was given up since."""

STOP_SETTLE_S = 8.0
ALIVE_S = 8.0
"""The greatest age of the last look that ended well, for this to count as alive."""


class RelayEngine:
    """A thread with the loop. `make_client`: called within it; `stop_s`: how long calls under way may go on at the end.

    `registry`'s clock is the store's, and decides what is due.
    """

    def __init__(
        self,
        *,
        registry: TimerRegistry,
        relay: Relay,
        make_client: Callable[[], CallbackClient],
        gate: CallLimits,
        journal: EventLog,
        metrics: Metrics,
        stop_s: float,
    ) -> None:
        self._registry, self._relay, self._make_client = registry, relay, make_client
        self._gate, self._journal, self._metrics, self._stop_s = gate, journal, metrics, stop_s
        self._clock = relay.clock
        self._store = ThreadPoolExecutor(3, thread_name_prefix="relay-store")
        self._waiting = WaitingTimers()
        self._edge = FIRST
        self._read_at = float("-inf")
        self._heard_at = float("-inf")
        self._calls: set[asyncio.Task[None]] = set()
        self._done: list[tuple[DeliveryOutcome, float]] = []
        self._looked_at = float("-inf")
        self._settle_by: float | None = None
        self._finished = False
        self._stopping = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._wake, self._settle_soon, self._stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="relays", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        listening = (self._registry.backend.listen, (self.nudge, self._stopping))
        threading.Thread(target=listening[0], args=listening[1], name="announcements", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Return whether due timers are being looked for: the last look ended well, and not long ago."""
        return self._thread.is_alive() and time.monotonic() - self._looked_at < ALIVE_S

    def nudge(self, due_at: float) -> None:
        """Look earlier for a timer that was armed for `due_at`, if that is sooner than the next look."""
        if due_at < self._read_at:
            with suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._look_by, due_at)

    def stop(self) -> bool:
        """Claim nothing more and let the calls under way end; False where one did not."""
        self._stopping.set()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(self._stop_s + 15)
        return self._finished

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        self._relay.warm_up()
        async with self._make_client() as client:
            looking = asyncio.create_task(self._look_on(client))
            settling = asyncio.create_task(self._settle_on())
            sweeping = asyncio.create_task(self._sweep_on())
            stopping = asyncio.create_task(self._stop.wait())
            ended, _ = await asyncio.wait({looking, settling, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in ended - {stopping}:
                task.result()  # only a fault ends it: raised, and no longer alive
            self._wake.set()
            sweeping.cancel()
            await looking
            if self._calls:
                await asyncio.wait(self._calls, timeout=self._stop_s)
            self._settle_by = time.monotonic() + STOP_SETTLE_S
            self._settle_soon.set()
            await settling
            self._finished = not self._calls and not self._done
            for call in self._calls:
                call.cancel()

    async def _in_store(self, work: Callable[..., T], *arguments: object) -> T:
        return await self._loop.run_in_executor(self._store, lambda: work(*arguments))

    # -- due timers ------------------------------------------------------------------------------------------------

    def _look_by(self, due_at: float) -> None:
        self._read_at = min(self._read_at, due_at)
        self._wake.set()

    async def _look_on(self, client: CallbackClient) -> None:
        while not self._stop.is_set():
            try:
                wait = await self._look(client)
                self._looked_at = time.monotonic()
            except RegistryUnavailableError as error:
                self._journal.write("error", where="relays", message=error.line())
                self._read_at, self._edge, wait = float("-inf"), FIRST, LOOK_S / 2
            if wait > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait)
                    # One end often frees several places: they are filled together.
                    await asyncio.sleep(GATHER_S / 4)
            self._wake.clear()

    async def _look(self, client: CallbackClient) -> float:
        """Claim what may be called now and call it; returns how long to sleep."""
        if self._registry.unheard.wanted and await self._in_store(self._registry.unheard.give_back, self._clock()) > 0:
            self._read_at = float("-inf")
        if self._clock() >= self._read_at or self._edge != FIRST or self._waiting.drained():
            await self._read()
        batch = self._waiting.take(min(self._gate.free, CLAIM), self._gate.enter)
        if batch:
            if not await self._claim(client, batch):
                # Another worker was quicker with most of them: what is known of the rest is old too.
                self._waiting, self._read_at = WaitingTimers(shuffled=True), float("-inf")
            if len(batch) < CLAIM:
                await asyncio.sleep(GATHER_S / 2)
            return 0.0
        return 0.0 if self._edge != FIRST else max(0.001, min(LOOK_S, self._read_at - self._clock()))

    async def _claim(self, client: CallbackClient, batch: list[DueTimer]) -> bool:
        """Claim these and call them; False where most were gone."""
        entered = {one.schedule_id: one for one in batch}
        try:
            entries = [(one.schedule_id, one.attempts) for one in batch]
            for delivery in await self._in_store(self._registry.claim, entries):
                # The place was taken under the host the row had then; it is given back under the same.
                host = entered.pop(delivery.schedule_id).host
                mine = delivery if delivery.host == host else replace(delivery, host=host)
                call = self._loop.create_task(self._call(client, mine))
                self._calls.add(call)
                call.add_done_callback(self._called)
        finally:
            for due in entered.values():
                self._gate.leave(due.host, due.agent_id, healthy=None)
        return len(entered) <= len(batch) / 2

    async def _read(self) -> None:
        """Read one page of what is due into the lanes; the next one follows where this one ended."""
        now = self._clock()
        if self._edge == FIRST:
            # Whatever is armed from here on is seen by this pass, or asks for the next.
            self._read_at = float("inf")
        busy = self._waiting.busy()
        if given_up := self._gate.circuits():
            await self._hear_of(given_up, now)

        def read() -> tuple[DuePage, float | None]:
            page = self._registry.due(after=self._edge, skip=busy)
            return page, self._registry.next_due_at(now) if page.ended else None

        page, next_at = await self._in_store(read)
        self._waiting.add(page.timers)
        self._edge = page.edge
        if page.ended:
            self._read_at = min(self._read_at, now + LOOK_S, float("inf") if next_at is None else next_at)

    async def _hear_of(self, given_up: Mapping[str, Circuit], now: float) -> None:
        """Have hosts asked soon that were given up and whose agents provision, be it through another process."""
        if now - self._heard_at >= LOOK_S:
            since, self._heard_at = max(self._heard_at, now - HEARD_S), now
            for host in given_up.keys() & await self._in_store(self._registry.hosts_since, since - LOOK_S):
                self._gate.seen(host)

    # -- calls and their outcomes ----------------------------------------------------------------------------------

    def _called(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled() and (error := call.exception()) is not None:
            self._journal.write("error", where="relay", message=f"{type(error).__name__}: {error}")

    async def _call(self, client: CallbackClient, delivery: Delivery) -> None:
        started, began = self._clock(), time.monotonic()
        healthy: bool | None = None
        crowded = False
        try:
            outcome, healthy = await self._relay.deliver(client, delivery)
            crowded = outcome.status in CROWDED
            self._done.append((outcome, started))
            self._settle_soon.set()
        except ChronosError as error:
            # The timer stays claimed and comes back when its claim ends: late, not lost.
            self._journal.write("error", where="relay", delivery=delivery.schedule_id, message=error.line())
        finally:
            took_s = time.monotonic() - began
            # However quick it was: it asks for less, so the window does not open by it.
            took_s = max(took_s, SLOW_S) if crowded else took_s
            self._gate.leave(delivery.host, delivery.agent_id, healthy=healthy, took_s=took_s)
            if len(self._waiting):
                self._wake.set()

    async def _sweep_on(self) -> None:
        """Forget what is too old to matter, a page now and then, and at once the next where most of one was."""
        while True:
            await asyncio.sleep(SWEEP_S)
            with suppress(RegistryUnavailableError):
                while await self._in_store(self._registry.sweep) > SWEEP_PAGE // 2:
                    pass

    async def _settle_on(self) -> None:
        """Write outcomes down until told to end, and then those that are left, for a while."""
        while self._done or self._settle_by is None:
            await self._settle_soon.wait()
            await asyncio.sleep(GATHER_S)
            self._settle_soon.clear()
            while self._done:
                try:
                    await self._settle()
                except RegistryUnavailableError as error:
                    # Kept until it is written down: a delivery that is not would be made again.
                    self._journal.write("error", where="settle", waiting=len(self._done), message=error.line())
                    if self._settle_by is not None and time.monotonic() > self._settle_by:
                        return
                    await asyncio.sleep(LOOK_S / 4)

    async def _settle(self) -> None:
        some = self._done[:SETTLE]
        kept = await self._in_store(self._registry.settle, [outcome for outcome, _ in some])
        del self._done[: len(some)]
        self._journal.write_all(
            [
                event
                for (outcome, started), was_kept in zip(some, kept, strict=True)
                for event in self._note(outcome, started, kept=was_kept)
            ]
        )

    def _note(self, outcome: DeliveryOutcome, started: float, *, kept: bool) -> Iterator[tuple[str, dict[str, object]]]:
        """Count an outcome that was written down, look for what follows it, and yield what the log tells of it."""
        delivery = outcome.delivery
        wake = outcome.next_wake
        lateness = max(0.0, started - delivery.due_at)
        self._metrics.relayed(outcome, lateness=lateness, seconds=outcome.at - started)
        named: dict[str, object] = {
            "agent": delivery.audience,
            "job_id": delivery.job_id,
            "fire_at": delivery.fire_text,
            "delivery": delivery.schedule_id,
        }
        yield (
            "relayed",
            named
            | {
                "attempt": delivery.attempt,
                "status": outcome.status,
                "outcome": outcome.fate.value,
                "error": outcome.error,
                "lateness_ms": round(lateness * 1000, 1),
                "took_ms": round((outcome.at - started) * 1000, 1),
                "retry_in_s": None if outcome.next_at is None else round(outcome.next_at - outcome.at, 1),
                "superseded": not kept,
                "next": None if wake is None else wake.fire_text or "none",
            },
        )
        if outcome.fate is Fate.DEAD and kept:
            yield "dead", named | {"attempts": delivery.attempt, "error": outcome.error}
        for due_at in (outcome.next_at, None if wake is None else wake.fire_at):
            if due_at is not None and due_at < self._read_at:
                self._look_by(due_at)
