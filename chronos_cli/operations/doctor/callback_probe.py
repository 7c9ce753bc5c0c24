"""Look at the callback URL from here: our callback answers, or another server, or none.

An unsigned fire is sent: our callback refuses it in a way of its own, and nothing else about it is at stake.
"""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus
from typing import Final

from chronos_cli.contract import FIRE_PATH
from chronos_cli.frozen import frozen

_TIMEOUT_S: Final = 5.0
_MOST: Final = 4096


class Responder(StrEnum):
    """Kind of server that answered."""

    OURS = "ours"
    MISCONFIGURED = "misconfigured"
    OTHER = "other"
    NOBODY = "nobody"


@frozen
class ProbeReply:
    """Answer at the fire route: whose it was, and in a few words how."""

    who: Responder
    how: str


def probe_callback(callback_url: str) -> ProbeReply:
    """Send an unsigned fire to the public address, following no redirect."""
    import requests
    import urllib3

    from chronos_cli.nas_client.transport import innermost_reason

    url = f"{callback_url.rstrip('/')}{FIRE_PATH}"
    try:
        with requests.post(url, json={}, timeout=_TIMEOUT_S, allow_redirects=False, stream=True) as answer:
            kind = answer.headers.get("Content-Type", "").partition(";")[0] or "no content type"
            body = answer.raw.read(_MOST, decode_content=True)
            where = answer.headers.get("Location", "").partition("?")[0]
            status = answer.status_code
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        return ProbeReply(who=Responder.NOBODY, how=f"{url}: {innermost_reason(error) or type(error).__name__}")
    how = f"{url} answers {status} {kind}" + (f", to {where!a}" if where else "")
    if status == 401 and _result_of(body) == "refused":
        return ProbeReply(who=Responder.OURS, how=how)
    if status == 503 and _result_of(body) == "error":
        return ProbeReply(who=Responder.MISCONFIGURED, how=how)
    return ProbeReply(who=Responder.OTHER, how=how)


def runners_told(callback_url: str) -> str | None:
    """Ask our callback, at /healthz below its address, why its runners start as they do; None where it does not say."""
    import requests
    import urllib3

    try:
        url = f"{callback_url.rstrip('/')}/healthz"
        with requests.get(url, timeout=_TIMEOUT_S, allow_redirects=False, stream=True) as answer:
            body = answer.raw.read(_MOST, decode_content=True) if answer.status_code == HTTPStatus.OK else b""
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError):
        return None  # from here its address may lead elsewhere, or nowhere
    told = _object_of(body).get("runner_because")
    return told if isinstance(told, str) else None


def _result_of(body: bytes) -> object:
    return _object_of(body).get("result")


def _object_of(body: bytes) -> dict[str, object]:
    import json

    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}  # a page, or nothing
    return document if isinstance(document, dict) else {}
