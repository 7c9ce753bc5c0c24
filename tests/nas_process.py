"""A real `chronos-nas` for tests: its own process, its own home, a free port, SQLite unless told otherwise.

    from tests.nas_process import running_nas

    def test_something(tmp_path):
        with running_nas(tmp_path) as nas:
            agent = nas.add_agent("a1")                 # .token .audience .config (the four lines to paste)
            nas.url                                     # http://127.0.0.1:PORT, also the issuer
            nas.call("POST", "/api/agent-cron/provision", agent.token, {...})   # -> Reply(status, headers, json)
            nas.provision(agent, "job", when, callback_url)                      # the same, shorter; a datetime
            nas.wait_for("relayed", job_id="job", outcome="delivered")           # -> the log line, or AssertionError
            nas.events("provisioned")                   # all log lines of that event so far, as dicts
            nas.timers(), nas.dead()                    # what the operator's commands show
            nas.kill(); nas.start()                     # kill -9, and start again on the same port and home

It allows private callbacks over plain http. Flags of `chronos-nas serve` are passed as they are:
`running_nas(tmp_path, "--retry-base", "0.05")`. Nothing is left behind: the process is stopped with SIGTERM (and the
exit code checked), killed when it does not go. `Callback` is an agent's side: an HTTP server whose answers a test
decides.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from chronos_cli.nas_server.cli import main
from tests import forked
from tests.in_process import may_run_here, run_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from chronos_cli.nas_server.timers.interface import Backend

ROOT = Path(__file__).resolve().parent.parent
START_S = 20.0
METRICS_TOKEN = "of-the-operators"
BEFORE = ""
"""What a server's interpreter does first, where a test puts something here."""


@dataclass(frozen=True)
class AgentAccess:
    """What an agent was given: its token, the audience to expect, and the config lines."""

    name: str
    token: str
    audience: str
    config: dict[str, str]


@dataclass(frozen=True)
class Reply:
    """An answer of the NAS. `json` is None where the body is none."""

    status: int
    headers: dict[str, str]
    json: Any
    body: bytes = field(repr=False, default=b"")


def run_nas(*arguments: str, home: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one `chronos-nas` command to its end."""
    return forked.run(arguments, env=_env(home) | (env or {}), program="chronos-nas")


def _env(home: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CHRONOS_NAS", "COLUMNS"))}
    return {**kept, "PYTHONPATH": str(ROOT), "CHRONOS_NAS_HOME": str(home)}


class NasProcess:
    """A `chronos-nas serve` and what a test does with it."""

    def __init__(
        self, folder: Path, flags: tuple[str, ...], env: dict[str, str] | None = None, *, home: Path | None = None
    ) -> None:
        self.home = home or folder / "nas-home"
        self.log = folder / "nas.log"
        self._flags, self._more = flags, env
        self._env = _env(self.home) | {"CHRONOS_NAS_METRICS_TOKEN": METRICS_TOKEN} | (env or {})
        self._ready = folder / "nas.url"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self.url = ""

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, on the port it had before if it was started before, and wait until it listens."""
        self._ready.unlink(missing_ok=True)
        arguments = ["serve", "--port", str(self._port), "--ready-file", str(self._ready), "--log-file", str(self.log)]
        if "--no-private" not in self._flags:
            arguments.append("--allow-private-callbacks")
        arguments += [flag for flag in self._flags if flag != "--no-private"]
        errors = self._ready.with_suffix(".stderr")
        with errors.open("wb") as stderr:
            streams = {"env": self._env, "stdout": subprocess.DEVNULL, "stderr": stderr}
            if BEFORE:
                _, main = forked.PROGRAMS["chronos-nas"]
                self._process = subprocess.Popen([sys.executable, "-c", BEFORE + main, *arguments], **streams)
            else:
                self._process = forked.start(arguments, program="chronos-nas", **streams)
        deadline = time.monotonic() + START_S
        while not self._ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"chronos-nas did not start: {errors.read_text()}")
            time.sleep(0.01)
        self.url = self._ready.read_text().strip()
        self._port = int(self.url.rsplit(":", 1)[1])

    def stop(self, timeout: float = 20.0) -> int:
        """Stop it with SIGTERM and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("chronos-nas did not stop") from None

    def kill(self) -> None:
        """Kill it with SIGKILL, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def command(self, *arguments: str) -> dict[str, Any]:
        """Run another command of `chronos-nas` on this home, with --json, and return its document."""
        db = [flag for before, flag in zip(self._flags, self._flags[1:], strict=False) if before == "--db"]
        words = [*arguments, *(["--db", db[0]] if db else []), "--json"]
        if may_run_here() and not self._more:
            done = run_here(main, [*words, "--home", str(self.home)])
        else:
            done = run_nas(*words, home=self.home, env=self._env)
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def backend(self) -> Backend:
        """Its store, opened beside it."""
        from chronos_cli.nas_server.home import find_home

        db = [flag for before, flag in zip(self._flags, self._flags[1:], strict=False) if before == "--db"]
        return find_home(self.home, db[0] if db else None, {}).backend()

    def add_agent(self, name: str, *flags: str) -> AgentAccess:
        """Let an agent in."""
        document = self.command("agent", "add", name, *flags)
        return AgentAccess(name, document["token"], document["audience"], document["config"])

    def call(
        self, method: str, path: str, token: str | None = None, document: Any = None, *, raw: bytes | None = None
    ) -> Reply:
        """One HTTP request to it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            connection.request(method, path, raw if document is None else json.dumps(document), headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        parsed = None
        with contextlib.suppress(ValueError):
            parsed = json.loads(body)
        return Reply(answer.status, {key.lower(): value for key, value in answer.getheaders()}, parsed, body)

    def provision(
        self, agent: AgentAccess, job_id: str, fire_at: datetime | str, callback_url: str, **more: Any
    ) -> Reply:
        """Arm a job."""
        text = fire_at if isinstance(fire_at, str) else fire_at.isoformat(timespec="seconds")
        body = {"job_id": job_id, "fire_at": text, "agent_callback_url": callback_url, "dedup_key": f"{job_id}:{text}"}
        return self.call("POST", "/api/agent-cron/provision", agent.token, body | more)

    def cancel(self, agent: AgentAccess, job_id: str, **more: Any) -> Reply:
        """Cancel a job."""
        return self.call("POST", "/api/agent-cron/cancel", agent.token, {"job_id": job_id} | more)

    def armed(self, agent: AgentAccess) -> dict[str, dict[str, str]]:
        """What the list shows of an agent, by job id, through all pages."""
        found: dict[str, dict[str, str]] = {}
        cursor = ""
        while True:
            reply = self.call("GET", "/api/agent-cron/list" + (f"?cursor={cursor}" if cursor else ""), agent.token)
            assert reply.status == 200, reply
            found |= {one["job_id"]: one for one in reply.json["armed"]}
            if "next_cursor" not in reply.json:
                return found
            cursor = reply.json["next_cursor"]

    def timers(self) -> list[dict[str, Any]]:
        """What `chronos-nas timers` shows."""
        timers: list[dict[str, Any]] = self.command("timers", "--limit", "100000")["timers"]
        return timers

    def dead(self) -> list[dict[str, Any]]:
        """What `chronos-nas dead list` shows."""
        dead: list[dict[str, Any]] = self.command("dead", "list")["dead"]
        return dead

    def events(self, event: str | None = None, **match: Any) -> list[dict[str, Any]]:
        """The log lines so far: of one event, with these members, if given."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [
            line
            for line in lines
            if (event is None or line["event"] == event) and all(line.get(key) == value for key, value in match.items())
        ]

    def wait_for(self, event: str, *, count: int = 1, timeout: float = 10.0, **match: Any) -> dict[str, Any]:
        """The `count`-th log line of that event with these members; AssertionError when it does not come in time."""
        deadline = time.monotonic() + timeout
        while len(found := self.events(event, **match)) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"no {event} {match} in {timeout} s; the log: {self.events()[-20:]}")
            time.sleep(0.02)
        return found[count - 1]


@contextmanager
def running_nas(
    folder: Path, *flags: str, env: dict[str, str] | None = None, home: Path | None = None
) -> Iterator[NasProcess]:
    """A NAS that runs for the length of the block; see this module's text. `--no-private` forbids private callbacks.

    `home`: another one than the folder's own, for processes that share one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nas = NasProcess(folder, flags, env, home=home)
    nas.start()
    try:
        yield nas
    except BaseException:
        nas.kill()
        raise
    if nas.running:
        code = nas.stop()
        assert code == 0, f"chronos-nas ended with {code}"


@dataclass
class Fire:
    """A callback as it arrived. `at`: seconds since the epoch."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    @property
    def token(self) -> str:
        """The JWT."""
        return self.headers["authorization"].removeprefix("Bearer ")


Answer = tuple[int, dict[str, str], Any] | tuple[int, dict[str, str]] | int


class Callback:
    """An agent's callback: records each fire and answers what `answer(fire)` says (a status, with headers, with a JSON body).

    Used as a context manager; `.url` is its base URL. `answer` may block; each connection has its own thread.
    """

    def __init__(self, answer: Callable[[Fire], Answer] | int = 200) -> None:
        self.fires: list[Fire] = []
        self.answer = answer
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {key.lower(): value for key, value in self.headers.items()}
                fire = Fire(urlsplit(self.path).path, headers, json.loads(body), time.time())
                outer.fires.append(fire)
                result = outer.answer(fire) if callable(outer.answer) else outer.answer
                status, more, *bodies = result if isinstance(result, tuple) else (result, {})
                answer = json.dumps(bodies[0]).encode() if bodies else b""
                self.send_response(status)
                for key, value in ({"Content-Length": str(len(answer))} | more).items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                """A NAS that was killed in the middle of a relay is part of the tests."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, count: int = 1, timeout: float = 10.0) -> list[Fire]:
        """The fires so far, once there are `count`; AssertionError when they do not come in time."""
        deadline = time.monotonic() + timeout
        while len(self.fires) < count:
            assert time.monotonic() < deadline, f"{len(self.fires)} of {count} fires in {timeout} s"
            time.sleep(0.005)
        return list(self.fires)
