"""The little of HTTP that NAS needs: a request, which has its body only once its token was verified, and a response."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from chronos_cli.nas_server.bodies import BadRequestError

if TYPE_CHECKING:
    from chronos_cli.nas_server.timers.model import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer: bytes and their type, and further headers."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The parts of a request that a route reads. `operator`: it came to the operators' own address."""

    method: str
    path: str
    query_string: str = ""
    authorization: str = ""
    body: bytes = b""
    operator: bool = False

    def bearer(self) -> str | None:
        """Return the token of the Authorization header (RFC 6750, 2.1), or None."""
        scheme, _, token = self.authorization.partition(" ")
        token = token.strip()
        return token if scheme.lower() == "bearer" and token else None

    def query(self) -> dict[str, str]:
        """Return the query's parameters. Raises BadRequestError for one that is given twice, or too many."""
        try:
            pairs = parse_qsl(self.query_string, keep_blank_values=True, max_num_fields=10)
        except ValueError as error:
            raise BadRequestError("there are too many parameters") from error
        parameters = dict(pairs)
        if len(parameters) != len(pairs):
            raise BadRequestError("a parameter is given twice")
        return parameters


class RefusedRequestError(Exception):
    """A request that ends before its wish is read."""

    def __init__(self, refusal: Refusal, *headers: tuple[str, str]) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.headers = headers


def too_large(most: int) -> BadRequestError:
    """Return the refusal of a body over `most` bytes."""
    return BadRequestError(f"the body is over {most} bytes", error="too_large", status=413)


def answer(document: dict[str, Any], *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return a JSON answer."""
    return Response(status=status, body=json.dumps(document, separators=(",", ":")).encode() + b"\n", headers=headers)


def refuse(refused: Refusal, *headers: tuple[str, str]) -> Response:
    """Return a refusal as its answer; its own `retry_after`, in whole seconds, is the header too."""
    if "retry_after" in refused.extra:
        headers = (*headers, ("Retry-After", str(refused.extra["retry_after"])))
    document = {"error": refused.error, "message": refused.message, **refused.extra}
    return answer(document, status=refused.status, headers=headers)
