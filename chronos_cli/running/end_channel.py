"""The way from a runner whose run is over to the server that started it: one question, one answer, or none.

All runners of a server share one socket to it. Each question brings the pipe that its answer is to go into, so nobody
hears another's answer, the server keeps nothing open for a run that goes on, and a server that ends, or lets go of a
question, is noticed at once. Every trouble is no answer.
"""

from __future__ import annotations

import json
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from chronos_cli.running.descriptors import close_quietly, high, pipe

if TYPE_CHECKING:
    from collections.abc import Mapping

END_FD: Final = 5
"""The runner's end, where it was given one."""
ANSWERED_WITHIN_S: Final = 5.0
"""Time for an answer; a runner without one does itself what it asked for."""

_MAX_QUESTION: Final = 64 * 1024
_MOST_AT_ONCE: Final = 64
_BYTES_OF_ONE: Final = 4


class RunnerRequest(NamedTuple):
    """A question of a runner, and the pipe for its answer."""

    document: dict[str, Any]
    reply_fd: int

    def answer(self, document: Mapping[str, Any] | None) -> None:
        """Answer it, with None by nothing at all. Never waits: what does not fit into the pipe is no answer."""
        try:
            if document is not None:
                data = json.dumps(document).encode()
                os.set_blocking(self.reply_fd, False)
                with suppress(OSError):  # the runner waits no longer
                    os.write(self.reply_fd, data + b"\n")
        finally:
            os.close(self.reply_fd)


class EndTransport:
    """The server's side. `far`: the descriptor that its runners get a copy of."""

    def __init__(self) -> None:
        """Raises OSError where no socket can be had."""
        import _socket

        near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._near = _socket.socket(fileno=high(near.detach()))
        self.far = high(far.detach())

    def questions(self) -> list[RunnerRequest]:
        """Wait for questions, and return all that are there."""
        found = [self._next(0)]
        import _socket

        while len(found) < _MOST_AT_ONCE:
            try:
                found.append(self._next(_socket.MSG_DONTWAIT))
            except OSError:  # there are no more
                break
        return [question for question in found if question is not None]

    def _next(self, flags: int) -> RunnerRequest | None:
        """Return one question, None for something else. Raises OSError."""
        import _socket

        data, messages, _, _ = self._near.recvmsg(
            _MAX_QUESTION, _socket.CMSG_SPACE(_BYTES_OF_ONE), flags | _socket.MSG_CMSG_CLOEXEC
        )
        reply = int.from_bytes(messages[0][2][:_BYTES_OF_ONE], sys.byteorder) if messages else -1
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        if not isinstance(document, dict) or reply < 0:
            close_quietly(reply)
            return None
        return RunnerRequest(document, reply)


def ask_server(fd: int, document: Mapping[str, Any], timeout_s: float = ANSWERED_WITHIN_S) -> dict[str, Any] | None:
    """Ask the server at the other end of `fd`; None where no whole answer comes in time. Raises nothing."""
    import _socket

    read_fd, write_fd = -1, -1
    try:
        read_fd, write_fd = pipe()
        data = json.dumps(document).encode()
        channel = _socket.socket(fileno=fd)
        try:
            rights = write_fd.to_bytes(_BYTES_OF_ONE, sys.byteorder)
            channel.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)], _socket.MSG_DONTWAIT)
        finally:
            channel.detach()
        os.close(write_fd)
        write_fd = -1
        return _answer(read_fd, timeout_s)
    except (OSError, ValueError):
        return None
    finally:
        close_quietly(read_fd, write_fd)


def _answer(fd: int, timeout_s: float) -> dict[str, Any] | None:
    """Return the one line that comes. Raises OSError and ValueError."""
    import time

    poll, until, data = select.poll(), time.monotonic() + timeout_s, b""
    poll.register(fd, select.POLLIN)
    while poll.poll(max(0.0, until - time.monotonic()) * 1000):
        part = os.read(fd, 65536)
        data += part
        if data.endswith(b"\n"):
            document = json.loads(data)
            return document if isinstance(document, dict) else None
        if not part:
            return None
    return None
