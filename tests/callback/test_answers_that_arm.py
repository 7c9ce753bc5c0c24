"""One exchange a fire: where the token asks for it, the 2xx carries the job's next wake, and NAS is not called."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.callback.wsgi import CallbackApplication
from chronos_cli.config import load_config
from chronos_cli.errors import TemporaryError
from chronos_cli.nas_server.bodies import next_wake
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.doctor.nas import ask_nas
from chronos_cli.operations.firing import after_answer
from tests.callback.shim_home import ROOT, add_job, write_config
from tests.played_server import Answer

FEATURES = ["generation", "keeps-slot", "arm-in-answer"]
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch):
    monkeypatch.setattr(after_answer, "LOOKS_S", (0.0, 0.1))


@pytest.fixture(autouse=True)
def features(nas):
    nas.features = FEATURES


def known(home, nas, *, taken=True):
    """NAS was seen to arm what answers carry, or not to."""
    at = datetime.now(UTC).isoformat()
    said = {"portal_url": nas.url, "audience": "agent:7f3", "delivered": 0, "since": at}
    (home.home / "cron").mkdir(exist_ok=True)
    (home.home / "cron/nas.json").write_text(json.dumps(said | {"answers": taken, "answers_at": at}))


def fire(home, job_id, fire_at=None, **claims):
    """One delivery whose token asks for the next wake."""
    at = fire_at and fire_at.isoformat()
    named = {"job_id": job_id} | ({"fire_at": at} if at else {})
    return home.fire(job_id, at, token=home.token(**{"arm": "answer", "generation": 7, **named, **claims}))


def over(home):
    """Wait until every runner is gone: it arms after the answer, if it does."""
    until = time.monotonic() + 20
    while home.application.running():
        assert time.monotonic() < until
        time.sleep(0.02)


def provisions(nas):
    return [call.body for call in nas.calls if call.path.endswith("/provision")]


def memory(home):
    return json.loads((home.home / "cron/nas.json").read_text())


def test_the_answer_carries_the_next_wake_and_nas_is_not_called(home, nas):
    """The body has the very next instant, its key and a generation above the token's; the run's end arms nothing more."""
    known(home, nas)
    cursor = home.add("beat", "every 1h", "true", ago=1)
    far = 10**15
    reply = fire(home, "beat", cursor, generation=far)
    assert (reply.status, reply.json["result"], reply.json["status"]) == (202, "claimed", "accepted")
    after = (cursor + HOUR).isoformat()
    assert reply.json["next"] == {"fire_at": after, "dedup_key": f"beat:{after}", "generation": far + 1}
    assert next_wake(reply.body).generation == far + 1
    home.wait_for_rows("beat", state="ok")
    over(home)
    assert nas.calls == []
    arm = home.arm("beat")
    assert (arm["state"], arm["wake"], arm["generation"]) == ("answered", after, far + 1)


def test_the_token_of_the_next_fire_confirms_it(home, nas):
    """It names the generation that only the answer had said; of a NAS nothing was known of before, that is the proof."""
    known(home, nas)
    cursor = home.add("beat", "every 1h", "true", ago=1)
    said = fire(home, "beat", cursor).json["next"]
    over(home)
    (home.home / "cron/nas.json").unlink()
    reply = fire(home, "beat", cursor, generation=said["generation"])
    assert reply.json["next"]["generation"] > said["generation"]
    assert reply.json["next"]["fire_at"] == said["fire_at"]
    assert home.arm("beat")["state"] == "confirmed"
    over(home)
    assert nas.calls == []
    assert memory(home)["answers"] is True


def test_without_the_claim_the_wake_is_provisioned_and_the_callback_is_offered(home, nas):
    """The first fire finds out what NAS can; from then on each provision says that this callback carries wakes."""
    cursor = home.add("beat", "every 1h", "exit 1", ago=1, retries=1)
    reply = home.fire("beat", cursor.isoformat())
    assert (reply.status, "next" in reply.json) == (202, False)
    until = time.monotonic() + 20
    while len(provisions(nas)) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    first, retry = provisions(nas)
    assert "accepts" not in first
    assert retry["accepts"] == ["arm-in-answer"]
    assert retry["generation"] > 0
    over(home)


def test_what_wants_nothing_says_so(home, nas):
    """A spent schedule and a paused job drop what NAS holds; of a job that is gone it stays as it is."""
    known(home, nas)
    last = home.add("once", "in 1s", "true", ago=2)
    reply = fire(home, "once", last)
    assert (reply.status, reply.json["next"]["none"]) == (202, True)
    assert reply.json["next"]["generation"] > 7
    home.wait_for_rows("once", state="ok")
    over(home)
    assert fire(home, "nobody").json["next"] == "keep"
    cursor = home.add("off", "every 1h", "true", ago=1)
    path = home.home / "cron/jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][-1] |= {"enabled": False, "state": "paused"}
    path.write_text(json.dumps(document))
    paused = fire(home, "off", cursor)
    assert (paused.json["result"], paused.json["next"]["none"]) == ("ignored", True)
    assert nas.calls == []


def test_a_hold_is_carried_and_what_comes_again_is_not(home, nas, monkeypatch):
    """Held: a wake a quarter of an hour ahead. Early, standby: a 503, which NAS repeats, carries nothing."""
    known(home, nas)
    cursor = home.add("beat", "every 1h", "true", ago=1)
    (home.home / "ESTOP").write_text("test")
    held = fire(home, "beat", cursor)
    assert held.json["result"] == "held"
    ahead = datetime.fromisoformat(held.json["next"]["fire_at"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < ahead <= timedelta(minutes=15)
    (home.home / "ESTOP").unlink()
    late = home.add("later", "every 1h", "true")
    early = fire(home, "later", late)
    assert (early.status, early.json["result"], "next" in early.json) == (503, "early", False)
    monkeypatch.setenv("CHRONOS_STANDBY", "1")
    home.application = CallbackApplication()
    assert fire(home, "beat", cursor).json == {"result": "standby"}
    assert nas.calls == []


def test_an_unserved_profile_is_a_503_and_an_unknown_one_keeps(home, nas):
    """What a profile that is not served here wants, this callback cannot say."""
    other = home.home / "profiles/other"
    other.mkdir(parents=True)
    write_config(other, nas.url, str(home.home / "jwks.json"))
    (home.home / "config.yaml").write_text(
        (home.home / "config.yaml").read_text() + f"profiles:\n  second: {home.home}\n"
    )
    cursor = add_job(other, "theirs", "every 1h", "true", ago=1)
    assert fire(home, "theirs", cursor).status == 503
    assert fire(home, "nobodys", cursor).json["next"] == "keep"


def test_a_redelivery_after_our_2xx_provisions_as_well(home, nas):
    """Our answer does not get through: the wake is sent too, under an older generation than the answer names."""
    known(home, nas)
    cursor = home.add("beat", "every 1h", "true", ago=1)
    first = fire(home, "beat", cursor, jti="d1").json["next"]
    over(home)
    assert nas.calls == []
    again = fire(home, "beat", cursor, jti="d1")
    assert (again.status, again.json["result"]) == (200, "duplicate")
    (sent,) = provisions(nas)
    assert (sent["fire_at"], sent["accepts"]) == (first["fire_at"], ["arm-in-answer"])
    assert first["generation"] < sent["generation"] < again.json["next"]["generation"]
    assert again.json["next"]["fire_at"] == first["fire_at"]
    assert memory(home)["answers"] is False
    # The token that names what only that answer has said ends the mistrust.
    at = datetime.fromisoformat(first["fire_at"])
    fire(home, "beat", at, generation=again.json["next"]["generation"], jti="d2")
    assert memory(home)["answers"] is True
    over(home)


def test_a_2xx_that_became_a_503_was_no_answer(home, nas, monkeypatch):
    """No runner can be started: nothing is carried, and the redelivery is the first to be answered."""
    known(home, nas)
    go = home.home / "go"  # a runner that was only slow arms by itself once its run is over: not yet
    cursor = home.add("beat", "every 1h", f"until [ -e {go} ]; do sleep 0.05; done", ago=1)
    with monkeypatch.context() as slow:
        slow.setattr("chronos_cli.operations.firing.launchers.STARTED_WITHIN_S", 0.0)
        failed = fire(home, "beat", cursor, jti="d1")
    assert (failed.status, "next" in failed.json) == (503, False)
    assert home.arm("beat").get("answered_to") is None
    again = fire(home, "beat", cursor, jti="d1")
    assert again.status in (200, 202)
    assert again.json["next"]["fire_at"] == (cursor + HOUR).isoformat()
    assert nas.calls == []
    go.touch()
    over(home)


def test_an_answer_that_could_not_leave_is_not_taken_for_one_that_nas_dropped(home, nas, monkeypatch):
    """A run's end cannot be written down: the 503 takes back what was to be carried, and NAS is believed as before."""
    known(home, nas)
    monkeypatch.setenv("CHRONOS_CALLBACK_MODE", "sync")
    home.application = CallbackApplication()
    go = home.home / "go"  # the run's own end arms by itself what nobody has carried: not yet
    cursor = home.add("beat", "every 1h", f"until [ -e {go} ]; do sleep 0.05; done", ago=1)
    with monkeypatch.context() as broken:
        full = TemporaryError("the end of the run could not be recorded")
        broken.setattr("chronos_cli.operations.firing.fire.wait_for", lambda _: ((), [full]))
        failed = fire(home, "beat", cursor, jti="d1")
    assert (failed.status, "next" in failed.json) == (503, False)
    arm = home.arm("beat")
    assert (arm["state"], arm.get("answered_to")) == ("unconfirmed", None)
    again = fire(home, "beat", cursor, jti="d1")
    assert again.json["next"]["fire_at"] == (cursor + HOUR).isoformat()
    go.touch()
    over(home)
    assert (nas.calls, memory(home)["answers"]) == ([], True)


def test_a_nas_that_drops_what_answers_carry_is_found_out(home, nas):
    """Nothing is known of it: the answer alone carries the wake, two looks miss it, and it is provisioned as it is."""
    cursor = home.add("beat", "every 1h", "true", ago=1)
    said = fire(home, "beat", cursor).json["next"]
    until = time.monotonic() + 20
    while not provisions(nas):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert [call.path.rpartition("/")[2] for call in nas.calls] == ["list", "list", "provision"]
    assert provisions(nas)[0]["fire_at"] == said["fire_at"]
    over(home)
    assert memory(home)["answers"] is False
    nas.calls.clear()
    again = fire(home, "beat", cursor)
    (sent,) = provisions(nas)
    assert sent["fire_at"] == again.json["next"]["fire_at"] == said["fire_at"]


def test_a_list_that_shows_it_is_proof_once(home, nas):
    """The first look finds what the answer alone has said; from then on nobody looks."""
    cursor = home.add("beat", "every 1h", "true", ago=3601)
    real = nas.answer

    def arming(call):
        if call.path.startswith("/api/agent-cron/list"):
            nas.armed["beat"] = {"job_id": "beat", "fire_at": (cursor + 2 * HOUR).isoformat(), "schedule_id": "s"}
        return real(call)

    nas.answer = arming
    said = fire(home, "beat", cursor).json["next"]
    assert said["fire_at"] == (cursor + 2 * HOUR).isoformat()
    until = time.monotonic() + 20
    while not nas.calls:
        assert time.monotonic() < until
        time.sleep(0.02)
    over(home)
    time.sleep(0.2)
    assert [call.path.rpartition("/")[2] for call in nas.calls] == ["list"]
    assert home.arm("beat")["state"] == "confirmed"
    assert memory(home)["answers"] is True


def test_a_retry_after_the_answer_is_sent_with_a_newer_generation(home, nas):
    """The run's end wants another wake than the answer has carried: whichever reaches NAS first, the newer counts."""
    known(home, nas)
    cursor = home.add("bad", "every 1h", "sleep 0.4; exit 1", ago=1, retries=1)
    carried = fire(home, "bad", cursor).json["next"]
    assert carried["fire_at"] == (cursor + HOUR).isoformat()
    until = time.monotonic() + 20
    while not provisions(nas):
        assert time.monotonic() < until
        time.sleep(0.02)
    over(home)
    (sent,) = provisions(nas)
    assert sent["generation"] > carried["generation"]
    assert sent["fire_at"] < carried["fire_at"]


@pytest.mark.parametrize(("schedule", "sent"), [("every 1h", 0), ("every 5s", 1)])
def test_synchronous_mode_provisions_only_what_comes_before_its_answer(home, nas, monkeypatch, schedule, sent):
    """A wake beyond the answer's budget travels in it; one that comes sooner is armed when the run has started."""
    known(home, nas)
    monkeypatch.setenv("CHRONOS_CALLBACK_MODE", "sync")
    monkeypatch.setenv("CHRONOS_CALLBACK_BUDGET", "20")
    home.application = CallbackApplication()
    cursor = home.add("beat", schedule, "true", ago=1)
    reply = fire(home, "beat", cursor)
    assert (reply.status, reply.json["status"]) == (200, "accepted")
    assert datetime.fromisoformat(reply.json["next"]["fire_at"]) > cursor
    assert len(provisions(nas)) == sent == len(nas.calls)


def test_a_synchronous_answer_carries_what_the_end_of_its_run_wants(home, nas, monkeypatch):
    """A failed run is tried again in seconds: the answer has that wake, and not the one of its start."""
    known(home, nas)
    monkeypatch.setenv("CHRONOS_CALLBACK_MODE", "sync")
    home.application = CallbackApplication()
    cursor = home.add("bad", "every 1h", "exit 1", ago=1, retries=1)
    reply = fire(home, "bad", cursor)
    over(home)
    assert reply.json["next"]["fire_at"] < (cursor + HOUR).isoformat()
    assert home.arm("bad")["purpose"] == "retry"


def test_where_the_platform_freezes_nobody_looks_so_both_are_done(home, nas, monkeypatch):
    """Until a token shows that NAS arms what answers carry, each wake is provisioned too."""
    monkeypatch.setenv("K_SERVICE", "agent")
    home.application = CallbackApplication()
    cursor = home.add("beat", "every 1h", "true", ago=1)
    reply = fire(home, "beat", cursor)
    (sent,) = provisions(nas)
    said = reply.json["next"]
    assert sent["fire_at"] == said["fire_at"]
    nas.calls.clear()
    fire(home, "beat", cursor, generation=said["generation"])
    assert nas.calls == []
    assert memory(home)["answers"] is True


def test_the_shim_keeps_the_clients_library_out_of_such_a_fire(home, nas):
    """No client, no token of NAS, no requests: neither in the shim nor in the runner."""
    known(home, nas)
    cursor = home.add("beat", "every 1h", "true", ago=1)
    body = json.dumps({"job_id": "beat", "fire_at": cursor.isoformat()})
    token = home.token(job_id="beat", fire_at=cursor.isoformat(), arm="answer", generation=7)
    code = f"""
import io, json, sys
from chronos_cli.callback.wsgi import application
said = []
environ = {{"REQUEST_METHOD": "POST", "PATH_INFO": "/api/cron/fire", "CONTENT_LENGTH": "{len(body)}",
           "HTTP_AUTHORIZATION": "Bearer {token}", "wsgi.input": io.BytesIO({body!r}.encode())}}
answer = b"".join(application(environ, lambda status, headers: said.append(status)))
print(json.dumps([said[0], json.loads(answer), sorted(sys.modules)]))
"""
    env = {"CHRONOS_HOME": str(home.home), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, timeout=60)
    status, answer, modules = json.loads(told.stdout)
    assert status == "202 Accepted"
    assert answer["next"]["fire_at"] == (cursor + HOUR).isoformat()
    heavy = {"requests", "urllib3", "chronos_cli.nas_client.client", "chronos_cli.nas_client.transport"}
    assert heavy & set(modules) == set()
    home.wait_for_rows("beat", state="ok")
    assert nas.calls == []


@pytest.mark.parametrize("generation", [None, "7", True, -1, 2**63 - 1, 10**30, 1.5])
def test_a_generation_that_cannot_be_counted_is_none(home, nas, generation):
    """The answer then has the document's own, which NAS takes or not; the fire is taken in any case."""
    known(home, nas)
    cursor = home.add("beat", "every 1h", "true", ago=1)
    reply = fire(home, "beat", cursor, generation=generation)
    assert next_wake(reply.body).generation < 10**15
    over(home)


def test_a_nas_that_is_down_does_not_matter(home, nas):
    """Nothing of NAS is asked in the fire's path, so nothing of it can fail the fire."""
    known(home, nas)
    nas.answer = lambda _: Answer(500, {"error": "down"})
    cursor = home.add("beat", "every 1h", "true", ago=1)
    assert fire(home, "beat", cursor).status == 202
    over(home)


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        (None, "that it arms what answers carry was not seen yet"),
        (True, "it arms what answers carry"),
        (False, "it did not arm what answers carry: each is provisioned too"),
    ],
)
def test_doctor_says_what_was_seen(home, nas, taken, said):
    """What was learned of NAS lies in the home, and is no secret."""
    if taken is not None:
        known(home, nas, taken=taken)
    config = load_config(environ={}, home=str(home.home))
    checks, _ = ask_nas(open_home(config, ProcessEnvironment(environ={}, secrets={})))
    assert checks[-1].text == f"NAS promises to keep what is armed before an answer; {said}"
