"""The verbs against a real NAS: plans, what is armed, what is not, and what is said when NAS does not answer."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta

import pytest
import requests

from tests.cli.conftest import connect, shift, tree
from tests.played_server import Answer, PlayedServer

CALLBACK = "http://127.0.0.1:9"
SIX = {"f8916efa9ee5", "e518b71d87a5", "9bf1894e979a", "c48a948261eb", "6a6674b0743b", "df411327b423"}


@pytest.fixture
def armed_home(coming_home, nas, agent):
    """The home that hermes wrote, all of it ahead, and a NAS."""
    connect(coming_home, nas, agent, CALLBACK)
    return coming_home


def states(document):
    """Arm states by job id."""
    return {view["id"]: view["arm"]["state"] for view in document["jobs"]}


def test_a_dry_run_is_the_plan_of_the_real_run_and_changes_nothing(chronos, armed_home, nas, agent):
    """`reconcile --dry-run` writes no byte and makes no mutating call; the real run prints and does the same plan."""
    before = tree(armed_home)
    shown = chronos("reconcile", "--dry-run", home=armed_home)
    dry = chronos("reconcile", "--dry-run", "--json", home=armed_home)
    assert tree(armed_home) == before
    assert nas.armed(agent) == {}
    assert {step["job_id"] for step in dry.json["plan"]["steps"]} == SIX
    assert {step["action"] for step in dry.json["plan"]["steps"]} == {"arm"}
    lines = shown.out.splitlines()
    assert lines[-1] == "Plan: 6 to arm, 0 to move, 0 to cancel, 0 to keep. Nothing was changed."
    assert all(line.startswith("+ arm ") for line in lines[:-1])
    real = chronos("reconcile", "--json", home=armed_home)
    assert real.code == 0
    assert real.json["plan"] == dry.json["plan"]
    assert set(nas.armed(agent)) == SIX
    assert armed_home.joinpath("cron", "jobs.json").read_bytes() == before["cron/jobs.json"]
    again = chronos("reconcile", home=armed_home)
    assert again.out.splitlines()[-1] == "Plan: 0 to arm, 0 to move, 0 to cancel, 6 to keep. Nothing to change."


def test_detailed_exitcode_is_3_only_where_there_was_something_to_do(chronos, armed_home):
    """Exit 3 says that a dry run found something to do, or that a real one did it; without the flag it is 0."""
    dry = ("reconcile", "--dry-run", "--detailed-exitcode")
    assert chronos(*dry, home=armed_home).code == 3
    assert chronos("reconcile", "--dry-run", home=armed_home).code == 0
    assert chronos("reconcile", "--detailed-exitcode", home=armed_home).code == 3
    assert chronos("reconcile", "--detailed-exitcode", home=armed_home).code == 0
    assert chronos(*dry, "--json", home=armed_home).code == 0


def test_list_says_will_fire_only_of_what_nas_has_just_shown(chronos, armed_home, nas, agent):
    """Missing, armed, different and orphan are told apart; offline nothing is promised."""
    assert set(states(chronos("list", "--json", home=armed_home).json).values()) == {"missing", "none"}
    chronos("reconcile", home=armed_home)
    document = chronos("list", "--json", home=armed_home).json
    assert states(document) == dict.fromkeys(SIX, "armed") | {"255d0a07be98": "none"}
    assert {view["id"] for view in document["jobs"] if view["will_fire"]} == SIX
    offline = chronos("list", "--offline", "--json", home=armed_home).json
    assert {view["will_fire"] for view in offline["jobs"]} == {None, False}
    assert all(view["arm"]["verified_at"] for view in offline["jobs"] if view["id"] in SIX)
    nas.provision(agent, "df411327b423", datetime.now(UTC) + timedelta(days=9), CALLBACK)
    nas.provision(agent, "stranger", datetime.now(UTC) + timedelta(days=9), CALLBACK)
    document = chronos("list", "--json", home=armed_home).json
    assert states(document)["df411327b423"] == "different"
    assert [orphan["job_id"] for orphan in document["orphans"]] == ["stranger"]
    text = chronos("list", home=armed_home)
    assert "  df411327b423  " in text.out.splitlines()[1]
    assert text.out.count("will fire") == 5
    plan = chronos("reconcile", "--dry-run", home=armed_home).out
    assert "~ move   df411327b423 (Nightly fold)" in plan
    assert "? orphan stranger" in plan
    assert chronos("reconcile", home=armed_home).code == 0
    assert "stranger" in nas.armed(agent)
    assert chronos("reconcile", "--prune", home=armed_home).code == 0
    assert set(nas.armed(agent)) == SIX


def test_what_needs_a_look_comes_first(chronos, home, nas, agent):
    """Unreadable and overdue, then failing, then not armed as wished, then what comes next, then what is off."""
    connect(home, nas, agent, CALLBACK)
    for name in ("later", "off", "failing", "overdue", "unarmed", "broken", "sooner"):
        schedule = "0 0 1 1 *" if name != "later" else "59 23 31 12 *"
        assert chronos("job", "add", schedule, "--id", name, "--shell", "true", home=home).code == 0
    assert chronos("job", "pause", "off", home=home).code == 0
    assert chronos("cancel", "unarmed", home=home).code == 0
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    records = {record["id"]: record for record in document["jobs"]}
    records["failing"] |= {"last_status": "error", "last_error": "no route", "last_run_at": "2026-01-01T00:00:00+00:00"}
    records["overdue"]["next_run_at"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    records["broken"]["schedule"] = {"kind": "cron", "expr": "* * * * * *"}
    path.write_text(json.dumps(document))
    order = [view["id"] for view in chronos("list", "--json", home=home).json["jobs"]]
    assert set(order[:2]) == {"broken", "overdue"}
    first, second = sorted(("later", "sooner"), key=lambda name: records[name]["next_run_at"])
    assert order[2:] == ["failing", "unarmed", first, second, "off"]
    lines = chronos("list", home=home).out.splitlines()
    assert [line.split()[0] for line in lines[1:8]] == order
    looked_at = [item["job_id"] for item in chronos("status", "--json", home=home).json["needs_a_look"]]
    assert set(looked_at) == {"broken", "overdue", "failing", "unarmed"}


def test_arm_and_cancel_touch_only_the_jobs_named(chronos, armed_home, nas, agent):
    """`arm JOB` arms one; `cancel JOB` drops one and says that reconcile arms it again."""
    done = chronos("arm", "morning digest", "--json", home=armed_home)
    assert [step["job_id"] for step in done.json["plan"]["steps"]] == ["f8916efa9ee5"]
    assert set(nas.armed(agent)) == {"f8916efa9ee5"}
    before = tree(armed_home)
    dry = chronos("cancel", "f89", "--dry-run", "--json", home=armed_home)
    assert tree(armed_home) == before
    assert [step["action"] for step in dry.json["plan"]["steps"]] == ["cancel"]
    assert set(nas.armed(agent)) == {"f8916efa9ee5"}
    real = chronos("cancel", "f89", home=armed_home)
    assert real.code == 0
    assert "- cancel f8916efa9ee5 (Morning digest)" in real.out
    assert "the next `chronos reconcile` arms them again" in real.err
    assert nas.armed(agent) == {}
    assert chronos("cancel", "f89", "--json", home=armed_home).json["plan"]["steps"] == []
    assert chronos("arm", "--all", home=armed_home).code == 0
    assert set(nas.armed(agent)) == SIX


def test_arming_a_job_that_cannot_be_read_exits_2(chronos, armed_home, nas, agent):
    """A zone that does not exist is said at `arm`, never replaced by UTC; the other jobs are armed all the same."""
    path = armed_home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][0]["chronos"] = {"timezone": "Mars/Olympus"}
    path.write_text(json.dumps(document))
    done = chronos("arm", "--all", "--json", home=armed_home)
    assert done.code == 2
    message = done.json["error"]["message"]
    assert message == f"job {document['jobs'][0]['id']} cannot be armed: there is no time zone 'Mars/Olympus'"
    assert set(nas.armed(agent)) == SIX - {document["jobs"][0]["id"]}
    assert chronos("reconcile", home=armed_home).code == 0
    paused = chronos("arm", "daily hi", home=armed_home)
    assert (paused.code, paused.err) == (0, "255d0a07be98 wants no timer: it is paused, switched off or completed\n")


def test_cancelling_many_asks_first(chronos, armed_home, nas, agent):
    """--all and --orphans need a yes where nobody can be asked, and each takes only its own."""
    chronos("reconcile", home=armed_home)
    nas.provision(agent, "stranger", datetime.now(UTC) + timedelta(days=9), CALLBACK)
    refused = chronos("cancel", "--orphans", home=armed_home)
    assert refused.code == 2
    assert "add --yes" in refused.err
    assert chronos("cancel", "--orphans", "--yes", home=armed_home).code == 0
    assert set(nas.armed(agent)) == SIX
    assert chronos("cancel", "--all", "--yes", "--json", home=armed_home).json["plan"]["counts"]["cancel"] == 6
    assert nas.armed(agent) == {}
    for words in ((), ("--all", "--orphans"), ("f89", "--all")):
        assert chronos("cancel", *words, home=armed_home).code == 2


def test_nas_follows_every_change_of_a_job_at_once(chronos, home, nas, agent):
    """Adding arms, editing moves, pausing and removing drop, resuming arms again."""
    connect(home, nas, agent, CALLBACK)
    added = chronos("job", "add", "@yearly", "--id", "a", "--shell", "true", "--json", home=home)
    assert added.json["arm"] == {"armed": True, "state": "confirmed"}
    first = nas.armed(agent)["a"]["fire_at"]
    assert chronos("job", "edit", "a", "--schedule", "0 12 1 7 *", home=home).code == 0
    assert nas.armed(agent)["a"]["fire_at"] != first
    for verb, held in (("pause", False), ("resume", True)):
        assert chronos("job", verb, "a", home=home).code == 0
        assert ("a" in nas.armed(agent)) is held
    assert chronos("job", "remove", "a", "--yes", home=home).code == 0
    assert nas.armed(agent) == {}
    assert not (home / "cron" / "arms" / "a.json").exists()


def test_an_unshifted_one_shot_past_its_grace_is_missed_and_not_armed(chronos, fixture_home, nas, agent):
    """What came due long ago is entered as missed; nothing that was not ours is changed in the file."""
    path = fixture_home / "cron" / "jobs.json"
    path.write_text(shift(path.read_text(), timedelta(days=-30)))
    connect(fixture_home, nas, agent, CALLBACK)
    before = json.loads(path.read_text())["jobs"]
    done = chronos("reconcile", "--json", home=fixture_home)
    assert done.code == 0
    assert "9bf1894e979a" in done.json["settled"]
    assert "9bf1894e979a" not in nas.armed(agent)
    rows = chronos("history", "Stretch", "--json", home=fixture_home).json["rows"]
    assert [row["state"] for row in rows] == ["missed"]
    ours = {"next_run_at", "chronos", "enabled", "state", "last_run_at", "fire_claim"}
    for old, new in zip(before, json.loads(path.read_text())["jobs"], strict=True):
        assert [key for key in old if key not in ours and old[key] != new[key]] == []
        assert [key for key in new if key not in ours] == [key for key in old if key not in ours]


def test_status_says_what_is_known_separately(chronos, armed_home):
    """Stored, armed, verified, last call, last success; nothing is inferred from another."""
    document = chronos("status", "--json", home=armed_home).json
    assert document["counts"] == {"stored": 7, "live": 6, "armed": 0, "will_fire": 0, "orphans": 0, "of_profiles": 0}
    assert {item["job_id"] for item in document["needs_a_look"]} == SIX
    chronos("reconcile", home=armed_home)
    document = chronos("status", "--json", home=armed_home).json
    assert document["counts"]["will_fire"] == 6
    assert document["needs_a_look"] == []
    assert document["provider"]["active"] == "chronos"
    assert document["last_callback_at"] is None
    assert document["last_success_at"] is None
    assert "6 armed and verified now: these will fire" in chronos("status", home=armed_home).out
    assert chronos("status", "--offline", "--json", home=armed_home).json["counts"]["will_fire"] == 0


CASES = {
    "refuses for good": (403, b'{"error": "invalid_client"}', 4, "refused"),
    "does not know us": (401, b"{}", 4, "not_authenticated"),
    "answers garbage": (200, b"<html>", 75, "nas_unavailable"),
    "is broken": (500, b"", 75, "nas_unavailable"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_nas_that_fails_is_unknown_and_never_nothing_armed(chronos, home, nas, agent, case):
    """The list shows the store's side, says NAS is unknown, and exits 75 or 4; changes are saved and say not armed."""
    status, body, code, name = CASES[case]
    connect(home, nas, agent, CALLBACK)
    env = {"CHRONOS_NAS_TIMEOUT": "1"}
    assert chronos("job", "add", "@yearly", "--id", "a", "--shell", "true", home=home).code == 0
    with PlayedServer(Answer(status, body)) as bad:
        env["CHRONOS_PORTAL_URL"] = bad.url
        listed = chronos("list", "--json", home=home, env=env)
        assert (listed.code, listed.json["error"]["code"]) == (code, name)
        assert listed.json["nas"]["known"] is False
        assert states(listed.json)["a"] in {"armed", "missing", "different", "unconfirmed"}
        assert listed.json["jobs"][0]["will_fire"] is None
        text = chronos("list", home=home, env=env)
        assert "unknown (last: " in text.out
        assert text.err.count("\n") == 1
        before = tree(home)
        reconciled = chronos("reconcile", "--json", home=home, env=env)
        assert reconciled.code == code
        assert tree(home) == before
        changed = chronos("job", "add", "@daily", "--id", "b", "--shell", "true", "--json", home=home, env=env)
        assert changed.code == code
        assert changed.json["error"]["message"].startswith("saved, not armed: ")
        assert changed.err.count("\n") == 1
    assert {view["id"] for view in chronos("list", "--offline", "--json", home=home).json["jobs"]} == {"a", "b"}
    assert states(chronos("list", "--json", home=home).json)["b"] in {"missing", "refused"}


def test_a_nas_that_is_down_is_exit_75(chronos, home, nas, agent):
    """Nobody listens: one line, exit 75, and trying again can help."""
    connect(home, nas, agent, CALLBACK)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        env = {"CHRONOS_PORTAL_URL": f"http://127.0.0.1:{probe.getsockname()[1]}", "CHRONOS_NAS_TIMEOUT": "0.3"}
    done = chronos("reconcile", "--json", home=home, env=env)
    assert done.code == 75
    assert done.json["error"]["retryable"] is True


def test_without_a_nas_the_verbs_say_what_to_configure(chronos, home):
    """No NAS in the configuration is bad configuration, exit 2, with the key that is missing."""
    for words in (("arm", "--all"), ("cancel", "--all"), ("reconcile",)):
        done = chronos(*words, home=home)
        assert done.code == 2
        assert "cron.chronos.portal_url is not set" in done.err
    assert chronos("list", home=home).code == 0


def test_a_changed_callback_url_moves_every_arm(chronos, armed_home):
    """`list --json` shows where NAS was told to call; after a redeploy reconcile sends every job the new address."""
    chronos("reconcile", home=armed_home)
    urls = {view["id"]: view["arm"]["callback_url"] for view in chronos("list", "--json", home=armed_home).json["jobs"]}
    assert urls == dict.fromkeys(SIX, CALLBACK) | {"255d0a07be98": None}
    new = {"CHRONOS_CALLBACK_URL": "http://127.0.0.1:10"}
    listed = chronos("list", "--json", home=armed_home, env=new).json
    assert states(listed) == dict.fromkeys(SIX, "different") | {"255d0a07be98": "none"}
    assert not any(view["will_fire"] for view in listed["jobs"])
    assert chronos("list", home=armed_home, env=new).out.count(f"armed to call {CALLBACK}") == len(SIX)
    plan = chronos("reconcile", "--json", home=armed_home, env=new).json["plan"]
    assert {step["job_id"]: step["action"] for step in plan["steps"]} == dict.fromkeys(SIX, "move")
    listed = chronos("list", "--json", home=armed_home, env=new).json
    assert {view["arm"]["callback_url"] for view in listed["jobs"]} == {"http://127.0.0.1:10", None}
    assert {view["id"] for view in listed["jobs"] if view["will_fire"]} == SIX
    again = chronos("reconcile", "--json", home=armed_home, env=new).json["plan"]
    assert {step["action"] for step in again["steps"]} == {"keep"}


def provision(nas, agent, job_id, generation):
    """Send a provision as an older or another process would; its status."""
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    body = {"job_id": job_id, "fire_at": at, "agent_callback_url": CALLBACK, "dedup_key": f"{job_id}:{at}"}
    return requests.post(
        f"{nas.url}/api/agent-cron/provision",
        json={**body, "generation": generation},
        headers={"Authorization": f"Bearer {agent.token}"},
        timeout=10,
    ).status_code


def drop(chronos, home, verb, job_id):
    """Have the timer of a job dropped: by a pause, by hand, or by a reconcile that finds it paused."""
    if verb == "reconcile":
        stored = json.loads((home / "cron/jobs.json").read_text())
        stored["jobs"][0] |= {"state": "paused", "enabled": False}
        (home / "cron/jobs.json").write_text(json.dumps(stored))
    words = {"pause": ("job", "pause", job_id), "cancel": ("cancel", job_id, "--yes"), "reconcile": ("reconcile",)}
    assert chronos(*words[verb], home=home).code == 0


@pytest.mark.parametrize("verb", ["pause", "cancel", "reconcile"])
def test_a_cancel_is_newer_than_all_that_was_sent_before(chronos, home, nas, agent, verb):
    """What was on its way, an answer or another process's arm, arms nothing once the cancel is there."""
    connect(home, nas, agent, CALLBACK)
    chronos("job", "add", "0 9 * * *", "--id", verb, "--shell", "true", home=home)
    sent = json.loads((home / f"cron/arms/{verb}.json").read_text())["generation"]
    drop(chronos, home, verb, verb)
    assert provision(nas, agent, verb, sent) == 409
    assert nas.armed(agent) == {}


@pytest.mark.parametrize("verb", ["pause", "cancel", "reconcile"])
def test_a_cancel_that_nas_calls_old_is_sent_again_as_the_newest(chronos, home, nas, agent, verb):
    """NAS has heard a wish of a clock that was ahead: the cancel takes over its number, and counts."""
    connect(home, nas, agent, CALLBACK)
    job_id = f"old-{verb}"
    chronos("job", "add", "0 9 * * *", "--id", job_id, "--shell", "true", home=home)
    assert provision(nas, agent, job_id, 2**60) == 200
    drop(chronos, home, verb, job_id)
    assert nas.armed(agent) == {}
    assert json.loads((home / f"cron/arms/{job_id}.json").read_text())["state"] == "cancelled"
