"""The agents' calls: provision, cancel, list, and many of them in one."""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import (
    FEATURE_ARM_IN_ANSWER,
    FEATURE_BATCH,
    FEATURE_CALLBACK_PROOF,
    FEATURE_DELIVERIES,
    FEATURE_GENERATION,
    FEATURE_KEEPS_SLOT,
    FEATURE_SPREAD,
    MAX_BATCH,
    is_job_id,
)
from chronos_cli.nas_server import bodies
from chronos_cli.nas_server.bodies import BadRequestError
from chronos_cli.nas_server.http import web
from chronos_cli.nas_server.http.web import RefusedRequestError
from chronos_cli.nas_server.timers.model import Cancel, CancelEffect, Provision, ProvisionEffect, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chronos_cli.nas_server.addresses import CallbackPolicy
    from chronos_cli.nas_server.event_log import EventLog
    from chronos_cli.nas_server.http.admission import Admission
    from chronos_cli.nas_server.http.rates import Rates
    from chronos_cli.nas_server.metrics import Metrics
    from chronos_cli.nas_server.relay.proof_gate import ProofGate
    from chronos_cli.nas_server.timers.model import Agent, Answer, ArmedTimer, TimerRequest
    from chronos_cli.nas_server.timers.registry import TimerRegistry

FEATURES: Final = [
    FEATURE_BATCH,
    FEATURE_GENERATION,
    FEATURE_KEEPS_SLOT,
    FEATURE_ARM_IN_ANSWER,
    FEATURE_SPREAD,
    FEATURE_DELIVERIES,
    FEATURE_CALLBACK_PROOF,
]
MAX_PAGE: Final = 10_000

_BATCH_COST: Final = 0.02
"""The cost of one item of a batch, in requests: the transaction that it shares is the dear part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on one agent's timers and requests, unless it has its own. `rate`: requests a second."""

    max_timers: int = 100_000
    rate: float = 2_000.0
    page: int = MAX_PAGE


class AgentResponder:
    """Calls of agents that were let in. `nudge` is told when something was armed, and of which hosts."""

    def __init__(
        self,
        *,
        registry: TimerRegistry,
        policy: CallbackPolicy,
        limits: Limits,
        rates: Rates,
        journal: EventLog,
        counts: Metrics,
        nudge: Callable[[float, set[str]], None],
        proofs: ProofGate,
    ) -> None:
        self._registry, self._policy, self._limits, self._rates = registry, policy, limits, rates
        self._journal, self._counts, self._nudge, self._proofs = journal, counts, nudge, proofs

    def pay(self, agent: Agent, cost: float = 1.0) -> None:
        """Take a price from an agent's rate. Raises RefusedRequestError where it is spent."""
        rate = agent.rate or self._limits.rate
        wait = self._rates.wait_s(agent.id, rate, cost)
        if wait > 0:
            refused = Refusal(status=429, error="slow_down", message=f"over {rate:g} requests a second")
            raise RefusedRequestError(refused, ("Retry-After", str(math.ceil(wait))))

    def provision(self, admission: Admission) -> web.Response:
        """Arm a job."""
        agent = admission.admitted
        document = bodies.read_object(admission.request.body)
        wish = bodies.provision(document, agent, self._policy, self._limits.max_timers)
        return self._one(agent, wish)

    def cancel(self, admission: Admission) -> web.Response:
        """Drop what is armed and owed of a job."""
        agent = admission.admitted
        return self._one(agent, bodies.cancel(bodies.read_object(admission.request.body), agent))

    def _one(self, agent: Agent, wish: TimerRequest) -> web.Response:
        result = self._apply(agent, [wish])[0]
        if isinstance(result, Refusal):
            return web.refuse(result)
        document = _document(result)
        if isinstance(result, ProvisionEffect):
            document["features"] = FEATURES
        else:
            document = {"ok": True, **document}
        return web.answer(document)

    def batch(self, admission: Admission) -> web.Response:
        """Carry out many wishes; each has its answer at its place."""
        agent = admission.admitted
        document = bodies.read_object(admission.request.body)
        items = bodies.batch(document, agent, self._policy, self._limits.max_timers, most=MAX_BATCH)
        self.pay(agent, len(items) * _BATCH_COST)
        wishes = [item for item in items if not isinstance(item, Refusal)]
        answers = iter(self._apply(agent, wishes) if wishes else ())
        results = []
        for item in items:
            result = item if isinstance(item, Refusal) else next(answers)
            if isinstance(result, Refusal):
                refused = {"status": result.status, "error": result.error, "message": result.message}
                results.append({"ok": False, **refused, **result.extra})
            else:
                results.append({"ok": True, **_document(result)})
        return web.answer({"results": results, "features": FEATURES})

    def _apply(self, agent: Agent, wishes: Sequence[TimerRequest]) -> list[Answer]:
        refused = self._proofs.refused(agent, wishes)
        taken = [wish for n, wish in enumerate(wishes) if n not in refused]
        done = iter(self._registry.apply(taken) if taken else ())
        answers = [refused[n] if n in refused else next(done) for n in range(len(wishes))]
        soonest, hosts = math.inf, set()
        for wish, result in zip(wishes, answers, strict=True):
            self._note(agent, wish, result)
            if isinstance(wish, Provision):
                soonest = min(soonest, wish.fire_at)
                hosts.add(wish.host)
        self._nudge(soonest, hosts)
        return answers

    def _note(self, agent: Agent, wish: TimerRequest, result: Answer) -> None:
        fields: dict[str, Any] = {"agent": agent.audience, "job_id": wish.job_id}
        if isinstance(result, Refusal):
            self._counts.wish("refused")
            self._journal.write("refused", **fields, error=result.error, message=result.message)
        elif isinstance(wish, Cancel) and isinstance(result, CancelEffect):
            self._counts.wish("cancelled")
            self._journal.write("cancelled", **fields, dropped=result.dropped)
        elif isinstance(wish, Provision) and isinstance(result, ProvisionEffect):
            self._counts.wish("provisioned" if result.changed else "unchanged")
            self._journal.write(
                "provisioned",
                **fields,
                fire_at=wish.fire_text,
                schedule_id=result.schedule_id,
                state=result.state.value,
                changed=result.changed,
                replaced=result.replaced,
            )

    def list(self, admission: Admission) -> web.Response:
        """Show what is armed, a page at a time."""
        agent = admission.admitted
        query = admission.request.query()
        try:
            limit = min(int(query.get("limit", self._limits.page)), self._limits.page)
        except ValueError as error:
            raise BadRequestError("limit must be a whole number") from error
        if limit < 1:
            raise BadRequestError("limit must be at least 1")
        after = _read_cursor(query["cursor"]) if "cursor" in query else ""
        found = self._registry.armed(agent, after=after, limit=limit + 1)
        entries = [_entry(one) for one in found[:limit]]
        document: dict[str, Any] = {"armed": entries, "features": FEATURES}
        if len(found) > limit:
            document["next_cursor"] = base64.urlsafe_b64encode(found[limit - 1].job_id.encode()).decode()
        return web.answer(document)


def _document(result: ProvisionEffect | CancelEffect) -> dict[str, Any]:
    if isinstance(result, ProvisionEffect):
        return {"schedule_id": result.schedule_id, "state": result.state.value}
    return {"cancelled": result.dropped}


def _entry(one: ArmedTimer) -> dict[str, Any]:
    """Return an entry of a list: what is armed, and of a fire that failed and is owed what came of it."""
    entry: dict[str, Any] = {
        "job_id": one.job_id,
        "fire_at": one.fire_text,
        "schedule_id": one.schedule_id,
        "state": one.state.value,
    }
    if one.owed is not None:
        entry["deliveries"] = {
            "fire_at": one.owed.fire_text,
            "attempts": one.owed.failed,
            "last_error": one.owed.last_error,
            "next_try": None if one.owed.next_try is None else _moment(one.owed.next_try),
        }
    return entry


def _moment(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).isoformat()


def _read_cursor(text: str) -> str:
    try:
        job_id = base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii")
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise BadRequestError("the cursor is none of ours") from error
    if not is_job_id(job_id):
        raise BadRequestError("the cursor is none of ours")
    return job_id
