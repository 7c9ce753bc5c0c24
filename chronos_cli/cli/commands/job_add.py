"""`chronos job add`: add a job, or bring the one of that id to what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from chronos_cli.cli import job_options as options
from chronos_cli.cli.handlers import job_change as changes
from chronos_cli.contract import is_job_id
from chronos_cli.core.edits import JobDraft
from chronos_cli.core.labels import parse_labels, relabelled
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ConflictError, UsageError
from chronos_cli.frozen import replace

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.jobs.edit import JobChange

prepare = options.gather_command


def command(
    ctx: typer.Context,
    schedule: Annotated[str, typer.Argument(metavar="SCHEDULE", help="cron, 'every 30m', 'in 90s' or a time")],
    argv: options.Argv = None,
    name: options.Name = None,
    job_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="its id; else made of the name")] = None,
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
    paused: Annotated[
        bool, typer.Option("--paused", help="add it switched off: nothing is armed before `job resume`")
    ] = False,
    label: options.Label = None,
    workdir: options.Workdir = None,
    skills: options.Skills = None,
    model: options.Model = None,
    deliver: options.Deliver = None,
    dry_run: options.DryRun = False,
    detailed: options.Detailed = False,
) -> int:
    """Add a job, and make NAS follow at once.

    With the --id of a job that is there, that job is brought to what is said here, and every field that differs is
    shown: the same again changes nothing. The schedule is echoed in its normal form with the next five times, and the
    command as a shell would be given it. What follows --command, to the end, is the command; one whose words begin with
    a dash goes after --, and so stands clear of the options here.

    Examples:
      chronos job add '0 9 * * 1-5' --name digest --tz Europe/Berlin -- /usr/local/bin/digest --all
      chronos job add 'every 30m' --id disk --script disk.sh --retries 2
      chronos job add 'in 90s' --command echo hello
      chronos job add 'weekdays at 9am' --id report --paused --shell 'make report'
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs
    from chronos_cli.operations.witness import hear_for_change, stored_jobs

    given = options.ActionOptions(
        command=command, command_json=command_json, argv=argv, shell=shell, script=script, prompt=prompt, http=http,
        method=method, body=body, header=header, workdir=workdir, skills=skills, model=model, deliver=deliver,
    )  # fmt: skip
    action, fields = given.action()
    if action is None and not fields.get("script") and not fields.get("prompt"):
        raise UsageError("there is nothing to run", hint="give -- ARGV..., --shell, --script, --prompt or --http")
    policy = options.policy_of(
        context.home.policy, overlap=overlap, grace=grace, timeout=timeout, retries=retries, on_crash=on_crash,
        jitter=jitter, tolerance=tolerance, pause_after_failures=pause_after_failures, on_failure=on_failure,
        on_failure_again=on_failure_again, inherit_env=inherit_env,
    )  # fmt: skip
    zone = options.zone_of(tz) or context.home.zone
    draft = JobDraft(
        job_id=job_id or "",
        name=name or "",
        schedule=parse_schedule(schedule, now=context.clock(), zone=zone),
        zone=zone,
        zone_name=tz or context.home.zone_name,
        policy=policy,
        action=action,
        fields=fields,
        times=options.times_of(repeat) or None,
        extras=_extras(options.EnvOptions(env=env, env_file=env_file).extras(), label),
        paused=paused,
    )
    draft = _named(context, draft)
    if not dry_run:
        context = hear_for_change(context, *stored_jobs(context, {draft.job_id}))
    changed = jobs.add(context, draft, dry_run=dry_run)
    if dry_run:
        return changes.planned(invocation, context, changed, detailed=detailed, created=changed.created)

    def again(right: Context) -> JobChange:
        jobs.undo(right, changed)
        return jobs.add(right, replace(draft, schedule=parse_schedule(schedule, now=right.clock(), zone=zone)))

    return changes.finish(
        invocation, context, changed.job, "added" if changed.created else "changed", changed=changed.changed,
        always=True, brief=True, again=again, plan=changed, created=changed.created,
    )  # fmt: skip


def _extras(extras: dict[str, Any] | None, label: list[str] | None) -> dict[str, Any] | None:
    if not label:
        return extras
    return (extras or {}) | {"labels": relabelled({}, parse_labels(label))}


def _named(context: Context, draft: JobDraft) -> JobDraft:
    """Return the draft with its id and name. Raises ConflictError where the name is another job's."""
    stored = [record for record in context.repository.jobs().records if record.id is not None]
    if draft.job_id:
        found = next((record for record in stored if record.id == draft.job_id), None)
        kept = found.value.get("name") if found is not None and isinstance(found.value, dict) else None
        return replace(draft, name=draft.name or str(kept or draft.job_id))
    taken = {str(record.id).lower() for record in stored}
    for record in stored:
        name = record.value.get("name") if isinstance(record.value, dict) else None
        if draft.name and draft.name.casefold() in (str(name or "").casefold(), str(record.id).casefold()):
            raise ConflictError(
                f"there is a job named '{draft.name}' already ({record.id})",
                hint=f"change it with --id {record.id}, or give another name",
            )
    made = draft.name if is_job_id(draft.name) and draft.name.lower() not in taken else context.token()[:12]
    return replace(draft, job_id=made, name=draft.name or made)
