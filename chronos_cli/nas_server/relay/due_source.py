"""The timing on PostgreSQL: PgQueuer brings each reminder to one worker when it is due; the worker claims the row.

PgQueuer ends on a lost connection, so it is begun again with growing waits, and `alive` says whether it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.postgres import ENTRYPOINT, PROMOTE_S
from chronos_cli.nas_server.timers.postgres_pool import LINE

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg
    from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
    from pgqueuer.models import Job

    from chronos_cli.nas_server.event_log import EventLog
    from chronos_cli.nas_server.relay.dispatcher import Dispatcher
    from chronos_cli.nas_server.relay.limits import CallLimits
    from chronos_cli.nas_server.relay.workers import Workers
    from chronos_cli.nas_server.timers.model import DueTimer
    from chronos_cli.nas_server.timers.postgres import PostgresBackend
    from chronos_cli.nas_server.timers.registry import TimerRegistry

BATCH = 64
RESTART_MAX_S = 10.0
POLL_S = 0.02
"""PgQueuer looks again after this when an entry is due almost at once; its own 0.1 s would make idle timers late."""


@dataclass(frozen=True, slots=True)
class _Reminder:
    """The content of an entry, and the waiter for its completion."""

    schedule_id: str
    attempts: int
    dealt_with: asyncio.Future[None]


class Reminders:
    """A thread that runs PgQueuer. `clock`: seconds since the epoch."""

    def __init__(
        self,
        backend: PostgresBackend,
        *,
        registry: TimerRegistry,
        workers: Workers,
        gate: CallLimits,
        dispatcher: Dispatcher,
        journal: EventLog,
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._registry, self._workers, self._gate = registry, workers, gate
        self._dispatcher, self._journal, self._clock = dispatcher, journal, clock
        self._thread = threading.Thread(target=self._run, name="reminders", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._stop = asyncio.Event()
        self._running = False

    @property
    def alive(self) -> bool:
        """Return whether PgQueuer runs."""
        return self._running

    def nudge(self, due_at: float) -> None:
        """Nothing to do: the reminder was enqueued with the row."""

    def start(self) -> None:
        """Begin."""
        logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)
        self._thread.start()

    def stop(self) -> None:
        """Take no more reminders."""
        self._stopping = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=15)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[_Reminder] = asyncio.Queue()
        helpers = [asyncio.create_task(self._claim_all(waiting)), asyncio.create_task(self._promote_all())]
        wait = 0.2
        while not self._stopping:
            began = self._clock()
            message = await self._queue(waiting)
            self._running = False
            if self._stop.is_set():
                break
            self._journal.write("error", where="reminders", message=f"PgQueuer ended, starting again: {message}")
            wait = 0.2 if self._clock() - began > 30 else min(RESTART_MAX_S, wait * 2)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait * random.uniform(0.5, 1.0))  # noqa: S311 - a wait
        for helper in helpers:
            helper.cancel()

    async def _promote_all(self) -> None:
        """Give entries to what has come near, now and then."""
        while True:
            try:
                await asyncio.to_thread(self._backend.promote, self._clock())
            except RegistryUnavailableError as error:
                # What got no entry is caught up with when it is due.
                self._journal.write("error", where="reminders", message=error.line())
            await asyncio.sleep(PROMOTE_S)

    async def _queue(self, waiting: asyncio.Queue[_Reminder]) -> str:
        """Run PgQueuer until it ends; returns why it did."""
        import psycopg
        from pgqueuer.qm import QueueManager
        from pgqueuer.queries import Queries

        try:
            async with (
                await psycopg.AsyncConnection.connect(self._backend.url, autocommit=True, **LINE) as ear,
                await psycopg.AsyncConnection.connect(self._backend.url, autocommit=True, **LINE) as hand,
            ):
                manager = QueueManager(Queries(_driver(ear, hand)))
                manager.min_dequeue_poll_interval = timedelta(seconds=POLL_S)

                @manager.entrypoint(ENTRYPOINT, accepts_context=False)
                async def relay(job: Job) -> None:
                    await self._remind(job.payload or b"", waiting)

                stopper = asyncio.create_task(self._pass_on(manager.shutdown))
                self._running = True
                try:
                    await manager.run(
                        batch_size=BATCH,
                        max_concurrent_tasks=max(2 * BATCH, 2 * self._workers.size),
                        shutdown_on_listener_failure=True,
                        log_aggregation_interval=timedelta(0),
                    )
                finally:
                    stopper.cancel()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever ended it, it is begun again and the reason is logged
            return " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return "it stopped"

    async def _pass_on(self, shutdown: asyncio.Event) -> None:
        await self._stop.wait()
        shutdown.set()

    async def _remind(self, payload: bytes, waiting: asyncio.Queue[_Reminder]) -> None:
        """One entry: wait for the very moment, then for the claim to be decided."""
        schedule_id, attempts, due_at = payload.decode().split()
        early = float(due_at) - self._clock()
        if early > 0:
            await asyncio.sleep(min(early, 60.0))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.put_nowait(_Reminder(schedule_id, int(attempts), future))
        await future

    async def _claim_all(self, waiting: asyncio.Queue[_Reminder]) -> None:
        """Claim what has gathered, as many as can start, again and again."""
        while True:
            group = [await waiting.get()]
            while self._workers.free <= 0:  # noqa: ASYNC110 - the places come free in threads that know no loop
                await asyncio.sleep(0.005)
            while len(group) < self._workers.free and not waiting.empty():
                group.append(waiting.get_nowait())
            try:
                await asyncio.to_thread(self._claim, group)
            except RegistryUnavailableError as error:
                # The rows are still due: whoever catches up with what is late finds them.
                self._journal.write("error", where="reminders", message=error.line())
            for reminder in group:
                if not reminder.dealt_with.done():
                    reminder.dealt_with.set_result(None)

    def _claim(self, group: list[_Reminder]) -> None:
        wanted = {reminder.schedule_id: reminder.attempts for reminder in group}
        found = [due for due in self._registry.look_up(list(wanted)) if due.attempts == wanted[due.schedule_id]]
        entered: dict[str, DueTimer] = {}
        for due in found:
            if self._gate.enter(due.host, due.agent_id):
                entered[due.schedule_id] = due
            else:
                self._dispatcher.behind()
        claimed: list[Any] = []
        try:
            claimed = self._registry.claim([(due.schedule_id, due.attempts) for due in entered.values()])
        finally:
            self._workers.hand_over(claimed, entered, self._gate)


def _driver(ear: psycopg.AsyncConnection[Any], hand: psycopg.AsyncConnection[Any]) -> PsycopgDriver:
    """A driver that listens on one connection and works on another: waiting for a notification blocks a connection."""
    from pgqueuer.adapters.drivers.psycopg import PsycopgDriver

    class TwoConnections(PsycopgDriver):
        def __init__(self) -> None:
            super().__init__(ear)
            self._hand = PsycopgDriver(hand)

        async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
            return await self._hand.fetch(query, *args)

        async def execute(self, query: str, *args: object) -> str:
            return await self._hand.execute(query, *args)

    return TwoConnections()
