"""Jobs of a store in the words of another scheduler: a crontab, CronJobs of Kubernetes, timers of systemd.

A job that the other cannot say is left out by name with the reason; nothing is said less exactly than it is meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chronos_cli.core.job import Standing
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import frozen
from chronos_cli.operations.evaluate import read_record
from chronos_cli.operations.foreign.crontab_export import crontab_of
from chronos_cli.operations.foreign.kubernetes_export import cron_job
from chronos_cli.operations.foreign.systemd_export import units

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.core.job import Job
    from chronos_cli.operations.context import Context

FORMATS: Final = ("json", "crontab", "kubernetes", "systemd")


@frozen
class ForeignExport:
    """The text of each file by its name ("" for the only one), and why jobs are left out, by id."""

    files: Mapping[str, str]
    left_out: Mapping[str, str]
    count: int


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
            left_out[record.id or record.number] = problem or "it cannot be read"
        elif job.standing is Standing.COMPLETED:
            left_out[job.id] = "it is completed"
        else:
            jobs.append(job)
    if form == "crontab":
        text, refused = crontab_of(jobs, machine_zone)
        return ForeignExport(files={"": text}, left_out=left_out | refused, count=len(jobs) - len(refused))
    make: Callable[[Job], dict[str, str]] = units if form == "systemd" else lambda job: {"": cron_job(job, image)}
    files: dict[str, str] = {}
    count = 0
    for job in jobs:
        try:
            made = make(job)
        except ChronosError as error:
            left_out[job.id] = error.message
            continue
        count += 1
        if form == "kubernetes":
            files[""] = files.get("", "") + ("---\n" if "" in files else "") + made[""]
        else:
            files |= made
    return ForeignExport(files=files, left_out=left_out, count=count)
