"""The work of the Hermes plug-in inside hermes-agent: arm and reconcile at NAS, judge fire tokens, start due runs.

hermes may serve several profiles in one process, so every call asks hermes which home is meant just now. A run has a
process of its own (`hermes.run`), which may be killed when its time is over without taking hermes along.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from chronos_cli.config import load_config
from chronos_cli.config.load import HOME_VARIABLE
from chronos_cli.core.plan import ArmState
from chronos_cli.errors import ChronosError, RefusedError, TemporaryError
from chronos_cli.hermes import judging
from chronos_cli.hermes.started import FireProcess
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.providers.chronos import ChronosScheduler
from chronos_cli.providers.interface import Activation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from threading import Event

    from chronos_cli.config import Config
    from chronos_cli.operations.arming.reconcile import ReconcileResult

_GUARD = threading.Lock()
_BEGUN: dict[str, FireProcess] = {}
"""The processes whose runs have begun, until their end is waited for."""


def own_provider(home: Path) -> ChronosScheduler:
    """Return chronos' own provider for a home."""
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


def follow() -> bool:
    """Reconcile, from where hermes cannot take an error: it is logged, and the next reconcile mends it.

    Returns whether NAS refuses this agent for good: then nothing that is armed will ever fire.
    """
    try:
        result = reconcile_home()
    except ChronosError as error:
        _log(f"NAS was not told of the jobs: {error.line()}")
        return isinstance(error, RefusedError)
    return any(isinstance(done.error, RefusedError) for done in result.failed)


def register(job: Mapping[str, Any] | str) -> None:
    """Arm one job that was just made, its record or its id. Raises what NAS and the store raise."""
    job_id = job if isinstance(job, str) else str(job["id"])
    document = _here().register_job(job_id).document
    if document is not None and document.state is ArmState.REFUSED:
        said = dict(document.error or {})
        raise RefusedError(str(said.get("message") or "NAS refuses this agent for good"), hint=said.get("hint"))


def start_ticker(stop_event: Event, given: Mapping[str, Any]) -> Thread:
    """Start hermes' own ticker in a thread, as hermes would have without us. `given`: what hermes gave `start`."""
    import inspect

    ticker = import_module("cron.scheduler_provider").InProcessCronScheduler()
    known = inspect.signature(ticker.start).parameters
    wanted = {name: value for name, value in given.items() if name in known}
    _log(
        "NAS refuses this agent for good, so nothing that it holds fires: hermes' own ticker runs the jobs from now on"
    )
    thread = Thread(target=ticker.start, args=(stop_event,), kwargs=wanted, daemon=True, name="cron-ticker")
    thread.start()
    return thread


def take_verifier() -> None:
    """Have hermes' door ask our judge from now on, in this process."""
    judging.take_verifier(_JUDGE)


def claim(job_id: str, *, asked: bool = False) -> dict[str, Any] | None:
    """Settle a fire of a job in a process of its own, and return once what it starts has begun and is armed again.

    `asked`: a person wants a run now, outside the schedule. Returns what `finish` takes; None where nothing was
    started: it was taken before, or the token is not for this job. Raises TemporaryError where NAS must come again.
    """
    try:
        admitted = None if asked else _JUDGE.admitted(job_id)
    except ChronosError as error:
        if error.http_status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise  # it was not refused, and a yes would lose it
        _log(f"fire of job {job_id} refused: {error.code}")
        return None
    given = {
        "job_id": job_id,
        "asked": asked,
        "fire_at": admitted.fire_at.isoformat() if admitted and admitted.fire_at else None,
        "delivery": admitted.delivery if admitted else None,
        "heard": admitted.heard.isoformat() if admitted and admitted.heard else None,
    }
    process = FireProcess(str(_home()), given)
    report = process.heard()
    if report.get("reason"):
        _log(f"job {job_id}: {report['outcome']}: {report['reason']}")
    claimed = {"id": job_id, "chronos_run": uuid4().hex}
    with _GUARD:
        _BEGUN[claimed["chronos_run"]] = process
    if report["again"]:
        Thread(target=finish, args=(claimed,), daemon=True).start()
        raise TemporaryError(f"job {job_id}: {report['reason'] or report['outcome']}")
    if report["started"]:
        return claimed
    finish(claimed)
    return None


def finish(claimed: Mapping[str, Any], stop: Event | None = None) -> bool:
    """Wait for the end of what a claim has started, or for `stop`; False where this is no claim that is waited for."""
    with _GUARD:
        process = _BEGUN.pop(str(claimed.get("chronos_run")), None)
    if process is not None:
        process.wait(stop)
    return process is not None


def fire_due(job_id: str) -> bool:
    """Settle a fire of a job and wait for its end; whether anything was started. Older copies of the folder ask so."""
    claimed = claim(job_id)
    return claimed is not None and finish(claimed)


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
    """Return the home that hermes works in just now."""
    return Path(import_module("hermes_constants").get_hermes_home())


def _log(text: str) -> None:
    import logging

    logging.getLogger("cron.chronos_cron").warning("%s", text)


_JUDGE = judging.TokenJudge(_config, _log)
