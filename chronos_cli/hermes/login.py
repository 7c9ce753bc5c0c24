"""Print the access token of a Hermes login, renewed by Hermes itself: a token_command of chronos.

Run by the Python of the environment that hermes-agent is installed in, as `-m chronos_cli.hermes.login`, or by the path
of this very file where chronos is installed elsewhere: it needs nothing but hermes. The login is the one of the home
that it is started in, where that has an `auth.json` or is a profile of one that has, else the one that HERMES_HOME
names.
"""

import os
import sys
from pathlib import Path


def main() -> int:
    """Print the token alone; exit status 1 with one line on stderr where hermes has none to give."""
    here = Path(__file__).resolve().parent  # run by its path, this file brings modules with it that are none of hermes'
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    if Path("auth.json").exists() or (Path.cwd().parent.name == "profiles" and Path("../../auth.json").exists()):
        os.environ["HERMES_HOME"] = str(Path.cwd())
    out, sys.stdout = sys.stdout, sys.stderr  # what hermes prints on its way is no part of the token
    try:
        from hermes_cli.auth import resolve_nous_access_token  # type: ignore[import-not-found]
    except ImportError as error:
        return _failed(f"hermes-agent is not installed in this environment ({error})")
    try:
        token = str(resolve_nous_access_token())
    except Exception as error:  # noqa: BLE001 - whatever hermes raises: its reason is the one line
        return _failed(f"{type(error).__name__}: {error}")
    out.write(f"{token}\n")
    return 0


def _failed(reason: str) -> int:
    sys.stderr.write(f"\n{' '.join(reason.split())}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
