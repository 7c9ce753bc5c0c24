"""The options that describe a job, shared by `job add` and `job edit`, and what they come to."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from chronos_cli.core.instant import named_zone
from chronos_cli.core.policy import OnCrash, Overlap
from chronos_cli.core.variables import checked_files, read_header, read_value, read_variables, reference_of
from chronos_cli.durations import parse_duration
from chronos_cli.errors import UsageError
from chronos_cli.frozen import frozen, replace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

    from chronos_cli.core.policy import Policy

# The types below are what typer builds options from: a function's parameters only name them.
Name = Annotated[str | None, typer.Option(metavar="NAME", help="what people call it")]
CommandJson = Annotated[str | None, typer.Option("--command-json", hidden=True)]
Command = Annotated[
    str | None,
    typer.Option(
        metavar="PROGRAM ARG...", help="run the words that follow, to the end; where one has a dash: -- PROGRAM ARG..."
    ),
]
Argv = Annotated[list[str] | None, typer.Argument(metavar="[-- ARGV...]", help="the command, after --")]
Shell = Annotated[str | None, typer.Option(metavar="LINE", help="run a line of /bin/sh")]
Script = Annotated[str | None, typer.Option(metavar="FILE", help="run a file of the home's scripts folder")]
Prompt = Annotated[str | None, typer.Option(metavar="TEXT", help="hand a prompt to what runners.prompt names")]
Http = Annotated[str | None, typer.Option(metavar="URL", help="make an HTTP request")]
Method = Annotated[str | None, typer.Option(metavar="METHOD", help="of the request [GET, with a body POST]")]
Body = Annotated[str | None, typer.Option(metavar="TEXT", help="of the request, or a reference as for --env")]
Header = Annotated[
    list[str] | None,
    typer.Option(metavar="'NAME: VALUE'", help="of the request, as 'Authorization: Bearer env:TOKEN'; may be repeated"),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="NAME=VALUE",
        help="a variable of the job; env:NAME, file:PATH and cmd:WORDS are looked up when it runs; may be repeated",
    ),
]
EnvFile = Annotated[
    list[str] | None,
    typer.Option("--env-file", metavar="PATH|none", help="a file with NAME=VALUE lines, read when it runs"),
]
UnsetEnv = Annotated[list[str] | None, typer.Option("--unset-env", metavar="NAME", help="take a variable out")]
InheritEnv = Annotated[
    str | None,
    typer.Option(
        "--inherit-env", metavar="NAMES|all|none", help="variables of whoever starts a run that it gets besides"
    ),
]
Tz = Annotated[str | None, typer.Option(metavar="ZONE", help="the IANA zone the schedule is meant in; else the home's")]
OverlapOption = Annotated[
    str | None, typer.Option("--overlap", metavar="skip|queue|allow|replace", help="when the last run still goes")
]
Grace = Annotated[str | None, typer.Option(metavar="TIME", help="how late a run may still start, as 24h; 0s: not late")]
Timeout = Annotated[str | None, typer.Option(metavar="TIME", help="how long a run may take")]
Retries = Annotated[int | None, typer.Option(metavar="N", min=0, max=100, help="further attempts after a failure")]
OnCrashOption = Annotated[
    str | None, typer.Option("--on-crash", metavar="skip|rerun", help="a run that died with its machine")
]
Tolerance = Annotated[str | None, typer.Option(metavar="TIME", help="how much later NAS may call, to spread its load")]
Jitter = Annotated[str | None, typer.Option(metavar="TIME", help="a delay, fixed per job, of up to this long")]
PauseAfter = Annotated[
    str | None, typer.Option("--pause-after-failures", metavar="N|never", help="pause it after N failures in a row")
]
OnFailure = Annotated[
    str | None,
    typer.Option("--on-failure", metavar="COMMAND|none", help="run it, told by JSON on its stdin, when a run fails"),
]
OnFailureAgain = Annotated[
    str | None, typer.Option("--on-failure-again", metavar="TIME", help="how soon again, while it goes on failing")
]
Repeat = Annotated[str | None, typer.Option(metavar="N|forever", help="how often it runs in all")]
Label = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="what -l chooses by; KEY- takes it away; may be repeated"),
]
Workdir = Annotated[str | None, typer.Option(metavar="DIR", help="the folder it runs in")]
Skills = Annotated[str | None, typer.Option(metavar="A,B", help="skills a prompt's runner is told")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="the model a prompt's runner is told")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show the plan, change nothing")]
Detailed = Annotated[bool, typer.Option("--detailed-exitcode", help="with --dry-run: exit 3 when changes are pending")]
Deliver = Annotated[str | None, typer.Option(metavar="WHERE", help="where a prompt's runner delivers")]

CALL: Final = "--command"


def gather_command(args: list[str]) -> list[str]:
    """Make `--command PROGRAM ARG...`, or `-- PROGRAM ARG...`, one option with the words as a list.

    Called with the raw words before they are parsed. The words after `--command` go to the end, so none of them may be
    an option: one that begins with a dash could be the command's or ours. Raises UsageError for it.
    """
    end = args.index("--") if "--" in args else len(args)
    options, words = args[:end], args[end + 1 :]
    at = options.index(CALL) if CALL in options else len(options)
    called = options[at + 1 :]
    for word in called:
        if word.startswith("-") and word != "-":
            raise UsageError(
                f"after {CALL} stands {word}, which could be the command's or chronos' own",
                hint=f"put options of chronos before {CALL}, or the command after --",
            )
    if (called or any(word.startswith(f"{CALL}=") for word in options)) and end < len(args):
        raise UsageError(f"a command is given twice: with {CALL}, and after --", hint="give it once, after --")
    if at == end == len(args):
        return args
    return [*options[:at], f"--command-json={json.dumps(called or words)}"]


@frozen
class ActionOptions:
    """Words of a command line about a job's action; None and empty were not said."""

    command: str | None = None
    command_json: str | None = None
    argv: list[str] | None = None
    shell: str | None = None
    script: str | None = None
    prompt: str | None = None
    http: str | None = None
    method: str | None = None
    body: str | None = None
    header: list[str] | None = None
    workdir: str | None = None
    skills: str | None = None
    model: str | None = None
    deliver: str | None = None

    def action(self) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Return our action, or None, and the fields of hermes' own.

        Raises UsageError for two actions, or half of one.
        """
        command = self._words()
        said = {
            "a command": bool(command),
            "--shell": self.shell is not None,
            "--script or --prompt": self.script is not None or self.prompt is not None,
            "--http": self.http is not None,
        }
        named = [name for name, given in said.items() if given]
        if len(named) > 1:
            raise UsageError(f"{' and '.join(named)} are given, but a job does one thing", hint="give one of them")
        if self.http is None and (self.method or self.body or self.header):
            raise UsageError("--method, --body and --header belong to --http", hint="give --http URL")
        fields = self._fields()
        if command:
            return {"command": command}, fields
        if self.shell is not None:
            return {"shell": _text(self.shell, "--shell")}, fields
        if self.http is not None:
            return {"http": self._request(self.http)}, fields
        return None, fields

    def _words(self) -> list[str]:
        if self.argv:
            raise UsageError(
                f"'{self.argv[0]}' is one word too many", hint="a command goes after --, or after --command at the end"
            )
        if self.command is None and self.command_json is None:
            return []
        try:
            words = json.loads(self.command_json) if self.command_json else shlex.split(self.command or "")
        except ValueError as error:
            raise UsageError(f"--command cannot be read: {error}", hint="quote it as for a shell") from error
        if not isinstance(words, list) or not words or not words[0] or not all(isinstance(word, str) for word in words):
            raise UsageError("--command names no command", hint="write --command PROGRAM ARG..., or -- PROGRAM ARG...")
        return words

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if self.script is not None or self.prompt is not None:
            fields |= {"script": self.script, "prompt": self.prompt or "", "no_agent": self.prompt is None}
        if self.workdir is not None:
            if not self.workdir.startswith(("/", "~")):
                raise UsageError(f"--workdir {self.workdir} is not absolute", hint="give the whole path")
            fields["workdir"] = self.workdir
        if self.skills is not None:
            names = [name.strip() for name in self.skills.split(",") if name.strip()]
            fields |= {"skills": names, "skill": names[0] if names else None}
        if self.model is not None:
            fields["model"] = self.model or None
        if self.deliver is not None:
            fields["deliver"] = self.deliver or "local"
        return fields

    def _request(self, url: str) -> dict[str, Any]:
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
            good = good and parts.port != 0 and not any(letter <= " " for letter in url)
        except ValueError:
            good = False
        if not good:
            raise UsageError(
                "--http needs an http or https URL without credentials",
                hint="write it as https://HOST/PATH; a login goes into --header",
            )
        headers = {}
        for line in self.header or ():
            name, colon, value = line.partition(":")
            if not colon or not name.strip() or not line.isprintable():
                raise UsageError(
                    "a --header is 'NAME: VALUE' on one line",
                    hint="write it as 'Accept: text/html', quoted for your shell",
                )
            headers[name.strip()] = read_header(value.strip())
        request: dict[str, Any] = {"url": url, "method": (self.method or ("POST" if self.body else "GET")).upper()}
        if headers:
            request["headers"] = headers
        if self.body is not None:
            body = read_value(self.body)
            request["body" if isinstance(body, str) else "body_from"] = reference_of(body) or body
        return request


@frozen
class EnvOptions:
    """Words of a command line about a job's variables; None was not said."""

    env: list[str] | None = None
    env_file: list[str] | None = None
    unset: list[str] | None = None

    def extras(self, before: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return what a record shall have of it, None where nothing was said. Raises UsageError.

        `before`: what a job has that is edited; the variables that are named change, the others stay.
        """
        found: dict[str, Any] = {}
        if self.env is not None or self.unset is not None:
            kept = before.get("env") if before is not None else None
            kept = dict(kept) if isinstance(kept, dict) else {}
            for name in self.unset or ():
                if name not in kept:
                    raise UsageError(f"the job has no variable '{name:.40}'", hint="`chronos job show` names them")
                del kept[name]
            found["env"] = kept | read_variables(self.env or ())
        if self.env_file is not None:
            found["env_file"] = checked_files(self.env_file)
        return found or None


def policy_of(
    base: Policy,
    *,
    overlap: str | None,
    grace: str | None,
    timeout: str | None,
    retries: int | None,
    on_crash: str | None,
    jitter: str | None,
    tolerance: str | None,
    pause_after_failures: str | None,
    on_failure: str | None,
    on_failure_again: str | None,
    inherit_env: str | None,
) -> Policy:
    """Return `base` with the options given. Raises UsageError naming the option and what it may be."""
    changes: dict[str, Any] = {}
    if overlap is not None:
        changes["overlap"] = _one_of(Overlap, overlap, "--overlap")
    if on_crash is not None:
        changes["on_crash"] = _one_of(OnCrash, on_crash, "--on-crash")
    if retries is not None:
        changes["retries"] = retries
    spans = {
        "grace": grace,
        "timeout": timeout,
        "jitter": jitter,
        "tolerance": tolerance,
        "on_failure_again": on_failure_again,
    }
    for name, text in spans.items():
        if text is not None:
            changes[name] = _seconds(text, name.replace("_", "-"), least=1 if name == "timeout" else 0)
    if on_failure is not None:
        changes["on_failure"] = _argv(on_failure)
    if inherit_env is not None:
        changes["inherit_env"] = _names(inherit_env)
    if pause_after_failures is not None:
        changes["pause_after_failures"] = _count(pause_after_failures, "--pause-after-failures", "never")
    return replace(base, **changes) if changes else base


def times_of(repeat: str | None) -> int | None:
    """Return how often a job runs in all: 0 for ever, None where nothing was said. Raises UsageError."""
    return None if repeat is None else _count(repeat, "--repeat", "forever")


def zone_of(name: str | None) -> tzinfo | None:
    """Return the zone that was named, if any. Raises UsageError."""
    return None if name is None else named_zone(name)


def _seconds(text: str, name: str, *, least: int) -> int:
    seconds = parse_duration(text, bare=True)
    if seconds < least:
        raise UsageError(f"--{name} {text} is too short", hint="write it as 90s, 15m or 24h")
    return seconds


def _count(text: str, option: str, word: str) -> int:
    if text.strip().lower() == word:
        return 0
    if not text.isdecimal() or not 0 < int(text[:9]) <= 1_000_000:
        raise UsageError(f"{option} is '{text}'", hint=f"give a whole number above zero, or {word}")
    return int(text)


def _argv(text: str) -> tuple[str, ...]:
    """Return a program and its arguments, quoted as for a shell or a JSON list; `none` is no program."""
    if text.strip().lower() in ("", "none"):
        return ()
    from chronos_cli.config.values import read_argv

    try:
        return read_argv(text)
    except ValueError as error:
        raise UsageError(f"--on-failure {error}", hint="quote it as for a shell, or give none") from error


def _names(text: str) -> tuple[str, ...]:
    """Return the names of variables in a text: names with commas between, or all, or none."""
    from chronos_cli.config.values import read_names

    try:
        return read_names(text)
    except ValueError as error:
        raise UsageError(
            f"--inherit-env {error}", hint="give names with commas between, as HERMES_HOME,AWS_*"
        ) from error


def _one_of(kind: Any, text: str, option: str) -> Any:
    try:
        return kind(text.strip().lower())
    except ValueError as error:
        raise UsageError(f"{option} is '{text}'", hint=f"it may be {', '.join(kind)}") from error


def _text(text: str, option: str) -> str:
    if not text.strip():
        raise UsageError(f"{option} is empty", hint="say what to run")
    return text
