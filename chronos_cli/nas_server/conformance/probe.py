"""The agent's side of a conformance run: calls to the NAS, and a listener for the callbacks."""

from __future__ import annotations

import json
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from chronos_cli.contract import (
    CANCEL_PATH,
    CLIENT_TIMEOUT_S,
    FEATURE_CALLBACK_PROOF,
    LIST_PATH,
    PROOF_PATH,
    PROVISION_PATH,
    callback_proof,
    format_fire_at,
    parse_fire_at,
)
from chronos_cli.errors import ConfigError, NasUnavailableError
from chronos_cli.nas_server.conformance.interface import BrokenError, NotTestedError, demand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

FAR = "https://agent.example.com"
"""A callback that is never called: its timers lie far ahead and are cancelled."""

LATE_S = 10.0
"""The time after its instant for which a fire is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAnswer:
    """A NAS's answer. `document` is None where the body is no JSON."""

    status: int
    document: Any

    def member(self, name: str) -> Any:
        """Return a member of the body's object, or None."""
        return self.document.get(name) if isinstance(self.document, dict) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFire:
    """A callback as it arrived; `at` in seconds since the epoch."""

    path: str
    authorization: str
    body: Any
    at: float

    @property
    def job_id(self) -> str:
        """Return the job its body names."""
        return str(self.body.get("job_id", "")) if isinstance(self.body, dict) else ""

    @property
    def token(self) -> str:
        """Return the bearer token."""
        scheme, _, token = self.authorization.partition(" ")
        demand(scheme.lower() == "bearer" and token, "the callback carries no bearer token")
        return token.strip()


@dataclass(slots=True)
class Listener:
    """Receiver of callbacks: records them, and answers each job as `answers` says (200 where it says nothing).

    `bodies`: what a 2xx to a job carries.
    """

    host: str
    port: int
    fires: list[ProbeFire] = field(default_factory=list)
    answers: dict[str, Callable[[ProbeFire], tuple[int, dict[str, str]]]] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    _server: Any = None
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def start(self) -> None:
        """Begin to listen. Raises ConfigError."""
        from waitress import create_server  # type: ignore[import-untyped]

        try:
            self._server = create_server(self._serve, host=self.host, port=self.port, threads=8, ident="conformance")
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self.host}:{self.port}: {error}",
                hint="stop what listens there, or choose another --callback-listen",
            ) from error
        self.port = int(self._server.effective_port)
        threading.Thread(target=self._listen, name="conformance-listener", daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError, ValueError):  # it was closed meanwhile
            self._server.run()

    def wait(self, job_id: str, count: int, until: float) -> list[ProbeFire]:
        """Return the fires of a job, once there are `count` or the time is `until`."""
        with self._changed:
            while len(found := [fire for fire in self.fires if fire.job_id == job_id]) < count:
                left = until - time.time()
                if left <= 0:
                    break
                self._changed.wait(left)
            return found

    def challenges(self, path: str, count: int, until: float) -> list[ProbeFire]:
        """Return the challenges that came to a path, once there are `count` or the time is `until`."""
        with self._changed:
            while len(found := [one for one in self.fires if one.path == path]) < count:
                left = until - time.time()
                if left <= 0:
                    break
                self._changed.wait(left)
            return found

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        data = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            body = json.loads(data)
        except ValueError:
            body = None
        path = str(environ.get("PATH_INFO", ""))
        fire = ProbeFire(path=path, authorization=str(environ.get("HTTP_AUTHORIZATION", "")), body=body, at=time.time())
        if path.startswith("/elsewhere"):
            self.strays.append(fire.job_id)
            start_response("200 OK", [("Content-Length", "0")])
            return []
        with self._changed:
            self.fires.append(fire)
            self._changed.notify_all()
        if path.endswith(PROOF_PATH):
            data = json.dumps(_proof(fire)).encode()
            start_response("200 OK", [("Content-Length", str(len(data)))])
            return [data]
        answer = self.answers.get(fire.job_id)
        status, headers = (200, {}) if answer is None else answer(fire)
        body = json.dumps(self.bodies[fire.job_id]).encode() if fire.job_id in self.bodies and status < 300 else b""
        start_response(f"{status} Conformance", [("Content-Length", str(len(body))), *headers.items()])
        return [body]


class ContractProbe:
    """One run against one NAS. `callback_url`: where the listener is reached from outside. Usable from many threads."""

    def __init__(
        self,
        portal_url: str,
        token: str,
        *,
        listener: Listener | None = None,
        callback_url: str | None = None,
        audience: str | None = None,
    ) -> None:
        self.portal_url = portal_url.rstrip("/")
        self.audience = audience
        self._token = token
        self._listener = listener
        self._callback_url = callback_url
        self._sessions = threading.local()
        self._run = secrets.token_hex(4)
        self._used: list[str] = []
        self.notes: dict[str, Any] = {}
        self.once = threading.Lock()

    @property
    def listener(self) -> Listener:
        """Return the listener. Raises NotTestedError where there is none."""
        if self._listener is None:
            raise NotTestedError("needs --callback-listen and --callback-url")
        return self._listener

    @property
    def callback_url(self) -> str:
        """Return the callback to provision: the listener's where there is one."""
        return self._callback_url or FAR

    def job(self, name: str) -> str:
        """Return a job id of this run, cancelled at its end."""
        job_id = f"conformance-{self._run}-{name}"
        self._used.append(job_id)
        return job_id

    def call(self, method: str, path: str, document: Any = None, *, token: str | None = "") -> ProbeAnswer:
        """Return one call. `token`: another one, or None for no token at all.

        Raises BrokenError where this call alone was broken off, and NasUnavailableError where the NAS is not there.
        """
        import requests

        shown = self._token if token == "" else token
        headers = {} if shown is None else {"Authorization": f"Bearer {shown}"}
        session = getattr(self._sessions, "session", None)
        if session is None:
            session = self._sessions.session = requests.Session()
        try:
            reply = session.request(
                method,
                self.portal_url + path,
                json=document,
                headers=headers,
                timeout=CLIENT_TIMEOUT_S,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            if path != LIST_PATH:
                self.call("GET", LIST_PATH)  # else it is not there at all
                raise BrokenError(f"{method} {path} was broken off") from error
            raise NasUnavailableError(
                f"{self.portal_url} cannot be reached: {error}",
                hint="start the NAS, or name where it answers with --portal-url",
            ) from error
        try:
            return ProbeAnswer(status=reply.status_code, document=reply.json())
        except ValueError:
            return ProbeAnswer(status=reply.status_code, document=None)

    def provision(self, job_id: str, fire_at: datetime, **more: Any) -> ProbeAnswer:
        """Arm a job."""
        text = format_fire_at(fire_at)
        body: dict[str, Any] = {"job_id": job_id, "fire_at": text, "agent_callback_url": self.callback_url}
        if self._listener is not None:
            # Ours can prove itself, wherever that is asked for.
            more["accepts"] = [*more.get("accepts", ()), FEATURE_CALLBACK_PROOF]
        return self.call("POST", PROVISION_PATH, body | {"dedup_key": f"{job_id}:{text}"} | more)

    def arm(self, job_id: str, fire_at: datetime, **more: Any) -> str:
        """Arm a job and return its schedule id. Raises BrokenError where that is refused."""
        answer = self.provision(job_id, fire_at, **more)
        demand(answer.status == 200, f"provision answered {answer.status}: {answer.document}")
        schedule_id = answer.member("schedule_id")
        demand(isinstance(schedule_id, str) and schedule_id, "provision answered no schedule_id")
        return str(schedule_id)

    def cancel(self, job_id: str, **more: Any) -> ProbeAnswer:
        """Cancel a job."""
        return self.call("POST", CANCEL_PATH, {"job_id": job_id, **more})

    def listed(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return all entries of the list, through all its pages. Raises BrokenError for one that is malformed."""
        entries: list[dict[str, Any]] = []
        query = [] if limit is None else [f"limit={limit}"]
        cursor: str | None = None
        for _ in range(10_000):
            parts = query + ([] if cursor is None else [f"cursor={quote(cursor)}"])
            answer = self.call("GET", LIST_PATH + ("?" + "&".join(parts) if parts else ""))
            demand(answer.status == 200, f"list answered {answer.status}")
            armed = answer.member("armed")
            demand(isinstance(armed, list), "list has no `armed`")
            for entry in armed:
                demand(
                    isinstance(entry, dict) and {"job_id", "fire_at", "schedule_id"} <= set(entry),
                    f"an entry lacks job_id, fire_at or schedule_id: {entry}",
                )
            entries += armed
            cursor = answer.member("next_cursor")
            if cursor is None:
                return entries
        raise BrokenError("the list does not end")

    def instant(self, job_id: str) -> datetime | None:
        """Return when the list says a job fires, or None where it is not listed. Raises BrokenError."""
        found = [entry for entry in self.listed() if entry["job_id"] == job_id]
        demand(len(found) <= 1, f"the job is listed {len(found)} times")
        if not found:
            return None
        try:
            return parse_fire_at(found[0]["fire_at"])
        except ValueError as error:
            raise BrokenError(f"the listed fire_at cannot be read: {found[0]['fire_at']}") from error

    def features(self) -> set[str]:
        """Return the optional abilities that the NAS names."""
        named = self.call("GET", LIST_PATH).member("features")
        return {str(one) for one in named} if isinstance(named, list) else set()

    def fires(self, job_id: str, fire_at: datetime, count: int = 1, extra: float = LATE_S) -> list[ProbeFire]:
        """Return the callbacks of a job, waited for until `extra` seconds after its instant."""
        return self.listener.wait(job_id, count, fire_at.timestamp() + extra)

    def clean(self) -> None:
        """Cancel what this run armed."""
        for job_id in self._used:
            self.cancel(job_id)


def _proof(challenge: ProbeFire) -> dict[str, object]:
    """Return the answer of an agent that is well: every job that a token names is taken for ours."""
    import jwt

    try:
        claims = jwt.decode(challenge.token, options={"verify_signature": False})
    except (jwt.PyJWTError, BrokenError):
        return {}
    return {"result": "proved", "proof": callback_proof(str(claims.get("nonce")), str(claims.get("aud")))}


def ahead(seconds: float) -> datetime:
    """Return a whole second, so far ahead."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
