"""One job as a file describes it, whole: with a default for all that the file does not say."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import is_job_id
from chronos_cli.core.instant import named_zone
from chronos_cli.core.labels import check_label
from chronos_cli.core.policy import OnCrash, Overlap
from chronos_cli.core.variables import checked_files, checked_name, read_header, read_value, reference_of
from chronos_cli.errors import UsageError
from chronos_cli.frozen import field, opaque
from chronos_cli.operations.manifest.keys import ACTIONS, HTTP, MOST_RETRIES, MOST_TIMES, NAMES, POLICY_NAMES
from chronos_cli.operations.manifest.node_values import (
    at_place,
    choice_of,
    count_of,
    known_keys,
    mapping_of,
    number_of,
    plain_of,
    seconds_of,
    text_of,
    texts_of,
    truth_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.operations.manifest.nodes import Node

_SPANS: Final = ("grace", "timeout", "jitter", "tolerance", "on_failure_again")


@opaque
class DescribedJob:
    """A job in a file, with its place. It may hold secrets, so its repr shows nothing.

    `action` is ours, `fields` are hermes' own; `policy` has what is said of it, `times` None repeats for ever.
    `paused` None: a pause stays as it is. `set_name`: where it belongs; None leaves that as it is.
    """

    at: str
    job_id: str
    schedule: str
    name: str | None = None
    zone_name: str | None = None
    action: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    env_file: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    times: int | None = None
    paused: bool | None = None
    set_name: str | None = None


def spec_of(node: Node, defaults: Mapping[str, Node], *, set_name: str | None) -> DescribedJob:
    """Return the job that a mapping describes, over a file's defaults. Raises UsageError with line and column."""
    own = known_keys(node, (*NAMES, *POLICY_NAMES), "a job")
    said = _over(defaults, own)
    for needed in ("id", "schedule"):
        if needed not in said:
            raise node.wrong(f"the job has no {needed}", f"give it one: `{needed}: ...`")
    job_id = text_of(said["id"], "id")
    if not is_job_id(job_id):
        hint = "use letters, digits, '.', '_' and '-', at most 128 of them, a letter or digit first"
        raise said["id"].wrong(f"'{job_id[:60]}' cannot be a job id", hint)
    action, fields = _action(node, said)
    schedule = text_of(said["schedule"], "schedule")
    return DescribedJob(
        at=node.at, job_id=job_id, schedule=schedule, action=action, fields=fields, set_name=set_name, **_beside(said)
    )


def defaults_of(node: Node) -> dict[str, Node]:
    """Return a file's defaults by key. Raises UsageError for what no job could have, also where none takes it."""
    own = known_keys(node, [name for name in (*NAMES, *POLICY_NAMES) if name not in ("id", "name")], "defaults")
    said = _over({}, own)
    if {*ACTIONS, "stdin"} & said.keys():
        _action(node, said)
    else:
        _fields(said)
    if "schedule" in said:
        text_of(said["schedule"], "schedule")
    _beside(said)
    return own


def _beside(said: Mapping[str, Node]) -> dict[str, Any]:
    """Return what a job is told besides what it runs and when."""
    zone_name = text_of(said["tz"], "tz") if "tz" in said else None
    if zone_name is not None:
        at_place(said["tz"], lambda: named_zone(zone_name))
    return {
        "name": text_of(said["name"], "name") if "name" in said else None,
        "zone_name": zone_name,
        "env": mapping_of(said["env"], "env", _variable) if "env" in said else {},
        "env_file": _env_files(said["env_file"]) if "env_file" in said else (),
        "labels": mapping_of(said["labels"], "labels", _label) if "labels" in said else {},
        "policy": _policy(said),
        "times": count_of(said["repeat"], "repeat", "forever", MOST_TIMES) if "repeat" in said else None,
        "paused": truth_of(said["paused"], "paused") if "paused" in said else None,
    }


def _over(defaults: Mapping[str, Node], own: dict[str, Node]) -> dict[str, Node]:
    """Return what a job says over the defaults: mappings are joined key by key, an action takes another's place."""
    above = dict(defaults)
    if any(name in own for name in ACTIONS):
        for name in (*ACTIONS, "stdin"):
            above.pop(name, None)
    policy = {**_pairs(above.pop("policy", None)), **{n: above.pop(n) for n in POLICY_NAMES if n in above}}
    said = {**above, **own}
    for name in ("env", "labels"):
        if name in above and name in own:
            said[name] = _joined(above[name], own[name])
    mine = _pairs(own.get("policy"))
    for name in POLICY_NAMES:
        if name in own and name in mine:
            raise own[name].wrong(f"{name} is said twice: beside policy, and in it", "say it once")
    for name, value in {**policy, **mine}.items():
        said.setdefault(name, value)
    return said


def _pairs(node: Node | None) -> dict[str, Node]:
    return {} if node is None else known_keys(node, POLICY_NAMES, "policy")


def _joined(above: Node, own: Node) -> Node:
    """Return two mappings as one, in which the second has the last word."""
    from chronos_cli.frozen import replace

    if above.kind != "map" or own.kind != "map":
        return own
    names = {key.text for key, _ in own.pairs}
    return replace(own, pairs=(*(pair for pair in above.pairs if pair[0].text not in names), *own.pairs))


def _label(name: str, value: str) -> str:
    check_label(name, value)
    return value


def _variable(name: str, value: str) -> Any:
    checked_name(name)
    return read_value(value)


def _header(name: str, value: str) -> Any:
    if not name.strip() or not f"{name}{value}".isprintable():
        raise UsageError(f"the header '{name[:60]}' is not on one line", hint="write NAME: value")
    return read_header(value)


def _env_files(node: Node) -> tuple[str, ...]:
    given = texts_of(node, "env_file") if node.kind == "list" else [text_of(node, "env_file")]
    return tuple(at_place(node, lambda: checked_files(given)))


def _policy(said: Mapping[str, Node]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in POLICY_NAMES:
        if name not in said:
            continue
        node = said[name]
        if name in _SPANS:
            found[name] = seconds_of(node, name)
        elif name in ("overlap", "on_crash"):
            found[name] = choice_of(node, name, Overlap if name == "overlap" else OnCrash)
        elif name == "retries":
            found[name] = number_of(node, name, MOST_RETRIES)
        elif name == "pause_after_failures":
            found[name] = count_of(node, name, "never", MOST_TIMES) or 0
        elif name == "inherit_env":
            found[name] = _names(node)
        else:
            found[name] = tuple(_argv(node, name))
    return found


def _names(node: Node) -> tuple[str, ...]:
    from chronos_cli.config.values import read_names

    given: Any = texts_of(node, "inherit_env") if node.kind == "list" else text_of(node, "inherit_env")
    try:
        return read_names(given)
    except ValueError as error:
        raise node.wrong(f"inherit_env {error}", "give names with commas between, all, or none") from error


def _argv(node: Node, name: str) -> list[str]:
    """Return a program and its arguments; `none` is no program where that may be meant."""
    if node.kind == "list":
        words = texts_of(node, name, empty=True)
        if not (words[0].strip() if words else name != "command"):
            raise node.wrong(f"{name} names no program", "write [PROGRAM, ARG, ...]")
        return words
    text = text_of(node, name)
    if name != "command" and text.strip().lower() == "none":
        return []
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise node.wrong(f"{name} cannot be read: {str(error).lower()}", "write a list: [PROGRAM, ARG, ...]") from error
    if not words or not words[0]:
        raise node.wrong(f"{name} names no program", "write [PROGRAM, ARG, ...]")
    return words


def _action(node: Node, said: Mapping[str, Node]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return our action, or None, and hermes' own fields. Raises UsageError for two actions, or none."""
    given = [name for name in ACTIONS if name in said]
    several = [name for name in given if name not in ("script", "prompt")] + (
        ["script or prompt"] if {"script", "prompt"} & set(given) else []
    )
    if len(several) > 1:
        raise said[given[-1]].wrong(f"{' and '.join(several)} are given, but a job does one thing", "give one of them")
    if "stdin" in said and not {"command", "shell"} & set(given):
        raise said["stdin"].wrong("stdin is for a command or a shell line", "take it out")
    fields = _fields(said)
    if not given and not fields.get("skills"):
        raise node.wrong("there is nothing to run", f"give {', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}")
    beside = {"stdin": text_of(said["stdin"], "stdin", empty=True)} if "stdin" in said else {}
    if "command" in said:
        return {"command": _argv(said["command"], "command"), **beside}, fields
    if "shell" in said:
        return {"shell": text_of(said["shell"], "shell"), **beside}, fields
    if "http" in said:
        return {"http": _request(said["http"])}, fields
    if fields["no_agent"] is False and not (fields["prompt"].strip() or fields["script"] or fields.get("skills")):
        raise said["prompt"].wrong("the prompt is empty", "say what it is to do")
    return None, fields


def _fields(said: Mapping[str, Node]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if {"script", "prompt", "skills"} & said.keys() and not {"command", "shell", "http"} & said.keys():
        script = text_of(said["script"], "script") if "script" in said else None
        prompt = text_of(said["prompt"], "prompt", empty=True) if "prompt" in said else ""
        agent = "prompt" in said or script is None
        fields |= {"script": script, "prompt": prompt, "no_agent": not agent}
    if "workdir" in said:
        fields["workdir"] = text_of(said["workdir"], "workdir")
        if not fields["workdir"].startswith(("/", "~")):
            raise said["workdir"].wrong(f"workdir {fields['workdir'][:60]} is not absolute", "give the whole path")
    if "skills" in said:
        node = said["skills"]
        fields["skills"] = texts_of(node, "skills") if node.kind == "list" else [
            name.strip() for name in text_of(node, "skills").split(",") if name.strip()
        ]  # fmt: skip
    for name in ("model", "deliver"):
        if name in said:
            fields[name] = text_of(said[name], name)
    return fields


def _request(node: Node) -> dict[str, Any]:
    from urllib.parse import urlsplit

    said = known_keys(node, [key.name for key in HTTP], "http") if node.kind == "map" else {"url": node}
    if "url" not in said:
        raise node.wrong("http has no url", "give it one: `url: https://...`")
    url = text_of(said["url"], "url")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        good = False
    if not good or any(letter <= " " for letter in url):
        raise said["url"].wrong("http needs an http or https URL without credentials", "put secrets into headers")
    method = text_of(said["method"], "method").upper() if "method" in said else "POST" if "body" in said else "GET"
    if not (method.isascii() and method.isalpha()):
        raise said["method"].wrong(f"'{method[:40]}' is no method of HTTP", "write GET, POST, PUT or the like")
    request: dict[str, Any] = {"url": url, "method": method}
    if "headers" in said:
        request["headers"] = mapping_of(said["headers"], "headers", _header)
    if "body" in said:
        body = said["body"]
        text = text_of(body, "body", empty=True) if body.kind == "text" else None
        value = plain_of(body) if text is None else at_place(body, lambda: read_value(text))
        reference = None if text is None else reference_of(value)
        request |= {"body": value} if reference is None else {"body_from": reference}
    return request
