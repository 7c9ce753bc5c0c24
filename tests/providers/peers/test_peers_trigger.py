"""What hermes-agent's own tests expect of its ticker, of the choice of a provider and of profiles, restated against our commands."""

import json
import textwrap
import time
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.providers.interface import CronScheduler
from tests.callback.shim_home import add_job, write_config
from tests.providers.peers.records import job, put


@pytest.fixture
def builtin(home):
    """A home that ticks, with one job that is due."""
    (home.home / "config.yaml").write_text("timezone: UTC\n")
    home.add("a", "every 1h", "true", ago=1)
    return home


def trigger(chronos, home):
    return chronos("status", "--json", home=home.home).json["trigger"]


def ticked(home, *ages):
    """Write down that the last two ticks ran so many seconds ago."""
    at, before = (datetime.now(UTC) - timedelta(seconds=age) for age in ages)
    (home.home / "cron" / "tick.json").write_text(json.dumps({"at": at.isoformat(), "before": before.isoformat()}))


# -- the ticker -------------------------------------------------------------------------------------------------------


def test_a_tick_leaves_a_sign_of_life(chronos, builtin):
    assert trigger(chronos, builtin)["last_tick_at"] is None
    assert chronos("tick", home=builtin.home).code == 0
    last = datetime.fromisoformat(trigger(chronos, builtin)["last_tick_at"])
    assert timedelta() <= datetime.now(UTC) - last < timedelta(seconds=30)


def test_one_that_ticks_is_said_to_work(chronos, builtin):
    ticked(builtin, 5, 65)
    assert trigger(chronos, builtin)["working"] is True


def test_one_that_has_stalled_does_not_look_healthy(chronos, builtin):
    ticked(builtin, 9_999, 10_060)
    assert trigger(chronos, builtin)["working"] is False
    assert "NO WORKING TRIGGER" in chronos("status", home=builtin.home).out


def test_one_that_goes_on_failing_does_not_look_healthy(chronos, builtin):
    """It ticks, and its runs fail: the job stands in what needs a look."""
    put(builtin, id="bad", schedule={"kind": "interval", "minutes": 60}, next_run_at=datetime.now(UTC).isoformat(),
        chronos={"action": {"shell": "false"}})  # fmt: skip
    assert chronos("tick", home=builtin.home).code == 10
    found = chronos("status", "--json", home=builtin.home).json["needs_a_look"]
    assert [(one["job_id"], "failing" in one["conditions"]) for one in found] == [("bad", True)]


def test_a_sign_of_life_that_cannot_be_written_stops_no_tick(chronos, builtin):
    (builtin.home / "cron" / "tick.json").mkdir()
    assert chronos("tick", home=builtin.home).code == 0
    assert [row["state"] for row in builtin.rows("a")] == ["ok"]
    assert not list(builtin.home.rglob("*.tmp"))


def test_a_store_that_cannot_be_read_fails_the_tick_and_the_next_runs(chronos, builtin):
    path = builtin.home / "cron" / "jobs.json"
    whole = path.read_text()
    path.write_text("{")
    assert chronos("tick", home=builtin.home).code == 1
    path.write_text(whole)
    assert chronos("tick", home=builtin.home).code == 0
    assert [row["state"] for row in builtin.rows("a")] == ["ok"]


# -- the choice of a provider -----------------------------------------------------------------------------------------


def folder(home, name, body):
    place = home.home / "plugins" / name
    place.mkdir(parents=True)
    (place / "plugin.yaml").write_text(f"name: {name}\n")
    (place / "__init__.py").write_text(textwrap.dedent(body))
    (home.home / "config.yaml").write_text(f"timezone: UTC\ncron:\n  provider: {name}\n")


PROVIDER = """
    class Mine:
        name = "mine"
        def is_available(self): return {available}
        def start(self, *args, **kwargs): pass
    def register(ctx): ctx.register_cron_scheduler(Mine())
"""


@pytest.mark.parametrize("text", ["", "timezone: UTC\n", "cron:\n", "cron: {}\n"])
def test_without_a_word_on_it_the_builtin_triggers(chronos, home, text):
    (home.home / "config.yaml").write_text(text)
    found = chronos("status", "--offline", "--json", home=home.home).json["provider"]
    assert (found["active"], found["warning"]) == ("builtin", None)


@pytest.mark.parametrize(("available", "active"), [("True", "mine"), ("False", "builtin")])
def test_a_provider_is_taken_if_it_is_available(chronos, home, available, active):
    folder(home, "mine", PROVIDER.format(available=available))
    found = chronos("status", "--offline", "--json", home=home.home).json["provider"]
    assert (found["active"], found["warning"] is None) == (active, active == "mine")


def test_the_bundled_ones_are_listed(chronos, home):
    found = {one["name"] for one in chronos("provider", "list", "--json", home=home.home).json["providers"]}
    assert {"builtin", "chronos"} <= found


def test_a_folder_named_cron_hides_no_package(chronos, home):
    """A plug-in is loaded under a name of its own."""
    import sys

    before = sys.modules.get("cron")
    folder(home, "cron", PROVIDER.format(available="True"))
    chronos("status", "--offline", "--json", home=home.home)
    assert sys.modules.get("cron") is before


def test_a_name_and_a_start_are_all_that_a_provider_must_have():
    with pytest.raises(TypeError):
        CronScheduler()
    assert set(CronScheduler.__abstractmethods__) == {"name", "start"}

    class Small(CronScheduler):
        name = "small"

        def start(self, *args, **kwargs):
            """Do nothing."""

    small = Small()
    assert small.on_jobs_changed() is None
    assert small.reconcile() is None
    assert callable(small.fire_due)


# -- profiles ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def profiles(home):
    """Two profiles of the home, each with a job that is due."""
    made = {}
    for name in ("alpha", "beta"):
        made[name] = home.home / "profiles" / name
        made[name].mkdir(parents=True)
        write_config(made[name], home.issuer, str(home.home / "jwks.json"))
        add_job(made[name], f"of-{name}", "every 1h", "true", ago=1)
    home.add("ours", "every 1h", "true", ago=1)
    return made


def states(path, job_id):
    return [json.loads(row.read_text())["state"] for row in (path / "cron" / "runs" / job_id).glob("*.json")]


def test_each_profile_runs_its_own(home, profiles):
    assert home.fire("of-alpha").json["result"] == "claimed"
    assert home.fire("ours").json["result"] == "claimed"
    home.wait_for_rows("ours", state="ok")
    assert states(profiles["alpha"], "of-alpha")
    assert states(profiles["beta"], "of-beta") == []


def test_one_broken_profile_keeps_no_other_from_running(home, profiles):
    (profiles["alpha"] / "cron" / "jobs.json").write_text("{")
    assert home.fire("of-beta").json["result"] == "claimed"
    assert home.fire("ours").json["result"] == "claimed"
    assert home.fire("of-alpha").status == 503
    home.wait_for_rows("ours", state="ok")


def test_a_profile_that_was_deleted_is_not_made_anew(home, profiles):
    """One that was served, and is gone: its job is gone, and nothing is written in its place."""
    assert home.fire("of-alpha").json["result"] == "claimed"
    until = time.monotonic() + 20
    while home.application.running():  # it arms once its run is over
        assert time.monotonic() < until
        time.sleep(0.02)
    gone = profiles["alpha"].with_name("elsewhere-and-no-profile.")
    profiles["alpha"].rename(gone)
    assert home.fire("of-alpha").json["result"] == "gone"
    assert not profiles["alpha"].exists()


def test_decided_one_process_may_serve_all_profiles_with_nas(chronos, home, profiles, nas):
    """There: external providers are dropped then. Here each profile is armed and answered as what it is."""
    for path in profiles.values():
        assert chronos("reconcile", home=path).code == 0
    assert {"of-alpha", "of-beta"} <= set(nas.armed)
    assert home.fire("of-beta").json["result"] == "claimed"
    assert job(home, "ours")["enabled"]
