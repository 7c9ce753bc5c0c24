"""The homes that one callback serves: that of the launching configuration, and its profiles.

Profiles are those that the setting names, else all that are found in the home when a fire comes.

The verifier of tokens is not found here: it comes from the launching configuration alone.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.callback.nas_pool import NasPool
from chronos_cli.config import load_config
from chronos_cli.config.profiles import served_profiles, unserved_profiles
from chronos_cli.core.job import Standing, parse_job
from chronos_cli.errors import ChronosError, ForeignHomeError, UnservedError
from chronos_cli.frozen import frozen, replace
from chronos_cli.operations.assembly import ProcessEnvironment, bare_environment, open_home
from chronos_cli.providers.resolve import resolve_provider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from chronos_cli.config import Config
    from chronos_cli.operations.context import Context, FleetJobs


@frozen
class ServedHome:
    """One home: its configuration and context, and what its runners are started with."""

    config: Config
    context: Context
    environment: Mapping[str, str]
    secrets: Mapping[str, str]


class Homes:
    """Opens each home once, when it is first needed. Safe to share between threads.

    Variables and the token in the environment speak for the launching home; a profile is what its own files say.
    """

    def __init__(
        self, config: Config, environ: Mapping[str, str], secrets: Mapping[str, str], warn: Callable[[str], None]
    ) -> None:
        self._config = config
        self._warn = warn
        self._bare = bare_environment(environ)
        self._guard = threading.Lock()
        self._opened: dict[str, ServedHome] = {}
        self.main = self._open(config, environ, secrets)

    def named(self, profile: str) -> ServedHome | None:
        """Return the home of a profile, None where none has this name. Raises ConfigError."""
        path = served_profiles(self._config).get(profile)
        if path is None:
            return None
        with self._guard:
            if profile not in self._opened:
                self._opened[profile] = self._open(load_config(environ=self._bare, home=path), self._bare, {})
            return self._opened[profile]

    def bound_to(self, name: str | None) -> str | None:
        """Return the home that a token on the plain path is bound to, None where all of them may be meant.

        A name that is not served here was meant for a proxy in front, which sorts by path and takes it away.
        """
        return name if name in served_profiles(self._config) else None

    def with_job(self, job_id: str, fire_at: datetime | None = None) -> ServedHome:
        """Return the home that has this job; the launching one where none has it.

        Of several that have one of that id, it is the one whose job has `fire_at` as its next or last time, else the
        first in which it is due, or live. A profile that cannot be read does not stop the others. Raises what reading
        the launching home raises.
        """
        served = served_profiles(self._config)
        if not served:
            return self.main
        found: list[tuple[int, ServedHome]] = []
        for profile in (None, *served):
            try:
                home = self.main if profile is None else self.named(profile)
                record = None if home is None else home.context.repository.jobs().get(job_id)
            except ChronosError:
                if profile is None:
                    raise
                continue  # a fire without a home is put off: it may be of this profile
            if home is None or record is None:
                continue
            asks = _asks_for(record, home.context, fire_at)
            if asks == _NAMED:
                return home
            found.append((asks, home))
        return max(found, key=lambda pair: pair[0])[1] if found else self.main

    def unserved(self) -> FleetJobs:
        """Read the jobs of the homes that nothing here answers for, and why any home of the fleet cannot be read."""
        fleet = self.main.context.elsewhere()
        served = served_profiles(self._config).keys() - unserved_profiles(self._config)
        left = [
            {job_id: name for job_id, name in jobs.items() if name not in served}
            for jobs in (fleet.profile_of, fleet.may_wake)
        ]
        return replace(fleet, profile_of=left[0], may_wake=left[1])

    def must_not_have(self, job_id: str, *, profile: str) -> None:
        """Refuse to call a job gone that is one of a profile which is not served here; other names are of no home.

        Raises UnservedError, and what reading that home raises. The home of another user has no job of ours.
        """
        path = unserved_profiles(self._config).get(profile)
        if path is None:
            return
        try:
            config = load_config(environ=self._bare, home=path)
        except ForeignHomeError:
            return
        context = open_home(config, ProcessEnvironment(environ=self._bare, secrets={}), armed=False)
        if context.repository.jobs().get(job_id) is not None:
            raise UnservedError(f"job {job_id} is one of the profile {profile}, which is not served here")

    def _open(self, config: Config, environ: Mapping[str, str], secrets: Mapping[str, str]) -> ServedHome:
        context = open_home(config, ProcessEnvironment(environ=environ, secrets=secrets))
        for text in config.warnings:
            self._warn(f"warning: {text}")
        resolved = resolve_provider(config, context)
        if resolved.warning is not None:
            self._warn(f"warning: {resolved.warning}")
        wire = context.wire
        if wire is not None:
            shared = resolved.provider.name != "builtin"
            wire = replace(wire, connect=NasPool(wire.connect).connect) if shared else None
        return ServedHome(
            config=config, context=replace(context, wire=wire), environment=dict(environ), secrets=dict(secrets)
        )


_NAMED: Final = 3


def _asks_for(record: Mapping[str, Any], context: Context, fire_at: datetime | None) -> int:
    """Return how far a fire may be meant for a job: 3 if it names its time, 2 if it is due, 1 if it may have a wake."""
    try:
        job = parse_job(record, context.home)
    except ChronosError:
        return 0
    if job.standing is not Standing.LIVE:
        return int(bool(job.open))
    if fire_at is not None and fire_at in (job.cursor, job.claimed_through):
        return _NAMED
    return 2 if job.cursor is not None and job.cursor <= context.clock() else 1
