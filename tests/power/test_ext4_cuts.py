"""Power cuts on a real file system: whatever had not reached the disk is gone, and the home is whole all the same.

The home lies on an ext4 image behind a loop device with direct I/O, so the image holds just what was written through.
A real `chronos tick` works on it and is killed after a while; the image is copied as it stands, the copy is put in
its place as after a reboot (the journal is played back), and the real commands look at it and go on.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chronos_cli.core.row import TERMINAL
from tests.conftest import ROOT, at_length, require_program

pytestmark = [pytest.mark.service, pytest.mark.soak]

MIB = 2**20
EVERY_S = 60
BEHIND = 30
MARK = "OF_THE_TICK_THAT_IS_CUT"
TERMINAL_WORDS = {state.value for state in TERMINAL}


def done(*argv, check=True, **options):
    """What a program printed."""
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
    assert not check or ran.returncode == 0, (argv, ran.returncode, ran.stdout, ran.stderr)
    return ran


class Disk:
    """An ext4 image that is mounted at one place through one loop device, so that a copy of it is the same disk."""

    def __init__(self, folder: Path) -> None:
        self.image, self.copy, self.place = folder / "disk.img", folder / "copy.img", folder / "mounted"
        self.place.mkdir()
        with self.image.open("wb") as file:
            file.truncate(24 * MIB)
        done("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self.image))
        self.device = done("losetup", "--direct-io=on", "--find", "--show", str(self.image)).stdout.strip()
        self.mount()

    def mount(self) -> None:
        """Mount it; nothing but what a program asks for is written back for ten minutes."""
        done("mount", "-o", "commit=600", self.device, str(self.place))

    def cut_the_power(self) -> None:
        """Go on with what the disk holds at this moment and nothing else."""
        kill_all()
        time.sleep(0.05)  # what a killed process had asked of the kernel is done by now
        with self.image.open("rb") as file:  # read what is on the disk, not what a page of an earlier read says
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        shutil.copyfile(self.image, self.copy)
        with self.copy.open("rb") as file:
            os.fsync(file.fileno())
        self.close()
        self.copy.replace(self.image)
        again = done("losetup", "--direct-io=on", self.device, str(self.image), check=False)
        if again.returncode:  # somebody has taken that device meanwhile
            self.device = done("losetup", "--direct-io=on", "--find", "--show", str(self.image)).stdout.strip()
        self.mount()

    def close(self) -> None:
        """Let go of it."""
        for _ in range(100):  # what was killed may not be gone yet
            if done("umount", str(self.place), check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"still in use: {done('umount', str(self.place), check=False).stderr}")
        done("losetup", "-d", self.device, check=False)
        for _ in range(50):  # the kernel lets go of a device when its last user has
            if self.device not in done("losetup", "-a").stdout:
                return
            time.sleep(0.1)


def kill_all() -> None:
    """End all that the tick has started, be it still importing: who outlives a cut runs jobs that no disk knows of."""
    until, mark = time.monotonic() + 20, f"{MARK}=1".encode()
    while True:
        left = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
                    left.append(process.name)
        if not left:
            return
        assert time.monotonic() < until, left
        time.sleep(0.005)


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, where this user may make one."""
    for program in ("mkfs.ext4", "losetup", "mount", "umount"):
        require_program(program, f"/sbin/{program}")
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    try:
        made = Disk(tmp_path)
    except AssertionError as error:
        pytest.skip(f"no disk can be mounted here: {str(error)[:200]}")
    yield made
    made.close()


def chronos(home, *arguments, check=True):
    """One command on the home, as after a reboot: the kernel of this machine has another boot id for it."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TZ": "UTC", "HOME": "/nonexistent"}
    argv = (sys.executable, "-m", "chronos_cli", "--home", str(home), *arguments)
    rebooted = 'mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"'
    boot_id = home.parent.parent / "boot_id"
    boot_id.write_text("11111111-2222-3333-4444-555555555555\n")
    return done("unshare", "--mount", "sh", "-c", rebooted, "sh", str(boot_id), *argv, check=check, env=env, timeout=60)


def tick_until_killed(home, after_s):
    """Begin a tick, and kill it wherever it is after so long."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TZ": "UTC", "HOME": "/nonexistent", MARK: "1"}
    argv = (sys.executable, "-m", "chronos_cli", "--home", str(home), "tick")
    process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after_s)
    process.kill()
    process.wait()


def home_with_work(place, log, number):
    """A home with jobs that are half an hour behind, all of it safely on the disk."""
    home = place / f"home{number}"
    (home / "cron").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    (home / "cron").chmod(0o700)
    first = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=EVERY_S * BEHIND)
    jobs = [
        {
            "id": name, "name": name, "enabled": True, "state": "scheduled", "created_at": first.isoformat(),
            "schedule": {"kind": "interval", "minutes": EVERY_S // 60, "display": "every 1m"},
            "next_run_at": first.isoformat(),
            "chronos": {"anchor": first.isoformat(), "policy": {"overlap": overlap},
                        "action": {"shell": f'echo "{home} $CHRONOS_JOB_ID $CHRONOS_RUN_ID" >> {log}'}},
        }
        for name, overlap in (("a", "skip"), ("b", "queue"), ("c", "allow"))
    ]  # fmt: skip
    (home / "cron" / "jobs.json").write_text(json.dumps({"jobs": jobs, "updated_at": first.isoformat()}))
    os.sync()
    return home, first


def judge(home, first):
    """Every occurrence up to what was claimed stands in one row, and that row says the last word."""
    jobs = json.loads((home / "cron" / "jobs.json").read_text())["jobs"]
    for job in jobs:
        through = datetime.fromisoformat(job["chronos"]["claimed_through"])
        spans = []
        for path in sorted((home / "cron" / "runs" / job["id"]).glob("[!.]*.json")):
            row = json.loads(path.read_text())
            assert row["state"] in TERMINAL_WORDS, (path.name, row["state"])
            at = datetime.fromisoformat(row["scheduled_at"])
            spans.append(
                (
                    at,
                    datetime.fromisoformat(row.get("through") or row["scheduled_at"]),
                    row.get("count", 1),
                    path.name,
                    row["state"],
                )
            )
        spans.sort()
        expected = first
        for at, last, count, *_ in spans:
            assert at == expected, (job["id"], [span[2:] for span in spans])
            assert last == at + timedelta(seconds=EVERY_S * (count - 1)), (job["id"], spans)
            expected = last + timedelta(seconds=EVERY_S)
        assert expected == through + timedelta(seconds=EVERY_S), (job["id"], through, spans)
        assert not job["chronos"].get("open"), job


def test_a_power_cut_at_any_moment_loses_no_occurrence_and_runs_none_twice(disk, tmp_path):
    """A hundred cuts, each somewhere in a catch-up: the home can be read, and each occurrence is in one terminal row."""
    require_program("unshare")
    chance, cuts, log = random.Random(7), at_length(100, 20), tmp_path / "log"
    log.touch()
    bad = []
    for number in range(cuts):
        home, first = home_with_work(disk.place, log, number)
        tick_until_killed(home, chance.uniform(0.05, 0.9))
        disk.cut_the_power()
        try:
            for look in (("list",), ("status",), ("history", "--json"), ("doctor",)):
                shown = chronos(home, *look, check=False)
                assert "Traceback" not in shown.stderr
                assert look == ("doctor",) or shown.returncode == 0, (look, shown)
            time.sleep(0.1)
            chronos(home, "tick")
            chronos(home, "tick")
            judge(home, first)
            ran = [line for line in log.read_text().splitlines() if line.startswith(f"{home} ")]
            twice = {line.split()[2] for line in ran if ran.count(line) > 1}
            rows = [path.read_text() for path in home.glob("cron/runs/*/*.json") if path.stem in twice]
            assert not twice, f"ran twice: {rows}"
        except AssertionError as error:
            bad.append(f"cut {number}: {str(error)[:900]}")
        shutil.rmtree(home)
    assert not bad, "\n".join(bad)
    ran = log.read_text().splitlines()
    assert len(ran) == len(set(ran)), "an occurrence ran twice"
    assert len(ran) >= cuts
