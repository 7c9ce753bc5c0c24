"""Timers in one SQLite file, for one process: write-ahead log, full durability, group commit.

One thread owns the writing connection. Transactions that wait while another reaches the disk are carried out together
in the next one, so the disk is paid once for all of them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from chronos_cli.errors import ConfigError
from chronos_cli.files import open_named
from chronos_cli.nas_server.timers.interface import Backend, RegistryUnavailableError, Session
from chronos_cli.nas_server.timers.schema import SQLITE, advance, read_status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chronos_cli.nas_server.timers.interface import Row
    from chronos_cli.nas_server.timers.schema import SchemaStatus

T = TypeVar("T")

GROUP = 128
"""The most transactions that share one commit."""

WAIT_S = 5.0
"""The time that a commit waits for another process's lock; a caller waits for twice that, an agent for 15 s."""


class SqliteSession(Session):
    """A connection within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def all(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        return self.connection.execute(statement, tuple(parameters)).fetchall()

    def run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return how many rows it touched."""
        return self.connection.execute(statement, tuple(parameters)).rowcount

    def many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for each of `rows`."""
        self.connection.executemany(statement, rows)


class SqliteBackend(Backend):
    """A SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._readers = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._waiting: deque[tuple[Callable[[Session], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._writer: threading.Thread | None = None

    def prepare(self) -> list[str]:
        """Make the file (mode 0600) where it is missing, and bring its tables to the version known here."""

        def work(session: Session) -> list[str]:
            return [step.does for step in advance(session, SQLITE)]

        return self._alone(work, begin="BEGIN IMMEDIATE")

    def schema_status(self) -> SchemaStatus:
        """Return what `prepare` would do."""
        return self._alone(lambda session: read_status(session, SQLITE), begin="BEGIN")

    def _alone(self, work: Callable[[Session], T], *, begin: str) -> T:
        """Run `work` in one transaction of a connection of its own, before the writer is there."""
        try:
            os.close(open_named(self.path, os.O_RDWR, make=True))
            with closing(self._connect()) as connection, connection:
                connection.execute(begin)
                return work(SqliteSession(connection))
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"cannot use the database {self.path}: {error}",
                hint="name another with --db or --home, or move that file away",
            ) from error

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one durable transaction, shared with what else is waiting."""
        future: Future[T] = Future()
        with self._changed:
            if self._closing:
                raise RegistryUnavailableError("the registry is closed")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_groups, name="registry-writer", daemon=True)
                self._writer.start()
            self._waiting.append((work, future))
            self._changed.notify()
        try:
            return future.result(timeout=2 * WAIT_S)
        except TimeoutError as error:
            # Taken back where it has not begun: nothing that failed is written later.
            future.cancel()
            raise RegistryUnavailableError(f"the database {self.path} did not take the change in time") from error

    def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` on a committed state, on this thread's own connection."""
        connection = getattr(self._readers, "connection", None)
        try:
            if connection is None:
                connection = self._readers.connection = self._connect(cache_kib=256)
                with self._changed:
                    self._opened.append(connection)
            return work(SqliteSession(connection))
        except sqlite3.Error as error:
            raise RegistryUnavailableError(f"cannot read the database {self.path}: {error}") from error

    def measure(self) -> float:
        """Take the writer's turn and the file's lock, and write nothing: no sync. The clock is this host's own."""
        self.write(lambda _: None)
        return 0.0

    def lock_slots(self, session: Session, keys: Sequence[tuple[int, str]]) -> None:
        """Do nothing: there is one writer."""

    def given(self, **columns: str) -> str:
        """Return the rows of one JSON parameter."""
        fields = ", ".join(f"json_extract(value, '$[{n}]') AS {name}" for n, name in enumerate(columns))
        return f"(SELECT {fields} FROM json_each(?)) AS given"  # noqa: S608 - names of ours

    def bind(self, rows: Sequence[Sequence[object]], width: int) -> list[object]:
        """Return all rows as one JSON text."""
        del width
        return [json.dumps([list(row) for row in rows])]

    def close(self) -> None:
        """Finish what waits, then close."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._writer is not None:
            self._writer.join(timeout=2 * WAIT_S)
        for connection in self._opened:
            # A connection that another thread is using stays open until the process ends.
            with suppress(sqlite3.Error):
                connection.close()

    def _connect(self, *, cache_kib: int = 8192) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", f"cache_size = -{cache_kib}"):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _write_groups(self) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            if not group:
                break
            try:
                if connection is None:
                    connection = self._connect()
            except sqlite3.Error as error:
                for _, future in group:
                    if future.set_running_or_notify_cancel():
                        future.set_exception(RegistryUnavailableError(f"cannot open {self.path}: {error}"))
                continue
            self._commit(connection, group)
        if connection is not None:
            connection.close()

    def _commit(
        self, connection: sqlite3.Connection, group: Sequence[tuple[Callable[[Session], Any], Future[Any]]]
    ) -> None:
        session, locked = SqliteSession(connection), None
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            locked = error
        group = [one for one in group if one[1].running() or one[1].set_running_or_notify_cancel()]
        if locked is not None:
            # For all of them: asked once, or the last would wait as often as there are callers.
            for _, future in group:
                future.set_exception(_named(locked, self.path))
            return
        try:
            results = [work(session) for work, _ in group]
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - handed to the callers whose work it was
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if len(group) > 1:
                # One of them failed, nothing was written: each on its own, so that only that one fails.
                for one in group:
                    self._commit(connection, [one])
            for _, future in group if len(group) == 1 else ():
                future.set_exception(_named(error, self.path))
            return
        for (_, future), result in zip(group, results, strict=True):
            future.set_result(result)


def _named(error: BaseException, path: Path) -> BaseException:
    if isinstance(error, sqlite3.OperationalError | sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.IntegrityError
    ):
        return RegistryUnavailableError(f"cannot write the database {path}: {error}")
    return error
