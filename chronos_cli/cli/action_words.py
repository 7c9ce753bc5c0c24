"""The action of a job as people read it, given as a shell would be given it, and as programs do."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from chronos_cli.core.record_changes import HIDDEN
from chronos_cli.core.variables import shown_value
from chronos_cli.streams import LINE, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping


def action_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record runs, without the values of headers and variables, which may be secrets."""
    ours = record.get("chronos")
    ours = ours if isinstance(ours, dict) else {}
    action, env = ours.get("action"), ours.get("env")
    around = {"workdir": record["workdir"]} if record.get("workdir") else {}
    if isinstance(env, dict):
        around["env"] = {name: shown_value(value, HIDDEN) for name, value in env.items()}
    if isinstance(ours.get("env_file"), list):
        around["env_file"] = ours["env_file"]
    if isinstance(action, dict):
        shown = dict(action) | around
        http = shown.get("http")
        if isinstance(http, dict) and isinstance(http.get("headers"), dict):
            shown["http"] = {**http, "headers": _shown(http["headers"])}
        return shown
    return {key: record[key] for key in ("script", "prompt") if record.get(key)} | around


def _shown(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name: shown_value(value, HIDDEN) for name, value in headers.items()}


def action_words(record: Mapping[str, Any]) -> str:
    """Return what a record runs on one line: a command quoted for a shell, a line of /bin/sh as it is."""
    action = action_json(record)
    if isinstance(action.get("command"), list):
        text = shlex.join(map(str, action["command"]))
    elif action.get("shell"):
        text = f"/bin/sh -c {shlex.quote(str(action['shell']))}"
    elif isinstance(action.get("http"), dict):
        text = f"{action['http'].get('method', 'GET')} {action['http'].get('url', '')}"
    else:
        text = ", ".join(f"{key} {action[key]}" for key in ("script", "prompt") if action.get(key))
    return one_line(text, LINE) or "nothing"
