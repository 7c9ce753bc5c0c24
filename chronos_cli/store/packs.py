"""Packs: the arm documents of many jobs in one, `cron/arm-packs/<name>.json`, written by who arms many jobs at once.

A thousand small files take longer to make than everything else about arming a thousand jobs, and in a bucket each is
a call. So a pack has one line for each job, with what `cron/arms/<job_id>.json` would hold. It speaks for a job only
while that job has no document of its own: whoever changes a job's arm document makes that one, by create-if-absent,
and from then on the line does not count. Of two packs that name a job the newer wish counts. Only who made a pack, and
a reconcile that tidies up, write it again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from chronos_cli.store.interface import DocumentStore

PREFIX: Final = "cron/arm-packs/"

Line = dict[str, Any]
"""One job's arm document in its stored form."""


@frozen
class Pack:
    """One pack as read: its lines by job id."""

    key: str
    version: str
    lines: Mapping[str, Line]


def pack_key(name: str) -> str:
    """Where the pack of that name is stored."""
    return f"{PREFIX}{name}.json"


def render(lines: Mapping[str, Line]) -> bytes:
    """The bytes of a pack: one JSON object, a line for each job."""
    encode = json.JSONEncoder(separators=(",", ":")).encode
    return ("{\n" + ",\n".join([f'"{job_id}": {encode(line)}' for job_id, line in lines.items()]) + "\n}\n").encode()


def read_packs(documents: DocumentStore, *, but: Collection[str] = ()) -> list[Pack]:
    """All packs `but` those of these keys. One that cannot be read says nothing: NAS knows what it held.

    Raises StoreError.
    """
    packs = []
    for key in documents.list(PREFIX):
        found = None if key in but else documents.read(key)
        if found is None:
            continue
        try:
            lines = json.loads(found.data)
        except ValueError:
            lines = None
        known = {name: line for name, line in lines.items() if isinstance(line, dict)} if type(lines) is dict else {}
        packs.append(Pack(key=key, version=found.version, lines=known))
    return packs


def newest(packs: Iterable[Pack]) -> dict[str, Line]:
    """Of every job in them the line that counts."""
    lines: dict[str, Line] = {}
    for pack in packs:
        if not lines:
            lines.update(pack.lines)
            continue
        for job_id, line in pack.lines.items():
            known = lines.get(job_id)
            if known is None or rank(line) >= rank(known):
                lines[job_id] = line
    return lines


def find_line(documents: DocumentStore, job_id: str) -> Line | None:
    """The line of one job: looked for in the bytes, since a fire must not parse what belongs to all others."""
    mark = f'\n"{job_id}": '.encode()
    best: Line | None = None
    for key in documents.list(PREFIX):
        found = documents.read(key)
        at = -1 if found is None else found.data.find(mark)
        if found is None or at < 0:
            continue
        text = found.data[at + len(mark) : found.data.find(b"\n", at + 1)]
        try:
            line = json.loads(text.removesuffix(b","))
        except ValueError:
            continue  # as in `read_packs`
        if isinstance(line, dict) and (best is None or rank(line) >= rank(best)):
            best = line
    return best


def rank(line: Line) -> tuple[int, bool]:
    """Which of two lines counts: the newer wish, and of one wish what NAS has confirmed."""
    generation = line.get("generation")
    return generation if isinstance(generation, int) else 0, line.get("state") == "confirmed"
