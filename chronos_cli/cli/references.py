"""Find the ids of jobs by the words that people name them with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.core.labels import labels_of, parse_selector, selects
from chronos_cli.errors import NotFoundError, UsageError
from chronos_cli.frozen import frozen
from chronos_cli.operations.evaluate import read_record
from chronos_cli.operations.views.find import find_job_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.core.job import Job
    from chronos_cli.operations.context import Context
    from chronos_cli.store.jobsfile import JobsFile

JOBS_HELP = "ids, unique beginnings of ids, or names"
JOB_HELP = "an id, a unique beginning of one, or a name"
SELECTOR_HELP = "those with these labels, as team=ops,tier!=gold; also 'env in (a,b)', owner, '!owner'"
ALL_HELP = "all jobs"


def one(ctx: Context, reference: str) -> str:
    """Return the id of one job. Raises NotFoundError or ConflictError."""
    return find_job_id(ctx.repository.jobs(), reference)


def several(
    ctx: Context, references: list[str] | None, *, everything: bool, what: str = "--all"
) -> frozenset[str] | None:
    """Return the ids of the jobs named; None for all of them.

    Raises UsageError where neither or both were asked for.
    """
    if everything and references:
        raise UsageError(f"jobs and {what} contradict each other", hint="give one of the two")
    if not everything and not references:
        raise UsageError("no job is named", hint=f"name jobs, or give {what}")
    if everything:
        return None
    jobs = ctx.repository.jobs()
    return frozenset(find_job_id(jobs, reference) for reference in references or ())


@frozen
class ChosenJobs:
    """The jobs that a command is to do something to, in the order of the store.

    `named`: one alone, by its name; else several, or what --all or a selector found. `left_out`: those of --all or a
    selector that cannot be used, each with the reason.
    """

    ids: tuple[str, ...]
    named: bool
    left_out: Mapping[str, str]


def choose(
    ctx: Context,
    references: list[str] | None,
    *,
    everything: bool,
    selector: str | None,
    fits: Callable[[Job], str | None] | None = None,
) -> ChosenJobs:
    """Choose jobs by name, by a selector of their labels, or all.

    `fits`: why a job that was not named is left out, None where it is not; without it those that cannot be read are
    chosen too. Raises UsageError where nothing, or two of these are given, NotFoundError where no job is found.
    """
    ways = [bool(references), everything, selector is not None]
    if sum(ways) > 1:
        raise UsageError("jobs, --all and -l contradict each other", hint="give one of them")
    if not any(ways):
        raise UsageError("no job is named", hint="name jobs, or give -l KEY=VALUE, or --all")
    jobs = ctx.repository.jobs()
    if references:
        found = list(dict.fromkeys(find_job_id(jobs, reference) for reference in references))
        return ChosenJobs(ids=tuple(found), named=len(references) == 1, left_out={})
    only = selected(jobs, selector)
    ids, left_out = [], {}
    for record in jobs.records:
        if record.id is None or (only is not None and record.id not in only):
            continue
        job, problem = read_record(ctx, record) if fits is not None else (None, None)
        why = problem if job is None or fits is None else fits(job)
        if why is None:
            ids.append(record.id)
        else:
            left_out[record.id] = why
    return ChosenJobs(ids=tuple(ids), named=False, left_out=left_out)


def selected(jobs: JobsFile, selector: str | None) -> frozenset[str] | None:
    """Return the ids that a selector chooses; None without one. Raises NotFoundError where it chooses none."""
    if selector is None:
        return None
    terms = parse_selector(selector)
    usable = [record for record in jobs.records if record.id is not None and isinstance(record.value, dict)]
    found = frozenset(str(record.id) for record in usable if selects(terms, labels_of(record.value)))
    if not found:
        keys = sorted({key for record in usable for key in labels_of(record.value)})
        known = f"labels in use: {', '.join(keys[:10])}"
        raise NotFoundError(
            f"no job has the labels '{selector}'",
            hint=known if keys else "give jobs some with `chronos job edit --label`",
        )
    return found


def names_of(jobs: JobsFile) -> Mapping[str, str]:
    """Return the names of jobs by id."""
    return {
        record.id: str(record.value.get("name") or record.id)
        for record in jobs.records
        if record.id is not None and isinstance(record.value, dict)
    }
