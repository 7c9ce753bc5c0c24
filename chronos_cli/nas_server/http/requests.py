"""Request bodies: from JSON to timer requests, or a refusal that says what is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chronos_cli.contract import is_job_id, parse_fire_at
from chronos_cli.nas_server.addresses import CallbackRefusedError
from chronos_cli.nas_server.timers.model import Cancel, Provision, Refusal

if TYPE_CHECKING:
    from chronos_cli.nas_server.addresses import CallbackPolicy
    from chronos_cli.nas_server.timers.model import Agent, TimerRequest

MAX_GENERATION = 2**63 - 1
MAX_DEDUP_KEY = 512
_JOB_ID = "job_id must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}"


class BadRequestError(ValueError):
    """The request cannot be understood; `refusal` is the answer to it."""

    def __init__(self, message: str, *, error: str = "invalid_request", status: int = 400) -> None:
        super().__init__(message)
        self.refusal = Refusal(status=status, error=error, message=message)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises BadRequestError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError("the body is not JSON") from error
    if not isinstance(document, dict):
        raise BadRequestError("the body is no JSON object")
    return document


def provision(document: dict[str, Any], agent: Agent, policy: CallbackPolicy, max_timers: int) -> Provision:
    """The wish in a provision body. Raises BadRequestError."""
    job_id = document.get("job_id")
    if not is_job_id(job_id):
        raise BadRequestError(_JOB_ID)
    text = document.get("fire_at")
    try:
        moment = parse_fire_at(text)
    except ValueError as error:
        raise BadRequestError("fire_at must be ISO 8601 with an offset, like 2026-11-20T15:34:15+00:00") from error
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise BadRequestError("fire_at must be printable ASCII")
    key = document.get("dedup_key")
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= MAX_DEDUP_KEY):
        raise BadRequestError(f"dedup_key must be a text of 1 to {MAX_DEDUP_KEY} characters")
    try:
        url, host = policy.check_url(document.get("agent_callback_url"))
    except CallbackRefusedError as error:
        raise BadRequestError(f"agent_callback_url: {error}", error="callback_refused") from error
    return Provision(
        agent_id=agent.id,
        job_id=str(job_id),
        fire_at=int(moment.timestamp()),
        fire_text=text,
        callback_url=url,
        host=host,
        generation=_generation(document),
        max_timers=agent.max_timers or max_timers,
    )


def cancel(document: dict[str, Any], agent: Agent) -> Cancel:
    """The wish in a cancel body. Raises BadRequestError."""
    job_id = document.get("job_id")
    if not is_job_id(job_id):
        raise BadRequestError(_JOB_ID)
    return Cancel(agent_id=agent.id, job_id=str(job_id), generation=_generation(document))


def batch(
    document: dict[str, Any], agent: Agent, policy: CallbackPolicy, max_timers: int, *, most: int
) -> list[TimerRequest | Refusal]:
    """The wishes in a batch body, each item that is malformed as its refusal. Raises BadRequestError for the whole."""
    items = document.get("items")
    if not isinstance(items, list):
        raise BadRequestError("items must be a list")
    if len(items) > most:
        raise BadRequestError(f"a batch holds at most {most} items", error="too_large", status=413)
    wishes: list[TimerRequest | Refusal] = []
    for item in items:
        try:
            if not isinstance(item, dict) or item.get("op") not in ("provision", "cancel"):
                raise BadRequestError("op must be provision or cancel")
            if item["op"] == "cancel":
                wishes.append(cancel(item, agent))
            else:
                wishes.append(provision(item, agent, policy, max_timers))
        except BadRequestError as error:
            wishes.append(error.refusal)
    return wishes


def _generation(document: dict[str, Any]) -> int | None:
    value = document.get("generation")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_GENERATION:
        raise BadRequestError("generation must be a whole number from 0 to 2^63-1")
    return value
