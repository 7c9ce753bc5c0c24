"""Ports for servers that are told where to listen.

A port of the kernel's own range (`bind` to 0, then closed) is anybody's again at once: the next connection to somewhere
gets it, and the server finds it taken. These lie below that range, and a lock that this process keeps as long as it
lives holds each against the tests beside it.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_HELD: list[int] = []
"""The descriptors of the locks: closed with this process, and inherited by no program."""


def free_port() -> int:
    """A port nobody listens on, and no other test is given while this process lives."""
    folder = Path(tempfile.gettempdir()) / f"chronos-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    highest = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    for port in random.SystemRandom().sample(range(10_000, max(highest, 12_000)), 1_000):
        lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            os.close(lock)
            continue
        _HELD.append(lock)
        return port
    raise AssertionError("no port is free")
