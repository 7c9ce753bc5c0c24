"""The warm runner: it imports what a run needs, waits for claims, and forks a runner for each.

It has one thread, reads no configuration and opens no store; the runners that it forks do, each anew. Of files it knows
the stamps alone: as soon as the program, what is installed beside it, the time zones or a configuration are not as it
has found them, it takes no more claims, so no run is ever made by old code. It ends when its server is gone, when that
has no more use for it and its runners are over, and after a minute with nothing to do.
"""

from __future__ import annotations

import gc
import os
import select
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import chronos_cli
from chronos_cli.operations.firing.forked import be_runner
from chronos_cli.private_memory import hide_memory
from chronos_cli.running.descriptors import high
from chronos_cli.running.file_watch import FileWatch, places_of_code, places_of_zones
from chronos_cli.running.runner_channel import RUNNER_VARIABLE
from chronos_cli.running.spawn import death_wrapper
from chronos_cli.running.warm import BEGUN, CHANNEL_FD, HAND_OVER, IDLE_S, NEWS, READY

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTORS = (4, 5)
"""Those of a hand-over; the fifth, where there is one, leads to the server at the run's end."""


class _Handover(NamedTuple):
    """One ticket that was handed over: its number and the descriptors that came with it."""

    number: int
    descriptors: tuple[int, ...]


def main(settings: Sequence[str]) -> int:
    """Serve until there is no more use for it. In a forked child: be the runner, and return the run's exit code.

    `settings`: the files that the server's configuration comes from.
    """
    hide_memory()
    if os.environ.get(RUNNER_VARIABLE) != "1":
        return 2  # no process holds the other end of descriptor 3
    channel = socket.socket(fileno=high(CHANNEL_FD))
    before = FileWatch.of_package(str(Path(chronos_cli.__file__).parent))
    _import_all()
    wrapper = death_wrapper()
    warm = _WarmRunner(channel, before.only([*places_of_code(), *places_of_zones(), *settings, *wrapper[:1]]))
    gc.collect()
    gc.freeze()  # what is shared with the children stays untouched by collectors
    handover = warm.serve()
    return 0 if handover is None else _be_runner(handover, wrapper)


def _import_all() -> None:
    """Import what a run loads from its start to its end, but what speaks to NAS: most runs need not."""
    import ctypes  # noqa: F401
    import encodings.ascii
    import encodings.utf_8_sig  # noqa: F401

    import chronos_cli.config.file
    import chronos_cli.operations.evaluate
    import chronos_cli.operations.firing.run_end
    import chronos_cli.operations.firing.runner
    import chronos_cli.running.attempt
    import chronos_cli.running.local
    import chronos_cli.running.lock_place
    import chronos_cli.running.supervise
    import chronos_cli.store.holds  # noqa: F401


class _WarmRunner:
    """The loop, with one thread."""

    def __init__(self, channel: socket.socket, stamps: FileWatch) -> None:
        self._channel = channel
        self._stamps = stamps
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._children: dict[int, tuple[int, int]] = {}
        """By pidfd: the number of the hand-over, and the pid."""
        self._retired = False

    def serve(self) -> _Handover | None:
        """Fork a runner for each hand-over: returns None when it is to end, and in the child what that is to run."""
        try:
            os.close(os.pidfd_open(os.getpid()))
        except (OSError, AttributeError):
            return None  # this system cannot wait for children and claims at once
        self._tell(READY, os.getpid(), BEGUN)
        while True:
            events = self._poll.poll(None if self._children else IDLE_S * 1000)
            if not events:
                return None
            for fd, event in events:
                if fd in self._children:
                    self._reap(fd)
                elif event & (select.POLLHUP | select.POLLERR):
                    return None  # the server is gone; the runners go on
                else:
                    handover = self._next_handover()
                    if handover is not None and self._fork(handover):
                        return handover
            if self._retired and not self._children:
                return None

    def _next_handover(self) -> _Handover | None:
        handover = self._received()
        if handover is not None and len(handover.descriptors) in _DESCRIPTORS and not self._stamps.changed:
            return handover
        self._retired = True
        self._poll.unregister(self._channel)
        self._poll.register(self._channel, 0)  # the server's end is heard of all the same
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RD)
        while handover is not None:
            self._refuse(handover)
            handover = self._received()
        return None

    def _received(self) -> _Handover | None:
        """Return one hand-over that waits in the socket; None where there will be none."""
        wanted = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        try:
            data, fds, _, _ = socket.recv_fds(self._channel, HAND_OVER.size, _DESCRIPTORS[-1], wanted)
        except OSError:
            return None
        return _Handover(HAND_OVER.unpack(data)[0], tuple(fds)) if data else None

    def _fork(self, handover: _Handover) -> bool:
        """Fork; whether this is the child."""
        try:
            pid = os.fork()
        except OSError:
            self._refuse(handover)
            return False
        if pid == 0:
            self._channel.detach()  # closed with all others, and not once more when this object goes
            return True
        for fd in handover.descriptors:
            os.close(fd)
        self._tell(handover.number, pid, BEGUN)
        handle = os.pidfd_open(pid)
        self._children[handle] = handover.number, pid
        self._poll.register(handle, select.POLLIN)
        return False

    def _reap(self, handle: int) -> None:
        number, pid = self._children.pop(handle)
        self._poll.unregister(handle)
        os.close(handle)
        _, status = os.waitpid(pid, 0)
        self._tell(number, pid, os.waitstatus_to_exitcode(status))

    def _refuse(self, handover: _Handover) -> None:
        """Let the server see the pipe for messages closed: it then starts a runner itself."""
        for fd in handover.descriptors:
            os.close(fd)
        self._tell(handover.number, 0, 1)

    def _tell(self, number: int, pid: int, status: int) -> None:
        with suppress(OSError):  # the reader is gone or too slow: then a runner is looked for by its pid
            self._channel.send(NEWS.pack(number, pid, status), socket.MSG_DONTWAIT)


def _be_runner(handover: _Handover, wrapper: tuple[str, ...]) -> int:
    """Be what `start_runner` starts, with the variables that came with the claim."""
    import json

    given, hidden, variables, report, *end = map(high, handover.descriptors)
    with os.fdopen(variables, "rb") as file:
        environment: dict[str, str] = json.load(file)
    return be_runner((given, hidden, report, *end), environment, wrapper)
