"""A long storm: jobs every second, a shim, runners and a NAS that are killed at random, and a diary that must add up."""

import contextlib
import os
import random
import signal
import time
from datetime import datetime, timedelta

import pytest

from chronos_cli.running.machine import start_time
from tests.conftest import at_length
from tests.nas_process import running_nas
from tests.protocol.agents import TERMINAL, Agent, diary_script

JOBS = {"one": "every 1s", "two": "every 2s", "three": "every 3s"}
SECONDS = at_length(60, 20)


@pytest.mark.soak
def test_nothing_is_lost_or_repeated_while_everything_is_killed(tmp_path):
    """A minute of random kills: every due occurrence is in exactly one terminal row, and none was started twice."""
    seed = int(os.environ.get("CHRONOS_TEST_SEED") or random.randrange(2**32))
    print(f"CHRONOS_TEST_SEED={seed}")
    chance = random.Random(seed)
    with running_nas(tmp_path, "--retry-base", "0.2", "--retry-cap", "1s") as nas:
        agent = Agent(tmp_path / "home", nas, extra="history:\n  keep: 1000\n")
        agent.start_shim()
        try:
            for job_id, schedule in JOBS.items():
                script = diary_script(agent, seconds=0.3)
                agent.ok("job", "add", schedule, "--id", job_id, "--grace", "1h", "--shell", script)
            until = time.monotonic() + SECONDS
            killed = {"runner": 0, "shim": 0, "nas": 0}
            while time.monotonic() < until:
                time.sleep(chance.uniform(0.2, 1.5))
                killed[_kill_one(chance, agent, nas)] += 1
                if chance.random() < 0.1:
                    agent.chronos("reconcile")
            print(f"killed: {killed}")
            agent.ok("reconcile")
            time.sleep(3)
            for job_id in JOBS:
                agent.ok("job", "pause", job_id)
            time.sleep(1)
            agent.ok("reconcile")
            agent.quiet(list(JOBS))
            for job_id, schedule in JOBS.items():
                _add_up(agent, job_id, timedelta(seconds=int(schedule.split()[1][:-1])))
        finally:
            agent.stop_shim(signal.SIGKILL)


def _kill_one(chance, agent, nas):
    what = chance.choices(["runner", "shim", "nas"], [6, 2, 1])[0]
    if what == "runner":
        owners = [row["owner"] for job in JOBS for row in agent.rows(job) if row["state"] == "running"]
        alive = [owner["pid"] for owner in owners if start_time(owner["pid"]) == owner["started"]]
        if alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(alive), signal.SIGKILL)
    elif what == "shim":
        agent.stop_shim(signal.SIGKILL)
        agent.start_shim()
    else:
        nas.kill()
        nas.start()
    return what


def _add_up(agent, job_id, step):
    rows = [row for row in agent.rows(job_id) if row.get("scheduled_at")]
    assert {row["state"] for row in rows} <= TERMINAL, agent.state(job_id)
    at = datetime.fromisoformat(agent.job(job_id)["chronos"]["anchor"]) + step
    for row in rows:
        assert row["scheduled_at"] == at.isoformat(), agent.state(job_id)
        at = datetime.fromisoformat(row.get("through") or row["scheduled_at"]) + step
    assert at == datetime.fromisoformat(agent.job(job_id)["next_run_at"])
    diary = agent.diary(job_id)
    assert "OVERLAP" not in diary
    assert len(diary) == len(set(diary))
    ran = {row["scheduled_at"] for row in rows if row["state"] == "ok"}
    assert ran <= set(diary)
    print(f"{job_id}: {len(rows)} rows, {len(ran)} ok, {len(diary)} started")
