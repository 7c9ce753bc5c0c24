"""The demo as a newcomer runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def demo(tmp_path, *arguments):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CHRONOS_")}
    env = kept | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    return subprocess.run(
        [sys.executable, "-m", "chronos_cli", "demo", *arguments],
        env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def processes_in(folder):
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_demo_runs_every_due_occurrence_once_and_leaves_nothing_behind(tmp_path):
    """The demo shows each step of the loop, ends with 0, and leaves no process and no file."""
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for step in ("armed", "relayed", "verified", "claimed", "re-armed", "running", "ok", "failed"):
        assert f" {step} " in done.stdout
    assert "Every occurrence that was due ran exactly once." in done.stdout
    assert "\x1b" not in done.stdout
    assert not list(tmp_path.glob("chronos-demo*"))
    assert not processes_in(tmp_path)


def test_demo_keeps_a_working_home_and_says_it_in_json(tmp_path):
    """With --keep the home stays and answers; with --json the result is one object."""
    done = demo(tmp_path, "--keep", str(tmp_path / "kept"), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] is True
    assert result["faults"] == []
    assert result["events"]["claimed"] == sum(job["runs"] for job in result["jobs"])
    stored = json.loads((tmp_path / "kept" / "agent" / "cron" / "jobs.json").read_text())
    assert {job["id"] for job in stored["jobs"]} == {"pulse", "hello", "oops"}


def test_demo_does_not_touch_a_folder_that_holds_something(tmp_path):
    """A folder that is not empty is refused with one line, and stays as it is."""
    (tmp_path / "mine").write_text("x")
    done = demo(tmp_path, "--keep", str(tmp_path))
    assert done.returncode == 6
    assert "not empty" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "mine").read_text() == "x"
