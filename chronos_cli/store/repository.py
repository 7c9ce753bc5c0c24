"""The documents of one home: its jobs, its rows, its arm documents, its hold and its id."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar
from zlib import crc32

from chronos_cli.contract import is_job_id
from chronos_cli.durations import span
from chronos_cli.errors import ChronosError, DocumentError, StoreError, UnreadableError
from chronos_cli.store.arms.store import ArmStore
from chronos_cli.store.documents import ATTEMPTS, DocumentRepository, StoredDocument, dump, parse
from chronos_cli.store.group_change import GroupChange, apply_each
from chronos_cli.store.interface import JOBS_KEY, JobsMovedError, VersionConflict
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.rows import RowStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from chronos_cli.store.apart import ApartJobs
    from chronos_cli.store.group_change import PendingChange
    from chronos_cli.store.holds import Hold
    from chronos_cli.store.interface import Document, DocumentStore
    from chronos_cli.store.layout import Layout

T = TypeVar("T")

STORE_KEY: Final = "cron/store.json"
STOP_KEY: Final = "ESTOP"


class Repository(DocumentRepository):
    """Jobs, rows, arm documents and the store's id, over any document store."""

    def __init__(
        self,
        documents: DocumentStore,
        *,
        sleep: Callable[[float], None],
        random: Callable[[], float],
        fleet: DocumentStore | None = None,
        token: Callable[[], str] = lambda: os.urandom(8).hex(),
    ) -> None:
        """`fleet`: the documents of the home that this one is a profile of; a hold there is a hold here too.

        `token`: makes what was never used before. `layout` is None where there is only one: a jobs.json as Hermes
        writes it.
        """
        super().__init__(documents, sleep=sleep, random=random)
        self.rows = RowStore(documents, self.jobs, self._entry_bytes)
        self.arms = ArmStore(self)
        self._fleet = fleet
        self._jobs: StoredDocument[JobsFile] | None = None
        self._proven = False
        self.layout: Layout | None = None
        if documents.keeps_jobs_apart:
            from chronos_cli.store.layout import Layout

            self.layout = Layout(self, token)
        self._grouped = GroupChange(
            once=self._change_once, pause=lambda tries: self.pause(tries + 1), attempts=ATTEMPTS
        )

    # -- jobs --------------------------------------------------------------------------------------------------------

    def jobs(self) -> JobsFile:
        """Return the jobs as stored now, for reading.

        Raises StoreError; an absent file is an empty one that says so.
        """

        def apart(jobs: ApartJobs) -> JobsFile:
            jobs.elsewhere = self.jobs
            return jobs

        return self._where_they_are(apart, self._together)

    def _where_they_are(self, apart: Callable[[ApartJobs], T], together: Callable[[], T]) -> T:
        """Read the jobs in the layout that they have, once more where they were just moved. Raises JobsMovedError."""
        for _ in range(2):
            with suppress(JobsMovedError):
                jobs = None if self.layout is None else self.layout.open()
                return together() if jobs is None else apart(jobs)
        raise JobsMovedError

    def _together(self) -> JobsFile:
        """Return the jobs of one document. Raises JobsMovedError where they are kept apart."""
        found = self._read_together()
        if found is None:
            return JobsFile.empty()
        if self._jobs is None or self._jobs.version != found.version:
            self._jobs = StoredDocument(value=self._parsed(found), version=found.version)
        return self._jobs.value

    def change(self, fn: Callable[[JobsFile], T]) -> T:
        """Run `fn` on a fresh copy of the jobs and store what it changed, again from the start on every conflict.

        `fn` may run several times, so it recognises its own earlier write by its token. What it raises leaves the
        store as it was; a VersionConflict it raises means that it too must look again. Raises StoreError,
        LockTimeoutError, or TemporaryError when conflicts do not clear. Changes that meet in threads of this process
        are written together (`group_change.py`), so `fn` may run in another of them.
        """
        self._prove()
        layout = self.layout
        if layout is None:
            return self._grouped.make(fn)
        return self.until_stored(JOBS_KEY, lambda: layout.change(fn, self._grouped.make))

    def _read_together(self) -> Document | None:
        """Read the document of all jobs. Raises JobsMovedError where they are kept apart."""
        found = self.documents.read(JOBS_KEY)
        if self.layout is not None:
            self.layout.together(found)
        return found

    def _entry_bytes(self, job_id: str) -> bytes:
        """Return the bytes in which a job's record stands. Raises StoreError."""

        def together() -> bytes:
            found = self._read_together()
            return b"" if found is None else found.data

        return self._where_they_are(lambda apart: apart.bytes_of(job_id), together)

    def _prove(self) -> None:
        if self.documents.needs_proof and not self._proven:
            from chronos_cli.store.proof import ensure_proven

            ensure_proven(self.documents)
            self._proven = True

    def change_together(self, fns: Sequence[Callable[[JobsFile], T]]) -> list[T | ChronosError]:
        """Do as `change` for each of them, with one write where there is one document of all jobs.

        An error stands in the place of a result.
        """
        self._prove()
        if self.layout is None or self.layout.open() is None:
            return self._grouped.make_all(fns)

        def one(fn: Callable[[JobsFile], T]) -> T | ChronosError:
            try:
                return self.change(fn)
            except ChronosError as error:
                return error

        return list(self.documents.each(one, fns))

    def _change_once(self, group: Sequence[PendingChange[object]]) -> None:
        """Make the changes of a group in one write.

        A member that is not over after it met a conflict and must look again.
        """
        try:
            with self.exclusive():
                found = self._read_together()
                jobs = JobsFile.empty() if found is None else self._parsed(found)
                resting = apply_each(jobs, group)
                if resting:
                    self._store_for(resting, jobs, found)
        except Exception as error:  # noqa: BLE001 - raised again in each thread whose change it concerns
            for member in group:
                if not member.over:
                    member.fail(error)

    def _store_for(
        self, resting: Sequence[tuple[PendingChange[object], object]], jobs: JobsFile, found: Document | None
    ) -> None:
        """Write the jobs, and only then tell those whose results rest on it. Raises StoreError."""
        try:
            data = jobs.render()
        except Exception as error:  # noqa: BLE001 - a record that cannot be written
            if len(resting) == 1:
                resting[0][0].fail(error)
            else:  # each by itself, so that only that one fails
                for member, _ in resting:
                    self._change_once([member])
            return
        with suppress(VersionConflict):  # another's write, or the lost answer to ours: each finds out by its own token
            version = self.write(JOBS_KEY, data, found)
            # It reads as what was just written would, which need not be parsed again.
            self._jobs = StoredDocument(value=jobs, version=version)
            for member, result in resting:
                member.done(result)

    def _parsed(self, found: Document) -> JobsFile:
        """Return the jobs of a document.

        Raises StoreError, naming the copy to go back to where nothing better is known.
        """
        try:
            known = None if self._jobs is None else self._jobs.value
            return JobsFile.parse(found.data, beside=found.beside, known=known)
        except StoreError as error:
            if error.hint != StoreError.default_hint:
                raise
            raise type(error)(error.message, hint=f"{error.hint}{self._way_back()}") from error

    def _way_back(self) -> str:
        """Return the command that brings back the newest copy that can be read, with its age and its number of jobs."""
        from shlex import quote

        for copy in self.documents.backups():
            try:
                jobs = JobsFile.parse(copy.data).records
            except StoreError:
                continue
            count = f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}"
            command = f"cp {quote(copy.path)} {quote(f'{self.documents.location}/{JOBS_KEY}')}"
            return f", or go back to what was there {span(copy.age_s)} ago ({count}) with `{command}`"
        return ", there is no copy of it that can be read"

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other writers of the jobs out, where the place can. Raises LockTimeoutError."""
        return self.documents.exclusive(JOBS_KEY)

    # -- the home ----------------------------------------------------------------------------------------------------

    def hold(self, now: datetime) -> Hold | None:
        """Return why all jobs are held, None where they are not. A stop that is there but cannot be read is engaged."""
        from chronos_cli.store.holds import both

        own = _hold_in(self.documents, now, None)
        return own if self._fleet is None else both(own, _hold_in(self._fleet, now, self._fleet.location))

    def store_id(self, make: Callable[[], str]) -> str:
        """Return the store's id, made on first use, and anew where it cannot be read: rows name their locks by it."""
        known: str | None = None

        def once(found: Document | None) -> bytes | None:
            nonlocal known
            try:
                known = _store_id(found)
            except UnreadableError as error:
                self.set_aside(error)
            if known is not None:
                return None
            known = make()
            return dump({"id": known})

        try:
            known = _store_id(self.documents.read(STORE_KEY))
        except UnreadableError:
            known = None
        except DocumentError:  # closed to us: doctor says so, and jobs run by an id that all like us make alike
            return f"unreadable-{crc32(self.documents.location.encode()):08x}"
        if known is None:
            self.update(STORE_KEY, once)
        return str(known)

    def mend_store_id(self, make: Callable[[], str]) -> None:
        """Make the store's id anew where there is one that cannot be read."""
        try:
            _store_id(self.documents.read(STORE_KEY))
        except UnreadableError:
            self.store_id(make)
        except DocumentError:
            return  # closed to us: doctor says so


def _hold_in(documents: DocumentStore, now: datetime, where: str | None) -> Hold | None:
    """Return the hold that a store's document makes, None where there is none or its end is past."""
    from chronos_cli.store.holds import Hold, read_hold

    try:
        found = documents.read(STOP_KEY)
    except StoreError as error:
        return Hold(reason=f"ESTOP cannot be read ({error.message})", where=where)
    if found is None:
        return None
    hold = read_hold(found.data, where=where)
    return None if hold.is_over(now) else hold


def id_in(document: Any) -> str:
    """Return the id in the store's document. Raises LookupError, TypeError or ValueError."""
    if not is_job_id(document["id"]):
        raise ValueError("its id is not one")
    return str(document["id"])


def _store_id(found: Document | None) -> str | None:
    return None if found is None else parse(STORE_KEY, found, id_in)
