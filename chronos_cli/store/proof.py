"""Prove that a store refuses a write with a wrong version: some compatible servers take it and say nothing.

On such a server two replicas would both win every claim, so it is found out before the first one.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import ChronosError, StoreError, TemporaryError
from chronos_cli.store.interface import OutcomeUnknown, VersionConflict
from chronos_cli.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.store.interface import DocumentStore

MARKER_KEY: Final = "cron/proof.json"
_HINT: Final = "use a service with conditional writes (If-Match, If-None-Match); this one cannot hold claims"


def ensure_proven(store: DocumentStore) -> None:
    """Prove the store once; a marker in it, good for this location alone, spares the next process the proof.

    Raises as `prove_compare_and_swap`.
    """
    if not store.needs_proof:
        return
    found = store.read(MARKER_KEY)
    if found is not None and _location_of(found.data) == store.location:
        return
    prove_compare_and_swap(store)
    marker = json.dumps({"compare_and_swap": "proven", "location": store.location}).encode()
    try:
        if found is None:
            store.create(MARKER_KEY, marker)
        else:
            store.replace(MARKER_KEY, marker, found.version)
    except VersionConflict:  # Another process proved it at the same time, or the next one proves it again.
        return


def prove_compare_and_swap(store: DocumentStore, *, token: Callable[[], str] | None = None) -> None:
    """Write with deliberately wrong versions, on a key of its own that is deleted afterwards.

    `token`: makes the key's unique part. Raises StoreError if the store accepts such a write or loses a right one, and
    TemporaryError if its answers do not come.
    """
    key = f"cron/proof/{token() if token else os.urandom(8).hex()}.json"
    try:
        _prove(store, key)
    except BaseException as error:
        with suppress(ChronosError):  # what failed first tells why
            store.delete(key)
        if isinstance(error, OutcomeUnknown):
            what = f"whether {store.location} keeps conditions could not be found out"
            raise TemporaryError(f"{what}: {error}") from error
        raise
    store.delete(key)


def _prove(store: DocumentStore, key: str) -> None:
    first = store.create(key, b'{"probe": 1}')
    _refused(store, key, lambda: store.create(key, b'{"probe": "created again"}'), "made a document that existed")
    try:
        second = store.replace(key, b'{"probe": 2}', first)
    except OutcomeUnknown:
        raise
    except VersionConflict as error:
        raise StoreError(f"{store.location} refuses a write with the right version", hint=_HINT) from error
    _refused(store, key, lambda: store.replace(key, b'{"probe": "stale"}', first), "took a write with an old version")
    found = store.read(key)
    if found is None or found.data != b'{"probe": 2}':
        raise StoreError(f"{store.location} does not hold what was written last", hint=_HINT)
    try:
        store.replace(key, b'{"probe": 3}', second)
    except OutcomeUnknown:
        raise
    except VersionConflict as error:
        raise StoreError(f"{store.location} gives a document another version on reading", hint=_HINT) from error


def _refused(store: DocumentStore, key: str, write: Callable[[], str], what: str) -> None:
    """Try a write that must be refused. Raises StoreError if it is taken."""
    try:
        write()
    except OutcomeUnknown:
        raise
    except VersionConflict:
        return
    raise StoreError(f"{store.location} {what} ({key})", hint=_HINT)


def _location_of(data: bytes) -> str | None:
    try:
        return str(read_json(data)["location"])
    except (ValueError, KeyError, TypeError):  # Not a marker of ours: it proves nothing.
        return None
