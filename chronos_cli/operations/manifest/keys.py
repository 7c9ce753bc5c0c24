"""Keys of a file of jobs: what each may hold and is for. The reader and the published schema come of these."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.labels import KEY, VALUE
from chronos_cli.core.policy import OnCrash, Overlap
from chronos_cli.core.variables import FACTS, SECRETS
from chronos_cli.durations import MAX_SECONDS
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping


def _any_case(pattern: str) -> str:
    """Return a pattern whose letters are read in either case: a schema's patterns know no flags."""
    return re.sub("[a-z]", lambda found: f"[{found[0].upper()}{found[0]}]", pattern)


SCALAR: Final = ["string", "number", "boolean"]
"""A text may stand without quotes, whatever YAML or JSON would make of it: it is read as it is written."""

ANY: Final = {"type": SCALAR}
TEXT: Final = {"type": SCALAR, "pattern": r"\S"}
TEXTS: Final = {"type": "array", "items": TEXT}
WORDS: Final = {"type": "array", "prefixItems": [TEXT], "items": ANY}
_UNITS: Final = "(?:s|m|h|d|w|secs?|seconds?|mins?|minutes?|hrs?|hours?|days?|weeks?)"
SPAN: Final = {
    "type": ["string", "integer"], "minimum": 0, "maximum": MAX_SECONDS,
    "pattern": rf"^\s*[0-9]{{1,18}}(?:\.[0-9]{{1,3}})?\s*(?:$|{_any_case(_UNITS)}\s*(?:$|[0-9]))",
    "description": "a length of time: 90s, 15m, 2h, 1d; a number is seconds",
}  # fmt: skip
_NOT_A_REFERENCE: Final = "(?!(?:env|file|cmd):)"
_REFERENCE: Final = r"env:(?!CHRONOS_(?:NAS|FIRE)_TOKEN$)[^\s=]+$|file:~?/|cmd:\s*\S"
VALUE_OF: Final = {"type": SCALAR, "pattern": f"^(?:{_NOT_A_REFERENCE}|{_REFERENCE})"}
VARIABLES: Final = {
    "type": "object", "propertyNames": {"pattern": f"^(?!(?:{'|'.join((*FACTS, *SECRETS))})$)[^\\s=]+$"},
    "additionalProperties": VALUE_OF,
}  # fmt: skip
_SCHEME: Final = "[A-Za-z0-9]+ +"
HEADERS: Final = {
    "type": "object", "propertyNames": {"pattern": r"^[^\x00-\x1f]*[^\x00-\x20][^\x00-\x1f]*$"},
    "additionalProperties": {
        "type": SCALAR,
        "pattern": rf"^(?=[^\x00-\x1f]*$)(?:(?!{_SCHEME}(?:env|file|cmd):){_NOT_A_REFERENCE}"
        rf"|(?:{_SCHEME})?(?:{_REFERENCE}))",
    },
}  # fmt: skip
URL: Final = {
    "type": "string",
    "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://(?:\[[0-9A-Fa-f:.]+\]|[^\x00-\x20/?#@:\[\]]+)(?::(?:0*[1-9][0-9]{0,4})?)?(?:[/?#][^\x00-\x20]*)?$",
}  # fmt: skip
_NAME: Final = r"(?:[^\s=*,]+\*?|\*)"
_FILE: Final = rf"-?~?/|\s*{_any_case('none')}\s*$"


MOST_RETRIES: Final = 100
MOST_TIMES: Final = 1_000_000
LONGEST_SET: Final = 1_000
ACTIONS: Final = ("command", "shell", "script", "prompt", "http")


def _count(least: int, most: int, word: str = "") -> dict[str, Any]:
    """Return what a whole number may be, which may stand in quotes, or, with a `word`, that."""
    kinds: list[dict[str, Any]] = [
        {"type": "integer", "minimum": least, "maximum": most},
        {"type": "string", "pattern": "^0*[1-9][0-9]{0,5}$" if least else "^0*[0-9]{1,2}$"},
        *([{"type": "string", "pattern": f"^{_any_case(word)}$"}] if word else []),
    ]
    return {"anyOf": kinds}


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
    _key("timeout", "how long a run may take", SPAN | {"minimum": 1, "allOf": [{"pattern": "[1-9]"}]}),
    _key("retries", "further attempts after a failure", _count(0, MOST_RETRIES)),
    _key("on_crash", "a run that died with its machine", {"enum": [item.value for item in OnCrash]}),
    _key("jitter", "a delay, fixed per job, of up to this long", SPAN),
    _key("tolerance", "how much later NAS may call, to spread its load", SPAN),
    _key("pause_after_failures", "pause it after so many failures in a row",
         _count(1, MOST_TIMES, "never")),
    _key("on_failure", "the command told, by JSON on its stdin, when a run fails; none", {"anyOf": [TEXT, WORDS]}),
    _key("on_failure_again", "how soon again, while it goes on failing", SPAN),
    _key("inherit_env", "variables of whoever starts a run that it gets besides; all, none", {"anyOf": [
        {"type": SCALAR, "pattern": rf"^(?=[\s\S]*\S)[\s,]*(?:{_NAME}(?:[\s,]+|$))*$"},
        {"type": "array", "items": {"type": SCALAR, "pattern": f"^{_NAME}$"}},
    ]}),
)  # fmt: skip

HTTP: Final = (
    _key("url", "where to", URL),
    _key("method", "GET, or with a body POST", {"type": ["string", "boolean"], "pattern": "^[A-Za-z]+$"}),
    _key("headers", "of the request; `Bearer env:TOKEN` is looked up when it runs", HEADERS),
    _key(
        "body",
        "of the request, a text or a reference as in env; what is neither is sent as JSON",
        {"if": {"type": "string"}, "then": VALUE_OF},
    ),
)

JOB: Final = (
    _key("id", "its id: it is changed under this, and the same id is the same job",
         {"type": SCALAR, "minimum": 0, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}),
    _key("name", "what people call it; else its id", TEXT),
    _key("schedule", "cron, @daily, every 30m, or a time that does not count from now",
         {"type": "string", "pattern": r"\S"}),
    _key("tz", "the IANA zone the schedule is meant in; else the home's", {"type": "string", "pattern": r"\S"}),
    _key("command", "run a program: a list of its words, or one text with the words quoted as for a shell",
         {"anyOf": [TEXT, {**WORDS, "minItems": 1}]}),
    _key("shell", "run a line, or several, of /bin/sh", TEXT),
    _key("script", "run a file of the home's scripts folder; beside a prompt, run it first", TEXT),
    _key("prompt", "hand a prompt to what runners.prompt names", ANY),
    _key("http", "make an HTTP request: its URL, or url, method, headers and body",
         {"anyOf": [URL, {"$ref": "#/$defs/http"}]}),
    _key("stdin", "what a command or a shell line reads", ANY),
    _key("env", "its own variables by name; env:NAME, file:PATH and cmd:WORDS are looked up when it runs", VARIABLES),
    _key("env_file", "files with lines NAME=VALUE, read when it runs", {"anyOf": [
        {"type": "string", "pattern": f"^(?:{_FILE})"},
        {"type": "array", "items": {"type": "string", "pattern": f"^(?:{_FILE})"}},
    ]}),
    _key("workdir", "the folder it runs in, from / or ~ on", {"type": "string", "pattern": "^[/~]"}),
    _key("skills", "skills a prompt's runner is told", {"anyOf": [TEXT, TEXTS]}),
    _key("model", "the model a prompt's runner is told", TEXT),
    _key("deliver", "where a prompt's runner delivers", TEXT),
    _key("policy", "overlap, grace, timeout, retries, on_crash, jitter and the like; they may stand beside it too",
         {"$ref": "#/$defs/policy"}),
    _key("labels", "what selectors choose by: team: ops", {
        "type": "object", "propertyNames": {"pattern": f"^{KEY}$"},
        "additionalProperties": {"type": SCALAR, "pattern": f"^{VALUE}$"},
    }),
    _key("repeat", "how often it runs in all", _count(1, MOST_TIMES, "forever")),
    _key("paused", "true: it is switched off; false: it is switched on again, whoever paused it", {"type": "boolean"}),
)  # fmt: skip

FILE: Final = (
    _key(
        "set",
        "the set that the jobs from here on belong to; else the file's or folder's path",
        {"type": SCALAR, "maxLength": LONGEST_SET, "pattern": r"^[^\x00-\x1f]*[^\x00-\x20][^\x00-\x1f]*$"},
    ),
    _key(
        "defaults",
        "what the jobs from here on have where they do not say it themselves",
        {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/defaults"}]},
    ),
    _key("jobs", "the jobs", {"type": ["array", "null"], "items": {"$ref": "#/$defs/words"}}),
)

NAMES: Final = tuple(key.name for key in JOB)
POLICY_NAMES: Final = tuple(key.name for key in POLICY)
FILE_SCHEMA: Final = ".chronos-jobs.schema.json"
"""The schema's name beside a file of jobs, for editors; hidden files of a folder are not read."""
EXTENSION: Final = "x-"
"""Beginning of keys of a file that are passed over: a place for what aliases repeat."""

MEANT: Final = {
    "timezone": "tz", "zone": "tz", "time_zone": "tz", "timeZone": "tz", "cron": "schedule", "cmd": "command",
    "run": "shell", "args": "command", "argv": "command", "environment": "env", "url": "http", "title": "name",
    "cwd": "workdir", "workingDir": "workdir", "suspend": "paused", "enabled": "paused", "tags": "labels",
    "concurrencyPolicy": "overlap", "startingDeadlineSeconds": "grace", "backoffLimit": "retries", "header": "headers",
    "default": "defaults",
}  # fmt: skip
"""Words of other programs, and the key that says the same here."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a file of jobs, for editors: it takes what is read, and refuses what is not.

    What no pattern can tell is left to the reader: schedules, zones, quotes that are not closed, an id that stands
    twice, and, in a later document of a file, what an earlier one has for defaults.
    """
    files = _object(FILE) | {"patternProperties": {f"^{EXTENSION}": {}}, "allOf": _over_defaults()}
    files["properties"] = {"$schema": {}} | files["properties"]
    job = {"$ref": "#/$defs/job"}
    one = {"anyOf": [{"required": ["id"]}, {"required": ["schedule"]}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "chronos.jobs.1.json",
        "title": "Jobs of chronos, as `chronos apply` reads them",
        "description": "A list of jobs, an object with `jobs`, or one job; a file of YAML may hold several documents.",
        "if": {"type": "array"},
        "then": {"items": job},
        "else": {"if": one, "then": job, "else": {"$ref": "#/$defs/file"}},
        "$defs": {
            "file": files,
            "job": {"$ref": "#/$defs/words", "allOf": [_SCHEDULED, _RUNS, _READS]},
            "words": _object((*JOB, *POLICY)) | {"required": ["id"]} | _EXCLUSIVE,
            "defaults": _object([key for key in (*JOB, *POLICY) if key.name not in ("id", "name")]) | _EXCLUSIVE
            | {"allOf": [{"if": _HAS_ACTION, "then": _RUNS}, _READS, *_EXCLUSIVE["allOf"]]},
            "policy": _object(POLICY),
            "http": _object(HTTP) | {"required": ["url"]},
        },
    }  # fmt: skip


def _needs(*names: str) -> dict[str, Any]:
    return {"anyOf": [{"required": [name]} for name in names]}


_SOME_SKILLS: Final = {
    "required": ["skills"], "properties": {"skills": {"minItems": 1, "pattern": r"[^\s,]"}}
}  # fmt: skip
_SCHEDULED: Final = {"required": ["schedule"]}
_HAS_ACTION: Final = _needs(*ACTIONS)
_RUNS: Final = {
    "anyOf": [
        *_needs("command", "shell", "script", "http")["anyOf"],
        {"required": ["prompt"], "properties": {"prompt": TEXT}},
        _SOME_SKILLS,
    ]
}
_READS: Final = {"if": {"required": ["stdin"]}, "then": _needs("command", "shell")}
_EXCLUSIVE: Final = {
    "dependentSchemas": {
        name: {"not": _needs(*(other for other in ACTIONS if other != name))} for name in ("command", "shell", "http")
    },
    "allOf": [
        {"not": {"required": [key.name, "policy"], "properties": {"policy": {"required": [key.name]}}}}
        for key in POLICY
    ],
}
"""A job does one thing, and no field of a policy is said both beside it and in it."""


def _over_defaults() -> list[dict[str, Any]]:
    """Return what each job of a file needs to say where the file's defaults do not."""
    said = (
        (_SCHEDULED, _SCHEDULED),
        ({"anyOf": [_HAS_ACTION, _SOME_SKILLS]}, _RUNS),
        (_needs("command", "shell"), {"if": {"required": ["stdin"]}, "then": {"anyOf": [
            _needs("command", "shell"), {"not": _HAS_ACTION}]}}),
    )  # fmt: skip
    found: list[dict[str, Any]] = []
    for has, needed in said:
        there = {"required": ["defaults"], "properties": {"defaults": {"type": "object", **has}}}
        found.append({"if": {"not": there}, "then": {"properties": {"jobs": {"items": needed}}}})
    found[-1]["then"] = {"properties": {"jobs": {"items": _READS}}}
    found[-1]["else"] = {"properties": {"jobs": {"items": said[-1][1]}}}
    return found


def _object(keys: Any) -> dict[str, Any]:
    known = {key.name: {"description": key.help, **key.schema} for key in keys}
    return {"type": "object", "properties": known, "additionalProperties": False}
