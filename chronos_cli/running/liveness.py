"""Liveness of a run, by its lock where this machine can see it; otherwise it is unknown.

    the lock is seen and held, its supervisor lives     ALIVE
    the lock is seen and held, its supervisor is dead   ORPHANED: processes that left the job's group still have it
    the lock is seen and free                           DEAD
    the same, and its note says that no job was begun   UNSTARTED
    this machine was rebooted since (reboot.py)         DEAD
    anything else                                       UNSEEN: only the lease in the row counts

A supervisor that dies takes its job's process group with it (spawn.py). What called setsid(2) escapes that, but it has
inherited the lock, so the run is not over: ORPHANED says that no process will ever record its end. A look that settles
ORPHANED or DEAD calls `end_leftovers` first; a view calls `liveness`, which sends no signal. A process that left the
group *and* closed every descriptor has made itself a daemon; nothing here claims to know about it.

A row never decides what is killed. Any writer of the store can have made it, so each pid and each group is that
of the lock file (lock.py), which lies in our own folder and bears the name and the token of the row's own run.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.running.lock import SeenLock, find_lock, lock_name
from chronos_cli.running.machine import (
    can_tell_processes,
    group_members,
    has_open,
    holders,
    machine_identity,
    same_machine,
    start_time,
)
from chronos_cli.running.reboot import rebooted_since

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.running.lock_place import LockPlace

END_WITHIN_S: Final = 3.0


class LivenessProbe(Enum):
    """Knowledge about an open run, from here."""

    ALIVE = "alive"
    ORPHANED = "orphaned"
    DEAD = "dead"
    UNSTARTED = "unstarted"
    UNSEEN = "unseen"


def liveness(places: LockPlace, owner: Mapping[str, Any], job_id: str, run_id: str) -> LivenessProbe:
    """Return what the owner that a run's row names is, as far as this machine can know; sends no signal.

    Never raises; a broken record is UNSEEN.
    """
    if not same_machine(owner.get("machine")):
        # What the lock says of "not begun" need not have reached the disk, so a reboot makes it dead, and never that.
        over = places.home is not None and not places.shared and rebooted_since(owner, str(places.home))
        return LivenessProbe.DEAD if over else LivenessProbe.UNSEEN
    lock = find_lock(places, owner, job_id, run_id)
    if lock is None:
        # Another mount namespace, or cleaned away. The pid is still one of ours to look at.
        return LivenessProbe.ALIVE if _lives((owner.get("pid"), owner.get("started"))) else LivenessProbe.UNSEEN
    try:
        return _liveness_of(lock)
    finally:
        os.close(lock.fd)


def _liveness_of(lock: SeenLock) -> LivenessProbe:
    try:
        fcntl.flock(lock.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        dead = can_tell_processes() and not _lives(lock.supervisor)
        return LivenessProbe.ORPHANED if dead else LivenessProbe.ALIVE
    except OSError:
        return LivenessProbe.UNSEEN  # a filesystem without locks
    fcntl.flock(lock.fd, fcntl.LOCK_UN)
    return LivenessProbe.DEAD if lock.begun else LivenessProbe.UNSTARTED


def read_result(places: LockPlace, owner: Mapping[str, Any], job_id: str, run_id: str) -> Mapping[str, Any] | None:
    """Return how a run ended, as its own process wrote it into the lock file; None where nothing is said there."""
    lock = find_lock(places, owner, job_id, run_id)
    if lock is None:
        return None
    os.close(lock.fd)
    return lock.result


def owners_found(places: LockPlace, job_id: str, run_id: str) -> list[tuple[dict[str, Any], bool]]:
    """Return what the lock files of a run's attempts tell of their owners, and whether each is held, the newest first.

    For a run whose row cannot be read: only the row knew the token.
    """
    prefix, found = lock_name(job_id, run_id, ""), []
    for place in places.find(prefix):
        for name in _names_in(place.folder):
            token = name.removeprefix(prefix)
            if token == name or "." in token:
                continue
            try:
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place.folder)
            except OSError:
                continue
            try:
                at = os.fstat(fd)
                owner = {"machine": machine_identity(), "lock": name, "file": [at.st_dev, at.st_ino], "token": token}
                found.append((at.st_mtime_ns, owner, _is_held(fd)))
            finally:
                os.close(fd)
    return [(owner, held) for _, owner, held in sorted(found, key=lambda item: item[0], reverse=True)]


def _names_in(folder: int) -> list[str]:
    """Return the names in a folder that is open, though not for reading."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _is_held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def end_leftovers(places: LockPlace, owner: Mapping[str, Any], job_id: str, run_id: str) -> bool:
    """Kill what is left of a run whose supervisor is dead: its process group, and other holders of its lock.

    Returns whether nothing of it is known to be left. Kills nothing unless the run's lock is one of ours and of this
    boot of this machine, its supervisor is dead, and each process proves itself: by the group leader's start time, or
    by holding the lock.
    """
    lock = _our_lock(places, owner, job_id, run_id)
    if lock is None:
        return False
    try:
        return _supervisor_is_gone(lock) and _end_rest(lock, run_id)
    finally:
        os.close(lock.fd)


def end_run(places: LockPlace, owner: Mapping[str, Any], job_id: str, run_id: str) -> bool:
    """End a run whose supervisor may still live, stuck or stopped: the supervisor first, then what is left.

    For a run that is taken over after its lease, or freed by hand. Returns whether nothing of it is known to be
    left; False without having done anything where its lock is not one of ours.
    """
    lock = _our_lock(places, owner, job_id, run_id)
    if lock is None:
        return False
    try:
        if lock.supervisor is not None and lock.supervisor[0] != os.getpid() and _lives(lock.supervisor):
            _kill_supervisor(lock.supervisor)
            until = time.monotonic() + END_WITHIN_S
            while _lives(lock.supervisor) and time.monotonic() < until:
                time.sleep(0.005)
        return _supervisor_is_gone(lock) and _end_rest(lock, run_id)
    finally:
        os.close(lock.fd)


def _our_lock(places: LockPlace, owner: Mapping[str, Any], job_id: str, run_id: str) -> SeenLock | None:
    """Return the lock of a run that may be ended from here: ours, and taken in this boot of this machine."""
    if not same_machine(owner.get("machine")) or not can_tell_processes():
        return None
    lock = find_lock(places, owner, job_id, run_id)
    if lock is None:
        return None
    if lock.supervisor is None or not same_machine(lock.machine):
        os.close(lock.fd)
        return None
    return lock


def _end_rest(lock: SeenLock, run_id: str) -> bool:
    until = time.monotonic() + END_WITHIN_S
    while time.monotonic() < until:
        left = _kill_group(lock.group, run_id, lock.status) if lock.group else 0
        left += kill_holders(lock.status.st_dev, lock.status.st_ino)
        if not left:
            return True
        time.sleep(0.01)
    return False


def _kill_supervisor(supervisor: tuple[int, int]) -> None:
    try:
        handle = os.pidfd_open(supervisor[0])
    except OSError:
        return  # gone meanwhile
    try:
        if _lives(supervisor):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # gone, or another user's; the caller looks again
    finally:
        os.close(handle)


def kill_holders(device: int, inode: int, *, spare: frozenset[int] = frozenset()) -> int:
    """Kill every other process that holds a lock file; how many there were. Does nothing where /proc is missing."""
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


def _kill_group(group: tuple[int, int], run_id: str, lock: os.stat_result) -> int:
    """Kill the job's group if it is certainly that one; how many living processes it had."""
    pgid, started = group
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
    """Return whether a process still has the run's lock, or at least the environment that the run gave it."""
    if has_open(pid, lock.st_dev, lock.st_ino):
        return True
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"CHRONOS_RUN_ID={run_id}".encode() in file.read().split(b"\0")
    except OSError:
        return False  # gone, or another user's


def _supervisor_is_gone(lock: SeenLock) -> bool:
    """Return whether the supervisor is dead. One that is just ending let go of its lock before: it is waited for."""
    until = time.monotonic() + END_WITHIN_S
    while _lives(lock.supervisor):
        if _liveness_of(lock) not in (LivenessProbe.DEAD, LivenessProbe.UNSTARTED) or time.monotonic() >= until:
            return False
        time.sleep(0.005)
    return True


def _lives(process: tuple[object, object] | None) -> bool:
    """Return whether a process, by its pid and start time, is there."""
    pid, started = process or (None, None)
    return type(pid) is int and type(started) is int and pid > 0 and start_time(pid) == started
