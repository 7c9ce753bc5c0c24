"""Keys of a file of jobs: what each may hold and is for. The reader and the published schema come of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.job import OnCrash, Overlap
from chronos_cli.core.labels import KEY, VALUE
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

SCALAR: Final = ["string", "number", "boolean"]
"""A text may stand without quotes, whatever YAML or JSON would make of it: it is read as it is written."""

TEXT: Final = {"type": SCALAR}
TEXTS: Final = {"type": "array", "items": TEXT}
NAMED: Final = {"type": "object", "additionalProperties": TEXT}
SPAN: Final = {"type": ["string", "integer"], "description": "a length of time: 90s, 15m, 2h, 1d; a number is seconds"}
ACTIONS: Final = ("command", "shell", "script", "prompt", "http")


@frozen
class Key:
    """One key: its name, what it is for, and the JSON Schema of what it holds."""

    name: str
    help: str
    schema: Mapping[str, Any]


def _key(name: str, text: str, schema: Mapping[str, Any]) -> Key:
    return Key(name=name, help=text, schema=schema)


POLICY: Final = (
    _key("overlap", "when the last run still goes", {"enum": [item.value for item in Overlap]}),
    _key("grace", "how late a run may still start; 0s: not late", SPAN),
    _key("timeout", "how long a run may take", SPAN),
    _key("retries", "further attempts after a failure", {"type": "integer", "minimum": 0, "maximum": 100}),
    _key("on_crash", "a run that died with its machine", {"enum": [item.value for item in OnCrash]}),
    _key("jitter", "a delay, fixed per job, of up to this long", SPAN),
    _key("tolerance", "how much later NAS may call, to spread its load", SPAN),
    _key("pause_after_failures", "pause it after so many failures in a row",
         {"oneOf": [{"type": "integer", "minimum": 1}, {"const": "never"}]}),
    _key("on_failure", "the command told, by JSON on its stdin, when a run fails; none", {"oneOf": [TEXT, TEXTS]}),
    _key("on_failure_again", "how soon again, while it goes on failing", SPAN),
    _key("inherit_env", "variables of whoever starts a run that it gets besides; all, none", {"oneOf": [TEXT, TEXTS]}),
)  # fmt: skip

HTTP: Final = (
    _key("url", "where to", {"type": "string", "pattern": "^https?://"}),
    _key("method", "GET, or with a body POST", {"type": "string"}),
    _key("headers", "of the request; `Bearer env:TOKEN` is looked up when it runs", NAMED),
    _key("body", "of the request, a text or a reference as in env; what is neither is sent as JSON", {}),
)

JOB: Final = (
    _key("id", "its id: it is changed under this, and the same id is the same job",
         {"type": SCALAR, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}),
    _key("name", "what people call it; else its id", TEXT),
    _key("schedule", "cron, @daily, every 30m, or a time that does not count from now", {"type": "string"}),
    _key("tz", "the IANA zone the schedule is meant in; else the home's", {"type": "string"}),
    _key("command", "run a program: a list of its words, or one text with the words quoted as for a shell",
         {"oneOf": [TEXT, {**TEXTS, "minItems": 1}]}),
    _key("shell", "run a line, or several, of /bin/sh", {"type": "string", "minLength": 1}),
    _key("script", "run a file of the home's scripts folder; beside a prompt, run it first", {"type": "string"}),
    _key("prompt", "hand a prompt to what runners.prompt names", {"type": "string"}),
    _key("http", "make an HTTP request: its URL, or url, method, headers and body",
         {"oneOf": [{"type": "string", "pattern": "^https?://"}, {"$ref": "#/$defs/http"}]}),
    _key("stdin", "what a command or a shell line reads", TEXT),
    _key("env", "its own variables by name; env:NAME, file:PATH and cmd:WORDS are looked up when it runs", NAMED),
    _key("env_file", "files with lines NAME=VALUE, read when it runs", {"oneOf": [TEXT, TEXTS]}),
    _key("workdir", "the folder it runs in, from / or ~ on", {"type": "string", "pattern": "^[/~]"}),
    _key("skills", "skills a prompt's runner is told", {"oneOf": [TEXT, TEXTS]}),
    _key("model", "the model a prompt's runner is told", TEXT),
    _key("deliver", "where a prompt's runner delivers", TEXT),
    _key("policy", "overlap, grace, timeout, retries, on_crash, jitter and the like; they may stand beside it too",
         {"$ref": "#/$defs/policy"}),
    _key("labels", "what selectors choose by: team: ops", {
        "type": "object", "propertyNames": {"pattern": f"^{KEY}$"},
        "additionalProperties": {"type": SCALAR, "pattern": f"^{VALUE}$"},
    }),
    _key("repeat", "how often it runs in all", {"oneOf": [{"type": "integer", "minimum": 1}, {"const": "forever"}]}),
    _key("paused", "true: it is switched off; false: it is switched on again, whoever paused it", {"type": "boolean"}),
)  # fmt: skip

FILE: Final = (
    _key("set", "the set that the jobs from here on belong to; else the file's or folder's path", TEXT),
    _key(
        "defaults", "what the jobs from here on have where they do not say it themselves", {"$ref": "#/$defs/defaults"}
    ),
    _key("jobs", "the jobs", {"type": "array", "items": {"$ref": "#/$defs/job"}}),
)

NAMES: Final = tuple(key.name for key in JOB)
POLICY_NAMES: Final = tuple(key.name for key in POLICY)
FILE_SCHEMA: Final = ".chronos-jobs.schema.json"
"""The schema's name beside a file of jobs, for editors; hidden files of a folder are not read."""
EXTENSION: Final = "x-"
"""Keys of a file that begin so are nobody's: a place for what aliases repeat."""

MEANT: Final = {
    "timezone": "tz", "zone": "tz", "time_zone": "tz", "timeZone": "tz", "cron": "schedule", "cmd": "command",
    "run": "shell", "args": "command", "argv": "command", "environment": "env", "url": "http", "title": "name",
    "cwd": "workdir", "workingDir": "workdir", "suspend": "paused", "enabled": "paused", "tags": "labels",
    "concurrencyPolicy": "overlap", "startingDeadlineSeconds": "grace", "backoffLimit": "retries", "header": "headers",
    "default": "defaults",
}  # fmt: skip
"""Words of other programs, and the key that says the same here."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a file of jobs, for editors."""
    job = _object((*JOB, *POLICY))
    files = _object(FILE) | {"patternProperties": {"^x-": {}}}
    files["properties"] = {"$schema": {"type": "string"}} | files["properties"]
    one = {"$ref": "#/$defs/job"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "chronos.jobs.1.json",
        "title": "Jobs of chronos, as `chronos apply` reads them",
        "description": "A list of jobs, an object with `jobs`, or one job; a file of YAML may hold several documents.",
        "oneOf": [files, {"type": "array", "items": one}, one],
        "$defs": {
            "job": job | {
                "required": ["id", "schedule"],
                "anyOf": [{"required": [name]} for name in (*ACTIONS, "skills")],
            },
            "defaults": _object([key for key in (*JOB, *POLICY) if key.name not in ("id", "name")]),
            "policy": _object(POLICY),
            "http": _object(HTTP) | {"required": ["url"]},
        },
    }  # fmt: skip


def _object(keys: Any) -> dict[str, Any]:
    known = {key.name: {"description": key.help, **key.schema} for key in keys}
    return {"type": "object", "properties": known, "additionalProperties": False}
