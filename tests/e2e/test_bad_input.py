"""What goes wrong says so in one line with what to do next, by the exit code of the table, and writes nothing."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from tests import forked
from tests.fire_tokens import SigningKey
from tests.played_server import Answer, PlayedServer

ROOT = Path(__file__).resolve().parents[2]
AUDIENCE = "agent:7f3"
ISSUER = "https://portal.example.com"
KEY = SigningKey.rs256()
JOB = {
    "id": "known", "name": "Known", "schedule": {"kind": "interval", "minutes": 60, "display": "every 60m"},
    "enabled": True, "state": "scheduled", "next_run_at": "2099-01-01T00:00:00+00:00", "no_agent": True,
    "chronos": {"timezone": "UTC", "action": {"shell": "echo ran >> diary"}},
}  # fmt: skip


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    (folder / "cron").mkdir(parents=True)
    (folder / "cron" / "jobs.json").write_text(json.dumps({"jobs": [JOB]}))
    (folder / "keys.json").write_text(json.dumps(KEY.jwks()))
    configure(folder, "https://portal.example.com")
    return folder


def configure(home, portal, extra=""):
    (home / "config.yaml").write_text(
        f"""timezone: UTC
cron:
  provider: chronos
  chronos:
    portal_url: {portal}
    callback_url: https://agent.example.com
    expected_audience: "{AUDIENCE}"
    nas_jwks_url: {home}/keys.json
    timeout: 1
{extra}"""
    )


def chronos(home, *arguments, stdin=None, **env):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CHRONOS_")}
    env = kept | {"PYTHONPATH": str(ROOT), "CHRONOS_HOME": str(home), "CHRONOS_NAS_TOKEN": "nas-secret"} | env
    return forked.run(arguments, env=env, input=stdin or "", timeout=90)


def snapshot(home):
    """Every file that is not a lock or a cache, with its bytes."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and path.name != ".jobs.lock" and "cache" not in path.parts
    }


def refuses(home, done, code, *said):
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line and "process list" not in line]
    assert len(lines) == 1, done.stderr
    for text in said:
        assert text in lines[0]
    assert "nas-secret" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("schedule", "said"),
    [("nonsense", "every 30m"), ("30m", "in 30m"), ("* * * * * *", "every 10s"), ("0 0 31 2 *", "31 2"),
     ("every 0s", "above zero"), ("2020-01-01T00:00", "past"), ("61 * * * *", "minute")],
)  # fmt: skip
def test_a_wrong_schedule_is_refused_with_what_to_write_instead(home, schedule, said):
    """No schedule that cannot be meant gets in."""
    before = snapshot(home)
    refuses(home, chronos(home, "job", "add", schedule, "--command", "true"), 2, said)
    assert snapshot(home) == before


def test_an_unknown_job_is_named_with_a_near_miss(home):
    """A typo gets a suggestion and exit 5."""
    before = snapshot(home)
    refuses(home, chronos(home, "job", "show", "knwon"), 5, "knwon", "known")
    assert snapshot(home) == before


@pytest.mark.parametrize("content", [b"", b"{", b'{"jobs": 7}', b"\xff\xfe nonsense", b"[1, 2", b'"text"'])
def test_a_corrupt_store_is_never_read_as_no_jobs_and_never_overwritten(home, content):
    """Every command that needs the store says that it cannot be read, and leaves it as it is."""
    (home / "cron" / "jobs.json").write_bytes(content)
    before = snapshot(home)
    for command in (("list", "--offline"), ("job", "add", "every 1h", "--command", "true"), ("job", "pause", "known")):
        refuses(home, chronos(home, *command), 1, "jobs.json")
    assert snapshot(home) == before


BAD = {
    "refuse": Answer(403, {"error": "invalid_client"}),
    "unauthenticated": Answer(401),
    "garbage": Answer(200, b"<html>login</html>"),
    "broken": Answer(500, b"oops"),
    "redirect": Answer(302, b"", {"Location": "http://127.0.0.1:1/elsewhere"}),
    "stall": Answer(raw=lambda _: time.sleep(3)),
}


@pytest.mark.parametrize(
    ("mode", "code", "said"),
    [("refuse", 4, "refuse"), ("unauthenticated", 4, "token"), ("garbage", 75, "NAS"), ("broken", 75, "500"),
     ("redirect", 75, "redirect"), ("stall", 75, "NAS")],
)  # fmt: skip
def test_a_bad_nas_changes_nothing(home, mode, code, said):
    """A NAS that refuses, stalls or answers garbage: one line, the right code, and no arm is forgotten or made up."""
    with PlayedServer(BAD[mode]) as nas:
        configure(home, nas.url)
        before = snapshot(home)
        refuses(home, chronos(home, "reconcile"), code, said)
        assert snapshot(home) == before


def test_a_nas_that_is_down_changes_nothing(home):
    """Nobody listens: exit 75, and nothing is written."""
    configure(home, "http://127.0.0.1:9")
    before = snapshot(home)
    refuses(home, chronos(home, "reconcile"), 75, "NAS")
    assert snapshot(home) == before


def good_claims():
    now = datetime.now(UTC)
    return {
        "aud": AUDIENCE, "iss": ISSUER, "purpose": "cron_fire", "job_id": "known", "iat": int(now.timestamp()),
        "exp": int((now + timedelta(seconds=90)).timestamp()),
    }  # fmt: skip


def bad_tokens():
    past = int((datetime.now(UTC) - timedelta(minutes=5)).timestamp())
    other = SigningKey.rs256(other=True)
    return {
        "garbage": "not-a-token",
        "expired": KEY.token(**(good_claims() | {"exp": past})),
        "audience": KEY.token(**(good_claims() | {"aud": "agent:other"})),
        "issuer": KEY.token(**(good_claims() | {"iss": "https://evil.example.com"})),
        "purpose": KEY.token(**(good_claims() | {"purpose": "login"})),
        "other job": KEY.token(**(good_claims() | {"job_id": "another"})),
        "wrong key": other.token(**good_claims()),
        "none": jwt.encode(good_claims(), None, algorithm="none"),
        "hs256": jwt.encode(good_claims(), "x" * 40, algorithm="HS256"),
    }


@pytest.mark.parametrize("name", list(bad_tokens()))
def test_a_bad_token_starts_nothing(home, name):
    """Each bad token is refused with exit 4 and one line that holds no token, for a known and an unknown job alike."""
    token = bad_tokens()[name]
    before = snapshot(home)
    for job_id in ("known", "unknown"):
        done = chronos(home, "fire", "--job-id", job_id, "--token", "-", stdin=token)
        refuses(home, done, 4)
        assert token not in done.stderr + done.stdout
    assert snapshot(home) == before


@pytest.mark.parametrize("job_id", ["../x", "--help", "-x", "a b", "x" * 129, ""])
def test_an_odd_job_id_is_refused(home, job_id):
    """A job id that could be an option or a path starts nothing."""
    token = KEY.token(**{k: v for k, v in good_claims().items() if k != "job_id"})
    done = chronos(home, "fire", f"--job-id={job_id}", "--token", "-", stdin=token)
    refuses(home, done, 2)


def test_a_good_token_for_a_job_that_is_gone_is_answered_and_starts_nothing(home):
    """A verified fire for an unknown job is done: 0, so that NAS stops calling."""
    token = KEY.token(**(good_claims() | {"job_id": "gone"}))
    done = chronos(home, "fire", "--job-id", "gone", "--token", "-", "--json", stdin=token)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"] == "gone"
