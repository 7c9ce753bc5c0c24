"""Jobs of a store in the words of another scheduler: a crontab, CronJobs of Kubernetes, timers of systemd.

A job that the other cannot say is left out by name with the reason, and options of a job that it does not know are
named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chronos_cli.core.job import Standing, ours_of
from chronos_cli.core.policy import Overlap
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import frozen
from chronos_cli.operations.evaluate import read_record, why_unusable
from chronos_cli.operations.foreign.crontab_export import crontab_of
from chronos_cli.operations.foreign.exported import be_text
from chronos_cli.operations.foreign.kubernetes_export import cron_job
from chronos_cli.operations.foreign.systemd_export import units

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.core.job import Job
    from chronos_cli.operations.context import Context

FORMATS: Final = ("json", "crontab", "kubernetes", "systemd")

_SAID: Final = {
    "crontab": (),
    "kubernetes": ("overlap", "grace", "retries", "timeout", "on_crash"),
    "systemd": ("overlap", "grace", "timeout", "jitter"),
}
"""The options of a job that each of them says; that runs may overlap they all can."""


@frozen
class ForeignExport:
    """The text of each file by its name ("" for the only one), and why jobs are left out, by id.

    `unsaid`: the options of jobs that are in it without them, by id.
    """

    files: Mapping[str, str]
    left_out: Mapping[str, str]
    count: int
    unsaid: Mapping[str, tuple[str, ...]]


def export_as(
    ctx: Context, form: str, only: frozenset[str] | None, *, image: str | None, machine_zone: str
) -> ForeignExport:
    """Return the jobs (all, or `only` these) in another scheduler's words.

    `image`: that of containers whose CronJob named none. `machine_zone`: the zone in which cron runs here.
    """
    left_out: dict[str, str] = {}
    jobs: list[Job] = []
    for record in ctx.repository.jobs().records:
        if only is not None and record.id not in only:
            continue
        job, problem = read_record(ctx, record)
        if job is None:
            left_out[record.id or record.number] = why_unusable(record, problem)
        elif job.standing is Standing.COMPLETED:
            left_out[job.id] = "it is completed"
        elif job.times is not None and not job.once:
            left_out[job.id] = f"it ends after {job.times} runs, and no other scheduler counts them"
        else:
            jobs.append(job)
    if form == "crontab":
        text, refused = crontab_of(jobs, machine_zone)
        left_out |= refused
        return ForeignExport(
            files={"": text}, left_out=left_out, count=len(jobs) - len(refused), unsaid=_unsaid(jobs, left_out, form)
        )
    make: Callable[[Job], dict[str, str]] = units if form == "systemd" else lambda job: {"": cron_job(job, image)}
    files: dict[str, str] = {}
    count = 0
    for job in jobs:
        try:
            be_text(job)
            made = make(job)
        except ChronosError as error:
            left_out[job.id] = error.line()
            continue
        count += 1
        if form == "kubernetes":
            files[""] = files.get("", "") + ("---\n" if "" in files else "") + made[""]
        else:
            files |= made
    return ForeignExport(files=files, left_out=left_out, count=count, unsaid=_unsaid(jobs, left_out, form))


def _unsaid(jobs: list[Job], left_out: Mapping[str, str], form: str) -> dict[str, tuple[str, ...]]:
    """Return the options that jobs have of their own and that are not in what is written of them."""
    found = {}
    for job in jobs:
        policy = ours_of(job.record).get("policy")
        if job.id not in left_out and isinstance(policy, dict):
            known = (*_SAID[form], *(("overlap",) if job.policy.overlap is Overlap.ALLOW else ()))
            found[job.id] = tuple(sorted(policy.keys() - known))
    return {job_id: names for job_id, names in found.items() if names}
