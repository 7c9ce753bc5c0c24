"""One HTTP exchange with NAS, over connections that are kept alive.

Imported only when NAS is spoken to: `requests` takes longer to import than everything else a command needs.
"""

from __future__ import annotations

import time
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from chronos_cli import __version__
from chronos_cli.config import is_loopback
from chronos_cli.errors import ConfigError, NasUnavailableError
from chronos_cli.nas_client.answers import NasReply, clean, read_date, read_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

USER_AGENT: Final = f"chronos/{__version__}"
_CHUNK = 64 * 1024
_LEAST_TIMEOUT_S = 0.01


class _Session(requests.Session):
    """A session that never looks where a redirect points; the library would read that answer's body without bound."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        del resp


class Transport:
    """Carries requests to one NAS. Safe to share between threads."""

    def __init__(
        self, base_url: str, *, connections: int, clock: Callable[[], float], now: Callable[[], float] = time.time
    ) -> None:
        parts = urlsplit(base_url)
        self._base = base_url
        self._clock = clock
        self._now = now
        self.nas = f"NAS at {parts.netloc}"
        # On this machine a proxy has no business, and plain http is allowed only because no other machine can listen.
        self._proxies = {"no_proxy": parts.hostname or ""} if is_loopback(parts.hostname or "") else {}
        self._session = _Session()
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json"})
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = HTTPAdapter(pool_connections=2, pool_maxsize=connections, max_retries=0)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def exchange(
        self,
        method: str,
        path: str,
        *,
        token: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        timeout_s: float,
        max_bytes: int,
    ) -> NasReply:
        """Send one request and read its whole answer, of any status.

        `timeout_s` bounds each wait, and the reading of the body in all. Raises NasUnavailableError where no answer
        came (or one over `max_bytes`), ConfigError where the library cannot even send it.
        """
        deadline = self._clock() + timeout_s
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            with self._session.request(
                method,
                f"{self._base}{path}",
                params=params,
                data=body,
                headers=headers,
                # As `auth`, not as a header: a .netrc entry for the host would replace the header.
                auth=_bearer(token),
                timeout=max(timeout_s, _LEAST_TIMEOUT_S),
                proxies=self._proxies,
                allow_redirects=False,
                stream=True,
            ) as response:
                return self._reply(response, deadline, timeout_s, max_bytes)
        except _UNUSABLE as error:
            raise ConfigError(f"{self.nas} cannot be called: {clean(str(error), token)}") from None
        except _FAILURES as error:
            # `from None`: the library's error holds the request, and with it the token.
            raise NasUnavailableError(f"{self.nas} {_told(error, timeout_s, token)}") from None

    def close(self) -> None:
        """Close all connections that are not in use."""
        self._session.close()

    def _reply(self, response: requests.Response, deadline: float, timeout_s: float, max_bytes: int) -> NasReply:
        chunks: list[bytes] = []
        size = 0
        for chunk in response.iter_content(_CHUNK):
            size += len(chunk)
            if size > max_bytes:
                raise NasUnavailableError(f"{self.nas} answered with more than {max_bytes} bytes")
            if self._clock() > deadline:
                raise NasUnavailableError(f"{self.nas} did not end its answer within {timeout_s:.3g} s")
            chunks.append(chunk)
        date = read_date(response.headers.get("Date"))
        return NasReply(
            status=response.status_code,
            body=b"".join(chunks),
            nas=self.nas,
            redirect=_origin(response.headers.get("Location", "")),
            date=date,
            wait_s=read_wait(response.headers.get("Retry-After"), date, self._now()),
        )


_UNUSABLE = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidProxyURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
)
_FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
"""OSError: a certificate file that is not there, a socket that broke while the body was read."""


def _bearer(token: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign


def _origin(location: str) -> str:
    """Return scheme and host of a redirect's target: its path may hold what is not ours to print."""
    try:
        parts = urlsplit(location)
    except ValueError:  # not a URL
        return ""
    return f"{parts.scheme}://{parts.hostname}" if parts.hostname else ""


def _told(error: Exception, timeout_s: float, token: str) -> str:
    """Return what went wrong on the way, in words."""
    if isinstance(error, requests.exceptions.ProxyError):
        return f"could not be reached through the proxy: {_reason(error, token)}"
    if isinstance(error, requests.exceptions.SSLError):
        return f"could not be trusted: {_reason(error, token)}"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"did not take the connection within {timeout_s:.3g} s"
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error):
        return f"did not answer within {timeout_s:.3g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return "broke off its answer"
    return f"could not be reached: {_reason(error, token)}"


def _reason(error: BaseException, token: str) -> str:
    return clean(innermost_reason(error) or str(error), token) or type(error).__name__


def innermost_reason(error: BaseException) -> str | None:
    """Return the system's own error at the end of a chain of wrapped ones, as `Connection refused`."""
    seen: set[int] = set()
    reason = None
    inner: object = error
    while isinstance(inner, BaseException) and id(inner) not in seen:
        seen.add(id(inner))
        if isinstance(inner, OSError) and inner.strerror:
            reason = inner.strerror
        wrapped = [getattr(inner, "reason", None), *inner.args, inner.__cause__, inner.__context__]
        inner = next((item for item in wrapped if isinstance(item, BaseException) and id(item) not in seen), None)
    return reason
