"""One home, two programs: hermes-agent 0.19 reads and changes what we wrote, we what it wrote, and nothing is lost.

`CHRONOS_HERMES_PYTHON` names the Python of an environment in which hermes-agent is installed; run with `-m interop`.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import ROOT
from tests.hermes_process import Hermes

pytestmark = pytest.mark.interop

PAUSED = "255d0a07be98"
LIST = "from cron.jobs import list_jobs\nanswer = list_jobs(include_disabled=True)"
RENAME = (
    "from cron.jobs import list_jobs, update_job\n"
    "answer = [update_job(job['id'], {'name': 'H ' + job['name']})['id'] for job in list_jobs(include_disabled=True)]"
)
DUE = "from cron.jobs import get_due_jobs\nanswer = [job['id'] for job in get_due_jobs()]"
CLAIM = "from cron.jobs import claim_job_for_fire\nanswer = claim_job_for_fire(given[0])"
MARK = "from cron.jobs import mark_job_run\nmark_job_run(given[0], True)\nanswer = True"


@pytest.fixture
def hermes(fixture_home):
    """hermes-agent on a copy of a home that it wrote, with its instants in the future."""
    path = fixture_home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    for job in document["jobs"]:
        for holder, key in ((job, "next_run_at"), (job["schedule"], "run_at")):
            if holder.get(key):
                holder[key] = (datetime.fromisoformat(holder[key]) + timedelta(days=3650)).isoformat()
    path.write_text(json.dumps(document, indent=2))
    return Hermes(fixture_home)


def stored(hermes):
    """The records as they stand in the file, by id."""
    document = json.loads((hermes.home / "cron" / "jobs.json").read_text())
    return {job["id"]: job for job in document["jobs"]}


def command(hermes, *arguments):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CHRONOS_")}
    env = kept | {"PYTHONPATH": str(ROOT), "CHRONOS_HOME": str(hermes.home)}
    return [sys.executable, "-m", "chronos_cli", *arguments], env


def chronos(hermes, *arguments):
    """Run our command on the same home; what it printed."""
    argv, env = command(hermes, *arguments)
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_due(hermes, job_id):
    """Set a job's time to a second ago, as if its minute had come: after it was made, and no second twice."""
    path = hermes.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    job = next(job for job in document["jobs"] if job["id"] == job_id)
    past = [job["created_at"], *filter(None, [(job.get("chronos") or {}).get("claimed_through")])]
    earliest = max(datetime.fromisoformat(text) for text in past)
    while (moment := datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)) <= earliest:
        time.sleep(0.05)
    job["next_run_at"] = moment.isoformat()
    if job["schedule"]["kind"] == "once":
        job["schedule"]["run_at"] = job["next_run_at"]
    path.write_text(json.dumps(document, indent=2))


@contextmanager
def run_in_hand(hermes, job_id):
    """A run of ours that goes until the block ends: its command waits for a file."""
    make_due(hermes, job_id)
    argv, env = command(hermes, "tick")
    running = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until = time.monotonic() + 20
        while not (hermes.home / "began").exists():
            assert running.poll() is None, running.stdout.read()
            assert time.monotonic() < until
            time.sleep(0.02)
        yield
    finally:
        (hermes.home / "go").touch()
        said, _ = running.communicate(timeout=30)
    assert running.returncode == 0, said


def waits(hermes):
    return f"touch {hermes.home}/began; while ! test -e {hermes.home}/go; do sleep 0.05; done"


def kept(before, after, *changed):
    """Every key of every record is there as before, in its order, but for those that were to change."""
    assert list(before) == list(after)
    for job_id, job in before.items():
        rest = {key: value for key, value in job.items() if key not in changed}
        assert list(rest.items()) == [(key, after[job_id].get(key)) for key in rest], job_id
        assert set(job) <= set(after[job_id])


def test_hermes_lists_and_edits_a_store_that_we_changed(hermes):
    """Jobs added, edited, paused and run by us are listed by hermes, edited by it, and edited by us again, whole."""
    before = stored(hermes)
    recurring = next(job_id for job_id, job in before.items() if job["schedule"]["kind"] == "interval")
    chronos(hermes, "job", "add", "0 9 * * 1-5", "--id", "ours", "--name", "digest", "--tz", "Europe/Berlin",
            "--overlap", "queue", "--retries", "2", "--shell", "echo hello")  # fmt: skip
    chronos(hermes, "job", "add", "every 2h", "--id", "rested", "--shell", "true")
    chronos(hermes, "job", "pause", "rested")
    chronos(hermes, "job", "edit", recurring, "--name", "renamed by us", "--grace", "2h")
    make_due(hermes, "ours")
    chronos(hermes, "tick")
    ours = stored(hermes)
    assert ours["ours"]["last_status"] == "ok"
    assert ours["ours"]["chronos"]
    assert ours[recurring]["chronos"]
    kept({job_id: before[job_id] for job_id in before}, {job_id: ours[job_id] for job_id in before}, "name")

    printed = hermes.cron("list", "--all")
    assert all(job["name"] in printed for job in ours.values())
    listed = {job["id"]: job for job in hermes.run(LIST)}
    assert listed.keys() == ours.keys()
    assert all(listed[job_id].items() >= job.items() for job_id, job in ours.items())
    assert stored(hermes) == ours

    assert set(hermes.run(RENAME)) == set(ours)
    hermes.cron("edit", "ours", "--schedule", "every 3h")
    hermes.cron("pause", recurring)
    theirs = stored(hermes)
    moved = ("name", "schedule", "schedule_display", "next_run_at", "enabled", "state", "paused_at", "paused_reason")
    kept(ours, theirs, *moved)
    assert {job_id: job.get("chronos") for job_id, job in theirs.items()} == {
        job_id: job.get("chronos") for job_id, job in ours.items()
    }

    seen = {job["id"]: job for job in json.loads(chronos(hermes, "list", "--offline", "--json"))["jobs"]}
    assert seen.keys() == theirs.keys()
    assert not [job for job in seen.values() if job["state"] == "invalid"]
    assert {job_id for job_id, job in seen.items() if job["state"] == "paused"} == {PAUSED, "rested", recurring}
    assert all(seen[job_id]["name"] == job["name"] for job_id, job in theirs.items())
    chronos(hermes, "job", "edit", "ours", "--name", "back again")
    chronos(hermes, "job", "resume", recurring)
    last = stored(hermes)
    assert last["ours"]["name"] == "back again"
    assert last["ours"]["schedule"]["minutes"] == 180
    kept(theirs, last, *moved, "chronos")


def test_we_list_and_edit_a_store_that_hermes_changed(hermes):
    """Jobs that hermes' own command made, paused and removed are ours to list, edit and run; what it wrote stays."""
    gone = next(iter(stored(hermes)))
    hermes.cron("create", "every 2h", "look around", "--name", "theirs")
    hermes.cron("remove", gone)
    theirs = stored(hermes)
    (made,) = [job_id for job_id, job in theirs.items() if job["name"] == "theirs"]
    hermes.cron("pause", made)
    theirs = stored(hermes)
    seen = {job["id"]: job for job in json.loads(chronos(hermes, "list", "--offline", "--json"))["jobs"]}
    assert seen.keys() == theirs.keys()
    assert seen[made]["state"] == "paused"
    chronos(hermes, "job", "edit", made, "--shell", "true")
    chronos(hermes, "job", "resume", made)
    make_due(hermes, made)
    chronos(hermes, "tick")
    ours = stored(hermes)
    assert ours[made]["last_status"] == "ok"
    assert {job_id: job for job_id, job in ours.items() if job_id != made} == {
        job_id: job for job_id, job in theirs.items() if job_id != made
    }
    assert set(theirs[made]) <= set(ours[made])
    hermes.cron("edit", made, "--name", "theirs again")
    after = stored(hermes)
    kept(ours, after, "name")
    assert after[made]["chronos"] == ours[made]["chronos"]


@pytest.mark.parametrize("schedule", ["in 1h", "every 1h"])
def test_a_run_of_ours_is_left_alone_by_hermes(hermes, schedule):
    """While our run goes, hermes neither finds the job due nor can claim it; its edits meanwhile stay; after it, likewise."""
    chronos(hermes, "job", "add", schedule, "--id", "held", "--shell", waits(hermes))
    with run_in_hand(hermes, "held"):
        during = stored(hermes)["held"]
        assert during["chronos"]["open"]
        assert hermes.run(DUE) == []
        assert hermes.run(CLAIM, "held") is False
        assert stored(hermes)["held"] == during
        hermes.cron("edit", "held", "--name", "edited meanwhile")
    after = stored(hermes)["held"]
    assert after["name"] == "edited meanwhile"
    assert after["last_status"] == "ok"
    assert not after["chronos"].get("open")
    assert after["fire_claim"] is None
    assert hermes.run(DUE) == []
    rows = list((hermes.home / "cron" / "runs" / "held").glob("*.json"))
    assert [json.loads(row.read_text())["state"] for row in rows] == ["ok"]


def test_a_one_shot_that_ended_with_us_is_not_revived(hermes):
    """The look of hermes for due jobs gives a one-shot that we ran no new time."""
    chronos(hermes, "job", "add", "in 1h", "--id", "once", "--shell", "true")
    make_due(hermes, "once")
    chronos(hermes, "tick")
    ended = stored(hermes)["once"]
    assert hermes.run(DUE) == []
    assert stored(hermes)["once"] == ended
    assert ended["state"] == "completed"


def test_a_claim_of_hermes_is_a_run_in_hand(hermes):
    """What hermes has claimed, one-shot or recurring, we do not start; once it says the run is over, the next one is ours."""
    chronos(hermes, "job", "add", "in 1h", "--id", "once", "--shell", f"touch {hermes.home}/wrong")
    chronos(hermes, "job", "add", "every 1h", "--id", "often", "--shell", f"echo ran >> {hermes.home}/diary")
    make_due(hermes, "once")
    make_due(hermes, "often")
    assert hermes.run(CLAIM, "often") is True
    assert hermes.run(DUE) == ["once"]
    make_due(hermes, "often")
    claimed = stored(hermes)
    assert claimed["once"]["run_claim"]
    chronos(hermes, "tick")
    assert not (hermes.home / "wrong").exists()
    assert not (hermes.home / "diary").exists()
    assert stored(hermes)["once"]["run_claim"] == claimed["once"]["run_claim"]
    hermes.run(MARK, "often")
    make_due(hermes, "often")
    chronos(hermes, "tick")
    assert (hermes.home / "diary").read_text() == "ran\n"


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_a_claim_of_hermes_outlives_our_looks(hermes, overlap):
    """However often we look while hermes' claim is live, it stays in the record and nothing of ours starts."""
    chronos(hermes, "job", "add", "every 1h", "--id", "often", "--overlap", overlap, "--shell",
            f"touch {hermes.home}/wrong")  # fmt: skip
    assert hermes.run(CLAIM, "often") is True
    claim = stored(hermes)["often"]["fire_claim"]
    for _ in range(2):
        make_due(hermes, "often")
        chronos(hermes, "tick")
    assert stored(hermes)["often"]["fire_claim"] == claim
    assert not (hermes.home / "wrong").exists()
