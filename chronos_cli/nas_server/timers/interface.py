"""Interface of a place for timers, and the records that it takes and returns.

The registry's rules are written once (`registry.py`, `decide.py`) in SQL that SQLite and PostgreSQL both understand.
A backend adds what differs: how a transaction is had, how rows are locked, how many rows are given to one statement,
whose clock counts, and how a timer that is due sooner than anybody looks makes itself known.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from chronos_cli.errors import TemporaryError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from chronos_cli.nas_server.timers.schema import SchemaStatus

Row = tuple[Any, ...]
T = TypeVar("T")


class RegistryUnavailableError(TemporaryError):
    """The timers cannot be read or written right now."""

    code = "registry_unavailable"
    default_hint = "try again later; /readyz says whether the store is back"


class Session(Protocol):
    """One transaction. Statements use `?` for parameters, as PEP 249's qmark style."""

    def all(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        ...

    def run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return how many rows it touched."""
        ...

    def many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for each of `rows`."""
        ...


class Backend(ABC):
    """A store with transactions. Every method raises RegistryUnavailableError where the store cannot be used."""

    skip_locked: str = ""
    """Appended to a select, to lock its rows and leave out those that another process holds."""

    @abstractmethod
    def prepare(self) -> list[str]:
        """Bring the tables to the version known here, one process at a time; returns what that took, in words.

        Raises ConfigError where the place can never be used, or a newer release made its tables.
        """

    @abstractmethod
    def schema_status(self) -> SchemaStatus:
        """Return what `prepare` would do, changing nothing. Raises ConfigError as it does."""

    @abstractmethod
    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one durable transaction, from its start again when the store asks for it."""

    @abstractmethod
    def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` on a committed state of the store. Callable from any thread."""

    @abstractmethod
    def lock_slots(self, session: Session, keys: Sequence[tuple[int, str]]) -> None:
        """Keep other writers away from these (agent, job) until the transaction ends; nothing where there is one."""

    def select_by_key(self, session: Session, select: str, keys: Sequence[tuple[int, str]]) -> list[Row]:
        """Return the rows of `select` (no WHERE of its own) that belong to these (agent, job).

        Kept from other writers.
        """
        statement = f"{select} WHERE agent_id = ? AND job_id = ?"
        return [row for key in keys for row in session.all(statement, key)]

    @abstractmethod
    def given(self, **columns: str) -> str:
        """Return a table expression `given` of rows bound by one parameter each or for all; see `bind`.

        `columns`: each one's name and type (text, bigint, float8). The text is the same for any number of rows.
        """

    @abstractmethod
    def bind(self, rows: Sequence[Sequence[object]], width: int) -> list[object]:
        """Return the parameters of one `given` of `width` columns."""

    def now(self) -> float:
        """Return the time by the clock that decides what is due: this host's, where no other host uses the store."""
        return time.time()

    def measure(self) -> float:
        """Look at the store, and return how many seconds this host's clock is ahead of the one that decides."""
        return 0.0

    def announce(self, session: Session, due_at: float) -> None:  # noqa: B027 - no listener, by default
        """Tell the other processes, once this transaction holds, that something is due then."""

    def listen(self, heard: Callable[[float], None], stopping: threading.Event) -> None:  # noqa: B027 - likewise
        """Call `heard` for each announcement until `stopping`; returns at once where there are none."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the store."""
