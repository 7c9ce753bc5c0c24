"""A home that a wrong clock has had its hands on: what is shown of it, and how it is put right."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.operations import assembly
from tests.cli.conftest import connect
from tests.nas_process import running_nas

LEAP = timedelta(days=4_100)


@pytest.fixture(scope="module")
def nas(tmp_path_factory):
    """One NAS for all tests here; each test is an agent of its own."""
    with running_nas(tmp_path_factory.mktemp("nas")) as running:
        yield running


@pytest.fixture
def agent(nas, request):
    """A fresh agent."""
    return nas.add_agent(f"agent-{zlib.crc32(request.node.name.encode()):08x}")


@pytest.fixture
def clock(monkeypatch):
    """Set this machine's clock: `clock(LEAP)`, and right again: `clock()`."""

    def moved(by=timedelta()):
        monkeypatch.setattr(assembly, "_now", lambda: datetime.now(UTC) + by)

    return moved


def view_of(chronos, home, *arguments):
    """What `list` says of the job j."""
    document = chronos("list", *arguments, "--json", home=home).json
    return next(view for view in document["jobs"] if view["id"] == "j")


def conditions(chronos, home):
    """What `status` says of the job j."""
    looked = chronos("status", "--json", home=home).json["needs_a_look"]
    return next((item["conditions"] for item in looked if item["job_id"] == "j"), [])


def doctor(chronos, home):
    """The check of the next times: its code, and what mends it."""
    checks = chronos("doctor", "--json", home=home).json["checks"]
    check = next(check for check in checks if check["name"] == "next")
    return check["level"], check["code"], check["mend"]


def soon(text):
    """Whether an instant lies within the coming day."""
    return timedelta() < datetime.fromisoformat(text) - datetime.now(UTC) <= timedelta(days=1)


def change(home, job_id, *, ours=None, **fields):
    """Put a record as another program, or another clock, would have left it."""
    path = home / "cron/jobs.json"
    document = json.loads(path.read_text())
    record = next(job for job in document["jobs"] if job["id"] == job_id)
    record |= fields
    record["chronos"] |= ours or {}
    path.write_text(json.dumps(document, indent=2))


def stored(home, job_id):
    """A job's record."""
    return next(job for job in json.loads((home / "cron/jobs.json").read_text())["jobs"] if job["id"] == job_id)


def test_what_is_shown_as_next_is_what_is_stored(chronos, home):
    """The five times that resume, pause and edit show begin with the one that is stored, whatever the schedule says."""
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(days=4_000)
    change(home, "j", ours={"claimed_through": ahead.isoformat()})
    assert chronos("job", "pause", "j", "--json", home=home).json["next"] == []
    for command in (("resume", "j"), ("edit", "j", "--schedule", "0 10 * * *"), ("edit", "j", "--name", "k")):
        document = chronos("job", *command, "--json", home=home).json
        times = [datetime.fromisoformat(item["at"]) for item in document["next"]]
        assert times[0] == datetime.fromisoformat(document["job"]["next_run_at"]) > ahead, command
        assert times[0] == datetime.fromisoformat(stored(home, "j")["next_run_at"])
        assert len(times) == 5
        assert times == sorted(set(times))
        said = chronos("job", *command, home=home).out
        assert f"{times[0]:%Y-%m-%d %H:%M}" in said, said


@pytest.mark.parametrize("verb", ["reconcile", "tick"])
def test_nas_is_the_witness_against_a_clock_that_is_years_ahead(chronos, home, nas, agent, clock, verb):
    """At 2038 nothing is settled, completed or cancelled: what NAS holds and the store says stays as it was."""
    connect(home, nas, agent, "http://127.0.0.1:9")
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    chronos("job", "add", "in 20h", "--id", "once", "--shell", "true", home=home)
    before, held = {job_id: stored(home, job_id) for job_id in ("j", "once")}, nas.armed(agent)
    assert set(held) == {"j", "once"}
    clock(LEAP)
    done = chronos(verb, "--json", home=home)
    assert done.code == 0, done.err
    assert {job_id: stored(home, job_id) for job_id in ("j", "once")} == before
    assert nas.armed(agent) == held
    clock()
    assert chronos("reconcile", home=home).out.splitlines()[-1] == "Plan: 0 to arm, 0 to move, 0 to cancel, 2 to keep."
    assert view_of(chronos, home)["will_fire"] is True


def test_a_tick_whose_witness_is_silent_leaves_what_only_its_clock_calls_late(chronos, home, nas, agent, clock):
    """NAS is configured and does not answer: nothing is settled, and the tick says why."""
    connect(home, nas, agent, "http://127.0.0.1:9")
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    before = stored(home, "j")
    config = (home / "config.yaml").read_text()
    (home / "config.yaml").write_text(config.replace(f"portal_url: {nas.url}", "portal_url: http://127.0.0.1:9"))
    clock(LEAP)
    done = chronos("tick", "--json", home=home)
    assert (done.code, done.json["started"]) == (75, [])
    assert "by this clock it is 4" in done.json["error"]["message"]
    assert "days late, and NAS did not confirm the clock" in done.json["error"]["message"]
    assert stored(home, "j") == before


def test_what_a_wrong_clock_put_far_ahead_is_named_and_reconcile_brings_it_back(chronos, home, nas, agent, clock):
    """No view says that a job fires which sleeps until 2038; reconcile, once NAS agrees with the clock, arms it right."""
    connect(home, nas, agent, "http://127.0.0.1:9")
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    right = stored(home, "j")["next_run_at"]
    far = datetime.fromisoformat(right) + LEAP
    change(home, "j", next_run_at=far.isoformat(), ours={"claimed_through": (far - timedelta(days=1)).isoformat()})
    clock(LEAP)
    chronos("arm", "j", home=home)
    clock()
    view = view_of(chronos, home)
    assert (view["will_fire"], view["doubt"]["code"]) == (False, "ahead")
    assert "it sleeps until 20" in view["doubt"]["text"]
    assert "will fire" not in chronos("list", home=home).out
    assert "chronos job realign j" in chronos("list", home=home).err
    assert "ahead" in conditions(chronos, home)
    assert doctor(chronos, home) == ("FAIL", "next_ahead", "chronos job realign j")
    chronos("reconcile", home=home)
    assert stored(home, "j")["next_run_at"] == right
    view = view_of(chronos, home)
    assert (view["will_fire"], view["doubt"]) == (True, None)
    late = datetime.fromisoformat(view["arm"]["held"]) - datetime.fromisoformat(right)
    assert timedelta() <= late < timedelta(seconds=5)  # under a fresh key, where the first one was displaced
    assert nas.armed(agent).keys() == {"j"}
    assert doctor(chronos, home)[0] == "OK"


def test_the_tick_alone_goes_on_by_any_clock_and_comes_back(chronos, home, clock):
    """The newest instant runs, what it leapt from is noted, and the tick of a clock that is right again undoes it."""
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    right = stored(home, "j")["next_run_at"]
    clock(LEAP)
    assert len(chronos("tick", "--json", home=home).json["started"]) == 1
    assert not soon(stored(home, "j")["next_run_at"])
    clock()
    assert view_of(chronos, home)["doubt"]["code"] == "ahead"
    ran = sorted(path.name for path in (home / "cron/runs/j").iterdir())
    assert chronos("tick", "--json", home=home).json["started"] == []
    cursor = datetime.fromisoformat(stored(home, "j")["next_run_at"])
    # The very next instant has a row, as the first of those that were missed: it is not run again.
    assert cursor == datetime.fromisoformat(right) + timedelta(days=1)
    assert sorted(path.name for path in (home / "cron/runs/j").iterdir()) == ran
    assert view_of(chronos, home)["doubt"] is None
    assert "leapt_from" not in stored(home, "j")["chronos"]


def test_realign_brings_back_a_job_by_hand(chronos, home):
    """One command for a home without a witness; a job that is as its schedule says stays as it is."""
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    right = stored(home, "j")
    far = datetime.fromisoformat(right["next_run_at"]) + LEAP
    assert chronos("job", "realign", "j", "--json", home=home).json["changed"] is False
    assert stored(home, "j") == right
    change(home, "j", next_run_at=far.isoformat(), ours={"claimed_through": (far - timedelta(days=1)).isoformat()})
    assert chronos("tick", home=home).code == 0
    assert stored(home, "j")["next_run_at"] == far.isoformat()
    document = chronos("job", "realign", "j", "--json", home=home).json
    assert (document["changed"], document["next"][0]["at"]) == (True, right["next_run_at"])
    assert stored(home, "j")["next_run_at"] == right["next_run_at"]


def test_a_store_of_another_zone_is_named_and_put_right(chronos, tmp_path, home):
    """Its offset is none of the zone that is used: import, list, status and doctor say so; once a day stays once a day."""
    day = datetime.now(UTC).date() + timedelta(days=1)
    foreign = {"id": "j", "name": "j", "prompt": "p", "schedule": {"kind": "cron", "expr": "0 17 * * *"}, "enabled": True,
               "state": "scheduled", "next_run_at": f"{day}T17:00:00+07:00"}  # fmt: skip
    (tmp_path / "jobs.json").write_text(json.dumps({"jobs": [foreign]}))
    (home / "config.yaml").write_text("timezone: UTC\n")
    said = chronos("job", "import", tmp_path / "jobs.json", home=home).err
    for words in ("+07:00", "UTC", "'0 17 * * *'", "--tz", "`timezone`"):
        assert words in said, said
        assert words in chronos("list", "--offline", home=home).err
    assert "displaced" in conditions(chronos, home)
    level, code, mend = doctor(chronos, home)
    assert (level, code) == ("WARN", "next_displaced")
    assert "--tz" in mend
    assert view_of(chronos, home)["next_run_at"] == f"{day}T17:00:00+00:00"
    assert chronos("tick", home=home).code == 0
    assert stored(home, "j")["next_run_at"] == f"{day}T17:00:00+00:00"
    assert view_of(chronos, home)["doubt"] is None
