"""HTTP to the agents, by aiohttp: kept connections, vetted addresses, no redirects, bounded answers, one deadline.

The address that is connected to is the one that was checked: the resolver below hands out none that the policy refuses.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from chronos_cli.nas_server.addresses import CallbackRefusedError
from chronos_cli.nas_server.relay.lookups import LookupPool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.nas_server.addresses import CallbackPolicy

MAX_ANSWER = 64 * 1024
CONNECT_S = 5.0
_IDLE_S = 50.0
_NAMES_S = 2
"""The time an address that was checked is used again: one look-up for a herd of connections to one host."""


class CallbackFailedError(Exception):
    """The agent could not be reached, or did not answer properly or in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackReply:
    """An agent's answer. `retry_after`: the header as it came; `body`: its beginning, up to MAX_ANSWER."""

    status: int
    retry_after: str | None
    body: bytes

    @property
    def text(self) -> str:
        """Return the beginning of the body."""
        return self.body[:200].decode("utf-8", "replace")


class _VettedResolver(AbstractResolver):
    """Addresses of a name, without those that the policy refuses."""

    def __init__(self, policy: CallbackPolicy, threads: LookupPool, *, secure: bool) -> None:
        self._policy, self._threads, self._secure = policy, threads, secure

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._threads.run(_caller.get(), _look_up, host, port, family)
        allowed = [one for one in found if self._policy.allows(_address(one[1]), secure=self._secure)]
        if not allowed:
            raise CallbackRefusedError(f"{host} leads to no address that may be called")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in allowed
        ]

    async def close(self) -> None:
        """Close nothing: nothing is held here."""


_caller: ContextVar[object] = ContextVar("caller", default=None)
_reused: ContextVar[bool] = ContextVar("reused")
"""True where the connection that the present call was given had been used before."""


class _Connector(aiohttp.TCPConnector):
    """Connections of one scheme; tells a call whether its own is a kept one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[object] = WeakSet()

    async def connect(self, *args: Any, **more: Any) -> Any:
        """Return a connection, kept or new."""
        connection = await super().connect(*args, **more)
        _reused.set(connection.protocol in self._used)
        self._used.add(connection.protocol)
        return connection


class CallbackClient:
    """Posts to agents, within one event loop: made in it, and closed there."""

    def __init__(self, policy: CallbackPolicy, *, timeout: float, context: ssl.SSLContext | None = None) -> None:
        # The policy never changes, and URLs are few beside timers.
        self._check_url = lru_cache(maxsize=4_096)(policy.check_url)
        self._threads = LookupPool()
        context = context or ssl.create_default_context()
        # One session a scheme: plain http may lead to loopback only, and the resolver is not told the scheme.
        self._sessions = {
            scheme: aiohttp.ClientSession(
                connector=_Connector(
                    resolver=_VettedResolver(policy, self._threads, secure=scheme == "https"),
                    ssl=context,
                    limit=0,
                    ttl_dns_cache=_NAMES_S,
                    keepalive_timeout=_IDLE_S,
                ),
                timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
            for scheme in ("https", "http")
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()
        self._threads.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, caller: object = None) -> CallbackReply:
        """Send `body` and return the answer; `caller` shares look-ups of names with others.

        Raises CallbackRefusedError and CallbackFailedError.
        """
        self._check_url(url)
        _caller.set(caller)
        _reused.set(False)
        try:
            try:
                return await self._exchange(url, body, headers)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not _reused.get():
                    raise
                # The agent had closed the idle connection; it has not begun to answer, so ask once more.
                return await self._exchange(url, body, headers)
        except CallbackRefusedError:
            raise
        except TimeoutError as error:
            raise CallbackFailedError("no answer in time") from error
        except aiohttp.ClientConnectorCertificateError as error:
            why = getattr(error.certificate_error, "verify_message", error.certificate_error)
            raise CallbackFailedError(f"the certificate does not hold: {why}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallbackFailedError(_words(error)) from error

    async def _exchange(self, url: str, body: bytes, headers: Mapping[str, str]) -> CallbackReply:
        session = self._sessions[url.partition(":")[0].lower()]
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            text = bytearray()
            while len(text) < MAX_ANSWER and (more := await response.content.read(MAX_ANSWER - len(text))):
                text += more
            if not response.content.at_eof():
                response.close()
            return CallbackReply(
                status=response.status, retry_after=response.headers.get("Retry-After"), body=bytes(text)
            )


def retry_after_s(header: str | None, now: float) -> float | None:
    """Return the seconds a Retry-After header asks for (RFC 9110, 10.2.3), or None where it cannot be read."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
        # The form of asctime bears no zone: all are GMT (RFC 9110, 5.6.7), not this process's zone.
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _look_up(host: str, port: int, family: int) -> list[tuple[socket.AddressFamily, str]]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return [(one[0], str(one[4][0])) for one in found]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text.partition("%")[0])


def _words(error: Exception) -> str:
    """Return why a call failed: what the system says where it could not connect, else the library's words."""
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno).lower()
    return f"{type(error).__name__}: {error}"
