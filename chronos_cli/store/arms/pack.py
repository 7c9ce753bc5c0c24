"""Packs: the arm documents of many jobs in one, `cron/arm-packs/<name>.json`, written to arm many jobs at once.

A thousand small files take longer to make than everything else about arming a thousand jobs, and in a bucket each is
a call. So a pack has one line for each job, with what `cron/arms/<job_id>.json` would hold. It speaks for a job only
while that job has no document of its own: a change of a job's arm document makes that one, by create-if-absent,
and from then on the line does not count. Of two packs that name a job the newer wish counts. Only who made a pack, and
a reconcile that tidies up, write it again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.errors import DocumentError
from chronos_cli.frozen import frozen
from chronos_cli.store.interface import Document, VersionConflict
from chronos_cli.strict_json import NotJsonError, read_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from chronos_cli.store.arms.document import ArmDocument
    from chronos_cli.store.documents import DocumentRepository
    from chronos_cli.store.interface import DocumentStore

PREFIX: Final = "cron/arm-packs/"
MAX_PACK_BYTES: Final = 64 * 2**20
"""The largest pack that is read; a thousand jobs take about a megabyte."""

Line = dict[str, Any]
"""One job's arm document in its stored form."""


@frozen
class Pack:
    """One pack as read: its lines by job id."""

    key: str
    version: str
    lines: Mapping[str, Line]


def pack_key(name: str) -> str:
    """Return where the pack of that name is stored."""
    return f"{PREFIX}{name}.json"


def render(lines: Mapping[str, Line]) -> bytes:
    """Return the bytes of a pack: one JSON object, a line for each job."""
    encode = json.JSONEncoder(separators=(",", ":")).encode
    return ("{\n" + ",\n".join([f'"{job_id}": {encode(line)}' for job_id, line in lines.items()]) + "\n}\n").encode()


def create_pack(repository: DocumentRepository, name: str, arms: Mapping[str, ArmDocument]) -> Pack:
    """Write the arm documents of many jobs in one pack. `name` was never used before.

    Raises StoreError and TemporaryError.
    """
    key, lines, documents = (
        pack_key(name),
        {job_id: arm.to_json() for job_id, arm in arms.items()},
        repository.documents,
    )
    data = render(lines)

    def once() -> str:
        try:
            return documents.create(key, data)
        except VersionConflict:
            found = documents.read(key)  # no other process has that name: the answer to our write was lost
            if found is not None and found.data == data:
                return found.version
            raise

    return Pack(key=key, version=repository.until_stored(key, once), lines=lines)


def read_packs(documents: DocumentStore, *, but: Collection[str] = ()) -> list[Pack]:
    """Return all packs `but` those of these keys. One that cannot be read says nothing: NAS knows what it held.

    Raises StoreError.
    """
    packs = []
    for key, found in _all(documents, but):
        try:
            lines = read_json(found.data, max_bytes=MAX_PACK_BYTES)
        except NotJsonError:
            lines = None
        known = {name: line for name, line in lines.items() if isinstance(line, dict)} if type(lines) is dict else {}
        packs.append(Pack(key=key, version=found.version, lines=known))
    return packs


def _all(documents: DocumentStore, but: Collection[str]) -> list[tuple[str, Document]]:
    """Return every pack.

    One that goes while we look has been replaced by another, which an older list does not name.
    """
    while True:
        found = [(key, _read(documents, key)) for key in documents.list(PREFIX) if key not in but]
        there = [(key, document) for key, document in found if document is not None]
        if len(there) == len(found):
            return there


def _read(documents: DocumentStore, key: str) -> Document | None:
    try:
        return documents.read(key)
    except DocumentError:  # closed to us: it says as little as one with other content
        return Document(data=b"", version="")


def newest(packs: Iterable[Pack]) -> dict[str, Line]:
    """Return the line that counts for every job in some packs."""
    lines: dict[str, Line] = {}
    for pack in packs:
        if not lines:
            lines.update(pack.lines)
            continue
        for job_id, line in pack.lines.items():
            lines[job_id] = _better(lines.get(job_id), line)
    return lines


def find_line(documents: DocumentStore, job_id: str) -> Line | None:
    """Return the line of one job: looked for in the bytes, since a fire must not parse what belongs to all others."""
    mark = f'\n"{job_id}": '.encode()
    best: Line | None = None
    for _, found in _all(documents, ()):
        at = found.data.find(mark)
        if at < 0:
            continue
        text = found.data[at + len(mark) : found.data.find(b"\n", at + 1)]
        try:
            line = read_json(text.removesuffix(b","))
        except NotJsonError:
            continue  # as in `read_packs`
        if isinstance(line, dict):
            best = _better(best, line)
    return best


def _better(one: Line | None, other: Line) -> Line:
    """Return the line that counts of two; it also knows the keys that the other one has used."""
    if one is None:
        return other
    best, worse = (other, one) if rank(other) >= rank(one) else (one, other)
    keys, more = best.get("keys"), worse.get("keys")
    if isinstance(keys, dict) and isinstance(more, dict) and not more.keys() <= keys.keys():
        return {**best, "keys": {**more, **keys}}
    return best


def rank(line: Line) -> tuple[int, bool]:
    """Return which of two lines counts: the newer wish, and of one wish what NAS has confirmed."""
    generation = line.get("generation")
    return generation if isinstance(generation, int) else 0, line.get("state") == "confirmed"
