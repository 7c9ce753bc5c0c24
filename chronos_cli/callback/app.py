"""The callback: one HTTP request in, one answer out. The only door from outside.

Nothing is forked and no store is read before the token verifies, and every refusal has the same body.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from chronos_cli import streams
from chronos_cli.callback.after_response import alert_afterwards, look_afterwards
from chronos_cli.callback.homes import Homes
from chronos_cli.callback.log import BoundedLog
from chronos_cli.callback.modes import Mode, choose
from chronos_cli.callback.proof import prove
from chronos_cli.callback.request import bearer_token, is_astray, parse_fire, profile_of, read_body
from chronos_cli.callback.shared_ends import EndResponder
from chronos_cli.callback.warm_start import WarmStart, choose_runner
from chronos_cli.config import load_config
from chronos_cli.contract import FIRE_PATH, PROOF_PATH, PROOF_PURPOSE
from chronos_cli.errors import ChronosError, StandbyError, TokenError
from chronos_cli.frozen import frozen, replace
from chronos_cli.operations.firing.admission import admit, trust_settings
from chronos_cli.operations.firing.answering import Door, body_of, error_body, gone_body
from chronos_cli.operations.firing.fire import RETRY_AFTER_S, fire
from chronos_cli.operations.firing.launchers import DetachedLauncher
from chronos_cli.operations.firing.refused_token import note_refused
from chronos_cli.running.detach import Runners
from chronos_cli.trust.verifier import fire_verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.callback.homes import ServedHome
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.admission import AuthorizedFire

TIME_LEFT: Final = "chronos.time_left_s"
"""In a WSGI environ: how long the platform lets this very request take, in seconds, where it says so."""

_SPARE_S: Final = 1.0
REFUSED: Final = b'{"result": "refused"}'


@frozen
class HttpAnswer:
    """A whole HTTP answer. `sent` is called once it has left."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    sent: Callable[[], None] | None = None


class Callback:
    """Serves fires for one configuration and the profiles it names. Safe to call from many threads."""

    def __init__(self, environ: Mapping[str, str], secrets: Mapping[str, str], *, passing: bool = False) -> None:
        """Read the configuration; no network, no store. Raises ConfigError.

        `passing`: this process ends as soon as no call comes.
        """
        self.config = load_config(environ=environ)
        self.chosen = choose(self.config.callback_mode, environ)
        self._environ = environ
        self._settings = trust_settings(self.config)
        self._verify = fire_verifier(self._settings)
        self._runners = Runners()
        self._homes = Homes(self.config, environ, secrets, streams.log)
        self._log = BoundedLog()
        choice = partial(choose_runner, self.config.warm_runner, environ, freezes=self.chosen.freezes, passing=passing)
        self._warm_start = WarmStart(self._runners, choice, (str(self.config.path),))
        self._ends = EndResponder(self._runners, streams.log)

    def answer(self, environ: Mapping[str, Any]) -> HttpAnswer:
        """Answer one request. Never raises: any failure is one JSON answer and one line on stderr."""
        self._log.settle()
        try:
            return self._route(environ)
        except TokenError as error:
            if self._log.write(error.code, f"refused: {error.code}: {error.message}"):
                note_refused(self._settings.cache_dir, error, now=datetime.now(UTC))
            return _refused()
        except StandbyError as error:
            self._log.write(error.code, error.line())
            return _json(error.http_status, error_body(error), retry_after=RETRY_AFTER_S)
        except ChronosError as error:
            self._log.write(error.code, error.line())
            again = error.http_status == 503
            return _json(error.http_status, error_body(error), retry_after=RETRY_AFTER_S if again else None)
        except Exception as error:  # noqa: BLE001 - a fault of ours: NAS shall retry, and a stranger learn nothing
            return fault(error, self._environ, self._log)

    def _route(self, environ: Mapping[str, Any]) -> HttpAnswer:
        path, method = str(environ.get("PATH_INFO", "")), str(environ.get("REQUEST_METHOD", ""))
        if path == "/healthz":
            if method not in ("GET", "HEAD"):
                return _json(405, {"result": "method not allowed"}, allow="GET")
            return _json(200, self.health())
        challenged = profile_of(path, PROOF_PATH)
        profile = profile_of(path) if challenged is None else challenged
        if profile is None:
            if is_astray(path):
                self._log.write(
                    "not_found",
                    f"not found: a call of NAS came to the path {path[:200]!a}, and this callback serves {FIRE_PATH}",
                )
            return _json(404, {"result": "not found"})
        if method != "POST":
            return _json(405, {"result": "method not allowed"}, allow="POST")
        if challenged is not None:
            return self._prove(environ, challenged)
        claims = self._verify(bearer_token(environ))
        request = parse_fire(read_body(environ))
        named = profile or self._homes.bound_to(claims.home)
        wanted = {name: request.get(name) for name in ("job_id", "fire_at")}
        admitted = admit(claims, self._settings, **wanted, home=named)
        self._homes.main.context.must_be_active("a fire")  # of whichever home: it is the machine that stands by
        home = self._homes.named(named) if named else self._homes.with_job(admitted.job_id, admitted.fire_at)
        if home is None or (not named and claims.home):
            self._homes.must_not_have(admitted.job_id, profile=named or str(claims.home))
        if home is None:
            return _json(200, gone_body(admitted.job_id, by_answer=admitted.by_answer))
        return self._fire(admitted, home, self._budget(environ), named=bool(named))

    def _prove(self, environ: Mapping[str, Any], profile: str) -> HttpAnswer:
        """Answer NAS's question whose callback this is. No store is read, and a machine on standby may say it too."""
        claims = self._verify(bearer_token(environ), PROOF_PURPOSE)
        read_body(environ)
        document = prove(claims, self._settings, home=profile or self._homes.bound_to(claims.home))
        if profile and self._homes.named(profile) is None:
            return _json(404, {"result": "not found"})
        return _json(200, document)

    def health(self) -> dict[str, object]:
        """Return what /healthz says: nothing secret, nothing that needs the store."""
        from chronos_cli import __version__

        return {
            "ok": True,
            "version": __version__,
            "mode": self.chosen.mode.value,
            "because": self.chosen.because,
            "runner": "warm" if self._runners.warm else "started",
            "runner_because": self._warm_start.choice.because,
            "standby": self.config.standby,
        }

    def running(self) -> int:
        """Return how many of the runners that were started here still go."""
        return self._runners.sweep()

    def _budget(self, environ: Mapping[str, Any]) -> float:
        """Return how long a synchronous answer may take: as configured, and never past the platform's own deadline."""
        left = environ.get(TIME_LEFT)
        budget = self.config.callback_budget
        return budget if left is None else max(1.0, min(budget, float(left) - _SPARE_S))

    def _fire(self, admitted: AuthorizedFire, home: ServedHome, budget: float, *, named: bool) -> HttpAnswer:
        home.context.must_be_active("a fire")
        sync = self.chosen.mode is Mode.SYNC
        launcher = DetachedLauncher(
            self._runners,
            launching={
                "home": home.config.home,
                "armed": home.context.wire is not None,
                "budget_s": budget if sync and self.chosen.freezes else None,
            },
            environment=home.environment,
            secrets=home.secrets,
            wait_s=budget if sync else 0.0,
        )
        context = replace(home.context, outbox=[])  # each fire has its own: several are served at once
        try:
            report = fire(
                context,
                admitted.job_id,
                fire_at=admitted.fire_at,
                delivery=admitted.delivery,
                launcher=launcher,
                heard=admitted.heard,
                door=Door(within_s=budget if sync else 0.0, looks=not self.chosen.freezes),
                by_answer=admitted.by_answer,
                generation=admitted.generation,
                home_is_named=named,
                elsewhere=self._homes.unserved,
            )
        except BaseException:
            launcher.answered()  # there will be no report whose leaving could be waited for
            self._alert(context)
            raise
        if report.reason is not None:
            streams.log(f"{admitted.job_id}: {report.outcome.value}: {report.reason}")

        if self.chosen.freezes:
            self._alert(context)

        def sent() -> None:
            launcher.answered()
            if report.started and self._warm_start.answered(home.environment):
                self._ends.serve(home.config.home, home.context)
            if not self.chosen.freezes:
                look_afterwards(context, report, streams.log)
                self._alert(context)

        return replace(_json(report.http_status, body_of(report), retry_after=report.retry_after), sent=sent)

    def _alert(self, context: Context) -> None:
        """Tell the on-failure command: in a thread, or, where the platform freezes those, briefly before the answer."""
        if self.chosen.freezes:
            context.send_alerts(frozen=True)
        else:
            alert_afterwards(context)


def fault(error: Exception, environ: Mapping[str, str], log: BoundedLog) -> HttpAnswer:
    """Return the answer to what should not have happened.

    Its text is logged only with CHRONOS_DEBUG: it may hold a secret.
    """
    said = log.write("fault", f"a fault: {type(error).__name__}; CHRONOS_DEBUG=1 shows where")
    if said and environ.get("CHRONOS_DEBUG", "").lower() in ("1", "true", "yes", "on"):
        from traceback import format_exception

        for line in "".join(format_exception(error)).splitlines():
            streams.log(line)
    return _json(500, {"result": "error", "error": {"code": "fault", "retryable": True}})


def _refused() -> HttpAnswer:
    return HttpAnswer(status=401, body=REFUSED, headers=(("WWW-Authenticate", "Bearer"),))


def _json(
    status: int, document: Mapping[str, object], *, retry_after: int | None = None, allow: str | None = None
) -> HttpAnswer:
    headers: list[tuple[str, str]] = []
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    if allow is not None:
        headers.append(("Allow", allow))
    return HttpAnswer(status=status, body=json.dumps(document).encode(), headers=tuple(headers))
