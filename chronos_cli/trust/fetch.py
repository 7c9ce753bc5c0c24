"""One GET for a JWKS, bounded in time and size, following nothing and sending nothing secret."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import KeysUnavailableError
from chronos_cli.frozen import frozen
from chronos_cli.trust.keys import MAX_KEYS_BYTES
from chronos_cli.trust.settings import is_loopback

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

_CHUNK: Final = 16 * 1024
_OK: Final = 200


@frozen
class KeyDocument:
    """The body of a JWKS answer, and the seconds that its Cache-Control allows to keep it (None: it does not say)."""

    body: bytes
    max_age: int | None


def fetch_jwks(url: str, timeout_s: float) -> KeyDocument:
    """Fetch the JWKS within `timeout_s` seconds in all. Raises KeysUnavailableError.

    requests is used as for the other calls to NAS, so that one set of proxy and CA variables counts for all of them.
    Its time-outs are per read and do not bound name resolution, so a thread does the work and we stop waiting for it.
    """
    from chronos_cli.abandon import within

    late, deadline = _failed(url, f"no complete answer within {timeout_s:g} s"), time.monotonic() + timeout_s
    return within(timeout_s + 0.1, lambda: _get(url, deadline, timeout_s), late, name="chronos-jwks")


def _failed(url: str, reason: str) -> KeysUnavailableError:
    return KeysUnavailableError(f"the keys at {url} could not be fetched: {reason}")


def _get(url: str, deadline: float, timeout_s: float) -> KeyDocument:
    import requests

    from chronos_cli import __version__

    headers = {"User-Agent": f"chronos-cron/{__version__}", "Accept": "application/jwk-set+json, application/json"}
    try:
        with requests.Session() as session:
            session.trust_env = not is_loopback(url)
            session.auth = _send_no_credentials
            with session.get(url, headers=headers, timeout=timeout_s, allow_redirects=False, stream=True) as response:
                if response.status_code != _OK:
                    follow = "; redirects are not followed" if response.is_redirect else ""
                    raise _failed(url, f"NAS answered {response.status_code}{follow}")
                return KeyDocument(body=_body(url, response, deadline), max_age=_max_age(response))
    except requests.Timeout as error:
        raise _failed(url, f"no answer within {timeout_s:g} s") from error
    except requests.exceptions.SSLError as error:
        raise _failed(url, "its certificate was not accepted") from error
    except requests.ConnectionError as error:
        raise _failed(url, "the connection failed") from error
    except requests.RequestException as error:
        raise _failed(url, type(error).__name__) from error


def _send_no_credentials(request: PreparedRequest) -> PreparedRequest:
    """Keep requests from looking into ~/.netrc: keys are public, and a password for that host is not for this."""
    return request


def _body(url: str, response: Response, deadline: float) -> bytes:
    body = b""
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > MAX_KEYS_BYTES:
            raise _failed(url, f"the answer is larger than {MAX_KEYS_BYTES} bytes")
        if time.monotonic() > deadline:
            raise _failed(url, "the answer took too long")
    return body


def _max_age(response: Response) -> int | None:
    """Return `max-age` of Cache-Control (RFC 9111), 0 for no-cache and no-store, None where it says neither."""
    found = None
    for directive in response.headers.get("Cache-Control", "").lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name in ("no-cache", "no-store"):
            return 0
        digits = value.strip('"')
        if name == "max-age" and digits.isdecimal() and digits.isascii() and len(digits) <= 10:
            found = int(digits)
    return found
