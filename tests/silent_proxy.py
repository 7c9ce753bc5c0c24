"""A TCP proxy that can go silent: it keeps every connection open and passes nothing on, as a failover or a NAT does.

with SilentProxy(port) as proxy:
proxy.port              # connect here
proxy.silence()         # nothing passes in either direction, new connections are taken and left alone
proxy.heal()            # new connections pass again; the silent ones stay silent
"""

from __future__ import annotations

import socket
import threading
from typing import Self


class SilentProxy:
    """A proxy before a port of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._silent = False
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._server.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in self._open:
            one.close()

    def silence(self) -> None:
        """Pass nothing on any more."""
        self._silent = True

    def heal(self) -> None:
        """Let new connections pass."""
        self._silent = False

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            self._open.append(near)
            if self._silent:
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open.append(far)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, to: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if self._silent:
                    return
                to.sendall(data)
            to.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # one side has gone
