"""The front door: build the commands, run one, and say in our words what typer has to say."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from chronos_cli.cli import error_boundary, table
from chronos_cli.cli.lazy import LazyGroup, make_group
from chronos_cli.errors import ChronosError, UsageError
from chronos_cli.help_text import asked_for_help, plain_usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronos_cli.cli.invocation import Invocation

_SUMMARY = "Scheduled jobs for processes that are not there: NAS keeps the timers and calls."


def build() -> LazyGroup:
    """Return the whole command; nothing of the subcommands is imported."""
    settings = {"auto_envvar_prefix": "CHRONOS", "help_option_names": ["--help", "-h"]}
    return make_group("chronos", _SUMMARY, table.available(), context_settings=settings)


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code. Never raises, but for what ends the process."""
    invocation = error_boundary.begin()
    arguments = asked_for_help(list(argv), {entry.name for entry in table.COMMANDS if entry.children})
    invocation.command = command_name([word for word in arguments if not word.startswith("-")])
    return error_boundary.run_command(invocation, arguments, lambda: _invoke(invocation, arguments))


def command_name(words: list[str]) -> str:
    """Return the name of a command in its schema: `list`, `job.add`; `chronos` where none is named."""
    found: list[str] = []
    for word in words:
        entry = table.find([*found, word])
        if entry is None or entry.name != word:
            continue  # the value of an option before the command
        found.append(word)
        if not entry.children:
            break
    return ".".join(found) or "chronos"


def _invoke(invocation: Invocation, arguments: list[str]) -> Any:
    try:
        return _run(invocation, arguments)
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort as stopped:
        raise KeyboardInterrupt from stopped
    except typer.TyperException as error:
        raise _usage(error) from error


def _run(invocation: Invocation, arguments: list[str]) -> Any:
    group = build()
    if arguments in (["--version"], ["-V"]):
        from chronos_cli import __version__

        sys.stdout.write(f"chronos {__version__}\n")
        return 0
    with group.make_context("chronos", arguments, obj=invocation) as ctx:
        if not ctx._protected_args:  # noqa: SLF001 - where typer keeps the command's name until it is invoked
            sys.stdout.write(ctx.get_help() + "\n")
            return 0
        if invocation.output.verbosity > 1:
            _log_everything()
        return group.invoke(ctx)


def _usage(error: typer.TyperException) -> ChronosError:
    """Return what typer has to say about the arguments, in our words and on one line."""
    option = getattr(error, "option_name", None)
    possible = getattr(error, "possibilities", None)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "chronos"
    hint = f"see `{path} --help`"
    if option and possible is not None:
        hint = f"did you mean '{possible[0]}'?" if possible else hint
        return UsageError(f"there is no option '{option}'", hint=hint)
    message = plain_usage(error.format_message())
    if message.endswith(" needs a value"):
        hint = "write it behind the option"
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _log_everything() -> None:
    """Write to stderr, for -vv, what the libraries log; requests come without their headers."""
    import logging

    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format="chronos: %(name)s: %(message)s")
