"""Parts of a job that every other scheduler is told of: its own command, its variables, what was kept of its source."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.job import ours_of
from chronos_cli.core.record_action import action_kind
from chronos_cli.core.variables import reference_of
from chronos_cli.errors import UsageError

if TYPE_CHECKING:
    from chronos_cli.core.job import Job

AS_JSON: Final = "export it as JSON: `chronos job export` without --format"


def own_action(job: Job) -> tuple[str, Any, str | None]:
    """Return the job's own action: its kind, what it is, its standard input. Raises UsageError for other kinds."""
    kind = action_kind(job.record)
    action = ours_of(job.record).get("action")
    if kind not in ("shell", "command") or not isinstance(action, dict):
        raise UsageError(f"it runs a {kind}, which is chronos' own", hint=AS_JSON)
    given = action.get("stdin")
    return kind, action[kind], given if isinstance(given, str) else None


def own_env(job: Job) -> dict[str, str]:
    """Return the job's own variables. Raises UsageError for a reference, which other programs do not look up."""
    env = ours_of(job.record).get("env")
    env = env if isinstance(env, dict) else {}
    referred = next((name for name, value in env.items() if reference_of(value) is not None), None)
    if referred is not None:
        raise UsageError(f"its variable {referred} is looked up when it runs, which is chronos' own", hint=AS_JSON)
    return {str(name): str(value) for name, value in env.items()}


def be_text(job: Job) -> None:
    """Raise UsageError for a job with bytes that are no UTF-8 text: of all forms only a crontab may have them."""
    try:
        json.dumps([job.name, ours_of(job.record)], ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError("it has bytes that are no UTF-8 text", hint=AS_JSON) from error


def own_files(job: Job) -> list[str]:
    """Return the paths of the job's env_files."""
    files = ours_of(job.record).get("env_file")
    return [str(path) for path in files] if isinstance(files, list) else []


def without_files(job: Job) -> None:
    """Raise UsageError for a job with an env_file, which the other scheduler does not read."""
    if own_files(job):
        raise UsageError("its env_file is read when it runs, which is chronos' own", hint=AS_JSON)


def kept(job: Job, key: str) -> Any:
    """Return what was kept of the job's source under `key`, None where it has none."""
    imported = ours_of(job.record).get("imported")
    return imported.get(key) if isinstance(imported, dict) else None
