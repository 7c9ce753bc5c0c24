"""Read a fire request from a WSGI environ: bounded, strict, and nothing else is touched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import FIRE_PATH, MAX_FIRE_BODY_BYTES, PROOF_PATH, is_job_id
from chronos_cli.errors import UsageError
from chronos_cli.trust.tokens import parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from wsgiref.types import InputStream

MAX_HEADER_CHARS: Final = 16 * 1024
"""One header, the token's included; servers bound the sum."""

_PROFILE: Final = "/p/"
_HINT: Final = "send the JSON object of a fire, with its length, as NAS does"


class TooLargeError(UsageError):
    """The request body is too large."""

    code = "too_large"
    http_status = 413
    default_hint = "send at most 64 KiB"


def profile_of(path: str, end: str = FIRE_PATH) -> str | None:
    """Return the profile that a path to `end` names: "" on the plain path, None where it is no such path of ours.

    One slash at the end is taken: some proxies add it.
    """
    path = path.removesuffix("/")
    if path == end:
        return ""
    if path.startswith(_PROFILE) and path.endswith(end):
        name = path[len(_PROFILE) : -len(end)]
        return name if is_job_id(name) else None
    return None


def is_astray(path: str) -> bool:
    """Return whether a path that is not ours was meant by NAS: a prefix that a proxy kept, or doubled slashes."""
    return re.sub("/+", "/", path).removesuffix("/").endswith((FIRE_PATH, PROOF_PATH))


def bearer_token(environ: Mapping[str, Any]) -> str | None:
    """Return the token of the Authorization header, or None where there is none that could be one."""
    header = environ.get("HTTP_AUTHORIZATION", "")
    if not isinstance(header, str) or len(header) > MAX_HEADER_CHARS:
        return None
    scheme, _, token = header.partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def read_body(environ: Mapping[str, Any]) -> bytes:
    """Return the body, at most 64 KiB.

    Raises UsageError where its length is absent or nonsense, TooLargeError past that.
    """
    text = environ.get("CONTENT_LENGTH") or ""
    if environ.get("wsgi.input_terminated") and not text:
        data = _read(environ["wsgi.input"], MAX_FIRE_BODY_BYTES + 1)
    else:
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise UsageError("the request has no usable Content-Length", hint=_HINT)
        length = int(text)
        if length > MAX_FIRE_BODY_BYTES:
            raise TooLargeError
        data = _read(environ["wsgi.input"], length)
        if len(data) != length:
            raise UsageError("the request body is shorter than its Content-Length", hint=_HINT)
    if len(data) > MAX_FIRE_BODY_BYTES:
        raise TooLargeError
    return data


def _read(stream: InputStream, length: int) -> bytes:
    try:
        return stream.read(length)
    except OSError as error:  # the client went away, or the server found its chunks broken
        raise UsageError("the request body could not be read", hint=_HINT) from error


def parse_fire(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a fire.

    Raises UsageError for anything else, duplicate names and deep nesting included.
    """
    try:
        return parse_object(data)
    except ValueError as error:
        raise UsageError("the body is not a JSON object", hint=_HINT) from error
