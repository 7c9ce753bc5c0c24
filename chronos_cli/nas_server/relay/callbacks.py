"""HTTP to the agents: kept-alive connections per host, vetted addresses, no redirects, bounded answers, one deadline.

Built on http.client because the address that is connected to has to be chosen here, and because nothing of a session's
conveniences (redirects, cookies, proxies from the environment) is wanted.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chronos_cli.nas_server.addresses import CallbackRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.nas_server.addresses import CallbackPolicy

MAX_ANSWER = 64 * 1024
CONNECT_S = 5.0
_IDLE_PER_HOST = 32
_IDLE_S = 50.0
_GONE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


class CallbackFailedError(Exception):
    """The agent could not be reached, or did not answer properly or in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackReply:
    """An agent's answer. `retry_after`: the header as it came; `body`: at most 64 KiB of it."""

    status: int
    retry_after: str | None
    body: bytes

    @property
    def text(self) -> str:
        """The beginning of the body."""
        return self.body[:200].decode("utf-8", "replace")


class _Connection(http.client.HTTPConnection):
    """A connection to an address that the policy allows."""

    def __init__(self, name: str, port: int, policy: CallbackPolicy, context: ssl.SSLContext | None) -> None:
        super().__init__(name, port, timeout=CONNECT_S)
        self._policy = policy
        self._context = context
        self.used_at = 0.0

    def connect(self) -> None:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        secure = self._context is not None
        allowed = [one for one in found if self._policy.allows(_address(one[4][0]), secure=secure)]
        if not allowed:
            raise CallbackRefusedError(f"{self.host} leads to no address that may be called")
        failure: OSError | None = None
        for family, kind, protocol, _, address in allowed:
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(CONNECT_S)
                plain.connect(address)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.sock = (
                    plain if self._context is None else self._context.wrap_socket(plain, server_hostname=self.host)
                )
            except OSError as error:
                plain.close()
                failure = error
            else:
                return
        if failure is not None:
            raise failure


class CallbackClient:
    """Posts to agents. Safe to use from many threads."""

    def __init__(self, policy: CallbackPolicy, *, timeout: float, context: ssl.SSLContext | None = None) -> None:
        self._policy = policy
        self._timeout = timeout
        self._context = context or ssl.create_default_context()
        self._idle: dict[tuple[str, str, int], deque[_Connection]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._deadlines: dict[_Connection, float] = {}
        self._watching = False

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> CallbackReply:
        """Send `body` and return the answer. Raises CallbackRefusedError and CallbackFailedError."""
        self._policy.check_url(url)
        parts = urlsplit(url)
        name = str(parts.hostname)
        key = (parts.scheme, name, parts.port or (443 if parts.scheme == "https" else 80))
        kept = self._take(key)
        try:
            if kept is not None:
                try:
                    return self._exchange(key, kept, parts.path, body, headers)
                except _GONE:
                    # The agent had closed the idle connection; it has not begun to answer, so ask on a fresh one.
                    kept.close()
            context = self._context if parts.scheme == "https" else None
            return self._exchange(key, _Connection(name, key[2], self._policy, context), parts.path, body, headers)
        except CallbackRefusedError:
            raise
        except TimeoutError as error:
            raise CallbackFailedError("no answer in time") from error
        except ssl.SSLCertVerificationError as error:
            raise CallbackFailedError(f"the certificate does not hold: {error.verify_message}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CallbackFailedError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()

    def _exchange(
        self, key: tuple[str, str, int], connection: _Connection, path: str, body: bytes, headers: Mapping[str, str]
    ) -> CallbackReply:
        deadline = time.monotonic() + self._timeout
        keep = False
        self._watch(connection, deadline)
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(self._timeout)
            connection.request("POST", path, body=body, headers=dict(headers))
            with connection.getresponse() as response:
                text = response.read(MAX_ANSWER)
                keep = response.isclosed() and not response.will_close
            if time.monotonic() >= deadline:
                # Cut off by the watch: http.client takes the end of the stream for the end of the headers.
                raise TimeoutError
            return CallbackReply(
                status=response.status,
                retry_after=response.headers.get("Retry-After"),
                body=text,
            )
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= deadline:
                raise TimeoutError from error
            raise
        finally:
            with self._lock:
                self._deadlines.pop(connection, None)
            if keep:
                self._give(key, connection)
            else:
                connection.close()

    def _take(self, key: tuple[str, str, int]) -> _Connection | None:
        now = time.monotonic()
        with self._lock:
            idle = self._idle[key]
            while idle:
                connection = idle.pop()
                if now - connection.used_at < _IDLE_S:
                    return connection
                connection.close()
            del self._idle[key]
        return None

    def _give(self, key: tuple[str, str, int], connection: _Connection) -> None:
        connection.used_at = time.monotonic()
        with self._lock:
            idle = self._idle[key]
            idle.append(connection)
            spare = idle.popleft() if len(idle) > _IDLE_PER_HOST else None
        if spare is not None:
            spare.close()

    def _watch(self, connection: _Connection, deadline: float) -> None:
        with self._lock:
            self._deadlines[connection] = deadline
            if self._watching:
                return
            self._watching = True
        threading.Thread(target=self._cut_late, name="relay-deadlines", daemon=True).start()

    def _cut_late(self) -> None:
        """Cut connections that are past their deadline: an answer that drips never runs into a socket's timeout."""
        while True:
            time.sleep(0.5)
            now = time.monotonic()
            with self._lock:
                late = [connection for connection, deadline in self._deadlines.items() if deadline <= now]
                if not self._deadlines:
                    self._watching = False
                    return
            for connection in late:
                if connection.sock is not None:
                    # Already closed by the other side: that is what was wanted.
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)


def retry_after_s(header: str | None, now: float) -> float | None:
    """The seconds a Retry-After header asks for (RFC 9110, 10.2.3), or None where it cannot be read."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _address(text: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(str(text).partition("%")[0])
