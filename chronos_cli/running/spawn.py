"""Start a process group that cannot outlive the process that supervises it.

Two things see to that, each enough for the usual case. The kernel kills the group's leader when its parent dies
(PR_SET_PDEATHSIG, Linux). And a guard (guard.py) kills the whole group; it is there before the group is, and hears the
group's number from the leader itself before exec, so there is no moment at which a death goes unnoticed.

PR_SET_PDEATHSIG follows the parent *thread*, so this is for the main thread of a process with one. It is set between
fork and exec, by code that was all loaded before the fork; the child then checks that its parent is still there.

A fork makes each page of this process be copied, or at least asked for again, when it is next written to: a third of
what a forked runner spends. So a runner that knows a `setpriv` that sets the signal has it start a shell by
posix_spawn(3), which copies nothing. Then the group's number is not known before exec: until it is told the guard
knows the leader by the pipe that it writes to.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from chronos_cli.running.descriptors import close_quietly, inheritable, pipe
from chronos_cli.running.errors import ActionError, StartError
from chronos_cli.running.group_guard import ORDINARY_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chronos_cli.running.group_guard import Guard

_PR_SET_PDEATHSIG: Final = 1
_WRAPPER: Final = ("/usr/bin/setpriv", "--pdeathsig", "KILL", "--")
_SHELLS: Final = ("sh", "bash")


def spawn_group(
    argv: Sequence[str],
    *,
    cwd: str,
    environment: Mapping[str, str],
    stdin: int,
    output: int,
    lock_fd: int,
    guard: Guard,
    errors: int | None = None,
    wrapper: tuple[str, ...] = (),
) -> int:
    """Start a program as leader of a new session and process group; its pid, once exec has succeeded.

    `output` becomes its stdout and, unless `errors` does, its stderr; `lock_fd` stays open in it under the same number,
    nothing else does. `wrapper`: what `death_wrapper` has found, for a process with one thread, whose guard
    has the other end of `output`.
    Raises ActionError where the program cannot be run, StartError where no process can be had right now.
    """
    die_with_parent = _parent_death_signal()
    try:  # before the fork: each page that the child writes to is copied first
        program = _bytes(cwd), [_bytes(word) for word in argv], _all_bytes(environment)
    except UnicodeEncodeError as error:
        raise ActionError(f"cannot run '{argv[0]}' in {cwd}: {error}") from error
    keep = {0, 1, 2, lock_fd}
    unwanted = inheritable(keep)
    standard = (stdin, output, output if errors is None else errors)
    if wrapper and guard.pid > 0 and _is_shell(argv[0]) and not any(name.startswith("LD_") for name in environment):
        pid = _spawned(wrapper, *program, standard, lock_fd, unwanted, guard)
        if pid is not None:
            return pid
    report_read, report_write = pipe()
    parent = os.getpid()
    # Those that a handler of ours may wait for; signal(7) lists thirty more, each of which Python would name first.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ORDINARY_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                die_with_parent()
                if os.getppid() != parent:
                    os._exit(1)
                guard.watch(os.getpid())
                _become(*program, standard, lock_fd, unwanted)
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
        raise ActionError(f"cannot run '{argv[0]}' in {cwd}: {why_not}")
    return pid


def death_wrapper() -> tuple[str, ...]:
    """Return the words before a command that have the kernel kill it with its parent; none where no program can.

    That of util-linux can from 2.33 on, that of busybox cannot: it is tried once.
    """
    if sys.platform != "linux":
        return ()
    try:
        pid = os.posix_spawn(_WRAPPER[0], (*_WRAPPER, "/bin/sh", "-c", ":"), {})
        return _WRAPPER if os.waitpid(pid, 0)[1] == 0 else ()
    except OSError:
        return ()


def _is_shell(program: str) -> bool:
    """Return whether a program can be started for certain: of any other only a fork can say why it cannot."""
    return os.path.isabs(program) and os.path.basename(program) in _SHELLS


def _spawned(
    wrapper: tuple[str, ...], cwd: bytes, argv: list[bytes], environment: Mapping[bytes, bytes],
    standard: tuple[int, int, int], lock_fd: int, unwanted: Sequence[int], guard: Guard,
) -> int | None:  # fmt: skip
    """Start it without a copy of this process; its pid, or None where that fails: a fork then tells why."""
    actions: list[tuple[int, int] | tuple[int, int, int]] = [(os.POSIX_SPAWN_CLOSE, fd) for fd in unwanted]
    actions += [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(standard)]
    actions.append((os.POSIX_SPAWN_DUP2, lock_fd, lock_fd))  # the same number: it is open in the child
    here = -1
    try:
        here = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
        os.chdir(cwd)
        guard.expect()
        pid = os.posix_spawn(
            wrapper[0], (*wrapper, *argv), environment, file_actions=actions, setsid=True, setsigmask=(),
            setsigdef=ORDINARY_SIGNALS,
        )  # fmt: skip
    except OSError:
        return None
    finally:
        if here >= 0:
            os.fchdir(here)
            os.close(here)
    guard.watch(pid)
    return pid


def _become(
    cwd: bytes, argv: list[bytes], environment: Mapping[bytes, bytes], standard: tuple[int, int, int],
    lock_fd: int, unwanted: Sequence[int],
) -> NoReturn:  # fmt: skip
    for number in ORDINARY_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for target, fd in enumerate(standard):
        os.dup2(fd, target)
    os.set_inheritable(lock_fd, True)
    for fd in unwanted:
        os.close(fd)
    os.chdir(cwd)
    os.execvpe(argv[0], argv, environment)  # noqa: S606 - no shell, on purpose


def _all_bytes(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    return {_bytes(name): _bytes(value) for name, value in environment.items()}


def _bytes(text: str) -> bytes:
    """Return a text as the locale writes it, else as UTF-8: a job is not to fail for its caller's locale."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def _say_why_not(report: int, error: BaseException) -> NoReturn:
    try:
        text = (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"
        os.write(report, text.encode("utf-8", "replace")[:1000])
    finally:
        os._exit(127)


def _parent_death_signal() -> Callable[[], object]:
    """Return what the child calls so that the kernel kills it with its parent, where there is such a thing."""
    if sys.platform != "linux":
        return lambda: None
    import ctypes

    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return lambda: None  # a static or unusual libc: the guard remains
    arguments = (ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))
    return lambda: prctl(*arguments)
