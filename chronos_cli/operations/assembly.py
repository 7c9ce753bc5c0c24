"""Puts the real outside together: configuration and environment in, a `Context` out. The only place that does."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from chronos_cli.config import load_config, settings
from chronos_cli.config.load import HOME_VARIABLE
from chronos_cli.config.settings import PROFILES
from chronos_cli.core.clock import Trust
from chronos_cli.core.instant import named_zone
from chronos_cli.core.job import HomeDefaults, Standing, parse_job
from chronos_cli.core.policy import OnCrash, Overlap, Policy
from chronos_cli.errors import ChronosError, ForeignHomeError
from chronos_cli.frozen import frozen
from chronos_cli.operations.context import Context, FleetJobs, NasTarget, Retention
from chronos_cli.store.local import LocalStore
from chronos_cli.store.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.config import Config
    from chronos_cli.nas_client.interface import Nas
    from chronos_cli.running.interface import Processes
    from chronos_cli.running.lock_place import LockPlace
    from chronos_cli.running.signals import Interrupts
    from chronos_cli.store.interface import DocumentStore
    from chronos_cli.store.job_entries import Record


@frozen
class ProcessEnvironment:
    """Surroundings of a process: its environment (without secrets), the secrets taken out of it, and its signals."""

    environ: Mapping[str, str]
    secrets: Mapping[str, str]
    interrupts: Interrupts | None = None
    budget_s: float | None = None
    by_person: bool = False
    """True where a person asked for what the process changes."""
    wrapper: tuple[str, ...] = ()
    """The words of `spawn.death_wrapper`, for a process with one thread that has tried them."""


class _MadeWhenUsed:
    """The machine's side of runs, loaded once something of it is asked for: most commands need nothing of it."""

    def __init__(self, make: Callable[[], Processes]) -> None:
        made: list[Processes] = []

        def real() -> Processes:
            if not made:
                made.append(make())
            return made[0]

        object.__setattr__(self, "_real", real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real(), name, value)


def open_home(config: Config, outside: ProcessEnvironment, *, armed: bool = True) -> Context:
    """Return the context of one home. Touches no disk and no network yet; `armed` False leaves NAS out of it."""
    documents = open_documents(config, by_person=outside.by_person)
    wire = _wire(config, outside) if armed else None
    repository = Repository(documents, sleep=time.sleep, random=_random, fleet=_fleet_of(config))
    return Context(
        home=home_of(config),
        repository=repository,
        processes=cast("Processes", _MadeWhenUsed(lambda: _processes(config, outside, repository))),
        clock=_now,
        token=new_token,
        environ={**outside.environ, **outside.secrets},
        wire=wire,
        unset=f"cron.chronos.{'callback_url' if config.portal_url else 'portal_url'}",
        settings_file=str(config.path),
        trust=Trust.UNHEARD if wire is not None and config.provider.strip() == "chronos" else Trust.ALONE,
        retention=Retention(keep=config.history_keep, days=config.history_days),
        budget_s=outside.budget_s,
        standby=config.origin("standby") if config.standby else "",
        elsewhere=lambda: jobs_elsewhere(config, outside.environ),
        checkpoint=checkpoint_of(outside.environ),
    )


def jobs_elsewhere(config: Config, environ: Mapping[str, str]) -> FleetJobs:
    """Read the jobs of the other homes of a home's fleet: of its profiles, and of the root and the others beside it."""
    from chronos_cli.config.profiles import served_profiles, unserved_profiles

    profile_of: dict[str, str] = {}
    may_wake: dict[str, str] = {}
    instants: dict[str, frozenset[datetime]] = {}
    unread: dict[str, str] = {}
    foreign: set[str] = set()
    for name, path in (*served_profiles(config).items(), *unserved_profiles(config).items()):
        try:
            other, ctx = _home_at(path, environ)
            records = ctx.repository.jobs().records
        except ChronosError as error:
            unread[name] = error.message
            foreign |= {name} if isinstance(error, ForeignHomeError) else set()
            continue
        shared = len({config.expected_audience, other.expected_audience} - {""}) < 2  # they name no two
        for job_id, record in ((record.id, record) for record in records if record.id is not None):
            profile_of[job_id] = name
            known = _times_of(record, ctx)
            if known is not None:
                may_wake[job_id] = name
                if shared:
                    instants[job_id] = instants.get(job_id, frozenset()) | known
    return FleetJobs(
        profile_of=profile_of,
        may_wake=may_wake,
        same_agent=frozenset(instants),
        instants=instants,
        unread=unread,
        foreign=frozenset(foreign),
    )


def bare_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what speaks for the launching home alone: for another home, its own files do."""
    ours = {HOME_VARIABLE, *(setting.env for setting in settings())}
    return {name: value for name, value in environ.items() if name not in ours}


def count_jobs(home: str, environ: Mapping[str, str]) -> int:
    """Return how many jobs another home has. Raises ConfigError, ForeignHomeError and StoreError."""
    return len(_home_at(home, environ)[1].repository.jobs().records)


def _home_at(home: str, environ: Mapping[str, str]) -> tuple[Config, Context]:
    bare = bare_environment(environ)
    config = load_config(environ=bare, home=home)
    return config, open_home(config, ProcessEnvironment(environ=bare, secrets={}), armed=False)


def _times_of(record: Record, ctx: Context) -> frozenset[datetime] | None:
    """Return the next and the last time of a job that may have a timer, none where it cannot be read.

    None for one that is neither live nor has an open run.
    """
    try:
        job = parse_job(record.value, ctx.home)
    except (ChronosError, AttributeError):
        return frozenset()
    if job.standing is not Standing.LIVE and not job.open:
        return None
    return frozenset(at for at in (job.cursor, job.claimed_through) if at is not None)


def home_of(config: Config) -> HomeDefaults:
    """Return what a job inherits from its home."""
    policy = Policy(
        overlap=Overlap(config.overlap),
        grace=config.grace,
        timeout=config.timeout,
        retries=config.retries,
        on_crash=OnCrash(config.on_crash),
        jitter=config.jitter,
        tolerance=config.tolerance,
        pause_after_failures=config.pause_after_failures,
        on_failure=config.on_failure,
        on_failure_again=config.on_failure_again,
        inherit_env=config.inherit_env,
    )
    return HomeDefaults(zone=named_zone(config.timezone), zone_name=config.timezone, policy=policy)


def open_documents(config: Config, *, by_person: bool = False) -> DocumentStore:
    """Return the document store that a configuration names."""
    if "://" not in config.store:
        home = Path(config.store or config.home)
        return LocalStore(home, lock_timeout_s=config.lock_timeout, by_person=by_person)
    from chronos_cli.store.open import open_store

    return open_store(config.store, endpoint=config.store_endpoint or None, lock_timeout_s=config.lock_timeout)


def _fleet_of(config: Config) -> DocumentStore | None:
    """Return the documents of the home that this one is a profile of, `HOME/profiles/NAME`; None where it is none."""
    folder = Path(config.home).parent
    return LocalStore(folder.parent, lock_timeout_s=config.lock_timeout) if folder.name == PROFILES else None


def checkpoint_of(environ: Mapping[str, str]) -> Callable[[str], None]:
    """Return a no-op, or what tests of crashes need: this very process is killed, or stopped, at a named step.

    CHRONOS_TEST_KILL_AT=STEP: SIGKILL. CHRONOS_TEST_STOP_AT=STEP:FILE: SIGSTOP, of the first process that comes there;
    it leaves its number in FILE.
    """
    kill_at = environ.get("CHRONOS_TEST_KILL_AT")
    stop_at, _, mark = environ.get("CHRONOS_TEST_STOP_AT", "").partition(":")
    if not kill_at and not stop_at:
        return lambda _: None

    def stop(step: str) -> None:
        import signal

        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == stop_at and not Path(mark).exists():
            Path(mark).write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)

    return stop


def new_token() -> str:
    """Return sixteen random hex digits, which mark one process's writes."""
    return os.urandom(8).hex()


def _random() -> float:
    import random  # where writers meet, and nowhere else

    return random.random()  # noqa: S311 - to keep out of each other's way


def _now() -> datetime:
    return datetime.now(UTC)


def _wire(config: Config, outside: ProcessEnvironment) -> NasTarget | None:
    if not (config.portal_url and config.callback_url):
        return None

    def connect(budget_s: float) -> Nas:
        from chronos_cli.nas_client.client import NasClient
        from chronos_cli.nas_client.tokens import HomeTokens

        return NasClient(
            config.portal_url,
            HomeTokens.of(config, {**outside.environ, **outside.secrets}),
            timeout_s=config.nas_timeout,
            budget_s=budget_s,
            concurrency=config.nas_concurrency,
        )

    return NasTarget(
        portal_url=config.portal_url,
        callback_url=config.callback_url,
        audience=config.expected_audience,
        connect=connect,
    )


def locks_of(config: Config, repository: Repository) -> LockPlace:
    """Return where the run locks of a home lie."""
    from chronos_cli.running.lock_place import LockPlace

    home = None if "://" in config.store else Path(config.store or config.home)
    return LockPlace(home, lambda: repository.store_id(new_token))


def _processes(config: Config, outside: ProcessEnvironment, repository: Repository) -> Processes:
    from chronos_cli.running.local import LocalProcesses

    home = Path(config.home)
    remote = "://" in config.store

    return LocalProcesses(
        locks=locks_of(config, repository),
        scripts_dir=home / "scripts",
        home=None if remote else home,
        output_limit=config.output_limit,
        prompt_runner=config.prompt_runner,
        environment=outside.environ,
        inherit_env=config.inherit_env,
        zone_name=config.timezone,
        interrupts=outside.interrupts,
        keep_output=uploads_to(repository) if remote else None,
        wrapper=outside.wrapper,
    )


def uploads_to(repository: Repository) -> Callable[[str, Path], None]:
    """Return what brings a run's output into the store and then removes the file. It raises ChronosError or OSError."""

    def keep(key: str, file: Path) -> None:
        data = file.read_bytes()
        repository.update(key, lambda _: data)
        file.unlink()

    return keep
