"""The examination of a home: every part that a job's run depends on, each with the command that mends it.

It changes nothing but the store's proof document, the key cache, and, for a moment, the memory of used tokens and the
folder of run locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.durations import span
from chronos_cli.errors import ChronosError, DocumentError
from chronos_cli.frozen import frozen
from chronos_cli.operations.doctor.check import Check, Level, fail, ok, warn
from chronos_cli.operations.doctor.documents import check_documents
from chronos_cli.operations.doctor.filesystem import mount_table
from chronos_cli.operations.doctor.home import (
    check_config,
    check_file_system,
    check_home,
    check_modes,
    check_store,
    check_time_zones,
)
from chronos_cli.operations.doctor.jobs import check_jobs
from chronos_cli.operations.doctor.nas import ask_nas, check_claims, check_keys, check_token_memory
from chronos_cli.operations.doctor.profiles import check_namesakes, check_profiles
from chronos_cli.operations.views.prospect import failing_since, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from chronos_cli.config import Config
    from chronos_cli.nas_client.interface import ArmList
    from chronos_cli.operations.context import Context
    from chronos_cli.running.lock_place import LockPlace

__all__ = ["Check", "Level", "Subject", "examine", "last_accepted"]


@frozen
class Subject:
    """Home under examination, with what only the layers above know: locks, active trigger, how fires are answered."""

    config: Config
    context: Context
    locks: LockPlace
    provider: str
    provider_warning: str | None
    callback_mode: str
    callback_because: str
    runner_because: str
    count_jobs: Callable[[str], int]
    """Return how many jobs another home has. Raises ChronosError."""


def examine(subject: Subject, *, mounts: str | None = None, claims: bool = True) -> Iterator[Check]:
    """Yield every check, in an order in which an earlier one explains a later one. `mounts`: another mount table.

    `claims`: without it nothing is said of what NAS mints: who makes a fire of NAS's next, says it then.

    Raises only what is no fault of the home.
    """
    config, ctx = subject.config, subject.context
    yield check_config(config)
    home = check_home(config)
    yield home
    if home.code == "no_home":
        return
    yield check_modes(config)
    yield check_file_system(config, mount_table() if mounts is None else mounts)
    store = list(check_store(config, ctx, subject.locks))
    yield from store
    yield check_time_zones(config)
    yield _provider(subject)
    asked, held = ask_nas(ctx)
    yield from asked
    yield check_keys(config)
    yield check_token_memory(config)
    readable = store[0].level is Level.OK
    if claims:
        yield from check_claims(config, ctx, last_accepted(ctx) if readable else None)
    yield _callback(subject, held)
    yield from check_profiles(config, subject.count_jobs)
    if readable:
        yield from check_namesakes(config, ctx)
        yield check_documents(ctx)
        yield from check_jobs(config, ctx, held, active=subject.provider)


def last_accepted(ctx: Context) -> datetime | None:
    """Return when a fire of NAS was last verified and accepted, for a job or a probe; None where none is known."""
    from chronos_cli.operations.firing.probe import read_probe

    probe = read_probe(ctx)
    found = [probe.received_at] if probe is not None and probe.received_at is not None else []
    try:
        arms = ctx.repository.arms.all()
        for job_id in arms.ids:
            try:
                stored = arms.get(job_id)
            except DocumentError:
                continue  # the check of the documents says what is wrong with it
            if stored is not None and stored.value.last_callback_at is not None:
                found.append(stored.value.last_callback_at)
    except ChronosError:
        return None  # the check of the store says what is wrong with it
    return max(found, default=None)


def _provider(subject: Subject) -> Check:
    wanted = subject.config.provider.strip()
    where = subject.context.standby
    if where:
        end = f"unset {where}" if where.isupper() else f"take standby out of the section cron of {subject.config.path}"
        text = f"this machine is on standby ({where}): nothing is armed or fires here"
        return warn("provider", text, code="standby", mend=f"where it shall be active: {end}, then chronos reconcile")
    if subject.provider_warning is not None:
        return warn("provider", subject.provider_warning, code="provider_fallback", mend="chronos provider list")
    origin = subject.config.origin("provider")
    return ok("provider", f"{subject.provider} ({'cron.provider is empty' if not wanted else origin})")


def _callback(subject: Subject, held: ArmList | None) -> Check:
    from urllib.parse import urlsplit

    from chronos_cli.config import is_loopback

    url, portal = subject.config.callback_url, subject.config.portal_url
    if not url:
        return ok("callback", "not needed: nobody may call")
    if is_loopback(urlsplit(url).hostname or "") and portal and not is_loopback(urlsplit(portal).hostname or ""):
        text = f"{url} is this machine's own address, which {portal} cannot reach"
        mend = "set cron.chronos.callback_url to the public https address of the callback"
        return warn("callback", text, code="callback_loopback", mend=mend)
    lost = None if held is None else unreachable(held.arms)
    if held is not None and lost is not None:
        now = subject.context.clock()
        since = failing_since(held.arms, now)
        ago = "" if since is None else f" for {span((now - since).total_seconds())}"
        text = f"NAS has not reached {url}{ago}: {lost}"
        mend = "start the callback there, or set cron.chronos.callback_url to where it is; then chronos doctor --probe"
        return fail("callback", text, code="callback_unreachable", mend=mend)
    mode = "answers when the run has " + ("ended" if subject.callback_mode == "sync" else "started")
    runners = f"runners: {subject.runner_because}"
    text = (
        f"{url}; {mode} ({subject.callback_because}); {runners}; `chronos doctor --probe` proves the way here and asks"
    )
    return ok("callback", f"{text} how its server starts them")
