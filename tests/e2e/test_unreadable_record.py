"""A record that cannot be read, among good ones, with timers at a real NAS."""

import json

from tests.agent_home import AgentHome
from tests.nas_process import running_nas


def test_reconcile_leaves_the_timer_of_a_record_it_cannot_read(tmp_path):
    """A job whose zone this machine does not know keeps its timer, and the others are reconciled."""
    with running_nas(tmp_path) as nas:
        agent = AgentHome(tmp_path / "agent", nas)
        for job_id in ("broken", "good"):
            assert agent.chronos("job", "add", "every 1h", "--id", job_id, "--shell", "true").returncode == 0
        path = agent.home / "cron" / "jobs.json"
        stored = json.loads(path.read_text())
        stored["jobs"][0]["chronos"]["timezone"] = "Mars/Olympus"
        path.write_text(json.dumps(stored))
        done = agent.chronos("reconcile")
        assert done.returncode == 0, done.stderr
        assert "Mars/Olympus" in done.stdout + done.stderr
        assert nas.armed(agent.access).keys() == {"broken", "good"}
