"""The little of HTTP that NAS needs: a request, a response, and their WSGI."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from chronos_cli.nas_server.bodies import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from chronos_cli.nas_server.timers.model import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer: bytes and their type, and further headers."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def start(self, start_response: StartResponse, *, head: bool) -> Iterable[bytes]:
        """Hand the answer to the WSGI server."""
        phrase = HTTPStatus(self.status).phrase
        start_response(
            f"{self.status} {phrase}",
            [
                ("Content-Type", self.content_type),
                ("Content-Length", str(len(self.body))),
                ("X-Content-Type-Options", "nosniff"),
                *self.headers,
            ],
        )
        return [] if head else [self.body]


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that a route reads."""

    environ: WSGIEnvironment = field(repr=False)

    def bearer(self) -> str | None:
        """The token of the Authorization header (RFC 6750, 2.1), or None."""
        scheme, _, token = str(self.environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
        token = token.strip()
        return token if scheme.lower() == "bearer" and token else None

    def body(self, most: int) -> bytes:
        """The whole body. Raises BadRequestError where it is over `most` bytes or has no readable length."""
        text = str(self.environ.get("CONTENT_LENGTH") or "0")
        if not text.isascii() or not text.isdigit():
            raise BadRequestError("the length of the body cannot be read")
        if int(text) > most:
            raise BadRequestError(f"the body is over {most} bytes", error="too_large", status=413)
        data: bytes = self.environ["wsgi.input"].read(int(text))
        return data

    def query(self) -> dict[str, str]:
        """The query's parameters. Raises BadRequestError for one that is given twice, or too many."""
        text = str(self.environ.get("QUERY_STRING", ""))
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=10)
        except ValueError as error:
            raise BadRequestError("there are too many parameters") from error
        parameters = dict(pairs)
        if len(parameters) != len(pairs):
            raise BadRequestError("a parameter is given twice")
        return parameters


def answer(document: dict[str, Any], *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """A JSON answer."""
    return Response(status=status, body=json.dumps(document, separators=(",", ":")).encode() + b"\n", headers=headers)


def refuse(refused: Refusal, *headers: tuple[str, str]) -> Response:
    """A refusal as its answer."""
    document = {"error": refused.error, "message": refused.message, **refused.extra}
    return answer(document, status=refused.status, headers=headers)
