"""Connections to PostgreSQL on which no wait is without end.

Keepalives and `tcp_user_timeout` find a line that is dead. They say nothing of a server that acknowledges and never
answers (stopped, or a proxy gone silent), so a watchdog cuts a connection that is lent for longer than its deadline.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from chronos_cli.errors import ConfigError
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

T = TypeVar("T")

CONNECT_S = 3
DEADLINE_S = 5.0
"""The time that a transaction of a serving process may take: an agent waits 15 s for its answer."""

COMMAND_DEADLINE_S = 300.0
"""The same for an operator's command, which may look at a whole table."""

LISTEN_S = 2.0
IDLE = 16
"""The connections kept open while they are not used."""

LINE: dict[str, Any] = {
    "connect_timeout": CONNECT_S, "keepalives": 1, "keepalives_idle": 3, "keepalives_interval": 1,
    "keepalives_count": 3, "tcp_user_timeout": 5_000,
}  # fmt: skip
_FOR_GOOD = (
    "authentication failed",
    "does not exist",
    "pg_hba.conf",
    "no password supplied",
    "not permitted to log in",
    "connection is bad: invalid",
)
"""Words of PostgreSQL where waiting does not help, at the first connection. All else may pass: a server that starts,
a name not known yet; a process that has served once outlives a failover, whatever the other server says at first."""


class Pool:
    """Connections to `url`, which is never shown, since it may hold a password. `deadline_s`: how long one is lent."""

    def __init__(self, url: str, *, deadline_s: float) -> None:
        self.url = url
        self._deadline_s = deadline_s
        self._plain = False
        self._served = False
        self._idle: list[psycopg.Connection[Any]] = []
        self._lent: dict[psycopg.Connection[Any], float] = {}
        self._changed = threading.Condition()
        self._watching = False
        self._closed = False

    def connect(self) -> psycopg.Connection[Any]:
        """Return a fresh connection, in autocommit. Raises ConfigError and RegistryUnavailableError."""
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        # A process that is stopped in a transaction must not hold its locks for ever either.
        limit = int(self._deadline_s * 1000)
        options = f"-c statement_timeout={limit} -c idle_in_transaction_session_timeout={limit}"
        try:
            asked: dict[str, Any] = {**LINE, **({} if self._plain else {"options": options})}
            asked |= conninfo_to_dict(self.url)
            made = psycopg.connect(autocommit=True, **asked)
        except psycopg.ProgrammingError as error:
            raise ConfigError(
                f"cannot use the PostgreSQL database: {line(error)}",
                hint="name it in --db: postgresql://USER@HOST/NAME",
            ) from error
        except psycopg.OperationalError as error:
            said = line(error)
            if "startup parameter" in said and not self._plain:
                # A pooler in between that takes no options: the watchdog here has to do.
                self._plain = True
                return self.connect()
            if any(words in said for words in _FOR_GOOD) and not self._served:
                raise ConfigError(
                    f"cannot use the PostgreSQL database: {said}", hint="name it in --db: postgresql://USER@HOST/NAME"
                ) from error
            raise RegistryUnavailableError(f"PostgreSQL cannot be reached: {said}") from error
        self._served = True
        return made

    def call(self, work: Callable[[psycopg.Connection[Any]], T], *, may_repeat: Callable[[], bool]) -> T:
        """Return what `work` returns for a connection; on a fresh one where an idle one had died meanwhile."""
        stale = bool(self._idle)
        try:
            with self._borrowed() as connection:
                return work(connection)
        except RegistryUnavailableError:
            # Not where the deadline has passed: no caller waits for two of them.
            if not stale or not may_repeat():
                raise
        with self._borrowed() as connection:
            return work(connection)

    def listen(self, channel: str, heard: Callable[[str], None], stopping: threading.Event) -> None:
        """Call `heard` with each notification's payload. Raises RegistryUnavailableError when the line is lost."""
        import psycopg

        with self.connect() as connection:
            try:
                with self.watched(connection):
                    connection.execute(f"LISTEN {channel}".encode())
                while not stopping.is_set():
                    for one in connection.notifies(timeout=LISTEN_S, stop_after=1):
                        heard(one.payload)
                    # A line that went silent is found here: nothing else is ever sent on it.
                    with self.watched(connection):
                        connection.execute(b"SELECT 1")
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                raise RegistryUnavailableError(f"PostgreSQL cannot be reached: {line(error)}") from error

    @contextmanager
    def watched(self, connection: psycopg.Connection[Any], deadline_s: float | None = None) -> Iterator[float]:
        """Cut the connection where the block takes longer than the deadline; yields when that is."""
        until = time.monotonic() + (self._deadline_s if deadline_s is None else deadline_s)
        self._watch(connection, until)
        try:
            yield until
        finally:
            self._done(connection)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._closed = True
        self._drop_idle()

    @contextmanager
    def _borrowed(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend a connection for at most the deadline; one that failed is not put back."""
        import psycopg

        with self._changed:
            connection = self._idle.pop() if self._idle else None
        if connection is None or connection.closed:
            connection = self.connect()
        try:
            with self.watched(connection) as until:
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction) as error:
            if isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure):
                raise
            connection.close()
            # The others were most likely cut off with it, or lead to a server that only reads since a failover.
            self._drop_idle()
            said = "no answer in time" if time.monotonic() >= until else line(error)
            raise RegistryUnavailableError(f"PostgreSQL cannot be reached: {said}") from error
        finally:
            self._put_back(connection)

    def _put_back(self, connection: psycopg.Connection[Any]) -> None:
        with self._changed:
            keep = not self._closed and not connection.closed and len(self._idle) < IDLE
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def _drop_idle(self) -> None:
        with self._changed:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _watch(self, connection: psycopg.Connection[Any], until: float) -> None:
        with self._changed:
            self._lent[connection] = until
            if self._watching:
                return
            self._watching = True
        threading.Thread(target=self._cut_late, name="postgres-deadlines", daemon=True).start()

    def _done(self, connection: psycopg.Connection[Any]) -> None:
        with self._changed:
            self._lent.pop(connection, None)

    def _cut_late(self) -> None:
        """Cut what is lent beyond its deadline; ends when nothing was lent for a while."""
        idle = 0
        while idle < 40:
            time.sleep(0.25)
            with self._changed:
                idle = 0 if self._lent else idle + 1
                now = time.monotonic()
                for connection in [one for one, until in self._lent.items() if until <= now]:
                    # Under the lock, so that it is not closed and its number reused in between.
                    del self._lent[connection]
                    _cut(connection)
                if idle >= 40:
                    self._watching = False


def _cut(connection: psycopg.Connection[Any]) -> None:
    """End both directions: a thread that waits on the connection is told that it ended."""
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line_out:
        line_out.shutdown(socket.SHUT_RDWR)


def line(error: Exception) -> str:
    """Return the error on one line."""
    return " ".join(str(error).split())[:200]
