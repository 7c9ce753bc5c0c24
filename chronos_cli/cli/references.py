"""From the words people name jobs with to job ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.errors import UsageError
from chronos_cli.operations.jobs.edit import find_job_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.operations.context import Context
    from chronos_cli.store.jobsfile import JobsFile

JOBS_HELP = "ids, unique beginnings of ids, or names"
JOB_HELP = "an id, a unique beginning of one, or a name"


def one(ctx: Context, reference: str) -> str:
    """The id of one job. Raises NotFoundError or ConflictError."""
    return find_job_id(ctx.repository.jobs(), reference)


def several(
    ctx: Context, references: list[str] | None, *, everything: bool, what: str = "--all"
) -> frozenset[str] | None:
    """The ids of the jobs named; None for all of them. Raises UsageError where neither or both were asked for."""
    if everything and references:
        raise UsageError(f"jobs and {what} contradict each other", hint="give one of the two")
    if not everything and not references:
        raise UsageError("no job is named", hint=f"name jobs, or give {what}")
    if everything:
        return None
    jobs = ctx.repository.jobs()
    return frozenset(find_job_id(jobs, reference) for reference in references or ())


def names_of(jobs: JobsFile) -> Mapping[str, str]:
    """Job ids to names."""
    return {
        record.id: str(record.value.get("name") or record.id)
        for record in jobs.records
        if record.id is not None and isinstance(record.value, dict)
    }
