"""Starting a process group that cannot outlive the process that supervises it.

Two things see to that, each enough for the usual case. The kernel kills the group's leader when its parent dies
(PR_SET_PDEATHSIG, Linux). And a guard (guard.py) kills the whole group; it is there before the group is, and hears the
group's number from the leader itself before exec, so there is no moment at which a death goes unnoticed.

PR_SET_PDEATHSIG follows the parent *thread*, so this is for the main thread of a process with one. It is set between
fork and exec, by code that was all loaded before the fork; the child then checks that its parent is still there.
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
) -> int:
    """Start a program as leader of a new session and process group; its pid, once exec has succeeded.

    `output` becomes its stdout and, unless `errors` does, its stderr; `lock_fd` stays open in it under the same number,
    nothing else does.
    Raises ActionError where the program cannot be run, StartError where no process can be had right now.
    """
    die_with_parent = _parent_death_signal()
    try:  # before the fork: each page that the child writes to is copied first
        program = _bytes(cwd), [_bytes(word) for word in argv], _all_bytes(environment)
    except UnicodeEncodeError as error:
        raise ActionError(f"cannot run '{argv[0]}' in {cwd}: {error}") from error
    keep = {0, 1, 2, lock_fd}
    unwanted = inheritable(keep)
    report_read, report_write = pipe()
    parent = os.getpid()
    standard = (stdin, output, output if errors is None else errors)
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
    """A text as the locale writes it, else as UTF-8: a job is not to fail for the locale of whoever runs it."""
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
