"""Look up, when a run starts, what its job's record only refers to: a variable, a file, what a command prints.

A value goes to the job alone. It is not stored, and no message has it: a failure names the reference.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.variables import BEFORE, OPTIONAL, command_of, reference_of, shown_value
from chronos_cli.running.descriptors import close_quietly, null, pipe
from chronos_cli.running.errors import ActionError
from chronos_cli.running.group_guard import Guard
from chronos_cli.running.signals import signal_name
from chronos_cli.running.spawn import spawn_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

COMMANDS_WITHIN_S: Final = 5.0
"""Time that the commands of one run may take in all: the fire waits for the start."""
MAX_VALUE_BYTES: Final = 64 * 1024
_MAX_FILE_BYTES: Final = 1024 * 1024
_CHUNK: Final = 64 * 1024
_AGAIN: Final = "put it there, or change the job with `chronos job edit`"


class Lookup:
    """The values that one run looks up; `found` has each that was."""

    def __init__(
        self, *, started_with: Mapping[str, str], environment: Mapping[str, str], folder: str, lock_fd: int
    ) -> None:
        """Look up in `started_with`; commands get `environment`, and run in `folder` under the run's lock."""
        self.found: list[str] = []
        self._started_with = started_with
        self._environment = environment
        self._folder = folder
        self._lock_fd = lock_fd
        self._left_s = COMMANDS_WITHIN_S

    def value(self, stored: object, what: str) -> str:
        """Return the text of a stored value, looked up where it is a reference. Raises ActionError.

        Bytes of it that are no UTF-8 are surrogates, as in os.environ.

        `what` names it in messages, as `the variable TOKEN`.
        """
        reference = reference_of(stored)
        if reference is None:
            if not isinstance(stored, str) or "\0" in stored:
                raise ActionError(f"{what} is no text")
            return stored
        kind, _, rest = reference.partition(":")
        ways: Mapping[str, Callable[[str], str]] = {"env": self._variable, "file": self._file, "cmd": self._command}
        look = ways.get(kind)
        problem = f"{what} could not be had: {shown_value(stored, '')}"
        if look is None:
            raise ActionError(f"{what} has a reference of no known kind", hint="it may be env:, file: or cmd:")
        try:
            text = look(rest)
        except _NotFoundError as error:
            raise ActionError(f"{problem} {error}", hint=_AGAIN) from None
        if "\0" in text:
            raise ActionError(f"{problem} has a NUL in it", hint=_AGAIN)
        self.found.append(text)
        before = stored.get(BEFORE) if isinstance(stored, dict) else None
        return f"{before}{text}" if isinstance(before, str) else text

    def files(self, paths: Sequence[Any]) -> dict[str, str]:
        """Return the variables of env_files; of one name the last counts. Raises ActionError."""
        from chronos_cli.running.env_file import read_env_file

        found: dict[str, str] = {}
        for path in paths:
            if not isinstance(path, str):
                raise ActionError("the job's env_file is not a list of paths")
            try:
                text = self._file(path.removeprefix(OPTIONAL), most=_MAX_FILE_BYTES)
            except _NotFoundError as error:
                if path.startswith(OPTIONAL) and error.absent:
                    continue
                raise ActionError(f"the env_file {path.removeprefix(OPTIONAL)} {error}", hint=_AGAIN) from None
            try:
                found |= read_env_file(text)
            except ValueError as error:
                raise ActionError(f"the env_file {path.removeprefix(OPTIONAL)} {error}", hint=_AGAIN) from None
        return found

    def _variable(self, name: str) -> str:
        value = self._started_with.get(name)
        if value is None:
            raise _NotFoundError("is not set where this run starts")
        return value

    def _file(self, path: str, *, most: int = MAX_VALUE_BYTES) -> str:
        whole = os.path.expanduser(path)
        if not whole.startswith("/"):
            raise _NotFoundError("is no whole path")
        try:
            fd = os.open(whole, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "no path"
            raise _NotFoundError(f"cannot be read: {why}", absent=isinstance(error, FileNotFoundError)) from None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _NotFoundError("is no file")
            with open(fd, "rb", closefd=False) as file:
                data = file.read(most + 1)
        except OSError as error:
            raise _NotFoundError(f"cannot be read: {error.strerror}") from None
        finally:
            os.close(fd)
        if len(data) > most:
            raise _NotFoundError(f"is longer than {most} bytes")
        return _text(data)

    def _command(self, words: str) -> str:
        argv = command_of(words)
        if not argv:
            raise _NotFoundError("names no command")
        began = time.monotonic()
        try:
            return _text(self._printed(argv))
        except ActionError:
            raise _NotFoundError("cannot be started") from None
        except OSError as error:
            raise _NotFoundError(f"cannot be started: {error.strerror}") from None
        finally:
            self._left_s -= time.monotonic() - began

    def _printed(self, argv: Sequence[str]) -> bytes:
        """Return what a command prints; it is ended with all it started, at the latest when its time is over."""
        nothing, (read_fd, write_fd) = null(), pipe()
        guard = Guard.start(self._lock_fd)
        pid = -1
        try:
            pid = spawn_group(
                argv, cwd=self._folder, environment=self._environment, stdin=nothing, output=write_fd, errors=nothing,
                lock_fd=self._lock_fd, guard=guard,
            )  # fmt: skip
            os.close(write_fd)
            write_fd = -1
            data = _read_until(read_fd, time.monotonic() + self._left_s)
            status = _status_of(pid, time.monotonic() + self._left_s)
        finally:
            if pid > 0:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)
            guard.dismiss()
            close_quietly(read_fd, write_fd, nothing)
        if status != 0:
            raise _NotFoundError(
                f"exited with status {status}" if status > 0 else f"was ended by {signal_name(-status)}"
            )
        return data


class _NotFoundError(Exception):
    """A value that is not to be had; the text goes on after its name. `absent`: it is not there at all."""

    def __init__(self, text: str, *, absent: bool = False) -> None:
        super().__init__(text)
        self.absent = absent


def _read_until(fd: int, deadline: float) -> bytes:
    poll, data = select.poll(), b""
    poll.register(fd, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        part = os.read(fd, _CHUNK)
        data += part
        if not part:
            return data
        if len(data) > MAX_VALUE_BYTES:
            raise _NotFoundError(f"printed more than {MAX_VALUE_BYTES} bytes")
    raise _NotFoundError(f"took longer than {COMMANDS_WITHIN_S:g} s")


def _status_of(pid: int, deadline: float) -> int:
    """Return how a process ended, negative for a signal; it stays unreaped, so that its number stays its own."""
    while True:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        if time.monotonic() >= deadline:
            raise _NotFoundError(f"took longer than {COMMANDS_WITHIN_S:g} s")
        time.sleep(0.002)


def _text(data: bytes) -> str:
    """Return bytes as a text, without the newline at the end that editors and commands add."""
    text = data.decode("utf-8", "surrogateescape")
    return text.removesuffix("\n").removesuffix("\r")
