"""The check of a home's profiles: which there are, how many jobs each has, and whether fires for these are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.config import load_config, settings
from chronos_cli.config.load import HOME_VARIABLE
from chronos_cli.config.profiles import served_profiles, unserved_profiles
from chronos_cli.errors import ChronosError
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.doctor.check import Check, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chronos_cli.config import Config
    from chronos_cli.operations.context import Context


def check_profiles(config: Config, ctx: Context) -> Iterator[Check]:
    """List the profiles with their jobs; nothing is said where there are none."""
    served, others = served_profiles(config), unserved_profiles(config)
    ours = {HOME_VARIABLE, *(setting.env for setting in settings())}
    environ = {name: value for name, value in ctx.environ.items() if name not in ours}
    lines = [f"{name}: {_jobs(path, environ)} at {path}" for name, path in served.items()]
    if others:
        lines += [f"{name}, not served: {_jobs(path, environ)} at {path}" for name, path in others.items()]
        text = f"fires for jobs of profiles that are not served here are put off with 503; {'; '.join(lines)}"
        mend = f"name them under profiles in {config.path}, or take the setting out to serve all of this home"
        yield warn("profiles", text, code="unserved_profiles", mend=mend)
    elif lines:
        yield ok("profiles", "; ".join(lines))


def _jobs(path: str, environ: Mapping[str, str] = {}) -> str:
    """Return how many jobs a home has, or why that is not known."""
    try:
        context = open_home(
            load_config(environ=environ, home=path), ProcessEnvironment(environ=environ, secrets={}), armed=False
        )
        count = len(context.repository.jobs().records)
    except ChronosError as error:
        return f"cannot be read ({error.message})"
    return f"{count} {'job' if count == 1 else 'jobs'}"
