"""A root and its profiles under one identity at NAS: each keeps its hands off the timers of the others, and names them."""

import json
import os

import pytest

from tests.callback.shim_home import ShimHome, add_job, write_config
from tests.cli.conftest import chronos, clean_environment  # noqa: F401 - fixtures
from tests.fire_tokens import SigningKey
from tests.nas_client.played_nas import played_nas

nas = played_nas("keeps-slot")


@pytest.fixture
def fleet(chronos, tmp_path, nas, monkeypatch):  # noqa: F811
    """A root with the job `ours`, the profile `work` with `theirs`, both armed, and a timer of nobody."""
    root = ShimHome(tmp_path, SigningKey.es256(), nas.url, monkeypatch)
    root.work = root.home / "profiles" / "work"
    root.work.mkdir(parents=True)
    write_config(root.work, nas.url, str(root.home / "jwks.json"))
    root.add("ours", "every 1h", "true")
    add_job(root.work, "theirs", "every 1h", "true")
    for home in (root.home, root.work):
        assert chronos("reconcile", home=home).code == 0
    nas.armed["nobodys"] = dict(nas.armed["ours"], job_id="nobodys")
    return root


def steps(done):
    return {step["job_id"]: (step["action"], step["reason"]) for step in done.json["plan"]["steps"]}


def break_file(path):
    path.write_text("{")


def test_list_names_the_profile_of_a_timer(chronos, fleet):  # noqa: F811
    document = chronos("list", "--json", home=fleet.home).json
    assert [one["job_id"] for one in document["orphans"]] == ["nobodys"]
    assert [(one["job_id"], one["profile"]) for one in document["of_profiles"]] == [("theirs", "work")]
    shown = chronos("list", home=fleet.home).out
    assert ": a job of the profile work" in shown
    assert shown.count("but no job here") == 1


def test_a_profile_knows_the_root_and_its_sisters(chronos, fleet, nas):  # noqa: F811
    """The root is called `default` there, as Hermes calls it."""
    sister = fleet.home / "profiles" / "play"
    sister.mkdir()
    write_config(sister, nas.url, str(fleet.home / "jwks.json"))
    add_job(sister, "hers", "every 1h", "true")
    assert chronos("reconcile", home=sister).code == 0
    document = chronos("list", "--json", home=fleet.work).json
    assert {one["job_id"]: one["profile"] for one in document["of_profiles"]} == {"ours": "default", "hers": "play"}
    assert chronos("reconcile", "--prune", home=fleet.work).code == 0
    assert set(nas.armed) == {"ours", "theirs", "hers"}


def test_profiles_that_are_named_elsewhere_count_too(chronos, fleet, nas, tmp_path):  # noqa: F811
    """The setting `profiles` names homes anywhere; those of the folder are then not served, and theirs all the same."""
    far = tmp_path / "far"
    far.mkdir()
    write_config(far, nas.url, str(fleet.home / "jwks.json"))
    add_job(far, "distant", "every 1h", "true")
    assert chronos("reconcile", home=far).code == 0
    with (fleet.home / "config.yaml").open("a") as file:
        file.write(f"profiles:\n  far: {far}\n")
    assert chronos("cancel", "--orphans", "--yes", home=fleet.home).code == 0
    assert set(nas.armed) == {"ours", "theirs", "distant"}


def test_two_homes_of_one_name_are_both_known(chronos, fleet, nas, tmp_path):  # noqa: F811
    """The setting calls another home `work` than the folder does."""
    far = tmp_path / "far"
    far.mkdir()
    write_config(far, nas.url, str(fleet.home / "jwks.json"))
    add_job(far, "distant", "every 1h", "true")
    assert chronos("reconcile", home=far).code == 0
    with (fleet.home / "config.yaml").open("a") as file:
        file.write(f"profiles:\n  work: {far}\n")
    assert chronos("cancel", "--orphans", "--yes", home=fleet.home).code == 0
    assert set(nas.armed) == {"ours", "theirs", "distant"}
    assert check(chronos, fleet.home, "profiles")["code"] == "unserved_profiles"


def test_status_counts_them_apart(chronos, fleet):  # noqa: F811
    counts = chronos("status", "--json", home=fleet.home).json["counts"]
    assert (counts["orphans"], counts["of_profiles"]) == (1, 1)
    assert "1 for jobs of other profiles (work); 1 for no job here" in chronos("status", home=fleet.home).out


def check(chronos, home, name):  # noqa: F811
    return next(one for one in chronos("doctor", "--json", home=home).json["checks"] if one["name"] == name)


def test_doctor_asks_to_cancel_only_what_is_nobodys(chronos, fleet, nas):  # noqa: F811
    assert "holds 1 for no job here" in check(chronos, fleet.home, "armed")["text"]
    del nas.armed["nobodys"]
    assert check(chronos, fleet.home, "armed")["level"] == "OK"


def test_prune_and_cancel_orphans_leave_them(chronos, fleet, nas):  # noqa: F811
    planned = steps(chronos("reconcile", "--prune", "--dry-run", "--json", home=fleet.home))
    assert planned["theirs"] == ("keep", "a job of the profile work")
    assert planned["nobodys"][0] == "cancel"
    assert "= keep   theirs" in chronos("reconcile", "--dry-run", home=fleet.home).out
    assert set(steps(chronos("cancel", "--orphans", "--dry-run", "--json", home=fleet.home))) == {"nobodys"}
    assert chronos("reconcile", "--prune", home=fleet.home).code == 0
    assert set(nas.armed) == {"ours", "theirs"}


def test_a_job_that_moved_into_a_profile_keeps_its_timer(chronos, fleet, nas):  # noqa: F811
    """The arm document here says that this store armed it; the slot at NAS is the profile's since."""
    path = fleet.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    theirs = json.loads((fleet.work / "cron" / "jobs.json").read_text())
    theirs["jobs"] += document["jobs"]
    (fleet.work / "cron" / "jobs.json").write_text(json.dumps(theirs))
    path.write_text(json.dumps({**document, "jobs": []}))
    fleet.add("other", "every 1h", "true")
    for words in ((), ("--prune",)):
        assert chronos("reconcile", *words, home=fleet.home).code == 0
        assert {"ours", "theirs"} <= set(nas.armed)


@pytest.mark.parametrize("words", [("remove", "--yes"), ("pause",)])
def test_what_is_taken_out_here_leaves_the_slot_of_a_namesake(chronos, fleet, nas, words):  # noqa: F811
    """A job is brought into a profile and then taken out of the root: its next wake there is still armed."""
    add_job(fleet.work, "ours", "every 1h", "true")
    assert chronos("job", words[0], "ours", *words[1:], home=fleet.home).code == 0
    assert "ours" in nas.armed
    assert chronos("reconcile", home=fleet.home).code == 0
    assert "ours" in nas.armed


@pytest.mark.parametrize("words", [("remove", "--yes"), ("pause",)])
def test_a_namesake_that_is_paused_as_well_wants_no_slot(chronos, fleet, nas, words):  # noqa: F811
    """Nothing would run at that timer, so it is cancelled."""
    add_job(fleet.work, "ours", "every 1h", "true")
    assert chronos("job", "pause", "ours", home=fleet.work).code == 0
    assert chronos("job", words[0], "ours", *words[1:], home=fleet.home).code == 0
    assert "ours" not in nas.armed


def test_doctor_names_jobs_that_share_one_slot(chronos, fleet, nas):  # noqa: F811
    """Live in two homes of one agent: said in both, until one is paused or its home has an agent of its own."""
    checks = chronos("doctor", "--json", home=fleet.home).json["checks"]
    assert "namesakes" not in {one["name"] for one in checks}
    add_job(fleet.work, "ours", "every 1h", "true")
    for home, other in ((fleet.home, "work"), (fleet.work, "default")):
        found = check(chronos, home, "namesakes")
        assert (found["level"], found["code"]) == ("WARN", "same_ids")
        assert f"ours (also of the profile {other})" in found["text"]
    assert chronos("job", "pause", "ours", home=fleet.work).code == 0
    for home in (fleet.home, fleet.work):
        assert "namesakes" not in {one["name"] for one in chronos("doctor", "--json", home=home).json["checks"]}
    assert chronos("job", "resume", "ours", home=fleet.work).code == 0
    write_config(fleet.work, nas.url, str(fleet.home / "jwks.json"), audience="agent:other")
    assert "namesakes" not in {one["name"] for one in chronos("doctor", "--json", home=fleet.home).json["checks"]}


def test_a_fire_in_the_wrong_home_is_put_off(chronos, fleet, monkeypatch):  # noqa: F811
    """Whoever calls the command hands its answer on: a job of the profile is not gone, nor paused, at the root."""
    add_job(fleet.work, "ours", "every 1h", "true", ago=1)
    assert chronos("job", "pause", "ours", home=fleet.home).code == 0
    for job_id in ("theirs", "ours"):
        monkeypatch.setenv("CHRONOS_FIRE_TOKEN", fleet.token(job_id=job_id))
        done = chronos("fire", "--job-id", job_id, "--answer", home=fleet.home)
        assert done.code == 75
        assert json.loads(done.out)["error"] == {"code": "unserved_profile", "retryable": True}
        assert f"job {job_id} is one of the profile work, which is not served here" in done.err
    monkeypatch.setenv("CHRONOS_FIRE_TOKEN", fleet.token(job_id="nobodys"))
    assert json.loads(chronos("fire", "--job-id", "nobodys", "--answer", home=fleet.home).out)["result"] == "gone"


def test_doctor_names_jobs_out_of_force_that_are_live_where_nobody_serves(chronos, fleet):  # noqa: F811
    """Their fires are put off; once the profile is served, or its job paused too, nothing is said."""
    add_job(fleet.work, "ours", "every 1h", "true")
    assert chronos("job", "pause", "ours", home=fleet.home).code == 0
    assert "out of force" not in {one["name"] for one in chronos("doctor", "--json", home=fleet.home).json["checks"]}
    config = fleet.home / "config.yaml"
    served = config.read_text()
    config.write_text(f"{served}profiles:\n  second: {fleet.home / 'second'}\n")
    found = check(chronos, fleet.home, "out of force")
    assert (found["level"], found["code"]) == ("WARN", "live_elsewhere")
    assert "503: ours (live in the profile work)" in found["text"]
    assert chronos("job", "pause", "ours", home=fleet.work).code == 0
    assert "out of force" not in {one["name"] for one in chronos("doctor", "--json", home=fleet.home).json["checks"]}


def test_another_agents_namesake_has_a_slot_of_its_own(chronos, fleet, nas):  # noqa: F811
    """The profile has an identity of its own at NAS: what is held under ours is ours to cancel."""
    add_job(fleet.work, "ours", "every 1h", "true")
    write_config(fleet.work, nas.url, str(fleet.home / "jwks.json"), audience="agent:other")
    assert chronos("job", "pause", "ours", home=fleet.home).code == 0
    assert set(nas.armed) == {"theirs", "nobodys"}
    nas.armed["ours"] = dict(nas.armed["theirs"], job_id="ours")
    assert chronos("reconcile", "--prune", home=fleet.home).code == 0
    assert set(nas.armed) == {"theirs"}  # which no job here explains: it is left, whatever audience is named there


def test_a_profile_that_cannot_be_read_stops_what_may_be_its_own(chronos, fleet, nas):  # noqa: F811
    """Nothing is known of its jobs, so nothing may be called nobody's; whoever asks for less is served."""
    whole = (fleet.work / "cron" / "jobs.json").read_text()
    break_file(fleet.work / "cron" / "jobs.json")
    for words in (("reconcile", "--prune"), ("cancel", "--orphans", "--yes"), ("cancel", "--orphans", "--dry-run")):
        done = chronos(*words, home=fleet.home)
        assert done.code == 75
        assert "the jobs of the profile work are not known: " in done.err
    assert set(nas.armed) == {"ours", "theirs", "nobodys"}
    assert chronos("reconcile", home=fleet.home).code == 0
    listed = chronos("list", home=fleet.home)
    assert "the jobs of the profile work are not known, so these may be its own" in listed.err
    assert "cancel --orphans" not in listed.out + listed.err
    profiles = check(chronos, fleet.home, "profiles")
    assert (profiles["level"], profiles["code"]) == ("WARN", "unread_profiles")
    assert f"chronos --home {fleet.work} doctor" == profiles["mend"]
    found = check(chronos, fleet.home, "armed")
    assert "whose jobs are not known" in found["text"]
    assert "cancel --orphans" not in found["mend"]
    (fleet.work / "cron" / "jobs.json").write_text(whole)  # as the hint says
    assert chronos("cancel", "--orphans", "--yes", home=fleet.home).code == 0
    assert set(nas.armed) == {"ours", "theirs"}


def test_other_homes_are_read_only_where_something_is_unexplained(chronos, fleet, nas, monkeypatch):  # noqa: F811
    """A broken profile is in nobody's way, and a listing stays quick, as long as every timer has its job here."""
    for job_id in ("theirs", "nobodys"):
        del nas.armed[job_id]
    break_file(fleet.work / "cron" / "jobs.json")
    monkeypatch.setattr("chronos_cli.operations.assembly.jobs_elsewhere", None)
    for words in (("reconcile", "--prune"), ("cancel", "--orphans", "--yes"), ("list",), ("status",)):
        assert chronos(*words, home=fleet.home).code == 0, words


def test_the_home_of_another_user_may_have_jobs_all_the_same(chronos, fleet, nas):  # noqa: F811
    """Its configuration is not trusted, so its jobs are not known."""
    if os.geteuid() != 0:
        pytest.skip("only root may give a folder away")
    os.chown(fleet.work, 4242, 4242)
    assert chronos("cancel", "--orphans", "--yes", home=fleet.home).code == 75
    assert set(nas.armed) == {"ours", "theirs", "nobodys"}
