"""Find the job that a person means."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from chronos_cli.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from chronos_cli.store.jobsfile import JobsFile


def find_job_id(jobs: JobsFile, reference: str) -> str:
    """Return the id a person means: an id, a unique prefix of one, or a name (in any case).

    Raises NotFoundError with near misses, or ConflictError with the candidates.
    """
    named: dict[str, str] = {}
    for record in jobs.records:
        if record.problem is not None:
            named[record.number] = record.number
        if record.id is not None:
            name = record.value.get("name") if isinstance(record.value, dict) else None
            named[record.id] = str(name or record.id)
    if reference in named:
        return reference
    folded = reference.casefold()
    found = [job_id for job_id, name in named.items() if name.casefold() == folded]
    if not found:
        found = [job_id for job_id in named if job_id.startswith(reference)] if reference else []
    if len(found) == 1:
        return found[0]
    if found:
        listing = ", ".join(f"{job_id} ({named[job_id]})" for job_id in found[:5])
        raise ConflictError(f"'{reference}' could be {listing}", hint="name one job by its full id")
    near = difflib.get_close_matches(reference, [*named, *named.values()], n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'?" if near else "see `chronos job list`"
    raise NotFoundError(f"there is no job '{reference}'", hint=hint)
