"""The demo as a newcomer runs it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chronos_cli.demo.scenario import DemoVerdict

ROOT = Path(__file__).resolve().parents[2]


def start(tmp_path, *arguments):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CHRONOS_")}
    env = kept | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    return subprocess.Popen(
        [sys.executable, "-m", "chronos_cli", "demo", *arguments],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def demo(tmp_path, *arguments):
    running = start(tmp_path, *arguments)
    out, err = running.communicate(timeout=90)
    return subprocess.CompletedProcess(running.args, running.returncode, out, err)


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
    busy = "passed over" in done.stdout  # this machine, just now
    assert busy or "Every occurrence that was due ran exactly once." in done.stdout
    assert "\x1b" not in done.stdout
    assert not list(tmp_path.glob("chronos-demo*"))
    assert not processes_in(tmp_path)


def test_a_pulse_that_comes_too_late_is_said_to_be_passed_over(tmp_path):
    """On a machine that stands still for some pulses the demo ends with 0 and says so, in JSON too; its home answers."""
    kept = tmp_path / "kept"
    running = start(tmp_path, "--keep", str(kept), "--json")
    diary = kept / "agent" / "diary" / "pulse"
    until = time.monotonic() + 60
    while not diary.exists() and running.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    stopped = [int(pid) for pid in processes_in(kept)]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):  # a run that has ended by itself
                os.kill(pid, number)
        time.sleep(7 if number is signal.SIGSTOP else 0)
    out, err = running.communicate(timeout=90)
    assert running.returncode == 0, out + err
    result = json.loads(out)
    assert result["ok"] is True
    assert result["faults"] == []
    assert result["events"]["claimed"] == sum(job["runs"] for job in result["jobs"])
    (pulse,) = (job for job in result["jobs"] if job["id"] == "pulse")
    assert pulse["passed_over"]
    assert len(pulse["due"]) == pulse["runs"] + len(pulse["passed_over"])
    stored = json.loads((kept / "agent" / "cron" / "jobs.json").read_text())
    assert {job["id"] for job in stored["jobs"]} == {"pulse", "hello", "oops"}


AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ran", "passed_over", "faults"),
    [
        ([AT], [], []),
        ([], [AT], []),
        ([], [], ["ran 0 times"]),
        ([AT, AT], [], ["ran 2 times"]),
        ([AT], [AT], ["ran, and is on record as passed over"]),
        ([AT, AT.replace(hour=13)], [], ["ran, but was not due"]),
    ],
)
def test_what_is_a_fault_of_the_demo(ran, passed_over, faults):
    """An occurrence ran once, or a row says that it was passed over: neither, both or more of it is a fault."""
    times = Counter(at.isoformat() for at in ran)
    verdict = DemoVerdict(due={"a": (AT,)}, ran={"a": times}, passed_over={"a": tuple(passed_over)})
    assert [fault.partition("00:00: ")[2] for fault in verdict.faults] == faults


def test_demo_does_not_touch_a_folder_that_holds_something(tmp_path):
    """A folder that is not empty is refused with one line, and stays as it is."""
    (tmp_path / "mine").write_text("x")
    done = demo(tmp_path, "--keep", str(tmp_path))
    assert done.returncode == 6
    assert "not empty" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "mine").read_text() == "x"
