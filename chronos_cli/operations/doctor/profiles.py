"""The checks of a home's profiles: which there are, their jobs, whether their fires are answered, and shared ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chronos_cli.config.profiles import served_profiles, unserved_profiles
from chronos_cli.core.job import Standing
from chronos_cli.errors import ChronosError
from chronos_cli.operations.doctor.check import Check, ok, warn
from chronos_cli.operations.evaluate import read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chronos_cli.config import Config
    from chronos_cli.operations.context import Context

_UNREAD: Final = "cannot be read"
_SHOWN: Final = 5


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


def check_namesakes(config: Config, ctx: Context) -> Iterator[Check]:
    """Name each job here whose slot at NAS is also that of another home's; nothing is said where there is none."""
    if ctx.wire is None:
        return
    fleet = ctx.elsewhere()
    jobs = read_all(ctx)
    live = {job.id for job in jobs if job.standing is Standing.LIVE}
    others = unserved_profiles(config)
    idle = sorted(job.id for job in jobs if job.id not in live and fleet.may_wake.get(job.id) in others)
    if idle:
        named = _named([(job_id, f"live in the profile {fleet.may_wake[job_id]}") for job_id in idle])
        text = f"fires for jobs that are out of force here, and live where nobody serves, are put off with 503: {named}"
        mend = f"remove them here, and name the profile under profiles in {config.path} or serve its own callback"
        yield warn("out of force", text, code="live_elsewhere", mend=mend)
    shared = sorted(live & fleet.same_agent)
    if not shared:
        return
    named = _named([(job_id, f"also of the profile {fleet.may_wake[job_id]}") for job_id in shared])
    text = f"NAS has one timer for each id of an agent, so jobs of one id take turns, and runs come late: {named}"
    mend = "remove one of the two, or give its home an agent of its own at NAS, with its own expected_audience"
    yield warn("namesakes", text, code="same_ids", mend=mend)


def _named(found: list[tuple[str, str]]) -> str:
    """Return jobs, each with what is said of it, and how many more there are than fit."""
    named = ", ".join(f"{job_id} ({said})" for job_id, said in found[:_SHOWN])
    return named + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def _jobs(path: str, count: Callable[[str], int]) -> str:
    try:
        number = count(path)
    except ChronosError as error:
        return f"{_UNREAD} ({error.message})"
    return f"{number} {'job' if number == 1 else 'jobs'}"
