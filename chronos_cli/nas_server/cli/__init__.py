"""The command `chronos-nas`: the one place where its options are read and its errors end.

Every command takes `--json`: one object on stdout, `{"schema": "chronos-nas.COMMAND/1", "ok": true, ...}`; on failure
`"ok": false` and `error`. Every error is one line on stderr, with the exit code of errors.py.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import typer

from chronos_cli.errors import ChronosError, ExitCode, UsageError, machine_refused
from chronos_cli.help_text import asked_for_help, plain_usage
from chronos_cli.nas_server.cli import agents as cli_agents
from chronos_cli.nas_server.cli import audit as cli_audit
from chronos_cli.nas_server.cli import completions as cli_completions
from chronos_cli.nas_server.cli import conformance as cli_conformance
from chronos_cli.nas_server.cli import database as cli_database
from chronos_cli.nas_server.cli import keys as cli_keys
from chronos_cli.nas_server.cli import serve as cli_serve
from chronos_cli.nas_server.cli import timers as cli_timers
from chronos_cli.nas_server.cli.common import say
from chronos_cli.nas_server.cli.help import NasCommand, NasGroup
from chronos_cli.streams import gated

if TYPE_CHECKING:
    from collections.abc import Sequence


def build() -> typer.Typer:
    """Return the command with its subcommands."""
    app = typer.Typer(
        name="chronos-nas",
        help="A NAS anyone can host: it keeps agents' timers and calls them back when they are due.",
        cls=NasGroup,
        context_settings={"help_option_names": ["--help", "-h"]},
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.command("serve", cls=NasCommand)(cli_serve.serve)
    app.add_typer(cli_agents.build(), name="agent")
    app.add_typer(cli_keys.build(), name="keys")
    app.add_typer(cli_database.build(), name="db")
    app.command("audit", cls=NasCommand)(cli_audit.audit)
    app.command("timers", cls=NasCommand)(cli_timers.timers)
    app.add_typer(cli_timers.build_dead(), name="dead")
    app.command("conformance", cls=NasCommand)(cli_conformance.conformance)
    app.command("completions", cls=NasCommand)(cli_completions.completions)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    groups = ("agent", "keys", "db", "dead")
    arguments = asked_for_help(list(sys.argv[1:] if argv is None else argv), groups)
    return gated("chronos-nas", lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    if list(arguments) in (["--version"], ["-V"]):
        from chronos_cli import __version__

        say(f"chronos-nas {__version__}")
        return ExitCode.OK
    try:
        result = build()(args=list(arguments), prog_name="chronos-nas", standalone_mode=False)
    except ChronosError as error:
        return _fail(error, arguments)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = "chronos-nas" if context is None else context.command_path
        return _fail(UsageError(plain_usage(error.format_message()), hint=f"see `{path} --help`"), arguments)
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except OSError as error:
        return _fail(machine_refused(error), arguments)
    except Exception as error:  # noqa: BLE001 - the last net: one line and an exit code instead of a traceback
        if os.environ.get("CHRONOS_DEBUG"):
            sys.excepthook(type(error), error, error.__traceback__)
        hint = "run it again with CHRONOS_DEBUG=1 and report what it prints"
        return _fail(ChronosError(f"unexpected {type(error).__name__}: {error}", hint=hint), arguments)
    return result if isinstance(result, int) else ExitCode.OK


def _fail(error: ChronosError, arguments: Sequence[str]) -> int:
    asked = {"--json", "-ojson", "--output=json"} & set(arguments) or ("-o", "json") in pairwise(arguments)
    if asked or ("--output", "json") in pairwise(arguments):
        words = [word for word in arguments if not word.startswith("-")]
        name = words[0] if words else "chronos-nas"
        say(json.dumps({"schema": f"chronos-nas.{name}/1", "ok": False, "error": error.as_json()}))
    sys.stderr.write(f"chronos-nas: {error.line()}\n")
    return error.exit_code
