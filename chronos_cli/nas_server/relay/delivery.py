"""One delivery: mint its token, call the agent back, and say what is to become of the timer."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import jwt

from chronos_cli.contract import (
    ARM_BY_ANSWER,
    ARM_CLAIM,
    FEATURE_ARM_IN_ANSWER,
    FIRE_PATH,
    FIRE_PURPOSE,
    home_named_by,
)
from chronos_cli.nas_server.addresses import CallbackRefusedError
from chronos_cli.nas_server.bodies import BadRequestError, next_wake
from chronos_cli.nas_server.relay.callbacks import CallbackFailedError, retry_after_s
from chronos_cli.nas_server.relay.proving import CHALLENGE_S, ProofRequest
from chronos_cli.nas_server.timers.model import DeliveryOutcome, Fate

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.keys import KeyRing, SigningKey
    from chronos_cli.nas_server.relay.backoff import Backoff
    from chronos_cli.nas_server.relay.callbacks import CallbackClient, CallbackReply
    from chronos_cli.nas_server.relay.proving import ProofRegister
    from chronos_cli.nas_server.timers.model import Delivery

TOKEN_S = 90
"""The lifetime of a fire token; the contract asks for 60 to 120 s."""

DELIVERY_HEADER = "Chronos-Delivery"
"""Names the delivery beside the token: the same over all its retries."""


_compact = json.JSONEncoder(separators=(",", ":")).encode


def signed(claims: dict[str, object], key: SigningKey) -> str:
    """Return a JWT (RFC 7519, compact form), without what PyJWT does each time for a key that stays the same."""
    text = b"%s.%s" % (_header(key.alg, key.kid), _base64url(_compact(claims).encode()))
    signature = jwt.get_algorithm_by_name(key.alg).sign(text, key.private)
    return f"{text.decode()}.{_base64url(signature).decode()}"


@lru_cache(maxsize=16)
def _header(alg: str, kid: str) -> bytes:
    return _base64url(_compact({"alg": alg, "kid": kid, "typ": "JWT"}).encode())


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """Parts of a delivery. `issuer`: our public URL; `clock`: seconds since the epoch; `draw`: uniform in [0, 1).

    `pay`: takes the price of a provision from the agent's rate, and returns how many seconds to wait if it is spent.
    `proofs`: where only a callback that has proved whose it is may be called.
    """

    keys: KeyRing
    backoff: Backoff
    issuer: str
    clock: Callable[[], float]
    draw: Callable[[], float]
    pay: Callable[[Delivery], float] = lambda _: 0.0
    proofs: ProofRegister | None = None

    def warm_up(self) -> None:
        """Sign once for nothing: what the first signature loads and makes would have a timer wait 30 ms."""
        key = self.keys.signing()
        signed({}, key)

    def mint(self, delivery: Delivery) -> str:
        """Return a token for this delivery, good for its job and instant alone, and its home if the URL names one."""
        key = self.keys.signing()
        now = int(self.clock())
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": delivery.audience,
            "purpose": FIRE_PURPOSE,
            "iat": now,
            "exp": now + TOKEN_S,
            "jti": delivery.schedule_id,
            "job_id": delivery.job_id,
            "fire_at": delivery.fire_text,
        }
        if delivery.generation is not None:
            claims["generation"] = delivery.generation
        if FEATURE_ARM_IN_ANSWER in delivery.accepts:
            claims[ARM_CLAIM] = ARM_BY_ANSWER
        home = home_named_by(delivery.callback_url)
        if home is not None:
            claims["home"] = home
        return signed(claims, key)

    async def deliver(self, client: CallbackClient, delivery: Delivery) -> tuple[DeliveryOutcome, bool | None]:
        """Call the agent back once. Returns the outcome, and whether the host showed itself alive (None: not asked)."""
        if self.proofs is not None and (unproved := await self._unproved(self.proofs, delivery)) is not None:
            return unproved, None
        headers = {
            "Authorization": f"Bearer {self.mint(delivery)}",
            "Content-Type": "application/json",
            "User-Agent": "chronos-nas",
            DELIVERY_HEADER: delivery.schedule_id,
        }
        body = json.dumps({"job_id": delivery.job_id, "fire_at": delivery.fire_text}).encode()
        try:
            reply = await client.post(delivery.callback_url + FIRE_PATH, body, headers, caller=delivery.agent_id)
        except CallbackRefusedError as error:
            return self._failed(delivery, f"refused: {error}"), None
        except CallbackFailedError as error:
            return self._failed(delivery, str(error)), False
        if 200 <= reply.status < 300:
            return self._answered(delivery, reply), True
        asked = retry_after_s(reply.retry_after, self.clock())
        said = " ".join(reply.text.split())
        error_text = f"answered {reply.status}{': ' if said else ''}{said}"
        # A 5xx that says when to come back is the agent at work; without, it looks like a proxy before a dead one.
        healthy = reply.status < 500 or asked is not None
        return self._failed(delivery, error_text, status=reply.status, asked=asked), healthy

    async def _unproved(self, proofs: ProofRegister, delivery: Delivery) -> DeliveryOutcome | None:
        """Return what becomes of a timer whose callback has not proved whose it is."""
        callee = ProofRequest(
            agent_id=delivery.agent_id, audience=delivery.audience, url=delivery.callback_url, host=delivery.host
        )
        promised = proofs.ask(callee)
        try:
            proof = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(promised)), CHALLENGE_S)
        except TimeoutError:
            return self._failed(delivery, "refused: the callback has not proved yet whose it is")
        if proof.proved:
            return None
        return self._failed(
            delivery, f"refused: the callback has not proved whose it is: {proof.why}", asked=proof.again_s
        )

    def _answered(self, delivery: Delivery, reply: CallbackReply) -> DeliveryOutcome:
        """Return what a 2xx means: delivered, unless it had to carry the next wake and does not, or may not yet."""
        wake = None
        if FEATURE_ARM_IN_ANSWER in delivery.accepts:
            try:
                wake = next_wake(reply.body)
            except BadRequestError as error:
                text = f"answered {reply.status} without a next that could be armed: {error}"
                return self._failed(delivery, text, status=reply.status)
            wait = 0.0 if wake is None or wake.fire_at is None else self.pay(delivery)
            if wait > 0:
                text = f"answered {reply.status}, its next wake is over the agent's rate of requests"
                return self._failed(delivery, text, status=reply.status, asked=wait)
        return DeliveryOutcome(
            delivery=delivery, fate=Fate.DELIVERED, at=self.clock(), status=reply.status, next_wake=wake
        )

    def _failed(
        self, delivery: Delivery, error: str, *, status: int | None = None, asked: float | None = None
    ) -> DeliveryOutcome:
        now = self.clock()
        next_at = self.backoff.next_at(
            attempt=delivery.attempt, now=now, first_attempt_at=delivery.first_attempt_at, asked=asked, draw=self.draw
        )
        return DeliveryOutcome(
            delivery=delivery,
            fate=Fate.DEAD if next_at is None else Fate.RETRY,
            at=now,
            status=status,
            error=error[:300].replace("\0", " "),  # PostgreSQL keeps no NUL
            next_at=next_at,
        )
