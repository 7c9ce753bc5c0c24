"""Timers in PostgreSQL, for any number of processes, by the database's clock.

The rows are the queue: a worker claims due ones with SKIP LOCKED. Rows that are due at once are announced with NOTIFY.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from chronos_cli.errors import ConfigError
from chronos_cli.nas_server.timers.interface import Backend, RegistryUnavailableError, Session
from chronos_cli.nas_server.timers.postgres_pool import COMMAND_DEADLINE_S, Pool, line
from chronos_cli.nas_server.timers.schema import POSTGRES, advance, read_status

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    import psycopg

    from chronos_cli.nas_server.timers.interface import Row
    from chronos_cli.nas_server.timers.schema import SchemaStatus

T = TypeVar("T")

CHANNEL = "chronos_nas_due"
"""The channel on which arms are announced that are due sooner than anybody looks."""

REPEATS = 5
"""The most times a transaction begins again after a deadlock or a serialization failure."""

_MIGRATION_WAIT_S = 60
_MIGRATION_S = 3600.0
"""The time that steps may take; a server that goes silent meanwhile is given up after it."""

_INSTALL_LOCK = 0x6368726F


class PostgresSession(Session):
    """A connection within a transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    def all(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        return self._execute(statement, parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return how many rows it touched."""
        return self._execute(statement, parameters).rowcount

    def many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for each of `rows`, in one pipeline."""
        if rows:
            with self.connection.cursor() as cursor:
                cursor.executemany(_percent(statement), rows)

    def _execute(self, statement: str, parameters: Sequence[object]) -> psycopg.Cursor[Any]:
        return self.connection.execute(_percent(statement), tuple(parameters))


class PostgresBackend(Backend):
    """A PostgreSQL database. `url`: what libpq takes; `deadline_s`: how long one transaction may take."""

    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, url: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
        self.url = url
        self._pool = Pool(url, deadline_s=deadline_s)
        self._zeros: deque[float] = deque(maxlen=8)

    def prepare(self) -> list[str]:
        """Bring the tables to the version known here. Raises ConfigError and RegistryUnavailableError."""

        def work(session: Session) -> list[str]:
            session.all("SELECT pg_advisory_xact_lock(?)", (_INSTALL_LOCK,))
            return [step.does for step in advance(session, POSTGRES)]

        # A look first: a process that has nothing to do waits for no lock, and a silent server no longer than a call.
        return [] if self.schema_status().current else self._alone(work, _MIGRATION_S)

    def schema_status(self) -> SchemaStatus:
        """Return what `prepare` would do."""
        return self._alone(lambda session: read_status(session, POSTGRES))

    def _alone(self, work: Callable[[Session], T], deadline_s: float | None = None) -> T:
        """Run `work` in one transaction of a connection of its own, which waits for no lock for long."""
        try:
            import psycopg
        except ImportError as error:
            hint = "install the extra: in the checkout, pip install '.[nas]'"
            raise ConfigError("PostgreSQL needs psycopg", hint=hint) from error
        with self._pool.connect() as connection:
            try:
                with self._pool.watched(connection, deadline_s), connection.transaction():
                    connection.execute(
                        "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
                    )
                    connection.execute(f"SET LOCAL lock_timeout = '{_MIGRATION_WAIT_S}s'".encode())
                    return work(PostgresSession(connection))
            except psycopg.errors.LockNotAvailable as error:
                raise RegistryUnavailableError(f"another process holds the tables: {line(error)}") from error
            except psycopg.OperationalError as error:
                raise RegistryUnavailableError(f"PostgreSQL cannot be reached: {line(error)}") from error
            except psycopg.Error as error:
                raise ConfigError(
                    f"cannot use the PostgreSQL database: {line(error)}",
                    hint="name it in --db: postgresql://USER@HOST/NAME",
                ) from error

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one durable transaction."""
        import psycopg

        begun = False

        def transaction(connection: psycopg.Connection[Any]) -> T:
            nonlocal begun
            with connection.transaction():
                begun = True
                return work(PostgresSession(connection))

        for repeat in range(REPEATS):
            try:
                return self._pool.call(transaction, may_repeat=lambda: not begun)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as error:
                if repeat == REPEATS - 1:
                    raise RegistryUnavailableError(f"PostgreSQL is too busy: {line(error)}") from error
        raise AssertionError

    def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` on what is committed."""
        import psycopg

        began = time.monotonic()
        try:
            return self._pool.call(
                lambda connection: work(PostgresSession(connection)), may_repeat=lambda: time.monotonic() - began < 1
            )
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as error:
            raise RegistryUnavailableError(f"PostgreSQL is too busy: {line(error)}") from error

    def lock_slots(self, session: Session, keys: Sequence[tuple[int, str]]) -> None:
        """Make the rows of these (agent, job) where they are missing, and hold them, always in the same order."""
        if keys:
            session.run(
                "INSERT INTO slots (agent_id, job_id, changed_at) SELECT *, ? FROM unnest(?::bigint[], ?::text[])"
                " ORDER BY 1, 2 ON CONFLICT DO NOTHING",
                (self.now(), *_columns(keys)),
            )
            session.all(
                "SELECT 1 FROM slots WHERE (agent_id, job_id) IN (SELECT * FROM unnest(?::bigint[], ?::text[]))"
                " ORDER BY agent_id, job_id FOR UPDATE",
                _columns(keys),
            )

    def select_by_key(self, session: Session, select: str, keys: Sequence[tuple[int, str]]) -> list[Row]:
        """Return the rows of `select` that belong to these (agent, job), held until the transaction ends."""
        where = "(agent_id, job_id) IN (SELECT * FROM unnest(?::bigint[], ?::text[]))"
        return session.all(f"{select} WHERE {where} ORDER BY 1 FOR UPDATE", _columns(keys))

    def given(self, **columns: str) -> str:
        """Return the rows of one array for each column."""
        return f"unnest({', '.join(f'?::{kind}[]' for kind in columns.values())}) AS given({', '.join(columns)})"

    def bind(self, rows: Sequence[Sequence[object]], width: int) -> list[object]:
        """Return the columns of the rows as arrays."""
        return [[row[n] for row in rows] for n in range(width)]

    def now(self) -> float:
        """Return the database's time: as it was when last measured, and what has passed since then."""
        if not self._zeros:
            self.measure()
        return max(self._zeros) + time.monotonic()

    def measure(self) -> float:
        """Ask for the database's time; returns how far this host's clock is ahead of it."""
        statement = "SELECT extract(epoch FROM clock_timestamp())::float8"
        at = float(self.read(lambda session: session.all(statement))[0][0])
        # Counted from the answer's arrival, so late by the way it took and never early; the quickest of a few counts.
        self._zeros.append(at - time.monotonic())
        return time.time() - self.now()

    def announce(self, session: Session, due_at: float) -> None:
        """Notify the listeners."""
        session.all("SELECT pg_notify(?, ?)", (CHANNEL, repr(due_at)))

    def listen(self, heard: Callable[[float], None], stopping: threading.Event) -> None:
        """Listen on a connection of its own, begun again when it is lost; a pooler may pass nothing on."""
        while not stopping.is_set():
            with suppress(RegistryUnavailableError, ConfigError):
                self._pool.listen(CHANNEL, lambda payload: heard(float(payload)), stopping)
            stopping.wait(1.0)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close()


def _columns(keys: Sequence[tuple[int, str]]) -> tuple[list[int], list[str]]:
    return [key[0] for key in keys], [key[1] for key in keys]


def _percent(statement: str) -> bytes:
    """Return the statement as psycopg wants its parameters; ours hold no percent sign."""
    return statement.replace("?", "%s").encode()
