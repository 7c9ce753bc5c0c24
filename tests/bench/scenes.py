"""The homes that are measured: a configured agent with jobs, its NAS, a signing key, and a fire that is due."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.bench.timing import Run
    from tests.fire_tokens import SigningKey
    from tests.nas_process import AgentAccess

JOB = "nightly-0000"
_ZONE = "America/New_York"
_CONFIG = """\
timezone: {zone}
cron:
  provider: chronos
  chronos:
    portal_url: {portal}
    callback_url: {callback}
    expected_audience: {audience}
    nas_jwks_url: {jwks}
"""


def environment(home: Path) -> dict[str, str]:
    """What a measured command is started with: a small environment, and byte code kept as an installation keeps it."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home.parent), "CHRONOS_HOME": str(home), "CHRONOS_NAS_TOKEN": "none"}


def console_script(name: str) -> str:
    """The installed command beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def record(number: int, *, due: datetime, command: list[str]) -> dict[str, Any]:
    """One job as it is stored: daily, at a minute of its own."""
    job_id = f"nightly-{number:04d}"
    expr = f"{number % 60} {number // 60 % 24} * * *"
    return {
        "id": job_id,
        "name": f"Nightly job {number}",
        "prompt": None,
        "schedule": {"kind": "cron", "expr": expr, "display": expr},
        "schedule_display": expr,
        "repeat": {"times": None, "completed": 0},
        "enabled": True,
        "state": "scheduled",
        "created_at": "2026-01-05T09:00:00-05:00",
        "next_run_at": due.isoformat(),
        "last_run_at": None,
        "last_status": None,
        "deliver": "local",
        "chronos": {"action": {"command": command}},
    }


def write_jobs(home: Path, count: int, *, due: datetime | None = None, command: tuple[str, ...] = ("true",)) -> None:
    """A jobs.json of so many jobs, each to come due when its schedule says; `due` is the first one's cursor."""
    now = datetime.now(ZoneInfo(_ZONE)).replace(microsecond=0)
    today = now.replace(hour=0, minute=0, second=0)
    times = [today + timedelta(minutes=number % 1440) for number in range(count)]
    following = [time if time > now else time + timedelta(days=1) for time in times]
    jobs = [record(number, due=at, command=list(command)) for number, at in enumerate(following)]
    if due is not None:
        jobs[0]["next_run_at"] = due.isoformat()
    (home / "cron").mkdir(parents=True, exist_ok=True)
    (home / "cron" / "jobs.json").write_text(json.dumps({"jobs": jobs, "updated_at": now.isoformat()}, indent=2))


def write_config(home: Path, **values: str) -> None:
    """The configuration that the wire contract shows."""
    usual = {
        "portal": "https://portal.example.com",
        "callback": "https://agent.example.com",
        "audience": "agent:7f3",
        "jwks": "https://portal.example.com/.well-known/jwks.json",
    }
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.yaml").write_text(_CONFIG.format(**{"zone": _ZONE, **usual, **values}))


def forget(home: Path) -> None:
    """Take away what runs and arms left behind, so that the next run starts as the first one did.

    What is known of NAS is part of it: here nobody hands it an answer, and after five in vain a command arms by itself.
    """
    for name in ("runs", "arms", "output"):
        shutil.rmtree(home / "cron" / name, ignore_errors=True)
    (home / "cron" / "nas.json").unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class FireScene:
    """A home in which one job out of `count` is due, and a NAS that lists its callback's keys."""

    home: Path
    portal: str
    access: AgentAccess
    key: SigningKey
    count: int = 100
    options: tuple[str, ...] = ()
    """More options of the fire; with `--answer` the token asks for the next wake in the answer."""

    @classmethod
    def make(
        cls, home: Path, portal: str, access: AgentAccess, jwks: str, key: SigningKey, count: int, *options: str
    ) -> FireScene:
        """Configure the home for a running NAS and a running JWKS endpoint."""
        write_config(home, portal=portal, audience=access.audience, jwks=jwks)
        return cls(home=home, portal=portal, access=access, key=key, count=count, options=options)

    @property
    def argv(self) -> list[str]:
        """The fire."""
        fire = [console_script("chronos"), "fire", "--job-id", JOB, "--token-file", str(self.home / "fire.jwt")]
        return [*fire, *self.options]

    @property
    def env(self) -> dict[str, str]:
        """The agent's environment, with its token for NAS."""
        return {**environment(self.home), "CHRONOS_NAS_TOKEN": self.access.token}

    def prepare(self, ago: int = 0) -> None:
        """Make the job due once more, so many seconds ago, with a token for just this occurrence."""
        forget(self.home)
        due = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=ago)
        if due.second == 0:  # on a whole minute that the schedule does not give it would be put right
            due -= timedelta(seconds=1)
        # The job tells when it exists: its output is the time of day.
        write_jobs(self.home, self.count, due=due, command=("date", "+%s%N"))
        claims = {"arm": "answer", "generation": 1} if "--answer" in self.options else {}
        token = self.key.token(iss=self.portal, aud=self.access.audience, job_id=JOB, fire_at=due.isoformat(), **claims)
        (self.home / "fire.jwt").write_text(token)

    def row(self) -> Mapping[str, Any]:
        """The row of the last fire. Raises ValueError where there is not exactly one."""
        (path,) = (self.home / "cron" / "runs" / JOB).glob("*.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def check(self, run: Run) -> None:
        """Raise RuntimeError unless the job ran and its next wake is armed."""
        try:
            row = self._settled() if "--detach" in self.options else self.row()
        except ValueError:
            raise RuntimeError(f"the fire left no row: {run.output!r}") from None
        arm = json.loads((self.home / "cron" / "arms" / f"{JOB}.json").read_text())
        carried = "--answer" in self.options and b'"next"' in run.output
        if row["state"] != "ok" or arm["state"] not in ({"confirmed", "answered"} if carried else {"confirmed"}):
            raise RuntimeError(f"the fire did not do its work: {row} {arm} {run.output!r}")

    def _settled(self) -> Mapping[str, Any]:
        """The row once a detached run is out of its job's hand; it competes with no other command then."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            job = json.loads((self.home / "cron" / "jobs.json").read_text())["jobs"][0]
            if self.row()["state"] == "ok" and not job["chronos"].get("open"):
                break
            time.sleep(0.02)
        return self.row()

    def until_job(self, run: Run) -> float:
        """Seconds from the command's start until its job's process existed and had the time of day."""
        text = (self.home / self.row()["attempts"][-1]["output"]).read_text()
        return (int(text.split()[0]) - run.started_ns) / 1e9
