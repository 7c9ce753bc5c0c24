"""What hermes-agent's own tests expect of fetched keys, of calls to NAS and of the door, restated against our callback and commands."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from chronos_cli.callback.wsgi import CallbackApplication
from tests.callback.shim_home import write_config
from tests.fire_tokens import SigningKey, serve_jwks
from tests.played_server import Answer
from tests.providers.peers.records import change, job, put


@pytest.fixture
def portal(home):
    """NAS's keys over HTTP, and the home told so."""
    with serve_jwks(home.key) as served:
        write_config(home.home, home.issuer, served.url)
        home.application = CallbackApplication()
        yield served


# -- the verifier: keys that are fetched ------------------------------------------------------------------------------


def test_keys_come_from_the_url_and_are_fetched_once(home, portal):
    at = home.add("due", "every 1h", "true", ago=1)
    assert home.fire("due").json["result"] == "claimed"
    assert home.fire("due", at.isoformat()).json["result"] == "duplicate"
    assert len(portal.requests) == 1
    home.wait_for_rows("due", state="ok")


def test_the_fetch_says_who_asks_and_what_it_takes(home, portal):
    home.fire("nobodys")
    sent = {name.lower(): text for name, text in portal.requests[0].items()}
    assert "json" in sent["accept"]
    assert sent["user-agent"].startswith("chronos")


def test_a_rotated_key_is_fetched_once_and_not_asked_for_again_and_again(home, portal):
    assert home.fire("nobodys").status == 200
    rotated = SigningKey.es256(kid="rotated")
    portal.keys = [home.key, rotated]
    assert home.fire("nobodys", token=rotated.token(iss=home.issuer)).status == 200
    assert len(portal.requests) == 2
    for _ in range(3):
        stranger = SigningKey.es256(kid="stranger")
        assert home.fire("nobodys", token=stranger.token(iss=home.issuer)).status == 401
    assert len(portal.requests) == 2


def test_fires_that_meet_a_dead_portal_ask_it_once(home, portal):
    """There: refused with 401. Here 503 (`decided`): the keys are not known, so NAS shall come again."""
    portal.status = 503
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: home.fire("nobodys").status, range(6)))
    assert answers == [503] * 6
    assert len(portal.requests) == 1


def test_a_refresh_that_fails_leaves_the_known_keys(home, portal):
    assert home.fire("nobodys").status == 200
    portal.status = 503
    assert home.fire("nobodys", token=SigningKey.es256(kid="unknown").token(iss=home.issuer)).status in (401, 503)
    assert home.fire("nobodys").status == 200


def test_a_key_for_encryption_signs_nothing(home):
    (home.home / "jwks.json").write_text(json.dumps({"keys": [home.key.jwk(use="enc")]}))
    home.application = CallbackApplication()
    assert home.fire("nobodys").status != 200


def test_keys_over_plain_http_from_elsewhere_are_never_fetched(home):
    write_config(home.home, home.issuer, "http://portal.example.com/jwks.json")
    home.application = CallbackApplication()
    assert home.fire("nobodys").status != 200


def test_decided_a_token_need_not_say_since_when_it_is_good(home):
    """Newer versions want `nbf`. Here `exp` and `iat` bound its life; `nbf` counts where it stands."""
    claims = jwt.decode(home.token(), options={"verify_signature": False})
    assert "nbf" not in claims
    assert home.fire("nobodys").status == 200


def test_a_token_for_something_else_is_refused(home):
    assert home.fire("nobodys", token=home.token(purpose="inference")).status == 401


# -- the door ---------------------------------------------------------------------------------------------------------


def test_door_takes_the_fire_token_alone(home):
    """No key of an API beside it, and it names the job that it took."""
    home.add("due", "every 1h", "true", ago=1)
    answer = home.fire("due")
    assert (answer.status, answer.json["job_id"]) == (202, "due")
    home.wait_for_rows("due", state="ok")


@pytest.mark.parametrize("sent", ["Basic {}", "bearer{}", "{}", "Token {}"])
def test_door_takes_a_bearer_only(home, sent):
    text = json.dumps({"job_id": "nobodys"}).encode()
    assert home.request(text, HTTP_AUTHORIZATION=sent.format(home.token())).status == 401


def test_door_puts_off_what_must_not_start_now(home):
    """There: a gateway that drains, or owns no scheduler, answers 503. Here: a machine on standby; another has the jobs."""
    home.add("due", "every 1h", "true", ago=1)
    config = home.home / "config.yaml"
    config.write_text(config.read_text().replace("cron:\n", "cron:\n  standby: true\n"))
    home.application = CallbackApplication()
    assert home.fire("due").status == 503
    assert home.rows("due") == []


def test_door_tells_nothing_of_a_fault(home, monkeypatch):
    """What breaks inside is answered 503 with a body that says nothing of it."""
    home.add("due", "every 1h", "true", ago=1)
    (home.home / "cron" / "jobs.json").write_text("{ secret-of-the-store")
    answer = home.fire("due")
    assert answer.status == 503
    assert b"secret-of-the-store" not in answer.body


# -- calls to NAS -----------------------------------------------------------------------------------------------------


def calls(nas, name):
    return [call for call in nas.calls if call.path.partition("?")[0].endswith("/" + name)]


def test_calls_are_json_with_the_token_of_the_agent(chronos, home, nas):
    home.add("a", "every 1h", "true")
    assert chronos("reconcile", home=home.home).code == 0
    (sent,) = calls(nas, "provision")
    assert (sent.method, sent.path) == ("POST", "/api/agent-cron/provision")
    headers = {name.lower(): text for name, text in sent.headers.items()}
    assert headers["authorization"] == "Bearer nas-token"
    assert headers["content-type"] == "application/json"
    assert sent.body["job_id"] == "a"
    (listed,) = calls(nas, "list")
    assert (listed.method, listed.body) == ("GET", None)


def test_a_slash_at_the_end_of_the_portal_changes_no_path(chronos, home, nas):
    home.add("a", "every 1h", "true")
    write_config(home.home, nas.url + "/", str(home.home / "jwks.json"))
    assert chronos("reconcile", home=home.home).code == 0
    assert {call.path.partition("?")[0] for call in nas.calls} == {"/api/agent-cron/list", "/api/agent-cron/provision"}


def test_cancel_names_the_job_and_nothing_else_is_needed(chronos, home, nas):
    home.add("a", "every 1h", "true")
    chronos("reconcile", home=home.home)
    assert chronos("job", "pause", "a", home=home.home).code == 0
    (sent,) = calls(nas, "cancel")
    assert sent.body["job_id"] == "a"


@pytest.mark.parametrize("answer", [Answer(204, b""), Answer(200, b"")])
def test_an_answer_to_a_cancel_need_not_be_read(chronos, home, nas, answer):
    """204 and an empty body are a yes: nothing in it is needed."""
    home.add("a", "every 1h", "true")
    chronos("reconcile", home=home.home)
    nas.answer = lambda call: answer if call.path.endswith("cancel") else nas.by_contract(call)
    assert chronos("job", "pause", "a", home=home.home).code == 0
    assert len(calls(nas, "cancel")) == 1


def test_decided_a_page_is_no_yes(chronos, home, nas):
    """There: any 200 will do. Here the page of a proxy or a login is not NAS's word, and the cancel is tried again."""
    home.add("a", "every 1h", "true")
    chronos("reconcile", home=home.home)
    nas.answer = lambda call: Answer(body=b"<html>") if call.path.endswith("cancel") else nas.by_contract(call)
    done = chronos("job", "pause", "a", home=home.home)
    assert (done.code, "saved, not cancelled at NAS" in done.err) == (75, True)
    nas.answer = nas.by_contract
    assert chronos("reconcile", home=home.home).code == 0
    assert nas.armed == {}


@pytest.mark.parametrize(("status", "code", "said"), [(401, 4, "did not accept the token"), (500, 75, "answered 500")])
def test_a_status_that_is_no_yes_is_named(chronos, home, nas, status, code, said):
    home.add("a", "every 1h", "true")
    nas.answer = lambda call: (
        Answer(status, {"error": "x"}) if call.path.endswith("provision") else nas.by_contract(call)
    )
    done = chronos("reconcile", home=home.home)
    assert (done.code, said in done.err) == (code, True)


def test_a_portal_that_cannot_be_reached_is_named(chronos, home, nas):
    home.add("a", "every 1h", "true")
    write_config(home.home, "http://127.0.0.1:9", str(home.home / "jwks.json"))
    done = chronos("reconcile", home=home.home)
    assert done.code == 75
    assert "127.0.0.1:9" in done.err


@pytest.mark.parametrize("body", [{}, {"armed": "none"}, ["armed"], b"<html>"])
def test_decided_a_list_that_cannot_be_read_is_not_an_empty_one(chronos, home, nas, body):
    """There: nothing is armed, then. Here nothing is changed: what NAS holds is not known."""
    home.add("a", "every 1h", "true")
    nas.answer = lambda call: Answer(body=body) if "list" in call.path else nas.by_contract(call)
    assert chronos("reconcile", home=home.home).code == 75
    assert calls(nas, "provision") == []


# -- the provider -----------------------------------------------------------------------------------------------------


def test_being_available_asks_nobody(chronos, home, nas):
    found = chronos("status", "--offline", "--json", home=home.home).json["provider"]
    assert (found["active"], found["warning"]) == ("chronos", None)
    assert nas.calls == []


def test_without_its_urls_it_is_not_available(chronos, home):
    (home.home / "config.yaml").write_text("cron:\n  provider: chronos\n")
    assert chronos("status", "--offline", "--json", home=home.home).json["provider"]["active"] == "builtin"


def test_an_instant_within_the_minute_is_armed_as_it_is(chronos, home, nas):
    """No scheduler's minute is its floor: the agent names the second."""
    assert chronos("job", "add", "in 30s", "--id", "soon", "--shell", "true", home=home.home).code == 0
    ahead = datetime.fromisoformat(nas.armed["soon"]["fire_at"]) - datetime.now(UTC)
    assert timedelta(seconds=20) < ahead < timedelta(seconds=31)


def test_what_has_no_next_time_is_not_armed(chronos, home, nas):
    past = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    put(home, id="old", schedule={"kind": "once", "run_at": past}, next_run_at=None)
    chronos("reconcile", home=home.home)
    assert nas.armed == {}


def test_a_job_that_is_made_is_armed_alone(chronos, home, nas):
    home.add("other", "every 1h", "true")
    assert chronos("job", "add", "every 2h", "--id", "made", "--shell", "true", home=home.home).code == 0
    assert set(nas.armed) == {"made"}


def test_a_made_job_that_was_not_armed_is_its_makers_to_know(chronos, home, nas):
    """It is stored; the exit code says that NAS does not hold it."""
    nas.answer = lambda _: Answer(502, {"error": "upstream"})
    done = chronos("job", "add", "every 2h", "--id", "made", "--shell", "true", home=home.home)
    assert done.code == 75
    assert job(home, "made")["enabled"]


def test_a_failure_that_passes_is_tried_by_the_next_reconcile(chronos, home, nas):
    home.add("a", "every 1h", "true")
    nas.answer = lambda call: Answer(502) if call.path.endswith("provision") else nas.by_contract(call)
    assert [chronos("reconcile", home=home.home).code for _ in range(2)] == [75, 75]
    nas.answer = nas.by_contract
    assert chronos("reconcile", home=home.home).code == 0
    assert set(nas.armed) == {"a"}


def test_the_callback_is_named_with_each_arm(chronos, home, nas):
    home.add("a", "every 1h", "true")
    chronos("reconcile", home=home.home)
    (sent,) = calls(nas, "provision")
    assert sent.body["agent_callback_url"] == "http://127.0.0.1:9"


def test_an_orphan_of_ours_is_cancelled(chronos, home, nas):
    """One that this store armed and whose job is gone; the others stay."""
    for job_id in ("a", "b", "gone"):
        home.add(job_id, "every 1h", "true")
    chronos("reconcile", home=home.home)
    path = home.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"] = [one for one in document["jobs"] if one["id"] != "gone"]
    path.write_text(json.dumps(document))
    assert chronos("reconcile", home=home.home).code == 0
    assert set(nas.armed) == {"a", "b"}


def test_a_fire_arms_the_next(home, nas):
    at = home.add("a", "every 1h", "true", ago=1)
    assert home.fire("a", at.isoformat()).status == 202
    assert datetime.fromisoformat(nas.armed["a"]["fire_at"]) == at + timedelta(hours=1)
    home.wait_for_rows("a", state="ok")


def test_a_run_that_fails_has_used_its_fire_and_the_next_is_armed(home, nas):
    at = home.add("a", "every 1h", "false", ago=1)
    assert home.fire("a", at.isoformat()).status == 202
    home.wait_for_rows("a", state="failed")
    assert datetime.fromisoformat(nas.armed["a"]["fire_at"]) == at + timedelta(hours=1)


def test_after_the_last_run_nothing_is_armed(chronos, home, nas):
    at = home.add("a", "every 1h", "true", ago=1)
    change(home, "a", repeat={"times": 1, "completed": 0})
    assert home.fire("a", at.isoformat()).status == 202
    home.wait_for_rows("a", state="ok")
    chronos("reconcile", home=home.home)
    assert nas.armed == {}


def test_decided_a_fire_that_takes_nothing_still_confirms_the_wake(home, nas):
    """There: a lost claim arms nothing. Here every yes of a live job leaves its wake at NAS, whoever claimed."""
    at = home.add("a", "every 1h", "true", ago=1)
    home.fire("a", at.isoformat())
    home.wait_for_rows("a", state="ok")
    nas.armed.clear()
    assert home.fire("a", at.isoformat()).json["result"] == "duplicate"
    assert set(nas.armed) == {"a"}
    assert len(home.rows("a")) == 1


def test_what_is_gone_is_not_armed(home, nas):
    assert home.fire("nobodys").json["result"] == "gone"
    assert calls(nas, "provision") == []


def test_reconcile_never_arms_a_past_instant(chronos, home, nas):
    """One long past is settled first, and what is armed lies ahead; there the same, by a step to the next time."""
    for job_id, ago in (
        ("late", timedelta(hours=3)),
        ("skewed", timedelta(seconds=5)),
        ("ancient", timedelta(days=90)),
    ):
        home.add(job_id, "every 8h", "true")
        change(home, job_id, next_run_at=(datetime.now(UTC) - ago).isoformat())
    before = datetime.now(UTC).replace(microsecond=0)
    assert chronos("reconcile", home=home.home).code == 0
    assert set(nas.armed) == {"late", "skewed", "ancient"}
    assert all(datetime.fromisoformat(one["fire_at"]) >= before for one in nas.armed.values())


def test_a_time_that_cannot_be_read_is_put_right_and_armed(chronos, home, nas):
    """It stops no other job, and is not silently out of the schedule."""
    home.add("weird", "every 1h", "true")
    home.add("plain", "every 1h", "true")
    change(home, "weird", next_run_at="not-a-timestamp")
    assert chronos("reconcile", home=home.home).code == 0
    assert set(nas.armed) == {"weird", "plain"}
    assert datetime.fromisoformat(job(home, "weird")["next_run_at"]) > datetime.now(UTC)
