"""A store of which a newer hermes keeps one half in `cron/runtime.db`: read as one, and changed so that hermes takes it over."""

import fcntl
import json
import os
import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.config import load_config
from chronos_cli.core.decision import FireRequest, Outcome, Trigger
from chronos_cli.operations.arming.reconcile import reconcile
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.evaluate import evaluate
from chronos_cli.operations.jobs import edit
from chronos_cli.store.interface import JOBS_KEY, VersionConflict
from tests.callback.shim_home import ShimHome
from tests.cli.conftest import chronos, clean_environment  # noqa: F401 - fixtures
from tests.fire_tokens import SigningKey
from tests.nas_client.played_nas import played_nas

RUNTIME = {"next_run_at", "last_run_at", "last_status", "last_error", "fire_claim", "run_claim", "pending_slot",
           "manual_run_at", "repeat", "state", "enabled", "failure_streak"}  # fmt: skip


class SplitHermes:
    """What keeps a store in two halves: a load has the file's fields over the row's, a save moves what is run-time."""

    def __init__(self, home):
        self.cron = home / "cron"
        self.cron.mkdir(exist_ok=True)
        self.file, self.db = self.cron / "jobs.json", self.cron / "runtime.db"
        with self.connected() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE job_runtime (job_id TEXT PRIMARY KEY, state_json TEXT NOT NULL)")
            connection.execute(
                "CREATE TABLE pending_definitions (singleton INTEGER PRIMARY KEY CHECK(singleton = 1),"
                " definitions_json TEXT NOT NULL, generation_id TEXT)"
            )

    @contextmanager
    def connected(self):
        connection = sqlite3.connect(self.db)
        with closing(connection), connection:
            yield connection

    def load(self):
        with self.connected() as connection:
            rows = {key: json.loads(text) for key, text in connection.execute("SELECT * FROM job_runtime")}
        jobs = json.loads(self.file.read_text())["jobs"] if self.file.exists() else []
        return {job["id"]: {**rows.get(job["id"], {}), **job} for job in jobs}

    def save(self, *jobs):
        with (self.cron / ".jobs.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.file.write_text(
                json.dumps({"jobs": [{k: v for k, v in job.items() if k not in RUNTIME} for job in jobs]}, indent=2)
            )
            with self.connected() as connection:
                for job in jobs:
                    state = json.dumps({key: value for key, value in job.items() if key in RUNTIME}, sort_keys=True)
                    connection.execute("INSERT OR REPLACE INTO job_runtime VALUES (?, ?)", (job["id"], state))

    def set(self, job_id, **fields):
        """A run-time write: the file stays as it is."""
        state = {key: value for key, value in self.load()[job_id].items() if key in RUNTIME} | fields
        with self.connected() as connection:
            connection.execute("UPDATE job_runtime SET state_json = ? WHERE job_id = ?", (json.dumps(state), job_id))


nas = played_nas("keeps-slot")


@pytest.fixture
def home(tmp_path, nas, monkeypatch):
    return ShimHome(tmp_path, SigningKey.es256(), nas.url, monkeypatch)


@pytest.fixture
def hermes(home):
    return SplitHermes(home.home)


def job(job_id, *, ago=1, **fields):
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=ago)
    return {"id": job_id, "name": job_id, "prompt": "", "schedule": {"kind": "interval", "minutes": 60},
            "chronos": {"action": {"shell": "true"}}, "enabled": True, "state": "scheduled", "repeat": {"times": 5, "completed": 2},
            "next_run_at": at.isoformat(), "created_at": (at - timedelta(hours=5)).isoformat(), **fields}  # fmt: skip


def context(home):
    return open_home(load_config(environ={}, home=str(home.home)), ProcessEnvironment(environ={}, secrets={}))


def test_both_halves_are_one_job(home, hermes, nas):
    """Next times, states and counts come from the database, and a field that the file has wins over it."""
    hermes.save(job("due", ago=-60), job("paused", state="paused"), job("edited", ago=-60))
    document = json.loads(hermes.file.read_text())
    later = (datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=45)).isoformat()
    document["jobs"][2]["next_run_at"] = later
    hermes.file.write_text(json.dumps(document))
    ctx = context(home)
    found = {one.id: edit.get(ctx, one.id) for one in ctx.repository.jobs().records}
    assert {key: one.standing.value for key, one in found.items()} == {
        "due": "live",
        "paused": "paused",
        "edited": "live",
    }
    assert found["due"].cursor.isoformat() == hermes.load()["due"]["next_run_at"]
    assert found["edited"].cursor.isoformat() == later
    assert (found["due"].times, found["due"].completed) == (5, 2)
    reconcile(ctx)
    assert {key: arm["fire_at"] for key, arm in nas.armed.items()} == {
        "due": hermes.load()["due"]["next_run_at"], "edited": later
    }  # fmt: skip


def test_a_claim_is_what_hermes_then_reads(home, hermes, nas):
    """The moved time, the count and the end of a run stand in the file, what they undo in the database as null: nothing runs twice."""
    asked = job("job", pending_slot="2026-01-01T00:00:00+00:00", manual_run_at="2026-01-01T00:00:00+00:00")
    hermes.save(asked, job("other", ago=-60))
    before = json.loads(hermes.file.read_text())["jobs"][1]
    assert home.fire("job").json["result"] == "claimed"
    home.wait_for_rows("job", state="ok")
    seen = hermes.load()["job"]
    assert datetime.fromisoformat(seen["next_run_at"]) > datetime.now(UTC)
    assert (seen["last_status"], seen["repeat"]["completed"], seen["fire_claim"]) == ("ok", 3, None)
    assert seen["pending_slot"] is seen["manual_run_at"] is None
    stored = json.loads(hermes.file.read_text())["jobs"]
    assert stored[1] == before
    assert "enabled" not in stored[0]
    hermes.save(*hermes.load().values())  # hermes' own next write takes it over
    assert hermes.load()["job"] == seen
    assert home.fire("job").json["result"] == "duplicate"
    assert datetime.fromisoformat(nas.armed["job"]["fire_at"]).isoformat() == seen["next_run_at"]


def test_a_write_of_hermes_in_between_is_a_conflict(home, hermes):
    """A claim of its own in the database alone, after we read, keeps ours from being written: it is looked at anew."""
    hermes.save(job("job"))
    documents = context(home).repository.documents
    found = documents.read(JOBS_KEY)
    hermes.set("job", next_run_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    with pytest.raises(VersionConflict):
        documents.replace(JOBS_KEY, found.data, found.version)
    again = documents.read(JOBS_KEY)
    version = documents.replace(JOBS_KEY, again.data + b"\n", again.version)
    assert documents.read(JOBS_KEY).version == version
    looked = evaluate(context(home), "job", FireRequest(via=Trigger.TICK, token="t"))
    assert looked.decision.outcome in (Outcome.IDLE, Outcome.DUPLICATE)


def test_a_job_added_again_has_nothing_of_its_former_life(home, hermes, chronos):  # noqa: F811
    """Its row may still be in the database; the new record says of each such field that it is empty."""
    hermes.save(job("again", pending_slot="2026-01-01T00:00:00+00:00", failure_streak=7))
    assert chronos("job", "remove", "again", "--yes", home=home.home).code in (0, 75)
    assert chronos("job", "add", "every 1h", "--id", "again", "--shell", "true", home=home.home).code == 0
    seen = hermes.load()["again"]
    assert seen["pending_slot"] is seen["failure_streak"] is None
    assert seen["repeat"] == {"times": None, "completed": 0}


def broken(hermes, kind):
    if kind == "garbage":
        hermes.db.write_bytes(b"no database at all")
        return
    with hermes.connected() as connection:
        if kind == "pending":
            connection.execute("INSERT INTO pending_definitions VALUES (1, '[]', 'g')")
        elif kind == "unknown":
            connection.execute("ALTER TABLE job_runtime RENAME TO other")
        else:
            connection.execute("UPDATE job_runtime SET state_json = '[1]'")


BROKEN = {
    "garbage": "file is not a database",
    "pending": "hermes has begun a write of its jobs and not ended it; `hermes cron list` ends it",
    "unknown": "it has no table job_runtime, so it is of a form that is not known here",
    "row": "its row of job 'job' is no JSON object",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_read_is_put_off_and_names_the_way(chronos, home, hermes, tmp_path, capsys, kind):  # noqa: F811
    """Fires are 503 and not lost, the log and the doctor say why and what to do, and that very command works."""
    hermes.save(job("job"))
    broken(hermes, kind)
    for suffix in ("-wal", "-shm"):
        if kind == "garbage":
            hermes.db.with_name(f"runtime.db{suffix}").unlink(missing_ok=True)
    before = hermes.file.read_bytes()
    capsys.readouterr()
    reply = home.fire("job")
    assert (reply.status, reply.json["error"]["code"]) == (503, "split_store")
    way = f"`chronos job import --from {home.home}` brings the jobs into another home; until then fires are put off"
    logged = capsys.readouterr().err
    assert BROKEN[kind] in logged
    assert way in logged
    done = chronos("doctor", "--json", home=home.home)
    check = next(check for check in done.json["checks"] if check["name"] == "store")
    assert (check["level"], check["code"]) == ("FAIL", "split_store")
    assert BROKEN[kind] in check["text"]
    assert check["mend"] == way
    assert hermes.file.read_bytes() == before
    other = tmp_path / "other"
    other.mkdir()
    brought = chronos("job", "import", "--from", home.home, home=other)
    assert brought.code == 0, brought.err
    assert "when its jobs are due is counted from now, and how often they ran is not known" in brought.err
    (record,) = json.loads((other / "cron" / "jobs.json").read_text())["jobs"]
    assert datetime.fromisoformat(record["next_run_at"]) > datetime.now(UTC)


def test_an_import_from_a_readable_one_knows_both_halves(home, hermes, chronos, tmp_path):  # noqa: F811
    """A paused job comes paused, and with its count."""
    hermes.save(job("job", state="paused", enabled=False))
    other = tmp_path / "other"
    other.mkdir()
    done = chronos("job", "import", "--from", home.home, "--json", home=other)
    assert (done.code, done.json["left_out"]) == (0, [])
    (record,) = json.loads((other / "cron" / "jobs.json").read_text())["jobs"]
    assert (record["state"], record["repeat"]["completed"]) == ("paused", 2)


def test_a_database_without_tables_is_an_empty_half(home, hermes):
    """So hermes leaves it where it was made and nothing was kept in it yet."""
    hermes.save(job("job"))
    hermes.file.write_text(json.dumps({"jobs": [job("job")]}))
    for suffix in ("", "-wal", "-shm"):
        hermes.db.with_name(f"runtime.db{suffix}").unlink(missing_ok=True)
    hermes.db.write_bytes(b"")
    assert home.fire("job").json["result"] == "claimed"
    home.wait_for_rows("job", state="ok")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_in_its_place_is_put_off_at_once(home, hermes, make):
    """A pipe without a writer would be waited for, and no fire be answered."""
    hermes.save(job("job"))
    for suffix in ("", "-wal", "-shm"):
        hermes.db.with_name(f"runtime.db{suffix}").unlink(missing_ok=True)
    make(hermes.db)
    assert home.fire("job").status == 503


def test_an_id_that_is_no_text_hides_no_state(home, hermes):
    """Else the job would look as if nothing were kept of it: switched on, though it is off."""
    hermes.save(job("job", enabled=False))
    connection = sqlite3.connect(hermes.db)
    with closing(connection), connection:
        connection.execute("UPDATE job_runtime SET job_id = CAST(job_id AS BLOB)")
    assert home.fire("job").status == 503
    assert home.rows("job") == []


def test_a_link_in_its_place_is_not_followed(home, hermes, tmp_path):
    """Where it leads, another program may have put it."""
    hermes.save(job("job"))
    hermes.db.rename(tmp_path / "elsewhere.db")
    hermes.db.symlink_to(tmp_path / "elsewhere.db")
    assert home.fire("job").status == 503
