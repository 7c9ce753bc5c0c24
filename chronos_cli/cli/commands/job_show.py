"""`chronos job show`: one job, whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from chronos_cli.cli import humanize as words
from chronos_cli.cli import references
from chronos_cli.cli.action_words import action_json
from chronos_cli.cli.field_plans import SPANS, inherited_words
from chronos_cli.cli.handlers.list import arm_words, last_words, state_words
from chronos_cli.core.record_changes import HIDDEN
from chronos_cli.durations import format_duration
from chronos_cli.errors import NotFoundError
from chronos_cli.frozen import names
from chronos_cli.operations.views.listing import listing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.views.listing import JobView


def command(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help=references.JOB_HELP)],
) -> int:
    """Show one job: schedule, action, policy, what NAS last confirmed, last run. NAS is not asked.

    Values of the job's variables and of an HTTP action's headers are not shown, only where they are looked up.

    Examples:
      chronos job show digest
    """
    invocation: Invocation = ctx.obj
    config, context = invocation.config(), invocation.context(armed=False)
    job_id = references.one(context, job)
    arming = config.provider.strip() == "chronos"
    only = frozenset({job_id})
    found = listing(context, arming=arming, held=None, prompt_runner=bool(config.prompt_runner), only=only)
    view = next((view for view in found.jobs if view.id == job_id), None)
    if view is None:
        raise NotFoundError(f"there is no job '{job}'")
    record = context.repository.jobs().get(job_id) or {}
    policy = _policy(invocation, record)
    document = {"job": view.as_json(found.now) | {"policy": policy, "runs": action_json(record)}}
    return invocation.done(document, lambda out: _show(out, view, policy, action_json(record), found.now))


def _policy(invocation: Invocation, record: Mapping[str, Any]) -> dict[str, Any]:
    from chronos_cli.core.job import parse_job
    from chronos_cli.errors import ChronosError

    try:
        job = parse_job(record, invocation.context(armed=False).home)
    except (ChronosError, KeyError):  # an unusable record has no policy; why it is unusable is shown
        return {}
    policy = {name: getattr(job.policy, name) for name in names(job.policy)}
    return policy | {"repeat": job.times, "completed": job.completed}


def _show(out: Output, view: JobView, policy: dict[str, Any], action: dict[str, Any], now: Any) -> None:
    title = view.id if view.name == view.id else f"{view.id}  {words.brief(view.name)}"
    out.line(out.style(f"{title}  [{state_words(view)}]  {last_words(view, now, whole=True)}", "bold"))
    rows = [("schedule", f"{view.schedule} ({view.zone_name})" if view.schedule else "-")]
    if view.next_at is not None and view.zone is not None:
        rows.append(("next", f"{words.local(view.next_at, view.zone)} ({words.relative(view.next_at, now)})"))
    if view.paused_reason:
        rows.append(("paused", view.paused_reason))
    rows.append(("arm", arm_words(view, now, unknown=False)))
    if view.labels:
        rows.append(("labels", ", ".join(f"{key}={value}" for key, value in view.labels.items())))
    if view.arm.last_callback_at is not None:
        rows.append(("last call", words.relative(view.arm.last_callback_at, now)))
    rows += [(kind, _text(kind, value)) for kind, value in action.items()]
    rows += [(name, _shown(name, value)) for name, value in policy.items()]
    if view.doubt is not None:
        rows.append(("doubt", f"{view.doubt.text}; {view.doubt.mend}"))
    if view.unhandled:
        rows.append(("unhandled", ", ".join(view.unhandled)))
    for name, value in rows:
        out.line(f"  {name:<22}{' '.join(value.split())}")


def _text(kind: str, value: Any) -> str:
    if kind == "command" and isinstance(value, list):
        import shlex

        return shlex.join(map(str, value))
    if kind == "env" and isinstance(value, dict):
        return ", ".join(name if text == HIDDEN else f"{name}={text}" for name, text in value.items())
    if kind == "env_file" and isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else str(value)


def _shown(name: str, value: Any) -> str:
    if name == "pause_after_failures" and not value:
        return "never"
    if name in SPANS:
        return format_duration(value)
    if name == "inherit_env":
        return inherited_words(value)
    if isinstance(value, tuple):
        import shlex

        return shlex.join(value) or "none"
    return "forever" if name == "repeat" and value is None else str(value)
