"""Timers in PostgreSQL, for any number of processes: the same tables, with a PgQueuer entry as each one's reminder.

The rows are the truth. A reminder carries a schedule id and how often it was tried; it is enqueued in the transaction
that writes the row, and one that comes when the row is gone or has moved on is dropped.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from chronos_cli.errors import ConfigError
from chronos_cli.nas_server.timers import queue_schema
from chronos_cli.nas_server.timers.interface import Backend, RegistryUnavailableError, Session
from chronos_cli.nas_server.timers.postgres_pool import COMMAND_DEADLINE_S, Pool, line
from chronos_cli.nas_server.timers.schema import POSTGRES, advance, look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    """A PostgreSQL database. `url`: what libpq takes; `deadline_s`: how long one transaction may take."""

    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, url: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
        self.url = url
        self._pool = Pool(url, deadline_s=deadline_s)

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
        with self._pool.connect() as connection:
            try:
                with connection.transaction():
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
                raise ConfigError(f"cannot use the PostgreSQL database: {line(error)}", hint="see --db") from error

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
        began = time.monotonic()
        return self._pool.call(
            lambda connection: work(PostgresSession(connection)), may_repeat=lambda: time.monotonic() - began < 1
        )

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
        self._pool.close()


def _columns(keys: Sequence[tuple[int, str]]) -> tuple[list[int], list[str]]:
    return [key[0] for key in keys], [key[1] for key in keys]


def _percent(statement: str) -> bytes:
    """The statement as psycopg wants its parameters; ours hold no percent sign."""
    return statement.replace("?", "%s").encode()
