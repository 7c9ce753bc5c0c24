"""`chronos fire`, `list` and `reconcile` before typer: they run most often, and its import is half of a light one.

Only the plain spellings are understood here. Any other (help, an option twice or shortened, a value
that looks like an option, a variable that stands for an option) is left to typer, so that every mistake is described in
one place; what both understand they understand alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    ActionOptions = dict[str, str | bool]

_GLOBAL: Final = {
    "--home": "home",
    "--lock-timeout": "lock_timeout",
    "--json": "json",
    "--quiet": "quiet",
    "-q": "quiet",
    "--verbose": "verbose",
    "-v": "verbose",
    "--debug": "debug",
}
_OWN: Final = {
    "fire": {
        "--job-id": "job_id",
        "--token": "token",
        "--token-file": "token_file",
        "--fire-at": "fire_at",
        "--detach": "detach",
        "--answer": "whole_answer",
    },
    "list": {
        "--offline": "offline",
        "--output": "output",
        "-o": "output",
        "--watch": "watch",
        "-w": "watch",
        "--interval": "interval",
    },
    "reconcile": {"--dry-run": "dry_run", "--detailed-exitcode": "detailed", "--prune": "prune"},
}
_FLAGS: Final = frozenset(
    {"json", "quiet", "verbose", "debug", "detach", "whole_answer", "offline", "watch", "dry_run", "detailed", "prune"}
)
_NEEDED: Final = {"fire": "job_id"}
_NOT_OPTIONS: Final = frozenset({"CHRONOS_FIRE_TOKEN"})


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ActionOptions, ActionOptions] | None:
    """Return the command, its own options and the global ones; None where typer must parse."""
    command = next((word for word in arguments if word in _OWN), None)
    if command is None or any(name.startswith(f"CHRONOS_{command.upper()}_") for name in environ.keys() - _NOT_OPTIONS):
        return None
    if _wordy(environ.get("CHRONOS_VERBOSE", "")):
        return None
    own: ActionOptions = {}
    everywhere: ActionOptions = {}
    known: Mapping[str, str] = _GLOBAL
    words = iter(arguments)
    for word in words:
        if word == command and known is _GLOBAL:
            known = {**_GLOBAL, **_OWN[command]}
        elif not _take(word, words, known, own, everywhere):
            return None
    needed = _NEEDED.get(command)
    understood = known is not _GLOBAL and (needed is None or needed in own)
    return (command, own, everywhere) if understood else None


def run(arguments: Sequence[str], asked: tuple[str, ActionOptions, ActionOptions]) -> int:
    """Carry out what `parse` understood, and return the exit code."""
    from chronos_cli.cli import error_boundary

    command, own, everywhere = asked
    invocation = error_boundary.begin()
    invocation.command = command
    for name, value in everywhere.items():
        invocation.note_option(name, value)

    def body() -> int:
        if command == "list":
            from chronos_cli.cli.handlers.list import show_listing

            return show_listing(invocation, **{"offline": False, **own})  # type: ignore[arg-type]
        if command == "reconcile":
            from chronos_cli.cli.handlers.reconcile import show_reconcile

            return show_reconcile(invocation, invocation.context(), **own)  # type: ignore[arg-type]
        from chronos_cli.cli.handlers.fire import fire_command

        return fire_command(invocation, **own)  # type: ignore[arg-type]

    return error_boundary.run_command(invocation, arguments, body)


def _take(
    word: str, words: Iterator[str], known: Mapping[str, str], own: ActionOptions, everywhere: ActionOptions
) -> bool:
    """Note one option with its value; whether it was understood."""
    name, equals, value = word.partition("=")
    option = known.get(name if name.startswith("--") else word)
    if option is None:
        return False
    into = everywhere if option in _GLOBAL.values() else own
    if option in into:
        return False
    if option in _FLAGS:
        into[option] = True
        return not equals
    if not equals:
        value = next(words, "")
    into[option] = value
    return bool(value) and (value == "-" or not value.startswith("-"))


def _wordy(level: str) -> bool:
    """Return whether a variable asks for the log of the libraries, which typer's way sets up."""
    return level.strip().isdecimal() and int(level) > 1
