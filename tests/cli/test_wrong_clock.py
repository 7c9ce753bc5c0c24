"""A home that a wrong clock has had its hands on: what is shown of it, and how it is put right."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from chronos_cli.operations import assembly
from tests.cli.conftest import connect

LEAP = timedelta(days=4_100)


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
    assert (
        chronos("reconcile", home=home).out.splitlines()[-1]
        == "Plan: 0 to arm, 0 to move, 0 to cancel, 2 to keep. Nothing to change."
    )
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
    far = datetime.fromisoformat(right["next_run_at"]).astimezone(ZoneInfo("Europe/Berlin")) + LEAP
    assert chronos("job", "realign", "j", "--json", home=home).json["changed"] is False
    assert stored(home, "j") == right
    change(home, "j", next_run_at=far.isoformat(), ours={"claimed_through": (far - timedelta(days=1)).isoformat()})
    assert chronos("tick", home=home).code == 0
    assert datetime.fromisoformat(stored(home, "j")["next_run_at"]) == far
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
    assert (
        chronos("job", "realign", "j", "--json", home=home).json["changed"] is False
    )  # today it ran where it came from


@pytest.mark.parametrize(
    ("schedule", "ahead"),
    [("every 5m", timedelta(hours=3)), ("@daily", timedelta(hours=50)), ("0 9 * * *", timedelta(days=3))],
)
def test_a_next_time_a_little_further_ahead_than_its_schedule_explains_is_named(chronos, home, schedule, ahead):
    """Not years: some hours, of a job that is due each few minutes. List, status, doctor and the tick say so."""
    chronos("job", "add", schedule, "--id", "j", "--shell", "true", home=home)
    assert view_of(chronos, home)["doubt"] is None
    within_a_minute = datetime.now(UTC).replace(second=30, microsecond=0)  # on one, another zone would be meant
    change(home, "j", next_run_at=(within_a_minute + ahead).isoformat())
    assert view_of(chronos, home)["doubt"]["code"] == "ahead"
    assert "ahead" in conditions(chronos, home)
    assert doctor(chronos, home) == ("FAIL", "next_ahead", "chronos job realign j")
    ticked = chronos("tick", "--json", home=home).json
    assert ticked["doubts"]["j"]["mend"] == "chronos job realign j"
    assert "job j: it sleeps until" in chronos("tick", home=home).err
    chronos("job", "realign", "j", home=home)
    assert chronos("tick", "--json", home=home).json["doubts"] == {}
    assert view_of(chronos, home)["doubt"] is None


@pytest.mark.parametrize("off", [LEAP, timedelta(hours=3), -timedelta(days=20_000)])
def test_who_adds_edits_or_resumes_under_a_wrong_clock_hears_of_it_and_nas_clock_counts(
    chronos, home, nas, agent, clock, off
):
    """NAS's answer bears its Date: the change is made by it, what is shown as next is what is stored and held."""
    connect(home, nas, agent, "http://127.0.0.1:9")

    def check(done, *, words):
        document = done.json
        assert [text for text in document["warnings"] if "NAS's" in text] != [], document
        assert words in str(document["warnings"])
        times = [datetime.fromisoformat(item["at"]) for item in document["next"]]
        assert times[0] == datetime.fromisoformat(stored(home, document["job"]["id"])["next_run_at"])
        assert abs(times[0] - datetime.now(UTC)) < timedelta(days=1, minutes=1)
        assert times[0] > datetime.now(UTC)
        return times[0]

    # All three lie ahead, and behind a clock that is three hours ahead.
    hour = (datetime.now(UTC) + timedelta(hours=2)).hour
    nine, ten, eleven = (f"{minute} {hour} * * *" for minute in (0, 10, 20))
    words = "ahead of NAS's" if off > timedelta() else "behind NAS's"
    clock(off)
    added = check(
        chronos("job", "add", nine, "--tz", "UTC", "--id", "j", "--shell", "true", "--json", home=home), words=words
    )
    soon_ = check(chronos("job", "add", "in 20h", "--id", "k", "--shell", "true", "--json", home=home), words=words)
    assert abs(soon_ - datetime.now(UTC) - timedelta(hours=20)) < timedelta(minutes=1)
    held = nas.armed(agent)
    assert abs(datetime.fromisoformat(held["j"]["fire_at"]) - added) < timedelta(seconds=5)
    check(chronos("job", "edit", "j", "--schedule", ten, "--json", home=home), words=words)
    said = chronos("job", "edit", "j", "--schedule", eleven, home=home)
    assert "set it: `date -u` shows it" in said.err
    assert "~ move" in said.out
    assert f" -> {datetime.fromisoformat(stored(home, 'j')['next_run_at']):%H:%M:%S}" in said.out
    clock()
    chronos("job", "pause", "j", home=home)
    clock(off)
    check(chronos("job", "resume", "j", "--json", home=home), words=words)
    assert not list((home / "cron/runs").glob("j/*"))
    clock()
    done = chronos("reconcile", "--json", home=home).json
    assert done["doubts"] == {}
    assert view_of(chronos, home)["arm"]["state"] == "armed"  # and at 1970 it has been called at once: nobody answers
    assert stored(home, "j")["chronos"].get("claimed_through", "2026") < "2036"


@pytest.mark.parametrize("how", ["add", "import", "crontab"])
def test_no_way_of_changing_a_job_enters_what_has_not_come(chronos, home, nas, agent, clock, tmp_path, how):
    """Three hours ahead: a job that is there is changed, and its next time, past by that clock alone, gets no row."""
    connect(home, nas, agent, "http://127.0.0.1:9")
    hour = (datetime.now(UTC) + timedelta(hours=2)).hour
    line, table, document = (lambda minute: f"{minute} {hour} * * *"), tmp_path / "table", tmp_path / "jobs.json"

    def bring(minute):
        if how == "crontab":
            table.write_text(f"CRON_TZ=UTC\n{line(minute)} true\n")
            return chronos("job", "import", table, "--from", "crontab", home=home)
        return chronos("job", "add", line(minute), "--tz", "UTC", "--id", "j", "--shell", "true", home=home)

    assert bring(0).code == 0
    if how == "import":
        chronos("job", "export", "-o", document, home=home)
        told = json.loads(document.read_text())
        told["jobs"][0]["schedule"] |= {"expr": line(10), "display": line(10)}
        document.write_text(json.dumps(told))
    clock(timedelta(hours=3))
    done = chronos("job", "import", document, home=home) if how == "import" else bring(10)
    assert done.code == 0, done.err
    assert not list((home / "cron/runs").glob("*/*"))
    (job,) = json.loads((home / "cron" / "jobs.json").read_text())["jobs"]
    assert abs(datetime.fromisoformat(job["next_run_at"]) - datetime.now(UTC)) < timedelta(hours=3)
    assert job["schedule"]["expr"] == line(10)


@pytest.mark.parametrize("verb", ["edit", "resume"])
def test_what_a_person_passes_over_is_settled_by_nas_clock_too(chronos, home, nas, agent, clock, verb):
    """At 2038 nothing of the years between is entered as missed or skipped."""
    connect(home, nas, agent, "http://127.0.0.1:9")
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    if verb == "resume":
        chronos("job", "pause", "j", home=home)
    clock(LEAP)
    chronos("job", verb, "j", *(("--schedule", "0 10 * * *") if verb == "edit" else ()), home=home)
    assert soon(stored(home, "j")["next_run_at"])
    assert "claimed_through" not in stored(home, "j")["chronos"]
    assert not list((home / "cron/runs").glob("j/*"))


def test_an_answer_a_few_seconds_off_is_said_and_changes_nothing(chronos, home, nas, agent, clock):
    """Half a minute is worth a word, and no more."""
    connect(home, nas, agent, "http://127.0.0.1:9")
    clock(timedelta(seconds=40))
    document = chronos("job", "add", "every 1h", "--id", "j", "--shell", "true", "--json", home=home).json
    assert re.search("clock is (39|40|41) s ahead of NAS's", str(document["warnings"]))
    clock()
    assert chronos("job", "edit", "j", "--name", "k", "--json", home=home).json["warnings"] == []


@pytest.mark.parametrize("off", [LEAP, -LEAP])
def test_reconcile_says_that_the_clocks_disagree(chronos, home, nas, agent, clock, off):
    """In words and in JSON, and what it does about that."""
    connect(home, nas, agent, "http://127.0.0.1:9")
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    done = chronos("reconcile", "--json", home=home)
    assert done.json["clock"] == {"trust": "confirmed", "ahead_s": done.json["clock"]["ahead_s"]}
    assert abs(done.json["clock"]["ahead_s"]) <= 5
    assert "clock" not in chronos("reconcile", home=home).err
    clock(off)
    said = chronos("reconcile", home=home).err
    assert re.search(
        f"this machine's clock is (4099|4100) d {'ahead of' if off > timedelta() else 'behind'} NAS's", said
    )
    assert "realign" not in said
    assert "set it" in said
    found = chronos("reconcile", "--json", home=home).json
    assert found["clock"]["trust"] == "corrected"
    assert abs(found["clock"]["ahead_s"] - off.total_seconds()) < 60


def test_a_run_by_hand_under_a_wrong_clock_leaves_the_timer_where_it_was(chronos, home, nas, agent, clock):
    """NAS's Date is heard with its answer: what only this clock calls due is sent as it is meant."""
    connect(home, nas, agent, "http://127.0.0.1:9")
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    right = stored(home, "j")["next_run_at"]
    chronos("cancel", "j", home=home)
    clock(LEAP)
    assert chronos("run", "j", home=home).code == 0
    clock()
    assert stored(home, "j")["next_run_at"] == right
    assert abs(datetime.fromisoformat(nas.armed(agent)["j"]["fire_at"]) - datetime.fromisoformat(right)) < timedelta(
        seconds=10
    )
    chronos("reconcile", home=home)
    assert view_of(chronos, home)["will_fire"] is True


def test_realign_is_refused_where_nas_contradicts_the_clock(chronos, home, nas, agent, clock):
    """Who vouches for a clock at 1970 is told by how much it is off."""
    connect(home, nas, agent, "http://127.0.0.1:9")
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    before = stored(home, "j")
    clock(-timedelta(days=20_000))
    done = chronos("job", "realign", "j", home=home)
    assert done.code == 6
    assert "this machine's clock and NAS's disagree" in done.err
    assert stored(home, "j") == before


def test_a_tick_under_a_wrong_clock_drops_no_row_of_a_real_run(chronos, home, clock):
    """Nothing is too old only because a clock without a witness is at 2038, or has been."""
    (home / "config.yaml").write_text("history:\n  days: 1\n  keep: 4\n")
    chronos("job", "add", "every 1h", "--id", "j", "--shell", "true", home=home)
    for _ in range(2):
        assert chronos("run", "j", home=home).code == 0
    real = {path.name for path in (home / "cron/runs/j").iterdir()}
    clock(LEAP)
    assert chronos("tick", home=home).code == 0
    assert chronos("run", "j", home=home).code == 0
    assert real <= {path.name for path in (home / "cron/runs/j").iterdir()}
    clock()
    for _ in range(2):
        assert chronos("run", "j", home=home).code == 0
    year = f"manual-{datetime.now(UTC).year}"
    assert len([path for path in (home / "cron/runs/j").iterdir() if path.name.startswith(year)]) == 4


def test_ticks_of_a_clock_that_was_ahead_are_no_trigger(chronos, home, clock):
    """Two in a row would be one; that their time is still to come is said, until a tick of this clock has run."""
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    for later in (0, 60):
        clock(LEAP + timedelta(seconds=later))
        assert chronos("tick", home=home).code == 0
    assert chronos("status", "--json", home=home).json["trigger"]["working"] is True
    clock()
    health = chronos("status", "--json", home=home).json["trigger"]
    assert health["working"] is False
    assert health["because"].startswith("the clock of the last tick said 20")
    assert health["because"].endswith("which is still to come")
    chronos("tick", home=home)
    assert "the last tick ran" in chronos("status", "--json", home=home).json["trigger"]["because"]
