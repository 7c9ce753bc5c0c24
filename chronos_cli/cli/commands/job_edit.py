"""`chronos job edit`: change a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import job_options as options
from chronos_cli.cli import references
from chronos_cli.cli.handlers import job_change as changes
from chronos_cli.core.edits import Edit
from chronos_cli.core.job import ours_of
from chronos_cli.core.labels import labels_of, parse_labels, relabelled
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.core.job import Job
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.jobs.edit import JobChange

prepare = options.gather_command


def command(
    ctx: typer.Context,
    job: Annotated[list[str] | None, typer.Argument(metavar="[JOB...] [-- ARGV...]", help=references.JOBS_HELP)] = None,
    everything: Annotated[bool, typer.Option("--all", help=references.ALL_HELP)] = False,
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", metavar="LABELS", help=references.SELECTOR_HELP)
    ] = None,
    schedule: Annotated[str | None, typer.Option(metavar="SCHEDULE", help="when it runs")] = None,
    name: options.Name = None,
    command: options.Command = None,
    command_json: options.CommandJson = None,
    shell: options.Shell = None,
    script: options.Script = None,
    prompt: options.Prompt = None,
    http: options.Http = None,
    method: options.Method = None,
    body: options.Body = None,
    header: options.Header = None,
    env: options.Env = None,
    env_file: options.EnvFile = None,
    unset_env: options.UnsetEnv = None,
    tz: options.Tz = None,
    overlap: options.OverlapOption = None,
    grace: options.Grace = None,
    timeout: options.Timeout = None,
    retries: options.Retries = None,
    on_crash: options.OnCrashOption = None,
    jitter: options.Jitter = None,
    tolerance: options.Tolerance = None,
    pause_after_failures: options.PauseAfter = None,
    on_failure: options.OnFailure = None,
    on_failure_again: options.OnFailureAgain = None,
    inherit_env: options.InheritEnv = None,
    repeat: options.Repeat = None,
    label: options.Label = None,
    workdir: options.Workdir = None,
    skills: options.Skills = None,
    model: options.Model = None,
    deliver: options.Deliver = None,
    dry_run: options.DryRun = False,
    detailed: options.Detailed = False,
) -> int:
    """Change jobs; what is not named stays as it is.

    Only a new schedule, zone or jitter moves its next time. It starts nothing, and the count of --repeat is kept. What
    follows --command, to the end, is the command; one whose words begin with a dash goes after --. Several jobs
    are changed in one write, or none of them.

    Examples:
      chronos job edit digest --schedule '0 10 * * 1-5' --dry-run
      chronos job edit disk --retries 3 --timeout 10m
      chronos job edit -l team=ops --grace 1h --label tier=gold
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs
    from chronos_cli.operations.witness import hear_for_change

    given = options.ActionOptions(
        command=command, command_json=command_json, shell=shell, script=script, prompt=prompt, http=http,
        method=method, body=body, header=header, workdir=workdir, skills=skills, model=model, deliver=deliver,
    )  # fmt: skip
    action, fields = given.action()
    zone, times = options.zone_of(tz), options.times_of(repeat)
    labels = parse_labels(label or ())
    variables = options.EnvOptions(env=env, env_file=env_file, unset=unset_env)
    chosen = _chosen(context, job, everything=everything, selector=selector)
    if name is not None and len(chosen.ids) > 1:
        raise UsageError("several jobs cannot have one name", hint="leave out --name, or name one job")

    def edit_of(before: Job, by: Context) -> Edit:
        policy = options.policy_of(
            before.policy, overlap=overlap, grace=grace, timeout=timeout, retries=retries, on_crash=on_crash,
            jitter=jitter, tolerance=tolerance, pause_after_failures=pause_after_failures, on_failure=on_failure,
            on_failure_again=on_failure_again, inherit_env=inherit_env,
        )  # fmt: skip
        zoned = zone or before.timetable.zone
        extras = variables.extras(ours_of(before.record)) or {}
        extras |= {"labels": relabelled(labels_of(before.record), labels)} if labels else {}
        return Edit(
            name=name,
            schedule=None if schedule is None else parse_schedule(schedule, now=by.clock(), zone=zoned),
            zone=zone,
            zone_name=tz,
            policy=None if policy is before.policy else policy,
            action=action,
            fields=fields or None,
            times=times,
            extras=extras or None,
        )

    found = [jobs.get(context, job_id) for job_id in chosen.ids]
    if not dry_run:
        context = hear_for_change(context, *found)
    edits = {before.id: edit_of(before, context) for before in found}
    if found and all(edit == Edit() for edit in edits.values()):
        raise UsageError("nothing is to be changed", hint="name what to change, see `chronos job edit --help`")
    if not chosen.named:
        work = {job_id: jobs.editing(context, edit) for job_id, edit in edits.items()}
        made = jobs.change_many(context, work, dry_run=dry_run)
        return changes.finish_many(
            invocation, context, made, "changed", chosen=chosen, dry_run=dry_run, detailed=detailed
        )
    before, job_id = found[0], chosen.ids[0]
    edit = edits[job_id]
    changed = jobs.edit(context, job_id, edit, dry_run=dry_run)
    if dry_run:
        return changes.planned(invocation, context, changed, detailed=detailed)

    def again(right: Context) -> JobChange:
        jobs.undo(right, changed)
        return jobs.edit(right, job_id, edit_of(before, right))

    return changes.finish(
        invocation, context, changed.job, "changed", changed=changed.changed, always=True, again=again, plan=changed
    )


def _chosen(
    context: Context, job: list[str] | None, *, everything: bool, selector: str | None
) -> references.ChosenJobs:
    """Return the jobs that are meant. Of a word that is none, say how a command is given."""
    try:
        return references.choose(context, job, everything=everything, selector=selector, fits=lambda _: None)
    except NotFoundError as error:
        if job is None or len(job) < 2:
            raise
        raise NotFoundError(error.message, hint=f"{error.hint}; a command goes after --") from error
