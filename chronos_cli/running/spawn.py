"""Starting a process group that cannot outlive the process that supervises it.

Two things see to that, each enough for the usual case. The kernel kills the group's leader when its parent dies
(PR_SET_PDEATHSIG, Linux). And a guard, a /bin/sh that sleeps on a pipe, kills the whole group once the supervisor's end
of the pipe is gone: that reaches the leader's children too, and works on macOS. The guard holds the run's lock, so the
lock is not free before the group is dead.

PR_SET_PDEATHSIG follows the parent *thread*, so this is for the main thread of a process with one. It is set between
fork and exec, by code that was all loaded before the fork; the child then checks that its parent is still there.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from chronos_cli.running.descriptors import close_quietly, inheritable, null, pipe
from chronos_cli.running.errors import ActionError, StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PR_SET_PDEATHSIG: Final = 1
_GUARD: Final = "trap '' TERM INT HUP QUIT TSTP; read -r over || kill -KILL \"-$1\""  # dash takes no `--` here
_TO_DEFAULT: Final = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGUSR1,
    signal.SIGUSR2, signal.SIGCHLD, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGXCPU, signal.SIGXFSZ,
)  # fmt: skip
"""Reset for every child: an ignored signal stays ignored across exec, and Python ignores SIGPIPE."""


def spawn_group(
    argv: Sequence[str], *, cwd: str, environment: Mapping[str, str], stdin: int, output: int, lock_fd: int
) -> int:
    """Start a program as leader of a new session and process group; its pid, once exec has succeeded.

    `output` becomes its stdout and stderr, `lock_fd` stays open in it under the same number, nothing else does.
    Raises ActionError where the program cannot be run, StartError where no process can be had right now.
    """
    die_with_parent = _parent_death_signal()
    keep = {0, 1, 2, lock_fd}
    unwanted = inheritable(keep)
    report_read, report_write = pipe()
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                die_with_parent()
                if os.getppid() != parent:
                    os._exit(1)
                _become(argv, cwd, environment, (stdin, output, output), lock_fd, unwanted)
            except BaseException as error:  # noqa: BLE001 - nothing may get past this line in the copy of our process
                _say_why_not(report_write, error)
    except OSError as error:
        close_quietly(report_read, report_write)
        raise StartError(f"no process can be started: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(report_write)
    with open(report_read, "rb") as report:
        why_not = report.read().decode("utf-8", "replace")
    if why_not:
        os.waitpid(pid, 0)
        raise ActionError(f"cannot run {argv[0]!r} in {cwd}: {why_not}")
    return pid


def spawn_guard(pgid: int, lock_fd: int) -> tuple[int, int]:
    """Start the guard of a process group; its pid, and the descriptor by which it knows that we live.

    A line written there dismisses it. Both are -1 where there is no /bin/sh; then only the kernel's signal is left.
    """
    read_fd, write_fd = pipe()
    nothing = null()
    lock_target = 9 if lock_fd != 9 else 8
    actions: list[tuple[int, int] | tuple[int, int, int]] = [
        *((os.POSIX_SPAWN_CLOSE, fd) for fd in inheritable({lock_fd})),
        (os.POSIX_SPAWN_DUP2, read_fd, 0),
        (os.POSIX_SPAWN_DUP2, nothing, 1),
        (os.POSIX_SPAWN_DUP2, nothing, 2),
        (os.POSIX_SPAWN_DUP2, lock_fd, lock_target),
    ]
    argv = ("sh", "-c", _GUARD, "chronos-guard", str(pgid))
    try:
        pid = os.posix_spawn(
            "/bin/sh", argv, {}, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_TO_DEFAULT
        )
    except OSError:
        os.close(write_fd)
        return -1, -1
    finally:
        close_quietly(read_fd, nothing)
    return pid, write_fd


def _become(
    argv: Sequence[str], cwd: str, environment: Mapping[str, str], standard: tuple[int, int, int], lock_fd: int,
    unwanted: Sequence[int],
) -> NoReturn:  # fmt: skip
    for number in _TO_DEFAULT:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for target, fd in enumerate(standard):
        os.dup2(fd, target)
    os.set_inheritable(lock_fd, True)
    for fd in unwanted:
        os.close(fd)
    os.chdir(cwd)
    os.execvpe(argv[0], list(argv), dict(environment))  # noqa: S606 - no shell, on purpose


def _say_why_not(report: int, error: BaseException) -> NoReturn:
    try:
        text = (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"
        os.write(report, text.encode("utf-8", "replace")[:1000])
    finally:
        os._exit(127)


def _parent_death_signal() -> Callable[[], object]:
    """What the child calls so that the kernel kills it with its parent; does nothing where there is no such thing."""
    if sys.platform != "linux":
        return lambda: None
    import ctypes

    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return lambda: None  # a static or unusual libc: the guard remains
    arguments = (ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))
    return lambda: prctl(*arguments)
