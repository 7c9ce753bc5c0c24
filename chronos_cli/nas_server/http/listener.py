"""The HTTP side of the process: waitress, run by hand so that stopping it can be graceful."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from chronos_cli.connections import ACCEPTED_BEYOND, Patience
from chronos_cli.errors import ConflictError

if TYPE_CHECKING:
    from chronos_cli.nas_server.http.app import NasApplication

WEB_THREADS = 16
MAX_CONNECTIONS = 900
REQUEST_S = 30.0
"""The time a whole request, header and body, may take to come, and its answer to be taken."""
KEPT_ALIVE_S = 60.0
STOP_WEB_S = 5.0


class Server:
    """Listens and answers until told to stop."""

    def __init__(self, application: NasApplication, host: str, port: int) -> None:
        from waitress import create_server  # type: ignore[import-untyped]
        from waitress.wasyncore import loop  # type: ignore[import-untyped]

        self._map: dict[int, Any] = {}
        self._loop = loop
        self._stopping = False
        try:
            self._server = create_server(
                application,
                map=self._map,
                host=host,
                port=port,
                threads=WEB_THREADS,
                connection_limit=MAX_CONNECTIONS + ACCEPTED_BEYOND,
                backlog=MAX_CONNECTIONS,
                max_request_header_size=32 * 1024,
                max_request_body_size=4 * 1024 * 1024,
                ident="chronos-nas",
                clear_untrusted_proxy_headers=True,
            )
        except OSError as error:
            hint = "stop what listens there, or choose --port"
            raise ConflictError(f"cannot listen on {host}:{port}: {error.strerror or error}", hint=hint) from error
        self.port = int(getattr(self._server, "effective_port", 0) or self._server.effective_listen[0][1])

    def run(self) -> None:
        """Serve until `stop`; then let the requests at hand end."""
        patience = Patience(most=MAX_CONNECTIONS, request_s=REQUEST_S, idle_s=KEPT_ALIVE_S)
        while not self._stopping:
            self._loop(timeout=1, use_poll=True, map=self._map, count=1)
            patience.look(self._map)
        for dispatcher in list(self._map.values()):
            if getattr(dispatcher, "accepting", False):
                dispatcher.del_channel()
                dispatcher.socket.close()
        deadline = time.monotonic() + STOP_WEB_S
        while time.monotonic() < deadline and any(_busy(channel) for channel in self._map.values()):
            self._loop(timeout=0.05, use_poll=True, map=self._map, count=1)
        self._server.task_dispatcher.shutdown(cancel_pending=True, timeout=1)

    def stop(self) -> None:
        """Make `run` end soon. Callable from a signal handler."""
        self._stopping = True
        for dispatcher in list(self._map.values()):
            if hasattr(dispatcher, "pull_trigger") and not hasattr(dispatcher, "accepting"):
                dispatcher.pull_trigger()
                return


def _busy(channel: Any) -> bool:
    return bool(getattr(channel, "requests", None)) or bool(getattr(channel, "total_outbufs_len", 0))
