"""Start a runner that outlives this process: a web worker may be stopped, and the run that it started goes on.

The runner has a session of its own, so signals for the worker's group or terminal pass it by, and no descriptor of ours
but one pipe for its messages. It is started by posix_spawn(3), which is quick however big this process is and safe with
threads; a command, which has one thread and ends soon, forks it instead, with all that it has imported. What still ends
it: a kill of everything in our control group or container (systemd needs KillMode=process).
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import sys
import time
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NoReturn

from chronos_cli.private_memory import hide_memory
from chronos_cli.running.descriptors import close_quietly, hidden_file, inheritable, nameless_file, null, pipe
from chronos_cli.running.errors import StartError
from chronos_cli.running.runner_channel import REPORT_FD, RUNNER_VARIABLE, SECRETS_FD
from chronos_cli.running.secrecy import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chronos_cli.running.warm import ForkedRunner, WarmRunner

    BeRunner = Callable[[tuple[int, ...], Mapping[str, str]], int]

MAX_MESSAGE_BYTES: Final = 1024 * 1024
MAX_STRAY_CHARACTERS: Final = 2000
_POLL_AT_MOST_S: Final = 3600.0
_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)


class Runner:
    """A started runner, as its starter sees it."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self.stray = ""
        """The end of what came that is no message: the traceback of a runner that could not start."""
        self._fd = fd
        self._buffer = b""
        self._status: int | None = None
        self._reaped = False

    @property
    def closed(self) -> bool:
        """Return whether no further message can come."""
        return self._fd < 0

    def next_message(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the next message; None if none came in time, or if none can come any more (`closed` tells which)."""
        until = time.monotonic() + timeout_s
        while True:
            while (line := self._next_line()) is not None:
                message = _message(line)
                if message is not None:
                    return message
                self.stray = (self.stray + line.decode("utf-8", "replace") + "\n")[-MAX_STRAY_CHARACTERS:]
            if self.closed or not _readable(self._fd, until):
                return None
            data = os.read(self._fd, 65536)
            self._buffer = (self._buffer + data)[-MAX_MESSAGE_BYTES:]
            if not data:
                self.close()

    @property
    def fd(self) -> int:
        """Return the descriptor that its messages come from, -1 once none can come any more."""
        return self._fd

    def message_comes(self, timeout_s: float) -> bool:
        """Wait until a message has come, which `next_message` then returns; False if none came, or none can."""
        message = self.next_message(timeout_s)
        if message is not None:
            self._buffer = json.dumps(message).encode() + b"\n" + self._buffer
        return message is not None

    def reap(self) -> bool:
        """Return whether the runner is over, taking its exit status if so; never waits."""
        if not self._reaped:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._reaped = True  # the server ignores SIGCHLD or reaps everybody's children
                return True
            if pid:
                self._reaped = True
                self._status = os.waitstatus_to_exitcode(status)
        return self._reaped

    @property
    def exit_status(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs, or if other code has taken it."""
        self.reap()
        return self._status

    def close(self) -> None:
        """Stop listening; the runner goes on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _next_line(self) -> bytes | None:
        line, newline, rest = self._buffer.partition(b"\n")
        if newline or (self.closed and line):
            self._buffer = rest
            return line
        return None


class Runners:
    """The runners one process has started: it starts them, and reaps those that are over whenever it starts another.

    Safe to share between threads.
    """

    def __init__(self) -> None:
        self.end_fd = -1
        """The descriptor that forked runners get as END_FD, their way back to this process; -1: there is none."""
        self._running: list[Runner] = []
        self._warm: list[WarmRunner] = []
        """The last is the one that takes claims, if it does; those before it are to be reaped."""
        self._guard = Lock()

    def start(
        self,
        argv: Sequence[str],
        claim: bytes,
        *,
        environment: Mapping[str, str],
        secrets: Mapping[str, str] | None = None,
    ) -> Runner:
        """Start a runner, as `start_runner` does, and see to it that it does not stay as a zombie."""
        self.sweep()
        runner = start_runner(argv, claim, environment=environment, secrets=secrets)
        with self._guard:
            self._running.append(runner)
        return runner

    def fork(
        self,
        claim: bytes,
        be_runner: BeRunner,
        *,
        environment: Mapping[str, str],
        secrets: Mapping[str, str] | None = None,
    ) -> Runner | None:
        """Start a runner, as `fork_runner` does, and see to it that it does not stay as a zombie; None as there."""
        self.sweep()
        runner = fork_runner(claim, be_runner, environment=environment, secrets=secrets)
        if runner is not None:
            with self._guard:
                self._running.append(runner)
        return runner

    def hand_over(
        self, claim: bytes, *, environment: Mapping[str, str], secrets: Mapping[str, str]
    ) -> ForkedRunner | None:
        """Have a warm runner fork one for a claim; None where there is none that can."""
        self.sweep()
        with self._guard:
            warm = self._warm[-1] if self._warm else None
        runner = (
            None
            if warm is None
            else warm.hand_over(claim, environment=environment, secrets=secrets, end_fd=self.end_fd)
        )
        if runner is not None:
            with self._guard:
                self._running.append(runner)
        return runner

    def warm_up(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a warm runner, unless this very process has one. Raises StartError."""
        from chronos_cli.running.warm import WarmRunner

        with self._guard:
            if not self._warm or self._warm[-1].over:
                self._warm.append(WarmRunner.start(argv, environment))

    @property
    def warm(self) -> bool:
        """Return whether the next claim can be handed to a warm runner."""
        with self._guard:
            return bool(self._warm) and self._warm[-1].usable

    def sweep(self) -> int:
        """Reap what is over without waiting; how many still run."""
        with self._guard:
            self._warm = [warm for warm in self._warm if not warm.reap()]
            self._running = [runner for runner in self._running if not runner.reap()]
            return len(self._running)


def wait_for_words(runners: Sequence[Runner]) -> None:
    """Wait until any of these runners has said something more, or can say no more."""
    if any(runner.closed for runner in runners):
        return
    poll = select.poll()
    for runner in runners:
        poll.register(runner.fd, select.POLLIN)
    poll.poll(_POLL_AT_MOST_S * 1000)


def start_runner(
    argv: Sequence[str], claim: bytes, *, environment: Mapping[str, str], secrets: Mapping[str, str] | None = None
) -> Runner:
    """Start a runner that outlives this process; it gets `claim` on stdin and calls `begin_runner` first.

    argv[0] is an absolute path. The environment is passed on without our secrets and those in `secrets`; the latter
    reach the runner through a hidden file, so that nothing in /proc shows them. Raises StartError.
    """
    hide_memory()
    secrets = secrets or {}
    given = {**without_secrets(environment, secrets), RUNNER_VARIABLE: "1"}
    opened: list[int] = []
    try:
        opened += (nameless_file(claim), null(), hidden_file(json.dumps(dict(secrets)).encode()), *pipe())
        stdin, nothing, hidden, read_fd, write_fd = opened
        actions: list[tuple[int, int] | tuple[int, int, int]] = [(os.POSIX_SPAWN_CLOSE, fd) for fd in inheritable()]
        wanted = ((stdin, 0), (nothing, 1), (write_fd, 2), (write_fd, REPORT_FD), (hidden, SECRETS_FD))
        actions += [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in wanted]
        pid = os.posix_spawn(
            argv[0], list(argv), given, file_actions=actions, setsid=True, setsigmask=(), setsigdef=ordinary_signals()
        )
        opened.remove(read_fd)
    except OSError as error:
        raise StartError(f"the runner could not be started: {error.strerror}") from error
    finally:
        close_quietly(*opened)
    return Runner(pid, read_fd)


def fork_runner(
    claim: bytes, be_runner: BeRunner, *, environment: Mapping[str, str], secrets: Mapping[str, str] | None = None
) -> Runner | None:
    """Start a runner as a copy of this process, which has imported most of what a run needs.

    `be_runner` gets the descriptors of claim, secrets and messages and the variables, as `start_runner` gives them, and
    returns the exit code. None where there may be no copy, with nothing started: beside another thread, which may hold
    any lock, off Linux, and where the system gives no process.
    """
    if sys.platform != "linux" or len(os.listdir("/proc/self/task")) != 1:
        return None
    hide_memory()
    secrets = secrets or {}
    given = {**without_secrets(environment, secrets), RUNNER_VARIABLE: "1"}
    opened: list[int] = []
    # None of ours is for the copy: what comes before its session is its own is for the starter's group.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        opened += (nameless_file(claim), hidden_file(json.dumps(dict(secrets)).encode()), *pipe())
        stdin, hidden, read_fd, write_fd = opened
        pid = os.fork()
        if pid == 0:
            _end_with(lambda: be_runner((stdin, hidden, write_fd), given))
        opened.remove(read_fd)
    except OSError:
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        close_quietly(*opened)
    return Runner(pid, read_fd)


def _end_with(body: Callable[[], int]) -> NoReturn:
    """Do this with the signals of a program that was just started, and end: the copy goes nowhere else."""
    code = 1
    try:
        atexit._clear()  # noqa: SLF001 - the starter's
        for number in ordinary_signals():
            if number not in _IGNORED_BY_PYTHON and signal.getsignal(number) is not signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = body()
        atexit._run_exitfuncs()  # noqa: SLF001 - its own
    except BaseException:  # noqa: BLE001 - nothing may get past this line in the copy of our process
        sys.__excepthook__(*sys.exc_info())
    finally:
        os._exit(code)


def ordinary_signals() -> list[int]:
    """Return every signal that can be set to its default. An ignored one stays so in the runner and all its jobs."""
    return [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _readable(fd: int, until: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:  # in pieces: poll(2) takes no more than 24 days
        left = until - time.monotonic()
        if poll.poll(min(max(0.0, left), _POLL_AT_MOST_S) * 1000):
            return True
        if left <= _POLL_AT_MOST_S:
            return False
