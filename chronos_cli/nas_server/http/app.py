"""NAS over HTTP: which callers may use which path, and the pages for operators."""

from __future__ import annotations

import hmac
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from chronos_cli.contract import BATCH_PATH, CANCEL_PATH, JWKS_PATH, LIST_PATH, PROVISION_PATH, REFUSED_FOR_GOOD
from chronos_cli.nas_server import metrics
from chronos_cli.nas_server.bodies import BadRequestError
from chronos_cli.nas_server.http import web
from chronos_cli.nas_server.http.admission import Admission, Route
from chronos_cli.nas_server.http.web import RefusedRequestError
from chronos_cli.nas_server.keys import JWKS_MAX_AGE_S
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.model import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.event_log import EventLog
    from chronos_cli.nas_server.http.agent_calls import AgentResponder
    from chronos_cli.nas_server.keys import KeyRing
    from chronos_cli.nas_server.timers.agents import AgentRegister
    from chronos_cli.nas_server.timers.model import Agent

T = TypeVar("T")

MAX_BODY: Final = 64 * 1024
MAX_BATCH_BODY: Final = 2 * 1024 * 1024


class NasApplication:
    """The answers of NAS, apart from how requests come. `metrics_token`: opens /metrics on the agents' address too.

    `calls`: answers agents; None where this process does not. `ready` says what is not, if anything.
    """

    def __init__(
        self,
        *,
        calls: AgentResponder | None,
        roster: AgentRegister,
        keys: KeyRing,
        journal: EventLog,
        counts: metrics.Metrics,
        ready: Callable[[], str | None],
        gauges: Callable[[], bytes],
        metrics_token: str | None = None,
    ) -> None:
        self._calls, self._roster, self._keys = calls, roster, keys
        self._journal, self._counts, self._ready, self._gauges = journal, counts, ready, gauges
        self._metrics_token = metrics_token
        self._unready: str | None = None
        self._open_routes = {
            "/healthz": Route(method="GET", handler=self._healthz),
            "/readyz": Route(method="GET", handler=self._readyz),
            "/metrics": Route(method="GET", handler=self._metrics),
        }
        self._agents_routes: dict[str, Route] = {}
        if calls is not None:
            self._agents_routes = {
                PROVISION_PATH: Route(method="POST", handler=calls.provision, most=MAX_BODY),
                CANCEL_PATH: Route(method="POST", handler=calls.cancel, most=MAX_BODY),
                LIST_PATH: Route(method="GET", handler=calls.list),
                BATCH_PATH: Route(method="POST", handler=calls.batch, most=MAX_BATCH_BODY),
            }
            self._open_routes |= {
                JWKS_PATH: Route(method="GET", handler=self._jwks),
                "/openapi.yaml": Route(method="GET", handler=self._openapi),
            }
        self._routes = self._agents_routes | self._open_routes

    def is_for_agents(self, path: str) -> bool:
        """Return whether a path is one that agents call with their token."""
        return path in self._agents_routes

    def admits_at_once(self, request: web.Request) -> bool:
        """Return whether `admit` needs no look into the store: the loop that reads requests may call it."""
        token = request.bearer()
        return not self.is_for_agents(request.path) or token is None or self._roster.remembers(token)

    def admit(self, request: web.Request) -> Admission | web.Response:
        """Judge a request by its header: its caller, and how large a body is read; else return the answer."""
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
        except RefusedRequestError as error:
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
            raise RefusedRequestError(
                refused, ("WWW-Authenticate", 'Bearer realm="chronos-nas", error="invalid_token"')
            )
        if agent.revoked:
            refused = Refusal(status=403, error=REFUSED_FOR_GOOD, message=f"agent {agent.name} was revoked")
            raise RefusedRequestError(refused)
        if self._calls is not None:
            self._calls.pay(agent)
        return agent

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
        if self._calls is not None and not admission.request.operator:
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


def openapi() -> bytes:
    """Return the contract as an OpenAPI document: beside this module in a wheel, under docs/ in a checkout."""
    here = Path(__file__).parent.parent
    packed = here / "openapi.yaml"
    return (packed if packed.exists() else here.parent.parent / "docs" / "openapi" / "nas.yaml").read_bytes()
