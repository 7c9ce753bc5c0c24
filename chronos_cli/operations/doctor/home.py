"""The checks of what lies on this machine: configuration, home, modes, file system, store, lock, time zones."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from chronos_cli.core.instant import named_zone
from chronos_cli.errors import ChronosError
from chronos_cli.nas_client.tokens import AUTH_FILE
from chronos_cli.operations.doctor.check import Check, fail, failed_with, ok, warn
from chronos_cli.operations.doctor.filesystem import mount_of
from chronos_cli.running.errors import LockDirError
from chronos_cli.store.interface import JOBS_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronos_cli.config import Config
    from chronos_cli.operations.context import Context
    from chronos_cli.running.lock_place import LockPlace

_OFTEN_USED = "America/New_York"
_BY_OTHERS = 0o022
_FOLDERS = ("cron", "cron/runs", "cron/arms", "cron/arm-packs", "cron/output", "cron/locks", "scripts", "cache")
_FOR_OTHERS = 0o077


def check_config(config: Config) -> Check:
    """Tell which files the settings come from; that they could be read is shown by their being here."""
    home = f"home {config.home} ({config.origin('home')})"
    variables = sorted({origin for origin in config.origins.values() if origin.startswith("CHRONOS_")})
    more = f"; also from {', '.join(variables)}" if variables else ""
    if config.warnings:
        keys = "; ".join(text.removeprefix(f"{config.path}: ") for text in config.warnings)
        mend = f"take them out of {config.path}, unless another program reads them"
        return warn("config", f"{config.path}: {keys}", code="unknown_keys", mend=mend)
    if os.path.lexists(config.path):
        return ok("config", f"{config.path}, {home}{more}")
    return ok("config", f"there is no {config.path}: defaults, {home}{more}")


def check_home(config: Config) -> Check:
    """Check that the home is there, usable, and writable by its owner alone."""
    path = Path(config.home)
    if not path.is_dir():
        return fail("home", f"{path} is no folder", code="no_home", mend=f"chronos --home {quote(str(path))} init")
    mode = stat.S_IMODE(path.stat().st_mode)
    at = quote(str(path))
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        text = f"{path} cannot be used by the user with id {os.geteuid()}: mode {mode:04o}"
        return fail("home", text, code="home_mode", mend=f"chown {os.geteuid()} {at} && chmod u+rwx {at}")
    if mode & stat.S_IWOTH:
        text = f"anybody can write to {path}, and so run commands here: mode {mode:04o}"
        return fail("home", text, code="home_mode", mend=f"chmod go-w {at}")
    trusted = {os.geteuid(), 0, path.stat().st_uid}  # another user's home is read only where it is named as safe
    for name in ("", *_FOLDERS):
        problem = _for_neighbours(path / name if name else path, trusted, linked=not name)
        if problem is not None:
            return problem
    for folder in path.resolve().parents:
        found = folder.stat()
        if found.st_mode & stat.S_IWGRP and not found.st_mode & stat.S_ISVTX and found.st_gid not in (0, os.getegid()):
            text = f"the group {found.st_gid} can write to {folder}, and so put another home in the place of {path}"
            return warn("home", text, code="folder_above_mode", mend=f"chmod g-w {quote(str(folder))}")
    return ok("home", f"{path}, mode {mode:04o}")


def _for_neighbours(path: Path, trusted: set[int], *, linked: bool) -> Check | None:
    """Find what another user could use of a folder: its owner, its mode, or that it is a link."""
    try:
        found = path.stat() if linked else path.lstat()
    except OSError:
        return None  # it is not there yet
    if stat.S_ISLNK(found.st_mode):
        text = f"{path} is a link: whoever can change where it leads has what chronos keeps there"
        return fail("home", text, code="linked_folder", mend=f"replace the link {path} with the folder it leads to")
    if found.st_uid not in trusted:
        text = f"{path} belongs to user {found.st_uid}, who can change what is run here"
        mend = f"run as user {found.st_uid}, or as root: chown -R {os.geteuid()} {quote(str(path))}"
        return fail("home", text, code="foreign_owner", mend=mend)
    if found.st_mode & _BY_OTHERS:
        text = f"others can write to {path}, and so change what is run here: mode {stat.S_IMODE(found.st_mode):04o}"
        return fail("home", text, code="folder_mode", mend=f"chmod go-w {quote(str(path))}")
    return None


def check_modes(config: Config) -> Check:
    """Check whether others can read the token, or change what is run."""
    secrets = [config.token_file] if config.token_file else []
    secrets.append(str(Path(config.home, AUTH_FILE)))
    runs = [config.path, *(str(Path(config.home, name)) for name in (JOBS_KEY, "scripts"))]
    for path in (*runs, *secrets):
        mode = _mode(path)
        if mode & stat.S_IWOTH:
            text = f"{path} can be changed by anybody: mode {mode:04o}"
            return fail("modes", text, code="writable_by_others", mend=f"chmod go-w {quote(str(path))}")
    for path in secrets:
        mode = _mode(path)
        if mode & _FOR_OTHERS:
            text = f"{path} holds a token and others can read it: mode {mode:04o}"
            return warn("modes", text, code="token_readable", mend=f"chmod 600 {quote(str(path))}")
    for path in runs:
        mode = _mode(path)
        if mode & _BY_OTHERS:
            text = f"{path} can be changed by its group: mode {mode:04o}"
            return warn("modes", text, code="writable_by_group", mend=f"chmod g-w {quote(str(path))}")
    return ok("modes", "no token can be read, and nothing that is run be changed, by others")


def _mode(path: str) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116 - the same for a missing file as for a hidden one
    except OSError:
        return 0  # what is not there cannot be read by others; what cannot be reached by us is said elsewhere


def check_file_system(config: Config, mounts: str) -> Check:
    """Check whether the store lies where locks hold."""
    if "://" in config.store:
        return ok("file_system", f"{config.store} needs no locks: it is written on condition")
    folder = config.store or config.home
    mount = mount_of(folder, mounts)
    if mount is None:
        return ok("file_system", f"this machine does not say what {folder} lies on")
    if mount.remote:
        text = f"{folder} is on a network or FUSE file system ({mount.kind} at {mount.point}): its locks may not hold"
        mend = "move the home to a local disk, or the jobs to a bucket: set store to s3://, gs:// or az://"
        return warn("file_system", text, code="network_file_system", mend=mend)
    return ok("file_system", f"{folder} is on {mount.kind}, at {mount.point}")


def check_store(config: Config, ctx: Context, locks: LockPlace) -> Iterator[Check]:
    """Check whether the jobs can be read, a write with an old version is refused, and the locks can be had."""
    try:
        count, kept = len(ctx.repository.jobs().records), _kept(ctx)
    except ChronosError as error:
        yield failed_with("store", error)
        return
    yield ok("store", f"{count} {'job' if count == 1 else 'jobs'} at {ctx.repository.location}{kept}")
    if "://" not in config.store and not Path(config.store or config.home, "cron").is_dir():
        yield ok("compare_and_swap", "not tried: the store is made with the first job")
        yield ok("lock", "not tried: the store is made with the first job")
        return
    try:
        ctx.repository.prove(ctx.token)
        yield ok("compare_and_swap", "writes with an old version are refused, so no run can be claimed twice")
    except ChronosError as error:
        yield failed_with("compare_and_swap", error)
    started = time.monotonic()
    try:
        with ctx.repository.exclusive():
            waited = time.monotonic() - started
        yield ok("lock", f"had after {waited * 1000:.0f} ms; a run's is had in {_take_run_lock(locks)}")
    except LockDirError as error:
        mend = f"move away what is there, or make it a folder of the user with id {os.geteuid()}, mode 0700"
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
        if full:
            mend = "free some space on that file system"
        yield failed_with("lock", error, mend=mend)
    except ChronosError as error:
        yield failed_with("lock", error)


def _kept(ctx: Context) -> str:
    """Return the layout of a bucket's jobs in words, with what makes it better. Raises StoreError."""
    layout = ctx.repository.layout
    if layout is None:
        return ""
    together = ", together in one document, where fires wait for each other: `chronos job layout apart` moves them"
    return together if layout.open() is None else ", each in a document of its own"


def _take_run_lock(locks: LockPlace) -> str:
    """Take a run's lock as a run does, and release it. Returns its folder; raises LockDirError and StoreError."""
    from chronos_cli.running.lock import RunLock

    lock = RunLock.acquire(locks, "doctor", "proof")
    try:
        return os.path.dirname(lock.path)  # noqa: PTH120
    finally:
        lock.release()


def check_time_zones(config: Config) -> Check:
    """Check whether zones have data here, and where the home's zone comes from."""
    origin = config.origin("timezone")
    for name in (config.timezone, _OFTEN_USED):
        try:
            named_zone(name)
        except ChronosError as error:
            return failed_with("time_zones", error, mend="pip install tzdata")
    if "names no zone" in origin:
        mend = "set timezone in config.yaml to a name such as Europe/Berlin"
        return warn("time_zones", "this machine names no zone, so schedules mean UTC", code="no_zone", mend=mend)
    return ok("time_zones", f"{config.timezone} ({origin})")
