"""The running authority: everything wired together, from the first line to a graceful stop."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TextIO

from chronos_cli.authority.addresses import CallbackPolicy
from chronos_cli.authority.app import Application, Limits
from chronos_cli.authority.backoff import Backoff
from chronos_cli.authority.callbacks import CallbackClient
from chronos_cli.authority.dispatcher import Dispatcher
from chronos_cli.authority.gate import Bounds, Gate
from chronos_cli.authority.journal import Journal
from chronos_cli.authority.metrics import Metrics
from chronos_cli.authority.rates import Rates
from chronos_cli.authority.registry import Registry
from chronos_cli.authority.relay import Relay
from chronos_cli.authority.roster import Roster
from chronos_cli.authority.workers import Workers
from chronos_cli.errors import ConfigError, ConflictError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chronos_cli.authority.home import Home
    from chronos_cli.authority.interface import Backend

WEB_THREADS = 16
MAX_CONNECTIONS = 1_000
STOP_WEB_S = 5.0


class Role(StrEnum):
    """What a process does: answer the agents, relay due timers, or both."""

    WEB = "web"
    WORKER = "worker"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to serve. `port` 0 picks a free one. `portal_url`: our public URL, the issuer of tokens, if it differs."""

    home: Home
    host: str
    port: int
    role: Role = Role.BOTH
    portal_url: str | None = None
    policy: CallbackPolicy = field(default_factory=CallbackPolicy)
    limits: Limits = field(default_factory=Limits)
    bounds: Bounds = field(default_factory=Bounds)
    backoff: Backoff = field(default_factory=Backoff)
    relays: int = 64
    relay_timeout_s: float = 30.0
    ready_file: Path | None = None
    log_file: Path | None = None


class Server:
    """waitress, run by hand so that stopping it can be graceful."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        from waitress import create_server  # type: ignore[import-untyped]
        from waitress.wasyncore import loop  # type: ignore[import-untyped]

        self._map: dict[int, Any] = {}
        self._loop = loop
        self._stopping = False
        try:
            self._server = create_server(
                application,
                map=self._map,
                host=host,
                port=port,
                threads=WEB_THREADS,
                connection_limit=MAX_CONNECTIONS,
                channel_timeout=60,
                max_request_header_size=32 * 1024,
                max_request_body_size=4 * 1024 * 1024,
                ident="chronos-nas",
                clear_untrusted_proxy_headers=True,
            )
        except OSError as error:
            hint = "stop what listens there, or choose --port"
            raise ConflictError(f"cannot listen on {host}:{port}: {error.strerror or error}", hint=hint) from error
        self.port = int(getattr(self._server, "effective_port", 0) or self._server.effective_listen[0][1])

    def run(self) -> None:
        """Serve until `stop`; then let the requests at hand end."""
        while not self._stopping:
            self._loop(timeout=1, use_poll=True, map=self._map, count=1)
        for dispatcher in list(self._map.values()):
            if getattr(dispatcher, "accepting", False):
                dispatcher.del_channel()
                dispatcher.socket.close()
        deadline = time.monotonic() + STOP_WEB_S
        while time.monotonic() < deadline and any(_busy(channel) for channel in self._map.values()):
            self._loop(timeout=0.05, use_poll=True, map=self._map, count=1)
        self._server.task_dispatcher.shutdown(cancel_pending=True, timeout=1)

    def stop(self) -> None:
        """Make `run` end soon. Callable from a signal handler."""
        self._stopping = True
        for dispatcher in list(self._map.values()):
            if hasattr(dispatcher, "pull_trigger") and not hasattr(dispatcher, "accepting"):
                dispatcher.pull_trigger()
                return


def serve(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT; returns after the relays in flight have ended.

    Raises ConfigError and ConflictError where it cannot start.
    """
    with ExitStack() as stack:
        stream: TextIO = sys.stdout
        if settings.log_file is not None:
            try:
                stream = stack.enter_context(settings.log_file.open("a", encoding="utf-8"))
            except OSError as error:
                raise ConfigError(
                    f"cannot write the log {settings.log_file}: {error}", hint="see --log-file"
                ) from error
        journal = Journal(stream, time.time)
        backend = settings.home.backend()
        if not settings.home.postgres:
            stack.enter_context(_sole(settings.home.sqlite_path))
        backend.prepare()
        stack.callback(backend.close)
        keys = settings.home.key_ring(time.time, environ)
        keys.prepare()
        keys.signing()
        _run(settings, backend, keys, journal)


def _run(settings: Settings, backend: Backend, keys: Any, journal: Journal) -> None:
    registry = Registry(backend, time.time)
    counts = Metrics()
    gate = Gate(settings.bounds, time.monotonic)
    relaying: list[Dispatcher] = []

    def nudge(due_at: float) -> None:
        for dispatcher in relaying:
            dispatcher.nudge(due_at)

    def ready() -> str | None:
        registry.next_due_at()
        return None if all(dispatcher.alive for dispatcher in relaying) else "due timers are not being relayed"

    application = Application(
        registry=registry,
        roster=Roster(backend, time.time),
        keys=keys,
        policy=settings.policy,
        limits=settings.limits,
        rates=Rates(time.monotonic),
        journal=journal,
        counts=counts,
        nudge=nudge,
        ready=ready,
        gauges=lambda: counts.render(registry.gauges(), gate.circuits()),
        agents_served=settings.role is not Role.WORKER,
    )
    server = Server(application, settings.host, settings.port)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{shown}:{server.port}"
    portal_url = (settings.portal_url or url).rstrip("/")
    workers: Workers | None = None
    if settings.role is not Role.WEB:
        client = CallbackClient(settings.policy, timeout=settings.relay_timeout_s)
        relay = Relay(
            keys=keys,
            client=client,
            backoff=settings.backoff,
            issuer=portal_url,
            clock=time.time,
            draw=random.random,
        )
        workers = Workers(
            size=settings.relays,
            registry=registry,
            relay=relay,
            gate=gate,
            journal=journal,
            metrics=counts,
            clock=time.time,
        )
        dispatcher = Dispatcher(registry=registry, workers=workers, gate=gate, journal=journal, clock=time.time)
        relaying.append(dispatcher)
        dispatcher.start()
    if settings.role is not Role.WORKER:
        registry.remember("portal_url", portal_url)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    journal.write("listening", url=url, portal_url=portal_url, role=settings.role.value, pid=os.getpid())
    sys.stderr.write(f"chronos-nas: listening on {url} (timers in {_where(settings.home)})\n")
    sys.stderr.flush()
    if settings.ready_file is not None:
        _write_ready(settings.ready_file, url)
    server.run()
    journal.write("stopping")
    for dispatcher in relaying:
        dispatcher.stop()
    finished = workers is None or workers.stop(settings.relay_timeout_s + 5)
    journal.write("stopped", relays_finished=finished)


def _busy(channel: Any) -> bool:
    return bool(getattr(channel, "requests", None)) or bool(getattr(channel, "total_outbufs_len", 0))


def _sole(database: Path) -> TextIO:
    """Hold the lock that makes this the only server of a SQLite file; released when the file is closed."""
    path = database.with_name(f"{database.name}.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot use {path.parent}: {error.strerror or error}", hint="see --home and --db") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        hint = "stop it, or use PostgreSQL for several processes"
        raise ConflictError(f"another chronos-nas serves {database}", hint=hint) from error
    return file


def _where(home: Home) -> str:
    return "PostgreSQL" if home.postgres else str(home.sqlite_path)


def _write_ready(path: Path, url: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(url + "\n", encoding="utf-8")
    temporary.replace(path)
