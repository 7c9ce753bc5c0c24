"""The callback of a machine on standby: NAS is told to come again, and the store is left alone."""

import json

import pytest

from tests.callback.shim_home import PATH, ShimHome, add_job, write_config


def test_a_verified_fire_is_told_to_come_again(home, nas, monkeypatch):
    """503, Retry-After and `standby`; the store is not even read, nothing is started and NAS is not called."""
    monkeypatch.setenv("CHRONOS_STANDBY", "1")
    (home.home / "cron/jobs.json").mkdir(parents=True)  # reading it would be an error, and a 503 of another kind
    reply = home.fire("beat")
    assert (reply.status, reply.json, reply.header("Retry-After")) == (503, {"result": "standby"}, "30")
    assert nas.calls == []


def test_a_stranger_is_refused_as_ever(home, monkeypatch):
    """Who has no good token learns nothing of it at the fire path."""
    monkeypatch.setenv("CHRONOS_STANDBY", "1")
    reply = home.fire("beat", token="forged")
    assert (reply.status, reply.body) == (401, b'{"result": "refused"}')


@pytest.mark.parametrize("standby", [True, False])
def test_health_says_it(home, monkeypatch, standby):
    """/healthz stays 200, since the process is well, and says whether the machine is on standby."""
    monkeypatch.setenv("CHRONOS_STANDBY", str(standby))
    reply = home.request(REQUEST_METHOD="GET", path="/healthz")
    assert (reply.status, reply.json["ok"], reply.json["standby"]) == (200, True, standby)


def test_after_standby_the_same_fire_is_taken(tmp_path, key, nas, monkeypatch):
    """The occurrence waits untouched: delivered again once the machine is active, it runs."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch)
    cursor = home.add("beat", "every 1h", "true", ago=1)
    monkeypatch.setenv("CHRONOS_STANDBY", "yes")
    assert home.fire("beat", cursor.isoformat()).json == {"result": "standby"}
    assert home.rows("beat") == []
    monkeypatch.delenv("CHRONOS_STANDBY")
    home.application = type(home.application)()  # a restart
    assert home.fire("beat", cursor.isoformat()).json["result"] == "claimed"
    home.wait_for_rows("beat", state="ok")


def test_a_profile_stands_by_alone_or_with_its_machine(tmp_path, key, nas, monkeypatch):
    """A profile's own setting is for that profile, on its path and on the plain one; the launching home's is for all."""
    second = tmp_path / "second"
    second.mkdir()
    (second / "jwks.json").write_text(json.dumps(key.jwks()))
    write_config(second, nas.url, str(second / "jwks.json"))
    config = second / "config.yaml"
    config.write_text(config.read_text().replace("cron:\n", "cron:\n  standby: true\n"))
    home = ShimHome(tmp_path, key, nas.url, monkeypatch, extra=f"profiles:\n  second: {second}\n")
    add_job(second, "theirs", "every 1h", "true", ago=1)
    home.add("ours", "every 1h", "true", ago=1)
    for path in (PATH, f"/p/second{PATH}"):
        reply = home.fire("theirs", path=path)
        assert (reply.status, reply.json) == (503, {"result": "standby"})
    assert home.fire("ours").json["result"] == "claimed"
    home.wait_for_rows("ours", state="ok")
    config.write_text(config.read_text().replace("  standby: true\n", ""))
    monkeypatch.setenv("CHRONOS_STANDBY", "1")
    home.application = type(home.application)()
    for path in (PATH, f"/p/second{PATH}"):
        assert home.fire("theirs", path=path).json == {"result": "standby"}
