"""`chronos job edit`: change a job."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chronos_cli.cli import job_options as options
from chronos_cli.cli import references
from chronos_cli.cli.handlers import job_change as changes
from chronos_cli.core.edits import Edit
from chronos_cli.core.schedule import normal_form, parse_schedule
from chronos_cli.errors import ExitCode, UsageError
from chronos_cli.frozen import names

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.core.job import Job

prepare = options.gather_command


def command(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help=references.JOB_HELP)],
    argv: options.Argv = None,
    schedule: Annotated[str | None, typer.Option(metavar="SCHEDULE", help="when it runs")] = None,
    name: options.Name = None,
    command_: options.CommandHelp = False,
    command_json: options.CommandJson = None,
    shell: options.Shell = None,
    script: options.Script = None,
    prompt: options.Prompt = None,
    http: options.Http = None,
    method: options.Method = None,
    body: options.Body = None,
    header: options.Header = None,
    tz: options.Tz = None,
    overlap: options.OverlapOption = None,
    grace: options.Grace = None,
    timeout: options.Timeout = None,
    retries: options.Retries = None,
    on_crash: options.OnCrashOption = None,
    jitter: options.Jitter = None,
    pause_after_failures: options.PauseAfter = None,
    on_failure: options.OnFailure = None,
    on_failure_again: options.OnFailureAgain = None,
    repeat: options.Repeat = None,
    workdir: options.Workdir = None,
    skills: options.Skills = None,
    model: options.Model = None,
    deliver: options.Deliver = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan, change nothing")] = False,
    detailed: Annotated[
        bool, typer.Option("--detailed-exitcode", help="with --dry-run: exit 3 when changes are pending")
    ] = False,
) -> int:
    """Change a job; what is not named stays as it is.

    Only a new schedule, zone or jitter moves its next time. It starts nothing, and the count of --repeat is kept.

    Examples:
      chronos job edit digest --schedule '0 10 * * 1-5' --dry-run
      chronos job edit disk --retries 3 --timeout 10m
    """
    del command_
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs

    given = options.ActionOptions(
        command_json=command_json, argv=argv, shell=shell, script=script, prompt=prompt, http=http, method=method,
        body=body, header=header, workdir=workdir, skills=skills, model=model, deliver=deliver,
    )  # fmt: skip
    job_id = references.one(context, job)
    before = jobs.get(context, job_id)
    action, fields = given.action()
    policy = options.policy_of(
        before.policy, overlap=overlap, grace=grace, timeout=timeout, retries=retries, on_crash=on_crash,
        jitter=jitter, pause_after_failures=pause_after_failures, on_failure=on_failure,
        on_failure_again=on_failure_again,
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
    )
    if edit == Edit():
        raise UsageError("nothing is to be changed", hint="name what to change, see `chronos job edit --help`")
    _, after = jobs.preview_edit(context, job_id, edit)
    plan = _plan(before, after)
    if dry_run:
        document = {"job": changes.job_json(after), "dry_run": True, "plan": plan}
        code = ExitCode.PENDING if detailed and plan else None
        return invocation.done(document, lambda out: _show(out, plan, dry_run=True), exit_code=code)
    changed = jobs.edit(context, job_id, edit)
    if not invocation.json and not invocation.output.quiet:
        _show(invocation.output, plan, dry_run=False)
    return changes.finish(
        invocation, context, changed.job, "changed", changed=changed.changed, always=True, dry_run=False, plan=plan
    )


def _plan(before: Job, after: Job) -> list[dict[str, Any]]:
    """What differs, thing by thing; a moved next time says from when to when."""
    old, new = _described(before), _described(after)
    return [
        {"what": what, "from": old[what], "to": new[what]}
        for what in new
        if old[what] != new[what]
    ]  # fmt: skip


def _described(job: Job) -> dict[str, Any]:
    zone = job.timetable.zone
    record = job.record
    own = record.get("chronos")
    action = own.get("action") if isinstance(own, dict) else None
    return {
        "name": job.name,
        "schedule": normal_form(job.timetable.schedule, zone),
        "timezone": job.zone_name,
        "next_run_at": None if job.cursor is None else job.cursor.astimezone(zone).isoformat(),
        "state": job.standing.value,
        "repeat": job.times,
        "action": next(iter(action), None) if isinstance(action, dict) and action else None,
        **{name: getattr(job.policy, name) for name in names(job.policy)},
        **{
            name: record.get(name)
            for name in ("prompt", "script", "workdir", "skills", "model", "deliver")
        },
    }  # fmt: skip


def _show(out: Output, plan: list[dict[str, Any]], *, dry_run: bool) -> None:
    for item in plan:
        if item["what"] == "next_run_at":
            out.line(out.style(f"~ move   {_moved(item['from'], item['to'])}", "yellow"))
        else:
            out.line(out.style(f"~ {item['what']}: {_shown(item['from'])} -> {_shown(item['to'])}", "yellow"))
    counted = f"{len(plan)} to change" if plan else "nothing to change"
    out.line(f"Plan: {counted}.{' Nothing was changed.' if dry_run else ''}")


def _moved(before: str | None, after: str | None) -> str:
    """From when to when on the job's wall clock; the day is said where it differs, offsets where the zone changed."""
    old, new = (None if text is None else datetime.fromisoformat(text) for text in (before, after))
    form, last = "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S"
    if old is not None and new is not None:
        if old.utcoffset() != new.utcoffset():
            form = last = f"{form} %z"
        elif old.date() == new.date():
            last = "%H:%M:%S"
    return f"{old.strftime(form) if old else 'none'} -> {new.strftime(last) if new else 'none'}"


def _shown(value: Any) -> str:
    if value in (None, "", [], ()):
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
