"""Batches: the arm documents of many jobs changed together, in packs where many have no document of their own.

A pack speaks for a job only while the job has no document of its own, so nothing written here can undo what a fire has
noted meanwhile. But a pack does not conflict either: so a batch looks, after each pack it writes, at what others have
made since. What it finds is changed job by job.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

from chronos_cli.contract import FEATURE_GENERATION, MAX_BATCH
from chronos_cli.frozen import replace
from chronos_cli.store.arms.pack import create_pack, rank, render
from chronos_cli.store.arms.store import no_arm
from chronos_cli.store.documents import StoredDocument
from chronos_cli.store.interface import VersionConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from chronos_cli.store.arms.document import ArmDocument
    from chronos_cli.store.arms.pack import Line, Pack
    from chronos_cli.store.arms.store import Arms
    from chronos_cli.store.repository import Repository

    Change = Callable[[ArmDocument], ArmDocument]

PACK_FROM: Final = 32
"""From so many jobs on, the arm documents of jobs that have none of their own are written in packs."""


class ArmBatch:
    """Changes of many arm documents, founded on one look at all of them.

    `contested`: the jobs of which NAS may hold the wish of another process, sent since this batch wrote its own.
    """

    def __init__(
        self,
        repository: Repository,
        before: Arms,
        seen: Mapping[str, StoredDocument[ArmDocument] | None],
        token: Callable[[], str],
        pack_from: int = PACK_FROM,
    ) -> None:
        """`before`: the look; `seen`: the documents read by it; `token` names a pack, never twice the same."""
        self.contested: set[str] = set()
        self._repository = repository
        self._before = before
        self._seen = seen
        self._token = token
        self._pack_from = pack_from
        self._written: dict[str, StoredDocument[ArmDocument]] = {}
        self._packs: dict[str, Pack] = {}
        self._pack_of: dict[str, str] = {}

    def change_many(self, changes: Mapping[str, Change]) -> dict[str, ArmDocument]:
        """Change the documents of many jobs, each by a pure function of it, and return each as it is stored then.

        What this batch has written before is changed from there. Raises StoreError and TemporaryError.
        """
        packed = {job_id: self._pack_of[job_id] for job_id in changes if self._is_packed(job_id)}
        alone = [job_id for job_id in changes if job_id not in packed]
        new = [job_id for job_id in alone if job_id not in self._written and job_id not in self._before.own]
        taken: Collection[str] = ()
        if len(new) >= self._pack_from:
            self._create({job_id: changes[job_id](self._known(job_id).value) for job_id in new})
            alone = [job_id for job_id in alone if not self._is_packed(job_id)]
            taken = set(new).intersection(alone)
        for key in dict.fromkeys(packed.values()):
            self._rewrite(self._packs[key], changes)
        for job_id in alone:
            sent = self._written.get(job_id)
            known = None if job_id in taken else self._known(job_id)
            stored = self._written[job_id] = self._repository.arms.swap(job_id, changes[job_id], known)
            if sent is not None and stored.value.overtook(sent.value):
                self.contested.add(job_id)
        return {job_id: self._written[job_id].value for job_id in changes}

    def tidy(self, wanted: Collection[str], now: datetime) -> None:
        """Take out of older packs what counts no more: lines of jobs that nobody knows, or that have something newer.

        `wanted`: the jobs that the store or NAS knows. Most of a pack must be gone before it is written again.
        Raises StoreError.
        """
        before, instant = self._before, now.astimezone(UTC).isoformat()
        documents = self._repository.documents
        for pack in (pack for pack in before.packs if pack.version):  # one without could not be read: doctor names it
            live = {
                job_id: line
                for job_id, line in pack.lines.items()
                if job_id not in before.own
                and job_id not in self._pack_of
                and rank(before.lines[job_id]) == rank(line)
                # Of a job that is gone, somebody may have sent this since NAS was listed: until it is past, it is ours.
                and (job_id in wanted or str(line.get("fire_at") or "") > instant)
            }
            if not live:
                documents.delete(pack.key, durable=False)
            elif 2 * len(live) <= len(pack.lines):
                try:
                    documents.replace(pack.key, render(live), pack.version)
                except VersionConflict:
                    continue  # its maker is at work on it

    def _known(self, job_id: str) -> StoredDocument[ArmDocument]:
        return self._written.get(job_id) or self._seen.get(job_id) or no_arm(job_id)

    def _is_packed(self, job_id: str) -> bool:
        """Return whether a line of this batch's says what counts for a job; a document of its own has a version."""
        return job_id in self._pack_of and not self._written[job_id].version

    def _create(self, documents: Mapping[str, ArmDocument]) -> None:
        """Write documents in new packs, except of the jobs that another process has touched since the look."""
        jobs = list(documents)
        made: dict[str, str] = {}
        for start in range(0, len(jobs), MAX_BATCH):
            part = {job_id: documents[job_id] for job_id in jobs[start : start + MAX_BATCH]}
            pack = create_pack(self._repository, self._token(), part)
            self._packs[pack.key] = pack
            made |= dict.fromkeys(part, pack.key)
        own, lines_of = self._others()
        for job_id, key in made.items():
            if job_id not in own and job_id not in lines_of:
                self._pack_of[job_id] = key
                self._written[job_id] = StoredDocument(value=documents[job_id], version="")

    def _rewrite(self, pack: Pack, changes: Mapping[str, Change]) -> None:
        """Change what a pack of this batch says, and the document of each of its jobs that has got one meanwhile."""
        sent = {job_id: self._written[job_id].value for job_id in pack.lines if self._is_in(pack, job_id)}
        after = {job_id: changes.get(job_id, _as_it_is)(document) for job_id, document in sent.items()}
        lines = {job_id: document.to_json() for job_id, document in after.items()}
        alone: Collection[str]
        try:
            version = self._repository.documents.replace(pack.key, render(lines), pack.version)
        except VersionConflict:  # tidied away, or an answer lost: each job's own document can say it
            alone = sent
        else:
            self._packs[pack.key] = replace(pack, version=version, lines=lines)
            own, lines_of = self._others()
            alone = [job_id for job_id in sent if job_id in own]
            self.contested.update(
                job_id for job_id in sent if any(_rivals(line, after[job_id]) for line in lines_of.get(job_id, ()))
            )
        for job_id in sent:
            self._written[job_id] = StoredDocument(value=after[job_id], version="")
        for job_id in alone:
            self._written[job_id] = self._move_out(job_id, sent[job_id], changes.get(job_id, _as_it_is))

    def _is_in(self, pack: Pack, job_id: str) -> bool:
        return self._pack_of.get(job_id) == pack.key and self._is_packed(job_id)

    def _move_out(self, job_id: str, sent: ArmDocument, change: Change) -> StoredDocument[ArmDocument]:
        """Note in a job's own document what was to stand in a pack."""
        seen = self._seen.get(job_id)
        known = 0 if seen is None else seen.value.generation
        rival = False

        def noting(found: ArmDocument) -> ArmDocument:
            nonlocal rival
            rival = False
            if found.generation < sent.generation:
                rival = found.generation > known and not found.is_numbered_like(sent)
                rival = rival and found.fire_at != sent.fire_at
                found = _over(sent, found)
            elif found.generation > sent.generation:  # founded on an older state: it cannot know the key we have used
                found = replace(found, keys={**sent.keys, **found.keys})
            return change(found)

        stored = self._repository.arms.swap(job_id, noting)
        if rival or stored.value.overtook(sent):
            self.contested.add(job_id)
        return stored

    def _others(self) -> tuple[Collection[str], Mapping[str, list[Line]]]:
        """Return what others have made since the look: documents of a job's own, and lines of packs by job."""
        now = self._repository.arms.all(but={*self._packs, *(pack.key for pack in self._before.packs)})
        lines: dict[str, list[Line]] = {}
        for pack in now.packs:
            for job_id, line in pack.lines.items():
                lines.setdefault(job_id, []).append(line)
        return now.own - self._before.own, lines


def _rivals(line: Line, sent: ArmDocument) -> bool:
    """Return whether a line of another's pack stands for another wish, which NAS may have got after this one."""
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
