"""What an arm costs: processor time of a NAS's own process and of its database, by a plain arm and by one in an answer.

    python -m tests.bench.nas_arms [--sqlite] [--count 4000]

Calls the registry in this process, as the web threads and the relays do: groups of wishes as the group commit makes
them under load (8), batches of 1,000, and settlements of 250 with and without a next wake. No HTTP: `nas_load.py` has
that. Load from elsewhere hardly moves these figures, for they are of processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from chronos_cli.nas_server.home import find_home
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.model import DeliveryOutcome, Fate, NextWake, Provision
from chronos_cli.nas_server.timers.registry import TimerRegistry
from tests.postgres_process import running_postgres

if TYPE_CHECKING:
    from collections.abc import Callable

URL, HOST = "https://agent.example.com", "https://agent.example.com:443"


def postmaster_of(db: str) -> int:
    """The process that is the parent of a database's backends; 0 for a store without any."""
    if not db.startswith("postgres"):
        return 0
    with psycopg.connect(db) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        return int(Path(f"/proc/{row[0]}/stat").read_text().rpartition(")")[2].split()[1])


def used_s(postmaster: int) -> float:
    """The processor time of a postmaster and its children, those included that it has reaped."""
    total = 0.0
    for entry in Path("/proc").iterdir() if postmaster else ():
        try:
            if entry.name.isdigit():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(entry.name) == postmaster:
                    total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
                elif int(fields[1]) == postmaster:
                    total += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
    return total


def measure(db: str, folder: Path, count: int) -> dict[str, Any]:
    """Arm, arm anew, and settle, `count` each; microseconds apiece."""
    postmaster = postmaster_of(db)

    def costs(work: Callable[[], Any]) -> float:
        before = time.process_time() + used_s(postmaster)
        work()
        return round((time.process_time() + used_s(postmaster) - before) * 1e6 / count)

    backend = find_home(folder, db, {}).backend()
    backend.prepare()
    registry = TimerRegistry(backend, backend.now)
    agent = AgentRegister(backend, backend.now).add("one").agent
    now = int(backend.now())

    def wish(number: int, at: int, name: str) -> Provision:
        return Provision(
            agent_id=agent.id,
            job_id=f"{name}-{number}",
            fire_at=at,
            fire_text="2030-01-01T00:00:00+00:00",
            callback_url=URL,
            host=HOST,
            generation=at - now + 10_000,
            max_timers=1_000_000,
            accepts=frozenset({"arm-in-answer"}),
        )

    def arm(size: int, at: int, name: str) -> None:
        for first in range(0, count, size):
            registry.apply([wish(n, at, name) for n in range(first, min(first + size, count))])

    def settle(name: str, *, answered: bool) -> Callable[[], None]:
        arm(1_000, now - 5, name)
        claimed = []
        while page := registry.due(most=250).timers:
            claimed += registry.claim([(one.schedule_id, one.attempts) for one in page])
        wake = NextWake(generation=99_999, fire_at=now + 3_600, fire_text="2030-01-01T00:00:00+00:00")
        outcomes = [
            DeliveryOutcome(
                delivery=one, fate=Fate.DELIVERED, at=float(now), status=200, next_wake=wake if answered else None
            )
            for one in claimed
        ]

        def work() -> None:
            for first in range(0, count, 250):
                registry.settle(outcomes[first : first + 250])

        return work

    found = {
        "arm_in_groups_of_8_us": costs(lambda: arm(8, now + 3_600, "plain")),
        "arm_anew_in_groups_of_8_us": costs(lambda: arm(8, now + 7_200, "plain")),
        "arm_in_batches_us": costs(lambda: arm(1_000, now + 3_600, "batch")),
        "settle_us": costs(settle("settled", answered=False)),
        "settle_and_arm_us": costs(settle("answered", answered=True)),
    }
    found["arm_in_an_answer_us"] = found["settle_and_arm_us"] - found["settle_us"]
    backend.close()
    return {"store": db.partition(":")[0], "count": count, "load": round(os.getloadavg()[0], 1), **found}


def main() -> None:
    """Print the figures of one store, or of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sqlite", action="store_true")
    parser.add_argument("--count", type=int, default=4_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder)
        db = (
            f"sqlite:///{path / 'timers.sqlite'}"
            if chosen.sqlite
            else stack.enter_context(running_postgres()).new_database()
        )
        print(json.dumps(measure(db, path, chosen.count)))


if __name__ == "__main__":
    main()
