"""Request bodies: from JSON to timer requests, or a refusal that says what is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chronos_cli.contract import (
    FEATURE_ARM_IN_ANSWER,
    FEATURE_CALLBACK_PROOF,
    KEEP,
    MAX_DEDUP_KEY,
    MAX_GENERATION,
    MAX_TOLERANCE_S,
    is_job_id,
    parse_fire_at,
)
from chronos_cli.nas_server.addresses import CallbackRefusedError
from chronos_cli.nas_server.timers.model import Cancel, NextWake, Provision, Refusal

if TYPE_CHECKING:
    from chronos_cli.nas_server.addresses import CallbackPolicy
    from chronos_cli.nas_server.timers.model import Agent, TimerRequest

MAX_ACCEPTS = 32
_JOB_ID = "job_id must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}"


class BadRequestError(ValueError):
    """The request cannot be understood; `refusal` is the answer to it."""

    def __init__(self, message: str, *, error: str = "invalid_request", status: int = 400) -> None:
        super().__init__(message)
        self.refusal = Refusal(status=status, error=error, message=message)


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises BadRequestError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError("the body is not JSON") from error
    if not isinstance(document, dict):
        raise BadRequestError("the body is no JSON object")
    return document


def provision(document: dict[str, Any], agent: Agent, policy: CallbackPolicy, max_timers: int) -> Provision:
    """Return the wish in a provision body. Raises BadRequestError."""
    job_id = document.get("job_id")
    if not is_job_id(job_id):
        raise BadRequestError(_JOB_ID)
    fire_at, text = _instant(document)
    _check_key(document.get("dedup_key"))
    try:
        url, host = policy.check_url(document.get("agent_callback_url"))
    except CallbackRefusedError as error:
        raise BadRequestError(f"agent_callback_url: {error}", error="callback_refused") from error
    accepts = _accepts(document)
    return Provision(
        agent_id=agent.id,
        job_id=str(job_id),
        fire_at=fire_at,
        fire_text=text,
        callback_url=url,
        host=host,
        generation=_generation(document),
        max_timers=agent.max_timers or max_timers,
        accepts=accepts & {FEATURE_ARM_IN_ANSWER},
        proves=FEATURE_CALLBACK_PROOF in accepts,
        tolerance=_tolerance(document),
    )


def cancel(document: dict[str, Any], agent: Agent) -> Cancel:
    """Return the wish in a cancel body. Raises BadRequestError."""
    job_id = document.get("job_id")
    if not is_job_id(job_id):
        raise BadRequestError(_JOB_ID)
    return Cancel(agent_id=agent.id, job_id=str(job_id), generation=_generation(document))


def batch(
    document: dict[str, Any], agent: Agent, policy: CallbackPolicy, max_timers: int, *, most: int
) -> list[TimerRequest | Refusal]:
    """Return the wishes in a batch body, each item that is malformed as its refusal.

    Raises BadRequestError for the whole.
    """
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


def next_wake(body: bytes) -> NextWake | None:
    """Return what the 2xx to a fire wants armed, None for `keep`. Raises BadRequestError where it does not say."""
    document = read_object(body).get("next")
    if document == KEEP:
        return None
    if not isinstance(document, dict):
        raise BadRequestError("next must be an object, or keep")
    generation = _generation(document)
    if generation is None:
        raise BadRequestError("next needs a generation")
    if document.get("none") is True:
        if document.get("fire_at") is not None:
            raise BadRequestError("next names an instant, and none")
        return NextWake(generation=generation)
    fire_at, text = _instant(document)
    if document.get("dedup_key") is None:
        raise BadRequestError("next needs a dedup_key")
    _check_key(document["dedup_key"])
    return NextWake(generation=generation, fire_at=fire_at, fire_text=text, tolerance=_tolerance(document))


def _instant(document: dict[str, Any]) -> tuple[int, str]:
    text = document.get("fire_at")
    try:
        moment = parse_fire_at(text)
    except ValueError as error:
        raise BadRequestError("fire_at must be ISO 8601 with an offset, like 2026-11-20T15:34:15+00:00") from error
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise BadRequestError("fire_at must be printable ASCII")
    return int(moment.timestamp()), text


def _check_key(key: object) -> None:
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= MAX_DEDUP_KEY):
        raise BadRequestError(f"dedup_key must be a text of 1 to {MAX_DEDUP_KEY} characters")


def _accepts(document: dict[str, Any]) -> frozenset[str]:
    """Return the features in `accepts` that are known here; others are of another version."""
    value = document.get("accepts")
    if value is None:
        return frozenset()
    if not isinstance(value, list) or len(value) > MAX_ACCEPTS or not all(isinstance(one, str) for one in value):
        raise BadRequestError(f"accepts must be a list of at most {MAX_ACCEPTS} texts")
    return frozenset(value) & {FEATURE_ARM_IN_ANSWER, FEATURE_CALLBACK_PROOF}


def _tolerance(document: dict[str, Any]) -> int:
    value = document.get("tolerance")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOLERANCE_S:
        raise BadRequestError(f"tolerance must be whole seconds from 0 to {MAX_TOLERANCE_S}")
    return value


def _generation(document: dict[str, Any]) -> int | None:
    value = document.get("generation")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_GENERATION:
        raise BadRequestError("generation must be a whole number from 0 to 2^63-1")
    return value
