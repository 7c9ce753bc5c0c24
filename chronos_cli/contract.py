"""The wire contract between agent and NAS: names, shapes and limits.

docs/chronos-managed-cron-contract.md states it in prose.

Shared by the agent's side and NAS, which share nothing else. Pure: no I/O, no clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

PROVISION_PATH: Final = "/api/agent-cron/provision"
CANCEL_PATH: Final = "/api/agent-cron/cancel"
LIST_PATH: Final = "/api/agent-cron/list"
BATCH_PATH: Final = "/api/agent-cron/batch"
FIRE_PATH: Final = "/api/cron/fire"
PROOF_PATH: Final = "/api/cron/proof"
JWKS_PATH: Final = "/.well-known/jwks.json"

FIRE_PURPOSE: Final = "cron_fire"
"""The `purpose` claim: a token minted for anything else must not start a job."""

PROOF_PURPOSE: Final = "callback_proof"
"""The `purpose` of the token with which NAS asks a callback whose it is; it starts nothing."""

FIRE_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "ES256", "ES384")
"""Asymmetric only. The header of a token never decides; it has to name one of these."""

FIRE_REQUIRED_CLAIMS: Final = ("aud", "iss", "exp")
FIRE_LEEWAY_S: Final = 30
FIRE_MAX_LIFE_S: Final = 3600
"""The longest that a fire token is good for. One for years would be a password, and would have to be kept like one."""

REFUSED_FOR_GOOD: Final = "invalid_client"
"""The `error` of a 403 that no retry can cure: this identity is not provisioned as an agent."""

CALLBACK_UNPROVEN: Final = "callback_unproven"
"""The `error` of a 422: NAS wants proof first that the callback is this agent's, and has none."""

CLIENT_TIMEOUT_S: Final = 15.0
MAX_FIRE_BODY_BYTES: Final = 64 * 1024
MAX_BATCH: Final = 1_000

FEATURE_BATCH: Final = "batch"
FEATURE_GENERATION: Final = "generation"
FEATURE_KEEPS_SLOT: Final = "keeps-slot"
FEATURE_ARM_IN_ANSWER: Final = "arm-in-answer"
FEATURE_SPREAD: Final = "spread"
FEATURE_DELIVERIES: Final = "deliveries"
FEATURE_CALLBACK_PROOF: Final = "callback-proof"
"""Optional abilities a NAS may name under `features` in its answers to provision and list; absent means none.
`keeps-slot`: the outcome of a delivery never touches an arm that arrived while it was under way. `arm-in-answer`: a
fire whose token says `arm: answer` takes the job's next wake from the body of its 2xx. `spread`: a wish may state a
tolerance in seconds, within which its fire may come. `deliveries`: a list tells of failed attempts. `callback-proof`: a
callback that a wish says is able to is asked once whose it is."""

ARM_CLAIM: Final = "arm"
ARM_BY_ANSWER: Final = "answer"
"""The claim of a fire token, and its value, by which the answer has to carry `next`."""

KEEP: Final = "keep"
"""The `next` of an answer that leaves NAS's slot for the job as it is."""

MAX_GENERATION: Final = 2**63 - 1
MAX_COUNTED_GENERATION: Final = 2**63 - 1_000_000
"""From here on a generation that was heard leaves no room to count on from it."""

MAX_DEDUP_KEY: Final = 512
MAX_TOLERANCE_S: Final = 86_400

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


def is_job_id(value: object) -> bool:
    """Return whether `value` may name a job anywhere: in a request, a flag, a file name, a stored record."""
    return isinstance(value, str) and _JOB_ID.match(value) is not None


def home_named_by(callback_url: str) -> str | None:
    """Return the NAME of a callback URL that ends in `/p/NAME`: which of the homes behind one address is meant."""
    before, _, name = callback_url.rstrip("/").rpartition("/")
    return name if before.endswith("/p") and is_job_id(name) else None


def callback_proof(nonce: str, audience: str) -> str:
    """Return the answer to a challenge. It takes the nonce, and an agent whose own audience this is.

    Hexadecimal SHA-256 of `callback-proof:NONCE:AUDIENCE`.
    """
    from hashlib import sha256

    return sha256(f"callback-proof:{nonce}:{audience}".encode()).hexdigest()


def parse_fire_at(text: object) -> datetime:
    """Return the instant a wire `fire_at` names, cut to its whole UTC second.

    Raises ValueError unless it is ISO 8601 with an offset.
    """
    if not isinstance(text, str) or len(text) > 64:
        raise ValueError("fire_at is not an ISO 8601 text")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("fire_at has no UTC offset")
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError as error:
        raise ValueError("fire_at is out of range") from error


def format_fire_at(moment: datetime) -> str:
    """Return the one text form we send: whole seconds, UTC, `2026-11-20T15:34:15+00:00`.

    Raises ValueError for a naive datetime.
    """
    if moment.tzinfo is None:
        raise ValueError("an instant needs a UTC offset")
    return moment.astimezone(UTC).replace(microsecond=0).isoformat()


def dedup_key(job_id: str, fire_at: datetime) -> str:
    """Return the key under which NAS holds the arm of one occurrence."""
    return f"{job_id}:{format_fire_at(fire_at)}"
