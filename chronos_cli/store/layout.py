"""Which layout the jobs of a bucket home have, apart or together in one document, and the moves from one to the other.

A move may be made while replicas fire, and may stop at any point: it is finished by the next who runs it, or meets it.

- **Apart.** The documents are written into a new folder, which nothing reads yet. Then one conditional write makes of
  jobs.json the listing that names the folder: whatever changed a job meanwhile makes it fail, and it is tried again.
- **Together.** Each document is marked as moved by a conditional write, after which it never changes again; so is the
  place of one that the listing names and that is not there yet. Then one conditional write makes of the listing a
  jobs.json with all records. A process that is to change a job that is marked finishes the move first.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from chronos_cli.errors import ChronosError, StoreError, TemporaryError
from chronos_cli.store.apart import MOVED, ApartJobs, OwnDocument
from chronos_cli.store.interface import JOB_PREFIX, JOBS_KEY, JobsMovedError, VersionConflict
from chronos_cli.store.job_entries import JOBS, UPDATED
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.listing import JobsListing, entry_of, job_key, read_listing
from chronos_cli.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.store.documents import DocumentRepository
    from chronos_cli.store.interface import Document
    from chronos_cli.store.listing import Entry

T = TypeVar("T")

APART: Final = "apart"
TOGETHER: Final = "together"


class Layout:
    """The layout of one bucket home. What was once seen of it is remembered until a document contradicts."""

    def __init__(self, repository: DocumentRepository, token: Callable[[], str]) -> None:
        self.documents = repository.documents
        self.token = token
        self._repository = repository
        self._known: JobsListing | str = ""

    def open(self) -> ApartJobs | None:
        """Return the jobs of a home that keeps them apart, None where they are together. Raises StoreError."""
        if self._known == TOGETHER:
            return None
        listing = self._known if isinstance(self._known, JobsListing) else self.read_again()
        return None if self._known == TOGETHER else ApartJobs(self, listing)

    def read_again(self) -> JobsListing | None:
        """Return the listing as it is now; None where there is none. Raises StoreError."""
        found = self.documents.read(JOBS_KEY)
        listing = None if found is None else read_listing(found.data)
        self._known = listing if listing is not None else "" if found is None else TOGETHER
        if found is None and (left := self._folders()):
            raise StoreError(
                f"{JOBS_KEY} is gone, and there are documents of jobs in {JOB_PREFIX}{left[-1]}/",
                hint=f'put it back, or write it anew: {{"jobs": "apart", "folder": "{left[-1]}"}}',
            )
        return listing

    def together(self, found: Document | None) -> None:
        """Make sure that a jobs.json that was just read holds the jobs. Raises JobsMovedError where it does not."""
        if found is None or read_listing(found.data) is not None:
            self._known = ""
            raise JobsMovedError

    def change(self, fn: Callable[[JobsFile], T], otherwise: Callable[[Callable[[JobsFile], T]], T]) -> T:
        """Run `fn` on the jobs and store what it changed; `otherwise` does so where they are together.

        Raises VersionConflict where it must be run again, and what `fn` raises.
        """
        jobs = self.open()
        if jobs is None:
            return otherwise(fn)
        result = fn(jobs)
        if jobs.changed:
            if jobs.listing is None:  # the first job of a home
                self.documents.create(JOBS_KEY, JobsListing(folder=self.token()).to_bytes())
                raise VersionConflict(JOBS_KEY)
            jobs.save()
        return result

    def note(self, listing: JobsListing | None, changed: Mapping[str, Entry | None], *, added: bool = False) -> None:
        """Bring the listing up to changed entries.

        It is written, or this raises, where a job is `added`: a move that has read it before must look again. Else it
        may lag until the next change. Raises JobsMovedError.
        """

        def once(found: Document | None) -> bytes | None:
            now = None if found is None else read_listing(found.data)
            if now is None or listing is None or now.folder != listing.folder:
                raise JobsMovedError
            self._known = now.brought_to(changed)
            return self._known.to_bytes() if added or self._known != now else None

        try:
            self._repository.update(JOBS_KEY, once)
        except (StoreError, TemporaryError):
            if added:
                raise

    # -- moves -------------------------------------------------------------------------------------------------------

    def keep_apart(self) -> bool:
        """Give each job a document of its own; return False where each has one. Raises StoreError."""
        folder = self.token()
        drafts: dict[str, bytes] = {}

        def once() -> bool:
            found = self.documents.read(JOBS_KEY)
            if found is not None and (now := read_listing(found.data)) is not None:
                return now.folder == folder
            jobs = JobsFile.empty() if found is None else JobsFile.parse(found.data)
            self._draft(folder, jobs, drafts)
            entries = tuple(entry_of(record.value) for record in jobs.records)
            self._repository.write(JOBS_KEY, JobsListing(folder=folder, entries=entries).to_bytes(), found)
            return True

        try:
            moved = self._repository.until_stored(JOBS_KEY, once)
        except TemporaryError as error:
            raise type(error)(
                error.message, hint="let it rest for a moment with `chronos hold`, and move again"
            ) from error
        self._sweep()
        return moved

    def _draft(self, folder: str, jobs: JobsFile, drafts: dict[str, bytes]) -> None:
        """Write the documents of jobs that nothing reads yet, as far as `drafts` has not got them so."""
        wanted = {}
        for record in jobs.records:
            if record.problem is not None or record.id is None:
                raise StoreError(
                    f"{record.id or record.number} cannot be moved: {record.problem}", hint="mend it first"
                )
            own = JobsFile.empty()
            own.add(record.value)
            wanted[record.id] = record.value, own.render()
        changed = [name for name, (value, _) in wanted.items() if drafts.get(name) != json.dumps(value).encode()]

        def write(name: str) -> None:
            self._repository.update(job_key(folder, name), lambda _: wanted[name][1])

        self.documents.each(write, changed)
        drafts |= {name: json.dumps(wanted[name][0]).encode() for name in changed}
        for name in drafts.keys() - wanted.keys():
            self.documents.delete(job_key(folder, name))
            del drafts[name]

    def keep_together(self, folder: str | None = None) -> bool:
        """Bring all jobs, or those of one folder, into one document; return False where they are. Raises StoreError."""
        seen: list[str] = []

        def once() -> None:
            found = self.documents.read(JOBS_KEY)
            listing = None if found is None else read_listing(found.data)
            if listing is None or folder not in (None, listing.folder):
                return
            seen.append(listing.folder)
            view = ApartJobs(self, listing)
            documents, jobs = view.documents, JobsFile.empty()
            for own in documents:
                for record in own.records():
                    if record.problem is not None:
                        raise StoreError(f"{own.key} cannot be moved: {record.problem}", hint="mend it first")
                    jobs.add(record.value)
            self.documents.each(self._mark, [*documents, *view.named_only])
            self._repository.write(JOBS_KEY, jobs.render(), found)

        self._repository.until_stored(JOBS_KEY, once)
        self._known = ""
        return bool(seen)

    def _mark(self, own: OwnDocument) -> None:
        """Take the record out of a document by marking it; where there is none yet, mark its place.

        Raises VersionConflict where it has changed.
        """
        if own.found is None:
            self.documents.create(own.key, _marked({JOBS: []}))
        elif own.before is not None and not own.is_moved:
            self.documents.replace(own.key, _marked(read_json(own.found.data)), own.found.version)

    def _folders(self) -> list[str]:
        return sorted({key[len(JOB_PREFIX) :].partition("/")[0] for key in self.documents.list(JOB_PREFIX)})

    def _sweep(self) -> None:
        """Delete what moves left in other folders than the one that counts, a day after they did.

        Until then a process that stood still meets the mark, and writes nothing beside it.
        """
        listing = self.read_again()
        if listing is None:
            return  # a move may be about to make one of them count

        def delete(key: str) -> None:
            if OwnDocument("", key, self.documents.read(key)).is_left_behind(datetime.now(UTC)):
                self.documents.delete(key)

        here = job_key(listing.folder, "").removesuffix(".json")
        with suppress(ChronosError):
            self.documents.each(delete, [key for key in self.documents.list(JOB_PREFIX) if not key.startswith(here)])


def _marked(document: dict[str, Any]) -> bytes:
    return json.dumps({**document, MOVED: True, UPDATED: datetime.now(UTC).isoformat()}, indent=2).encode()
