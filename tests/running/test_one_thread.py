"""A job is forked by a process of one thread: in the copy of several, a lock that another held is held for ever."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from real_processes import eventually

from tests.fire_tokens import AUDIENCE, SigningKey, serve_jwks
from tests.nas_client.played_nas import TOKEN, played_nas

ROOT = Path(__file__).resolve().parents[2]

COUNT = (
    "n=0; for each in /proc/$PPID/task/*/stat; do { read -r line < $each; } 2>/dev/null || continue; "
    "set -- ${line##*) }; [ $(($7 & 4)) = 0 ] && n=$((n + 1)); done; echo $n"
)
"""How many threads the parent has: one that has ended stays listed for a moment after it was joined, as ending (4)."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


nas = played_nas()


def home_of(folder, nas, keys, due):
    """One job, due, that counts the threads of the process which started it."""
    (folder / "cron").mkdir(parents=True, mode=0o700)
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    (folder / "config.yaml").write_text(
        "timezone: UTC\ncron:\n  provider: chronos\n  chronos:\n"
        f"    portal_url: {nas.url}\n    callback_url: https://agent.example.com\n"
        f'    expected_audience: "{AUDIENCE}"\n    nas_jwks_url: {keys.url}\n    token_file: token\n'
    )
    job = {
        "id": "a", "name": "a", "enabled": True, "state": "scheduled", "next_run_at": due.isoformat(),
        "schedule": {"kind": "interval", "minutes": 60, "display": "every 60m"},
        "chronos": {"timezone": "UTC", "anchor": due.isoformat(),
                    "action": {"shell": f"{COUNT} > {folder}/threads"}},
    }  # fmt: skip
    (folder / "cron/jobs.json").write_text(json.dumps({"jobs": [job]}))


@pytest.mark.parametrize("door", ["tick", "run", "fire", "fire --detach"])
def test_a_job_is_forked_by_one_thread(tmp_path, nas, door):
    """Through each door, also where the keys were fetched and NAS was called before."""
    home, key = tmp_path / "home", SigningKey.es256()
    due = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=2)
    with serve_jwks(key) as keys:
        home_of(home, nas, keys, due)
        words = door.split()
        if words[0] == "fire":
            words += ["--job-id", "a", "--fire-at", due.isoformat(), "--token", "-"]
        elif words[0] == "run":
            words += ["a"]
        # Newer Pythons warn where a process of several threads forks.
        env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::DeprecationWarning"}
        done = subprocess.run(
            [sys.executable, "-m", "chronos_cli", "--home", str(home), *words],
            input=key.token(iss=nas.url, job_id="a", fire_at=due.isoformat()), env=env, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done
    eventually(lambda: (home / "threads").exists() and (home / "threads").read_text().strip())
    assert (home / "threads").read_text().strip() == "1"
