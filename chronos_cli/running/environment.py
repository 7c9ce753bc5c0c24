"""The environment of a run: the same few variables from whichever door it starts, and what a policy lets in besides.

A run that got the variables that its starter happens to have would go well from a shell and fail from a web server. So
HOME, LANG, LOGNAME, PATH, SHELL, TZ and USER are made here, of the account, the machine and the job's own zone.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HOME_VARIABLE: Final = "CHRONOS_HOME"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOCALE_FILES: Final = ("/etc/locale.conf", "/etc/default/locale")
_SHELL: Final = "/bin/sh"
_MOST: Final = 4096


def run_environment(
    started_with: Mapping[str, str], *, inherit: tuple[str, ...] | None, zone_name: str, home: str
) -> dict[str, str]:
    """Return the environment of a job of `home`, before its own variables.

    `started_with`: the environment of the process that starts the run. `inherit`: the names that come from there, `*`
    at the end of one for all that begin so; None: all that is there, as before there was such a policy, and what lacks
    is added.
    """
    base = base_environment(zone_name)
    if inherit is None:
        del base["TZ"]  # a job of before goes on in the machine's zone
        given = {**base, **started_with}
    else:
        given = base | {name: value for name, value in started_with.items() if is_inherited(name, inherit)}
    return given | {HOME_VARIABLE: home}


def base_environment(zone_name: str) -> dict[str, str]:
    """Return what every run has: of this account, this machine, and the zone of the job."""
    name, folder, shell = _account()
    return {
        "HOME": folder,
        "LANG": _language(),
        "LOGNAME": name,
        "PATH": f"{PATH}:{programs}" if (programs := _own_programs()) else PATH,
        "SHELL": shell,
        "TZ": zone_name,
        "USER": name,
    }


def is_inherited(name: str, wanted: tuple[str, ...]) -> bool:
    """Return whether a list of names takes a variable in."""
    return any(name == item or (item.endswith("*") and name.startswith(item[:-1])) for item in wanted)


def _account() -> tuple[str, str, str]:
    """Return the name, folder and shell of the user; of one without an account its number, / and /bin/sh."""
    import pwd

    try:
        found = pwd.getpwuid(os.geteuid())
    except KeyError:  # a container's user
        return str(os.geteuid()), "/", _SHELL
    return found.pw_name, found.pw_dir or "/", found.pw_shell or _SHELL


def _language() -> str:
    """Return the machine's language, as a service or a login gets it."""
    for path in _LOCALE_FILES:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read(_MOST).splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.strip().partition("=")
            if name == "LANG" and value.strip("\"'"):
                return value.strip("\"'")
    return "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"


def _own_programs() -> str:
    """Return the folder of this Python's programs, `chronos` among them, where it is not on the usual path."""
    folder = os.path.dirname(sys.executable)
    return "" if not folder or ":" in folder or folder in PATH.split(":") else folder
