"""`chronos job edit`: change a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import job_options as options
from chronos_cli.cli import references
from chronos_cli.cli.handlers import job_change as changes
from chronos_cli.core.edits import Edit
from chronos_cli.core.job import ours_of
from chronos_cli.core.schedule import parse_schedule
from chronos_cli.errors import UsageError
from chronos_cli.frozen import replace

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.jobs.edit import JobChange

prepare = options.gather_command


def command(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help=references.JOB_HELP)],
    argv: options.Argv = None,
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
    workdir: options.Workdir = None,
    skills: options.Skills = None,
    model: options.Model = None,
    deliver: options.Deliver = None,
    dry_run: options.DryRun = False,
    detailed: options.Detailed = False,
) -> int:
    """Change a job; what is not named stays as it is.

    Only a new schedule, zone or jitter moves its next time. It starts nothing, and the count of --repeat is kept. What
    follows --command, to the end, is the command; one whose words begin with a dash goes after --.

    Examples:
      chronos job edit digest --schedule '0 10 * * 1-5' --dry-run
      chronos job edit disk --retries 3 --timeout 10m
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs
    from chronos_cli.operations.witness import hear_for_change

    given = options.ActionOptions(
        command=command, command_json=command_json, argv=argv, shell=shell, script=script, prompt=prompt, http=http,
        method=method, body=body, header=header, workdir=workdir, skills=skills, model=model, deliver=deliver,
    )  # fmt: skip
    job_id = references.one(context, job)
    before = jobs.get(context, job_id)
    if not dry_run:
        context = hear_for_change(context, before)
    action, fields = given.action()
    policy = options.policy_of(
        before.policy, overlap=overlap, grace=grace, timeout=timeout, retries=retries, on_crash=on_crash,
        jitter=jitter, tolerance=tolerance, pause_after_failures=pause_after_failures, on_failure=on_failure,
        on_failure_again=on_failure_again, inherit_env=inherit_env,
    )  # fmt: skip
    zone = options.zone_of(tz)
    edit = Edit(
        name=name,
        schedule=None
        if schedule is None
        else parse_schedule(schedule, now=context.clock(), zone=zone or before.timetable.zone),
        zone=zone,
        zone_name=tz,
        policy=None if policy is before.policy else policy,
        action=action,
        fields=fields or None,
        times=options.times_of(repeat),
        extras=options.EnvOptions(env=env, env_file=env_file, unset=unset_env).extras(ours_of(before.record)),
    )
    if edit == Edit():
        raise UsageError("nothing is to be changed", hint="name what to change, see `chronos job edit --help`")
    changed = jobs.edit(context, job_id, edit, dry_run=dry_run)
    if dry_run:
        return changes.planned(invocation, context, changed, detailed=detailed)

    def again(right: Context) -> JobChange:
        jobs.undo(right, changed)
        zoned = zone or before.timetable.zone
        meant = None if schedule is None else parse_schedule(schedule, now=right.clock(), zone=zoned)
        return jobs.edit(right, job_id, replace(edit, schedule=meant))

    return changes.finish(
        invocation, context, changed.job, "changed", changed=changed.changed, always=True, again=again, plan=changed
    )
