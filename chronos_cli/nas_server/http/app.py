"""NAS over HTTP, as a WSGI application: the agents' three calls, batch, keys, and what operators look at."""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import (
    BATCH_PATH,
    CANCEL_PATH,
    FEATURE_ARM_IN_ANSWER,
    FEATURE_BATCH,
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
    from collections.abc import Callable, Iterable, Sequence
    from wsgiref.types import StartResponse, WSGIEnvironment

    from chronos_cli.nas_server.addresses import CallbackPolicy
    from chronos_cli.nas_server.event_log import EventLog
    from chronos_cli.nas_server.http.rates import Rates
    from chronos_cli.nas_server.keys import KeyRing
    from chronos_cli.nas_server.timers.agents import AgentRegister
    from chronos_cli.nas_server.timers.model import Answer, ArmedTimer, TimerRequest
    from chronos_cli.nas_server.timers.registry import TimerRegistry

FEATURES: Final = [
    FEATURE_BATCH,
    FEATURE_GENERATION,
    FEATURE_KEEPS_SLOT,
    FEATURE_ARM_IN_ANSWER,
    FEATURE_SPREAD,
    FEATURE_DELIVERIES,
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


class NasApplication:
    """The WSGI application. `nudge` is told when something was armed, `ready` says what is not, if anything."""

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
        gauges: Callable[[], str],
        agents_served: bool = True,
    ) -> None:
        self._registry, self._roster, self._keys, self._policy = registry, roster, keys, policy
        self._limits, self._rates, self._journal, self._counts = limits, rates, journal, counts
        self._nudge, self._ready, self._gauges = nudge, ready, gauges
        self._routes: dict[str, tuple[str, Callable[[web.Request], web.Response]]] = {
            "/healthz": ("GET", self._healthz),
            "/readyz": ("GET", self._readyz),
            "/metrics": ("GET", self._metrics),
        }
        if agents_served:
            self._routes |= {
                PROVISION_PATH: ("POST", self._provision),
                CANCEL_PATH: ("POST", self._cancel),
                LIST_PATH: ("GET", self._list),
                BATCH_PATH: ("POST", self._batch),
                JWKS_PATH: ("GET", self._jwks),
                "/openapi.yaml": ("GET", self._openapi),
            }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        path, method = str(environ.get("PATH_INFO", "")), str(environ["REQUEST_METHOD"])
        response = self._answer(path, "GET" if method == "HEAD" else method, web.Request(environ))
        self._counts.request(path if path in self._routes else "other", response.status)
        return response.start(start_response, head=method == "HEAD")

    def _answer(self, path: str, method: str, request: web.Request) -> web.Response:
        route = self._routes.get(path)
        if route is None:
            return web.refuse(Refusal(status=404, error="not_found", message="there is nothing at this path"))
        if route[0] != method:
            refused = Refusal(status=405, error="method_not_allowed", message=f"only {route[0]} is answered here")
            return web.refuse(refused, ("Allow", route[0]))
        try:
            return route[1](request)
        except BadRequestError as error:
            return web.refuse(error.refusal)
        except _RefusedRequestError as error:
            return web.refuse(error.refusal, *error.headers)
        except RegistryUnavailableError as error:
            self._journal.write("error", where=path, message=error.line())
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

    def _provision(self, request: web.Request) -> web.Response:
        agent = self._agent(request)
        document = bodies.read_object(request.body(MAX_BODY))
        wish = bodies.provision(document, agent, self._policy, self._limits.max_timers)
        return self._one(agent, wish)

    def _cancel(self, request: web.Request) -> web.Response:
        agent = self._agent(request)
        return self._one(agent, bodies.cancel(bodies.read_object(request.body(MAX_BODY)), agent))

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

    def _batch(self, request: web.Request) -> web.Response:
        agent = self._agent(request)
        document = bodies.read_object(request.body(MAX_BATCH_BODY))
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
        answers = self._registry.apply(wishes)
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

    def _list(self, request: web.Request) -> web.Response:
        agent = self._agent(request)
        query = request.query()
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

    def _jwks(self, request: web.Request) -> web.Response:
        del request
        return web.answer(self._keys.jwks(), headers=(("Cache-Control", f"public, max-age={JWKS_MAX_AGE_S}"),))

    # -- the operators ---------------------------------------------------------------------------------------------

    def _healthz(self, request: web.Request) -> web.Response:
        del request
        return web.answer({"ok": True})

    def _readyz(self, request: web.Request) -> web.Response:
        del request
        missing = self._ready()
        if missing is None:
            return web.answer({"ok": True})
        return web.answer(
            {"ok": False, "error": "not_ready", "message": missing}, status=503, headers=(("Retry-After", "1"),)
        )

    def _metrics(self, request: web.Request) -> web.Response:
        del request
        return web.Response(body=self._gauges().encode(), content_type=metrics.CONTENT_TYPE)

    def _openapi(self, request: web.Request) -> web.Response:
        del request
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
