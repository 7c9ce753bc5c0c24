"""Every row of the fire protocol's table, over WSGI: the real application, store and runners; NAS is played."""

import fcntl
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chronos_cli.core.policy import Overlap
from tests.callback.shim_home import PATH, ShimHome
from tests.fire_tokens import SigningKey
from tests.played_server import Answer


def seconds_from_now(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0).isoformat()


def change_jobs(home, only=None, **members):
    path = home.home / "cron/jobs.json"
    document = json.loads(path.read_text())
    for job in document["jobs"]:
        if only in (None, job["id"]):
            job.update(members)
    path.write_text(json.dumps(document))


def open_descriptors():
    return len(list(Path("/dev/fd").iterdir()))


def down(call):
    return Answer(500, {"error": "down"})


def bad_tokens(home):
    stranger = SigningKey.es256(kid=home.key.kid)
    now = int(time.time())
    good = home.token()
    head, _, rest = good.partition(".")
    return {
        "none": None,
        "empty": "",
        "junk": "x",
        "three parts": "a.b.c",
        "no signature": f"{head}.{rest.partition('.')[0]}.",
        "another key": stranger.token(iss=home.issuer),
        "unknown kid": home.token(headers={"kid": "nobody"}),
        "expired": home.token(exp=now - 31),
        "not yet": home.token(iat=now + 60),
        "another agent": home.token(aud="agent:other"),
        "another issuer": home.token(iss="https://elsewhere.example.com"),
        "another purpose": home.token(purpose="login"),
        "another job": home.token(job_id="other"),
        "another time": home.token(fire_at="2020-01-01T00:00:00+00:00"),
        "too long": "a" * 20_000,
        "not ascii": "ä.ö.ü",
    }


def test_a_refusal_is_the_same_bytes_whatever_the_cause_and_the_job(home):
    """A 401 tells nothing: neither why, nor whether the job exists; its headers are the same too."""
    cursor = home.add("known", "every 1h", "true", ago=1)
    answers = set()
    for token in bad_tokens(home).values():
        for job in ("known", "unknown"):
            reply = home.request(json.dumps({"job_id": job, "fire_at": cursor.isoformat()}).encode(), token=token)
            answers.add((reply.status, tuple(reply.headers), reply.body))
    ((status, headers, body),) = answers
    assert status == 401
    assert dict(headers)["WWW-Authenticate"] == "Bearer"
    assert body == b'{"result": "refused"}'
    assert home.rows("known") == []


def test_where_used_tokens_cannot_be_remembered(home):
    """A token that names job and instant starts the job all the same; any other would be good for every job: 503."""
    cursor = home.add("beat", "every 1h", "true", ago=1)
    (home.home / "cache").mkdir(exist_ok=True)
    (home.home / "cache/jti").write_text("a file")
    reply = home.fire("beat", cursor.isoformat())
    assert (reply.status, reply.json["error"]) == (503, {"code": "jti_memory", "retryable": True})
    assert reply.header("Retry-After")
    bound = home.token(job_id="beat", fire_at=cursor.isoformat())
    assert home.fire("beat", cursor.isoformat(), token=bound).json["result"] == "claimed"
    home.wait_for_rows("beat", state="ok")


def test_a_token_id_used_for_another_job_is_refused_in_the_same_words(home):
    """One `jti` is good for one occurrence: with a second job it gets the plain 401."""
    token = home.token()
    assert home.fire("one", seconds_from_now(0), token=token).json["result"] == "gone"
    refused = home.fire("two", seconds_from_now(0), token=token)
    assert (refused.status, refused.body) == (401, b'{"result": "refused"}')


def test_the_store_is_not_read_before_the_token_holds(home, capsys):
    """With a store that fails at every touch, strangers get their 401 and malformed requests their 400 all the same."""
    (home.home / "cron/jobs.json").mkdir(parents=True)
    for name, token in bad_tokens(home).items():
        assert home.fire("known", seconds_from_now(0), token=token or "x").status == 401, name
    assert home.request(b"{", token=home.token()).status == 400
    unreadable = home.fire("known")
    assert (unreadable.status, unreadable.json["error"]["code"]) == (503, "store")
    assert unreadable.header("Retry-After") == "30"


def test_a_missing_header_is_called_that_in_the_log_only(home, capsys):
    """Some servers drop Authorization: the operator reads `missing_authorization`, the caller just the refusal."""
    assert home.request(b"{}").status == 401
    assert "missing_authorization" in capsys.readouterr().err


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe{}",
        b'{"job_id": "a", "job_id": "b"}',
        b'{"job_id": "a", "n": NaN}',
        b'{"job_id": "a", "n": ' + b"9" * 5000 + b"}",
        b'{"job_id": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b"{}",
        b'{"job_id": null}',
        b'{"job_id": 7}',
        b'{"job_id": ["a"]}',
    ],
)
def test_a_malformed_body_is_a_400(home, body):
    """Whatever is no JSON object with one job id in it is answered 400, once the token holds."""
    reply = home.request(body, token=home.token())
    assert reply.status == 400
    assert reply.json["result"] == "error"
    assert home.request(body, token="a.b.c").status == 401


@pytest.mark.parametrize(
    "job_id",
    [
        "", " ", "-x", "--help", ".", "..", "../x", "a/b", "/etc/passwd", "a\x00b", "a\nb", "ä", "x" * 129, "a b", "%2e", "\ud800",
        "a\n", "~", "$(id)", "con:", "a\\b",
    ],
)  # fmt: skip
def test_an_odd_job_id_is_a_400(home, job_id):
    """An id that could be an option, a path or anything but a plain name goes no further."""
    assert home.fire(job_id).status == 400
    assert not (home.home / "cron").exists()


@pytest.mark.parametrize("length", ["65537", "999999999999999999", "1" * 18])
def test_a_body_over_64_kib_is_a_413_and_is_not_read(home, length):
    """The announced length alone decides: nothing is read."""
    reply = home.request(CONTENT_LENGTH=length, token=home.token())
    assert (reply.status, reply.json["error"]["code"]) == (413, "too_large")


def test_64_kib_are_taken(home):
    """The limit itself is within the limit."""
    body = b'{"job_id": "nobody", "pad": "' + b"x" * (65536 - 31) + b'"}'
    assert len(body) == 65536
    assert home.request(body, token=home.token()).json["result"] == "gone"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_another_method_is_a_405_that_names_the_right_one(home, method):
    """Only POST fires."""
    reply = home.request(REQUEST_METHOD=method, checked=False)
    assert (reply.status, reply.header("Allow")) == (405, "POST")


@pytest.mark.parametrize(
    "path",
    [
        "/", "", "/api/cron", "/api/cron/fire//", "//api/cron/fire", "/API/cron/fire", "/api/cron/fire/../fire", "/api/cron/./fire",
        "/p/api/cron/fire", "/p//api/cron/fire", "/p/../api/cron/fire", "/p/a/b/api/cron/fire", "/p/-a/api/cron/fire",
        "/api/cron/fire\x00", "/x/api/cron/fire", "/p/\xe4/api/cron/fire", "/healthz/",
    ],
)  # fmt: skip
def test_another_path_is_a_404(home, path):
    """There is one fire path, and no second spelling of it; a good token changes nothing."""
    assert home.request(b'{"job_id": "x"}', path=path, token=home.token(), checked=False).status == 404
    assert home.request(b"{}", path=path, checked=False).status == 404


@pytest.mark.parametrize("path", ["/api/cron/fire/", "/p/main/api/cron/fire/"])
def test_a_slash_at_the_end_of_the_fire_path_is_taken(home, path):
    """Some proxies add one slash; the fire is judged all the same."""
    assert home.request(b"{}", path=path, checked=False).status == 401


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/agents/7/api/cron/fire", "'/agents/7/api/cron/fire'"),
        ("/agents/7/api/cron/fire/", "'/agents/7/api/cron/fire/'"),
        ("/api//cron/fire", "'/api//cron/fire'"),
        ("/api/cron/fire/api/cron/fire", "'/api/cron/fire/api/cron/fire'"),
        ("/agents/7/api/cron/proof", "'/agents/7/api/cron/proof'"),
        ("/\x1b[31m\n/api/cron/fire", r"'/\x1b[31m\n/api/cron/fire'"),
    ],
)
def test_a_fire_that_went_astray_leaves_one_line_that_names_its_path(home, capsys, path, shown):
    """NAS repeats a 404, so the operator must see which path came; any other 404 leaves no line."""
    assert home.request(b"{}", path=path, checked=False).status == 404
    (line,) = capsys.readouterr().err.splitlines()
    assert shown in line
    assert "/api/cron/fire" in line
    assert home.request(b"{}", path="/wp-login.php", checked=False).status == 404
    assert capsys.readouterr().err == ""


def test_health_says_which_mode_was_picked(home):
    """/healthz needs no token, reads no store and names the mode and why."""
    (home.home / "cron/jobs.json").mkdir(parents=True)
    reply = home.request(REQUEST_METHOD="GET", path="/healthz")
    assert (reply.status, reply.json["ok"], reply.json["mode"]) == (200, True, "detached")
    assert home.request(REQUEST_METHOD="HEAD", path="/healthz").body == b""
    refused = home.request(path="/healthz")
    assert (refused.status, refused.header("Allow")) == (405, "GET")


def test_a_due_job_is_claimed_started_and_armed_before_the_answer(home, nas):
    """202 means: the run is running and NAS holds the job's next instant."""
    cursor = home.add("beat", "every 1h", "sleep 0.3", ago=1)
    reply = home.fire("beat", cursor.isoformat())
    rows = home.rows("beat")
    assert (reply.status, reply.json["result"]) == (202, "claimed")
    assert [row["state"] for row in rows] == ["running"]
    assert reply.json["runs"] == [rows[0]["run_id"]]
    assert nas.armed["beat"]["fire_at"] == (cursor + timedelta(hours=1)).isoformat()
    assert home.wait_for_rows("beat", state="ok")[0]["attempt"] == 1
    duplicate = home.fire("beat", cursor.isoformat())
    assert (duplicate.status, duplicate.json["result"]) == (200, "duplicate")
    assert len(home.rows("beat")) == 1


def test_a_fire_without_a_readable_time_takes_what_is_due(home):
    """The hosted NAS may name no instant, or one nobody can read: then whatever is due now is meant."""
    for name, fire_at in (("one", None), ("two", "tomorrow"), ("three", 7), ("four", "2026-11-20T00:00:00")):
        home.add(name, "every 1h", "true", ago=1)
        assert home.fire(name, fire_at).json["result"] == "claimed"
        home.wait_for_rows(name, state="ok")


def test_a_fire_for_nothing_is_a_2xx_and_starts_nothing(home, nas):
    """Unknown, paused, disabled and completed jobs are no reason to come again."""
    for name in ("paused", "disabled", "completed"):
        home.add(name, "every 1h", "true", ago=1)
    change_jobs(home, enabled=False)
    change_jobs(home, "paused", state="paused", paused_at=seconds_from_now(-5))
    change_jobs(home, "completed", state="completed", next_run_at=None)
    for name, result in (("nobody", "gone"), ("paused", "ignored"), ("disabled", "ignored"), ("completed", "ignored")):
        reply = home.fire(name)
        assert (name, reply.status, reply.json["result"]) == (name, 200, result)
        assert home.rows(name) == []
    assert nas.calls == []


def test_an_early_fire_is_told_when_to_come_and_arms_nothing(home, nas):
    """The redelivery is the arm: 503 with the seconds left, at most 900."""
    near = home.add("near", "in 5m", "true")
    far = home.add("far", "in 5h", "true")
    reply = home.fire("near", near.isoformat())
    assert (reply.status, reply.json["result"]) == (503, "early")
    assert 290 <= int(reply.header("Retry-After")) <= 300
    assert home.fire("far", far.isoformat()).header("Retry-After") == "900"
    assert nas.calls == []


def test_an_instant_that_no_longer_counts_is_stale_and_the_present_one_is_armed(home, nas):
    """After an edit the old instant is nobody's; NAS has one slot, so the cursor is provisioned again."""
    cursor = home.add("edited", "every 1h", "true")
    reply = home.fire("edited", seconds_from_now(-5))
    assert (reply.status, reply.json["result"]) == (200, "stale")
    assert nas.armed["edited"]["fire_at"] == cursor.isoformat()


def test_a_wake_with_nothing_left_to_do_is_idle(home, nas):
    """A retry or look-again that came too late for its reason is answered 200."""
    home.add("woken", "every 1h", "true")
    home.fire("woken", seconds_from_now(-5))
    path = home.home / "cron/arms/woken.json"
    past = seconds_from_now(-3)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"wake": past, "fire_at": past, "purpose": "look"}))
    reply = home.fire("woken", past)
    assert (reply.status, reply.json["result"]) == (200, "idle")


def test_an_overlapping_occurrence_is_skipped_or_queued(home, tmp_path):
    """What overlap says decides while the last run still goes: skipped is 200, queued is 202."""
    go = tmp_path / "go"
    asked = (("s", Overlap.SKIP, 200, "skipped"), ("q", Overlap.QUEUE, 202, "queued"))
    for name, overlap, _, _ in asked:
        home.add(name, "every 1h", f"until test -e {go}; do sleep 0.05; done", ago=60, overlap=overlap)
        assert home.fire(name).json["result"] == "claimed"
    due = seconds_from_now(-1)
    change_jobs(home, next_run_at=due)
    for name, _, status, result in asked:
        reply = home.fire(name, due)
        assert (name, reply.status, reply.json["result"]) == (name, status, result)
    go.touch()
    assert [row["state"] for row in home.wait_for_rows("s", count=2)] == ["ok", "skipped"]
    assert [row["state"] for row in home.wait_for_rows("q", count=2)] == ["ok", "ok"]


def test_an_occurrence_past_its_grace_is_missed(home):
    """Later than grace it does not start any more; the row says so, and the next one is armed."""
    cursor = home.add("old", "every 1h", "true", ago=600, grace=60)
    reply = home.fire("old", cursor.isoformat())
    assert (reply.status, reply.json["result"]) == (200, "missed")
    assert [row["state"] for row in home.rows("old")] == ["missed"]


def test_the_stop_holds_every_job_and_looks_again_in_a_quarter_of_an_hour(home, nas):
    """Under ESTOP a fire runs nothing and is settled by an arm 15 min ahead; if that fails it is a 503."""
    home.add("held", "every 1h", "true", ago=1)
    (home.home / "ESTOP").write_text("maintenance\n")
    reply = home.fire("held")
    assert (reply.status, reply.json["result"]) == (200, "held")
    ahead = datetime.fromisoformat(nas.armed["held"]["fire_at"]) - datetime.now(UTC)
    assert timedelta(minutes=14, seconds=50) < ahead <= timedelta(minutes=15, seconds=2)
    assert home.rows("held") == []
    nas.answer = down
    refused = home.fire("held")
    assert (refused.status, refused.json["result"], refused.header("Retry-After")) == (503, "held", "30")


def test_a_store_that_stays_locked_is_a_503(home, monkeypatch):
    """Somebody else's lock is waited for, not for ever; nothing was taken and the redelivery is asked for."""
    monkeypatch.setenv("CHRONOS_LOCK_TIMEOUT", "0.2")
    cursor = home.add("beat", "every 1h", "true", ago=1)
    with (home.home / "cron/.jobs.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reply = home.fire("beat")
    assert (reply.status, reply.json["error"]) == (503, {"code": "locked", "retryable": True})
    assert reply.header("Retry-After") == "30"
    assert home.jobs()["beat"]["next_run_at"] == cursor.isoformat()
    assert home.fire("beat").status == 202
    home.wait_for_rows("beat", state="ok")


def test_an_unreadable_store_is_a_503_and_never_no_jobs(home):
    """A damaged jobs.json is not an empty one."""
    (home.home / "cron").mkdir()
    (home.home / "cron/jobs.json").write_text('{"jobs": [')
    assert home.fire("beat").status == 503


def test_without_any_key_a_token_cannot_be_judged(tmp_path, key, nas, monkeypatch):
    """Keys out of reach and none cached: 503, never 401, so that NAS comes again."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch, keys="http://127.0.0.1:9/jwks.json")
    reply = home.fire("beat")
    assert (reply.status, reply.json["error"]["code"]) == (503, "keys_unavailable")
    assert reply.header("Retry-After") is not None
    assert home.request(b"{}", token="junk").status == 401


def test_no_key_configured_refuses_everything(tmp_path, key, nas, monkeypatch):
    """Nothing is ever decoded unsigned."""
    home = ShimHome(tmp_path, key, nas.url, monkeypatch, keys='""')
    assert home.fire("beat").status == 401


def test_a_configuration_that_cannot_be_used_is_a_503_until_it_is_put_right(home, capsys):
    """The request after the repair is served; no restart is needed."""
    good = (home.home / "config.yaml").read_text()
    (home.home / "config.yaml").write_text(good + "callback:\n  mode: sometimes\n")
    reply = home.fire("beat")
    assert (reply.status, reply.json["error"]["code"]) == (503, "config")
    assert capsys.readouterr().err.count("\n") == 1
    (home.home / "config.yaml").write_text(good)
    assert home.fire("beat").json["result"] == "gone"


def test_a_wake_that_could_not_be_armed_is_a_503_and_the_run_goes_on(home, nas):
    """The redelivery of this very fire is then what wakes the job; it finds a duplicate and arms."""
    cursor = home.add("beat", "every 1h", "true", ago=1)
    nas.answer = down
    reply = home.fire("beat", cursor.isoformat())
    assert (reply.status, reply.json["result"], reply.header("Retry-After")) == (503, "claimed", "30")
    home.wait_for_rows("beat", state="ok")
    nas.answer = nas.by_contract
    again = home.fire("beat", cursor.isoformat())
    assert (again.status, again.json["result"]) == (200, "duplicate")
    assert "beat" in nas.armed
    assert len(home.rows("beat")) == 1


def test_a_refusal_for_good_runs_the_job_and_says_so(home, nas):
    """Retrying cannot cure it: 202, and the arm document says `refused`."""
    home.add("beat", "every 1h", "true", ago=1)
    nas.answer = lambda call: Answer(403, {"error": "invalid_client"})
    reply = home.fire("beat")
    assert (reply.status, reply.json["reason"]) == (202, "arm: refused")
    home.wait_for_rows("beat", state="ok")
    until = time.monotonic() + 20
    while home.arm("beat")["state"] != "refused":  # the end of the run asks once more
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_runner_that_cannot_start_is_a_503_that_the_job_shows(home, nas, monkeypatch, tmp_path):
    """The claim stands; the redelivery starts it, and the first good run ends the complaint."""
    cursor = home.add("beat", "every 1h", "true", ago=1)
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'No module named chronos_cli' >&2\nexit 1\n")
    broken.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", str(broken))
        reply = home.fire("beat", cursor.isoformat())
    assert (reply.status, reply.header("Retry-After")) == (503, "30")
    assert "No module named chronos_cli" in home.arm("beat")["last_fire_error"]["detail"]
    assert home.rows("beat") == []
    again = home.fire("beat", cursor.isoformat())
    assert (again.status, again.json["result"]) == (202, "claimed")
    home.wait_for_rows("beat", state="ok")
    assert home.arm("beat").get("last_fire_error") is None


def test_an_interpreter_that_is_gone_is_a_503_too(home, monkeypatch):
    """An upgrade in mid-flight takes the interpreter away: the claim waits for the redelivery."""
    home.add("beat", "every 1h", "true", ago=1)
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/nonexistent/python")
        assert home.fire("beat").status == 503
    assert home.arm("beat")["last_fire_error"]["detail"]
    assert home.fire("beat").status == 202
    home.wait_for_rows("beat", state="ok")


def test_a_fault_of_ours_is_one_json_answer_and_one_line(home, monkeypatch, capsys):
    """An exception that nobody foresaw shows the caller nothing, and the log its type; the text only when debugging."""

    def broken(*_, **__):
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr("chronos_cli.callback.app.admit", broken)
    reply = home.fire("beat")
    assert (reply.status, reply.json) == (500, {"result": "error", "error": {"code": "fault", "retryable": True}})
    said = capsys.readouterr().err
    # A thread of an earlier test's home may still say something of its own.
    assert [line for line in said.splitlines() if "a fault" in line] == [
        "chronos: a fault: ZeroDivisionError; CHRONOS_DEBUG=1 shows where"
    ]
    assert "secret words" not in said
    assert "Traceback" not in said
    monkeypatch.setenv("CHRONOS_DEBUG", "1")
    home.application = type(home.application)()
    home.fire("beat")
    assert "secret words" in capsys.readouterr().err


def test_descriptors_do_not_pile_up(home, nas):
    """A hundred answered fires leave no pipe open, good or bad."""
    home.add("beat", "every 1h", "true", ago=1)
    home.fire("beat")
    home.wait_for_rows("beat", state="ok")
    before = open_descriptors()
    for _ in range(100):
        home.fire("beat", token="x")
        home.fire("beat", seconds_from_now(-1))
        home.request(b"{", path=PATH, token=home.token())
    assert open_descriptors() <= before + 1
    assert nas.connections <= 3
