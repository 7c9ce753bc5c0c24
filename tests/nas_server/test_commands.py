"""The command line: keys that rotate under a running NAS, the dead list, and errors in one line."""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import jwt
import pytest

from chronos_cli.errors import ChronosError, ConfigError, ConflictError
from chronos_cli.nas_server.cli import main
from chronos_cli.nas_server.keys import KeyAlgorithm, KeyRing, generate
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.sqlite import SqliteBackend
from chronos_cli.trust import TrustSettings, verify_fire_token
from tests.conftest import ROOT
from tests.nas_process import Callback, run_nas, running_nas

PAST = "2020-01-01T00:00:00+00:00"


def test_no_key_has_an_id_that_reads_as_an_option(tmp_path):
    """One thumbprint in 64 begins with a dash; `keys retire` must be able to name that key too."""
    pems = [generate(KeyAlgorithm.ES256).decode() for _ in range(400)]
    ids = [KeyRing(tmp_path, time.time, pem=pem).signing().kid for pem in pems]
    assert not [kid for kid in ids if kid.startswith("-")]
    assert len(set(ids)) == len(ids)


def test_keys_rotate_under_a_running_nas(tmp_path):
    """After a rotation both keys are published, new tokens use the new one, and retiring the old takes it out."""
    with Callback() as callback, running_nas(tmp_path) as nas:
        agent = nas.add_agent("a")
        old = nas.command("keys", "list")["keys"][0]
        new = nas.command("keys", "rotate", "--alg", "ES256", "--now")["key"]
        kids = {key["kid"] for key in nas.call("GET", "/.well-known/jwks.json").json["keys"]}
        assert kids == {old["kid"], new["kid"]}
        time.sleep(1.1)
        nas.provision(agent, "job", PAST, callback.url)
        header = jwt.get_unverified_header(callback.wait()[0].token)
        assert (header["alg"], header["kid"]) == ("ES256", new["kid"])
        nas.command("keys", "retire", old["kid"])
        assert [key["kid"] for key in nas.call("GET", "/.well-known/jwks.json").json["keys"]] == [new["kid"]]
        refused = run_nas("keys", "retire", new["kid"], home=nas.home)
        assert refused.returncode == 6
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (nas.home / "keys").iterdir()}
    assert set(modes.values()) == {0o600}
    assert f"{old['kid']}.pem" not in modes


def test_a_home_of_before_goes_from_rs256_to_es256_without_a_refused_fire(tmp_path):
    """New keys are ES256, RS256 on request; an agent that checks every token takes each fire while they change."""
    ring = KeyRing(tmp_path / "nas-home" / "keys", time.time)
    ring.rotate(KeyAlgorithm.RS256, after=0)
    refused, seen = [], []

    def answer(fire):
        try:
            verify_fire_token(fire.token, settings)
        except ChronosError as error:
            refused.append(error.line())
            return 401
        seen.append(jwt.get_unverified_header(fire.token)["alg"])
        return 200

    with Callback(answer) as callback, running_nas(tmp_path) as nas:
        agent = nas.add_agent("a")
        settings = TrustSettings(
            expected_audience=agent.audience,
            issuer=nas.url,
            keys=agent.config["nas_jwks_url"],
            cache_dir=tmp_path / "cache",
            cooldown_s=1,
        )
        count = 0
        for flags in ((), ("--after", "1s"), ("--after", "1s", "--alg", "RS256")):
            if flags:
                nas.command("keys", "rotate", *flags)
            for _ in range(12):
                nas.provision(agent, f"job-{count}", PAST, callback.url)
                count += 1
                time.sleep(0.25)
        callback.wait(count)
    assert refused == []
    assert [alg for alg, _ in itertools.groupby(seen)] == ["RS256", "ES256", "RS256"]
    assert len(seen) == count


def test_the_first_key_and_a_new_one_are_es256(tmp_path):
    """Nobody has to ask for the quick one."""
    ring = KeyRing(tmp_path / "keys", time.time)
    ring.prepare()
    assert ring.signing().alg == "ES256"
    done = run_nas("keys", "rotate", "--json", home=tmp_path)
    assert json.loads(done.stdout)["key"]["alg"] == "ES256"
    done = run_nas("keys", "rotate", "--alg", "RS256", "--json", home=tmp_path)
    assert json.loads(done.stdout)["key"]["alg"] == "RS256"


def test_a_rotated_key_signs_only_once_clients_may_know_it(tmp_path):
    """Without --now the new key is published at once and signs after the JWKS' age; the old one goes ten minutes later."""
    now = [1000.0]
    ring = KeyRing(tmp_path, lambda: now[0])
    ring.prepare()
    old = ring.signing().kid
    new = ring.rotate(KeyAlgorithm.ES256, after=300).kid
    assert {key["kid"] for key in ring.jwks()["keys"]} == {old, new}
    now[0] += 299
    assert ring.signing().kid == old
    now[0] += 2
    assert ring.signing().kid == new
    now[0] += 598
    assert len(ring.jwks()["keys"]) == 2
    now[0] += 5
    assert [key["kid"] for key in ring.jwks()["keys"]] == [new]


def test_the_first_of_keys_whose_time_has_not_come_signs(tmp_path):
    """After a rotation with no key before it, and under a clock that was set back by years."""
    now = [1000.0]
    ring = KeyRing(tmp_path, lambda: now[0])
    first = ring.rotate(KeyAlgorithm.ES256, after=300).kid
    assert ring.signing().kid == first
    now[0] += 400
    second = ring.rotate(KeyAlgorithm.ES256, after=300).kid
    assert ring.signing().kid == first
    now[0] += 310
    assert ring.signing().kid == second
    now[0] = 5.0
    assert ring.signing().kid == first


def test_pages_say_how_long_a_key_taken_back_is_still_believed():
    """NAS lets its list be kept for five minutes, agents keep it no longer, and both pages say so."""
    from chronos_cli.config import Config
    from chronos_cli.nas_server.keys import JWKS_MAX_AGE_S
    from chronos_cli.trust.settings import TrustSettings

    ours = TrustSettings(expected_audience="a", issuer="i", keys="", cache_dir=Path("/"))
    assert {JWKS_MAX_AGE_S, Config(home="/").keys_max_age, ours.max_age_s} == {300}
    assert {Config(home="/").keys_max_stale, ours.max_stale_s} == {3600}
    for page in ("docs/tasks/rotate-keys.md", "docs/nas/deployment.md", "docs/security.md"):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        assert "within five minutes" in text, page
    assert "(an hour) more" in " ".join((ROOT / "docs/tasks/rotate-keys.md").read_text(encoding="utf-8").split())


def test_agents_are_listed_with_the_end_of_their_token_and_when_they_came(tmp_path):
    """`agent add --expires 90d`; the list tells of each whether its token ends, has ended, and when it last called."""
    with running_nas(tmp_path) as nas:
        kept = nas.add_agent("kept")
        nas.add_agent("ends", "--expires", "90d")
        nas.add_agent("over", "--expires-in", "0s")
        before = int(time.time())
        assert nas.call("GET", "/api/agent-cron/list", token=kept.token).status == 200
        assert nas.call("GET", "/api/agent-cron/list", token="cnas_none").status == 401
        found = {one["name"]: one for one in nas.command("agent", "list")["agents"]}
        text = run_nas("agent", "list", home=nas.home).stdout.splitlines()
        nas.command("agent", "rotate", "ends", "--overlap", "1h")
        after = {one["name"]: one for one in nas.command("agent", "list")["agents"]}
    assert found["kept"]["expires_at"] is None
    assert datetime.fromisoformat(found["kept"]["last_seen_at"]).timestamp() >= before
    ends = datetime.fromisoformat(found["ends"]["expires_at"]).timestamp()
    assert abs(ends - before - 90 * 86_400) < 60
    assert (found["ends"]["last_seen_at"], found["over"]["last_seen_at"]) == (None, None)
    said = {line.split()[0]: line for line in text}
    assert re.search(r"  does not expire +20\d\d-", said["kept"])
    assert "  expires 20" in said["ends"]
    assert said["ends"].endswith("  never")
    assert "  expired 20" in said["over"]
    assert after["ends"]["expires_at"] is None, "its new token does not end"


def test_an_agent_is_let_in_where_its_coming_cannot_be_noted(tmp_path):
    """A registry that takes no change right now answers who may come in all the same."""
    backend = SqliteBackend(tmp_path / "nas.sqlite")
    backend.prepare()
    roster = AgentRegister(backend, time.time)
    token = roster.add("one").token

    def refuse(_work):
        raise RegistryUnavailableError("busy")

    backend.write, write = refuse, backend.write
    assert roster.authenticate(token).name == "one"
    backend.write = write
    assert roster.all()[0].seen_at is None
    backend.close()


def test_a_key_from_a_file_or_variable_stands_alone(tmp_path):
    """A key given from outside signs, is published, and is not rotated here; a bad one is a clear error."""
    ring = KeyRing(tmp_path, time.time, pem=generate(KeyAlgorithm.ES256).decode())
    assert ring.signing().alg == "ES256"
    assert len(ring.jwks()["keys"]) == 1
    with pytest.raises(ConflictError, match="from outside"):
        ring.rotate(KeyAlgorithm.RS256, after=0)
    with pytest.raises(ConfigError, match="no private key"):
        KeyRing(tmp_path, time.time, pem="nonsense")
    done = run_nas("keys", "list", home=tmp_path, env={"CHRONOS_NAS_SIGNING_KEY_FILE": str(tmp_path / "none.pem")})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_key_that_others_can_read_is_not_used(tmp_path):
    """A private key with a wider mode than 0600 stops the service, naming the file."""
    ring = KeyRing(tmp_path, time.time)
    ring.prepare()
    path = next(tmp_path.glob("*.pem"))
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="readable by others") as caught:
        ring.signing()
    assert str(path) in caught.value.hint


def test_what_is_given_up_is_on_the_dead_list_and_can_be_redriven(tmp_path):
    """A fire refused for too long is dead, shown with its reason, and delivered when it is redriven."""
    flags = ("--retry-base", "0.1", "--give-up-after", "1s")
    with Callback(410) as callback, running_nas(tmp_path, *flags) as nas:
        agent = nas.add_agent("a")
        nas.provision(agent, "job", PAST, callback.url)
        nas.wait_for("dead", job_id="job")
        entry = nas.dead()[0]
        assert entry["last_error"].startswith("answered 410")
        assert nas.armed(agent) == {}
        assert nas.command("dead", "show", entry["delivery"])["dead"] == entry
        callback.answer = 200
        nas.command("dead", "redrive", entry["delivery"])
        nas.wait_for("relayed", outcome="delivered")
        assert nas.dead() == []
        assert callback.fires[-1].headers["chronos-delivery"] == entry["delivery"]
        assert run_nas("dead", "show", "nothing", home=nas.home).returncode == 5


def test_two_servers_of_one_file_are_refused(tmp_path):
    """A second process on the same SQLite file ends at once, saying why."""
    with running_nas(tmp_path) as nas:
        done = run_nas("serve", "--port", "0", home=nas.home)
        assert done.returncode == 6
        assert "another chronos-nas" in done.stderr
        port = nas.url.rsplit(":", 1)[1]
        done = run_nas("serve", "--port", port, home=tmp_path / "other")
        assert done.returncode == 6
        assert "cannot listen" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("bogus",), 2),
        (("serve", "--port", "x"), 2),
        (("serve", "--role", "web"), 2),
        (("serve", "--role", "nothing"), 2),
        (("serve", "--db", "mysql://x"), 2),
        (("serve", "--relay-timeout", "1h"), 2),
        (("serve", "--allow-callback-network", "x"), 2),
        (("serve", "--db", "sqlite:////proc/nowhere/x"), 2),
        (("agent", "add", "no spaces"), 2),
        (("agent", "list"), 2),
        (("keys", "rotate", "--alg", "HS256"), 2),
        (("conformance", "--portal-url", "http://127.0.0.1:9"), 2),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(arguments, code, tmp_path):
    """Every mistake gives one line on stderr, with what to do next, and with --json a document too."""
    done = run_nas(*arguments, "--json", home=tmp_path)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    assert (document["ok"], document["error"]["code"]) == (False, document["error"]["code"])
    assert document["schema"].endswith("/1")


def test_the_lines_to_paste_are_yaml_with_the_agents_audience(tmp_path):
    """What `agent add` prints for people can be pasted into a config file as it is."""
    import yaml

    done = run_nas("agent", "add", "a1", "--callback-url", "https://me.example", home=tmp_path)
    config = yaml.safe_load(done.stdout.split("\n\n", 1)[1])["cron"]
    assert config["provider"] == "chronos"
    assert config["chronos"]["callback_url"] == "https://me.example"
    assert config["chronos"]["expected_audience"].startswith("agent:")
    assert config["chronos"]["nas_jwks_url"] == "http://127.0.0.1:8787/.well-known/jwks.json"
    assert stat.S_IMODE((tmp_path / "nas.sqlite").stat().st_mode) == 0o600
    listed = run_nas("agent", "list", home=tmp_path)
    assert "a1" in listed.stdout
    assert "cnas_" not in listed.stdout


def test_the_command_starts_light():
    """Parsing the command line imports no server, no HTTP client and no cryptography."""
    code = (
        "import sys; from chronos_cli.nas_server.cli import build; build();"
        "print([n for n in ('requests','jwt','yaml','rich','waitress','psycopg','sqlite3','cryptography') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("fault", "said"),
    [(ZeroDivisionError("surprise"), "unexpected ZeroDivisionError: surprise: run it again with CHRONOS_DEBUG=1"),
     (OSError(28, "No space left on device", "keys"), "the machine refused: keys: No space left on device: see that")],
)  # fmt: skip
def test_a_fault_of_ours_or_of_the_machine_is_one_line(tmp_path, monkeypatch, capsys, fault, said):
    """Whatever ends a command, it is one line and exit 1; the traceback comes where it is asked for."""

    def broken(*_, **__):
        raise fault

    monkeypatch.setattr("chronos_cli.nas_server.cli.timers.locate", broken)
    monkeypatch.setenv("CHRONOS_NAS_HOME", str(tmp_path))
    monkeypatch.delenv("CHRONOS_DEBUG", raising=False)
    assert main(["timers", "--json"]) == 1
    done = capsys.readouterr()
    assert done.err.startswith(f"chronos-nas: {said}")
    assert done.err.count("\n") == 1
    assert json.loads(done.out)["error"]["message"] == said.rpartition(": ")[0]
    if not isinstance(fault, OSError):
        monkeypatch.setenv("CHRONOS_DEBUG", "1")
        assert main(["timers"]) == 1
        assert "Traceback" in capsys.readouterr().err
