"""`chronos job layout` on a real S3 API: both moves, while replicas fire; and what every other command makes of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from chronos_cli.cli import main
from chronos_cli.errors import StoreError
from chronos_cli.store.interface import JOB_PREFIX, JOBS_KEY
from chronos_cli.store.repository import Repository
from tests.errors.hinted import tries
from tests.in_process import run_here
from tests.memory_store import MemoryStore
from tests.store.conftest import s3, s3_server  # noqa: F401 - fixtures


@pytest.fixture
def run(tmp_path, s3, monkeypatch):  # noqa: F811
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_text(f"timezone: UTC\nstore: {s3.url}\nstore_endpoint: {s3.endpoint}\n")
    monkeypatch.setenv("CHRONOS_HOME", str(home))
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*arguments, code=0):
        done = run_here(main, arguments)
        assert done.returncode == code, done.stderr
        return done.stdout or done.stderr

    run.store, run.home = s3.open(), home
    return run


def listed(run):
    return {job["id"]: job for job in json.loads(run("job", "list", "--json"))["jobs"]}


def test_jobs_are_moved_both_ways_while_replicas_run_them(run):
    """Each run is on the record of its job, whichever layout it met; the same move again changes nothing."""
    for name in ("a", "b"):
        run("job", "add", "every 1h", "--id", name, "--command", "true")
    assert run("job", "layout").startswith("2 jobs at s3://")
    assert run("job", "layout").endswith("kept apart\n")
    assert run.store.read(f"{JOB_PREFIX}{json.loads(run.store.read(JOBS_KEY).data)['folder']}/a.json") is not None
    over = threading.Event()
    ran = {"a": 0, "b": 0}

    def replica(name):
        while not over.is_set() and ran[name] < 12:
            done = subprocess.run([sys.executable, "-m", "chronos_cli", "run", name, "--quiet"], env=os.environ, check=False,
                                  capture_output=True, text=True)  # fmt: skip
            assert done.returncode == 0, done.stderr
            ran[name] += 1

    threads = [threading.Thread(target=replica, args=(name,)) for name in ran]
    for thread in threads:
        thread.start()
    try:
        for to in ("together", "together", "apart", "together"):
            before = json.loads(run("job", "layout", "--json"))
            after = json.loads(run("job", "layout", to, "--json"))
            assert (after["layout"], after["moved"], after["jobs"]) == (to, before["layout"] != to, 2)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert isinstance(json.loads(run.store.read(JOBS_KEY).data)["jobs"], list)
    for name, count in ran.items():
        assert count > 0
        rows = json.loads(run("history", name, "--json"))["rows"]
        assert len({row["run_id"] for row in rows}) == len(rows) == count
        assert {row["state"] for row in rows} == {"ok"}


def test_every_command_reads_jobs_that_are_kept_apart(run):
    for name in ("one", "two"):
        run("job", "add", "every 1h", "--id", name, "--name", name.title(), "--command", "true")
    assert list(listed(run)) == ["one", "two"]
    run("job", "edit", "Two", "--name", "Zwei")
    run("job", "pause", "one")
    assert listed(run)["two"]["name"] == "Zwei"
    exported = run("job", "export")
    run("job", "remove", "one", "--yes")
    run("job", "remove", "two", "--yes")
    assert listed(run) == {}
    (run.home / "jobs.json").write_text(exported)
    run("job", "import", str(run.home / "jobs.json"))
    assert {name: job["name"] for name, job in listed(run).items()} == {"one": "One", "two": "Zwei"}
    assert run("tick") is not None
    assert "each in a document of its own" in run("doctor")


@tries(
    "operations/jobs/layout.py",
    "give one of",
    "jobs are kept apart only in a bucket: set store to s3://, gs:// or az://",
)
def test_a_home_on_a_disk_has_one_layout(run, tmp_path, monkeypatch):
    """It is told so; where the hint is followed, the move is made."""
    assert run("job", "layout", "together").endswith("kept together\n")
    assert run("job", "layout", "apart").endswith("moved apart\n")
    monkeypatch.setenv("CHRONOS_HOME", str(tmp_path))
    monkeypatch.setenv("CHRONOS_STORE", "")
    assert run_here(main, ["job", "layout"]).stdout.endswith("kept together\n")
    for to, words in (
        ("apart", "are in one file, which Hermes reads too: jobs are kept apart only in a bucket"),
        ("sideways", "there is no layout 'sideways'"),
    ):
        done = run_here(main, ["job", "layout", to])
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


def test_an_older_chronos_refuses_jobs_that_are_kept_apart():
    """It knows a store with one document of all jobs alone: it neither reads nor changes, and a fire is answered 503."""

    class Bucket(MemoryStore):
        keeps_jobs_apart = True

    store = Bucket()
    Repository(store, sleep=lambda _: None, random=lambda: 0.5).change(lambda jobs: jobs.add({"id": "a"}))
    store.keeps_jobs_apart = False
    older = Repository(store, sleep=lambda _: None, random=lambda: 0.5)
    for use in (older.jobs, lambda: older.change(lambda jobs: jobs.add({"id": "b"}))):
        with pytest.raises(StoreError, match="has a text as its `jobs`") as caught:
            use()
        assert caught.value.http_status == 503
