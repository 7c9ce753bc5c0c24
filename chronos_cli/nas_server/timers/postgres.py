"""Timers in PostgreSQL, for any number of processes: the same tables, with a PgQueuer entry as each one's reminder.

The rows are the truth. A reminder carries a schedule id and how often it was tried; it is enqueued in the transaction
that writes the row, and one that comes when the row is gone or has moved on is dropped.
"""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from chronos_cli.errors import ConfigError
from chronos_cli.nas_server.timers import queue_schema
from chronos_cli.nas_server.timers.interface import Backend, RegistryUnavailableError, Session
from chronos_cli.nas_server.timers.schema import POSTGRES, advance, look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg

    from chronos_cli.nas_server.timers.interface import Row
    from chronos_cli.nas_server.timers.schema import SchemaStatus

T = TypeVar("T")

ENTRYPOINT = "relay"
"""The name under which reminders are enqueued."""

LEAD_S = 0.1
"""The time by which a reminder comes before it is due, so that the worker can wait for the very moment."""

HORIZON_S = 60.0
"""Only what is due within this has an entry: the queue stays small, and what is armed anew all day leaves no trail."""

PROMOTE_S = 20.0
"""The interval at which timers that are near are given their entries."""

REPEATS = 5
"""The most times a transaction begins again after a deadlock or a serialization failure."""

_CONNECT_S = 5
_IDLE = 16
_MIGRATION_WAIT_S = 60
_INSTALL_LOCK = 0x6368726F
_PROMOTE_LOCK = 0x63687270


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
    """A PostgreSQL database. `url`: what libpq takes; it is never shown, since it may hold a password."""

    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, url: str) -> None:
        self.url = url
        self._idle: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._closed = False

    def prepare(self) -> list[str]:
        """Bring our tables and PgQueuer's to the version known here. Raises ConfigError."""

        def work(session: Session) -> list[str]:
            session.all("SELECT pg_advisory_xact_lock(?)", (_INSTALL_LOCK,))
            done = [step.does for step in advance(session, POSTGRES)]
            return [*done, *queue_schema.bring_up(session, self.url)]

        return self._alone(work)

    def schema_status(self) -> SchemaStatus:
        """Return what `prepare` would do."""

        def work(session: Session) -> SchemaStatus:
            status = look(session, POSTGRES)
            made = session.all(POSTGRES.has_table, ("meta",))
            return replace(status, queue=tuple(queue_schema.pending(session, self.url) if made else ()))

        return self._alone(work)

    def _alone(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one transaction of a connection of its own, which waits for no lock for long."""
        try:
            import pgqueuer.queries  # noqa: F401 - said here, once, rather than in the midst of a transaction
            import psycopg
        except ImportError as error:
            hint = "install the extra: in the checkout, pip install '.[nas]'"
            raise ConfigError("PostgreSQL needs psycopg and PgQueuer", hint=hint) from error
        try:
            connection = psycopg.connect(self.url, autocommit=True, connect_timeout=_CONNECT_S)
            with closing(connection), connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = '{_MIGRATION_WAIT_S}s'".encode())
                return work(PostgresSession(connection))
        except psycopg.errors.LockNotAvailable as error:
            raise RegistryUnavailableError(f"another process holds the tables: {_line(error)}") from error
        except psycopg.Error as error:
            raise ConfigError(f"cannot use the PostgreSQL database: {_line(error)}", hint="see --db") from error

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one durable transaction."""
        import psycopg

        begun = False
        for repeat in range(REPEATS):
            last = repeat == REPEATS - 1
            try:
                with self._borrowed() as connection, connection.transaction():
                    begun = True
                    return work(PostgresSession(connection))
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as error:
                if last:
                    raise RegistryUnavailableError(f"PostgreSQL is too busy: {_line(error)}") from error
            except RegistryUnavailableError:
                # A connection that had died while it was idle: nothing was done yet, so a fresh one may do it.
                if begun or repeat > 0:
                    raise
        raise AssertionError

    def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` on what is committed."""
        try:
            with self._borrowed() as connection:
                return work(PostgresSession(connection))
        except RegistryUnavailableError:
            with self._borrowed() as connection:
                return work(PostgresSession(connection))

    def lock_slots(self, session: Session, keys: Sequence[tuple[int, str]]) -> None:
        """Make the rows of these (agent, job) where they are missing, and hold them, always in the same order."""
        if keys:
            session.run(
                "INSERT INTO slots (agent_id, job_id) SELECT * FROM unnest(?::bigint[], ?::text[]) ORDER BY 1, 2"
                " ON CONFLICT DO NOTHING",
                _columns(keys),
            )
            session.all(
                "SELECT 1 FROM slots WHERE (agent_id, job_id) IN (SELECT * FROM unnest(?::bigint[], ?::text[]))"
                " ORDER BY agent_id, job_id FOR UPDATE",
                _columns(keys),
            )

    def select_by_key(self, session: Session, select: str, keys: Sequence[tuple[int, str]]) -> list[Row]:
        """The rows of `select` that belong to these (agent, job), held until the transaction ends."""
        where = "(agent_id, job_id) IN (SELECT * FROM unnest(?::bigint[], ?::text[]))"
        return session.all(f"{select} WHERE {where} ORDER BY 1 FOR UPDATE", _columns(keys))

    def remind(self, session: Session, reminders: Sequence[tuple[str, int, float]]) -> None:
        """Enqueue an entry for each that is near, in the same transaction; `promote` does it for the others in time."""
        import time

        from pgqueuer.adapters.drivers.psycopg import SyncPsycopgDriver
        from pgqueuer.queries import SyncQueries

        now = time.time()
        reminders = [one for one in reminders if one[2] < now + HORIZON_S]
        if not reminders or not isinstance(session, PostgresSession):
            return
        queries = SyncQueries(SyncPsycopgDriver(session.connection))
        # The registry's clock is the wall clock here: a reminder that comes early waits, a late one is caught up with.
        queries.enqueue(
            [ENTRYPOINT] * len(reminders),
            [f"{schedule_id} {attempts} {due_at!r}".encode() for schedule_id, attempts, due_at in reminders],
            [0] * len(reminders),
            [timedelta(seconds=max(0.0, due_at - now - LEAD_S)) for _, _, due_at in reminders],
            [f"{schedule_id}:{attempts}" for schedule_id, attempts, _ in reminders],
            on_conflict="skip",
        )

    def forget(self, session: Session, schedule_ids: Sequence[str]) -> None:
        """Delete the entries of timers that were never tried: what is armed anew all day must not pile up."""
        from pgqueuer.domain.settings import db_settings

        table = db_settings().qualified.queue_table
        session.run(
            f"DELETE FROM {table} WHERE status = 'queued' AND dedupe_key = ANY(?)",  # noqa: S608 - PgQueuer's own name
            ([f"{schedule_id}:0" for schedule_id in schedule_ids],),
        )

    def promote(self, now: float) -> int:
        """Enqueue what has come near, and return how many timers that are; one process does it at a time."""

        def work(session: Session) -> int:
            if not session.all("SELECT pg_try_advisory_xact_lock(?)", (_PROMOTE_LOCK,))[0][0]:
                return 0
            near = session.all(
                "SELECT schedule_id, attempts, due_at FROM timers WHERE due_at >= ? AND due_at < ?",
                (now, now + HORIZON_S),
            )
            self.remind(session, [(row[0], row[1], row[2]) for row in near])
            return len(near)

        return self.write(work)

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _borrowed(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection of the pool; one that failed is not put back."""
        import psycopg

        with self._lock:
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None or connection.closed:
                connection = psycopg.connect(self.url, autocommit=True, connect_timeout=_CONNECT_S)
            yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure):
                self._put_back(connection)
                raise
            if connection is not None:
                connection.close()
            # The others were most likely cut off with it.
            self._drop_idle()
            raise RegistryUnavailableError(f"PostgreSQL cannot be reached: {_line(error)}") from error
        except BaseException:
            self._put_back(connection)
            raise
        self._put_back(connection)

    def _put_back(self, connection: psycopg.Connection[Any] | None) -> None:
        if connection is None:
            return
        with self._lock:
            keep = not self._closed and not connection.closed and len(self._idle) < _IDLE
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _columns(keys: Sequence[tuple[int, str]]) -> tuple[list[int], list[str]]:
    return [key[0] for key in keys], [key[1] for key in keys]


def _percent(statement: str) -> bytes:
    """The statement as psycopg wants its parameters; ours hold no percent sign."""
    return statement.replace("?", "%s").encode()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
