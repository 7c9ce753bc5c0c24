"""The front door: build the commands, run one, and turn every way in which it can end into an exit code.

This is the one place of the command line that catches errors.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import typer

from chronos_cli.cli import table
from chronos_cli.cli.invocation import Invocation
from chronos_cli.cli.lazy import LazyGroup, make_group
from chronos_cli.cli.output import Output
from chronos_cli.errors import ChronosError, ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SUMMARY = "Scheduled jobs for processes that are not there: NAS keeps the timers and calls."


def build() -> LazyGroup:
    """The whole command; nothing of the subcommands is imported."""
    settings = {"auto_envvar_prefix": "CHRONOS", "help_option_names": ["--help", "-h"]}
    return make_group("chronos", _SUMMARY, table.available(), context_settings=settings)


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code. Never raises, but for what ends the process."""
    from chronos_cli.running.secrecy import take_secrets

    secrets = take_secrets(os.environ)
    environ = dict(os.environ)
    invocation = Invocation(environ, secrets, Output(environ))
    arguments = list(argv)
    words = [word for word in arguments if not word.startswith("-")]
    invocation.command = command_name(words)
    try:
        code = _invoke(invocation, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough; there is nobody left to tell anything.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    return code


def command_name(words: list[str]) -> str:
    """The name of a command in its schema: `list`, `job.add`; `chronos` where none is named."""
    found: list[str] = []
    for word in words:
        entry = table.find([*found, word])
        if entry is None or entry.name != word:
            continue  # the value of an option before the command
        found.append(word)
        if not entry.children:
            break
    return ".".join(found) or "chronos"


def _invoke(invocation: Invocation, arguments: list[str]) -> int:
    try:
        result = _carry_out(invocation, arguments)
    except ChronosError as error:
        return _fail(invocation, arguments, error)
    except typer.Exit as done:
        return done.exit_code
    except (typer.Abort, KeyboardInterrupt) as stopped:
        if invocation.debug:
            _traceback(stopped)
        return _fail(invocation, arguments, InterruptedByUserError("interrupted", hint=""))
    except typer.TyperException as error:
        return _fail(invocation, arguments, _usage(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        return _fail(invocation, arguments, _machine(error))
    except Exception as error:  # noqa: BLE001 - the last net: one line and an exit code instead of a traceback
        return _fail(invocation, arguments, ChronosError(f"unexpected {type(error).__name__}: {error}"), error)
    return int(result) if isinstance(result, int) else ExitCode.OK


def _carry_out(invocation: Invocation, arguments: list[str]) -> Any:
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


class InterruptedByUserError(ChronosError):
    """Interrupted."""

    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED
    retryable = True


def _usage(error: typer.TyperException) -> ChronosError:
    """What typer has to say about the arguments, in our words and on one line."""
    option = getattr(error, "option_name", None)
    possible = getattr(error, "possibilities", None)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "chronos"
    hint = f"see {path} --help"
    if option and possible is not None:
        hint = f"did you mean '{possible[0]}'?" if possible else hint
        return UsageError(f"there is no option '{option}'", hint=hint)
    message = " ".join(error.format_message().split()).rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _machine(error: OSError) -> ChronosError:
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    return ChronosError(f"the machine refused: {what}", hint="see that the file can be used, and try again")


def _fail(invocation: Invocation, arguments: list[str], error: ChronosError, cause: BaseException | None = None) -> int:
    if invocation.debug or "--debug" in arguments:
        _traceback(cause or error)
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if invocation.json or "--json" in before:
        invocation.output.document(invocation.command, {}, error)
    invocation.output.error(error)
    return int(error.exit_code)


def _traceback(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error)


def _log_everything() -> None:
    """With -vv: what the libraries log (requests without their headers), on stderr."""
    import logging

    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format="chronos: %(name)s: %(message)s")
