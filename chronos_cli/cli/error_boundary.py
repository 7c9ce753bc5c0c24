"""Every way in which a command can end, as an exit code: the one place of the command line that catches errors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chronos_cli.cli.invocation import Invocation
from chronos_cli.cli.output import Output
from chronos_cli.errors import ChronosError, ExitCode, machine_refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def begin() -> Invocation:
    """Return a new run of the command line; from here on no secret is in this process's environment."""
    from chronos_cli.running.secrecy import take_secrets

    secrets = take_secrets(os.environ)
    environ = dict(os.environ)
    return Invocation(environ, secrets, Output(environ))


def run_command(invocation: Invocation, arguments: Sequence[str], body: Callable[[], object]) -> int:
    """Run `body` and return its exit code. Never raises, but for what ends the process."""
    try:
        try:
            result = body()
        finally:
            invocation.send_alerts()
    except ChronosError as error:
        return _fail(invocation, arguments, error)
    except KeyboardInterrupt as stopped:
        if invocation.debug:
            _traceback(stopped)
        return _fail(invocation, arguments, InterruptedByUserError("interrupted", hint=""))
    except OSError as error:
        return _fail(invocation, arguments, machine_refused(error))
    except Exception as error:  # noqa: BLE001 - the last net: one line and an exit code instead of a traceback
        return _fail(invocation, arguments, ChronosError(f"unexpected {type(error).__name__}: {error}"), error)
    return int(result) if isinstance(result, int) else ExitCode.OK


class InterruptedByUserError(ChronosError):
    """Interrupted."""

    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED
    retryable = True


def _fail(
    invocation: Invocation, arguments: Sequence[str], error: ChronosError, cause: BaseException | None = None
) -> int:
    if invocation.debug or "--debug" in arguments:
        _traceback(cause or error)
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if invocation.json or _asks_for_json(before):
        invocation.output.document(invocation.command, {}, error)
    invocation.output.error(error)
    return int(error.exit_code)


def _asks_for_json(words: Sequence[str]) -> bool:
    """Return whether JSON was asked for in words that could not be parsed: a program is to read the error too."""
    pairs = zip(words, [*words[1:], ""], strict=False)
    joined = {"--json", "-ojson", "--output=json"}
    return any(word in joined or (word in ("-o", "--output") and value == "json") for word, value in pairs)


def _traceback(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error)
