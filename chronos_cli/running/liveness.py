"""Does a run still live? Asked of its lock where this machine can see it, and of nobody where it cannot.

    the lock is seen and held, its supervisor lives     ALIVE
    the lock is seen and held, its supervisor is dead   ORPHANED: processes that left the job's group still have it
    the lock is seen and free                           DEAD
    anything else                                       UNSEEN: only the lease in the row counts

A supervisor that dies takes its job's process group with it (spawn.py). What called setsid(2) escapes that, but it has
inherited the lock, so the run is not over: ORPHANED says that nobody will ever record its end. Whoever finds ORPHANED
or DEAD calls `end_leftovers` first and settles the row after. A process that left the group *and* closed every
descriptor has made itself a daemon; nothing here claims to know about it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import time
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.running.lock import MAX_LOCK_BYTES
from chronos_cli.running.machine import can_tell_processes, group_members, has_open, holders, same_machine, start_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    _Group = tuple[int, int, str]

END_WITHIN_S: Final = 3.0


class Liveness(Enum):
    """What can be said about a run in hand from here."""

    ALIVE = "alive"
    ORPHANED = "orphaned"
    DEAD = "dead"
    UNSEEN = "unseen"


def liveness(owner: Mapping[str, Any]) -> Liveness:
    """What the owner that a row names is, as far as this machine can know. Never raises; a broken record is UNSEEN."""
    if not same_machine(owner.get("machine")):
        return Liveness.UNSEEN
    fd = _open_lock(owner)
    if fd is None:
        # Another mount namespace (a service's private /tmp), or cleaned away. The pid is still one of ours to look at.
        return Liveness.ALIVE if _supervisor_lives(owner) else Liveness.UNSEEN
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        dead = can_tell_processes() and not _supervisor_lives(owner)
        return Liveness.ORPHANED if dead else Liveness.ALIVE
    except OSError:
        return Liveness.UNSEEN  # a filesystem without locks
    finally:
        os.close(fd)
    return Liveness.DEAD


def end_leftovers(owner: Mapping[str, Any]) -> bool:
    """Kill what is left of a run whose supervisor is dead: its process group, and whoever else holds its lock.

    Returns whether nothing of it is known to be left. Kills nothing unless the owner is of this machine, its supervisor
    is dead, and each process proves itself: by the group leader's start time, or by having the lock file open.
    """
    if not same_machine(owner.get("machine")) or not can_tell_processes() or not _supervisor_is_gone(owner):
        return False
    fd = _open_lock(owner)
    if fd is None:
        return False
    try:
        found = os.fstat(fd)
        group = _recorded_group(fd, owner)
        until = time.monotonic() + END_WITHIN_S
        while time.monotonic() < until:
            left = _kill_group(group, found) if group else 0
            left += kill_holders(found.st_dev, found.st_ino)
            if not left:
                return True
            time.sleep(0.01)
    finally:
        os.close(fd)
    return False


def end_run(owner: Mapping[str, Any]) -> bool:
    """End a run whose supervisor may still live, stuck or stopped: the supervisor first, then what is left.

    For whoever takes a run over after its lease, or frees it by hand. Returns whether nothing of it is known to be
    left; False without having done anything where the owner is not of this machine.
    """
    if not same_machine(owner.get("machine")) or not can_tell_processes():
        return False
    pid = owner.get("pid")
    if isinstance(pid, int) and pid != os.getpid() and _supervisor_lives(owner):
        _kill_supervisor(pid, owner)
        until = time.monotonic() + END_WITHIN_S
        while _supervisor_lives(owner) and time.monotonic() < until:
            time.sleep(0.005)
    return end_leftovers(owner)


def _kill_supervisor(pid: int, owner: Mapping[str, Any]) -> None:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return  # gone meanwhile
    try:
        if _supervisor_lives(owner):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # gone, or another user's; the caller looks again
    finally:
        os.close(handle)


def kill_holders(device: int, inode: int, *, spare: frozenset[int] = frozenset()) -> int:
    """Kill every other process that has a lock file open; how many there were. Does nothing where /proc is missing."""
    killed = 0
    for pid in holders(device, inode):
        if pid in spare:
            continue
        killed += 1
        _kill_if(pid, device, inode)
    return killed


def _kill_if(pid: int, device: int, inode: int) -> None:
    """Kill a process by its handle, having looked again, so that a pid used anew meanwhile is never hit."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return  # gone, and that is what was wanted
    try:
        if has_open(pid, device, inode):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # gone, or no longer ours to judge; the caller looks again and says so
    finally:
        os.close(handle)


def _kill_group(group: _Group, lock: os.stat_result) -> int:
    """Kill the job's group if it is certainly that one; how many living processes it had."""
    pgid, started, run_id = group
    members = group_members(pgid)
    leader = start_time(pgid)
    # A number is free for others only once its whole group is gone. So the group is the job's while its leader is, and
    # with the leader dead while one of its members shows that it came from this run.
    ours = leader == started if leader is not None else any(_is_of_run(pid, run_id, lock) for pid in members)
    if ours:
        try:
            os.killpg(pgid, signal.SIGKILL)
        except ProcessLookupError:
            return 0  # gone meanwhile
        return len(members)
    return 0


def _is_of_run(pid: int, run_id: str, lock: os.stat_result) -> bool:
    """Whether a process still has the run's lock, or at least the environment that the run gave it."""
    if has_open(pid, lock.st_dev, lock.st_ino):
        return True
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"CHRONOS_RUN_ID={run_id}".encode() in file.read().split(b"\0")
    except OSError:
        return False  # gone, or somebody else's


def _recorded_group(fd: int, owner: Mapping[str, Any]) -> _Group | None:
    try:
        note = json.loads(os.pread(fd, MAX_LOCK_BYTES, 0) or b"{}")
    except ValueError:
        return None  # torn by a crash: then the lock's holders are all that is known
    if not isinstance(note, dict) or note.get("token") != owner.get("token"):
        return None
    pgid, started, run_id = note.get("pgid"), note.get("started"), note.get("run_id")
    if isinstance(pgid, int) and isinstance(started, int) and isinstance(run_id, str) and pgid > 1:
        return pgid, started, run_id
    return None


def _open_lock(owner: Mapping[str, Any]) -> int | None:
    """The recorded lock file, or None if that very file cannot be seen from here."""
    path = owner.get("lock")
    if not isinstance(path, str) or not os.path.isabs(path):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or [found.st_dev, found.st_ino] != owner.get("file"):
        os.close(fd)
        return None
    return fd


def _supervisor_is_gone(owner: Mapping[str, Any]) -> bool:
    """Whether the supervisor is dead. One that is just ending let go of its lock a moment before: it is waited for."""
    until = time.monotonic() + END_WITHIN_S
    while _supervisor_lives(owner):
        if liveness(owner) is not Liveness.DEAD or time.monotonic() >= until:
            return False
        time.sleep(0.005)
    return True


def _supervisor_lives(owner: Mapping[str, Any]) -> bool:
    pid, started = owner.get("pid"), owner.get("started")
    return isinstance(pid, int) and isinstance(started, int) and pid > 0 and start_time(pid) == started
