"""Folders of another scheduler's files: which of them its program reads, in order, and why it passes over the others.

Of `/etc/cron.d` as load_database and process_crontab of Debian's database.c; of manifests as `kubectl apply -f`.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Final

from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chronos_cli.operations.foreign.crontab import Machine

_CRONS_OWN: Final = "/etc/cron.d"
_OF_CRON: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_BACKUPS: Final = re.compile(r".*(?:~|\.(?:bak|orig|rej|sw[op]|dpkg-\w+|rpm(?:new|save|orig)|ucf-\w+))\Z", re.DOTALL)
_MANIFESTS: Final = (".yaml", ".yml", ".json")


@frozen
class FolderListing:
    """The files of a folder in the order of their names, and what is ignored, each with its reason."""

    files: tuple[Path, ...]
    ignored: tuple[str, ...]


def system_crontabs(place: Path) -> FolderListing:
    """Return the files of a folder like `/etc/cron.d` that cron reads.

    In that folder they are root's; of a copy elsewhere they may be the caller's.
    """
    owners = {0} if os.path.realpath(place) == _CRONS_OWN else {0, os.geteuid()}
    return _read(place, lambda path: _why_not_crons(path, owners))


def own_crontabs(place: Path, machine: Machine) -> FolderListing:
    """Return the files of a folder of crontabs without users, but another user's own."""
    return _read(place, lambda path: _why_not_own(path, machine))


def manifests(place: Path) -> FolderListing:
    """Return the files of a folder that kubectl would apply."""
    return _read(place, _why_no_manifest)


def _read(place: Path, why_not: Callable[[Path], str | None]) -> FolderListing:
    found = sorted(place.iterdir(), key=lambda path: os.fsencode(path.name))
    judged = [(path, why_not(path)) for path in found]
    ignored = tuple(f"{path.name}: {reason}" for path, reason in judged if reason is not None)
    return FolderListing(files=tuple(path for path, reason in judged if reason is None), ignored=ignored)


def _why_not_crons(path: Path, owners: set[int]) -> str | None:
    """Return why cron passes over a file of its folder, None where it reads it."""
    if path.is_dir():
        return "cron reads no folder in it"
    if not _OF_CRON.match(path.name):
        return "cron reads names of letters, digits, _ and - alone"
    try:
        link = path.lstat()
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in owners:
            return "it is a symlink of another owner than root"
        found = path.stat()
    except OSError as error:
        return f"cron cannot open it: {error.strerror}"
    return next(_refused_of(found, owners), None)


def _refused_of(found: os.stat_result, owners: set[int]) -> Iterator[str]:
    if found.st_uid not in owners:
        yield "its owner is not root"
    if not stat.S_ISREG(found.st_mode):
        yield "it is no regular file"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield "others than its owner may write it, for which cron ignores it (chmod go-w)"
    if found.st_nlink != 1:
        yield "it has several names (hard links), for which cron ignores it"


def _why_not_own(path: Path, machine: Machine) -> str | None:
    if (reason := _why_no_file(path)) is not None:
        return reason
    name = path.name
    if name != machine.user and machine.is_user(name) and path.stat().st_uid != os.geteuid():
        return f"it is the crontab of {name}, and this is {machine.user}"
    return None


def _why_no_manifest(path: Path) -> str | None:
    if path.suffix not in _MANIFESTS:
        return f"its name does not end in {', '.join(_MANIFESTS[:-1])} or {_MANIFESTS[-1]}"
    return _why_no_file(path)


def _why_no_file(path: Path) -> str | None:
    if path.is_dir():
        return "folders in it are not read"
    if path.name.startswith(".") or _BACKUPS.match(path.name):
        return "by its name it is hidden, or a backup"
    return None if path.is_file() else "it is no file"
