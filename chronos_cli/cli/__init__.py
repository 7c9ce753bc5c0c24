"""The command line: `chronos`.

What must be light is dispatched here, before typer is imported: the runner, `--version`, the candidates that a shell
asks for while a person types, and the three commands that run most often, as they are plainly written.
"""

from __future__ import annotations

import sys

_RUBBISH = 50_000
"""After so many new objects Python looks for rubbish; after 700, as is usual, it did so at each start in vain."""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; as the program itself (no `argv`) it ends the process with it."""
    if argv is not None:
        return _run(argv)
    import gc

    from chronos_cli.cli import fast_exit

    gc.set_threshold(_RUBBISH)
    if sys.argv[1:2] == ["fire"]:
        gc.disable()  # it ends before there is rubbish worth looking for
    fast_exit.to_come = True
    return fast_exit.leave(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["fire"]:
        from chronos_cli.private_memory import hide_memory

        hide_memory()  # before all else is loaded: a program is open to its user's others from its start until then
    if arguments[:2] == ["fire", "--claimed"]:
        from chronos_cli.operations.firing.runner import main as run_claimed

        return run_claimed()
    if arguments[:2] == ["fire", "--warm"]:
        from chronos_cli.operations.firing.warm_runner import main as run_warm

        return run_warm(arguments[2:])
    from chronos_cli.streams import gated

    return gated("chronos", lambda: _dispatch(arguments))


def _dispatch(arguments: list[str]) -> int:
    if sys.platform == "win32":
        sys.stderr.write("chronos: error: it does not run on Windows itself: install it in WSL (wsl --install)\n")
        return 1
    if arguments in (["--version"], ["-V"]):
        from chronos_cli import __version__

        sys.stdout.write(f"chronos {__version__}\n")
        return 0
    if arguments[:1] == ["__complete"]:
        from chronos_cli.cli.complete import main as complete

        return complete(arguments[1:])
    import os

    from chronos_cli.cli import quick

    asked = quick.parse(arguments, os.environ)
    if asked is not None:
        return quick.run(arguments, asked)
    from chronos_cli.cli.app import run

    return run(arguments)
