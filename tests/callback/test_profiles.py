"""One callback for several homes: which home has the job, and what a profile can and cannot change."""

import json
import os
import time
from pathlib import Path

import pytest

from chronos_cli.callback.wsgi import CallbackApplication
from tests.callback.shim_home import PATH, ShimHome, add_job, write_config
from tests.fire_tokens import AUDIENCE, SigningKey


@pytest.fixture
def two(tmp_path, key, nas, monkeypatch):
    """A home with the profile `second`, whose own configuration expects another audience and trusts another key."""
    second = tmp_path / "second"
    second.mkdir()
    stranger = SigningKey.es256(kid="stranger")
    (second / "jwks.json").write_text(json.dumps(stranger.jwks()))
    write_config(second, nas.url, str(second / "jwks.json"), audience="agent:second")
    home = ShimHome(tmp_path, key, nas.url, monkeypatch, extra=f"profiles:\n  second: {second}\n")
    home.second, home.stranger = second, stranger
    return home


def rows(home, job_id):
    return [json.loads(path.read_text()) for path in (home / "cron/runs" / job_id).glob("*.json")]


def wait_for_end(home, job_id):
    until = time.monotonic() + 20
    while [row["state"] for row in rows(home, job_id)] != ["ok"]:
        assert time.monotonic() < until, rows(home, job_id)
        time.sleep(0.02)


def test_the_plain_path_finds_the_home_that_has_the_job(two, nas):
    """Nothing in the request names a home: the one that has the job runs it, in its own folder."""
    add_job(two.second, "theirs", "every 1h", "pwd; echo $CHRONOS_HOME", ago=1)
    two.add("ours", "every 1h", "true", ago=1)
    assert two.fire("theirs").json["result"] == "claimed"
    assert two.fire("ours").json["result"] == "claimed"
    assert two.fire("nobodys").json["result"] == "gone"
    wait_for_end(two.second, "theirs")
    two.wait_for_rows("ours", state="ok")
    assert {"theirs", "ours"} <= set(nas.armed)


def test_a_prefix_names_the_home_and_reaches_no_other(two):
    """The same id may be in two homes; the prefix decides, and the other home's job stays where it is."""
    cursor = two.add("shared", "every 1h", "true", ago=1)
    add_job(two.second, "shared", "every 1h", "true", ago=1)
    assert two.fire("shared", path=f"/p/second{PATH}").json["result"] == "claimed"
    wait_for_end(two.second, "shared")
    assert two.rows("shared") == []
    assert two.jobs()["shared"]["next_run_at"] == cursor.isoformat()
    two.add("ours", "every 1h", "true", ago=1)
    assert two.fire("ours", path=f"/p/second{PATH}").json["result"] == "gone"


def test_an_unknown_profile_is_answered_like_an_unknown_job(two):
    """It never falls back to the main home's job, and 401 comes before it as anywhere."""
    two.add("ours", "every 1h", "true", ago=1)
    reply = two.fire("ours", path=f"/p/third{PATH}")
    assert (reply.status, reply.json) == (200, {"result": "gone", "job_id": "ours", "status": "gone"})
    assert reply.json == two.fire("ours", path=f"/p/second{PATH}").json
    assert two.rows("ours") == []
    refused = {two.fire("ours", path=path, token="x").body for path in (PATH, f"/p/third{PATH}", f"/p/second{PATH}")}
    assert refused == {b'{"result": "refused"}'}


def test_a_profile_cannot_widen_what_is_trusted(two):
    """Its own audience and keys are not asked: only the launching configuration judges tokens."""
    add_job(two.second, "theirs", "every 1h", "true", ago=1)
    path = f"/p/second{PATH}"
    for token in (
        two.stranger.token(iss=two.issuer, aud="agent:second"),
        two.stranger.token(iss=two.issuer, aud=AUDIENCE),
        two.token(aud="agent:second"),
    ):
        assert two.fire("theirs", path=path, token=token).status == 401
    assert rows(two.second, "theirs") == []


def test_a_token_that_names_a_home_is_good_in_that_one_only(two):
    """The path decides nothing that the token decides otherwise; without a path the token names the home."""
    for home in (two.second, two.home):
        add_job(home, "shared", "every 1h", "true", ago=1)
    theirs = two.token(home="second")
    assert two.fire("shared", path=f"/p/third{PATH}", token=theirs).status == 401
    assert two.fire("shared", path=f"/p/second{PATH}", token=two.token(home="third")).status == 401
    assert rows(two.second, "shared") == []
    assert two.fire("shared", token=theirs).json["result"] == "claimed"
    wait_for_end(two.second, "shared")
    assert two.rows("shared") == []


def test_a_used_token_is_good_in_the_same_home_only(two):
    """One that names no home, and was sent to `/p/second`, fires no job of the same name in the launching home."""
    for home in (two.second, two.home):
        add_job(home, "shared", "every 1h", "true", ago=1)
    token = two.token()
    assert two.fire("shared", path=f"/p/second{PATH}", token=token).json["result"] == "claimed"
    wait_for_end(two.second, "shared")
    assert two.fire("shared", token=token).status == 401
    assert two.rows("shared") == []


def test_a_name_that_only_a_proxy_knows(two):
    """A proxy that sorts by path and takes the name away: the token's name is none of ours, and the job is found."""
    two.add("ours", "every 1h", "true", ago=1)
    assert two.fire("ours", token=two.token(home="elsewhere")).json["result"] == "claimed"
    two.wait_for_rows("ours", state="ok")


def test_a_broken_profile_is_in_nobodys_way(two):
    """Jobs found elsewhere fire; one that is found nowhere may be in the broken home, so NAS shall come again."""
    two.add("ours", "every 1h", "true", ago=1)
    (two.second / "config.yaml").write_text("cron: [")
    assert two.fire("ours").json["result"] == "claimed"
    two.wait_for_rows("ours", state="ok")
    assert two.fire("theirs").status == 503
    assert two.fire("theirs", path=f"/p/second{PATH}").status == 503


def test_variables_and_tokens_of_the_launcher_stay_out_of_a_profile(tmp_path, key, nas, monkeypatch):
    """CHRONOS_STORE and the NAS token in the environment speak for the launching home, also in the runner."""
    second = tmp_path / "second"
    second.mkdir()
    write_config(second, nas.url, "")
    (second / "token").write_text("second-token")
    home = ShimHome(tmp_path, key, nas.url, monkeypatch, extra=f"profiles:\n  second: {second}\n")
    monkeypatch.setenv("CHRONOS_NAS_TOKEN", "main-token")
    monkeypatch.setenv("CHRONOS_STORE", str(tmp_path / "elsewhere"))
    add_job(second, "theirs", "every 1h", "true", ago=1)
    assert home.fire("theirs", path=f"/p/second{PATH}").json["result"] == "claimed"
    wait_for_end(second, "theirs")
    assert {seen.headers["Authorization"] for seen in nas.calls} == {"Bearer second-token"}
    assert "CHRONOS_NAS_TOKEN" not in os.environ
    assert not Path(tmp_path / "elsewhere/cron").exists()


def test_an_unknown_key_of_the_shared_section_stops_no_fire(tmp_path, key, nas, monkeypatch, capfd):
    """A control plane's new key beside ours is logged once, and fires are answered as before."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch)
    path = home.home / "config.yaml"
    path.write_text(path.read_text().replace("  chronos:\n", "  chronos:\n    sweep_minutes: 10\n"))
    home.add("ours", "every 1h", "true", ago=1)
    home.application = CallbackApplication()
    assert home.fire("ours").json["result"] == "claimed"
    home.fire("ours")
    home.wait_for_rows("ours", state="ok")
    assert capfd.readouterr().err.count("cron.chronos.sweep_minutes is not a setting") == 1


def profile_of(home, nas, name):
    """A profile where Hermes keeps them, with a configuration of its own."""
    folder = home.home / "profiles" / name
    folder.mkdir(parents=True)
    write_config(folder, nas.url, "", audience=f"agent:{name}")
    return folder


def test_profiles_are_found_as_hermes_finds_them(tmp_path, key, nas, monkeypatch):
    """In the folder `profiles`, by Hermes' names, also one that is made while the callback serves; by path as well."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch)
    assert home.fire("theirs").json["result"] == "gone"
    folder = profile_of(home, nas, "work")
    add_job(folder, "theirs", "every 1h", "true", ago=1)
    for name in ("default", "Upper", ".hidden", "a b"):
        add_job(profile_of(home, nas, name), "nowhere", "every 1h", "true", ago=1)
    assert home.fire("theirs").json["result"] == "claimed"
    wait_for_end(folder, "theirs")
    assert set(nas.armed) == {"theirs"}
    assert home.fire("theirs", path=f"/p/work{PATH}").json["result"] == "duplicate"
    assert home.fire("nowhere").json["result"] == "gone"


@pytest.mark.parametrize("how", ["paused", "ahead", "broken"])
def test_of_two_jobs_of_one_id_the_one_that_is_meant_runs(tmp_path, key, nas, monkeypatch, how):
    """The fire of a profile's due job is not answered for the root's namesake, which is paused, or due later, or broken."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch)
    folder = profile_of(home, nas, "work")
    cursor = home.add("both", "every 1h", "true", ago=-600)
    theirs = add_job(folder, "both", "every 1h", "true", ago=1)
    path = home.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][0] |= {"paused": {"state": "paused"}, "ahead": {}, "broken": {"schedule": 7}}[how]
    path.write_text(json.dumps(document))
    assert home.fire("both").json["result"] == "claimed"
    wait_for_end(folder, "both")
    assert home.rows("both") == []
    assert home.jobs()["both"]["next_run_at"] == cursor.isoformat()
    assert home.fire("both", theirs.isoformat()).json["result"] == "duplicate"


def test_of_two_that_are_not_due_the_live_one_answers(tmp_path, key, nas, monkeypatch):
    """A fire that is early by minutes has its wake confirmed at NAS, and is not settled by a job that is paused."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch)
    folder = profile_of(home, nas, "work")
    home.add("both", "every 1h", "true", ago=-900)
    path = home.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][0] |= {"state": "paused"}
    path.write_text(json.dumps(document))
    theirs = add_job(folder, "both", "every 1h", "true", ago=-600)
    home.fire("both")
    assert nas.armed["both"]["fire_at"] == theirs.isoformat()


def test_of_two_that_are_ahead_the_instant_tells(tmp_path, key, nas, monkeypatch):
    """NAS may call a moment early: the job whose next time it names is the one it calls for."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch)
    folder = profile_of(home, nas, "work")
    home.add("both", "every 1h", "true", ago=-20)
    theirs = add_job(folder, "both", "every 1h", "true", ago=-10)
    assert home.fire("both", theirs.isoformat()).json["result"] == "claimed"
    wait_for_end(folder, "both")
    assert home.rows("both") == []


def test_a_job_of_a_profile_that_is_not_served_is_never_gone(tmp_path, key, nas, monkeypatch, capfd):
    """NAS comes again, and the log says which profile it is; a job that nobody has is gone as ever."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch, extra=f"profiles:\n  second: {tmp_path / 'second'}\n")
    folder = profile_of(home, nas, "work")
    add_job(folder, "theirs", "every 1h", "true", ago=1)
    for path in (PATH, f"/p/work{PATH}"):
        reply = home.fire("theirs", path=path)
        assert (reply.status, reply.json["error"]["code"]) == (503, "unserved_profile")
        assert home.fire("nobodys", path=path).json["result"] == "gone"
    assert "job theirs is one of the profile work, which is not served here: name the profile" in capfd.readouterr().err
    assert rows(folder, "theirs") == []


@pytest.mark.parametrize("where", ["default", "other"])
def test_a_callback_of_one_profile_knows_its_fleet(tmp_path, key, nas, monkeypatch, where):
    """A job of the fleet's root, or of a sibling, is another gateway's: put off, not lost."""
    root = ShimHome(tmp_path, key, nas.url, monkeypatch)
    work = root.home / "profiles" / "work"
    work.parent.mkdir()
    other = profile_of(root, nas, "other")
    add_job(root.home if where == "default" else other, "theirs", "every 1h", "true", ago=1)
    launched = ShimHome(tmp_path / "x", key, nas.url, monkeypatch)
    launched.home.rename(work)
    config = (work / "config.yaml").read_text().replace(str(launched.home), str(work))
    (work / "config.yaml").write_text(config)
    monkeypatch.setenv("CHRONOS_HOME", str(work))
    launched.application = CallbackApplication()
    assert launched.fire("theirs").status == 503
    assert launched.fire("nobodys").json["result"] == "gone"


@pytest.mark.parametrize("here", ["paused", "disabled", "finished", "marked", "held", "broken", "other"])
@pytest.mark.parametrize("to", ["root", "served"])
def test_a_job_out_of_force_here_answers_for_none_that_is_live_elsewhere(tmp_path, key, nas, monkeypatch, here, to):
    """The profile's occurrence is put off, not settled for its namesake; nothing else of that job is put off."""
    served = tmp_path / "served"
    served.mkdir()
    write_config(served, nas.url, "")
    home = ShimHome(tmp_path, key, nas.url, monkeypatch, extra=f"profiles:\n  served: {served}\n")
    where = home.home if to == "root" else served
    add_job(where, "both", "every 1h", "true", ago=-900)
    folder = profile_of(home, nas, "work")
    write_config(folder, nas.url, "")
    theirs = add_job(folder, "both", "every 1h", "true", ago=1)
    off = {
        "paused": {"state": "paused"},
        "disabled": {"enabled": False},
        "finished": {"state": "completed", "enabled": False, "next_run_at": None},
        "marked": {"paused_at": "2026-01-01T00:00:00+00:00"},
        "held": {"state": "paused"},
        "broken": {"schedule": 7},
        "other": {},
    }
    change_job(where, off[here])
    if here == "held":
        (home.home / "ESTOP").write_text("")
    for named in (theirs, None) if here != "other" else (theirs,):
        reply = home.fire("both", named and named.isoformat())
        assert (reply.status, reply.json["error"]["code"]) == (503, "unserved_profile"), named
    (home.home / "ESTOP").unlink(missing_ok=True)
    assert [*rows(where, "both"), *rows(folder, "both")] == []
    change_job(folder, {"state": "paused"})
    assert home.fire("both", theirs.isoformat()).status == 200


def change_job(home, change):
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][0] |= change
    path.write_text(json.dumps(document))


def test_a_job_that_is_live_here_answers_for_itself(tmp_path, key, nas, monkeypatch):
    """Whatever an unserved profile has of the same id: the job here runs, and its later copies are duplicates."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch, extra=f"profiles:\n  second: {tmp_path / 'second'}\n")
    folder = profile_of(home, nas, "work")
    ours = home.add("both", "every 1h", "true", ago=1)
    add_job(folder, "both", "every 1h", "true", ago=1)
    assert home.fire("both", ours.isoformat()).json["result"] == "claimed"
    home.wait_for_rows("both", state="ok")
    assert home.fire("both", ours.isoformat()).json["result"] == "duplicate"
    assert rows(folder, "both") == []


def test_the_time_that_is_named_goes_before_what_is_due(tmp_path, key, nas, monkeypatch):
    """Of two that are due, the one whose time the fire names runs."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch)
    folder = profile_of(home, nas, "work")
    home.add("both", "every 1h", "true", ago=30)
    theirs = add_job(folder, "both", "every 1h", "true", ago=10)
    assert home.fire("both", theirs.isoformat()).json["result"] == "claimed"
    wait_for_end(folder, "both")
    assert home.rows("both") == []


def test_a_profile_that_cannot_be_read_may_have_the_job_that_is_paused_here(tmp_path, key, nas, monkeypatch, capfd):
    """Nobody can tell whose fire it is, so NAS comes again, and the log names the profile; a live job is not kept back."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch)
    folder = profile_of(home, nas, "work")
    ours = home.add("both", "every 1h", "true", ago=1)
    (folder / "config.yaml").write_text("cron: [")
    assert home.fire("both", ours.isoformat()).json["result"] == "claimed"
    home.wait_for_rows("both", state="ok")
    change_job(home.home, {"state": "paused"})
    assert home.fire("both").status == 503
    assert "job both may be one of the profile work, which cannot be read: " in capfd.readouterr().err


def test_a_token_for_a_profile_that_is_not_served_settles_no_namesake(tmp_path, key, nas, monkeypatch):
    """NAS says whose fire it is: the live job of that id in the launching home is not meant."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch, extra=f"profiles:\n  second: {tmp_path / 'second'}\n")
    add_job(profile_of(home, nas, "work"), "both", "every 1h", "true", ago=1)
    home.add("both", "every 1h", "true", ago=1)
    assert home.fire("both", token=home.token(home="work")).status == 503
    assert home.rows("both") == []
