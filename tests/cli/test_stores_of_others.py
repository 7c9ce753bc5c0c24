"""Stores that other programs wrote, in five shapes that are public: their offsets, their zones, their actions.

Import, list, doctor, tick and fire: a time that is another zone's is named, honoured or refused, and never run twice.
"""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.callback.shim_home import ShimHome
from tests.fire_tokens import SigningKey

PLUS_7 = timezone(timedelta(hours=7))


def at(hour, zone=PLUS_7):
    """The next time at that hour of a zone, as other programs write it."""
    now = datetime.now(UTC).astimezone(zone)
    due = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    return (due if due > now + timedelta(minutes=5) else due + timedelta(days=1)).isoformat()


def record(job_id, expr="0 17 * * *", next_run_at=None, schedule=None, **more):
    return {"id": job_id, "name": job_id, "prompt": "p", "schedule": {"kind": "cron", "expr": expr, **(schedule or {})},
            "enabled": True, "state": "scheduled", "next_run_at": next_run_at, **more}  # fmt: skip


@pytest.fixture
def other(tmp_path):
    """Writes the store of another program's home; the home."""

    def write(jobs, config=""):
        folder = tmp_path / "other"
        (folder / "cron").mkdir(parents=True)
        (folder / "config.yaml").write_text(config)
        (folder / "cron" / "jobs.json").write_text(json.dumps({"jobs": jobs}))
        return folder

    return write


@pytest.fixture
def warned(chronos, home, monkeypatch):
    """The ids that each command names for the zone of their times: an import of a home, one of a file, list, doctor."""
    monkeypatch.setenv("TZ", "UTC")
    (home / "config.yaml").write_text("timezone: UTC\n")

    def named(text):
        return {line.split(": ")[2] for line in text.splitlines() if "but the zone that is used is" in line}

    def run(folder):
        found = [named(chronos("job", "import", "--from", folder, "--dry-run", home=home).err)]
        stored = json.loads((folder / "cron" / "jobs.json").read_text())["jobs"]
        if isinstance(stored, list):
            found.append(named(chronos("job", "import", folder / "cron" / "jobs.json", "--dry-run", home=home).err))
        found.append(named(chronos("list", "--offline", home=folder).err))
        checks = {check["name"]: check for check in chronos("doctor", "--json", home=folder).json["checks"]}
        said = checks["next"]["text"].partition(": next_run_at")[0].partition(": last_run_at")[0]
        found.append(set(said.split(", ")) if checks["next"]["level"] == "WARN" else set())
        assert all(ids == found[0] for ids in found), found
        return found[0]

    return run


def test_offsets_of_another_zone(warned, other):
    """A cursor, of a paused job as well, and where there is none the last run tell the zone of who wrote them."""
    folder = other([
        record("daily", next_run_at=at(17)), record("paused", next_run_at=at(17), enabled=False, state="paused"),
        record("weekly", "30 8 * * 1", last_run_at=at(8)), record("fits", next_run_at=at(17, UTC)),
        record("unknown", "30 8 * * 1"), record("hourly", "0 * * * *", next_run_at=at(17)),
        {**record("rate", next_run_at=at(17)), "schedule": {"kind": "interval", "minutes": 30}},
        {**record("once", next_run_at=at(17)), "schedule": {"kind": "once", "run_at": at(17)}},
    ])  # fmt: skip
    assert warned(folder) == {"daily", "paused", "weekly"}


def test_records_under_their_ids_and_of_several_offsets(warned, other):
    """A Z, an offset of half an hour and a time without one are read as they stand."""
    half = timezone(timedelta(hours=5, minutes=30))
    jobs = {"z": record("z", next_run_at=at(17, UTC).replace("+00:00", "Z")), "half": record("half", next_run_at=at(17, half)),
            "naive": record("naive", next_run_at=at(17, UTC)[:19]), "west": record("west", next_run_at=at(17, timezone(timedelta(hours=-5))))}  # fmt: skip
    assert warned(other(jobs)) == {"half", "west"}


def test_a_home_that_names_its_zone_is_right(other, chronos, home):
    """Its jobs come in with that zone, and at its time."""
    folder = other([record("daily", next_run_at=at(17))], "timezone: Asia/Bangkok\n")
    assert "but the zone that is used" not in chronos("list", "--offline", home=folder).err
    assert "but the zone that is used" not in chronos("job", "import", "--from", folder, "--dry-run", home=home).err
    chronos("job", "import", "--from", folder, home=home)
    (job,) = chronos("list", "--offline", "--json", home=home).json["jobs"]
    assert (job["timezone"], job["next_run_at"]) == ("Asia/Bangkok", at(17))


@pytest.mark.parametrize("key", ["tz", "timezone", "timeZone", "time_zone"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_zone_that_a_record_names_is_honoured(warned, other, chronos, key, inside):
    """In its schedule or beside it: it is the job's, and its last run may have any offset."""
    given = {"schedule": {key: "Asia/Shanghai"}} if inside else {key: "Asia/Shanghai"}
    folder = other([record("a", "0 9 * * *", last_run_at=at(9, UTC), **given)])
    assert warned(folder) == set()
    assert chronos("tick", home=folder).code == 0
    (job,) = chronos("list", "--offline", "--json", home=folder).json["jobs"]
    assert (job["timezone"], job["next_run_at"][11:]) == ("Asia/Shanghai", "09:00:00+08:00")


@pytest.mark.parametrize("zone", ["PST8", "+08:00", "local", 8, ["UTC"], "asia/shanghai"])
def test_a_zone_that_is_none_refuses_the_record(chronos, other, home, zone):
    """The others come in; it is invalid in a list, and not run."""
    folder = other([record("a", schedule={"tz": zone}), record("b", next_run_at=at(17, UTC))])
    done = chronos("job", "import", "--from", folder, home=home)
    assert "left out: a: " in done.err
    assert "time zone" in done.err
    views = {job["id"]: job for job in chronos("list", "--offline", "--json", home=folder).json["jobs"]}
    assert ("time zone" in views["a"]["problem"], views["b"]["problem"]) == (True, None)
    # "b" runs where its time of day has just come, and whether that goes well is not asked here.
    assert not {line.split()[0] for line in chronos("tick", home=folder).out.splitlines()} - {"b"}


def test_actions_of_another_program_are_refused(chronos, other, home):
    """What it runs is not read here: each record is named, and none comes in."""
    kinds = ({"kind": "every", "everyMs": 60000}, {"kind": "at", "atMs": 1795000000000}, {"kind": "cron", "expr": "0 9 * * *", "tz": "Asia/Shanghai"})  # fmt: skip
    folder = other([{"id": f"j{number}", "name": "n", "enabled": True, "schedule": kind, "payload": {"kind": "agentTurn", "message": "hi"},
                     "state": {"nextRunAtMs": 1795000000000}} for number, kind in enumerate(kinds)])  # fmt: skip
    done = chronos("job", "import", "--from", folder, home=home)
    assert done.err.count("its action `payload` is another program's") == 3
    assert "0 to add" in done.out


def due_there():
    """A job of +07:00 that is due now there, and that time on the wall of UTC."""
    due = datetime.now(UTC).astimezone(PLUS_7).replace(second=0, microsecond=0)
    job = record("a", f"{due.minute} {due.hour} * * *", due.isoformat(), script="s.sh", no_agent=True)
    return job, due.replace(tzinfo=UTC)


def test_a_tick_at_the_time_of_another_zone_runs_nothing(other, chronos, monkeypatch):
    """The job's next time becomes that of the zone that is used."""
    monkeypatch.setenv("TZ", "UTC")
    job, meant = due_there()
    folder = other([job])
    assert chronos("tick", "--json", home=folder).json["started"] == []
    (job,) = json.loads((folder / "cron" / "jobs.json").read_text())["jobs"]
    assert datetime.fromisoformat(job["next_run_at"]) in (meant, meant + timedelta(days=1))


def test_a_fire_at_the_time_of_another_zone_runs_nothing(tmp_path, monkeypatch):
    """Its claim is none: what is due is the time of the zone that is used."""
    shim = ShimHome(tmp_path, SigningKey.es256(), "http://127.0.0.1:9", monkeypatch)
    (shim.home / "cron").mkdir(exist_ok=True)
    job, meant = due_there()
    (shim.home / "cron" / "jobs.json").write_text(json.dumps({"jobs": [job]}))
    assert shim.fire("a", job["next_run_at"]).status in (200, 503)
    assert shim.rows("a") == []
    assert datetime.fromisoformat(shim.jobs()["a"]["next_run_at"]).replace(tzinfo=UTC) in (
        meant,
        meant + timedelta(days=1),
    )
