"""The listing of jobs that are kept apart: the form that `cron/jobs.json` has where each job has a document of its own.

    {"jobs": "kept apart ..", "folder": "..", "listing": [{"id": "..", "name": "..", "schedule": ".."}], ..}

Its `jobs` is a text, which every reader of a jobs.json refuses that knows no such documents.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import is_job_id
from chronos_cli.errors import StoreError
from chronos_cli.frozen import frozen
from chronos_cli.store.interface import JOB_PREFIX, JOBS_KEY
from chronos_cli.store.job_entries import JOBS, UPDATED
from chronos_cli.strict_json import NotJsonError, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.store.interface import DocumentStore

Entry = dict[str, Any]
"""One job in a listing: its `id`, and `name` and `schedule` for people."""

MAX_LISTING_BYTES: Final = 64 * 2**20

_BEGINS: Final = re.compile(rb'\s*\{\s*"jobs"\s*:\s*"')


@frozen
class JobsListing:
    """The jobs of a home that keeps them apart, as its listing has them, and the `folder` of their documents.

    The folder's name is made anew by each move, so what an earlier one left behind counts for nothing.
    """

    folder: str
    entries: tuple[Entry, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the document."""
        jobs = f"kept apart, each in a document of its own: {job_key(self.folder, 'ID')}"
        fields = {JOBS: jobs, "folder": self.folder, "listing": list(self.entries)}
        return json.dumps({**fields, UPDATED: datetime.now(UTC).isoformat()}, indent=2).encode()

    def brought_to(self, changed: Mapping[str, Entry | None]) -> JobsListing:
        """Return the listing after a change of entries; None stands for one that goes."""
        entries = {**{entry["id"]: entry for entry in self.entries}, **changed}
        return JobsListing(folder=self.folder, entries=tuple(entry for entry in entries.values() if entry is not None))


def read_listing(data: bytes) -> JobsListing | None:
    """Return the listing in the bytes of a jobs.json, None where they hold the jobs themselves. Raises StoreError."""
    begins = _BEGINS.match(data) is not None
    if not begins and b'"folder"' not in data:
        return None
    try:
        found: Any = read_json(data, max_bytes=MAX_LISTING_BYTES)
    except NotJsonError as error:
        if not begins:
            return None
        raise StoreError(f"{JOBS_KEY} cannot be parsed: {error}") from error
    if not (isinstance(found, dict) and isinstance(found.get(JOBS), str)):  # a person may have sorted its members
        return None
    folder: Any = found.get("folder")
    entries: Any = found.get("listing")
    if not is_job_id(folder):
        raise StoreError(
            f"{JOBS_KEY} is a listing that names no folder",
            hint=f"write the name of the folder in {JOB_PREFIX} into it",
        )
    listed = entries if isinstance(entries, list) else []
    return JobsListing(
        folder=folder,
        entries=tuple(entry for entry in listed if isinstance(entry, dict) and is_job_id(entry.get("id"))),
    )


def entry_of(record: Mapping[str, Any]) -> Entry:
    """Return what a listing has of a job."""
    return {"id": record["id"], "name": record.get("name"), "schedule": record.get("schedule_display")}


def job_key(folder: str, job_id: str) -> str:
    """Return where a job's document lies."""
    return f"{JOB_PREFIX}{folder}/{job_id}.json"


def names_in(store: DocumentStore, folder: str) -> frozenset[str]:
    """Return the jobs that have a document in a folder. Raises StoreError."""
    prefix = f"{JOB_PREFIX}{folder}/"
    names = (key[len(prefix) : -len(".json")] for key in store.list(prefix) if key.endswith(".json"))
    return frozenset(name for name in names if is_job_id(name))


def without_job(token: str) -> bytes:
    """Return a job's document once the job was removed; `token` tells the process that will delete it."""
    return json.dumps({JOBS: [], "removed_by": token, UPDATED: datetime.now(UTC).isoformat()}, indent=2).encode()
