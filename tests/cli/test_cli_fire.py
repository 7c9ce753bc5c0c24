"""`chronos fire`: good tokens and bad ones, what is answered, and what a job can see of a token."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from tests.cli.conftest import ROOT, spawn, spawn_program, tree
from tests.fire_tokens import AUDIENCE, ISSUER, SigningKey, serve_jwks
from tests.inherited import DUMP, differences
from tests.nas_client.played_nas import played_nas

KEY = SigningKey.rs256()
OTHER = SigningKey.rs256(other=True)


@pytest.fixture(scope="module")
def keys():
    """The keys of NAS, published."""
    with serve_jwks(KEY) as server:
        yield server


played = played_nas()


@pytest.fixture
def fire_home(home, keys, chronos):
    """A home with one job that came due a second ago, and trust in those keys."""
    (home / "config.yaml").write_text(
        f"timezone: UTC\ncron:\n  chronos:\n    portal_url: {ISSUER}\n    expected_audience: {AUDIENCE}\n"
        f"    nas_jwks_url: {keys.url}\n"
    )
    words = ("--shell", 'test "$FAIL" = "" || { echo bad; exit 3; }')
    assert chronos("job", "add", "@hourly", "--id", "a", *words, home=home).code == 0
    return home


def due(home, ago=1):
    """Move the job's cursor to just now, and return it."""
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=ago)
    document["jobs"][0]["schedule"] = {"kind": "interval", "minutes": 60, "display": "every 60m"}
    document["jobs"][0]["next_run_at"] = at.isoformat()
    document["jobs"][0].setdefault("chronos", {})["anchor"] = at.isoformat()
    path.write_text(json.dumps(document))
    return at.isoformat()


def bound(at, **claims):
    """A good token for that occurrence."""
    return KEY.token(job_id="a", fire_at=at, **claims)


def test_a_good_token_runs_the_job_once(chronos, fire_home):
    """The first delivery claims and runs; the same again is a duplicate; both exit 0."""
    at = due(fire_home)
    token = bound(at)
    (fire_home / "t").write_text(token)
    words = ("fire", "--job-id", "a", "--fire-at", at, "--token-file", fire_home / "t", "--json")
    first = chronos(*words, home=fire_home)
    assert (first.code, first.json["result"]) == (0, "claimed")
    assert [row["state"] for row in first.json["rows"]] == ["ok"]
    second = chronos(*words, home=fire_home)
    assert (second.code, second.json["result"], second.json["rows"]) == (0, "duplicate", [])
    assert len(chronos("history", "a", "--json", home=fire_home).json["rows"]) == 1


def test_a_failing_job_exits_10_with_one_reason_everywhere(chronos, fire_home):
    """The reason on the row, in the error, on stderr and in the list's first line is one and the same."""
    at = due(fire_home)
    done = spawn("fire", "--job-id", "a", "--token", "-", "--json", home=fire_home, stdin=bound(at), env={"FAIL": "1"})
    document = json.loads(done.out)
    assert done.code == 10
    reason = document["error"]["message"]
    assert document["rows"][0]["reason"] == reason
    assert f"chronos: error: {reason}: " in done.err
    assert reason in chronos("list", "--offline", home=fire_home).out.splitlines()[1]


def test_a_detached_fire_answers_once_the_run_has_started(chronos, fire_home):
    """With --detach the row says running when the command returns, and the run ends on its own."""
    at = due(fire_home)
    env = {"CHRONOS_FIRE_TOKEN": bound(at)}
    done = chronos("fire", "--job-id", "a", "--detach", "--json", home=fire_home, env=env)
    assert (done.code, done.json["result"]) == (0, "claimed")
    run = done.json["runs"][0]
    assert chronos("logs", f"a/{run}", "-f", home=fire_home).code == 0
    assert chronos("history", "a", "--json", home=fire_home).json["rows"][0]["state"] == "ok"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no runner is forked")
def test_the_runner_that_a_command_forks_is_as_one_that_is_started(chronos, fire_home):
    """Session, descriptors, signals, mask, limits and environment are the same, of the runner and of the job.

    A command that is a process of its own forks its runner; one within another program starts it.
    """
    (fire_home / "dump.py").write_text(DUMP)
    edit = ("job", "edit", "a", "--shell", f"exec {sys.executable} -I -S {fire_home / 'dump.py'}")
    assert chronos(*edit, home=fire_home).code == 0
    within = "import sys; from chronos_cli.cli import main; sys.exit(main(sys.argv[1:]))"
    said = []
    for ago, way in ((2, ("-m", "chronos_cli")), (1, ("-c", within))):  # two occurrences, however quick the first is
        env = {"CHRONOS_FIRE_TOKEN": bound(due(fire_home, ago)), "PYTHONPATH": str(ROOT)}
        done = spawn("fire", "--job-id", "a", "--detach", "--json", home=fire_home, env=env, python=way)
        run = json.loads(done.out)["runs"][0]
        assert chronos("logs", f"a/{run}", "-f", home=fire_home).code == 0
        said.append(json.loads((fire_home / "cron" / "output" / "a" / f"{run}.log").read_text()))
    assert ["--claimed" in each["words"] for each in said] == [False, True]
    assert differences(said[1]["dump"], said[0]["dump"]) == {}


def now():
    """Seconds since the epoch."""
    return int(datetime.now(UTC).timestamp())


BAD = {
    "expired": lambda at: bound(at, exp=now() - 40),
    "audience": lambda at: bound(at, aud="agent:other"),
    "issuer": lambda at: bound(at, iss="https://other.example"),
    "purpose": lambda at: bound(at, purpose="login"),
    "signature": lambda at: OTHER.token(job_id="a", fire_at=at),
    "algorithm none": lambda at: jwt.encode(KEY.claims(job_id="a", fire_at=at), None, algorithm="none"),
    "algorithm HS256": lambda at: jwt.encode(KEY.claims(job_id="a", fire_at=at), "s" * 32, algorithm="HS256"),
    "another job": lambda at: KEY.token(job_id="b", fire_at=at),
    "malformed": lambda _: "not-a-token",
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_token_is_one_line_exit_4_and_nothing_written(chronos, fire_home, case):
    """Whatever is wrong with a token, the store is not even read, and stderr says which claim it was."""
    at = due(fire_home)
    (fire_home / "cron" / "jobs.json").chmod(0o600)
    before = tree(fire_home / "cron")
    env = {"CHRONOS_FIRE_TOKEN": BAD[case](at)}
    done = chronos("fire", "--job-id", "a", "--json", home=fire_home, env=env)
    assert done.code == 4
    assert done.err.count("\n") == 1
    assert env["CHRONOS_FIRE_TOKEN"] not in done.out + done.err
    assert "Traceback" not in done.err
    assert tree(fire_home / "cron") == before


def test_a_token_is_judged_before_the_store_is_read(chronos, fire_home):
    """With a corrupt store a bad token is still refused as a bad token."""
    at = due(fire_home)
    (fire_home / "cron" / "jobs.json").write_text("{")
    env = {"CHRONOS_FIRE_TOKEN": BAD["audience"](at)}
    assert chronos("fire", "--job-id", "a", home=fire_home, env=env).code == 4
    assert chronos("fire", "--job-id", "a", home=fire_home, env={"CHRONOS_FIRE_TOKEN": bound(at)}).code == 1


@pytest.mark.parametrize(
    ("job_id", "code", "result"), [("gone", 0, "gone"), ("a", 75, "early"), ("no/slash", 2, None), ("held", 75, "held")]
)
def test_the_exit_codes_of_the_table(chronos, fire_home, job_id, code, result):
    """Unknown, early, malformed and held fires answer as the protocol's table says."""
    at = due(fire_home, ago=-3000)
    if job_id == "held":
        assert chronos("hold", "--on", home=fire_home).code == 0
        job_id = "a"
    env = {"CHRONOS_FIRE_TOKEN": KEY.token(fire_at=at)}
    done = chronos("fire", "--job-id", job_id, "--fire-at", at, "--json", home=fire_home, env=env)
    assert done.code == code, done
    assert done.json.get("result") == result


def test_a_token_is_needed_and_one_source_at_a_time(chronos, fire_home):
    """No token, or two, is a usage error; on the command line there is a warning."""
    assert chronos("fire", "--job-id", "a", home=fire_home).code == 2
    assert chronos("fire", "--job-id", "a", "--token", "x", "--token-file", "y", home=fire_home).code == 2
    assert chronos("fire", "--job-id", "a", "--token-file", fire_home / "none", home=fire_home).code == 2
    done = chronos("fire", "--job-id", "a", "--token", bound(due(fire_home)), home=fire_home)
    assert done.code == 0
    assert done.err.count("can be seen by others") == 1


def test_the_job_sees_no_token_of_the_process_that_fires_it(fire_home):
    """Neither the job's environment nor its parents' environment and arguments, read in /proc, hold the token."""
    at = due(fire_home)
    path = fire_home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    look = "env; cat /proc/$PPID/environ /proc/$PPID/cmdline; for p in /proc/[0-9]*; do cat $p/cmdline; done"
    document["jobs"][0]["chronos"]["action"] = {"shell": f"({look}) 2>/dev/null | tr '\\0' '\\n'"}
    path.write_text(json.dumps(document))
    token = bound(at)
    done = spawn_program(
        "fire", "--job-id", "a", "--token", token, home=fire_home, env={"CHRONOS_NAS_TOKEN": "canary-nas"}
    )
    assert done.code == 0, done
    output = next((fire_home / "cron" / "output" / "a").iterdir()).read_text()
    assert "CHRONOS_JOB_ID=a" in output
    assert token not in output
    assert "canary-nas" not in output


def test_keys_that_cannot_be_had_are_exit_75(chronos, fire_home, tmp_path):
    """No key server and no cache: try again later, nothing is read or written."""
    env = {"CHRONOS_FIRE_TOKEN": bound(due(fire_home)), "CHRONOS_NAS_JWKS_URL": "http://127.0.0.1:9/jwks.json"}
    before = tree(fire_home / "cron")
    done = chronos("fire", "--job-id", "a", "--json", home=fire_home, env=env)
    assert (done.code, done.json["error"]["code"]) == (75, "keys_unavailable")
    assert tree(fire_home / "cron") == before


def asking(at, **claims):
    """A good token that asks for the next wake in the answer."""
    return bound(at, arm="answer", generation=3, **claims)


def armed_home(fire_home, nas):
    """The home with a way to NAS; that one keeps its slot and takes wakes from answers."""
    nas.features = ["generation", "keeps-slot", "arm-in-answer"]
    (fire_home / "nas-token").write_text("t")
    (fire_home / "nas-token").chmod(0o600)
    path = fire_home / "config.yaml"
    text = path.read_text().replace(
        "  chronos:\n",
        "  provider: chronos\n  chronos:\n    callback_url: http://127.0.0.1:9\n    token_file: nas-token\n",
    )
    path.write_text(text.replace(ISSUER, nas.url))
    return fire_home


@pytest.mark.parametrize("flags", [(), ("--detach",)])
def test_the_whole_answer_is_printed_for_a_shim_that_hands_it_on(chronos, fire_home, played, flags):
    """With --answer stdout is the body: the result, the contract's status and the next wake, which plain `fire` sends."""
    home = armed_home(fire_home, played)
    at = due(home)
    (home / "t").write_text(asking(at, iss=played.url))
    words = ("fire", "--job-id", "a", "--fire-at", at, "--token-file", home / "t", *flags)
    told = chronos(*words, "--answer", home=home)
    assert told.code == 0, told.err
    body = json.loads(told.out)
    assert (body["result"], body["status"]) == ("claimed", "accepted")
    following = (datetime.fromisoformat(at) + timedelta(hours=1)).isoformat()
    assert body["next"]["fire_at"] == following
    assert body["next"]["generation"] > 3
    whole = chronos(*words, "--answer", "--json", home=home).json
    assert (whole["schema"], whole["next"]["fire_at"]) == ("chronos.fire/1", following)
    plain = chronos(*words, "--json", home=home).json
    assert {"next", "status"} & plain.keys() == set()
    assert [call.body["fire_at"] for call in played.calls if call.path.endswith("provision")][-1] == following


def test_what_is_refused_has_the_body_of_the_callback(chronos, fire_home):
    """A hook hands on the same words for every bad token; the reason stays on stderr."""
    (fire_home / "t").write_text("forged")
    told = chronos("fire", "--job-id", "a", "--token-file", fire_home / "t", "--answer", home=fire_home)
    assert (told.code, json.loads(told.out)) == (4, {"result": "refused"})
    assert "forged" not in told.out + told.err
