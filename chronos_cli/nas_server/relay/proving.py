"""Proof that an agent owns its callback: a challenge, posted once per agent and URL, that only its own shim answers.

Challenges have a loop and a client of their own, so that a callback which does not answer holds up neither requests nor
relays: a request waits for one briefly, in one of a few places, and is told to come again where there is none.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import threading
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chronos_cli.contract import PROOF_PATH, PROOF_PURPOSE, callback_proof, home_named_by
from chronos_cli.errors import ChronosError
from chronos_cli.nas_server.addresses import CallbackRefusedError
from chronos_cli.nas_server.relay.callbacks import CallbackFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chronos_cli.nas_server.event_log import EventLog
    from chronos_cli.nas_server.keys import KeyRing
    from chronos_cli.nas_server.relay.callbacks import CallbackClient, CallbackReply
    from chronos_cli.nas_server.timers.interface import Backend, Session

CHALLENGE_S = 5.0
"""The longest that one challenge may take, its look-ups and its answer included."""

WAIT_S = 3.0
"""The longest that a request waits for one."""

WAITERS = 4
"""The requests that wait at once, of all agents: the other threads go on answering."""

AT_ONCE = 32
AT_ONCE_EACH = 2
MAX_PENDING_EACH = 64
MAX_KNOWN = 100_000
PAUSE_S = 1.0
PAUSE_MAX_S = 60.0
_NONCE_BYTES = 32
_TOKEN_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRequest:
    """Whose callback is asked: the agent, and the URL as it is called. `host`: scheme, name and port of it."""

    agent_id: int
    audience: str
    url: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofResult:
    """Answer to whether a callback is its agent's. `passing`: what is missing may be there in `again_s` seconds."""

    proved: bool
    why: str = ""
    passing: bool = False
    again_s: float = PAUSE_S


PROVED = ProofResult(proved=True)
_PENDING = ProofResult(proved=False, passing=True, why="it was asked just now and has not answered yet")
_CROWDED = ProofResult(proved=False, passing=True, why="too many callbacks of this agent are being asked")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    url: str
    proof: ProofResult
    count: int
    until: float


class ProofRegister:
    """Proofs of one process, kept in the store's table. `make_client`: called within the loop; `clock`: the store's.

    A host that gave no proof is asked again by the same agent after a pause that doubles: an agent cannot have others
    flooded with challenges.
    """

    def __init__(
        self,
        backend: Backend,
        keys: KeyRing,
        make_client: Callable[[], CallbackClient],
        journal: EventLog,
        *,
        issuer: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._backend, self._keys, self._make_client, self._journal = backend, keys, make_client, journal
        self._issuer, self._clock = issuer, clock
        self._known: set[tuple[int, str]] = set()
        self._failures: dict[tuple[int, str], _Failure] = {}
        self._pending: dict[tuple[int, str], Future[ProofResult]] = {}
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(WAITERS)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: CallbackClient | None = None
        self._all = asyncio.Semaphore(AT_ONCE)
        self._each: dict[int, asyncio.Semaphore] = {}

    def ask(self, callee: ProofRequest) -> Future[ProofResult]:
        """Return the proof, or the promise of one; each challenge is posted once, however many ask for it."""
        key = (callee.agent_id, callee.url)
        with self._lock:
            if key in self._known:
                return _now(PROVED)
            if (pending := self._pending.get(key)) is not None:
                return pending
            if (paused := self._paused(callee)) is not None and paused.url == callee.url:
                return _now(self._again(paused))
            if sum(agent == callee.agent_id for agent, _ in self._pending) >= MAX_PENDING_EACH:
                return _now(_CROWDED)
            future = self._pending[key] = asyncio.run_coroutine_threadsafe(self._find(callee), self._running())
        future.add_done_callback(lambda done: self._ended(key, done))
        return future

    def wait(self, callees: Iterable[ProofRequest]) -> dict[ProofRequest, ProofResult]:
        """Return the proofs, for which a request waits a moment where one of the few places is free."""
        asked = {callee: self.ask(callee) for callee in callees}
        if not all(one.done() for one in asked.values()) and self._places.acquire(blocking=False):
            try:
                wait(asked.values(), WAIT_S)
            finally:
                self._places.release()
        return {callee: one.result() if one.done() else _PENDING for callee, one in asked.items()}

    def stored(self, callees: Iterable[ProofRequest]) -> set[ProofRequest]:
        """Return those that were proved before; none is asked."""
        return {one for one in callees if (one.agent_id, one.url) in self._known or self._stored(one)}

    def close(self) -> None:
        """End the loop; what is being asked is not waited for."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(CHALLENGE_S)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name="proofs", daemon=True)
            self._thread.start()
        return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
            loop.run_until_complete(self._end(asyncio.all_tasks(loop)))
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    async def _end(self, left: set[asyncio.Task[ProofResult]]) -> None:
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._client is not None:
            await self._client.__aexit__()

    def _ended(self, key: tuple[int, str], done: Future[ProofResult]) -> None:
        with self._lock:
            self._pending.pop(key, None)
            if not done.cancelled() and done.exception() is None and done.result().proved:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known.add(key)

    async def _find(self, callee: ProofRequest) -> ProofResult:
        """Look whether it was proved before, else ask, and remember what came of it."""
        try:
            if await asyncio.to_thread(self._stored, callee):
                return PROVED
            if (paused := self._paused(callee)) is not None:
                return self._again(paused)
            each = self._each.setdefault(callee.agent_id, asyncio.Semaphore(AT_ONCE_EACH))
            async with each, self._all:
                proof = await self._challenge(callee)
            if proof.proved:
                await asyncio.to_thread(self._backend.write, lambda session: _store(session, callee, self._clock()))
        except ChronosError as error:
            self._journal.write("error", where="proof", message=error.line())
            return ProofResult(proved=False, passing=True, why="the proofs cannot be read or written right now")
        return self._remembered(callee, proof)

    def _paused(self, callee: ProofRequest) -> _Failure | None:
        failed = self._failures.get((callee.agent_id, callee.host))
        return failed if failed is not None and failed.until > self._clock() else None

    def _again(self, failed: _Failure) -> ProofResult:
        return replace(failed.proof, again_s=max(PAUSE_S, failed.until - self._clock()))

    def _stored(self, callee: ProofRequest) -> bool:
        statement = "SELECT 1 FROM proofs WHERE agent_id = ? AND callback_url = ?"
        return bool(self._backend.read(lambda session: session.all(statement, (callee.agent_id, callee.url))))

    def _remembered(self, callee: ProofRequest, proof: ProofResult) -> ProofResult:
        key = (callee.agent_id, callee.host)
        named = {"agent": callee.audience, "callback_url": callee.url}
        if proof.proved:
            self._failures.pop(key, None)
            self._journal.write("callback_proved", **named)
            return proof
        before = self._failures.pop(key, None)
        count = 1 if before is None else before.count + 1
        pause = min(PAUSE_MAX_S, PAUSE_S * 2 ** min(count - 1, 10))
        if len(self._failures) >= MAX_KNOWN:
            del self._failures[next(iter(self._failures))]
        self._failures[key] = _Failure(url=callee.url, proof=proof, count=count, until=self._clock() + pause)
        self._journal.write("callback_unproved", **named, message=proof.why)
        return replace(proof, again_s=pause)

    async def _challenge(self, callee: ProofRequest) -> ProofResult:
        if self._client is None:
            self._client = self._make_client()
        nonce = secrets.token_urlsafe(_NONCE_BYTES)
        headers = {
            "Authorization": f"Bearer {self._mint(callee, nonce)}",
            "Content-Type": "application/json",
            "User-Agent": "chronos-nas",
        }
        try:
            async with asyncio.timeout(CHALLENGE_S):
                reply = await self._client.post(callee.url + PROOF_PATH, b"{}", headers, caller=callee.agent_id)
        except CallbackRefusedError as error:
            return ProofResult(proved=False, why=str(error))
        except CallbackFailedError as error:
            return ProofResult(proved=False, why=str(error), passing=True)
        except TimeoutError:
            return ProofResult(proved=False, why="no answer in time", passing=True)
        return _judge(reply, callback_proof(nonce, callee.audience))

    def _mint(self, callee: ProofRequest, nonce: str) -> str:
        """Return a token that starts nothing: its purpose is the challenge alone."""
        import jwt

        key, now = self._keys.signing(), int(self._clock())
        claims: dict[str, object] = {
            "iss": self._issuer(),
            "aud": callee.audience,
            "purpose": PROOF_PURPOSE,
            "iat": now,
            "exp": now + _TOKEN_S,
            "jti": secrets.token_hex(16),
            "nonce": nonce,
        }
        home = home_named_by(callee.url)
        if home is not None:
            claims["home"] = home
        return jwt.encode(claims, key.private, algorithm=key.alg, headers={"kid": key.kid})


def _judge(reply: CallbackReply, wanted: str) -> ProofResult:
    """Return what an answer proves: a 200 whose body carries the one text that the challenge asks for."""
    if reply.status == 200:
        try:
            document = json.loads(reply.body)
        except (ValueError, RecursionError):
            document = None
        said = document.get("proof") if isinstance(document, dict) else None
        if isinstance(said, str) and hmac.compare_digest(said.encode("utf-8", "surrogatepass"), wanted.encode()):
            return PROVED
        return ProofResult(proved=False, why="its answer to the challenge is no proof")
    return ProofResult(
        proved=False,
        why=f"it answered the challenge with {reply.status}",
        passing=reply.status >= 500 or reply.status == 429,
    )


def _store(session: Session, callee: ProofRequest, now: float) -> None:
    session.run(
        "INSERT INTO proofs (agent_id, callback_url, proved_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (callee.agent_id, callee.url, now),
    )


def _now(proof: ProofResult) -> Future[ProofResult]:
    done: Future[ProofResult] = Future()
    done.set_result(proof)
    return done
