"""Hermes stores of the shapes that are in public use, made anew: they load, list, fire, export, and go back to Hermes."""

import json
import os
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tests.callback.shim_home import ShimHome
from tests.cli.conftest import chronos, clean_environment  # noqa: F401 - fixtures
from tests.fire_tokens import SigningKey
from tests.hermes_process import Hermes
from tests.nas_client.played_nas import played_nas

PYTHON = os.environ.get("CHRONOS_HERMES_PYTHON")
"""Looked up before the fixtures take our variables away."""

NOW = datetime.now(UTC).replace(microsecond=0)
DUE = (NOW - timedelta(seconds=1)).isoformat()
LATER = (NOW + timedelta(hours=30)).isoformat()
BEFORE = (NOW - timedelta(days=3)).isoformat()


def made(job_id, **fields):
    """A record with the fields that hermes-agent 0.19 gives one."""
    return {
        "id": job_id, "name": f"Job {job_id}", "prompt": "", "skills": [], "skill": None, "model": None, "provider": None,
        "base_url": None, "script": "note.sh", "no_agent": True, "context_from": None,
        "schedule": {"kind": "interval", "minutes": 60, "display": "every 60m"}, "schedule_display": "every 60m",
        "repeat": {"times": None, "completed": 3}, "enabled": True, "state": "scheduled", "paused_at": None,
        "paused_reason": None, "created_at": BEFORE, "next_run_at": LATER, "last_run_at": BEFORE, "last_status": "ok",
        "last_error": None, "last_delivery_error": None, "deliver": "local", "origin": None, "enabled_toolsets": None,
        "workdir": None, **fields,
    }  # fmt: skip


def plain(home):
    """As version 0.19 writes it: an object with a list, indented."""
    prompt = made("talk", prompt="Sum it up", script=None, no_agent=False, skills=["news"], deliver="telegram:1",
                  schedule={"kind": "cron", "expr": "0 9 * * 1-5", "display": "0 9 * * 1-5"})  # fmt: skip
    jobs = [made("due", next_run_at=DUE), prompt, made("rest", enabled=False, state="paused", paused_at=BEFORE)]
    write(home, json.dumps({"jobs": jobs, "updated_at": BEFORE}, indent=2))


def by_hand(home):
    """As people and their agents write it: fields left out, numbers as text, schedules in words, marks of an editor."""
    jobs = [
        {"id": "due", "script": "note.sh", "no_agent": True, "schedule": {"kind": "interval", "minutes": "60"}, "next_run_at": DUE},
        {"id": "words", "prompt": "Water the plants", "schedule": "every monday 9am", "next_run_at": None, "note": "mine"},
        {"id": "rest", "prompt": "x", "schedule": {"kind": "cron", "expr": "@daily"}, "state": "scheduled", "paused_at": BEFORE},
    ]  # fmt: skip
    write(home, "\ufeff" + json.dumps({"version": 2, "jobs": jobs}, indent="\t").replace("\n", "\r\n"))


def keyed(home):
    """By id, in one line, ids only in the keys, as some exports have it."""
    jobs = {"due": made("due", next_run_at=DUE), "rest": made("rest", state="paused"), "more": made("more")}
    for job_id, record in jobs.items():
        assert record.pop("id") == job_id
    write(home, json.dumps({"jobs": jobs}))


def newer(home):
    """With fields of newer versions, in order and unknown to older ones."""
    more = {"timezone": "Asia/Tokyo", "failure_streak": 2, "failure_deliver": "telegram:9", "quota_hold_until": BEFORE,
            "pending_slot": LATER, "manual_run_at": DUE, "smoke": {"version": 1, "probes": []}, "tags": ["a", {"b": 1.50}]}  # fmt: skip
    jobs = [
        made("due", next_run_at=DUE, **more),
        made("page", monitor_url="https://example.com"),
        made("rest", state="paused"),
    ]
    write(home, json.dumps({"jobs": jobs, "updated_at": BEFORE, "schema_version": 3}, indent=2, ensure_ascii=False))


def split(home):
    """In two halves: what is run-time in a database."""
    runtime = {"next_run_at", "last_run_at", "last_status", "last_error", "repeat", "state", "enabled"}
    jobs = [made("due", next_run_at=DUE), made("rest", state="paused", enabled=False), made("more")]
    write(home, json.dumps({"jobs": [{k: v for k, v in job.items() if k not in runtime} for job in jobs]}, indent=2))
    connection = sqlite3.connect(home / "cron" / "runtime.db")
    with closing(connection), connection:
        connection.execute("CREATE TABLE job_runtime (job_id TEXT PRIMARY KEY, state_json TEXT NOT NULL)")
        for job in jobs:
            state = json.dumps({key: value for key, value in job.items() if key in runtime})
            connection.execute("INSERT INTO job_runtime VALUES (?, ?)", (job["id"], state))


def write(home, text):
    (home / "cron").mkdir()
    (home / "cron" / "jobs.json").write_bytes(text.encode())
    (home / "scripts").mkdir(exist_ok=True)
    (home / "scripts" / "note.sh").write_text("echo noted\n")


SHAPES = {"plain": plain, "by_hand": by_hand, "keyed": keyed, "newer": newer, "split": split}


nas = played_nas("keeps-slot")


@pytest.fixture(params=SHAPES)
def home(request, chronos, tmp_path, nas, monkeypatch):  # noqa: F811
    made_home = ShimHome(tmp_path, SigningKey.es256(), nas.url, monkeypatch)
    SHAPES[request.param](made_home.home)
    return made_home


def stored(home):
    jobs = json.loads((home.home / "cron" / "jobs.json").read_text(encoding="utf-8-sig"))["jobs"]
    return (
        {key: {"id": key, **job} for key, job in jobs.items()}
        if isinstance(jobs, dict)
        else {job["id"]: job for job in jobs}
    )


MOVED = {"next_run_at", "last_run_at", "last_status", "last_error", "fire_claim", "repeat", "chronos", "pending_slot",
         "manual_run_at"}  # fmt: skip


def test_it_loads_lists_fires_exports_and_goes_back(chronos, home, nas, tmp_path):  # noqa: F811
    """All three jobs are there, the due one runs once, the export comes into another home, and what is hermes' is as it was."""
    before = stored(home)
    listed = {job["id"]: job for job in chronos("list", "--offline", "--json", home=home.home).json["jobs"]}
    assert listed.keys() == before.keys()
    assert {job["state"] for job in listed.values()} <= {"live", "paused"}
    assert listed["rest"]["state"] == "paused"
    assert home.fire("due").json["result"] == "claimed"
    until = datetime.now(UTC) + timedelta(seconds=20)
    while [row["state"] for row in home.rows("due")] != ["ok"]:
        assert datetime.now(UTC) < until, home.rows("due")
        time.sleep(0.02)
    assert home.fire("due").json["result"] == "duplicate"
    assert chronos("reconcile", home=home.home).code == 0
    assert set(nas.armed) == {job_id for job_id, job in listed.items() if job["state"] == "live"}
    exported = tmp_path / "exported.json"
    exported.write_text(chronos("job", "export", home=home.home).out)
    other = tmp_path / "other"
    other.mkdir()
    brought = chronos("job", "import", exported, "--json", home=other)
    assert brought.code == 0, brought.err
    assert {job["job_id"] for job in brought.json["jobs"]} == set(before)
    after = stored(home)
    assert list(after) == list(before)
    for job_id, record in before.items():
        kept = {key: value for key, value in after[job_id].items() if key not in MOVED}
        assert kept == {key: value for key, value in record.items() if key not in MOVED}
    assert not {"pending_slot", "manual_run_at"} & after["due"].keys()


@pytest.mark.interop
@pytest.mark.parametrize("home", ["plain", "by_hand", "newer"], indirect=True)
def test_hermes_itself_goes_on_with_it(chronos, home, monkeypatch):  # noqa: F811
    """Version 0.19 lists what we have fired from, the paused one paused, the due one at its next time, and can change it."""
    assert home.fire("due").json["result"] == "claimed"
    until = datetime.now(UTC) + timedelta(seconds=20)
    while [row["state"] for row in home.rows("due")] != ["ok"]:
        assert datetime.now(UTC) < until
        time.sleep(0.02)
    if PYTHON is not None:
        monkeypatch.setenv("CHRONOS_HERMES_PYTHON", PYTHON)
    hermes = Hermes(home.home)
    jobs = {job["id"]: job for job in hermes.run("from cron.jobs import load_jobs\nanswer = load_jobs()")}
    assert jobs.keys() == stored(home).keys()
    assert datetime.fromisoformat(jobs["due"]["next_run_at"]) > datetime.now(UTC)
    assert hermes.run("from cron.jobs import get_due_jobs\nanswer = [job['id'] for job in get_due_jobs()]") == []
    hermes.run("from cron.jobs import update_job\nanswer = bool(update_job('due', {'name': 'Renamed'}))")
    assert chronos("job", "show", "due", "--json", home=home.home).json["job"]["name"] == "Renamed"
