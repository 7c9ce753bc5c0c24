"""The program that makes a job's HTTP request: told on stdin, answers on stdout, exit status 0 for a 2xx.

Started by its path, so it imports nothing of this package. It sets no time limit: the run's own ends it.
"""

from __future__ import annotations

import json
import ssl
import sys
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

SHOWN_BYTES: Final = 64 * 1024
MAX_REDIRECTS: Final = 5


class SameOrigin(HTTPRedirectHandler):
    """Follows a redirect only to the same scheme, host and port: headers may hold a key meant for that host alone."""

    max_redirections = MAX_REDIRECTS

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        """Return the request to make next, or None to take the redirect as the answer."""
        old, new = urlsplit(req.full_url), urlsplit(urljoin(req.full_url, newurl))
        if (old.scheme, old.hostname, old.port) != (new.scheme, new.hostname, new.port):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def main() -> int:
    """Make the request that stdin describes; the exit status."""
    spec = json.load(sys.stdin)
    shown = f"{spec['method']} {_without_credentials(spec['url'])}"
    request = Request(spec["url"], spec["body"].encode("utf-8", "surrogateescape") or None, method=spec["method"])  # noqa: S310 - scheme was checked
    request.add_header("User-Agent", "chronos-cron")
    for name, value in spec["headers"]:
        request.add_header(name, value)
    try:
        with build_opener(SameOrigin(), HTTPSHandler(context=_trust())).open(request) as response:
            return _show(shown, response.status, response.reason, response)
    except HTTPError as error:
        with error:
            return _show(shown, error.code, error.reason, error)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        print(f"{shown}: {reason}", flush=True)
        return 1


def _show(shown: str, status: int, reason: str, body: Any) -> int:
    ok = 200 <= status < 300
    data = body.read(SHOWN_BYTES + 1)
    out = sys.stdout.buffer
    out.write(f"HTTP {status} {reason}\n".encode("utf-8", "replace") + data[:SHOWN_BYTES])
    if data and not data.endswith(b"\n"):
        out.write(b"\n")
    if len(data) > SHOWN_BYTES:
        out.write(f"[the rest of the body after {SHOWN_BYTES} bytes is not shown]\n".encode())
    if not ok:
        out.write(f"{shown} answered {status} {reason}\n".encode("utf-8", "replace"))
    out.flush()
    return 0 if ok else 1


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    query = "?..." if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def _trust() -> ssl.SSLContext:
    """Return the machine's certificate authorities, or certifi's where this Python was built without any."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not (paths.cafile or paths.capath):
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context


if __name__ == "__main__":
    sys.exit(main())
