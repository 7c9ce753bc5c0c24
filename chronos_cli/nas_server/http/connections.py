"""Connections of the web side, and the end of patience with each.

A request has to be complete, and its answer to be taken, within a time of its own; of too many that are waited for, the
one waited for longest is cut, which makes room for the next. So no client is shut out by others that send a byte now
and then.
"""

from __future__ import annotations

import time
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from chronos_cli.nas_server.http.web import answer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

REQUEST_S = 30.0
"""The time a whole request, header and body, may take to come, and its answer to be taken."""
KEPT_ALIVE_S = 60.0
LINGER_S = 2.0
"""The time for which the rest of a body that is not wanted is thrown away, so that its refusal can be read."""


class Phase(Enum):
    """Waits that a connection may be in; SERVED is none."""

    IDLE = auto()
    REQUEST = auto()
    SERVED = auto()
    ANSWER = auto()


LIMITS_S = {Phase.IDLE: KEPT_ALIVE_S, Phase.REQUEST: REQUEST_S, Phase.ANSWER: REQUEST_S}


class ConnectionWatch:
    """The connections of one server; at most `most` may be waited for."""

    def __init__(self, *, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self.clock = clock
        self.connections: set[Connection] = set()

    def opened(self, connection: Connection) -> None:
        """Count a new one, and cut the one waited for longest where there are too many."""
        self.connections.add(connection)
        if len(self.connections) > self._most:
            waiting = [one for one in self.connections if one.phase is not Phase.SERVED]
            if len(waiting) > self._most:
                self._cut(min(waiting, key=lambda one: one.since))

    def cut_the_slow(self) -> None:
        """Cut what has been waited for too long. Call it now and then."""
        now = self.clock()
        for one in list(self.connections):
            if now - one.since >= LIMITS_S.get(one.phase, float("inf")):
                self._cut(one)

    def _cut(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if connection.transport is not None:
            connection.transport.abort()


class Connection(RequestHandler):
    """A connection that knows what it is waited for, and since when."""

    def __init__(self, patience: ConnectionWatch, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._patience = patience
        self.phase = Phase.IDLE
        self.since = patience.clock()

    def enter(self, phase: Phase) -> None:
        """Go over to another phase."""
        self.phase, self.since = phase, self._patience.clock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        super().connection_made(transport)
        self.enter(Phase.REQUEST)
        self._patience.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        self._patience.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Note when a request begins."""
        if self.phase is Phase.IDLE:
            self.enter(Phase.REQUEST)
        super().data_received(data)

    async def finish_response(self, *args: Any) -> Any:
        """Note when an answer begins to be taken, and when it was."""
        self.enter(Phase.ANSWER)
        try:
            return await super().finish_response(*args)
        finally:
            self.enter(Phase.IDLE)

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is no HTTP in our own shape, and say nothing of what it was."""
        del exc, message
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        code, text = ("fault", "a fault of ours") if status >= 500 else ("invalid_request", "this is no HTTP request")
        reply = web.Response(
            status=status,
            body=answer({"error": code, "message": text}).body,
            headers={"Content-Type": "application/json", "Server": "chronos-nas"},
        )
        reply.force_close()
        return reply


class ConnectionFactory(web.Server):
    """Makes the connections of one listening address."""

    def __init__(self, handler: Any, patience: ConnectionWatch, **more: Any) -> None:
        super().__init__(handler, **more)
        self._patience = patience

    def __call__(self) -> Connection:
        """Make one."""
        return Connection(
            self._patience,
            self,
            loop=self._loop,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEPT_ALIVE_S * 2,
            lingering_time=LINGER_S,
        )
