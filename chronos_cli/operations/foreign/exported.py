"""Parts of a job that every other scheduler is told of: its own command, its variables, what was kept of its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.core.job import ours_of
from chronos_cli.errors import UsageError
from chronos_cli.running.actions import action_kind

if TYPE_CHECKING:
    from chronos_cli.core.job import Job


def own_action(job: Job) -> tuple[str, Any, str | None]:
    """Return the job's own action: its kind, what it is, its standard input. Raises UsageError for other kinds."""
    kind = action_kind(job.record)
    action = ours_of(job.record).get("action")
    if kind not in ("shell", "command") or not isinstance(action, dict):
        raise UsageError(f"it runs a {kind}, which is chronos' own", hint="export it as json")
    given = action.get("stdin")
    return kind, action[kind], given if isinstance(given, str) else None


def own_env(job: Job) -> dict[str, str]:
    """Return the job's own variables."""
    env = ours_of(job.record).get("env")
    return {str(name): str(value) for name, value in env.items()} if isinstance(env, dict) else {}


def kept(job: Job, key: str) -> Any:
    """Return what was kept of the job's source under `key`, None where it has none."""
    imported = ours_of(job.record).get("imported")
    return imported.get(key) if isinstance(imported, dict) else None
