"""Wishes whose callback has still to prove whose it is: asked by the way, or refused until it has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from chronos_cli.contract import CALLBACK_UNPROVEN
from chronos_cli.nas_server.relay.proving import ProofRequest
from chronos_cli.nas_server.timers.model import Provision, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronos_cli.nas_server.relay.proving import ProofRegister, ProofResult
    from chronos_cli.nas_server.timers.model import Agent, TimerRequest


class ProofGate:
    """`required`: no callback is taken that has not proved whose it is; else those that say they can are asked once."""

    def __init__(self, proofs: ProofRegister, *, required: bool) -> None:
        self._proofs, self._required = proofs, required

    def refused(self, agent: Agent, wishes: Sequence[TimerRequest]) -> dict[int, Refusal]:
        """Return the refusals of wishes by their place; the whole of a batch waits no longer than one of them."""
        wanted = {
            number: ProofRequest(agent_id=agent.id, audience=agent.audience, url=wish.callback_url, host=wish.host)
            for number, wish in enumerate(wishes)
            if isinstance(wish, Provision) and (wish.proves or self._required)
        }
        if not wanted:
            return {}
        able = {callee for number, callee in wanted.items() if getattr(wishes[number], "proves", False)}
        if not self._required:
            for callee in able:
                self._proofs.ask(callee)
            return {}
        stored = self._proofs.stored(set(wanted.values()) - able)
        asked = self._proofs.wait(sorted(able, key=lambda one: one.url))
        return {
            number: _refusal(callee, asked.get(callee))
            for number, callee in wanted.items()
            if callee not in stored and not (callee in asked and asked[callee].proved)
        }


def _refusal(callee: ProofRequest, proof: ProofResult | None) -> Refusal:
    if proof is None:
        message = "this NAS takes only callbacks that prove whose they are, and the wish does not accept callback-proof"
        return Refusal(status=422, error=CALLBACK_UNPROVEN, message=message)
    message = f"the callback {callee.url} has not proved that it is this agent's: {proof.why}"
    if not proof.passing:
        return Refusal(status=422, error=CALLBACK_UNPROVEN, message=message)
    return Refusal(
        status=503, error=CALLBACK_UNPROVEN, message=message, extra={"retry_after": max(1, math.ceil(proof.again_s))}
    )
