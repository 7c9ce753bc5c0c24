"""Interface of a place for documents: read, create, replace on condition, list, delete.

Keys are relative posix paths (`cron/jobs.json`). A version is opaque: it is only ever handed back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from chronos_cli.errors import TemporaryError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from chronos_cli.store.backups import Backup

T = TypeVar("T")
S = TypeVar("S")

JOBS_KEY: Final = "cron/jobs.json"
"""The document of all jobs: the one that other programs write too; a listing where they are kept apart."""

JOB_PREFIX: Final = "cron/jobs/"
ARMS_PREFIX: Final = "cron/arms/"


class VersionConflict(Exception):  # noqa: N818 - an outcome to act on, not a fault
    """The document is not at the version the writer had read (or exists already): load again and decide again."""


class OutcomeUnknown(VersionConflict):
    """The answer to a conditional write was lost; it may have happened.

    Handled like a conflict: the next load finds out by the change token that the document then bears.
    """


class JobsMovedError(TemporaryError, VersionConflict):
    """The jobs are being moved to another layout."""

    code = "jobs_moved"
    default_hint = "try again"


@frozen
class Document:
    """A document's bytes and the version they were read at.

    `beside`: of the jobs alone, what another program keeps of each elsewhere; a field that the bytes have wins.
    """

    data: bytes
    version: str
    beside: Mapping[str, Mapping[str, Any]] | None = None


class DocumentStore(ABC):
    """A place for documents with compare-and-swap.

    Every method raises StoreError where the place cannot be used (path, owner, mode and user in its message) and
    TemporaryError where trying again can help. Nothing is ever half written.
    """

    needs_proof: ClassVar[bool] = False
    """True for a kind of place that may claim compare-and-swap without doing it, see `store/proof.py`."""

    keeps_jobs_apart: ClassVar[bool] = False
    """True for a kind of place where each job has a document of its own, see `store/apart.py`."""

    @property
    @abstractmethod
    def location(self) -> str:
        """Return where this is, for people: a path or a URL without credentials."""

    @abstractmethod
    def read(self, key: str) -> Document | None:
        """Return the document, or None when it certainly does not exist."""

    @abstractmethod
    def create(self, key: str, data: bytes, *, durable: bool = True) -> str:
        """Make a document that must not exist yet, and return its version. Raises VersionConflict if it exists."""

    @abstractmethod
    def replace(self, key: str, data: bytes, version: str, *, durable: bool = True) -> str:
        """Replace a document that must still be at `version`, and return the new one. Raises VersionConflict if not.

        `durable`: the bytes survive a power cut once this returns. False is for what can be derived again.
        """

    @abstractmethod
    def list(self, prefix: str) -> Iterable[str]:
        """Yield the keys below `prefix` (which ends in a slash), sorted."""

    @abstractmethod
    def delete(self, key: str, *, durable: bool = True) -> None:
        """Remove a document; one that is not there is fine.

        `durable`: no power cut brings it back once this returns. False is for what does no harm and is deleted again.
        """

    def each(self, fn: Callable[[S], T], items: Sequence[S]) -> Sequence[T]:
        """Return what `fn`, which uses this store, makes of each item: of several at a time, where calls take long.

        All are tried. Raises what the first of those raised that failed.
        """
        results, errors = [], []
        for item in items:
            try:
                results.append(fn(item))
            except Exception as error:  # noqa: BLE001 - raised again
                errors.append(error)
        if errors:
            raise errors[0]
        return results

    def backups(self) -> Iterator[Backup]:
        """Give the copies of the jobs that can be had, the newest first; a bucket keeps versions of its own."""
        return iter(())

    def exclusive(self, key: str) -> AbstractContextManager[None]:
        """Keep other writers of `key` out for a load-change-save, where the place can.

        Only a courtesy that saves conflicts: correctness rests on `replace`. Raises LockTimeoutError.
        """
        del key
        return nullcontext()


def check_key(key: str) -> str:
    """Return `key` itself, once it is sure to name something inside the store.

    Keys are made by this program from checked job ids, so anything else is a fault: raises ValueError.
    """
    if not key or key.startswith("/") or any(part in {"", ".", ".."} for part in key.split("/")) or "\0" in key:
        raise ValueError(f"not a document key: {key!r}")
    return key
