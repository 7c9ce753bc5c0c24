"""The running NAS: everything wired together, from the first line to a graceful stop."""

from __future__ import annotations

import fcntl
import gc
import os
import random
import signal
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, TextIO

from chronos_cli.errors import ConfigError, ConflictError
from chronos_cli.files import open_named, write_output
from chronos_cli.nas_server.event_log import EventLog
from chronos_cli.nas_server.http.agent_calls import AgentResponder
from chronos_cli.nas_server.http.app import NasApplication
from chronos_cli.nas_server.http.listener import MAX_CONNECTIONS, Server
from chronos_cli.nas_server.http.rates import Rates
from chronos_cli.nas_server.metrics import Metrics
from chronos_cli.nas_server.open_files import raise_open_files
from chronos_cli.nas_server.options import Role, Settings
from chronos_cli.nas_server.pulse import Pulse
from chronos_cli.nas_server.relay.callbacks import CallbackClient
from chronos_cli.nas_server.relay.delivery import Relay
from chronos_cli.nas_server.relay.engine import RelayEngine
from chronos_cli.nas_server.relay.limits import CallLimits
from chronos_cli.nas_server.relay.proof_gate import ProofGate
from chronos_cli.nas_server.relay.proving import CHALLENGE_S, ProofRegister
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.audit import record_alone
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.meta import NasMeta
from chronos_cli.nas_server.timers.registry import TimerRegistry
from chronos_cli.private_memory import hide_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from chronos_cli.nas_server.home import NasHome
    from chronos_cli.nas_server.keys import KeyRing
    from chronos_cli.nas_server.timers.interface import Backend
    from chronos_cli.nas_server.timers.model import Delivery

CLAIM_MARGIN_S = 15.0
"""The time a claim holds beyond the longest relay: names are looked up and outcomes written down meanwhile."""

_AHEAD = "This host's clock against the one that decides."

START_WAIT_S = 60.0
"""The time that a database may take to come up before this gives up (exit 75)."""


def serve(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT; returns after the relays in flight have ended.

    Raises ConfigError, ConflictError and RegistryUnavailableError where it cannot start.
    """
    hide_memory()  # it holds the keys that sign
    with ExitStack() as stack:
        stream: TextIO = sys.stdout
        if settings.log_file is not None:
            try:
                log = open_named(settings.log_file, os.O_WRONLY | os.O_APPEND)
                stream = stack.enter_context(os.fdopen(log, "a", encoding="utf-8"))
            except OSError as error:
                raise ConfigError(
                    f"cannot write the log {settings.log_file}: {error}",
                    hint="give --log-file a place that can be written",
                ) from error
        journal = EventLog(stream, time.time)
        _raise_open_files(settings, journal)
        backend = settings.home.backend(serving=True)
        if not settings.home.postgres:
            stack.enter_context(_sole(settings.home.sqlite_path))
        _prepare(backend, journal)
        stack.callback(backend.close)
        keys = settings.home.key_ring(backend.now, environ)
        if (first := keys.prepare()) is not None:
            record_alone(backend, backend.now, "keys.first", first.kid, alg=first.alg)
        keys.signing()
        _run(settings, backend, keys, journal)


def _raise_open_files(settings: Settings, journal: EventLog) -> None:
    """Make room for all connections at once, and say where there is none."""
    relays = 0 if settings.role is Role.WEB else settings.bounds.total
    files = raise_open_files(connections=MAX_CONNECTIONS, relays=relays)
    if files.now != files.before or not files.enough:
        journal.write("open_files", limit=files.now, before=files.before, needed=files.needed)
    if not files.enough:
        sys.stderr.write(
            f"chronos-nas: warning: {files.now} files may be open at once, and {files.needed} may be needed: raise the"
            " hard limit (`ulimit -Hn`, LimitNOFILE= of a unit), or lower --relays\n"
        )


def _prepare(backend: Backend, journal: EventLog) -> None:
    """Bring the tables up, waiting for a database that starts. Raises RegistryUnavailableError."""
    until = time.monotonic() + START_WAIT_S
    said = None
    while True:
        try:
            done = backend.prepare()
        except RegistryUnavailableError as error:
            if time.monotonic() > until:
                raise
            if error.line() != said:
                said = error.line()
                journal.write("error", where="start", message=said)
            time.sleep(0.5)
        else:
            if done:
                journal.write("tables_upgraded", done=done)
            return


def _run(settings: Settings, backend: Backend, keys: KeyRing, journal: EventLog) -> None:
    claim_s = settings.relay_timeout_s + CLAIM_MARGIN_S
    registry = TimerRegistry(backend, backend.now, claim_s=claim_s)
    facts = NasMeta(backend, backend.now)
    counts = Metrics()
    gate = CallLimits(settings.bounds, time.monotonic)
    pulse = Pulse(backend.measure, journal)
    relaying: RelayEngine | None = None

    def nudge(due_at: float, hosts: set[str]) -> None:
        if relaying is not None:
            relaying.nudge(due_at)
        for host in hosts:
            # An agent that provisions is alive: a host that was given up is asked soon.
            gate.seen(host)

    def ready() -> str | None:
        # From what is known: a probe must never wait for a store that does not answer.
        if (missing := pulse.missing()) is not None:
            return missing
        starting = settings.role is not Role.WEB and relaying is None
        return "due timers are not being relayed" if starting or (relaying and not relaying.alive) else None

    rates = Rates(time.monotonic)

    def pay(delivery: Delivery) -> float:
        return rates.wait_s(delivery.agent_id, delivery.rate or settings.limits.rate)

    proofs = ProofRegister(
        backend,
        keys,
        lambda: CallbackClient(settings.policy, timeout=CHALLENGE_S),
        journal,
        issuer=lambda: portal_url,
        clock=backend.now,
    )
    calls = AgentResponder(
        registry=registry,
        policy=settings.policy,
        limits=settings.limits,
        rates=rates,
        journal=journal,
        counts=counts,
        nudge=nudge,
        proofs=ProofGate(proofs, required=settings.require_callback_proof),
    )
    application = NasApplication(
        calls=None if settings.role is Role.WORKER else calls,
        roster=AgentRegister(backend, backend.now),
        keys=keys,
        journal=journal,
        counts=counts,
        ready=ready,
        gauges=lambda: counts.render(
            {**facts.gauges(), "chronos_nas_clock_ahead_seconds": (_AHEAD, pulse.ahead_s)}, gate.circuits()
        ),
        metrics_token=settings.metrics_token,
    )
    server = Server(application, settings.host, settings.port, operator=settings.operator_listen)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{shown}:{server.port}"
    portal_url = _portal_url(settings, facts, url)
    if settings.role is not Role.WEB:
        relaying = _relaying(settings, registry, keys, gate, journal, counts, portal_url, pay, proofs)
        relaying.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    operators = {} if server.operator_port is None else {"operator_port": server.operator_port}
    journal.write("listening", url=url, portal_url=portal_url, role=settings.role.value, pid=os.getpid(), **operators)
    sys.stderr.write(f"chronos-nas: listening on {url} (timers in {_where(settings.home)})\n")
    sys.stderr.flush()
    if settings.ready_file is not None:
        _write_ready(settings.ready_file, url)
    _spare_the_collector()
    server.run()
    journal.write("stopping")
    pulse.stop()
    finished = relaying is None or relaying.stop()
    proofs.close()
    journal.write("stopped", relays_finished=finished)


def _spare_the_collector() -> None:
    """Have cycles looked for more seldom, and never among what stays: a tenth of a relay's processor time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _relaying(
    settings: Settings,
    registry: TimerRegistry,
    keys: KeyRing,
    gate: CallLimits,
    journal: EventLog,
    counts: Metrics,
    issuer: str,
    pay: Callable[[Delivery], float],
    proofs: ProofRegister,
) -> RelayEngine:
    if not settings.home.postgres:
        # This process is the only one: what was claimed, was claimed by one that died.
        registry.release_claims()
    relay = Relay(
        keys=keys,
        backoff=settings.backoff,
        issuer=issuer,
        clock=registry.backend.now,
        draw=random.random,
        pay=pay,
        proofs=proofs if settings.require_callback_proof else None,
    )
    return RelayEngine(
        registry=registry,
        relay=relay,
        make_client=lambda: CallbackClient(settings.policy, timeout=settings.relay_timeout_s),
        gate=gate,
        journal=journal,
        metrics=counts,
        stop_s=settings.relay_timeout_s + 5,
    )


def _portal_url(settings: Settings, facts: NasMeta, url: str) -> str:
    """Return our public URL: as given, else where we listen.

    A worker without one takes what the web processes go by.
    """
    if settings.role is Role.WORKER:
        return (settings.portal_url or facts.recall("portal_url") or url).rstrip("/")
    portal_url = (settings.portal_url or url).rstrip("/")
    facts.remember("portal_url", portal_url)
    return portal_url


def _sole(database: Path) -> TextIO:
    """Hold the lock that makes this the only server of a SQLite file; released when the file is closed."""
    path = database.with_name(f"{database.name}.lock")
    try:
        file = os.fdopen(open_named(path, os.O_RDWR, make=True), "a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot use {path.parent}: {error.strerror or error}",
            hint="give --home or --db a place that can be written",
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        hint = "stop it, or use PostgreSQL for several processes"
        raise ConflictError(f"another chronos-nas serves {database}", hint=hint) from error
    return file


def _where(home: NasHome) -> str:
    return "PostgreSQL" if home.postgres else str(home.sqlite_path)


def _write_ready(path: Path, url: str) -> None:
    try:
        write_output(path, f"{url}\n".encode(), shared=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror or error}", hint="give --ready-file a place that can be written"
        ) from error
