"""Debian's cron, really running the line that `chronos tick --install crontab` prints, for three minutes.

It runs in a mount namespace of its own, in which its spool, its tables and its pid file are empty temporary folders:
the machine's crontab is never touched, and a cron that the machine runs sees nothing of this.
"""

import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import ROOT, _missing, at_length, require_program

pytestmark = [pytest.mark.soak, pytest.mark.service]

MINUTES = at_length(3, 2)
SPOOL = Path("/var/spool/cron")
PLACE = """
set -e
mount --make-rprivate /
for folder in /var/spool/cron /etc/cron.d /run; do mount -t tmpfs none "$folder"; done
mount --bind "$1/empty" /etc/crontab
mkdir -p /var/spool/cron/crontabs
chmod 1730 /var/spool/cron/crontabs
cp "$1/crontab" "/var/spool/cron/crontabs/$(id -un)"
chmod 600 "/var/spool/cron/crontabs/$(id -un)"
exec "$2" -f
"""


@pytest.fixture
def programs():
    """Where cron and unshare are."""
    found = require_program("cron", "/usr/sbin/cron"), require_program("unshare")
    if os.geteuid() != 0 or not SPOOL.is_dir() or not Path("/etc/crontab").is_file():
        _missing("a Debian cron, run as root")
    if subprocess.run([found[1], "-m", "true"], capture_output=True, check=False).returncode:
        _missing("the right to unshare the mounts")
    return found


def machines_tables():
    """What the machine's own cron is told, to see that nothing of it changes."""
    files = [Path("/etc/crontab"), *Path("/etc/cron.d").iterdir(), *SPOOL.rglob("*")]
    return {str(path): path.read_bytes() for path in files if path.is_file()}


def chronos(home, *arguments):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CHRONOS_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "chronos_cli", *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(home):
    found = [json.loads(path.read_text()) for path in (home / "cron" / "runs" / "each").glob("*.json")]
    return sorted(found, key=lambda row: row["scheduled_at"])


def test_the_printed_line_runs_a_job_once_a_minute(tmp_path, programs):
    """With cron as the only trigger, each of three minutes has its one run, on that minute, and the machine's tables stay."""
    cron, unshare = programs
    before = machines_tables()
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_text("timezone: UTC\n")
    chronos(home, "job", "add", "* * * * *", "--id", "each", "--shell", f"date +%s >> {home}/diary")
    line = chronos(home, "tick", "--install", "crontab")
    (tmp_path / "empty").touch(mode=0o644)
    # A checkout need not be installed: cron starts in another folder, so it is told where the package is.
    (tmp_path / "crontab").write_text(f"PYTHONPATH={ROOT}\n{line}")
    log = tmp_path / "cron.log"
    with log.open("wb") as said:
        running = subprocess.Popen(
            [unshare, "-m", "sh", "-c", PLACE, "sh", str(tmp_path), cron],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        until = time.monotonic() + 60 * MINUTES + 75
        while len(rows(home)) < MINUTES or any(row["state"] == "running" for row in rows(home)):
            assert running.poll() is None, f"cron ended with {running.poll()}: {log.read_text()}"
            assert time.monotonic() < until, rows(home)
            time.sleep(0.2)
    finally:
        running.terminate()
        running.wait(20)
    ran = rows(home)
    assert [row["state"] for row in ran] == ["ok"] * MINUTES
    minutes = [datetime.fromisoformat(row["scheduled_at"]) for row in ran]
    assert [moment.second for moment in minutes] == [0] * MINUTES
    assert [(later - minutes[0]).total_seconds() for later in minutes] == [60.0 * n for n in range(MINUTES)]
    wrote = [int(text) for text in (home / "diary").read_text().split()]
    assert [0 <= at - moment.timestamp() < 60 for at, moment in zip(wrote, minutes, strict=True)] == [True] * MINUTES
    assert machines_tables() == before
