"""File descriptors for children: bytes to read as a nameless file, and none that they should not have."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container

_ABOVE_STANDARD: Final = 10
_BYTES_OF_ONE: Final = 4


def nameless_file(data: bytes) -> int:
    """Return a descriptor from which exactly these bytes can be read.

    Unlike a pipe it takes any amount without a reader.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("chronos", os.MFD_CLOEXEC)
    else:
        import tempfile

        fd, path = tempfile.mkstemp()
        os.unlink(path)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return high(fd)


def hidden_file(data: bytes) -> int:
    """Return a socket in which a nameless file of these bytes waits for `open_hidden`.

    A process that has just been started is open to the others of its user, who may open what /proc shows of its files,
    but no socket: what waits in one is open to the process alone, and to a process that may trace it.
    """
    import _socket  # socket itself loads much that a runner need not have

    file = nameless_file(data)
    near, far = _socket.socketpair()
    try:
        near.sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, file.to_bytes(_BYTES_OF_ONE, sys.byteorder))])
    finally:
        near.close()
        os.close(file)
    return high(far.detach())


def open_hidden(fd: int) -> int:
    """Take the file out of the socket of `hidden_file`, which is closed. Raises OSError."""
    import _socket

    held = _socket.socket(fileno=fd)
    try:
        _, messages, _, _ = held.recvmsg(1, _socket.CMSG_SPACE(_BYTES_OF_ONE))
    finally:
        held.close()
    if not messages:
        raise OSError("no file waits there")
    file = int.from_bytes(messages[0][2][:_BYTES_OF_ONE], sys.byteorder)
    os.set_inheritable(file, False)
    return high(file)


def pipe() -> tuple[int, int]:
    """Return a pipe whose two ends are clear of the numbers that children get."""
    read_fd, write_fd = os.pipe()
    return high(read_fd), high(write_fd)


def null(flags: int = os.O_RDWR) -> int:
    """Return a descriptor of /dev/null, clear of the numbers that children get."""
    return high(os.open(os.devnull, flags | os.O_CLOEXEC))


def high(fd: int) -> int:
    """Return the same file under a number of at least ten, closed on exec; the old number is closed.

    A host may run with its standard descriptors closed; then a pipe can be number 0 and collide with a child's own.
    """
    if fd >= _ABOVE_STANDARD:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD)
    os.close(fd)
    return moved


def inheritable(keep: Container[int] = ()) -> list[int]:
    """Return the descriptors above 2 that a child would inherit: a server's listening sockets, for one."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            names = os.listdir(folder)
        except OSError:
            continue  # the next place, or none: Python itself opens everything closed on exec
        return [fd for fd in map(int, names) if fd > 2 and fd not in keep and _is_inheritable(fd)]
    return []


def close_above(last: int) -> None:
    """Close every descriptor beyond `last`, as exec does with those that are to be closed then."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > last:
            with suppress(OSError):  # the listing's own
                os.close(int(name))


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # the listing's own, or closed by another thread meanwhile


def close_quietly(*fds: int) -> None:
    """Close descriptors, of which some may be -1."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)
