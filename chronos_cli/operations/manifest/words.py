"""A stored job in the words of a file of jobs, and as the text of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.job import Standing, ours_of
from chronos_cli.core.labels import labels_of
from chronos_cli.core.record_action import action_kind
from chronos_cli.core.record_changes import HIDDEN
from chronos_cli.core.schedule import normal_form
from chronos_cli.core.variables import read_header, shown_value
from chronos_cli.core.variables import words_of as value_words
from chronos_cli.durations import format_duration
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import names
from chronos_cli.streams import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronos_cli.core.job import HomeDefaults, Job

SCHEMA_LINE: Final = "# yaml-language-server: $schema="
_SPANS: Final = frozenset({"grace", "timeout", "jitter", "tolerance", "on_failure_again"})
_UNSAID: Final = ("provider", "base_url", "context_from", "enabled_toolsets", "interpreter", "failure_deliver",
                  "monitor_script", "monitor_url", "monitor_tool")  # fmt: skip
"""Fields of hermes' own that a file of jobs has no word for."""


def words_of(job: Job, home: HomeDefaults) -> dict[str, Any]:
    """Return a job as a file says it, in the order in which people read it; what is the home's default is left out.

    A job whose action cannot be said has none in it.
    """
    record, ours = job.record, ours_of(job.record)
    words: dict[str, Any] = {"id": job.id}
    if job.name != job.id:
        words["name"] = job.name
    words["schedule"] = normal_form(job.timetable.schedule, job.timetable.zone)
    words["tz"] = job.zone_name
    words |= _runs(record, ours)
    if isinstance(ours.get("env"), dict) and ours["env"]:
        words["env"] = {name: value_words(value) for name, value in ours["env"].items()}
    if ours.get("env_file"):
        words["env_file"] = ours["env_file"]
    if record.get("workdir"):
        words["workdir"] = record["workdir"]
    words |= _told(record)
    own = {name: getattr(job.policy, name) for name in names(job.policy)}
    differ = {name: value for name, value in own.items() if value != getattr(home.policy, name)}
    if differ:
        words["policy"] = {name: _said(name, value) for name, value in differ.items()}
    if labels := labels_of(record):
        words["labels"] = labels
    if job.times is not None and not job.once:
        words["repeat"] = job.times
    if job.standing in (Standing.PAUSED, Standing.DISABLED):
        words["paused"] = True
    return words


def unsaid(job: Job) -> list[str]:
    """Return the fields of a record that a file of jobs has no word for."""
    return [name for name in _UNSAID if job.record.get(name) not in (None, "", [], "local", "none")]


def _runs(record: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    kind = action_kind(record)
    action = ours.get("action")
    if kind in ("command", "shell") and isinstance(action, dict):
        return {kind: action[kind]} | ({"stdin": action["stdin"]} if action.get("stdin") is not None else {})
    if kind == "http" and isinstance(action, dict):
        return {"http": _request(action["http"]) if isinstance(action["http"], dict) else None}
    if kind == "script":
        return {"script": record["script"]}
    if kind == "prompt":
        return ({"script": record["script"]} if record.get("script") else {}) | {"prompt": record.get("prompt") or ""}
    return {}


def _request(stored: Mapping[str, Any]) -> dict[str, Any]:
    request = {"url": stored.get("url"), "method": stored.get("method") or "GET"}
    if stored.get("headers"):
        request["headers"] = {name: value_words(value) for name, value in stored["headers"].items()}
    if stored.get("body_from"):
        request["body"] = stored["body_from"]
    elif stored.get("body"):
        body = stored["body"]
        request["body"] = value_words(body) if isinstance(body, str) else body
    return request


def _told(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a prompt's runner is told."""
    found: dict[str, Any] = {}
    if skills := skills_of(record):
        found["skills"] = skills
    if record.get("model"):
        found["model"] = record["model"]
    if record.get("deliver") not in (None, "", "local"):
        found["deliver"] = record["deliver"]
    return found


def skills_of(record: Mapping[str, Any]) -> list[str]:
    """Return the skills of a record, of which older ones name one alone."""
    skills = record.get("skills")
    if isinstance(skills, list) and skills:
        return [str(name) for name in skills]
    return [str(record["skill"])] if record.get("skill") else []


def _said(name: str, value: Any) -> Any:
    if name in _SPANS:
        return format_duration(value)
    if name in ("on_failure", "inherit_env"):
        return list(value or ()) or "none"
    if name == "pause_after_failures":
        return value or "never"
    return getattr(value, "value", value)


def hidden(words: Mapping[str, Any]) -> dict[str, Any]:
    """Return words without the values that may be secrets: of variables, and of a request's headers."""
    shown = dict(words)
    if isinstance(shown.get("env"), dict):
        shown["env"] = {name: _hidden(value) for name, value in shown["env"].items()}
    http = shown.get("http")
    if isinstance(http, dict) and isinstance(http.get("headers"), dict):
        shown["http"] = {**http, "headers": {name: _hidden(value) for name, value in http["headers"].items()}}
    return shown


def _hidden(words: str) -> str:
    """Return what may be shown of a value: where it is looked up, else nothing of it."""
    try:
        value = read_header(words)
    except ChronosError:  # what can never be looked up was stored by another hand
        return HIDDEN
    return shown_value(value, HIDDEN)


def file_text(sets: Iterable[tuple[str | None, list[dict[str, Any]]]], *, schema: str) -> str:
    """Return a file of jobs as YAML: a document for each set, those that belong to none first."""
    documents = [
        ({} if name is None else {"set": name}) | {"jobs": jobs}
        for name, jobs in sorted(sets, key=lambda found: (found[0] is not None, found[0] or ""))
    ] or [{"jobs": []}]
    return f"{SCHEMA_LINE}{schema}\n" + "---\n".join(yaml_text(document) for document in documents)


def yaml_text(value: Any) -> str:
    """Return a value as YAML for people: keys in their order, several lines as several lines, no aliases."""
    import yaml

    class _Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            del data
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001 - as in the base class
            del indentless
            super().increase_indent(flow, False)

    def text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
        several = "\n" in data and "\r" not in data and not any(line.endswith((" ", "\t")) for line in data.split("\n"))
        style = "|" if several and data.strip() and not data.startswith((" ", "\n", "\t")) else None
        style = style if shown(data) == data else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    _Dumper.add_representer(str, text)
    # In double quotes, where they are now alone, YAML reads the escapes of whatever would steer a terminal or a reader.
    return shown(
        yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)
    )
