"""A home that was just reconciled: the next reconcile finds nothing to change and says so, and no view alarms."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.operations.views import settled
from tests.agent_home import AgentHome
from tests.nas_process import running_nas

SETTLED = " Nothing to change."
ALARMS = ("different", "armed for another time", "NO WORKING TRIGGER", "not armed as wished", "than wanted")
"""What a view says of timers that are not as they should be."""


@pytest.fixture(scope="module")
def nas(tmp_path_factory):
    """One NAS for all tests here; each test is an agent of its own."""
    with running_nas(tmp_path_factory.mktemp("nas"), "--retry-base", "0.2") as running:
        yield running


@pytest.fixture
def agent(tmp_path, nas, chronos, request):
    """A home whose callback is down, with one job that is far ahead and one that comes within the hold's quarter."""
    made = AgentHome(tmp_path / "home", nas, name=f"settled-{abs(hash(request.node.name)) % 10**8}")
    for words in (("@yearly", "--id", "far"), ("in 5m", "--id", "near")):
        assert chronos("job", "add", *words, "--shell", "true", home=made.home).code == 0
    return made


def _well(agent, chronos):
    """Nothing is wrong."""


def _due_and_called_for(agent, chronos):
    """A job came due, and NAS calls for it in vain."""
    assert chronos("job", "add", "in 1s", "--id", "due", "--shell", "true", home=agent.home).code == 0
    until = time.monotonic() + 20
    while not any(view["arm"]["failed_attempts"] for view in chronos("list", "--json", home=agent.home).json["jobs"]):
        assert time.monotonic() < until
        time.sleep(0.2)


def _held(agent, chronos):
    assert chronos("hold", "--reason", "db migration", home=agent.home).code == 0


def _held_and_due(agent, chronos):
    _due_and_called_for(agent, chronos)
    _held(agent, chronos)


def _held_for_a_while(agent, chronos):
    assert chronos("hold", "--ttl", "2m", home=agent.home).code == 0


def _hold_lifted(agent, chronos):
    _held(agent, chronos)
    assert chronos("reconcile", home=agent.home).code == 0
    assert chronos("hold", "--off", home=agent.home).code == 0


def _armed_later_under_a_hold(agent, chronos):
    """A fire under the hold has armed the next look, a quarter of an hour on."""
    _held(agent, chronos)
    note = agent.home / "cron" / "arms" / "near.json"
    at = (datetime.now(UTC) + timedelta(minutes=14)).replace(microsecond=0)
    agent.nas.provision(agent.access, "near", at, f"http://127.0.0.1:{agent.port}")
    keys = {at.isoformat(): "look"}
    sent = {"wake": at.isoformat(), "fire_at": at.isoformat(), "purpose": "look", "keys": keys}
    note.write_text(json.dumps(json.loads(note.read_text()) | sent))


def _removed(agent, chronos):
    assert chronos("job", "remove", "near", "--yes", home=agent.home).code == 0


def _paused(agent, chronos):
    assert chronos("job", "pause", "near", home=agent.home).code == 0


WORLDS = (
    _well, _due_and_called_for, _held, _held_and_due, _held_for_a_while, _hold_lifted, _armed_later_under_a_hold,
    _removed, _paused,
)  # fmt: skip


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__.strip("_"))
def test_a_second_reconcile_finds_nothing_to_change(agent, nas, chronos, world):
    """Whatever the first found: the dry run after it is empty, nothing is sent again, and the views agree with it."""
    agent.nas = nas
    world(agent, chronos)
    assert chronos("reconcile", home=agent.home).code == 0
    held = nas.armed(agent.access)
    dry = chronos("reconcile", "--dry-run", "--detailed-exitcode", home=agent.home)
    assert (dry.code, dry.out.splitlines()[-1].endswith(SETTLED)) == (0, True), dry.out
    assert chronos("reconcile", "--dry-run", "--json", home=agent.home).json["pending"] is False
    again = chronos("reconcile", home=agent.home)
    assert again.out.splitlines()[-1].endswith(SETTLED), again.out
    assert {job: one["fire_at"] for job, one in nas.armed(agent.access).items()} == {
        job: one["fire_at"] for job, one in held.items()
    }
    for view in (("list",), ("list", "--offline"), ("status",), ("doctor",)):
        shown = chronos(*view, home=agent.home).out
        assert [word for word in ALARMS if word in shown] == [], (view, shown)


def test_what_is_due_and_armed_later_waits_for_the_call(agent, nas, chronos, monkeypatch):
    """Armed again after it came due, while NAS calls in vain: since when it is due is said, and what NAS says of it."""
    monkeypatch.setattr(settled, "_LATER_S", ())
    _due_and_called_for(agent, chronos)
    later = (datetime.now(UTC) + timedelta(seconds=1)).replace(microsecond=0)
    nas.provision(agent.access, "due", later, f"http://127.0.0.1:{agent.port}")
    note = agent.home / "cron" / "arms" / "due.json"
    before = json.loads(note.read_text())
    note.write_text(json.dumps(before | {"wake": later.isoformat(), "fire_at": later.isoformat()}))
    path = agent.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    job = next(one for one in document["jobs"] if one["id"] == "due")
    job["next_run_at"] = (datetime.now(UTC) - timedelta(seconds=30)).replace(microsecond=0).isoformat()
    path.write_text(json.dumps(document))
    view = next(one for one in chronos("list", "--json", home=agent.home).json["jobs"] if one["id"] == "due")
    assert (view["arm"]["state"], view["arm"]["off_by"], view["will_fire"]) == ("armed", None, False)
    assert view["why_not"].startswith("due 3"), view["why_not"]
    status = chronos("status", home=agent.home).out
    assert "NAS holds their timers" in status
    assert next(line.split()[1] for line in status.splitlines() if line.startswith("due ")) == "overdue"
    checks = {check["name"]: check for check in chronos("doctor", "--json", home=agent.home).json["checks"]}
    assert (checks["armed"]["level"], checks["overdue"]["mend"]) == ("OK", "chronos doctor --probe")


def test_a_timer_for_quite_another_time_still_alarms(agent, nas, chronos, monkeypatch):
    """What stands in for a wish is what was sent for it: another's timer, or one far too late, is none."""
    monkeypatch.setattr(settled, "_LATER_S", ())  # the job was made just now, and would be looked at five times
    for held in (timedelta(days=3), timedelta(minutes=20)):
        nas.provision(agent.access, "near", datetime.now(UTC) + held, f"http://127.0.0.1:{agent.port}")
        view = next(one for one in chronos("list", "--json", home=agent.home).json["jobs"] if one["id"] == "near")
        assert view["arm"]["state"] == "different"
        assert chronos("reconcile", "--dry-run", "--detailed-exitcode", home=agent.home).code == 3
