"""A home with its shim called in this process: a real WSGI call, a real store, real keys, real runners.

home = ShimHome(tmp_path, key, nas.url, monkeypatch)
home.add("beat", "every 1h", "true", ago=1)        # a job that came due a second ago
reply = home.fire("beat")                          # Reply(status, headers, json, body), checked by wsgiref.validate
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from chronos_cli.callback.wsgi import CallbackApplication
from chronos_cli.config import load_config
from chronos_cli.core.edits import JobDraft
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.jobs import edit as jobs
from tests.fire_tokens import AUDIENCE, SigningKey

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PATH = "/api/cron/fire"


@dataclass(frozen=True)
class Reply:
    """An answer as it left."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's document."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """One header, None where it is absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def call(application: Any, *, checked: bool = True, **environ: Any) -> Reply:
    """Call a WSGI application once, as a server does, and close what it returned."""
    environ = {"SCRIPT_NAME": "", "QUERY_STRING": "", **environ}
    setup_testing_defaults(environ)
    said: list[Any] = []
    app = validator(application) if checked else application
    body = app(environ, lambda status, headers, exc_info=None: said.append((status, headers)))
    try:
        data = b"".join(body)
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()
    status, headers = said[0]
    return Reply(int(status[:3]), headers, data)


class ShimHome:
    """One home, and an application that serves it."""

    def __init__(
        self,
        folder: Path,
        key: SigningKey,
        nas_url: str,
        monkeypatch: pytest.MonkeyPatch,
        *,
        extra: str = "",
        keys: str = "",
    ) -> None:
        self.home = folder / "home"
        self.key = key
        self.issuer = nas_url
        self.home.mkdir(parents=True)
        (self.home / "jwks.json").write_text(json.dumps(key.jwks()))
        write_config(self.home, nas_url, keys or str(self.home / "jwks.json"), extra=extra)
        for name in [name for name in os.environ if name.startswith("CHRONOS_") and "TEST" not in name]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("CHRONOS_HOME", str(self.home))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("CHRONOS_CALLBACK_WARM_RUNNER", "off")  # two fires in a test are close together
        self.application = CallbackApplication()

    def token(self, **claims: Any) -> str:
        """A good token; `claims` replace its own."""
        return self.key.token(**{"iss": self.issuer, **claims})

    def request(self, data: bytes = b"", *, path: str = PATH, token: str | None = None, **environ: Any) -> Reply:
        """One POST of these bytes."""
        given: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(data)),
            "wsgi.input": io.BytesIO(data),
        }
        if token is not None:
            given["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        checked = environ.pop("checked", True)
        given.update(environ)
        return call(self.application, checked=checked, **{k: v for k, v in given.items() if v is not None})

    def fire(self, job_id: Any, fire_at: Any = None, *, path: str = PATH, token: str | None = None) -> Reply:
        """One fire with a good token, bound to nothing."""
        body = {"job_id": job_id} | ({} if fire_at is None else {"fire_at": fire_at})
        return self.request(json.dumps(body).encode(), path=path, token=token or self.token())

    def add(self, job_id: str, schedule: str, shell: str, *, ago: float = 0.0, **policy: Any) -> datetime:
        """Add a job as if on a clock that is `ago` seconds and one period back; returns its cursor."""
        return add_job(self.home, job_id, schedule, shell, ago=ago, **policy)

    def jobs(self) -> dict[str, dict[str, Any]]:
        """The records as stored."""
        found = json.loads((self.home / "cron/jobs.json").read_text())["jobs"]
        return {job["id"]: job for job in found}

    def arm(self, job_id: str) -> dict[str, Any]:
        """A job's arm document."""
        found: dict[str, Any] = json.loads((self.home / f"cron/arms/{job_id}.json").read_text())
        return found

    def rows(self, job_id: str) -> list[dict[str, Any]]:
        """A job's rows, oldest first."""
        return [json.loads(path.read_text()) for path in sorted((self.home / "cron/runs" / job_id).glob("*.json"))]

    def wait_for_rows(self, job_id: str, *, count: int = 1, timeout: float = 20, **match: Any) -> list[dict[str, Any]]:
        """The rows that match, once there are so many and none of the job's runs goes on."""
        until = time.monotonic() + timeout
        while True:
            rows = self.rows(job_id)
            found = [row for row in rows if all(row.get(name) == value for name, value in match.items())]
            if len(found) >= count and not self.jobs()[job_id].get("chronos", {}).get("open"):
                return found
            assert time.monotonic() < until, rows
            time.sleep(0.02)


def write_config(home: Path, nas_url: str, keys: str, *, audience: str = AUDIENCE, extra: str = "") -> None:
    """The configuration of a home that is armed at `nas_url`."""
    (home / "token").write_text("nas-token")
    (home / "token").chmod(0o600)
    (home / "config.yaml").write_text(
        f"""timezone: UTC
cron:
  provider: chronos
  chronos:
    portal_url: {nas_url}
    callback_url: http://127.0.0.1:9
    expected_audience: "{audience}"
    nas_jwks_url: {keys}
    token_file: token
{extra}"""
    )


def add_job(home: Path, job_id: str, schedule: str, shell: str, *, ago: float = 0.0, **policy: Any) -> datetime:
    """Add a job to a home; see `ShimHome.add`."""
    context = open_home(
        load_config(environ={}, home=str(home)), ProcessEnvironment(environ={}, secrets={}), armed=False
    )
    now = datetime.now(UTC)
    parsed = parse_schedule(schedule, now=now, zone=context.home.zone)
    if ago:
        now -= timedelta(seconds=ago + getattr(parsed, "seconds", 0))
        parsed = parse_schedule(schedule, now=now, zone=context.home.zone)
    draft = JobDraft(
        job_id=job_id, name=job_id, schedule=parsed, zone=context.home.zone, zone_name="UTC",
        policy=replace(context.home.policy, **policy), action={"shell": shell},
    )  # fmt: skip
    job = jobs.add(replace(context, clock=lambda: now), draft).job
    assert job.cursor is not None
    return job.cursor


def unique() -> str:
    """A name that nothing else has."""
    return uuid.uuid4().hex[:12]


def children() -> set[int]:
    """The living and dead children of this process, as the kernel counts them."""
    if sys.platform != "linux":
        return set()
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended since
            found.update(map(int, (task / "children").read_text().split()))
    return found
