"""`python -m chronos_cli.callback.serve`: the callback on waitress, there only while calls come.

Under systemd's socket activation (sd_listen_fds(3)) it takes the socket it is handed, and exits once nobody has been
connected for a while: systemd holds the socket meanwhile, so the next call waits in its backlog and starts it again.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.callback.log import BoundedLog
from chronos_cli.connections import ACCEPTED_BEYOND, Patience
from chronos_cli.contract import MAX_FIRE_BODY_BYTES
from chronos_cli.private_memory import hide_memory
from chronos_cli.streams import gated

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

FIRST_FD: Final = 3
MAX_HEADER_BYTES: Final = 32 * 1024
MAX_CONNECTIONS: Final = 512
REQUEST_S: Final = 15.0
"""The time a whole request, header and body, may take to come, and its answer to be taken."""
KEPT_ALIVE_S: Final = 120.0
_LOOK_EVERY_S: Final = 1.0
_LOOK_FOR_RUNS_S: Final = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop, or until no call has come for `--idle` seconds."""
    return gated("chronos", lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m chronos_cli.callback.serve", description="Serve the callback.")
    parser.add_argument("--listen", default="127.0.0.1:8790", metavar="HOST:PORT", help="unless a socket is inherited")
    parser.add_argument("--idle", type=float, default=0.0, metavar="S", help="exit after so long without a connection")
    parser.add_argument("--threads", type=int, default=8, metavar="N", help="how many fires are answered at once")
    parser.add_argument("--wait-for-runs", action="store_true", help="when stopped, end after the runs that still go")
    options = parser.parse_args(arguments)
    hide_memory()  # from the start: jobs of an earlier process may still go
    sockets = inherited_sockets(os.environ)
    activated = bool(sockets)
    if not sockets:
        host, _, port = options.listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            sys.stderr.write(f"chronos: --listen {options.listen} is not HOST:PORT: write, say, 127.0.0.1:8790\n")
            return 2
        try:
            sockets = [_bound(host.strip("[]"), int(port))]
        except OSError as error:
            sys.stderr.write(f"chronos: cannot listen on {options.listen}: {error.strerror}: name another port\n")
            return 1
    from chronos_cli.callback.wsgi import application

    application.passing = activated or options.idle > 0
    serve(sockets, idle_s=options.idle, threads=options.threads)
    if options.wait_for_runs:
        wait_for_runs()
    return 0


def inherited_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the sockets that systemd has opened for this very process; their variables are taken out of `environ`."""
    meant = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if meant[0] != str(os.getpid()) or not meant[1].isdecimal():
        return []
    sockets = []
    for fd in range(FIRST_FD, FIRST_FD + int(meant[1])):
        os.set_inheritable(fd, False)
        sockets.append(socket.socket(fileno=fd))
    return sockets


def wait_for_runs() -> None:
    """Wait until every run that this process has started is over: a container ends with its first process."""
    from chronos_cli.callback.wsgi import application

    while application.running():
        time.sleep(_LOOK_FOR_RUNS_S)


def serve(sockets: list[socket.socket], *, idle_s: float, threads: int) -> None:
    """Serve on these sockets. `idle_s` 0: for ever."""
    from waitress import create_server  # type: ignore[import-untyped]
    from waitress.wasyncore import poll2  # type: ignore[import-untyped]

    from chronos_cli.callback.wsgi import application

    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    bound_log("waitress")
    connected: dict[int, Any] = {}
    server = create_server(
        application,
        map=connected,
        sockets=sockets,
        threads=threads,
        max_request_body_size=MAX_FIRE_BODY_BYTES + 1,
        max_request_header_size=MAX_HEADER_BYTES,
        connection_limit=MAX_CONNECTIONS + ACCEPTED_BEYOND,
        backlog=MAX_CONNECTIONS,
        ident=None,
    )
    patience = Patience(most=MAX_CONNECTIONS, request_s=REQUEST_S, idle_s=max(5.0, idle_s) if idle_s else KEPT_ALIVE_S)
    own = len(connected)  # the listening sockets and what wakes the loop; any other is a connection
    last = time.monotonic()
    try:
        while True:
            poll2(min(_LOOK_EVERY_S, idle_s or _LOOK_EVERY_S), connected)
            patience.cut_the_slow(connected)
            now = time.monotonic()
            if len(connected) > own:
                last = now
            elif idle_s and now - last >= idle_s:
                break
    except SystemExit:
        pass  # a signal asked for the end: what is being answered is answered first
    finally:
        dispatcher = server.task_dispatcher
        dispatcher.shutdown(cancel_pending=True, timeout=30)


class _BoundedHandler(logging.Handler):
    """Writes what a library has to say as our own lines, so many a minute of each kind: strangers cause most of it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._log = BoundedLog()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, without its traceback: that may quote what was sent."""
        cause = record.exc_info[0] if record.exc_info else None
        text = record.getMessage() + ("" if cause is None else f": {cause.__name__}")
        self._log.write(f"{record.module}.{record.funcName}", text)


def bound_log(name: str) -> None:
    """Have a library's loggers write through a handler with bounds, and nowhere else."""
    logger = logging.getLogger(name)
    logger.handlers, logger.propagate = [_BoundedHandler()], False


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(address)
    return listening


def _stop(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
