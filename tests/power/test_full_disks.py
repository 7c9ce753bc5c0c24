"""Full and read-only disks, real ones: the real commands on a mounted file system of a few pages.

Whatever they can write no more: they end soon and in one line, and with room again each occurrence has one row, ran at
most once, and nothing is stuck.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.core.row import TERMINAL
from tests import forked
from tests.conftest import at_length, require_program
from tests.fire_tokens import AUDIENCE, SigningKey
from tests.nas_client.played_nas import TOKEN, played_nas

pytestmark = pytest.mark.service

PAGE = 4096
KEY = SigningKey.rs256()
EACH = tuple(range(25)) if at_length(True, False) else (0, 1, 2, 4, 7, 11, 16)
"""How many pages are left before a command; an undisturbed fire takes some twenty."""


nas = played_nas()


@contextmanager
def mounted(place):
    """A disk of its own, in memory, where this user may mount one."""
    require_program("mount")
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    place.mkdir()
    options = f"size={64 * PAGE},mode=0700"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "chronos", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.decode()[:200]}")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


class Disk:
    """A mounted disk with a home on it."""

    def __init__(self, place):
        self.place, self.home = place, place / "home"
        self.outside = place.with_name(f"{place.name}-outside")
        self.outside.mkdir()
        self.diary = self.outside / "diary"
        self.filler = place / "filler"

    def fill(self, pages):
        """Leave so many pages free."""
        found = os.statvfs(self.place)
        with self.filler.open("wb") as file:
            file.write(b"\1" * max(0, found.f_bavail - pages) * PAGE)

    def read_only(self, on):
        subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", self.place], check=True)

    def make_home(self, nas, *, behind=timedelta(seconds=2), command=None):
        """One hourly job that is due, or long behind."""
        (self.home / "cron").mkdir(parents=True)
        for folder in (self.home, self.home / "cron"):
            folder.chmod(0o700)
        (self.outside / "key.pem").write_text(KEY.public_pem)
        (self.outside / "token").write_text(TOKEN)
        (self.outside / "token").chmod(0o600)
        (self.home / "config.yaml").write_text(
            "timezone: UTC\ncron:\n  provider: chronos\n  chronos:\n"
            f"    portal_url: {nas.url}\n    callback_url: https://agent.example.com\n"
            f'    expected_audience: "{AUDIENCE}"\n    nas_jwks_url: {self.outside}/key.pem\n'
            f"    token_file: {self.outside}/token\n"
        )
        self.due = datetime.now(UTC).replace(microsecond=0) - behind
        self.nas = nas
        written = f"echo $CHRONOS_FIRE_AT >> {self.diary}"
        job = {
            "id": "a", "name": "a", "enabled": True, "state": "scheduled", "next_run_at": self.due.isoformat(),
            "schedule": {"kind": "interval", "minutes": 60, "display": "every 60m"},
            "chronos": {"timezone": "UTC", "anchor": self.due.isoformat(),
                        "action": {"shell": f"{written}; {command or 'true'}"}},
        }  # fmt: skip
        (self.home / "cron/jobs.json").write_text(json.dumps({"jobs": [job]}))

    def chronos(self, *arguments, stdin=""):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CHRONOS_")}
        env = kept | {"TZ": "UTC", "HOME": str(self.outside)}
        done = forked.run(["--home", str(self.home), *arguments], input=stdin, env=env)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in (0, 1, 10, 75), (arguments, done)
        return done

    def do(self, kind):
        if kind == "fire":
            claims = {"iss": self.nas.url, "job_id": "a", "fire_at": self.due.isoformat()}
            token = KEY.token(**claims)
            return self.chronos("fire", "--job-id", "a", "--fire-at", self.due.isoformat(), "--token", "-", stdin=token)
        return self.chronos(kind)

    def judge(self, *, ran=None):
        """Each occurrence up to what was claimed stands in one terminal row, and none has run twice."""
        (record,) = json.loads((self.home / "cron/jobs.json").read_text())["jobs"]
        assert not record["chronos"].get("open"), record
        diary = self.diary.read_text().split() if self.diary.exists() else []
        assert len(diary) == len(set(diary)), diary
        expected = self.due
        for path in sorted((self.home / "cron/runs/a").glob("[!.]*.json")):
            row = json.loads(path.read_text())
            assert row["state"] in {state.value for state in TERMINAL}, row
            assert row["scheduled_at"] == expected.isoformat()
            assert (row["state"] == "ok") == (row["scheduled_at"] in diary), row
            assert row["state"] in ("ok", "missed"), row
            expected += timedelta(hours=row.get("count") or 1)
        assert expected.isoformat() == record["next_run_at"]
        assert "a" in self.nas.armed
        assert ran is None or diary == ran


@pytest.mark.parametrize("free", [(0, 3, 9), pytest.param(EACH, marks=pytest.mark.soak)], ids=["some", "each"])
@pytest.mark.parametrize("kind", ["fire", "tick", "reconcile"])
def test_a_full_disk_loses_no_occurrence(tmp_path, nas, kind, free):
    """With each number of pages left: it ends, in one line; with room again the next of these puts all right."""
    for pages in free:
        with mounted(tmp_path / f"disk{pages}") as disk:
            disk.make_home(nas, behind=timedelta(hours=30.5) if kind == "reconcile" else timedelta(hours=3.5))
            disk.fill(pages)
            first = disk.do(kind)
            assert pages or first.returncode in (1, 75), first
            for look in ("list", "status", "history"):
                assert disk.chronos(look).returncode == 0
            disk.filler.unlink()
            disk.do(kind)
            disk.chronos("tick")
            disk.judge()


@pytest.mark.parametrize("kind", ["fire", "tick", "reconcile"])
def test_a_read_only_disk_loses_no_occurrence(tmp_path, nas, kind):
    """Nothing starts, in one line that names the disk; views go on; once it can be written the next puts all right."""
    with mounted(tmp_path / "disk") as disk:
        disk.make_home(nas, behind=timedelta(hours=3.5))
        disk.read_only(True)
        done = disk.do(kind)
        assert done.returncode in (1, 75), done
        assert "Read-only" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not disk.diary.exists()
        for look in ("list", "status", "history", "timeline"):
            assert disk.chronos(look).returncode == 0
        disk.read_only(False)
        disk.do(kind)
        disk.chronos("tick")
        disk.judge()


@pytest.mark.parametrize("kind", ["fire", "tick"])
def test_a_disk_that_the_job_itself_fills_keeps_the_result(tmp_path, nas, kind):
    """The lock file has its room from the start: the result is there, and the next look enters it, at once."""
    with mounted(tmp_path / "disk") as disk:
        filler = f"cat /dev/zero > {disk.filler} 2>/dev/null"
        disk.make_home(nas, command=f"{filler}; true")
        first = disk.do(kind)
        assert first.returncode in (0, 75), first  # what the claim has left may just be enough for the row
        assert disk.diary.read_text().split() == [disk.due.isoformat()]
        assert disk.chronos("list").returncode == 0
        disk.filler.unlink()
        disk.chronos("tick")
        disk.judge(ran=[disk.due.isoformat()])
