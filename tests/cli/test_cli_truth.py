"""What the views say is so: nothing is promised that was not just found, and nothing healthy alarms."""

from __future__ import annotations

import json
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.cli import main
from chronos_cli.operations.views.armed_wake import ArmedWake, ArmView
from chronos_cli.operations.views.prospect import Surroundings, obstacle
from tests.agent_home import AgentHome, running_agent
from tests.cli.conftest import StepResult

HOUR = timedelta(hours=1)


@pytest.fixture
def said(clean_environment, capsys):
    """Run a command of a home in this process."""
    del clean_environment

    def run(home, *words):
        capsys.readouterr()
        code = main(["--home", str(home), *words])
        captured = capsys.readouterr()
        return StepResult(int(code), captured.out, captured.err)

    return run


def wait_for(find, timeout=20.0):
    """The first true thing that `find` gives."""
    until = time.monotonic() + timeout
    while not (found := find()):
        assert time.monotonic() < until, "it never came to be so"
        time.sleep(0.1)
    return found


def view_of(said, home, job_id="beat"):
    document = said(home, "list", "--json").json
    return next(view for view in document["jobs"] if view["id"] == job_id)


@pytest.fixture
def down(tmp_path, nas, said, request):
    """A home whose callback is down, with a job that came due and one that is far ahead."""
    agent = AgentHome(tmp_path / "home", nas, name=f"down-{abs(hash(request.node.name)) % 10**8}")
    for words in (("in 1s", "--id", "beat"), ("@yearly", "--id", "far")):
        assert said(agent.home, "job", "add", *words, "--shell", "true").code == 0
    wait_for(lambda: view_of(said, agent.home)["arm"]["last_error"])
    return agent


def test_a_callback_that_is_down_is_said_with_its_reason(down, said):
    """NAS calls in vain: no job will fire, since when and why is said, and `reconcile` is not the cure."""
    home = down.home
    view = view_of(said, home)
    assert view["will_fire"] is False
    assert view["why_not"].startswith("due ")
    assert "last call failed: " in view["why_not"]
    assert "refused" in view["why_not"]
    assert view["arm"]["failed_attempts"] >= 1
    assert view_of(said, home, "far")["will_fire"] is False
    listed, status = said(home, "list"), said(home, "status")
    assert "will fire" not in listed.out + status.out
    assert "NAS has not reached us for " in status.out
    assert "refused" in status.out
    assert json.loads(said(home, "status", "--json").out)["nas"]["not_reached"]["error"]
    checks = {check["name"]: check for check in said(home, "doctor", "--json").json["checks"]}
    assert (checks["callback"]["level"], checks["callback"]["code"]) == ("FAIL", "callback_unreachable")
    assert "chronos doctor --probe" in checks["callback"]["mend"]


def test_what_is_due_waits_for_the_call_and_is_overdue_after_five_seconds(tmp_path, nas, said):
    """A job whose instant has passed is never said to fire; after five seconds it is overdue."""
    agent = AgentHome(tmp_path / "home", nas, name="waits")
    assert said(agent.home, "job", "add", "in 1h", "--id", "beat", "--shell", "true").code == 0
    assert view_of(said, agent.home)["will_fire"] is True
    path = agent.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    for late, overdue in ((2, None), (6, True)):
        due = (datetime.now(UTC) - timedelta(seconds=late)).replace(microsecond=0)
        document["jobs"][0]["next_run_at"] = due.isoformat()
        path.write_text(json.dumps(document))
        nas.provision(agent.access, "beat", due, f"http://127.0.0.1:{agent.port}")
        view = view_of(said, agent.home)
        assert view["will_fire"] is not True
        assert (view["overdue_s"] is not None) is bool(overdue)
        assert "will fire" not in said(agent.home, "list").out


@pytest.mark.parametrize("why", ["held", "standby", "refused"])
def test_will_fire_is_not_said_under(tmp_path, nas, said, monkeypatch, why):
    """A hold, standby, and a token that was refused: each is the reason, in `list`, and in `status`."""
    agent = AgentHome(tmp_path / "home", nas, name=f"under-{why}")
    home = agent.home
    assert said(home, "job", "add", "@yearly", "--id", "beat", "--shell", "true").code == 0
    assert view_of(said, home)["why_not"] is None
    assert "armed, will fire" in said(home, "list").out
    if why == "held":
        assert said(home, "hold", "--reason", "db migration").code == 0
        expected = "held since "
    elif why == "standby":
        monkeypatch.setenv("CHRONOS_STANDBY", "1")
        expected = "standby"
    else:
        cache = home / "cache"
        cache.mkdir(mode=0o700, exist_ok=True)
        told = {"at": datetime.now(UTC).isoformat(), "code": "audience", "message": "the audience is b", "hint": "x"}
        (cache / "refused.json").write_text(json.dumps(told))
        expected = "last call failed: token refused: the audience is b"
        said_by_nas = "answered 401: {'result': 'refused'}"
        arm = ArmView(state=ArmedWake.ARMED, checked=True, held=datetime.now(UTC) + HOUR, failed=said_by_nas)
        around = Surroundings(now=datetime.now(UTC), zone=UTC, refused="token refused: the audience is b")
        assert obstacle(arm, around) == expected
        note = home / "cron/arms/beat.json"  # a call that a clock which was ahead has noted came before it all the same
        note.write_text(json.dumps({**json.loads(note.read_text()), "last_callback_at": "2038-01-01T00:00:00+00:00"}))
    view = view_of(said, home)
    assert view["will_fire"] is False
    assert view["why_not"].startswith(expected)
    assert "db migration" in view["why_not"] or why != "held"
    for command in ("list", "status"):
        out = said(home, command).out
        assert "will fire" not in out
        assert expected in out
    assert said(home, "status", "--json").json["counts"]["will_fire"] == 0


@pytest.fixture(scope="module")
def busy(tmp_path_factory, nas):
    """A healthy home with a job every second, and one that is far ahead."""
    with running_agent(tmp_path_factory.mktemp("busy"), nas, name="busy") as agent:
        for words in (("every 1s", "--id", "beat"), ("@yearly", "--id", "far")):
            assert agent.chronos("job", "add", *words, "--shell", "true").returncode == 0
        agent.wait_for_row("beat", state="ok")
        yield agent


ALARMS = ("NO WORKING TRIGGER", "arm_", "not armed", "armed for another", "overdue", "missing", "different")


@pytest.mark.parametrize("calls", [60, pytest.param(1_000, marks=pytest.mark.soak)])
def test_a_healthy_home_does_not_alarm(busy, said, calls):
    """`status`, `list` and `doctor` beside a job that fires every second: none cries."""
    commands = (("status",), ("list",), ("status",), ("list",), ("status",), ("doctor",))
    for number in range(calls):
        done = said(busy.home, *commands[number % len(commands)])
        alarms = ALARMS if "doctor" not in commands[number % len(commands)] else ("FAIL",)
        assert [word for word in alarms if word in done.out] == [], (number, done.out)
        time.sleep(0.06)


def test_a_timer_that_is_gone_is_found_all_the_same(busy, said):
    """Looking twice hides no fault: what NAS no longer holds is missing at once."""
    busy.chronos("cancel", "far")
    try:
        assert view_of(said, busy.home, "far")["arm"]["state"] == "missing"
        assert re.search(r"^far +live +not armed ", said(busy.home, "status").out, re.MULTILINE)
    finally:
        assert busy.chronos("reconcile").returncode == 0


def test_nothing_triggers_is_said_where_a_person_looks(chronos, home):
    """`init`, `job add` and `list` say it, one tick by hand does not turn it off, and a second one later does."""
    made = chronos("init", home=home / "new")
    assert "nothing triggers the jobs of this home" in made.err
    added = chronos("job", "add", "@yearly", "--id", "a", "--shell", "true", home=home)
    assert "nothing triggers the jobs of this home (no tick has run yet): `chronos tick --install" in added.err
    assert "nothing triggers" in chronos("list", home=home).err
    assert chronos("tick", home=home).code == 0
    assert "nothing is known to run the next" in chronos("list", home=home).err
    assert chronos("status", "--exit-code", home=home).code == 11
    assert chronos("status", home=home).code == 0
    path = home / "cron" / "tick.json"
    path.write_text(json.dumps({"at": (datetime.now(UTC) - timedelta(minutes=1)).isoformat()}))
    assert chronos("tick", home=home).code == 0
    assert chronos("list", home=home).err == ""
    assert chronos("status", "--exit-code", home=home).code == 0


def test_a_tick_that_was_installed_counts_from_the_start(chronos, home, tmp_path, monkeypatch):
    """Right after `tick --install` nothing alarms, and after `--remove` it does."""
    (tmp_path / "bin").mkdir()
    crontab = tmp_path / "bin" / "crontab"
    crontab.write_text(f'#!/bin/sh\n[ "$1" = - ] && exec cat > {tmp_path}/tab\nexec cat {tmp_path}/tab\n')
    crontab.chmod(0o755)
    (tmp_path / "tab").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    assert chronos("job", "add", "@yearly", "--id", "a", "--shell", "true", home=home).code == 0
    assert chronos("tick", "--install", "crontab", "--yes", home=home).code == 0
    assert chronos("status", "--exit-code", home=home).code == 0
    assert chronos("tick", "--install", "crontab", "--remove", "--yes", home=home).code == 0
    assert chronos("status", "--exit-code", home=home).code == 11


@pytest.mark.parametrize(("what", "code"), [("failing", 11), ("overdue", 11), ("well", 0), ("config", 1)])
def test_exit_codes_that_watch(chronos, home, what, code):
    """`doctor` exits 11 where only jobs need a look and 1 for all else; `status` says it with --exit-code."""
    assert chronos("job", "add", "@yearly", "--id", "a", "--shell", "exit 3", home=home).code == 0
    (home / "cron" / "tick.json").write_text(json.dumps({"installed": datetime.now(UTC).isoformat()}))
    if what in ("failing", "config"):
        assert chronos("run", "a", home=home).code == 10
    elif what == "overdue":
        path = home / "cron" / "jobs.json"
        document = json.loads(path.read_text())
        document["jobs"][0]["next_run_at"] = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
        path.write_text(json.dumps(document))
    if what == "config":
        (home / "cron" / "jobs.json").chmod(0o666)
        home.chmod(0o777)
    done = chronos("doctor", "--json", home=home)
    assert done.code == code, [check for check in done.json["checks"] if check["level"] == "FAIL"]
    if code == 11:
        assert done.json["error"]["code"] == "needs_a_look"
    if what != "config":
        assert chronos("status", "--exit-code", home=home).code == code


def test_hold_shows_and_holds_and_says_who_and_since_when(chronos, home):
    """Bare it shows the hold, and with none it is exit 2 naming --on; a standing reason is not overwritten."""
    bare = chronos("hold", home=home)
    assert bare.code == 2
    assert "no job is held; `chronos hold` alone shows the hold: to hold all jobs, give --on" in bare.err
    assert not (home / "ESTOP").exists()
    ann = {"USER": "ann"}
    assert chronos("hold", "--reason", "db migration", home=home, env=ann).code == 0
    document = json.loads((home / "ESTOP").read_text())
    assert (document["by"], document["reason"]) == ("ann", "db migration")
    for words in ((), ("--on",), ("--ttl", "2h")):
        shown = chronos("hold", *words, home=home, env={"USER": "bob"})
        assert shown.code == 0
        assert "all jobs are held since " in shown.out
        assert " by ann: db migration" in shown.out
    document = json.loads((home / "ESTOP").read_text())
    assert (document["by"], document["reason"]) == ("ann", "db migration")
    assert chronos("hold", "--on", "--off", home=home).code == 2
    assert chronos("hold", "--off", home=home).code == 0
    assert chronos("hold", "--ttl", "1h", home=home, env=ann).code == 0
    assert json.loads((home / "ESTOP").read_text())["by"] == "ann"


def test_help_is_a_command_and_a_slip_suggests_nothing_destructive(chronos):
    """`help COMMAND` is its --help, `help` the screen; a mistyped `remove` or `cancel` is not named for the typist."""
    for words in (("job", "add"), ("status",), ()):
        assert chronos("help", *words).out == chronos(*words, "--help").out != ""
    for words in (("job",), ("config",), ("provider",)):
        alone = chronos(*words)
        assert (alone.code, alone.out) == (0, chronos(*words, "--help").out)
        assert chronos(*words, "help").out == alone.out != ""
    assert chronos("job", "help", "add").out == chronos("job", "add", "--help").out
    assert chronos("help", "help").out == chronos("help").out
    assert chronos("help", "nonsense").code == 2
    screen = chronos("help").out
    assert "chronos help COMMAND" in screen
    assert "--version" in screen
    for words in (("job", "remov"), ("cancl",), ("job", "unlok"), ("hol",)):
        done = chronos(*words)
        assert done.code == 2
        assert "did you mean" not in done.err
        assert "--help`" in done.err
    assert "did you mean 'status'?" in chronos("statsu").err


def test_cancelling_names_what_it_would_cancel(tmp_path, nas, said):
    """The question names the timers, and of those of no job here that another machine may have armed them."""
    agent = AgentHome(tmp_path / "home", nas, name="names")
    assert said(agent.home, "job", "add", "@yearly", "--id", "mine", "--shell", "true").code == 0
    nas.provision(agent.access, "stranger", datetime.now(UTC) + timedelta(days=9), "http://127.0.0.1:9")
    asked = said(agent.home, "cancel", "--orphans").err
    assert "cancel 1 of 2 timers at NAS: stranger; another machine with this agent's token may have armed them" in asked
    assert "cancel 1 of 2 timers at NAS: mine needs a yes" in said(agent.home, "cancel", "--all").err


@pytest.mark.parametrize("left", [1, 0])
def test_the_hint_after_a_removal_that_nas_did_not_hear_of_is_the_cure(tmp_path, nas, said, monkeypatch, left):
    """With NAS down a removed job keeps its timer; the hint says that reconcile drops it, and it does."""
    agent = AgentHome(tmp_path / "home", nas, name=f"gone-{left}")

    def no_connection(*_):
        raise ConnectionRefusedError(111, "Connection refused")

    assert said(agent.home, "job", "add", "@yearly", "--id", "mine", "--shell", "true").code == 0
    for number in range(left):
        assert said(agent.home, "job", "add", "@yearly", "--id", f"o{number}", "--shell", "true").code == 0
    with monkeypatch.context() as patch:
        patch.setattr("socket.socket.connect", no_connection)
        removed = said(agent.home, "job", "remove", "mine", "--yes")
    assert removed.code == 75
    cure = ("reconcile",) if left else ("reconcile", "--prune")
    assert f"`chronos {' '.join(cure)}` drops the timer once NAS can be reached" in removed.err
    assert "mine" in nas.armed(agent.access)
    done = said(agent.home, *cure)
    assert done.code == 0, done
    assert "mine" not in nas.armed(agent.access), done


@pytest.mark.parametrize("broken", [b"", b"{", b'{"jobs": 5}', b"\xff\xff"])
def test_a_store_that_cannot_be_read_names_the_copy_and_the_command_brings_it_back(chronos, home, broken):
    """With its age and its number of jobs; the newest that can be read, since the last may be broken too."""
    path = home / "cron" / "jobs.json"
    for job_id in ("a", "b", "c"):
        assert chronos("job", "add", "@yearly", "--id", job_id, "--shell", "true", home=home).code == 0
    path.with_name("jobs.json.bak").write_bytes(b"broken too")
    path.write_bytes(broken)
    for command in (("list",), ("job", "pause", "a"), ("tick",)):
        done = chronos(*command, home=home)
        assert done.code == 1
        assert re.search(r"go back to what was there \d+ s ago \(1 job\) with `cp ", done.err), done.err
    assert path.read_bytes() == broken
    (command,) = re.findall(r"with `(cp [^`]+)`", done.err)
    subprocess.run(["sh", "-c", command], check=True)
    assert [job["id"] for job in chronos("list", "--json", home=home).json["jobs"]] == ["a"]
    for copy in path.parent.glob("jobs.json.bak*"):
        copy.unlink()
    path.write_bytes(broken)
    assert "there is no copy of it that can be read" in chronos("list", home=home).err
