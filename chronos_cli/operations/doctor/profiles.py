"""The check of a home's profiles: which there are, how many jobs each has, whether fires for these are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.config.profiles import served_profiles, unserved_profiles
from chronos_cli.errors import ChronosError
from chronos_cli.operations.doctor.check import Check, ok, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chronos_cli.config import Config


def check_profiles(config: Config, count: Callable[[str], int]) -> Iterator[Check]:
    """List the profiles with their jobs; nothing is said where there are none.

    `count`: the number of jobs in a home; it raises ChronosError where that is not known.
    """
    served, others = served_profiles(config), unserved_profiles(config)
    lines = [f"{name}: {_jobs(path, count)} at {path}" for name, path in served.items()]
    if others:
        lines += [f"{name}, not served: {_jobs(path, count)} at {path}" for name, path in others.items()]
        text = f"fires for jobs of profiles that are not served here are put off with 503; {'; '.join(lines)}"
        mend = f"name them under profiles in {config.path}, or take the setting out to serve all of this home"
        yield warn("profiles", text, code="unserved_profiles", mend=mend)
    elif lines:
        yield ok("profiles", "; ".join(lines))


def _jobs(path: str, count: Callable[[str], int]) -> str:
    try:
        number = count(path)
    except ChronosError as error:
        return f"cannot be read ({error.message})"
    return f"{number} {'job' if number == 1 else 'jobs'}"
