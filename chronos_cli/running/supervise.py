"""Seeing a job through to its end: its exit, its timeout, its lease, or a signal that tells us to stop.

Time spent suspended counts: a laptop that slept through the timeout ends the job on waking. A wall clock that is set
meanwhile ends nothing; only on a platform that may freeze everything, and every other clock with it, the lease is
counted by it too, because others may by then have taken the run for over.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from chronos_cli.running.liveness import kill_holders
from chronos_cli.running.machine import can_tell_processes, group_members
from chronos_cli.running.signals import signal_name

if TYPE_CHECKING:
    from chronos_cli.running.process import Child
    from chronos_cli.running.signals import Interrupts

TIMEOUT_GRACE_S: Final = 5.0
"""Between SIGTERM and SIGKILL at a timeout."""
INTERRUPT_GRACE_S: Final = 0.8
"""The same when we were told to stop: the end must be on disk two seconds after the signal."""
GONE_WITHIN_S: Final = 0.6
"""Time for which processes are waited for after SIGKILL; what then remains sits in the kernel and cannot be killed."""

TAIL_BYTES: Final = 2048
_LOOK_EVERY_S: Final = 1.0  # poll(2) does not count suspended time, so it never waits longer than this
_LOOK_OFTEN_S: Final = 0.02
_DRAIN_CHUNKS: Final = 64
_LINE_CHARACTERS: Final = 200


class Clock:
    """The two clocks of a run; a test passes its own."""

    def elapsed(self) -> float:
        """Seconds on a clock that nobody sets and that goes on during suspend, from some fixed start."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return time.time()


class SupervisedEnd(NamedTuple):
    """End of a run. `state` is ok, failed, timeout or interrupted.

    `exit_status` is None where a signal ended the job, which `signal` then names. `reason` is one line, empty for ok.
    `output_tail` is the end of what the job said, `output_bytes` how much it said, `output_error` why some is lost.
    """

    state: str
    exit_status: int | None
    signal: int | None
    reason: str
    output_tail: str
    output_bytes: int
    output_error: str


def wait(
    child: Child,
    *,
    timeout_s: float | None,
    lease_end: float | None = None,
    interrupts: Interrupts | None = None,
    clock: Clock | None = None,
    grace_s: float = TIMEOUT_GRACE_S,
) -> SupervisedEnd:
    """Wait for a job's end, bringing it about where needed, and close the child.

    `timeout_s` counts from this call; `lease_end` is in seconds since 1970. The end is the leader's: what it leaves in
    the background is not waited for. After a timeout or a signal nothing of the group, or with the lock, is left.
    """
    clock = clock or Clock()
    began = clock.elapsed()
    poller = _Poller(child, interrupts)
    state, why = "", ""
    try:
        while not _leader_is_over(child):
            left = _LOOK_EVERY_S if timeout_s is None else timeout_s - (clock.elapsed() - began)
            if interrupts is not None and interrupts.signal is not None:
                state, why = "interrupted", f"stopped by {signal.Signals(interrupts.signal).name}"
            elif left <= 0:
                state, why = "timeout", f"killed after its timeout of {timeout_s:g} s"
            elif lease_end is not None and clock.wall() >= lease_end:
                state, why = "timeout", "still running at the end of its lease"
            elif child.lock.is_asked_to_end():
                state, why = "interrupted", "ended for the next occurrence, which replaces it"
            if state:
                hurried = interrupts is not None and interrupts.signal is not None
                unkilled = _end(child, poller, INTERRUPT_GRACE_S if hurried else grace_s, interrupts)
                why += f"; {unkilled} process(es) could not be killed" if unkilled else ""
                break
            poller.wait(min(left, _LOOK_EVERY_S))
        for _ in range(_DRAIN_CHUNKS):  # what the leader wrote is in the pipe by now; others may write for ever
            if not child.pump():
                break
        child.pump_rest()
        return _ended(child, state, why)
    finally:
        child.close()


class _Poller:
    """Waits for output, the leader's end or a signal, whichever is first, and takes in the output."""

    def __init__(self, child: Child, interrupts: Interrupts | None) -> None:
        self._child = child
        self._interrupts = interrupts

    def wait(self, seconds: float, *, for_leader: bool = True) -> None:
        child = self._child
        fds = [fd for fd in (child.pipe_fd, child.pidfd if for_leader else -1) if fd >= 0]
        if self._interrupts is not None and self._interrupts.signal is None:
            fds.append(self._interrupts.fd)
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        if child.pidfd < 0:
            seconds = min(seconds, _LOOK_OFTEN_S)
        poll.poll(max(0.0, seconds) * 1000)
        child.pump()


def _end(child: Child, poller: _Poller, grace_s: float, interrupts: Interrupts | None) -> int:
    """End the whole group, politely for `grace_s`, and then whoever else has the lock; how many could not be."""
    _signal_group(child, signal.SIGTERM)
    _signal_group(child, signal.SIGCONT)  # a stopped process takes no SIGTERM
    hurried = interrupts is not None and interrupts.signal is not None
    until = time.monotonic() + grace_s
    while _group_lives(child) and time.monotonic() < until:
        poller.wait(_LOOK_OFTEN_S, for_leader=False)
        if not hurried and interrupts is not None and interrupts.signal is not None:
            hurried = True
            until = min(until, time.monotonic() + INTERRUPT_GRACE_S)
    until = time.monotonic() + GONE_WITHIN_S
    left = 1
    while left and time.monotonic() < until:
        _signal_group(child, signal.SIGKILL)
        found = os.fstat(child.lock.fd)
        left = kill_holders(found.st_dev, found.st_ino, spare=frozenset((child.guard.pid,)))
        left += _group_lives(child)
        if left:
            poller.wait(_LOOK_OFTEN_S, for_leader=False)
    return left


def _signal_group(child: Child, number: int) -> None:
    # All gone already; or a group of zombies on macOS, or a program that has become another user's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _group_lives(child: Child) -> int:
    """Return how many of the group live; the leader stays unreaped meanwhile, so that its number stays the group's."""
    if can_tell_processes():
        return len(group_members(child.pid))
    if not _leader_is_over(child):
        return 1
    try:
        os.killpg(child.pid, 0)
    except (ProcessLookupError, PermissionError):
        return 0
    return 1


def _leader_is_over(child: Child) -> bool:
    """Return whether the leader has ended. Where waitid can be had it is not reaped, so its pid stays its own."""
    if child.status is not None:
        return True
    try:
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        pid, status = os.waitpid(child.pid, os.WNOHANG)
    except ChildProcessError:
        return True  # reaped behind our back; _ended says that its status is lost
    if pid:
        child.status = status
    return bool(pid)


def _ended(child: Child, state: str, why: str) -> SupervisedEnd:
    status = _reap(child)
    code = None if status is None else os.waitstatus_to_exitcode(status)
    tail = child.output.tail(TAIL_BYTES).decode("utf-8", "replace")
    exit_status = code if code is not None and code >= 0 else None
    number = -code if code is not None and code < 0 else None
    if not state:
        state = "ok" if code == 0 else "failed"
    if state == "failed":
        why = _why(exit_status, number, tail)
    return SupervisedEnd(state, exit_status, number, why, tail, child.output.total, child.output_error)


def _reap(child: Child) -> int | None:
    if child.status is None:
        until = time.monotonic() + GONE_WITHIN_S
        try:
            while True:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    child.status = status
                    break
                if time.monotonic() >= until:
                    return None  # not even SIGKILL ended it: it waits inside the kernel
                time.sleep(0.005)
        except ChildProcessError:
            return None
    return child.status


def _why(exit_status: int | None, number: int | None, tail: str) -> str:
    if number is not None:
        text = f"killed by {signal_name(number)}"
    elif exit_status is not None:
        text = f"exited with status {exit_status}"
    else:
        text = "its exit status was lost"
    said = _last_line(tail)
    return f"{text}: {said}" if said else text


def _last_line(tail: str) -> str:
    """The last line with something in it, without what would move a terminal's cursor."""
    for line in reversed(tail.splitlines()):
        plain = "".join(character for character in line if character.isprintable()).strip()
        if plain:
            return plain if len(plain) <= _LINE_CHARACTERS else plain[: _LINE_CHARACTERS - 1] + "…"
    return ""
