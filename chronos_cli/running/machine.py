"""Identity of this machine and of a process: the facts behind "that owner is dead".

A pid alone proves nothing: it is used again, and other pid namespaces have the same numbers. So a process is named by
(boot, pid namespace, host, pid, start time), as proc(5) gives them. Where /proc is missing nothing is taken as known.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_STAT_STATE: Final = 0
_STAT_PGRP: Final = 2
_STAT_STARTTIME: Final = 19
_OVER: Final = ("Z", "X", "x")


def machine_identity() -> dict[str, str]:
    """Return this boot of this machine, as seen from this pid namespace: `boot`, `pid_namespace` and `host`.

    A member that cannot be found out is the empty text, and then the identity matches no other.
    """
    return {"boot": _boot(), "pid_namespace": _pid_namespace(), "host": os.uname().nodename}


def same_machine(recorded: object) -> bool:
    """Return whether a recorded identity is certainly ours, so that its pids and locks can be looked at from here."""
    here = machine_identity()
    return all(here.values()) and recorded == here


def boot_clock() -> dict[str, object]:
    """Return the clock of this boot, which no one can set and suspend does not stop: `boot`, `namespace`, `seconds`.

    Processes may see another zero of it in a time namespace of their own (time_namespaces(7)).
    """
    seconds = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    return {"boot": _boot(), "namespace": _time_namespace(), "seconds": round(seconds, 3)}


def seconds_since(recorded: object) -> float | None:
    """Return how long ago a `boot_clock` was recorded; None where it is another boot's, or another machine's."""
    here = boot_clock()
    then = recorded.get("seconds") if isinstance(recorded, dict) else None
    if not isinstance(then, int | float) or recorded != {**here, "seconds": then} or not here["boot"]:
        return None
    return float(here["seconds"]) - then  # type: ignore[arg-type]


def start_time(pid: int) -> int | None:
    """Return when a living process started, in clock ticks since boot; None if it is over, or none can tell."""
    fields = _stat(pid)
    if fields is None or fields[_STAT_STATE] in _OVER:
        return None
    return int(fields[_STAT_STARTTIME])


def can_tell_processes() -> bool:
    """Return whether start times can be had at all; without them no pid is ever trusted."""
    return start_time(os.getpid()) is not None


def group_members(pgid: int) -> list[int]:
    """Return the living processes of a process group; empty where /proc is missing."""
    members = []
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None and fields[_STAT_STATE] not in _OVER and int(fields[_STAT_PGRP]) == pgid:
            members.append(pid)
    return members


def holders(device: int, inode: int) -> list[int]:
    """Return the other processes that have this file open for writing, among those whose descriptors we may see.

    Finds what left a job's process group but still holds its lock. To look at a lock is to have it open for reading.
    Empty where /proc is missing.
    """
    return [pid for pid in _pids() if pid != os.getpid() and has_open(pid, device, inode)]


def has_open(pid: int, device: int, inode: int) -> bool:
    """Return whether a process has this file open for writing, as every process has that inherited its lock."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return False  # gone, or another user's: then it is not of this job
    for name in names:
        try:
            status = os.stat(f"{folder}/{name}")
        except OSError:
            continue  # closed meanwhile, or nothing that has a file behind it
        if status.st_ino == inode and status.st_dev == device and _is_writable(pid, name):
            return True
    return False


def _is_writable(pid: int, descriptor: str) -> bool:
    """Return whether a descriptor is open for writing: the octal flags in proc(5) fdinfo."""
    try:
        with open(f"/proc/{pid}/fdinfo/{descriptor}", "rb") as file:
            flags = next((line.split()[1] for line in file if line.startswith(b"flags:")), b"0")
    except OSError:
        return False  # closed meanwhile
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def _pids() -> Iterator[int]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return  # no /proc: nothing is known
    for name in names:
        if name.isdecimal():
            yield int(name)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third on; the second, the name, may hold spaces and brackets."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("ascii", "replace")
    except OSError:
        return None  # no such process, or no /proc
    return text[text.rfind(")") + 2 :].split() or None


def _boot() -> str:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return _boot_session() if sys.platform == "darwin" else ""


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "none" if sys.platform == "darwin" else ""  # macOS has no such thing, so there is only one


def _time_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/time")
    except OSError:
        return "none"  # an older kernel, or macOS: there is only one


def _boot_session() -> str:
    """Return the UUID that macOS gives each boot, sysctl kern.bootsessionuuid."""
    import ctypes

    buffer = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(buffer))
    failed = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", buffer, ctypes.byref(size), None, 0)
    return "" if failed else buffer.value.decode("ascii", "replace")
