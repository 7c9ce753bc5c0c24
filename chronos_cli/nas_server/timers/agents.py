"""Agents that may hold timers, and their access tokens.

A token is shown once and stored as its SHA-256; 256 random bits need no slow hash. Looking up the hash tells an
attacker nothing by its timing that helps to guess a token.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chronos_cli.errors import ConflictError, NotFoundError, UsageError
from chronos_cli.nas_server.timers.audit import record
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.model import Agent

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.timers.interface import Backend, Row, Session

TOKEN_PREFIX = "cnas_"  # noqa: S105 - how a token begins, so that scanners find leaked ones
CACHE_S = 1.0
"""The time an accepted token is not looked up again: a revocation counts after this."""

SEEN_S = 60.0
"""The interval at which an agent's last visit is written down."""

_CACHE_MAX = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_AGENT = "agents.id, name, audience, agents.created_at, revoked_at, max_timers, rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token at the one moment it can be read. `expires_at`: seconds since the epoch, None for never."""

    agent: Agent
    token: str
    expires_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAgent:
    """An agent as it is listed. Times are seconds since the epoch.

    `timers`: how many it holds. `expires_at`: when the last of its tokens ends, None where one never does. `seen_at`:
    when it last showed a good token, to the minute; None for never.
    """

    agent: Agent
    timers: int
    expires_at: float | None
    seen_at: float | None


class AgentRegister:
    """The agents in one backend. `clock` tells the time in seconds since the epoch."""

    def __init__(self, backend: Backend, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._clock = clock
        self._cache: dict[str, tuple[float, Agent]] = {}
        self._seen: dict[int, float] = {}
        self._lock = threading.Lock()

    def remembers(self, token: str) -> bool:
        """Return whether a token was accepted just now, so that `authenticate` needs no look into the store."""
        cached = self._cache.get(_digest(token))
        return cached is not None and 0 <= self._clock() - cached[0] < CACHE_S

    def authenticate(self, token: str) -> Agent | None:
        """Return the agent whose live token this is (it may be a revoked agent), or None."""
        digest = _digest(token)
        now = self._clock()
        cached = self._cache.get(digest)
        if cached is not None and 0 <= now - cached[0] < CACHE_S:
            return cached[1]
        rows = self._backend.read(
            lambda session: session.all(
                f"SELECT {_AGENT}, token_hash, expires_at FROM tokens JOIN agents ON agents.id = agent_id"  # noqa: S608
                " WHERE token_hash = ?",
                (digest,),
            )
        )
        if not rows or not hmac.compare_digest(rows[0][7], digest):
            return None
        if rows[0][8] is not None and rows[0][8] <= now:
            return None
        agent = _agent(rows[0])
        with self._lock:
            if len(self._cache) >= _CACHE_MAX:
                self._cache.clear()
            self._cache[digest] = (now, agent)
        self._note_seen(agent, now)
        return agent

    def _note_seen(self, agent: Agent, now: float) -> None:
        """Write down that an agent was here, now and then; a registry that takes no change keeps no agent out."""
        with self._lock:
            if 0 <= now - self._seen.get(agent.id, -SEEN_S) < SEEN_S:
                return
            self._seen[agent.id] = now
        statement = (
            "INSERT INTO seen (agent_id, seen_at) VALUES (?, ?)"
            " ON CONFLICT (agent_id) DO UPDATE SET seen_at = excluded.seen_at"
        )
        with suppress(RegistryUnavailableError):
            self._backend.write(lambda session: session.run(statement, (agent.id, now)))

    def add(
        self, name: str, *, expires_in: float | None = None, max_timers: int | None = None, rate: float | None = None
    ) -> NewToken:
        """Let a new agent in. Raises ConflictError where the name is taken, UsageError where it cannot be one."""
        if not _NAME.match(name):
            raise UsageError(f"'{name}' cannot name an agent", hint="letters, digits and . _ @ -, at most 64")
        now = self._clock()
        token, expires_at = _fresh(now, expires_in)

        def work(session: Session) -> Agent:
            if session.all("SELECT 1 FROM agents WHERE name = ?", (name,)):
                raise ConflictError(f"there is an agent {name} already", hint="rotate its token, or take another name")
            session.run(
                "INSERT INTO agents (name, audience, created_at, max_timers, rate) VALUES (?, ?, ?, ?, ?)",
                (name, f"agent:{secrets.token_hex(6)}", now, max_timers, rate),
            )
            agent = _find(session, name)
            _insert(session, agent, token, now, expires_at)
            limits = {"audience": agent.audience, "max_timers": max_timers, "rate": rate}
            record(session, now, "agent.add", name, **limits, expires_at=expires_at)
            return agent

        return NewToken(agent=self._backend.write(work), token=token, expires_at=expires_at)

    def rotate(self, name: str, *, overlap: float = 0.0, expires_in: float | None = None) -> NewToken:
        """Give an agent a new token; its others go on for `overlap` seconds. Raises NotFoundError."""
        now = self._clock()
        token, expires_at = _fresh(now, expires_in)

        def work(session: Session) -> Agent:
            agent = _find(session, name)
            if agent.revoked:
                raise ConflictError(f"agent {name} was revoked", hint="add it under another name")
            session.run(
                "UPDATE tokens SET expires_at = ? WHERE agent_id = ? AND (expires_at IS NULL OR expires_at > ?)",
                (now + overlap, agent.id, now + overlap),
            )
            _insert(session, agent, token, now, expires_at)
            record(session, now, "agent.rotate", name, overlap_s=overlap, expires_at=expires_at)
            return agent

        return NewToken(agent=self._backend.write(work), token=token, expires_at=expires_at)

    def revoke(self, name: str) -> tuple[Agent, int]:
        """Refuse an agent for good and drop its timers; returns it and how many were dropped. Raises NotFoundError."""

        def work(session: Session) -> tuple[Agent, int]:
            agent = _find(session, name)
            if not agent.revoked:
                session.run("UPDATE agents SET revoked_at = ? WHERE id = ?", (self._clock(), agent.id))
            dropped = session.run("DELETE FROM timers WHERE agent_id = ?", (agent.id,))
            session.run("DELETE FROM proofs WHERE agent_id = ?", (agent.id,))
            record(session, self._clock(), "agent.revoke", name, dropped=dropped)
            return _find(session, name), dropped

        return self._backend.write(work)

    def find(self, name: str) -> Agent:
        """Return the agent of that name. Raises NotFoundError."""
        return self._backend.read(lambda session: _find(session, name))

    def all(self) -> list[ListedAgent]:
        """Return all agents by name."""
        rows = self._backend.read(
            lambda session: session.all(
                f"SELECT {_AGENT}, COALESCE(held.number, 0), ends.at, seen_at FROM agents"  # noqa: S608 - constants
                " LEFT JOIN (SELECT agent_id, count(*) AS number FROM timers GROUP BY agent_id) AS held"
                " ON held.agent_id = agents.id"
                " LEFT JOIN (SELECT agent_id, CASE WHEN count(*) = count(expires_at) THEN max(expires_at) END AS at"
                " FROM tokens GROUP BY agent_id) AS ends ON ends.agent_id = agents.id"
                " LEFT JOIN seen ON seen.agent_id = agents.id ORDER BY name"
            )
        )
        return [ListedAgent(agent=_agent(row), timers=row[7], expires_at=row[8], seen_at=row[9]) for row in rows]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _fresh(now: float, expires_in: float | None) -> tuple[str, float | None]:
    return TOKEN_PREFIX + secrets.token_urlsafe(32), None if expires_in is None else now + expires_in


def _insert(session: Session, agent: Agent, token: str, now: float, expires_at: float | None) -> None:
    session.run(
        "INSERT INTO tokens (token_hash, agent_id, created_at, expires_at) VALUES (?, ?, ?, ?)",
        (_digest(token), agent.id, now, expires_at),
    )


def _find(session: Session, name: str) -> Agent:
    rows = session.all(f"SELECT {_AGENT} FROM agents WHERE name = ?", (name,))  # noqa: S608 - constants
    if not rows:
        raise NotFoundError(f"there is no agent {name}", hint="see `chronos-nas agent list`")
    return _agent(rows[0])


def _agent(row: Row) -> Agent:
    return Agent(
        id=row[0], name=row[1], audience=row[2], created_at=row[3], revoked_at=row[4], max_timers=row[5], rate=row[6]
    )
