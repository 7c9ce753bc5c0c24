"""The runner's side of being started by another process: its claim, its secrets, and the pipe for its messages."""

from __future__ import annotations

import json
import os
import select
import signal
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.private_memory import hide_memory
from chronos_cli.running.descriptors import inheritable, open_hidden

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

REPORT_FD: Final = 3
SECRETS_FD: Final = 4
RUNNER_VARIABLE: Final = "CHRONOS_RUNNER"
"""Set for a runner, and taken out again by it; says that descriptors 3 and 4 are what we think."""


class Reporter:
    """Writes messages as JSON lines to the process that started us; without a reader they are lost, which is fine."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send one message, one line; return whether there was a reader.

        After the first, stderr is let go where it was the same pipe: its reader need not outlive that message.
        """
        if self._fd < 0:
            return False
        view = memoryview((json.dumps(message) + "\n").encode())
        sent = True
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except BrokenPipeError:
            sent = False  # the worker is gone; the run goes on without it
            self.close()
        self._let_stderr_go()
        return sent

    def close(self) -> None:
        """Say that there will be no more messages."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def wait_until_unread(self, timeout_s: float) -> bool:
        """Wait until our starter has closed its end, or is gone; return whether that was so within `timeout_s`.

        A pipe without a reader shows an error on its writing end, poll(2); no event needs to be asked for.
        """
        if self._fd < 0:
            return True
        poll = select.poll()
        poll.register(self._fd, 0)
        return bool(poll.poll(timeout_s * 1000))

    def _let_stderr_go(self) -> None:
        if self._fd >= 0 and not os.path.sameopenfile(self._fd, 2):
            return
        nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nothing, 2)
        os.close(nothing)


def begin_runner(environment: MutableMapping[str, str]) -> tuple[bytes, dict[str, str], Reporter]:
    """Take a runner's claim and secrets, and let go of everything else that its starter had.

    `environment` is os.environ. Also works for a person who pipes a claim in by hand: then there are no secrets and no
    reader. The working folder becomes /, so that no folder or mount is kept in use.
    """
    hide_memory()
    started_by_us = environment.pop(RUNNER_VARIABLE, "") == "1"
    secrets: dict[str, str] = {}
    if started_by_us:
        os.set_inheritable(REPORT_FD, False)
        with open(open_hidden(SECRETS_FD), "rb") as file:
            secrets = json.load(file)
        for fd in inheritable():
            os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    claim = _read_all(0)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.chdir("/")
    return claim, secrets, Reporter(REPORT_FD if started_by_us else -1)


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)
