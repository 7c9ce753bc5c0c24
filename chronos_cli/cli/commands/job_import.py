"""`chronos job import`: jobs from a document, a crontab, or another home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chronos_cli.cli import field_plans
from chronos_cli.cli import job_options as options
from chronos_cli.cli.notify import tell_of_many
from chronos_cli.errors import UsageError
from chronos_cli.operations.manifest.bring import WantedJobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.core.clock import TimeDoubt
    from chronos_cli.operations.context import Context
    from chronos_cli.store.jobsfile import JobsFile


def command(
    ctx: typer.Context,
    file: Annotated[str | None, typer.Argument(metavar="[FILE]", help="what to read; - is stdin")] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="KIND|DIR", help="crontab, kubernetes or systemd; or a chronos or Hermes home"),
    ] = None,
    dry_run: options.DryRun = False,
    detailed: options.Detailed = False,
    tz: Annotated[
        str | None, typer.Option(metavar="ZONE", help="the zone of times that name none; else the home's, or UTC")
    ] = None,
    seconds: Annotated[
        str | None, typer.Option(metavar="first|last", help="of a crontab: lines may have six or seven fields of time")
    ] = None,
    system: Annotated[
        bool, typer.Option("--system", help="of the machine: /etc/crontab, whose lines name users, or its units")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="remove the jobs that are gone from the source")] = False,
    local: Annotated[
        bool, typer.Option("--local", help="of CronJobs: run their commands here, not in the cluster")
    ] = False,
    disable_source: Annotated[
        bool, typer.Option("--disable-source", help="of your own crontab: take the lines out, with a backup")
    ] = False,
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="of a crontab: import the other lines where one is refused")
    ] = False,
) -> int:
    """Bring jobs in: those that are new are added, those that are here are brought to what arrives.

    FILE is what `chronos job export` wrote, or jobs in the words of `chronos apply`, which join no set. A key that is
    not known is refused. With --from crontab it is a crontab (without FILE: `crontab -l`), with
    --from kubernetes CronJobs in YAML or JSON, with --from systemd a .timer or a folder of them (without FILE: your own
    units); of a folder (/etc/cron.d, manifests) every file that its program reads. It is all one change: either every
    job comes in, or none. Every field that differs is shown, and the same import again changes nothing. What has no
    counterpart here is named and left out; a job that is gone from its source is named. A line that cannot be
    understood refuses its crontab, unless --skip-refused is given; the exit code is 11 then.

    Examples:
      chronos job import jobs.json --dry-run
      chronos job import --from crontab --dry-run
      chronos job import /etc/cron.d --from crontab --system --dry-run
      kubectl get cronjobs -o yaml | chronos job import - --from kubernetes
      chronos job import --from systemd --dry-run
      chronos job import --from ~/.hermes
    """
    invocation: Invocation = ctx.obj
    if source in ("crontab", "kubernetes", "systemd"):
        from chronos_cli.cli.foreign import run
        from chronos_cli.cli.foreign_sources import Options

        return run(invocation, Options(
            kind=source, file=file, dry_run=dry_run, detailed=detailed, seconds=seconds, system=system, prune=prune,
            disable_source=disable_source, local=local, skip_refused=skip_refused, zone_name=tz,
        ))  # fmt: skip
    if tz or seconds or system or prune or disable_source or local or skip_refused:
        raise UsageError("an option of other schedulers is given", hint="say --from crontab, kubernetes or systemd")
    if source is None and file is not None:
        from chronos_cli.cli.handlers.import_words import import_words, read_either

        found = read_either(file)
        if isinstance(found, WantedJobs):
            return import_words(invocation, found, dry_run=dry_run, detailed=detailed)
        return _import_records(invocation, found, [], dry_run=dry_run, detailed=detailed, doubts={})
    records, left_out, doubts = _read(file, source, invocation)
    return _import_records(invocation, records, left_out, dry_run=dry_run, detailed=detailed, doubts=doubts)


def _import_records(
    invocation: Invocation,
    records: list[dict[str, Any]],
    left_out: list[str],
    *,
    dry_run: bool,
    detailed: bool,
    doubts: Mapping[str, TimeDoubt],
) -> int:
    from chronos_cli.operations.jobs.transfer import import_jobs
    from chronos_cli.operations.witness import hear_for_change, stored_jobs

    context = invocation.context()
    if not dry_run:
        context = hear_for_change(context, *stored_jobs(context, {str(record["id"]) for record in records}))
    plan = import_jobs(context, records, dry_run=dry_run, doubts=doubts)
    error = None
    if not dry_run and any(item.verdict.value != "keep" for item in plan):
        error = tell_of_many(invocation, context)

    def render(out: Output) -> None:
        if not out.quiet:
            field_plans.show_items(out, plan, context.home)
            field_plans.show_counts(out, field_plans.counts_of(plan), dry_run=dry_run)

    for item in plan:
        if item.doubt is not None:
            invocation.output.warn(f"{item.job_id}: {item.doubt.text}; {item.doubt.mend}")
    for text in left_out:
        invocation.output.warn(f"left out: {text}")
    document: dict[str, Any] = {
        "dry_run": dry_run,
        "jobs": [field_plans.item_json(item) for item in plan],
        "left_out": left_out,
    }
    code = field_plans.pending(plan, detailed=detailed and dry_run)
    return invocation.done(document, render, error=error, exit_code=code)


def _read(
    file: str | None, source: str | None, invocation: Invocation
) -> tuple[list[dict[str, Any]], list[str], dict[str, TimeDoubt]]:
    from chronos_cli.operations.jobs import transfer

    if source is None:
        raise UsageError("nothing to import is named", hint="give FILE, --from crontab, or --from DIR")
    if file is not None:
        raise UsageError("FILE and a home are both given", hint="give one of them")
    other = _open(source, invocation)
    jobs, left_out = _jobs_of(other)
    records, unusable = transfer.records_of(jobs, other)
    left_out += [f"{job_id}: {reason}" for job_id, reason in unusable.items()]
    return records, left_out, transfer.doubts_about(jobs, other)


def _open(folder: str, invocation: Invocation) -> Context:
    """Open another home for reading. Raises UsageError where there is none."""
    from chronos_cli.config import load_config
    from chronos_cli.operations.assembly import ProcessEnvironment, open_home

    home = Path(folder).expanduser()
    if not (home / "cron" / "jobs.json").is_file():
        raise UsageError(
            f"{home} is no home: it has no cron/jobs.json", hint="name a folder, or crontab, kubernetes or systemd"
        )
    # Variables and flags speak for the home we work in, not for that one.
    config = load_config(environ={key: invocation.environ[key] for key in ("HOME", "TZ") if key in invocation.environ},
                         home=str(home))  # fmt: skip
    return open_home(config, ProcessEnvironment(environ={}, secrets={}), armed=False)


def _jobs_of(other: Context) -> tuple[JobsFile, list[str]]:
    """Return the jobs of another home; without the half that hermes keeps in a database, where that cannot be read."""
    from chronos_cli.store.split import SplitStoreError

    try:
        return other.repository.jobs(), []
    except SplitStoreError as error:
        from chronos_cli.store.interface import JOBS_KEY
        from chronos_cli.store.jobsfile import JobsFile

        file = Path(other.repository.location, JOBS_KEY)
        said = f"{error.message}; when its jobs are due is counted from now, and how often they ran is not known"
        return JobsFile.parse(file.read_bytes(), where=str(file)), [said]
