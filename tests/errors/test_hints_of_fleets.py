"""No hint about the homes of a fleet that is not the cure: profiles that cannot be read, and jobs of one id."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest

from tests.callback.shim_home import add_job
from tests.cli.test_fleet_timers import fleet, nas
from tests.errors.hinted import tries

__all__ = ["fleet", "nas"]


@pytest.fixture
def check(chronos, fleet):
    """Return a check of the root's doctor by its name; one that says nothing is well."""

    def find(name, level):
        checks = chronos("doctor", "--json", home=fleet.home).json["checks"]
        found = next((one for one in checks if one["name"] == name), {"level": "OK", "mend": None})
        assert found["level"] == level, found
        return found["mend"]

    return find


@pytest.fixture
def fire(chronos, fleet):
    """Fire a job at the root with a good token."""

    def once(job_id):
        (fleet.home / "t").write_text(fleet.token())
        (fleet.home / "t").chmod(0o600)
        return chronos("fire", "--job-id", job_id, "--token-file", fleet.home / "t", home=fleet.home)

    return once


@tries("operations/context.py", "mend that profile first: until then nothing is cancelled that may be its own")
@tries("operations/doctor/jobs.py", "as its check above says")
@tries("operations/doctor/profiles.py", "chronos --home")
@tries("operations/firing/fleet.py", "mend that profile, or take its folder away: until then NAS comes again")
@pytest.mark.parametrize("cure", ["mended", "taken away"])
def test_a_profile_that_cannot_be_read_is_mended_as_the_hints_say(chronos, check, fire, fleet, cure):
    """Nothing is cancelled or settled that may be its own; its own doctor says what to do, and then all goes on."""
    path = fleet.work / "cron" / "jobs.json"
    good = path.read_text()
    path.write_text("{")
    cancelled = chronos("cancel", "--orphans", "--yes", home=fleet.home)
    assert cancelled.code == 75
    assert "mend that profile first: until then nothing is cancelled that may be its own" in cancelled.err
    fired = fire("nobodys")
    assert fired.code == 75
    assert "mend that profile, or take its folder away: until then NAS comes again" in fired.err
    assert check("armed", "WARN") == "mend the profile work, as its check above says"
    theirs = chronos(*shlex.split(check("profiles", "WARN"))[1:])
    assert "FAIL  store: " in theirs.out
    if cure == "mended":
        path.write_text(good)
    else:
        shutil.rmtree(fleet.work)
    check("profiles", "OK")
    assert check("armed", "WARN") == "chronos cancel --orphans"
    assert fire("nobodys").code == 0
    assert chronos("cancel", "--orphans", "--yes", home=fleet.home).code == 0
    check("armed", "OK")


@tries(
    "operations/doctor/profiles.py", "remove one of the two, or give its home an agent of its own at NAS, with its own"
)
@pytest.mark.parametrize("cure", ["removed", "an agent of its own"])
def test_jobs_of_one_id_are_told_apart_as_the_mend_says(chronos, check, fleet, cure):
    """Two of one id share a timer; either way of the mend ends that."""
    add_job(fleet.work, "ours", "every 1h", "true")
    assert check("namesakes", "WARN").startswith("remove one of the two, or give its home an agent of its own at NAS")
    if cure == "removed":
        assert chronos("job", "remove", "ours", "--yes", home=fleet.work).code == 0
    else:
        config = fleet.work / "config.yaml"
        config.write_text(config.read_text().replace('expected_audience: "', 'expected_audience: "agent:other-'))
    check("namesakes", "OK")


@tries("operations/doctor/profiles.py", "remove them here, and name the profile under profiles in")
def test_a_job_that_lives_where_nobody_serves_is_served_as_the_mend_says(chronos, check, fleet, tmp_path):
    """Paused here, and live in a profile that is not served: out of here and served there, nothing is put off."""
    add_job(fleet.work, "ours", "every 1h", "true")
    assert chronos("job", "pause", "ours", home=fleet.home).code == 0
    (tmp_path / "far").mkdir()
    config = fleet.home / "config.yaml"
    text = config.read_text()
    config.write_text(f"{text}profiles:\n  far: {tmp_path}/far\n")
    assert check("out of force", "WARN").startswith("remove them here, and name the profile under profiles in")
    assert chronos("job", "remove", "ours", "--yes", home=fleet.home).code == 0
    config.write_text(f"{text}profiles:\n  far: {tmp_path}/far\n  work: {fleet.work}\n")
    check("out of force", "OK")
    check("namesakes", "OK")


@tries("operations/firing/admission.py", "a job id is letters, digits, '.', '_' and '-', at most 128")
def test_a_fire_for_an_id_as_the_hint_says_is_taken(fire, fleet):
    """What can be no id is refused, once the token has held."""
    refused = fire("a b")
    assert (refused.code, "a job id is letters, digits, '.', '_' and '-', at most 128" in refused.err) == (2, True)
    assert fire("ours").code == 0
    assert json.loads((fleet.home / "cron" / "jobs.json").read_text())["jobs"][0]["id"] == "ours"
