"""What hermes-agent's own tests of its timers expect, restated against our public surface: verifier, door, provider, resolver, jobs, claims.

Where ours does another thing on purpose, the test says so in its name (`decided`), and docs/tasks/move-from-hermes-cron.md why.
"""

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from tests.callback.shim_home import PATH, write_config
from tests.fire_tokens import SigningKey
from tests.played_server import Answer
from tests.providers.peers.records import change, job

# -- the verifier -----------------------------------------------------------------------------------------------------


def seconds(ahead):
    return int(time.time()) + ahead


def unsigned(home):
    claims = jwt.decode(home.token(), options={"verify_signature": False})
    return jwt.encode(claims, key="", algorithm="none")


def as_secret(home):
    claims = jwt.decode(home.token(), options={"verify_signature": False})

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'HS256', 'kid': home.key.kid})}.{part(claims)}.{part('x')}"


REFUSED = {
    "another audience": lambda home: home.token(aud="agent:other"),
    "no audience": lambda home: home.token(aud=None),
    "another issuer": lambda home: home.token(iss="https://evil.example.com"),
    "no purpose": lambda home: home.token(purpose=None),
    "a general token of the agent": lambda home: home.token(purpose="agent"),
    "expired": lambda home: home.token(exp=seconds(-120), iat=seconds(-240)),
    "no expiry": lambda home: home.token(exp=None),
    "not yet good": lambda home: home.token(nbf=seconds(120)),
    "another key": lambda home: SigningKey.es256(kid=home.key.kid).token(iss=home.issuer),
    "unsigned": unsigned,
    "signed with the public key as a secret": as_secret,
    "garbage": lambda home: "not.a.token",
    "empty": lambda home: " ",
}


@pytest.mark.parametrize("why", REFUSED)
def test_verifier_refuses(home, why):
    home.add("due", "every 1h", "true", ago=1)
    assert home.fire("due", token=REFUSED[why](home)).status == 401
    assert home.rows("due") == []


@pytest.mark.parametrize(
    "claims", [{}, {"exp": seconds(-10)}, {"nbf": seconds(20)}], ids=["good", "leeway of exp", "leeway of nbf"]
)
def test_verifier_accepts(home, claims):
    home.add("due", "every 1h", "true", ago=1)
    claims = {key: seconds(-10 if key == "exp" else 20) for key in claims}
    assert home.fire("due", token=home.token(**claims)).status == 202
    home.wait_for_rows("due", state="ok")


def test_verifier_reads_an_issuer_with_a_slash_as_the_same(home):
    home.add("due", "every 1h", "true", ago=1)
    assert home.fire("due", token=home.token(iss=home.issuer + "/")).status == 202
    home.wait_for_rows("due", state="ok")


def test_verifier_without_a_key_refuses_everything(home):
    write_config(home.home, home.issuer, "")
    assert home.fire("due").status == 401


# -- the door ---------------------------------------------------------------------------------------------------------


def test_door_asks_for_a_token_first(home):
    assert home.request(b'{"job_id": "x"}').status == 401
    assert home.request(b"{", token="bad").status == 401


@pytest.mark.parametrize("body", [b"{}", b"", b"{", b'{"job_id": ""}', b'{"job_id": 7}', b"[]"])
def test_door_wants_a_job(home, body):
    assert home.request(body, token=home.token()).status == 400


def test_door_answers_before_a_long_run_ends(home):
    go = home.home / "go"
    home.add("long", "every 1h", f"while ! [ -e {go} ]; do sleep 0.02; done", ago=1)
    assert home.fire("long").status == 202
    assert [row["state"] for row in home.rows("long")] == ["running"]
    go.touch()
    home.wait_for_rows("long", state="ok")


def test_door_calls_an_absent_job_gone_and_not_missing(home):
    assert (home.fire("nobodys").status, home.fire("nobodys").json["result"]) == (200, "gone")


def test_door_takes_a_retry_for_a_duplicate(home):
    at = home.add("due", "every 1h", "true", ago=1)
    assert home.fire("due", at.isoformat()).status == 202
    home.wait_for_rows("due", state="ok")
    assert home.fire("due", at.isoformat()).json["result"] == "duplicate"


def test_door_is_for_posts(home):
    assert home.request(token=home.token(), REQUEST_METHOD="GET").status == 405
    assert PATH == "/api/cron/fire"


def test_door_decided_a_hold_is_answered_held_with_a_wake_armed(home, nas):
    """There: 503 and again in a minute. Here the answer is a yes, since NAS holds the next look."""
    home.add("due", "every 1h", "true", ago=1)
    (home.home / "ESTOP").touch()
    assert (home.fire("due").status, home.fire("due").json["result"]) == (200, "held")
    assert set(nas.armed) == {"due"}


# -- the provider -----------------------------------------------------------------------------------------------------


def test_provider_arms_what_is_live_and_nothing_else(chronos, home, nas):
    for job_id in ("a", "b", "paused"):
        home.add(job_id, "every 1h", "true")
    change(home, "paused", state="paused", enabled=False)
    assert chronos("reconcile", home=home.home).code == 0
    assert set(nas.armed) == {"a", "b"}
    (first,) = [call for call in nas.calls if call.path.endswith("provision") and call.body["job_id"] == "a"]
    assert first.body["dedup_key"] == f"a:{first.body['fire_at']}"
    assert set(first.body) >= {"job_id", "fire_at", "agent_callback_url", "dedup_key"}
    sent = len(nas.calls)
    assert chronos("reconcile", home=home.home).code == 0
    assert len(nas.calls) == sent + 1  # converged: one list, no other call


def test_provider_moves_an_arm_whose_time_changed(chronos, home, nas):
    home.add("a", "every 1h", "true")
    chronos("reconcile", home=home.home)
    before = nas.armed["a"]["fire_at"]
    assert chronos("job", "edit", "a", "--schedule", "every 3h", home=home.home).code == 0
    assert nas.armed["a"]["fire_at"] > before


@pytest.mark.parametrize("words", [("pause", "a"), ("remove", "a", "--yes")])
def test_provider_cancels_what_is_paused_or_removed(chronos, home, nas, words):
    home.add("a", "every 1h", "true")
    chronos("reconcile", home=home.home)
    assert chronos("job", *words, home=home.home).code == 0
    assert nas.armed == {}


def test_provider_goes_on_after_one_failure(chronos, home, nas):
    for job_id in ("a", "b", "c"):
        home.add(job_id, "every 1h", "true")

    def answer(call):
        bad = isinstance(call.body, dict) and call.body.get("job_id") == "b"
        return Answer(500, {"error": "down"}) if bad else nas.by_contract(call)

    nas.answer = answer
    assert chronos("reconcile", home=home.home).code == 75
    assert set(nas.armed) == {"a", "c"}


def test_provider_decided_timers_of_others_are_kept_without_prune(chronos, home, nas):
    """There: every timer of no job here is cancelled. Another store may have the same identity; `--prune` says that none has."""
    home.add("a", "every 1h", "true")
    nas.armed["foreign"] = {"job_id": "foreign", "fire_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    assert chronos("reconcile", home=home.home).code == 0
    assert set(nas.armed) == {"a", "foreign"}


def test_provider_decided_a_refused_identity_is_no_success(chronos, home, nas):
    """There: logged, and the job looks armed. Here the command ends with 4, and the job says that it is refused."""
    nas.answer = lambda _: Answer(403, {"error": "invalid_client"})
    done = chronos("job", "add", "every 1h", "--id", "a", "--shell", "true", home=home.home)
    assert done.code == 4


def test_provider_decided_a_list_that_fails_is_not_an_empty_one(chronos, home, nas):
    """There: nothing is known to be armed, so all is armed anew. Here nothing is changed before NAS has said what it holds."""
    home.add("a", "every 1h", "true")
    nas.answer = lambda _: Answer(500, {"error": "down"})
    assert chronos("reconcile", home=home.home).code == 75
    assert [call.path.rpartition("/")[2] for call in nas.calls if call.path.endswith("provision")] == []


# -- the resolver -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "builtin", "in-process", "inprocess"])
def test_resolver_knows_the_names_of_the_builtin(chronos, home, name):
    (home.home / "config.yaml").write_text(f"cron:\n  provider: '{name}'\n")
    found = chronos("status", "--offline", "--json", home=home.home).json["provider"]
    assert (found["active"], found["warning"]) == ("builtin", None)


@pytest.mark.parametrize("name", ["does-not-exist-xyz", "chronos"])
def test_resolver_falls_back_to_the_builtin_with_a_reason(chronos, home, name):
    (home.home / "config.yaml").write_text(f"cron:\n  provider: {name}\n")
    found = chronos("status", "--offline", "--json", home=home.home).json["provider"]
    assert found["active"] == "builtin"
    assert found["warning"]


# -- jobs -------------------------------------------------------------------------------------------------------------

SCHEDULES = {
    "every 2h": {"kind": "interval", "minutes": 120},
    "every 30 minutes": {"kind": "interval", "minutes": 30},
    "0 9 * * *": {"kind": "cron", "expr": "0 9 * * *"},
    "every monday 9am": {"kind": "cron", "expr": "0 9 * * 1"},
    "weekdays at 9am": {"kind": "cron", "expr": "0 9 * * 1-5"},
}


@pytest.mark.parametrize("text", SCHEDULES)
def test_jobs_store_a_schedule_as_hermes_does(chronos, home, text):
    assert chronos("job", "add", text, "--id", "a", "--shell", "true", home=home.home).code in (0, 4, 75)
    stored = job(home, "a")["schedule"]
    assert {key: stored[key] for key in SCHEDULES[text]} == SCHEDULES[text]


def test_jobs_read_a_naive_time_in_the_homes_zone(chronos, home):
    config = home.home / "config.yaml"
    config.write_text(config.read_text().replace("timezone: UTC", "timezone: Asia/Kolkata"))
    chronos("job", "add", "2037-06-22T20:07", "--id", "a", "--shell", "true", home=home.home)
    assert job(home, "a")["schedule"]["run_at"] == "2037-06-22T20:07:00+05:30"
    assert job(home, "a")["repeat"] == {"times": 1, "completed": 0}


@pytest.mark.parametrize("text", ["2020-01-01T00:00", "every 0m", "every -5m", "61 * * * *", "abc", "", "30x", "m30"])
def test_jobs_refuse_what_would_never_run(chronos, home, text):
    assert chronos("job", "add", text, "--id", "a", "--shell", "true", home=home.home).code == 2
    assert not (home.home / "cron" / "jobs.json").exists()


def test_jobs_decided_a_bare_duration_is_refused(chronos, home):
    """There: once in older versions, again and again in newer ones. Here both spellings are named."""
    done = chronos("job", "add", "30m", "--id", "a", "--shell", "true", home=home.home)
    assert (done.code, "write 'in 30m' or 'every 30m'" in done.err) == (2, True)


def test_jobs_pause_and_resume(chronos, home):
    home.add("a", "every 1h", "true")
    chronos("job", "pause", "a", "--reason", "user paused", home=home.home)
    record = job(home, "a")
    assert (record["enabled"], record["state"], record["paused_reason"]) == (False, "paused", "user paused")
    assert chronos("run", "a", home=home.home).code == 0  # by hand it may run, as there
    chronos("job", "resume", "a", home=home.home)
    record = job(home, "a")
    assert (record["enabled"], record["state"], record["paused_at"]) == (True, "scheduled", None)


def test_jobs_resume_no_single_time_that_has_passed(chronos, home):
    chronos("job", "add", "in 1h", "--id", "a", "--shell", "true", home=home.home)
    past = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    change(home, "a", schedule={"kind": "once", "run_at": past}, next_run_at=past, state="paused", enabled=False)
    assert chronos("job", "resume", "a", home=home.home).code == 6


def test_jobs_keep_other_fields_over_a_change_of_one(chronos, home):
    home.add("a", "every 1h", "true")
    change(home, "a", tags=["x"], origin={"platform": "telegram", "chat_id": "123"})
    before = job(home, "a")
    chronos("job", "edit", "a", "--name", "New Name", home=home.home)
    after = job(home, "a")
    assert after["name"] == "New Name"
    assert {k: v for k, v in after.items() if k not in ("name", "chronos")} == {
        k: v for k, v in before.items() if k not in ("name", "chronos")
    }


def test_jobs_refuse_a_name_that_two_bear(chronos, home):
    for job_id in ("a", "b"):
        home.add(job_id, "every 1h", "true")
        change(home, job_id, name="dup")
    for words in (("pause",), ("resume",), ("remove", "--yes")):
        assert chronos("job", words[0], "dup", *words[1:], home=home.home).code == 6
    assert {job(home, job_id)["state"] for job_id in ("a", "b")} == {"scheduled"}


def test_jobs_that_are_done_stay_to_be_looked_at(home):
    at = (datetime.now(UTC) - timedelta(seconds=1)).replace(microsecond=0).isoformat()
    home.add("once", "in 1h", "true")
    change(home, "once", schedule={"kind": "once", "run_at": at}, next_run_at=at)
    assert home.fire("once").status == 202
    home.wait_for_rows("once", state="ok")
    record = job(home, "once")
    assert (record["state"], record["enabled"], record["next_run_at"], record["last_status"]) == (
        "completed",
        False,
        None,
        "ok",
    )


def test_jobs_end_with_their_last_repeat(home):
    home.add("twice", "every 1h", "true", ago=1)
    change(home, "twice", repeat={"times": 2, "completed": 1})
    assert home.fire("twice").status == 202
    home.wait_for_rows("twice", state="ok")
    assert (job(home, "twice")["repeat"]["completed"], job(home, "twice")["state"]) == (2, "completed")


# -- claims -----------------------------------------------------------------------------------------------------------


def test_claims_move_the_next_time_and_are_lost_by_the_second(home):
    at = home.add("a", "every 1h", "true", ago=1)
    assert home.fire("a", at.isoformat()).json["result"] == "claimed"
    assert home.fire("a", at.isoformat()).json["result"] == "duplicate"
    home.wait_for_rows("a", state="ok")
    assert datetime.fromisoformat(job(home, "a")["next_run_at"]) == at + timedelta(hours=1)
    assert len(home.rows("a")) == 1


@pytest.mark.parametrize(
    "fields", [{"enabled": False}, {"state": "paused"}, {"paused_at": "2026-01-01T00:00:00+00:00"}]
)
def test_claims_are_for_jobs_that_may_run(home, fields):
    home.add("a", "every 1h", "true", ago=1)
    change(home, "a", **fields)
    assert home.fire("a").json["result"] == "ignored"
    assert home.rows("a") == []


def test_claims_of_a_live_hermes_process_count(home):
    home.add("a", "every 1h", "true", ago=1)
    change(home, "a", fire_claim={"at": datetime.now(UTC).isoformat(), "by": "host:1"})
    assert home.fire("a").json["result"] == "skipped"


def test_claims_decided_no_age_makes_one_anybodys(home):
    """There: a claim of five minutes ago may be taken again. Here an occurrence is claimed once, for good."""
    at = home.add("a", "every 1h", "true", ago=1)
    assert home.fire("a", at.isoformat()).json["result"] == "claimed"
    home.wait_for_rows("a", state="ok")
    change(home, "a", fire_claim={"at": (datetime.now(UTC) - timedelta(hours=1)).isoformat(), "by": "chronos:x"})
    assert home.fire("a", at.isoformat()).json["result"] == "duplicate"
    assert len(home.rows("a")) == 1
