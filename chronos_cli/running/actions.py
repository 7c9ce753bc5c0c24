"""Actions: what a job's record says is to be run, made into something that can be started.

Our own jobs keep it under `chronos.action`: {"command": [ARG, ...]}, {"shell": TEXT}, either with "stdin": TEXT, or
{"http": {"method", "url", "headers"?, "body" or "body_from"?}}; their own variables are under `chronos.env` and in the
files under `chronos.env_file`. A hermes job has `script` with `no_agent`, or a `prompt`, which goes to the program that
the config names under `runners.prompt`; a `script` beside a `prompt` runs first and its output becomes part of the
prompt.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from chronos_cli.core.record_action import action_kind, watched
from chronos_cli.core.variables import FROM, OPTIONAL, reference_of
from chronos_cli.owners import require_own
from chronos_cli.running.errors import ActionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronos_cli.running.references import Lookup

JOB_VARIABLE: Final = "CHRONOS_JOB"
PROMPT_RUNNER_KEY: Final = "runners.prompt"
_HERE: Final = Path(__file__).parent
_BASH_SUFFIXES: Final = (".sh", ".bash")

HANDED_ON: Final = (
    "id", "name", "skills", "skill", "model", "provider", "base_url", "deliver", "context_from", "enabled_toolsets",
    "origin", "workdir", "failure_deliver", "quota_hold_until", "provider_backoff", "manual_run_prompt",
)  # fmt: skip
"""Keys of what a prompt runner is told about the job, as JSON in CHRONOS_JOB; those without a value are left out."""

_SHOWN: Final = 100
"""The most that is quoted of an unreadable value."""


class ProcessAction(NamedTuple):
    """A program to start: its arguments, folder, stdin (None: empty) and what it gets besides the environment."""

    kind: str
    argv: tuple[str, ...]
    cwd: str
    stdin: bytes | None = None
    environment: tuple[tuple[str, str], ...] = ()


class HttpAction(NamedTuple):
    """A request to make, by a process of its own so that it is timed, killed and seen to live like any other."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    cwd: str

    def as_process(self) -> ProcessAction:
        """Return the program that makes the request.

        It is told what on stdin, so that no header is in its arguments.
        """
        spec = {
            "method": self.method,
            "url": self.url,
            "headers": self.headers,
            "body": self.body.decode("utf-8", "surrogateescape"),
        }
        argv = (sys.executable, "-I", str(_HERE / "http_request.py"))
        return ProcessAction("http", argv, self.cwd, json.dumps(spec).encode())


def resolve_action(
    job: Mapping[str, Any], *, scripts_dir: Path, prompt_runner: Sequence[str] | None, lookup: Lookup
) -> ProcessAction | HttpAction:
    """Return the action of a record of jobs.json, checked against this machine, with what it refers to looked up.

    The folder is the record's `workdir`; else a script's own, else the home that `scripts_dir` lies in. `prompt_runner`
    is the argument list under runners.prompt. Raises ActionError; the run then fails with its message.
    """
    action = _resolved(job, scripts_dir, prompt_runner, lookup)
    if isinstance(action, HttpAction):
        return action
    variables = _variables(job, lookup, scripts_dir.parent)
    return action._replace(environment=(*variables, *action.environment)) if variables else action


def _resolved(
    job: Mapping[str, Any], scripts_dir: Path, prompt_runner: Sequence[str] | None, lookup: Lookup
) -> ProcessAction | HttpAction:
    kind = action_kind(job)
    source = watched(job)
    if source is not None and kind in ("script", "prompt"):
        raise ActionError(
            f"the job runs only when what {source} names has changed, and only hermes looks at that",
            hint="fire it through hermes, or take that field out",
        )
    if kind == "script":
        argv, path = _script(job["script"], scripts_dir, job.get("interpreter"))
        return ProcessAction(kind, argv, _folder(job, path.parent))
    cwd = _folder(job, scripts_dir.parent)
    if kind == "prompt":
        return _prompt(job, scripts_dir, cwd, prompt_runner)
    if kind == "none":
        raise ActionError("the job has nothing to run: no command, shell, http, script or prompt")
    given = job["chronos"]["action"][kind]
    if kind == "command":
        if not isinstance(given, list) or not all(isinstance(part, str) and "\0" not in part for part in given):
            raise ActionError("the job's command is not a list of texts")
        return ProcessAction(kind, tuple(given), cwd, _stdin(job))
    if kind == "shell":
        if not isinstance(given, str) or "\0" in given:
            raise ActionError("the job's shell line is not a text")
        return ProcessAction(kind, ("/bin/sh", "-c", given), cwd, _stdin(job))
    return _http(given, cwd, lookup)


def _stdin(job: Mapping[str, Any]) -> bytes | None:
    given = job["chronos"]["action"].get("stdin")
    if given is not None and not isinstance(given, str):
        raise ActionError("the job's standard input is not a text")
    return None if given is None else _utf8(given)


def _variables(job: Mapping[str, Any], lookup: Lookup, home: Path) -> tuple[tuple[str, str], ...]:
    """Return the job's own variables, which go before those that it inherits; those of its files come first.

    Whoever writes such a file decides what is run, by PATH alone, so it is not another user's.
    """
    ours = job.get("chronos")
    given, files = (ours.get("env"), ours.get("env_file")) if isinstance(ours, dict) else (None, None)
    if given is None and files is None:
        return ()
    given, files = given or {}, files or []
    if not isinstance(files, list):
        raise ActionError("the job's env_file is not a list of paths")
    if not isinstance(given, dict) or not all(_is_variable(name, value) for name, value in given.items()):
        raise ActionError("the job's env is not names with texts", hint="put chronos.env of its record right")
    paths = [os.path.expanduser(path.removeprefix(OPTIONAL)) for path in files if isinstance(path, str)]
    require_own(str(home), (), os.environ, outside=[path for path in paths if path.startswith("/")])
    found = lookup.files(files)
    found |= {name: lookup.value(value, f"the variable {name}") for name, value in given.items()}
    return tuple(found.items())


def _is_variable(name: str, value: object) -> bool:
    text = value if isinstance(value, str) else reference_of(value)
    return bool(name) and text is not None and "=" not in name and "\0" not in name + text


def _folder(job: Mapping[str, Any], otherwise: Path) -> str:
    workdir = job.get("workdir")
    if workdir is None or workdir == "":
        return str(otherwise.absolute())
    if not isinstance(workdir, str) or "\0" in workdir:
        raise ActionError("the job's workdir is not a text")
    folder = Path(workdir.strip()).expanduser()
    if not folder.is_absolute():
        raise ActionError(f"the job's workdir '{workdir}' is not absolute")
    if not folder.is_dir():
        raise ActionError(f"the job's workdir {folder} is not a folder here")
    return str(folder)


def _script(given: object, scripts_dir: Path, interpreter: object) -> tuple[tuple[str, ...], Path]:
    """Return a script's argv and its real path. Never by its own shebang or mode: the ending decides, as in hermes.

    `interpreter`: the Python that the record names for it; a shell script has none.
    """
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise ActionError("the job's script is not the name of a file")
    try:
        inside = Path(os.path.realpath(scripts_dir))
        path = Path(os.path.realpath(inside / Path(given).expanduser()))
        endless = path.is_symlink()  # a real path is one only where links lead in a circle
    except (OSError, RuntimeError, ValueError) as error:  # a name that no file can have is one of these
        reason = error.strerror if isinstance(error, OSError) else error
        raise ActionError(f"the script {given[:_SHOWN]!a} cannot be found: {reason}") from error
    if not path.is_relative_to(inside):
        raise ActionError(f"the script '{given}' leads out of {inside}", hint="move it into the scripts folder")
    if endless:
        raise ActionError(f"the script '{given}' cannot be found: its links lead in a circle", hint="put a file there")
    if not path.is_file():
        raise ActionError(f"the script {path} is not there", hint="put it into the scripts folder")
    between = [str(folder) for folder in path.parents if folder.is_relative_to(inside)]
    require_own(str(Path(scripts_dir).parent), (*between, str(path)), os.environ)
    if path.suffix.lower() in _BASH_SUFFIXES:
        return (_bash(), str(path)), path
    return (_python(interpreter), str(path)), path


def _python(interpreter: object) -> str:
    if interpreter is None or interpreter == "":
        return sys.executable
    if not isinstance(interpreter, str) or "\0" in interpreter:
        raise ActionError("the job's interpreter is not a text")
    program = os.path.expanduser(interpreter.strip())
    found = program if "/" in program else next(filter(_runs, (f"{at}/{program}" for at in os.get_exec_path())), "")
    if not os.path.isabs(found) or not _runs(found):
        raise ActionError(f"the job's interpreter '{interpreter}' is no program here", hint="give its whole path")
    return found


def _runs(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _bash() -> str:
    for folder in os.get_exec_path():
        candidate = os.path.join(folder, "bash")
        if os.access(candidate, os.X_OK):
            return candidate
    raise ActionError("there is no bash here for a .sh script", hint="install bash, or write the script in Python")


def _prompt(job: Mapping[str, Any], scripts_dir: Path, cwd: str, prompt_runner: Sequence[str] | None) -> ProcessAction:
    if not prompt_runner:
        raise ActionError(
            "the job is a prompt, and no program to run prompts is configured",
            hint=f"set {PROMPT_RUNNER_KEY} in config.yaml to its argument list, the prompt comes on its stdin",
        )
    prompt = job.get("prompt") or ""
    if not isinstance(prompt, str):
        raise ActionError("the job's prompt is not a text")
    told = {key: job[key] for key in HANDED_ON if job.get(key) not in (None, "", [])}
    environment = ((JOB_VARIABLE, json.dumps(told, ensure_ascii=False)),)
    runner = tuple(str(part) for part in prompt_runner)
    if not job.get("script"):
        return ProcessAction("prompt", runner, cwd, _utf8(prompt), environment)
    argv, path = _script(job["script"], scripts_dir, job.get("interpreter"))
    spec = {"script": argv, "folder": str(path.parent), "prompt": prompt, "runner": runner}
    first = (sys.executable, "-I", str(_HERE / "scripted_prompt.py"))
    return ProcessAction("prompt", first, cwd, json.dumps(spec).encode(), environment)


def _http(given: object, cwd: str, lookup: Lookup) -> HttpAction:
    from urllib.parse import urlsplit  # brings ipaddress with it, and most jobs are no requests

    if not isinstance(given, dict) or not isinstance(given.get("url"), str):
        raise ActionError("the job's http action has no url")
    url, method = given["url"], given.get("method") or "GET"
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or any(ord(character) <= ord(" ") for character in url):
        raise ActionError("the job's url is not an http or https one")
    if not isinstance(method, str) or not (method.isascii() and method.isalpha()):
        named = f" '{method}'" if isinstance(method, str) else ""
        raise ActionError(f"the job's http method{named} is not one")
    headers = given.get("headers") or {}
    if not isinstance(headers, dict):
        raise ActionError("the job's http headers are not names with one-line values")
    pairs = [
        (str(name), str(value) if reference_of(value) is None else lookup.value(value, f"the header {name}"))
        for name, value in headers.items()
    ]
    if any("\n" in name + value or "\r" in name + value for name, value in pairs):
        raise ActionError("the job's http headers are not names with one-line values")
    referred = given.get("body_from")
    body = given.get("body") if referred is None else lookup.value({FROM: referred}, "the body")
    if body is not None and not isinstance(body, str):
        body = json.dumps(body, ensure_ascii=False)
        if not any(name.lower() == "content-type" for name, _ in pairs):
            pairs.append(("Content-Type", "application/json"))
    data = _utf8(body or "") if referred is None else str(body).encode("utf-8", "surrogateescape")
    return HttpAction(method.upper(), url, tuple(pairs), data, cwd)


def _utf8(text: str) -> bytes:
    """Return the text as UTF-8, with the bytes that were none where it was read."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")  # another lone surrogate in JSON is no reason not to run
