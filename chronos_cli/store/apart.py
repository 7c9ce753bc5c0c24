"""Jobs that are kept apart: in a bucket each job has a document of its own, so fires of different jobs never meet.

    cron/jobs/<folder>/<job_id>.json   the whole record of one job, as a jobs.json of that job alone
    cron/jobs.json                     a listing made from them (`listing.py`), which names the folder

The `jobs` of a listing is a text, which a chronos that knows no such documents refuses: two layouts never claim one
occurrence. The documents are the truth, and the listing, which may lag, says in which folder they are. A folder's name
is never used again, so what an earlier move left behind counts for nothing.

A record is changed by a conditional write of its document. A job is removed by one too: its document has no job from
then on, and then the process that wrote that deletes it. Only that process does, since a bucket deletes without a
condition.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import is_job_id
from chronos_cli.errors import ChronosError, ConflictError, NotFoundError, StoreError
from chronos_cli.frozen import replace
from chronos_cli.store.interface import JobsMovedError, OutcomeUnknown, VersionConflict
from chronos_cli.store.job_entries import UPDATED, Record
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.listing import entry_of, job_key, names_in, without_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.store.interface import Document
    from chronos_cli.store.layout import Layout
    from chronos_cli.store.listing import Entry, JobsListing

MOVED: Final = "moved"
"""The member of a job's document by which a move took the record out of it; such a document never changes again."""

LEFT_BEHIND: Final = timedelta(days=1)
"""After so long no process goes on with what it was about to write, or to delete, before."""


class OwnDocument:
    """One job's document as it was read, with the change to be made to it. `problem`: why it cannot be used, or None.

    `found`: its bytes; None where there is none. `drop`: the job is to go.
    """

    __slots__ = ("before", "drop", "file", "found", "job_id", "key", "problem")

    def __init__(self, job_id: str, key: str, found: Document | None) -> None:
        self.job_id, self.key, self.found = job_id, key, found
        self.problem: str | None = None
        self.drop = False
        self.file = JobsFile.empty()
        if found is not None:
            try:
                self.file = JobsFile.parse(found.data, where=key)
            except StoreError as error:
                self.problem = error.message
        self.before = self.file.get(job_id)

    @property
    def is_moved(self) -> bool:
        """Return whether a move took the record out of it."""
        return self.file.member(MOVED) is not None

    @property
    def is_vacant(self) -> bool:
        """Return whether its job was removed, and it is only still to be deleted."""
        return self.found is not None and self.problem is None and not self.file.records

    @property
    def changed(self) -> bool:
        """Return whether there is anything to write."""
        return self.drop or self.file.changed

    def is_left_behind(self, now: datetime) -> bool:
        """Return whether it was written so long ago that no process is still about to write or delete it."""
        try:
            return now - datetime.fromisoformat(str(self.file.member(UPDATED))) > LEFT_BEHIND
        except (TypeError, ValueError):
            return False

    def records(self) -> list[Record]:
        """Return its entries, each with what makes it unusable."""
        if self.problem is not None:
            return [Record(id=self.job_id, value={}, problem=self.problem, index=0)]
        return [
            record
            if record.id == self.job_id or record.problem is not None
            else replace(record, problem=f"it stands in the document of '{self.job_id}'")
            for record in self.file.records
        ]

    def get(self) -> dict[str, Any] | None:
        """Return a copy of the usable record, or None."""
        return None if self.drop else self.file.get(self.job_id)


class ApartJobs(JobsFile):
    """The jobs of a home that keeps them apart, each read as it is asked for. A change counts once it is saved.

    Reading raises StoreError, and JobsMovedError where the jobs have left their folder, unless `elsewhere` reads them
    where they are now.
    """

    def __init__(self, layout: Layout, listing: JobsListing | None) -> None:
        """`listing`: as it was last read, None where there is none yet."""
        super().__init__("", top=None, jobs=None, holder=None)
        self.absent = listing is None
        self.listing = listing
        self.elsewhere: Callable[[], JobsFile] | None = None
        self._layout = layout
        self._store = layout.documents
        self._own: dict[str, OwnDocument] = {}
        self._names: frozenset[str] | None = None if listing is not None else frozenset()
        self._all_read = listing is None

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def documents(self) -> list[OwnDocument]:
        """Return the document of every job: those of the listing in its order, and all others after them."""
        self._read_all()
        places = {} if self.listing is None else {entry["id"]: at for at, entry in enumerate(self.listing.entries)}
        return sorted(self._own.values(), key=lambda own: (places.get(own.job_id, len(places)), own.job_id))

    @property
    def named_only(self) -> list[OwnDocument]:
        """Return the places of those that the listing names and that have no document: they may be about to get one."""
        self._read_all()
        listing = self.listing
        names = [] if listing is None else [entry["id"] for entry in listing.entries if entry["id"] not in self._own]
        return [OwnDocument(name, job_key(listing.folder, name), None) for name in names if listing is not None]

    @property
    def records(self) -> list[Record]:
        """Return every entry, unusable ones too, with the changes made here."""
        try:
            return [record for own, record in self._numbered() if not own.drop]
        except JobsMovedError:
            return self._moved().records

    @property
    def changed(self) -> bool:
        """Return whether there is anything to write."""
        return any(own.changed for own in self._own.values())

    def get(self, job_id: str) -> dict[str, Any] | None:
        """Return a copy of a usable record's value, or None."""
        try:
            return self._load(job_id).get() if is_job_id(job_id) else None
        except JobsMovedError:
            return self._moved().get(job_id)

    def problem_of(self, job_id: str) -> str | None:
        """Return why the record of this id cannot be used; None where it can, or where there is none."""
        try:
            found = self._load(job_id).records() if is_job_id(job_id) else []
        except JobsMovedError:
            return self._moved().problem_of(job_id)
        return next((record.problem for record in found if record.id == job_id), None)

    def bytes_of(self, job_id: str) -> bytes:
        """Return the bytes of a job's document, none where it has none."""
        found = self._load(job_id).found
        return b"" if found is None else found.data

    # -- changing ----------------------------------------------------------------------------------------------------

    def put(self, job_id: str, value: dict[str, Any]) -> None:
        """Replace a record. Raises NotFoundError, and JobsMovedError where a move took it."""
        self._to_change(job_id).file.put(job_id, value)

    def add(self, value: dict[str, Any]) -> None:
        """Add a job. Raises ConflictError where its id, in any case, is taken."""
        job_id = value.get("id")
        if not is_job_id(job_id):
            raise ValueError(f"not a job id: {job_id!r}")
        own = self._to_change(str(job_id))
        for name in (own.job_id, *sorted(self._listed())):
            if name.lower() == own.job_id.lower() and self._load(name).records():
                raise ConflictError(f"there is a job '{name}' already", hint="choose another id, or edit that job")
        if own.is_vacant:
            self._clear(own)
        own.file.add(value)

    def remove(self, job_id: str) -> None:
        """Drop the record of this id. Raises NotFoundError, and JobsMovedError where a move took it."""
        own = self._to_change(job_id)
        if own.get() is None:
            raise NotFoundError(f"no job '{job_id}' in this store")
        own.drop = True

    def remove_record(self, index: int) -> None:
        """Drop the document in which the entry at this place stands, usable or not."""
        own = next(own for own, record in self._numbered() if record.index == index)
        self._to_change(own.job_id).drop = True

    def save(self) -> None:
        """Write the documents that were changed, several at a time, and bring the listing up to them.

        A job is in the listing before it has a document, so a move misses none. Raises VersionConflict where a document
        is no longer as it was read; others are written by then, and the next look finds them so. Raises StoreError.
        """
        changed = [own for own in self._own.values() if own.changed]
        after = {own.job_id: _entry(own.get()) for own in changed if _entry(own.get()) != _entry(own.before)}
        gone = {job_id: None for job_id, entry in after.items() if entry is None}
        if len(gone) < len(after):
            added = any(own.found is None for own in changed)
            self._layout.note(self.listing, {name: after[name] for name in after.keys() - gone}, added=added)
        self._store.each(self._write, changed)
        if gone:
            self._layout.note(self.listing, gone)

    # -- its parts ---------------------------------------------------------------------------------------------------

    def _moved(self) -> JobsFile:
        """Return the jobs where they are now, for those who read. Raises JobsMovedError for those who change them."""
        if self.elsewhere is None:
            raise JobsMovedError
        return self.elsewhere()

    def _numbered(self) -> list[tuple[OwnDocument, Record]]:
        found = [(own, record) for own in self.documents for record in own.records()]
        return [(own, replace(record, index=at)) for at, (own, record) in enumerate(found)]

    def _load(self, job_id: str) -> OwnDocument:
        """Return one job's document; the first time, read it."""
        if job_id not in self._own:
            self._own[job_id] = self._read(job_id)
        return self._own[job_id]

    def _read(self, job_id: str) -> OwnDocument:
        key = "" if self.listing is None else job_key(self.listing.folder, job_id)
        if self.listing is None or (self._names is not None and job_id not in self._names):
            return OwnDocument(job_id, key, None)
        own = OwnDocument(job_id, key, self._store.read(key))
        if own.found is None or own.is_moved:
            self._still_here()
        return own

    def _still_here(self) -> None:
        """Tell a job that is gone, or is just being moved, from a folder that counts for nothing any more.

        Raises JobsMovedError where the jobs are elsewhere.
        """
        now = self._layout.read_again()
        if self.listing is None or now is None or now.folder != self.listing.folder:
            raise JobsMovedError
        self.listing = now

    def _listed(self) -> frozenset[str]:
        if self._names is None:
            self._names = names_in(self._store, self.listing.folder) if self.listing is not None else frozenset()
        return self._names

    def _read_all(self) -> None:
        if self._all_read or self.listing is None:
            return
        names = sorted(self._listed() - self._own.keys())
        keys = [job_key(self.listing.folder, name) for name in names]
        for name, key, found in zip(names, keys, self._store.each(self._store.read, keys), strict=True):
            self._own[name] = OwnDocument(name, key, found)
        self._still_here()
        self._all_read = True

    def _to_change(self, job_id: str) -> OwnDocument:
        own = self._load(job_id)
        if own.is_moved and self.listing is not None:
            # The process that began the move may be gone.
            self._layout.keep_together(self.listing.folder)
            raise JobsMovedError
        return own

    def _write(self, own: OwnDocument) -> None:
        if not own.drop and own.found is None:
            self._store.create(own.key, own.file.render())
        elif not own.drop and own.found is not None:
            self._store.replace(own.key, own.file.render(), own.found.version)
        elif own.found is not None:
            self._drop(own.key, own.found.version)

    def _drop(self, key: str, version: str) -> None:
        """Take the job out of its document, and then the document out of the bucket."""
        data = without_job(self._layout.token())
        try:
            self._store.replace(key, data, version)
        except OutcomeUnknown:
            found = self._store.read(key)
            if found is None or found.data != data:
                raise
        with suppress(ChronosError):  # nothing takes it for a job
            self._store.delete(key)

    def _clear(self, own: OwnDocument) -> None:
        """Have the document of a removed job go where its process has left it, else wait. Raises VersionConflict."""
        if own.found is not None and own.is_left_behind(datetime.now(UTC)):
            self._drop(own.key, own.found.version)
        raise VersionConflict(own.key)


def _entry(record: dict[str, Any] | None) -> Entry | None:
    return None if record is None else entry_of(record)
