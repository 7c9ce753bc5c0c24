"""NAS over HTTP: the agents' three calls, batch, keys, and what operators look at."""

from __future__ import annotations

import base64
import binascii
import hmac
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from chronos_cli.contract import (
    BATCH_PATH,
    CANCEL_PATH,
    FEATURE_ARM_IN_ANSWER,
    FEATURE_BATCH,
    FEATURE_CALLBACK_PROOF,
    FEATURE_DELIVERIES,
    FEATURE_GENERATION,
    FEATURE_KEEPS_SLOT,
    FEATURE_SPREAD,
    JWKS_PATH,
    LIST_PATH,
    MAX_BATCH,
    PROVISION_PATH,
    REFUSED_FOR_GOOD,
    is_job_id,
)
from chronos_cli.nas_server import bodies, metrics
from chronos_cli.nas_server.bodies import BadRequestError
from chronos_cli.nas_server.http import web
from chronos_cli.nas_server.keys import JWKS_MAX_AGE_S
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.model import Agent, Cancel, CancelEffect, Provision, ProvisionEffect, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chronos_cli.nas_server.addresses import CallbackPolicy
    from chronos_cli.nas_server.event_log import EventLog
    from chronos_cli.nas_server.http.rates import Rates
    from chronos_cli.nas_server.keys import KeyRing
    from chronos_cli.nas_server.relay.proof_gate import ProofGate
    from chronos_cli.nas_server.timers.agents import AgentRegister
    from chronos_cli.nas_server.timers.model import Answer, ArmedTimer, TimerRequest
    from chronos_cli.nas_server.timers.registry import TimerRegistry

T = TypeVar("T")

FEATURES: Final = [
    FEATURE_BATCH,
    FEATURE_GENERATION,
    FEATURE_KEEPS_SLOT,
    FEATURE_ARM_IN_ANSWER,
    FEATURE_SPREAD,
    FEATURE_DELIVERIES,
    FEATURE_CALLBACK_PROOF,
]
MAX_BODY: Final = 64 * 1024
MAX_BATCH_BODY: Final = 2 * 1024 * 1024
MAX_PAGE: Final = 10_000

_BATCH_COST: Final = 0.02
"""The cost of one item of a batch, in requests: the transaction that it shares is the dear part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on one agent's timers and requests, unless it has its own. `rate`: requests a second."""

    max_timers: int = 100_000
    rate: float = 2_000.0
    page: int = MAX_PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path's method, handler, and largest body; 0 where none is read."""

    method: str
    handler: Callable[[Admission], web.Response]
    most: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A request that was let in by its header: of an agent, or to a path that is open."""

    request: web.Request
    route: Route
    agent: Agent | None = None

    @property
    def most(self) -> int:
        """The largest body that is read."""
        return self.route.most

    @property
    def admitted(self) -> Agent:
        """The agent, on the paths that only agents reach."""
        if self.agent is None:
            raise TypeError(f"{self.request.path} is open to everybody")
        return self.agent


class NasApplication:
    """The answers of NAS, apart from how requests come. `metrics_token`: opens /metrics on the agents' address too.

    `nudge` is told when something was armed, `ready` says what is not, if anything.
    """

    def __init__(
        self,
        *,
        registry: TimerRegistry,
        roster: AgentRegister,
        keys: KeyRing,
        policy: CallbackPolicy,
        limits: Limits,
        rates: Rates,
        journal: EventLog,
        counts: metrics.Metrics,
        nudge: Callable[[float, set[str]], None],
        ready: Callable[[], str | None],
        gauges: Callable[[], bytes],
        proofs: ProofGate,
        agents_served: bool = True,
        metrics_token: str | None = None,
    ) -> None:
        self._registry, self._roster, self._keys, self._policy = registry, roster, keys, policy
        self._limits, self._rates, self._journal, self._counts = limits, rates, journal, counts
        self._nudge, self._ready, self._gauges = nudge, ready, gauges
        self._metrics_token, self._agents_served, self._proofs = metrics_token, agents_served, proofs
        self._unready: str | None = None
        self._agents_routes: dict[str, Route] = {
            PROVISION_PATH: Route(method="POST", handler=self._provision, most=MAX_BODY),
            CANCEL_PATH: Route(method="POST", handler=self._cancel, most=MAX_BODY),
            LIST_PATH: Route(method="GET", handler=self._list),
            BATCH_PATH: Route(method="POST", handler=self._batch, most=MAX_BATCH_BODY),
        }
        self._open_routes: dict[str, Route] = {
            "/healthz": Route(method="GET", handler=self._healthz),
            "/readyz": Route(method="GET", handler=self._readyz),
            "/metrics": Route(method="GET", handler=self._metrics),
        }
        if agents_served:
            self._open_routes |= {
                JWKS_PATH: Route(method="GET", handler=self._jwks),
                "/openapi.yaml": Route(method="GET", handler=self._openapi),
            }
        else:
            self._agents_routes = {}
        self._routes = self._agents_routes | self._open_routes

    def is_for_agents(self, path: str) -> bool:
        """Return whether a path is one that agents call with their token."""
        return path in self._agents_routes

    def admits_at_once(self, request: web.Request) -> bool:
        """Return whether `admit` needs no look into the store: the loop that reads requests may call it."""
        token = request.bearer()
        return not self.is_for_agents(request.path) or token is None or self._roster.remembers(token)

    def admit(self, request: web.Request) -> Admission | web.Response:
        """Judge a request by its header: who is let in, and how large a body is read; else the answer."""
        route = self._routes.get(request.path)
        if route is None:
            refused = Refusal(status=404, error="not_found", message="there is nothing at this path")
            return self.counted(request, web.refuse(refused))
        if route.method != request.method:
            refused = Refusal(status=405, error="method_not_allowed", message=f"only {route.method} is answered here")
            return self.counted(request, web.refuse(refused, ("Allow", route.method)))
        if not self.is_for_agents(request.path):
            return Admission(request=request, route=route)
        found = self._guarded(request, lambda: Admission(request=request, route=route, agent=self._agent(request)))
        return self.counted(request, found) if isinstance(found, web.Response) else found

    def answer(self, admission: Admission, body: bytes) -> web.Response:
        """Answer a request that was let in, with its body."""
        admission = replace(admission, request=replace(admission.request, body=body))
        reply = self._guarded(admission.request, lambda: admission.route.handler(admission))
        return self.counted(admission.request, reply)

    def counted(self, request: web.Request, reply: web.Response) -> web.Response:
        """Count a request by its answer."""
        self._counts.request(request.path if request.path in self._routes else "other", reply.status)
        return reply

    def _guarded(self, request: web.Request, work: Callable[[], T]) -> T | web.Response:
        """Run `work`; its refusals and a store that cannot be used are answers."""
        try:
            return work()
        except BadRequestError as error:
            return web.refuse(error.refusal)
        except _RefusedRequestError as error:
            return web.refuse(error.refusal, *error.headers)
        except RegistryUnavailableError as error:
            self._journal.write("error", where=request.path, message=error.line())
            refused = Refusal(status=503, error="temporary", message="the timers cannot be reached right now")
            return web.refuse(refused, ("Retry-After", "1"))

    # -- the agents ------------------------------------------------------------------------------------------------

    def _agent(self, request: web.Request) -> Agent:
        token = request.bearer()
        agent = None if token is None else self._roster.authenticate(token)
        if agent is None:
            refused = Refusal(
                status=401, error="invalid_token", message="no token, or none that is known and not expired"
            )
            raise _RefusedRequestError(
                refused, ("WWW-Authenticate", 'Bearer realm="chronos-nas", error="invalid_token"')
            )
        if agent.revoked:
            refused = Refusal(status=403, error=REFUSED_FOR_GOOD, message=f"agent {agent.name} was revoked")
            raise _RefusedRequestError(refused)
        self._pay(agent, 1.0)
        return agent

    def _pay(self, agent: Agent, cost: float) -> None:
        rate = agent.rate or self._limits.rate
        wait = self._rates.wait_s(agent.id, rate, cost)
        if wait > 0:
            refused = Refusal(status=429, error="slow_down", message=f"over {rate:g} requests a second")
            raise _RefusedRequestError(refused, ("Retry-After", str(math.ceil(wait))))

    def _provision(self, admission: Admission) -> web.Response:
        agent = admission.admitted
        document = bodies.read_object(admission.request.body)
        wish = bodies.provision(document, agent, self._policy, self._limits.max_timers)
        return self._one(agent, wish)

    def _cancel(self, admission: Admission) -> web.Response:
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

    def _batch(self, admission: Admission) -> web.Response:
        agent = admission.admitted
        document = bodies.read_object(admission.request.body)
        items = bodies.batch(document, agent, self._policy, self._limits.max_timers, most=MAX_BATCH)
        self._pay(agent, len(items) * _BATCH_COST)
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

    def _list(self, admission: Admission) -> web.Response:
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

    def _jwks(self, _: Admission) -> web.Response:
        return web.answer(self._keys.jwks(), headers=(("Cache-Control", f"public, max-age={JWKS_MAX_AGE_S}"),))

    # -- the operators ---------------------------------------------------------------------------------------------

    def _healthz(self, _: Admission) -> web.Response:
        return web.answer({"ok": True})

    def _readyz(self, _: Admission) -> web.Response:
        """Answer anybody, so with nothing but the status; the reason stands in the log."""
        missing = self._ready()
        if missing != self._unready:
            self._unready = missing
            self._journal.write("ready" if missing is None else "not_ready", message=missing)
        if missing is None:
            return web.Response(content_type="text/plain")
        return web.Response(status=503, content_type="text/plain", headers=(("Retry-After", "1"),))

    def _metrics(self, admission: Admission) -> web.Response:
        """Answer on the operators' address (a worker's is one), or to their token; others learn nothing."""
        if self._agents_served and not admission.request.operator:
            if self._metrics_token is None:
                refused = Refusal(status=404, error="not_found", message="there is nothing at this path")
                return web.refuse(refused)
            token = admission.request.bearer() or ""
            if not hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._metrics_token.encode()):
                refused = Refusal(status=401, error="invalid_token", message="the operators' token is needed")
                return web.refuse(refused, ("WWW-Authenticate", 'Bearer realm="chronos-nas"'))
        return web.Response(body=self._gauges(), content_type=metrics.CONTENT_TYPE)

    def _openapi(self, _: Admission) -> web.Response:
        return web.Response(body=openapi(), content_type="application/yaml")


class _RefusedRequestError(Exception):
    """A request that ends before its wish is read."""

    def __init__(self, refusal: Refusal, *headers: tuple[str, str]) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.headers = headers


def openapi() -> bytes:
    """The contract as an OpenAPI document: beside this module in a wheel, under docs/ in a checkout."""
    here = Path(__file__).parent.parent
    packed = here / "openapi.yaml"
    return (packed if packed.exists() else here.parent.parent / "docs" / "openapi" / "nas.yaml").read_bytes()


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
