"""Arm documents, by job: each has one to itself, or a line in a pack; callers are not told which."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from chronos_cli.contract import is_job_id
from chronos_cli.errors import DocumentError
from chronos_cli.frozen import replace
from chronos_cli.store.arms.document import ArmDocument, unreadable_arm
from chronos_cli.store.documents import NOT_READ, StoredDocument, dump, why_not
from chronos_cli.store.interface import ARMS_PREFIX, VersionConflict
from chronos_cli.strict_json import NotJsonError, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from chronos_cli.store.arms.pack import Line, Pack
    from chronos_cli.store.documents import DocumentRepository


class ArmStore:
    """The arm documents of a home's jobs."""

    def __init__(self, repository: DocumentRepository) -> None:
        self._repository = repository
        self._documents = repository.documents

    def get(self, job_id: str) -> StoredDocument[ArmDocument] | None:
        """Return a job's arm document, or None. One that cannot be read is empty: it can be learned again.

        Its version is empty where only a pack has it: the first change makes a document of the job's own.
        """
        stored = self.own(job_id)
        if stored is None:
            from chronos_cli.store.arms.pack import find_line

            line = find_line(self._documents, job_id)
            stored = None if line is None else StoredDocument(value=_arm_of(job_id, line), version="")
        return stored

    def own(self, job_id: str) -> StoredDocument[ArmDocument] | None:
        """Return a job's arm document, where it has one to itself."""
        found = self._documents.read(arm_key(job_id))
        if found is None:
            return None
        try:
            line = read_json(found.data)
        except NotJsonError as error:
            return StoredDocument(value=unreadable_arm(job_id, str(error)), version=found.version)
        return StoredDocument(value=_arm_of(job_id, line), version=found.version)

    def all(self, *, but: Collection[str] = ()) -> Arms:
        """Return all arm documents, after one look at their folder and at all packs `but` these."""
        from chronos_cli.store.arms.pack import read_packs

        # In this order: a pack goes only after what took its place is there.
        packs = read_packs(self._documents, but=but)
        try:
            return Arms(self, self._own_arms(), packs)
        except DocumentError:  # no folder stands there: a read of a job's document says so
            return Arms(self, None, packs)

    def _own_arms(self) -> frozenset[str]:
        names = [
            key[len(ARMS_PREFIX) : -len(".json")] for key in self._documents.list(ARMS_PREFIX) if key.endswith(".json")
        ]
        return frozenset(name for name in names if is_job_id(name))

    def change(self, job_id: str, fn: Callable[[ArmDocument], ArmDocument]) -> ArmDocument:
        """Change a job's arm document by a pure function, again on conflict; returns what is stored then."""
        return self.swap(job_id, fn).value

    def swap(
        self, job_id: str, fn: Callable[[ArmDocument], ArmDocument], seen: StoredDocument[ArmDocument] | None = None
    ) -> StoredDocument[ArmDocument]:
        """Do as `change`, and return the version too.

        `seen`: the document as it was last read or written, its version empty where there was none. It is tried first,
        which spares a read where no other process writes; where one did, the version tells.
        """

        def change(found: StoredDocument[ArmDocument]) -> StoredDocument[ArmDocument]:
            after = fn(found.value)
            if after == found.value:
                return found
            version = self._repository.write(arm_key(job_id), dump(after.to_json()), found, durable=False)
            stored = StoredDocument(value=after, version=version)
            return stored if found.version else self._with_keys(job_id, stored, found.value)

        if seen is not None:
            with suppress(VersionConflict):
                stored = change(seen)
                if stored is not seen:
                    return stored
        return self._repository.until_stored(arm_key(job_id), lambda: change(self.get(job_id) or no_arm(job_id)))

    def _with_keys(
        self, job_id: str, made: StoredDocument[ArmDocument], base: ArmDocument
    ) -> StoredDocument[ArmDocument]:
        """Return a document just made, with the keys that a pack has used since the state it is founded on was read."""
        from chronos_cli.store.arms.pack import find_line

        line = find_line(self._documents, job_id)
        keys = {} if line is None else _arm_of(job_id, line).keys
        if keys.keys() <= base.keys.keys() | made.value.keys.keys():
            return made
        after = self.swap(job_id, lambda found: replace(found, keys={**keys, **found.keys}), made)
        return after if after.value.generation == made.value.generation else made

    def ids(self) -> list[str]:
        """Return the jobs that have an arm document."""
        return sorted(self.all().ids)

    def drop(self, job_id: str) -> None:
        """Forget the wire side of a job that is gone."""
        self._documents.delete(arm_key(job_id), durable=False)


class Arms:
    """All arm documents as one look found them: the names are at hand, documents are read when they are asked for.

    `own`: the jobs that have a document to themselves, none where their folder cannot be listed; `packs`: what speaks
    for all others.
    """

    def __init__(self, store: ArmStore, own: frozenset[str] | None, packs: Sequence[Pack]) -> None:
        from chronos_cli.store.arms.pack import newest

        self._store = store
        self._listed = own is not None
        self.own = own or frozenset()
        self.packs = packs
        self.lines: Mapping[str, Line] = newest(packs)

    @property
    def ids(self) -> frozenset[str]:
        """Return all jobs that have an arm document."""
        return self.own.union(self.lines)

    def get(self, job_id: str) -> StoredDocument[ArmDocument] | None:
        """Return a job's arm document, or None; one made since the look shows in its generation."""
        stored = self._store.own(job_id) if job_id in self.own or not self._listed else None
        if stored is None and job_id in self.lines:
            return StoredDocument(value=_arm_of(job_id, self.lines[job_id]), version="")
        return stored


def _arm_of(job_id: str, line: object) -> ArmDocument:
    try:
        document = ArmDocument.from_json(line)  # type: ignore[arg-type]
        if document.job_id != job_id:
            raise ValueError("it is that of another job")
    except NOT_READ as error:
        return unreadable_arm(job_id, why_not(error))
    return document


def no_arm(job_id: str) -> StoredDocument[ArmDocument]:
    """Return what stands for an arm document that is not there."""
    return StoredDocument(value=ArmDocument(job_id=job_id), version="")


def arm_key(job_id: str) -> str:
    """Return where a job's arm document is stored."""
    return f"{ARMS_PREFIX}{job_id}.json"
