"""A document store in memory, with the same promises as the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.store.interface import Document, DocumentStore, VersionConflict

if TYPE_CHECKING:
    from collections.abc import Iterable


class MemoryStore(DocumentStore):
    """Documents in a dict; versions count the writes."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._writes = 0

    @property
    def location(self) -> str:
        """Return a name for people."""
        return "memory"

    def read(self, key: str) -> Document | None:
        """Return the document or None."""
        return self._documents.get(key)

    def create(self, key: str, data: bytes, *, durable: bool = True) -> str:
        """Make a document that must not exist yet."""
        del durable
        if key in self._documents:
            raise VersionConflict(key)
        return self._put(key, data)

    def replace(self, key: str, data: bytes, version: str, *, durable: bool = True) -> str:
        """Replace a document that must still be at `version`."""
        del durable
        found = self._documents.get(key)
        if found is None or found.version != version:
            raise VersionConflict(key)
        return self._put(key, data)

    def list(self, prefix: str) -> Iterable[str]:
        """Yield the keys below `prefix`, sorted."""
        return sorted(key for key in self._documents if key.startswith(prefix))

    def delete(self, key: str, *, durable: bool = True) -> None:
        """Remove a document if it is there."""
        del durable
        self._documents.pop(key, None)

    def _put(self, key: str, data: bytes) -> str:
        self._writes += 1
        version = str(self._writes)
        self._documents[key] = Document(data=data, version=version)
        return version
