"""Documents that other processes change too, and the one way to change them.

Load, pure function, conditional write, again on conflict.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from zlib import crc32

from chronos_cli.errors import TemporaryError, UnreadableError
from chronos_cli.frozen import frozen
from chronos_cli.store.interface import VersionConflict
from chronos_cli.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chronos_cli.store.interface import Document, DocumentStore

T = TypeVar("T")

ASIDE: Final = "cron/set-aside/"
"""Where the bytes of documents go that could not be read."""

ATTEMPTS: Final = 60
"""So often a change that meets others is tried."""

NOT_READ: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""All that reading a value from a document raises where the document is not what it should be."""


@frozen
class StoredDocument(Generic[T]):
    """A parsed document and the version it was read at."""

    value: T
    version: str


class DocumentRepository:
    """The documents of a home, over any document store."""

    def __init__(
        self, documents: DocumentStore, *, sleep: Callable[[float], None], random: Callable[[], float]
    ) -> None:
        self.documents = documents
        self._sleep = sleep
        self._random = random

    def pause(self, attempt: int) -> None:
        """Wait after a conflict: longer after each, and each process another time, so that all get through."""
        self._sleep(min(0.005 * 2 ** min(attempt, 7), 0.5) * (0.5 + self._random()))

    def wait_to_retry(self, tried: int) -> None:
        """Wait before trying again what failed `tried` times: 20 ms at first, five seconds at most, with jitter."""
        self._sleep(min(0.02 * 2 ** min(tried, 8), 5.0) * (0.5 + self._random()))

    @property
    def location(self) -> str:
        """Return the place of the documents, for people: a path or a URL without credentials."""
        return self.documents.location

    def read(self, key: str) -> Document | None:
        """Return a document as it is stored, None where there is none. Raises StoreError."""
        return self.documents.read(key)

    def keys(self, prefix: str) -> Iterable[str]:
        """Return the keys below `prefix`, sorted. Raises StoreError."""
        return self.documents.list(prefix)

    def update(self, key: str, fn: Callable[[Document | None], bytes | None], *, durable: bool = True) -> None:
        """Store what `fn` makes of a document (None: there is none), again from what is there then on every conflict.

        `fn` may run several times, and may find its own write, whose answer was lost. None from it leaves the document
        as it is. Raises StoreError, or TemporaryError when conflicts do not clear.
        """

        def once() -> None:
            found = self.documents.read(key)
            data = fn(found)
            if data is not None:
                self.write(key, data, found, durable=durable)

        self.until_stored(key, once)

    def delete(self, key: str) -> None:
        """Remove a document, durably; one that is not there is fine. Raises StoreError."""
        self.documents.delete(key)

    def prove(self, token: Callable[[], str]) -> None:
        """Find out whether the store refuses writes with an old version. Raises StoreError where it takes them."""
        from chronos_cli.store.proof import prove_compare_and_swap

        prove_compare_and_swap(self.documents, token=token)

    def set_aside(self, error: UnreadableError) -> str:
        """Keep the bytes of a document that cannot be read, durably, before it is written anew. Returns their key."""
        data = error.data
        aside = f"{ASIDE}{error.key.replace('/', '+')}.{crc32(data):08x}"

        def once() -> None:
            try:
                self.documents.create(aside, data)
            except VersionConflict:
                if self.documents.read(aside) is None:
                    raise  # a bucket may say so of an object that was never made

        self.until_stored(aside, once)
        return aside

    def write(
        self, key: str, data: bytes, found: Document | StoredDocument[Any] | None, *, durable: bool = True
    ) -> str:
        """Write a document that was `found` so; returns its version. Raises VersionConflict and StoreError."""
        if found is None or not found.version:
            return self.documents.create(key, data, durable=durable)
        return self.documents.replace(key, data, found.version, durable=durable)

    def until_stored(self, key: str, once: Callable[[], T]) -> T:
        """Load, change and write by `once` until no other write came between. Raises TemporaryError."""
        for attempt in range(ATTEMPTS):
            try:
                return once()
            except VersionConflict:
                self.pause(attempt)
        raise TemporaryError(f"{key} changed under every attempt")


def dump(document: dict[str, Any]) -> bytes:
    """Return a line for each value: readable, and one call of the quick encoder, which `indent` is not."""
    return ("{\n " + json.dumps(document, separators=(",\n ", ": "))[1:-1] + "\n}\n").encode()


def parse(key: str, found: Document, read: Callable[[Any], T], hint: str | None = None) -> T:
    """Return what `read` makes of a document. Raises UnreadableError, which keeps its bytes."""
    try:
        return read(read_json(found.data))
    except NOT_READ as error:
        raise UnreadableError(why_not(error), hint=hint, key=key, data=found.data, version=found.version) from error


def why_not(error: Exception) -> str:
    """Return the reason in words; a KeyError's text is the key alone."""
    return f"it has no {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error)[:200]
