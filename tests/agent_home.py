"""A real agent for tests: a home configured for a running NAS, and its shim served by waitress in a process of its own.

with running_nas(tmp_path) as nas, running_agent(tmp_path, nas) as agent:
    agent.chronos("job", "add", "every 2s", "--command", "true")     # -> CompletedProcess of the real command
    agent.jobs(), agent.rows("JOB"), agent.wait_for_row("JOB", state="ok")
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chronos_cli.cli import main
from tests import forked
from tests.in_process import may_run_here, run_here
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nas_process import NasProcess

ROOT = Path(__file__).resolve().parent.parent

AT_HAND = {"arm", "cancel", "history", "hold", "job", "list", "logs", "next", "reconcile", "status", "timeline"}
"""Commands that start no process and end at once."""


class AgentHome:
    """One agent: its home, its token, and its shim's process."""

    def __init__(self, home: Path, nas: NasProcess, *, name: str = "agent", extra: str = "") -> None:
        self.home = home
        self.port = free_port()
        self.access = nas.add_agent(name)
        home.mkdir(parents=True, exist_ok=True)
        (home / "token").write_text(self.access.token)
        (home / "token").chmod(0o600)
        (home / "config.yaml").write_text(
            f"""timezone: UTC
cron:
  provider: chronos
  chronos:
    portal_url: {nas.url}
    callback_url: http://127.0.0.1:{self.port}
    expected_audience: "{self.access.audience}"
    nas_jwks_url: {nas.url}/.well-known/jwks.json
    token_file: token
{extra}"""
        )
        self.shim: subprocess.Popen[bytes] | None = None
        self.log = home.parent / f"{name}-shim.log"

    def env(self, **more: str) -> dict[str, str]:
        """The environment of this agent's commands."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CHRONOS_")}
        return kept | {"PYTHONPATH": str(ROOT), "CHRONOS_HOME": str(self.home), **more}

    def chronos(self, *arguments: str, timeout: float = 60, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the real command; what only sets up or looks at things is not worth a process of its own."""
        if arguments[:1] and arguments[0] in AT_HAND and not more and may_run_here():
            return run_here(main, ["--home", str(self.home), *arguments])
        return forked.run(arguments, env=self.env(**more), timeout=timeout)

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Begin a real command."""
        return forked.start(arguments, env=self.env(**more))

    def start_shim(self, **more: str) -> None:
        """Serve the shim, and return once it answers."""
        serve = [sys.executable, "-m", "waitress", f"--listen=127.0.0.1:{self.port}", "--threads=8"]
        with self.log.open("ab") as log:
            self.shim = subprocess.Popen(
                [*serve, "chronos_cli.callback.wsgi:application"], env=self.env(**more), stdout=log, stderr=log
            )
        until = time.monotonic() + 20
        while time.monotonic() < until and self.shim.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(f"the shim did not start, exit {self.shim.poll()}: {self.log.read_text()}")

    def stop_shim(self, number: int = signal.SIGTERM) -> None:
        """Stop the shim; what it started goes on."""
        if self.shim is not None:
            self.shim.send_signal(number)
            self.shim.wait(20)
            self.shim = None

    def jobs(self) -> list[dict[str, Any]]:
        """The records as stored."""
        return json.loads((self.home / "cron/jobs.json").read_text())["jobs"]

    def job(self, job_id: str) -> dict[str, Any]:
        """One record as stored."""
        return next(job for job in self.jobs() if job["id"] == job_id)

    def rows(self, job_id: str) -> list[dict[str, Any]]:
        """A job's rows, oldest first."""
        return [json.loads(path.read_text()) for path in sorted((self.home / "cron/runs" / job_id).glob("*.json"))]

    def wait_for_row(self, job_id: str, *, count: int = 1, timeout: float = 20, **match: Any) -> list[dict[str, Any]]:
        """Wait until so many rows match, and return them."""
        until = time.monotonic() + timeout
        while True:
            found = [row for row in self.rows(job_id) if all(row.get(k) == v for k, v in match.items())]
            if len(found) >= count:
                return found
            if time.monotonic() > until:
                raise AssertionError(f"{match} not among {self.rows(job_id)}; shim: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)


@contextmanager
def running_agent(folder: Path, nas: NasProcess, **options: Any) -> Iterator[AgentHome]:
    """An agent with its shim up."""
    name = options.get("name", "agent")
    agent = AgentHome(folder / f"{name}-home", nas, **options)
    agent.start_shim()
    try:
        yield agent
    finally:
        agent.stop_shim()
