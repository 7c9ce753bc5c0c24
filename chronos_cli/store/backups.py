"""Copies of jobs.json beside it: one for each change that a person makes, at most one an hour for what runs change.

The newest is `jobs.json.bak`; those before it bear the time at which they were overtaken, and the oldest go.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from chronos_cli.files import Place

SUFFIX: Final = ".bak"
MOST: Final = 10
"""So many copies are kept."""

EVERY_S: Final = 3_600.0
"""The least time between two copies that runs make, in seconds."""


@frozen
class Backup:
    """A copy: its path, its bytes, and for how many seconds it is no longer what is stored."""

    path: str
    age_s: float
    data: bytes


def is_due(kept: os.stat_result | None, now: float, *, by_person: bool) -> bool:
    """Return whether a change is to leave a copy of what was there. `kept`: the stat of the newest, None for none."""
    return kept is None or by_person or now - kept.st_mtime >= EVERY_S


def move_on(newest: Place, kept: os.stat_result) -> None:
    """Give the newest copy the name of an older one, and remove those that are too many."""
    at = datetime.fromtimestamp(kept.st_mtime, UTC)
    folder = newest.folder
    os.rename(newest.name, f"{newest.name}-{at:%Y%m%dT%H%M%S.%fZ}", src_dir_fd=folder, dst_dir_fd=folder)
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        names = os.listdir(readable)  # noqa: PTH208 - an open folder
    finally:
        os.close(readable)
    for name in older(names, newest.name)[MOST - 1 :]:
        os.unlink(name, dir_fd=folder)


def older(names: list[str], newest: str) -> list[str]:
    """Return the names of the copies before the newest, the youngest first."""
    return sorted((name for name in names if name.startswith(f"{newest}-")), reverse=True)
