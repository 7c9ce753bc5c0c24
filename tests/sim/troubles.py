"""What a disk, a bucket or a lock folder answers when it fails, as the real stores say it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from chronos_cli.errors import ChronosError, LockTimeoutError, StoreError, TemporaryError
from chronos_cli.running.errors import LockDirError

if TYPE_CHECKING:
    from random import Random

    from tests.sim.world import World

OF_A_DISK = (errno.ENOSPC, errno.EIO, errno.EXDEV, errno.EROFS, errno.EDQUOT)
BUCKET = "503"
NAMES = (*(errno.errorcode[number] for number in OF_A_DISK), BUCKET)
"""Every error of a write, as it is told of: a disk's, and a bucket's."""


def write_fails(world: World, key: str) -> ChronosError:
    """Draw the error of a write that did not take place."""
    name = world.rng.choice(NAMES)
    world.cover("write fails", name)
    if name == BUCKET:
        return TemporaryError(f"cannot write {key}: the bucket answered 503")
    return StoreError(f"cannot write {key}: {os.strerror(getattr(errno, name))}")


def lock_fails(world: World) -> ChronosError:
    """Draw the error of a lock of the store that cannot be had."""
    world.cover("write fails", "ENOLCK")
    return world.rng.choice((StoreError, LockTimeoutError))(f"cannot lock the jobs: {os.strerror(errno.ENOLCK)}")


def run_lock_fails(world: World) -> ChronosError:
    """Draw the error of a run's lock that cannot be taken."""
    world.cover("process", "no lock")
    return LockDirError(f"cannot lock it: {os.strerror(world.rng.choice((errno.ENOSPC, errno.ENOLCK, errno.EIO)))}")


def disk_fails(rng: Random) -> OSError:
    """Draw the error of a file that is no document."""
    number = rng.choice(OF_A_DISK)
    return OSError(number, os.strerror(number))
