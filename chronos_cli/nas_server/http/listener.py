"""The HTTP side of the process: one loop that reads requests, and threads that answer them.

A body is read only after the application has let its request in by its header, so that a stranger's costs nothing.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chronos_cli.errors import ConflictError
from chronos_cli.nas_server.bodies import BadRequestError
from chronos_cli.nas_server.http.web import Request, Response, refuse, too_large

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronos_cli.nas_server.http.app import NasApplication

WEB_THREADS = 16
OPERATOR_THREADS = 2
MAX_CONNECTIONS = 900
STOP_WEB_S = 5.0
_LOOK_S = 1.0


class Server:
    """Listens and answers until told to stop. `operator`: a second address, where operators need no token."""

    def __init__(
        self, application: NasApplication, host: str, port: int, *, operator: tuple[str, int] | None = None
    ) -> None:
        self._application = application
        self._sockets = _listen(host, port)
        self.port = int(self._sockets[0].getsockname()[1])
        try:
            self._operators = [] if operator is None else _listen(*operator, "--operator-listen")
        except ConflictError:
            _close(self._sockets)
            raise
        self.operator_port = int(self._operators[0].getsockname()[1]) if self._operators else None
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._busy = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._agents = ThreadPoolExecutor(WEB_THREADS, thread_name_prefix="web")
        self._others = ThreadPoolExecutor(OPERATOR_THREADS, thread_name_prefix="operators")

    def run(self) -> None:
        """Serve until `stop`; then let the requests at hand end."""
        asyncio.run(self._serve())

    def stop(self) -> None:
        """Make `run` end soon. Callable from a signal handler."""
        self._stopping = True
        if self._loop is not None and self._stopped is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stopped.set)

    async def _serve(self) -> None:
        from chronos_cli.nas_server.http.connections import ConnectionFactory, ConnectionWatch

        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        if self._stopping:
            self._stopped.set()
        patience = ConnectionWatch(most=MAX_CONNECTIONS)
        factories = [ConnectionFactory(self._answer, patience), ConnectionFactory(self._answer_operator, patience)]
        listening = [
            await self._loop.create_server(factory, sock=one, backlog=MAX_CONNECTIONS)
            for factory, sockets in zip(factories, (self._sockets, self._operators), strict=True)
            for one in sockets
        ]
        while not self._stopped.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), _LOOK_S)
            patience.cut_the_slow()
        for server in listening:
            server.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), STOP_WEB_S)
        for factory in factories:
            await factory.shutdown(0.5)
        for pool in (self._agents, self._others):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _answer_operator(self, request: Any) -> Any:
        return await self._answer(request, operator=True)

    async def _answer(self, request: Any, *, operator: bool = False) -> Any:
        from aiohttp import web

        self._busy += 1
        self._quiet.clear()
        try:
            reply = await self._reply(request, operator=operator)
        finally:
            self._busy -= 1
            if not self._busy:
                self._quiet.set()
        headers = {"Content-Type": reply.content_type, "X-Content-Type-Options": "nosniff", "Server": "chronos-nas"}
        return web.Response(status=reply.status, body=reply.body, headers=headers | dict(reply.headers))

    async def _reply(self, raw: Any, *, operator: bool) -> Response:
        from chronos_cli.nas_server.http.connections import Phase

        application, loop = self._application, asyncio.get_running_loop()
        request = Request(
            method="GET" if raw.method == "HEAD" else raw.method,
            path=raw.path,
            query_string=raw.rel_url.raw_query_string,
            authorization=raw.headers.get("Authorization", ""),
            operator=operator,
        )
        pool = self._agents if application.is_for_agents(request.path) else self._others
        if application.admits_at_once(request):
            admitted = application.admit(request)
        else:
            admitted = await loop.run_in_executor(pool, application.admit, request)
        if isinstance(admitted, Response):
            return admitted
        body = b""
        if admitted.most:
            try:
                body = await _read(raw, admitted.most)
            except BadRequestError as error:
                return application.counted(request, refuse(error.refusal))
        raw.protocol.enter(Phase.SERVED)
        return await loop.run_in_executor(pool, application.answer, admitted, body)


async def _read(raw: Any, most: int) -> bytes:
    """Read a body of at most `most` bytes into memory. Raises BadRequestError."""
    from aiohttp import web

    if raw.content_length is not None and raw.content_length > most:
        raise too_large(most)
    if raw.headers.get("Expect", "").lower() == "100-continue":
        raw.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    data = bytearray()
    try:
        async for chunk in raw.content.iter_any():
            data += chunk
            if len(data) > most:
                raise too_large(most)
    except web.RequestPayloadError as error:
        raise BadRequestError("the body cannot be read") from error
    return bytes(data)


def _listen(host: str, port: int, option: str = "--port") -> Sequence[socket.socket]:
    """Bind each address of a host, all to one port, which `option` names. Raises ConflictError."""
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            chosen = sockets[0].getsockname()[1] if port == 0 and len(sockets) > 1 else port
            one.bind((address[0], chosen, *address[2:]))
            one.listen(MAX_CONNECTIONS)
    except OSError as error:
        _close(sockets)
        hint = f"stop what listens there, or choose another with {option}"
        raise ConflictError(f"cannot listen on {host}:{port}: {error.strerror or error}", hint=hint) from error
    return sockets


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()
