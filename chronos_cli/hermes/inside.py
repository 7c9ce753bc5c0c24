"""The work of the Hermes plug-in inside hermes-agent: arm and reconcile at NAS, judge fire tokens, start due runs.

hermes may serve several profiles in one process, so every call asks hermes which home is meant just now. A run has a
process of its own (`hermes_run`), which may be killed when its time is over without taking hermes along.
"""

from __future__ import annotations

import json
import os
import sys
from contextvars import ContextVar
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.config import load_config
from chronos_cli.config.load import HOME_VARIABLE
from chronos_cli.errors import ChronosError, TemporaryError
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.providers.chronos import ChronosScheduler
from chronos_cli.providers.interface import Activation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.config import Config
    from chronos_cli.operations.arming.reconcile import ReconcileResult
    from chronos_cli.operations.firing.admission import AuthorizedFire
    from chronos_cli.trust.tokens import FireClaims

_VERIFIERS: Final = "plugins.cron_providers.chronos.verify"
"""Where hermes' door looks, at each fire, for what judges the token."""


def own_provider(home: Path) -> ChronosScheduler:
    """Chronos' own provider for a home."""
    environ = {name: value for name, value in os.environ.items() if name != HOME_VARIABLE}
    config = _loaded(environ, home)
    return ChronosScheduler(
        Activation(config=config, context=open_home(config, ProcessEnvironment(environ=environ, secrets={})))
    )


def is_available() -> bool:
    """Return whether both URLs and a token source are configured; log an unreadable configuration and say no."""
    try:
        return _here().is_available()
    except ChronosError as error:
        _log(f"not available: {error.line()}")
        return False


def reconcile_home() -> ReconcileResult:
    """Make NAS agree with the store of hermes' home. Raises what `reconcile` raises."""
    result = _here().reconcile()
    for done in result.failed:
        if done.error is not None:
            _log(f"job {done.step.job_id} was not armed: {done.error.line()}")
    return result


def follow() -> None:
    """Reconcile, from where hermes cannot take an error: it is logged, and the next reconcile mends it."""
    try:
        reconcile_home()
    except ChronosError as error:
        _log(f"NAS was not told of the jobs: {error.line()}")


class TokenJudge:
    """Judges fire tokens as hermes' door asks for it, and keeps the claims for the fire that follows in its context."""

    def __init__(self) -> None:
        self._claims: ContextVar[FireClaims | None] = ContextVar("chronos_fire", default=None)

    def __call__(self, token: str = "", **kwargs: Any) -> Mapping[str, Any] | None:
        """The claims of a token that holds here, else None. What the door read from its config, the home's own says.

        On standby none holds: the door then answers with a refusal, which NAS repeats, and not with a yes that is lost.
        """
        from chronos_cli.operations.firing.admission import trust_settings
        from chronos_cli.trust.verifier import fire_verifier

        del kwargs
        self._claims.set(None)
        try:
            config = _config()
        except ChronosError as error:
            _log(f"fire refused: {error.line()}")
            return None
        if config.standby:
            _log("fire refused: this machine is on standby")
            return None
        try:
            claims = fire_verifier(trust_settings(config))(token or None)
        except ChronosError as error:
            _log(f"fire refused: {error.code}")
            return None
        self._claims.set(claims)
        return dict(claims.claims)

    def admitted(self, job_id: str) -> AuthorizedFire | None:
        """Return the scope of this request's token; None where there was none. Raises TokenError, UsageError."""
        from chronos_cli.operations.firing.admission import admit, trust_settings

        claims = self._claims.get()
        return None if claims is None else admit(claims, trust_settings(_config()), job_id=job_id, fire_at=None)


def take_verifier() -> None:
    """Have hermes' door ask a `TokenJudge` from now on, in this process."""
    module = import_module(_VERIFIERS)
    if not isinstance(module.get_fire_verifier(), TokenJudge):
        judge = TokenJudge()
        module.get_fire_verifier = lambda: judge  # type: ignore[attr-defined]


def fire_due(job_id: str) -> bool:
    """Settle a fire of a job in a process of its own, and wait for its end; whether anything was started.

    A token that is not for this job starts nothing. Raises TemporaryError where the process could not do its work.
    """
    import subprocess

    judge = import_module(_VERIFIERS).get_fire_verifier()
    try:
        admitted = judge.admitted(job_id) if isinstance(judge, TokenJudge) else None
    except ChronosError as error:
        _log(f"fire of job {job_id} refused: {error.code}")
        return False
    given = {
        "job_id": job_id,
        "fire_at": admitted.fire_at.isoformat() if admitted and admitted.fire_at else None,
        "delivery": admitted.delivery if admitted else None,
        "heard": admitted.heard.isoformat() if admitted and admitted.heard else None,
    }
    home = str(_home())
    env = {**os.environ, "HERMES_HOME": home, HOME_VARIABLE: home}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "chronos_cli.hermes.run"],
        input=json.dumps(given), stdout=subprocess.PIPE, text=True, env=env, check=False, start_new_session=True,
    )  # fmt: skip
    try:
        report = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    except ValueError:
        raise TemporaryError(f"the run of job {job_id} ended with {done.returncode} and no report") from None
    if report.get("reason"):
        _log(f"job {job_id}: {report['outcome']}: {report['reason']}")
    return bool(report["started"])


def _here() -> ChronosScheduler:
    return own_provider(_home())


def _config() -> Config:
    return _loaded({name: value for name, value in os.environ.items() if name != HOME_VARIABLE}, _home())


def _loaded(environ: Mapping[str, str], home: Path) -> Config:
    config = load_config(environ=environ, home=str(home))
    for text in config.warnings:
        _log_once(text)
    return config


@lru_cache(maxsize=256)
def _log_once(text: str) -> None:
    _log(text)


def _home() -> Path:
    """The home that hermes works in just now."""
    return Path(import_module("hermes_constants").get_hermes_home())


def _log(text: str) -> None:
    import logging

    logging.getLogger("cron.chronos_cron").warning("%s", text)
