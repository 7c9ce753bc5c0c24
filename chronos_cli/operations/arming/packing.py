"""Packing: the arm documents of many jobs written together, before they are sent and when NAS has answered.

A pack speaks for a job only while the job has no document of its own, so nothing written here can undo what a fire has
noted meanwhile. But a pack does not conflict either: so who packs looks at what others have made, once before sending
and once when NAS has answered. What it finds then is changed job by job, or armed again.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

from chronos_cli.contract import FEATURE_GENERATION, MAX_BATCH
from chronos_cli.frozen import frozen, replace
from chronos_cli.operations.arming.arm import are_numbered, overtaken
from chronos_cli.store.arms.pack import rank
from chronos_cli.store.interface import VersionConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from chronos_cli.errors import ChronosError
    from chronos_cli.operations.context import Context
    from chronos_cli.store.arms.document import ArmDocument
    from chronos_cli.store.arms.pack import Line, Pack
    from chronos_cli.store.arms.store import Arms

    Change = Callable[[ArmDocument], ArmDocument]

PACK_FROM: Final = 32
"""From so many jobs on, their arm documents are written in packs."""


@frozen
class SendNote:
    """Outcome of one job that was sent from a pack. `certain`: NAS surely holds no other wish than this one."""

    job_id: str
    error: ChronosError | None
    certain: bool


class _Chunk:
    """One pack on its way: what was sent, and what is known of it so far."""

    def __init__(self, pack: Pack, waiting: set[str]) -> None:
        self.pack = pack
        self.waiting = waiting
        self.changes: dict[str, Change] = {}
        self.noted: list[SendNote] = []


class Packing:
    """The packs of one reconcile. `before`: the arm documents as it found them, on which its wishes are founded."""

    def __init__(
        self, ctx: Context, before: Arms, documents: Mapping[str, ArmDocument], pack_from: int = PACK_FROM
    ) -> None:
        """`pack_from`: from so many jobs on, their documents are written together."""
        self._arms = ctx.repository.arms
        self._token = ctx.token
        self._before = before
        self._known = {job_id: document.generation for job_id, document in documents.items()}
        self._mine: set[str] = set()
        self._sent: dict[str, ArmDocument] = {}
        self._chunks: dict[str, _Chunk] = {}
        self._pack_from = pack_from
        self._renewed: set[str] = set()

    @property
    def renewed(self) -> frozenset[str]:
        """Jobs of which a pack that was written here says what counts."""
        return frozenset(self._renewed)

    def packable(self, job_ids: Iterable[str]) -> set[str]:
        """Return the jobs whose documents go into packs: those without one of their own, where they are many."""
        found = {job_id for job_id in job_ids if job_id not in self._before.own}
        return found if len(found) >= self._pack_from else set()

    def write(self, documents: Mapping[str, ArmDocument]) -> None:
        """Write the documents of many jobs that have none of their own."""
        self._create(documents)
        self._renewed.update(documents)

    def send(self, sending: Mapping[str, ArmDocument]) -> set[str]:
        """Write what is about to be sent. Returns the jobs that somebody else has touched: these must not be sent."""
        for pack in self._create(sending):
            self._mine.add(pack.key)
            self._chunks |= dict.fromkeys(pack.lines, _Chunk(pack, set(pack.lines)))
        self._sent |= sending
        own, lines = self._others()
        taken = {job_id for job_id in sending if job_id in own or job_id in lines}
        for job_id in taken:
            self._chunks.pop(job_id).waiting.discard(job_id)
        self._renewed |= sending.keys() - taken
        return taken

    def _create(self, documents: Mapping[str, ArmDocument]) -> list[Pack]:
        jobs = list(documents)
        parts = [jobs[start : start + MAX_BATCH] for start in range(0, len(jobs), MAX_BATCH)]
        return [self._arms.create_pack(self._token(), {job_id: documents[job_id] for job_id in part}) for part in parts]

    def sent(self, job_id: str) -> ArmDocument | None:
        """The document of a job that was sent from here, or None."""
        return self._sent[job_id] if job_id in self._chunks else None

    def note(self, noted: SendNote, change: Change | None) -> list[SendNote]:
        """Take what NAS said of one job, and what it changes. Returns all of a pack once the last of it is known."""
        chunk = self._chunks[noted.job_id]
        chunk.waiting.discard(noted.job_id)
        chunk.noted.append(noted)
        if change is not None:
            chunk.changes[noted.job_id] = change
        return [] if chunk.waiting else self._write(chunk)

    def _write(self, chunk: _Chunk) -> list[SendNote]:
        done = [noted.job_id for noted in chunk.noted]
        after = {job_id: chunk.changes.get(job_id, _as_it_is)(self._sent[job_id]) for job_id in done}
        try:
            self._arms.replace_pack(chunk.pack, {job_id: after[job_id].to_json() for job_id in done})
        except VersionConflict:  # tidied away, or an answer lost: each job's own document can say it
            doubtful = {job_id for job_id in done if self._one(job_id, chunk.changes.get(job_id))}
        else:
            own, lines = self._others()
            doubtful = {job_id for job_id in done if job_id in own and self._one(job_id, chunk.changes.get(job_id))}
            doubtful |= {
                job_id for job_id in done if any(_rivals(line, after[job_id]) for line in lines.get(job_id, ()))
            }
        return [
            replace(noted, certain=False) if noted.error is None and noted.job_id in doubtful else noted
            for noted in chunk.noted
        ]

    def _one(self, job_id: str, change: Change | None) -> bool:
        """Note in a job's own document what was to stand in the pack. Returns whether NAS may hold another wish."""
        sent, known = self._sent[job_id], self._known.get(job_id, 0)
        rival = False

        def noting(found: ArmDocument) -> ArmDocument:
            nonlocal rival
            rival = False
            if found.generation < sent.generation:
                rival = found.generation > known and not are_numbered(found, sent)
                rival = rival and found.fire_at != sent.fire_at
                found = _over(sent, found)
            elif found.generation > sent.generation:  # founded on an older state: it cannot know the key we have used
                found = replace(found, keys={**sent.keys, **found.keys})
            return found if change is None else change(found)

        document = self._arms.change(job_id, noting)
        return rival or overtaken(document, sent)

    def _others(self) -> tuple[Collection[str], Mapping[str, list[Line]]]:
        """Return what others have made since: documents of a job's own, and lines of packs by job."""
        now = self._arms.all(but=self._mine | {pack.key for pack in self._before.packs})
        lines: dict[str, list[Line]] = {}
        for pack in now.packs:
            for job_id, line in pack.lines.items():
                lines.setdefault(job_id, []).append(line)
        return now.own - self._before.own, lines


def tidy(ctx: Context, before: Arms, wanted: Collection[str], renewed: Collection[str]) -> None:
    """Take out of packs what counts no more: of jobs that nobody knows, or that have a document or a newer line.

    `wanted`: the jobs that the store or NAS knows; `renewed`: those that a newer pack names. Most of a pack must be
    gone before it is written again.
    """
    now = ctx.clock().astimezone(UTC).isoformat()
    for pack in (pack for pack in before.packs if pack.version):  # one without could not be read: doctor names it
        live = {
            job_id: line
            for job_id, line in pack.lines.items()
            if job_id not in before.own
            and job_id not in renewed
            and rank(before.lines[job_id]) == rank(line)
            # Of a job that is gone, somebody may have sent this since NAS was listed: until it is past, it is ours.
            and (job_id in wanted or str(line.get("fire_at") or "") > now)
        }
        if not live:
            ctx.repository.arms.drop_pack(pack)
        elif 2 * len(live) <= len(pack.lines):
            try:
                ctx.repository.arms.replace_pack(pack, live)
            except VersionConflict:
                continue  # its maker is at work on it


def _rivals(line: Line, sent: ArmDocument) -> bool:
    """Return whether a line of somebody else's pack stands for another wish, which NAS may have got after this one."""
    return FEATURE_GENERATION not in sent.features and line.get("fire_at") != (
        sent.fire_at and sent.fire_at.isoformat()
    )


def _over(sent: ArmDocument, found: ArmDocument) -> ArmDocument:
    """Return what was sent, over a document that was founded on an older state: its notes stay."""
    return replace(
        sent,
        keys={**found.keys, **sent.keys},
        idle=found.idle,
        last_callback_at=found.last_callback_at,
        last_callback=found.last_callback,
        last_fire_error=found.last_fire_error,
        notes=found.notes,
    )


def _as_it_is(document: ArmDocument) -> ArmDocument:
    return document
