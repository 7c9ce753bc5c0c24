"""The check of a home's profiles: which there are, how many jobs each has, whether fires for these are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chronos_cli.config.profiles import served_profiles, unserved_profiles
from chronos_cli.errors import ChronosError
from chronos_cli.operations.doctor.check import Check, ok, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chronos_cli.config import Config


_UNREAD: Final = "cannot be read"


def check_profiles(config: Config, count: Callable[[str], int]) -> Iterator[Check]:
    """List the profiles with their jobs; nothing is said where there are none. One that cannot be read is a warning.

    `count`: the number of jobs in a home; it raises ChronosError where that is not known.
    """
    served, others = served_profiles(config), unserved_profiles(config)
    counted = {path: _jobs(path, count) for path in (*served.values(), *others.values())}
    lines = [f"{name}: {counted[path]} at {path}" for name, path in served.items()]
    unread = [path for path, text in counted.items() if text.startswith(_UNREAD)]
    if others:
        lines += [f"{name}, not served: {counted[path]} at {path}" for name, path in others.items()]
        text = f"fires for jobs of profiles that are not served here are put off with 503; {'; '.join(lines)}"
        mend = f"name them under profiles in {config.path}, or take the setting out to serve all of this home"
        yield warn("profiles", text, code="unserved_profiles", mend=mend)
    elif unread:
        text = f"fires for jobs that are found nowhere else are put off with 503; {'; '.join(lines)}"
        mend = f"chronos --home {unread[0]} doctor"
        yield warn("profiles", text, code="unread_profiles", mend=mend)
    elif lines:
        yield ok("profiles", "; ".join(lines))


def _jobs(path: str, count: Callable[[str], int]) -> str:
    try:
        number = count(path)
    except ChronosError as error:
        return f"{_UNREAD} ({error.message})"
    return f"{number} {'job' if number == 1 else 'jobs'}"
