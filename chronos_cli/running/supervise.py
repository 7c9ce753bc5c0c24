"""Supervise a job until its end: its exit, its timeout, its lease, or a signal that tells us to stop.

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

from chronos_cli.core.row import REPLACED
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
        """Return the seconds, from some fixed start, on a clock that cannot be set and goes on during suspend."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def wall(self) -> float:
        """Return the seconds since 1970-01-01 UTC."""
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


class SupervisedRun:
    """One job that goes, from its start on; once it is over `end`, or `error`, why that could not be seen."""

    def __init__(
        self, child: Child, clock: Clock, *, timeout_s: float | None, lease_end: float | None, grace_s: float
    ) -> None:
        self.child = child
        self.end: SupervisedEnd | None = None
        self.error: Exception | None = None
        self._grace_s = grace_s
        self._ending: tuple[str, str] | None = None
        self._until = 0.0
        self._hurried = self._killing = False
        self._clock = clock
        self._began = clock.elapsed()
        self._timeout_s = timeout_s
        self._lease_end = lease_end

    @property
    def ends(self) -> bool:
        """Return whether it is being ended."""
        return self._ending is not None

    def begin_to_end(self, state: str, why: str) -> None:
        """Ask the whole group to end, politely for its grace."""
        self._ending, self._until = (state, why), time.monotonic() + self._grace_s
        _signal_group(self.child, signal.SIGTERM)
        _signal_group(self.child, signal.SIGCONT)  # a stopped process takes no SIGTERM

    def ended(self, *, hurried: bool) -> tuple[str, str] | None:
        """Go on with ending it: kill the group once its grace is over, and other holders of the lock.

        Return its state and why, once nothing is left of it, or what is left cannot be killed. `hurried`: this process
        was told to stop.
        """
        assert self._ending is not None  # noqa: S101 - that is what is gone on with
        now = time.monotonic()
        if hurried and not self._hurried and not self._killing:
            self._hurried, self._until = True, min(self._until, now + INTERRUPT_GRACE_S)
        if not self._killing:
            if now < self._until and _group_lives(self.child):
                return None
            self._killing, self._until = True, now + GONE_WITHIN_S
        left = _kill(self.child)
        if left and now < self._until:
            return None
        state, why = self._ending
        return state, f"{why}; {left} process(es) could not be killed" if left else why

    @property
    def left_s(self) -> float:
        """Return the seconds until it is to be looked at again, or its time is over."""
        if self.ends:
            return _LOOK_OFTEN_S
        if self._timeout_s is None:
            return _LOOK_EVERY_S
        return self._timeout_s - (self._clock.elapsed() - self._began)

    def reason_to_end(self, interrupts: Interrupts | None) -> tuple[str, str]:
        """Return the state that it is to end in, and why; two empty texts while it may go on."""
        if interrupts is not None and interrupts.signal is not None:
            return "interrupted", f"stopped by {signal.Signals(interrupts.signal).name}"
        if self._timeout_s is not None and self.left_s <= 0:
            # What is left of it when the job starts is a little less than the whole seconds that it was given.
            whole = -(-self._timeout_s // 1) if self._timeout_s > 1 else self._timeout_s
            return "timeout", f"killed after its timeout of {whole:g} s"
        if self._lease_end is not None and self._clock.wall() >= self._lease_end:
            return "timeout", "still running at the end of its lease"
        if self.child.lock.is_asked_to_end():
            return "interrupted", REPLACED
        return "", ""


class Supervisor:
    """The jobs under this process, seen through side by side.

    While one is waited for, none of the others is left with a full pipe or past its time; a signal ends all at once.
    """

    def __init__(self, interrupts: Interrupts | None = None, clock: Clock | None = None) -> None:
        self._interrupts = interrupts
        self._clock = clock or Clock()
        self._going: list[SupervisedRun] = []

    def add(
        self,
        child: Child,
        *,
        timeout_s: float | None,
        lease_end: float | None = None,
        grace_s: float = TIMEOUT_GRACE_S,
    ) -> SupervisedRun:
        """Take in a job that has just been started. `timeout_s` counts from here; `lease_end`: seconds since 1970."""
        one = SupervisedRun(child, self._clock, timeout_s=timeout_s, lease_end=lease_end, grace_s=grace_s)
        self._going.append(one)
        return one

    def wait(self, *wanted: SupervisedRun) -> SupervisedRun:
        """Do as `first_over`, and raise what went wrong at the end of that one."""
        one = self.first_over(*wanted)
        if one.error is not None:
            raise one.error
        return one

    def first_over(self, *wanted: SupervisedRun) -> SupervisedRun:
        """Wait until one of these is over, bringing the end of any about where needed; return it, its child closed.

        The end is the leader's: what it leaves in the background is not waited for. After a timeout or a signal nothing
        of the group, or with the lock, is left.
        """
        try:
            while True:
                self._see_to_all()
                for one in wanted:
                    if one.end is not None or one.error is not None:
                        return one
                self._rest(min(_LOOK_EVERY_S, *(one.left_s for one in self._going)))
        except BaseException:
            for one in (one for one in wanted if one in self._going):
                self._going.remove(one)
                one.child.close()
            raise

    def _see_to_all(self) -> None:
        stopped = self._interrupts is not None and self._interrupts.signal is not None
        for one in tuple(self._going):
            if not one.ends and _leader_is_over(one.child):
                self._conclude(one, "", "")
                continue
            if not one.ends:
                state, why = one.reason_to_end(self._interrupts)
                if not state:
                    continue
                one.begin_to_end(state, why)
            end = one.ended(hurried=stopped)
            if end is not None:
                self._conclude(one, *end)

    def _conclude(self, one: SupervisedRun, state: str, why: str) -> None:
        child = one.child
        self._going.remove(one)
        try:
            for _ in range(_DRAIN_CHUNKS):  # what the leader wrote is in the pipe by now; others may write for ever
                if not child.pump():
                    break
            child.pump_rest()
            one.end = _ended(child, state, why)
        except Exception as error:  # noqa: BLE001 - raised in `wait`: the others go on
            one.error = error
        finally:
            child.close()

    def _rest(self, seconds: float) -> None:
        """Wait for output, a leader's end or a signal, whichever is first, and take in the output."""
        fds = [one.child.pipe_fd for one in self._going]
        fds += [one.child.pidfd for one in self._going if not one.ends]
        if self._interrupts is not None and self._interrupts.signal is None:
            fds.append(self._interrupts.fd)
        poll = select.poll()
        for fd in fds:
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        if any(one.child.pidfd < 0 for one in self._going):
            seconds = min(seconds, _LOOK_OFTEN_S)
        poll.poll(max(0.0, seconds) * 1000)
        for one in self._going:
            one.child.pump()


def wait(
    child: Child,
    *,
    timeout_s: float | None,
    lease_end: float | None = None,
    interrupts: Interrupts | None = None,
    clock: Clock | None = None,
    grace_s: float = TIMEOUT_GRACE_S,
) -> SupervisedEnd:
    """Wait for the end of a job that goes alone. `timeout_s` counts from this call."""
    supervisor = Supervisor(interrupts, clock)
    one = supervisor.wait(supervisor.add(child, timeout_s=timeout_s, lease_end=lease_end, grace_s=grace_s))
    assert one.end is not None  # noqa: S101 - that is what was waited for
    return one.end


def _kill(child: Child) -> int:
    """Kill a group and other holders of its lock; return how many are left."""
    _signal_group(child, signal.SIGKILL)
    found = os.fstat(child.lock.fd)
    return kill_holders(found.st_dev, found.st_ino, spare=frozenset((child.guard.pid,))) + _group_lives(child)


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
    """Return the last line with something in it, without what would move a terminal's cursor."""
    for line in reversed(tail.splitlines()):
        plain = "".join(character for character in line if character.isprintable()).strip()
        if plain:
            return plain if len(plain) <= _LINE_CHARACTERS else plain[: _LINE_CHARACTERS - 1] + "…"
    return ""
