"""A disk of which every change is recorded, and what a power cut may leave of it.

Data that was not synced may be gone, empty, zero bytes or any of its states since the last sync; a name that was made,
changed or removed counts only once its folder was synced, and until then any subset of such changes may be kept. Real
file systems keep more than that; none keeps less.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

OWNER_FILE = re.compile(rb'"file": \[\s*(\d+),\s*(\d+)\s*\]')


@dataclass
class File:
    """One inode: `states` are its bytes after each change, with the event's number; `synced` the numbers of its syncs."""

    made: int
    states: list[tuple[int, bytes]] = field(default_factory=list)
    synced: list[int] = field(default_factory=list)

    def after(self, event: int, keep: Random | str) -> bytes:
        """What a cut after this event leaves of it."""
        last = max((at for at in self.synced if at <= event), default=-1)
        sure = [data for at, data in self.states if at <= last]
        since = [data for at, data in self.states if last < at <= event]
        durable = sure[-1] if sure else b""
        if not since or keep == "all":
            return since[-1] if since else durable
        if keep in ("nothing", "names"):
            return durable
        if keep == "zeros":
            return durable or b"\0" * len(since[-1])
        return keep.choice([durable, durable or b"\0" * len(since[-1]), *since])


@dataclass
class Folder:
    """One folder: its changes in order, each a map of names to inodes (None: the name is gone)."""

    changes: list[tuple[int, dict[str, int | None]]] = field(default_factory=list)
    synced: list[int] = field(default_factory=list)

    def after(self, event: int, keep: Random | str) -> dict[str, int]:
        """The names that a cut after this event leaves."""
        last = max((at for at in self.synced if at <= event), default=-1)
        names: dict[str, int | None] = {}
        for at, change in self.changes:
            kept = keep in ("all", "names", "zeros") if isinstance(keep, str) else keep.random() < 0.5
            if at <= event and (at <= last or kept):
                names.update(change)
        return {name: inode for name, inode in names.items() if inode is not None}


class RecordedDisk:
    """What has happened below `top` since recording began; what was there before is durable.

    `outside` gives what the world has seen of the disk's owner at each event (a diary), which no power cut takes back.
    """

    def __init__(self, top: Path, outside: Callable[[], bytes]) -> None:
        self.top, self.outside = os.path.realpath(top), outside
        self.before = outside()
        self.files: dict[int, File] = {}
        self.folders: dict[int, Folder] = {}
        self.seen: list[tuple[str, str, bytes]] = []
        self.syncs: list[str] = []
        self._serials: dict[int, int] = {}
        self._root = self._begin(self.top)

    def _begin(self, path: str) -> int:
        found = os.lstat(path)
        serial = self._new(found.st_ino)
        if stat.S_ISDIR(found.st_mode):
            folder = self.folders[serial] = Folder(synced=[-1])
            for entry in os.scandir(path):
                folder.changes.append((-1, {entry.name: self._begin(entry.path)}))
        else:
            with open(path, "rb") as file:
                self.files[serial] = File(made=found.st_ino, states=[(-1, file.read())], synced=[-1])
        return serial

    def _new(self, inode: int) -> int:
        serial = self._serials[inode] = len(self.files) + len(self.folders)
        return serial

    # -- what happens ------------------------------------------------------------------------------------------------

    def sync(self, fd: int, path: str) -> None:
        """Note a sync."""
        self.syncs.append(path)
        at = self._event("fsync", path)
        serial = self._serials[os.fstat(fd).st_ino]
        (self.folders if serial in self.folders else self.files)[serial].synced.append(at)

    def wrote(self, fd: int, path: str) -> None:
        """Note that a file's bytes have changed."""
        serial = self._serials.get(os.fstat(fd).st_ino)
        if serial is not None:
            at = self._event("write", path)
            with open(f"/proc/self/fd/{fd}", "rb") as file:
                self.files[serial].states.append((at, file.read()))

    def named(self, verb: str, path: str, *, gone: str | None = None) -> None:
        """Note that a name has come, and that another one or this very one has gone."""
        at = self._event(verb, path)
        change: dict[str, int | None] = {} if gone is None else {os.path.basename(gone): None}
        if gone != path:
            found = os.lstat(path)
            fresh = verb in ("open", "mkdir") or found.st_ino not in self._serials
            serial = self._new(found.st_ino) if fresh else self._serials[found.st_ino]
            if fresh and stat.S_ISDIR(found.st_mode):
                self.folders[serial] = Folder()
            elif fresh:
                self.files[serial] = File(made=found.st_ino)
            change[os.path.basename(path)] = serial
        self.folders[self._serials[os.stat(os.path.dirname(path)).st_ino]].changes.append((at, change))

    def _event(self, verb: str, path: str) -> int:
        self.seen.append((verb, path, self.outside()))
        return len(self.seen) - 1

    # -- what a cut leaves -------------------------------------------------------------------------------------------

    def after(self, event: int, keep: Random | str) -> dict[str, bytes | None]:
        """Every path below the top that is there after a cut right behind an event; None for a folder."""
        left: dict[str, bytes | None] = {}
        inodes: dict[int, str] = {}

        def walk(serial: int, path: str) -> None:
            for name, inner in self.folders[serial].after(event, keep).items():
                below = f"{path}{name}"
                if inner in self.folders:
                    left[below] = None
                    walk(inner, f"{below}/")
                else:
                    left[below] = self.files[inner].after(event, keep)
                    inodes[self.files[inner].made] = below

        walk(self._root, "")
        self._inodes = inodes
        return left

    def cut(self, event: int, keep: Random | str) -> tuple[str, dict[str, bytes | None], dict[int, str]]:
        """A state after a cut, and a digest that tells it from others; the inode that each file had."""
        left = self.after(event, keep)
        digest = hashlib.sha256(repr((sorted(left.items()), self.seen[event][2] if event >= 0 else b"")).encode())
        return digest.hexdigest(), left, self._inodes


def restore(top: Path, left: dict[str, bytes | None], inodes: dict[int, str]) -> None:
    """Make a folder what a cut has left; a run's row names the inode of its lock, which has another number now."""
    shutil.rmtree(top)
    top.mkdir(mode=0o700)
    for path, data in sorted(left.items()):
        if data is None:
            (top / path).mkdir(mode=0o700)
        else:
            (top / path).write_bytes(data)
            (top / path).chmod(0o600)

    def now(match: re.Match[bytes]) -> bytes:
        path = inodes.get(int(match[2]))
        found = os.stat(top / path) if path is not None else None
        return match[0] if found is None else b'"file": [%d, %d]' % (found.st_dev, found.st_ino)

    for path, data in left.items():
        if data and OWNER_FILE.search(data):
            (top / path).write_bytes(OWNER_FILE.sub(now, data))


@contextmanager
def recording(disk: RecordedDisk) -> Iterator[RecordedDisk]:
    """Have every change that this process makes below the disk's top noted, right after it was made."""
    pid = os.getpid()

    def below(path: object, folder: int | None = None) -> str | None:
        if os.getpid() != pid:
            return None
        if isinstance(path, int):
            if not stat.S_ISREG(os.fstat(path).st_mode) and not stat.S_ISDIR(os.fstat(path).st_mode):
                return None
            found = os.readlink(f"/proc/self/fd/{path}")
        else:
            at = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
            found = os.path.normpath(os.path.join(at, os.fsdecode(path)))
        return found if found == disk.top or found.startswith(disk.top + "/") else None

    real = {
        name: getattr(os, name)
        for name in ("open", "write", "pwrite", "posix_fallocate", "ftruncate", "fsync", "link", "rename", "replace",
                     "unlink", "mkdir", "rmdir")
    }  # fmt: skip

    def opened(path, flags, mode=0o777, *, dir_fd=None):
        at = below(path, dir_fd) if flags & os.O_CREAT else None
        new = at is not None and not os.path.lexists(at)
        fd = real["open"](path, flags, mode, dir_fd=dir_fd)
        if new:
            disk.named("open", at)
        return fd

    def writing(name):
        def write(fd, *args):
            done = real[name](fd, *args)
            at = below(fd)
            if at is not None:
                disk.wrote(fd, at)
            return done

        return write

    def fsync(fd):
        real["fsync"](fd)
        if at := below(fd):
            disk.sync(fd, at)

    def renamed(name):
        def rename(src, dst, *, src_dir_fd=None, dst_dir_fd=None):
            old, new = below(src, src_dir_fd), below(dst, dst_dir_fd)
            real[name](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            if new is not None:
                assert Path(old or "").parent == Path(new).parent, (old, new)
                disk.named(name, new, gone=old)

        return rename

    def link(src, dst, *, src_dir_fd=None, dst_dir_fd=None, follow_symlinks=True):
        real["link"](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)
        if at := below(dst, dst_dir_fd):
            disk.named("link", at)

    def gone(name):
        def remove(path, *, dir_fd=None):
            at = below(path, dir_fd)
            real[name](path, dir_fd=dir_fd)
            if at is not None:
                disk.named(name, at, gone=at)

        return remove

    def mkdir(path, mode=0o777, *, dir_fd=None):
        real["mkdir"](path, mode, dir_fd=dir_fd)
        if at := below(path, dir_fd):
            disk.named("mkdir", at)

    instead = {"open": opened, "fsync": fsync, "link": link, "mkdir": mkdir}
    instead |= {name: writing(name) for name in ("write", "pwrite", "posix_fallocate", "ftruncate")}
    instead |= {name: renamed(name) for name in ("rename", "replace")}
    instead |= {name: gone(name) for name in ("unlink", "rmdir")}
    for name, function in instead.items():
        setattr(os, name, function)
    try:
        yield disk
    finally:
        for name, function in real.items():
            setattr(os, name, function)
