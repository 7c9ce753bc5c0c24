"""The command line: `chronos`.

What must be light is dispatched here, before typer is imported: the detached runner, `--version`, and the candidates
that a shell asks for while somebody types.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if sys.platform == "win32":
        sys.stderr.write("chronos: error: it does not run on Windows itself: install it in WSL (wsl --install)\n")
        return 1
    if arguments[:2] == ["fire", "--claimed"]:
        from chronos_cli.operations.runner import main as run_claimed

        return run_claimed()
    if arguments in (["--version"], ["-V"]):
        from chronos_cli import __version__

        sys.stdout.write(f"chronos {__version__}\n")
        return 0
    if arguments[:1] == ["__complete"]:
        from chronos_cli.cli.complete import main as complete

        return complete(arguments[1:])
    from chronos_cli.cli.app import run

    return run(arguments)
