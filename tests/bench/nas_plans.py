"""Plan of each hot statement of a NAS at 1,000,000 timers on PostgreSQL: `python -m tests.bench.nas_plans`.

Fills a database of its own, carries out what a NAS does, and writes each statement's plan and time to
docs/nas/plans.md. `--rows N` takes another number and writes nothing.
"""

from __future__ import annotations

import argparse
import re
import time
from typing import Any

from chronos_cli.nas_server.timers import postgres
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.meta import NasMeta
from chronos_cli.nas_server.timers.model import Cancel, DeliveryOutcome, Fate, Provision
from chronos_cli.nas_server.timers.registry import TimerRegistry
from tests.conftest import ROOT
from tests.postgres_process import running_postgres

PAGE = ROOT / "docs/nas/plans.md"
COUNTING = ("metrics", "agent list")
"""Steps that count tables as a whole: an operator's, or at most once a scrape."""

FILL = """INSERT INTO timers (schedule_id, agent_id, job_id, fire_at, fire_text, callback_url, host, armed_at, due_at)
SELECT lpad(to_hex(n), 28, '0'), 1 + mod(n, 1000), 'job-' || n, :now + mod(n, 900000) - 900, 'then',
'https://a' || mod(n, 1000), 'https://a' || mod(n, 1000) || ':443', :now - 1000, :now + mod(n, 900000) - 900
FROM generate_series(1, :rows) AS n"""
# As in a NAS that has run for long: the slots are older than what a sweep keeps, and nearly all are still held.
SLOTS = """INSERT INTO slots (agent_id, job_id, generation, changed_at)
SELECT agent_id, job_id, 1, armed_at - 1e6 FROM timers UNION ALL SELECT 1, 'gone-' || n, 1, 0 FROM generate_series(1, 500) AS n"""


class _Watched(postgres.PostgresSession):
    """A session that notes each statement's plan and how long it took."""

    seen: dict[str, tuple[str, float, str]] = {}  # noqa: RUF012 - one run, one list
    doing = ""

    def _execute(self, statement: str, parameters: Any) -> Any:
        text = postgres._percent(statement)
        plan = ""
        if statement.split(maxsplit=1)[0] in {"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}:
            rows = self.connection.execute(b"EXPLAIN (COSTS OFF) " + text, tuple(parameters)).fetchall()
            plan = "\n".join(row[0] for row in rows)
        began = time.perf_counter()
        cursor = self.connection.execute(text, tuple(parameters))
        took = (time.perf_counter() - began) * 1000
        if plan and statement not in self.seen:
            self.seen[statement] = (plan, took, self.doing)
        return cursor


def run(url: str, rows: int) -> str:
    """Fill the database, carry out what a NAS does, and return the page."""
    backend = postgres.PostgresBackend(url)
    backend.prepare()
    now = backend.now()
    fill = FILL.replace(":now", repr(float(int(now)))).replace(":rows", str(rows))
    register = AgentRegister(backend, backend.now)
    made = [register.add(f"agent-{n}") for n in range(1000)]
    agents, token = [one.agent for one in made], made[3].token
    backend.write(lambda session: (session.run(fill), session.run(SLOTS)))
    with backend._pool.connect() as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("VACUUM ANALYZE")
    plain, postgres.PostgresSession = postgres.PostgresSession, _Watched  # type: ignore[misc]
    _Watched.seen = {}
    registry = TimerRegistry(backend, backend.now)
    one = agents[7]

    def wish(job: str, at: float) -> Provision:
        return Provision(
            agent_id=one.id, job_id=job, fire_at=int(at), fire_text="t", callback_url="https://x", host="https://x:443",
            max_timers=100_000, generation=int(at),
        )  # fmt: skip

    steps = {
        "a request's token": lambda: register.authenticate(token),
        "a look": lambda: registry.due(skip=[(n, f"https://a{n}:443") for n in range(50)]),
        "when the next is due": lambda: registry.next_due_at(now),
        "an arm, and a cancel": lambda: (
            registry.apply([wish("new", now - 5), wish("other", now - 4), wish("third", now - 3)]),
            registry.apply([wish("new", now - 5), wish("other", now - 2)]),
            registry.apply([Cancel(agent_id=one.id, job_id="job-1007")]),
        ),
        "a claim": lambda: claimed.extend(
            registry.claim([(due.schedule_id, due.attempts) for due in registry.due(most=250).timers])
        ),
        "settling": lambda: registry.settle(
            [
                DeliveryOutcome(delivery=delivery, fate=fate, at=now, next_at=now + 9, error="x")
                for delivery, fate in zip(
                    claimed, [Fate.DELIVERED] * 200 + [Fate.RETRY] * 40 + [Fate.DEAD] * 10, strict=True
                )
            ]
        ),
        "a list": lambda: registry.armed(one, limit=1000),
        "sweeping": registry.sweep,
        "hosts that were armed for of late": lambda: registry.hosts_since(now - 2),
        "what a broken line left claimed": lambda: (
            registry.unheard.add(now + 45.0, [f"{n:028x}" for n in range(250)]),
            registry.unheard.give_back(now),
        ),
        "metrics": NasMeta(backend, backend.now).gauges,
        "agent list": register.all,
    }
    claimed: list[Any] = []
    for doing, work in steps.items():
        _Watched.doing = doing
        work()
    postgres.PostgresSession = plain  # type: ignore[misc]
    backend.close()
    return _page(rows)


def scans() -> list[str]:
    """The statements of the last run that read a whole table, those apart that count it."""
    return [
        statement
        for statement, (plan, _, doing) in _Watched.seen.items()
        if doing not in COUNTING and re.search(r"Seq Scan on (timers|slots|agents|tokens)", plan)
    ]


def left_out(page: str) -> list[str]:
    """The statements of the last run that a page does not have."""
    words = " ".join(page.split())
    return [statement for statement in _Watched.seen if " ".join(statement.split()) not in words]


def _page(rows: int) -> str:
    lines = [
        "# Plans of the hot statements",
        "",
        f"Written by `python -m tests.bench.nas_plans`: PostgreSQL, {rows:,} timers of 1,000 agents, a thousandth of them",
        "overdue, 250 rows a claim. The times are of one run on a machine of 2 cores that also did other things.",
        "",
    ]
    doing = ""
    for statement, (plan, took, of) in _Watched.seen.items():
        if of != doing:
            doing = of
            lines += [f"## {of[0].upper()}{of[1:]}", ""]
        lines += [f"{took:.1f} ms", "", "```sql", *_wrapped(statement), "```", "", "```text", plan, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _wrapped(statement: str) -> list[str]:
    words, lines = re.split(r"\s+", statement), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 118:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    chosen = parser.parse_args()
    with running_postgres() as server:
        page = run(server.new_database(), chosen.rows)
    if chosen.rows == 1_000_000:
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page)


if __name__ == "__main__":
    main()
