"""Hints about fires and NAS: the fault is brought about, its hint followed, and the fire or the call goes through."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.nas_client.token_command import run_token_command
from chronos_cli.trust.signature import signed_payload
from tests.agent_home import AgentHome
from tests.errors.hinted import tries
from tests.errors.hints_of_state import in_days
from tests.errors.test_hints_of_the_house import command_in, hint_of, refused
from tests.fire_tokens import SigningKey, serve_jwks
from tests.played_server import Answer, PlayedServer

KEY = SigningKey.es256()
OTHER = SigningKey.es256("ec-2")


@pytest.fixture(scope="module")
def keys():
    """The keys that our tokens are signed with, published."""
    with serve_jwks(KEY) as served:
        yield served


@pytest.fixture(scope="module")
def others():
    """The keys of somebody else."""
    with serve_jwks(OTHER) as served:
        yield served


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Calls that fail are made again at once."""
    monkeypatch.setattr("chronos_cli.nas_client.client._BACKOFF_S", 0.001)


@pytest.fixture
def agent(tmp_path, nas, keys, chronos, request):
    """A home at that NAS with two jobs; `fire` brings a token of our own key to one that came due a second ago."""
    made = AgentHome(tmp_path / "home", nas, name=f"fires-{abs(hash(request.node.name)) % 10**8}")
    made.run = lambda *words, **more: chronos(*words, home=made.home, **more)
    made.config = made.home / "config.yaml"
    made.config.write_text(made.config.read_text().replace(f"{nas.url}/.well-known/jwks.json", keys.url))

    def put(old, new):
        before = made.config.read_text()
        assert old in before
        made.config.write_text(before.replace(old, new))

    def due(job_id, ago=1):
        path = made.home / "cron" / "jobs.json"
        document = json.loads(path.read_text())
        (record,) = (one for one in document["jobs"] if one["id"] == job_id)
        at = (datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=ago)).isoformat()
        record["schedule"] = {"kind": "interval", "minutes": 60, "display": "every 60m"}
        record["next_run_at"] = at
        record["chronos"]["anchor"] = at
        path.write_text(json.dumps(document))
        return at

    def fire(job_id="a", token=None, at=None, of=None, **claims):
        known = {"aud": made.access.audience, "iss": nas.url, **({"job_id": of} if of else {}), **claims}
        text = token or KEY.token(**known)
        words = ("--fire-at", at) if at else ()
        return made.run("fire", "--job-id", job_id, *words, env={"CHRONOS_FIRE_TOKEN": text})

    made.put, made.due, made.fire = put, due, fire
    for job_id in ("a", "b"):
        assert made.run("job", "add", "every 1h", "--id", job_id, "--shell", "true").code == 0
    return made


def checked(agent, name):
    """The doctor's check of that name."""
    return next(one for one in agent.run("doctor", "--json").json["checks"] if one["name"] == name)


@tries("errors.py", "`chronos doctor` compares the audience and issuer expected here with those NAS mints")
@pytest.mark.parametrize(("name", "setting"), [("audience", "expected_audience"), ("issuer", "portal_url")])
def test_a_claim_that_is_not_ours_is_shown_by_the_doctor(agent, nas, name, setting):
    """The doctor tells both values and the setting; with that set the fire goes through."""
    right = agent.access.audience if name == "audience" else nas.url
    agent.put(
        f'{setting}: "{right}"' if name == "audience" else f"{setting}: {right}", f"{setting}: http://127.0.0.1:9"
    )
    refused(agent.fire(), 4, "`chronos doctor` compares the audience and issuer expected here with those NAS mints")
    found = checked(agent, name)
    assert (found["level"], right in found["text"], f"cron.chronos.{setting}" in found["mend"]) == ("FAIL", True, True)
    agent.put(f"{setting}: http://127.0.0.1:9", f'{setting}: "{right}"')
    agent.due("a")
    assert agent.fire().code == 0


@tries(
    "trust/token_errors.py", "set cron.chronos.nas_jwks_url to where the NAS that mints the tokens publishes its keys"
)
@tries("errors.py", "check nas_jwks_url and the network; `chronos doctor` shows the hop")
def test_keys_that_are_not_those_of_nas_are_looked_for_elsewhere(agent, keys, others):
    """Where nobody answers, and where other keys are; with the URL of the right ones the token holds."""
    agent.put(keys.url, others.url)
    words = "set cron.chronos.nas_jwks_url to where the NAS that mints the tokens publishes its keys"
    refused(agent.fire(), 4, words)
    agent.put(others.url, "http://127.0.0.1:9/jwks.json")
    refused(agent.fire(), 75, "check nas_jwks_url and the network; `chronos doctor` shows the hop")
    found = checked(agent, "keys")
    assert (found["level"], "http://127.0.0.1:9/jwks.json" in found["text"]) == ("FAIL", True), found
    agent.put("http://127.0.0.1:9/jwks.json", keys.url)
    agent.due("a")
    assert agent.fire().code == 0
    assert checked(agent, "keys")["level"] == "OK"


@tries("trust/token_errors.py", "fire with a token that NAS minted for a fire, as it came")
@tries("trust/token_errors.py", "name the job and the instant that the token is for")
def test_a_token_is_given_as_it_came_and_for_what_it_is(agent):
    """One that is cut short or made for another end, one for another job or instant: then the right one is taken."""
    at = agent.due("a")
    words = "fire with a token that NAS minted for a fire, as it came"
    refused(agent.fire(token="cut.short"), 4, words)
    refused(agent.fire(purpose="other"), 4, words)
    words = "name the job and the instant that the token is for"
    refused(agent.fire("b", of="a", fire_at=at), 4, words)
    refused(agent.fire(at=in_days(1).isoformat(), of="a", fire_at=at), 4, words)
    assert agent.fire(at=at, of="a", fire_at=at).code == 0


@tries("cli/handlers/fire.py", "give one of them", "name a file that can be read with --token-file")
@tries("cli/handlers/fire.py", "use --token -, --token-file or $CHRONOS_FIRE_TOKEN")
def test_the_token_of_a_fire_is_given_once(agent, nas):
    """None, two, and one in a file that is not there are refused; from a file that is there it is taken."""
    path = agent.home / "fire-token"
    fire = ("fire", "--job-id", "a")
    refused(agent.run(*fire), 2, "use --token -, --token-file or $CHRONOS_FIRE_TOKEN")
    refused(agent.run(*fire, "--token", "x", "--token-file", path), 2, "give one of them")
    refused(agent.run(*fire, "--token-file", path), 2, "name a file that can be read with --token-file")
    path.write_text(KEY.token(aud=agent.access.audience, iss=nas.url))
    agent.due("a")
    assert agent.run(*fire, "--token-file", path).code == 0


@tries(
    "trust/jti.py", "make the home's cache folder writable for whoever serves the callback; `chronos doctor` checks it"
)
def test_a_memory_of_tokens_that_cannot_be_written_is_mended(agent):
    """Something stands where its folder belongs: the doctor says so, and with that gone the fire goes through."""
    memory = agent.home / "cache" / "jti"
    memory.parent.mkdir(exist_ok=True)
    shutil.rmtree(memory, ignore_errors=True)
    memory.write_text("")
    refused(agent.fire(), 75, "make the home's cache folder writable for whoever serves the callback; `chronos doctor`")
    assert checked(agent, "token_memory")["level"] == "WARN"
    memory.unlink()
    agent.due("a")
    assert agent.fire().code == 0
    assert checked(agent, "token_memory")["level"] == "OK"


@tries("trust/signature.py", "ask who runs NAS to publish one that can")
def test_a_published_key_is_one_that_can_be_used():
    """A point that lies on no curve is none; the key in its place is."""
    token = KEY.token()
    broken = KEY.jwk(x="AA", y="AA")
    assert hint_of(lambda: signed_payload(token, "ES256", (broken,))) == "ask who runs NAS to publish one that can"
    assert json.loads(signed_payload(token, "ES256", (KEY.jwk(),)))["purpose"] == "cron_fire"


@tries("cli/handlers/fire.py", "have it delivered again")
@tries("cli/handlers/fire.py", "see `chronos logs")
def test_a_fire_that_waits_comes_again_and_one_that_failed_is_looked_up(agent):
    """Held it asks to be delivered again, and then runs; failed, the command in the hint shows what it wrote."""
    assert agent.run("job", "edit", "a", "--shell", "echo bad; exit 3").code == 0
    agent.due("a")
    assert agent.run("hold", "--on").code == 0
    refused(agent.fire(), 75, "have it delivered again")
    assert agent.run("hold", "--off").code == 0
    line = refused(agent.fire(), 10, "see `chronos logs a/")
    assert "bad" in agent.run(*command_in(line)).out


@tries("errors.py", "name the profile under profiles in config.yaml, or serve its own callback")
def test_a_job_of_a_profile_is_fired_where_that_is_served(agent):
    """At the root it is put off; at the profile's own door it runs."""
    work = agent.home / "profiles" / "work"
    work.mkdir(parents=True)
    (work / "config.yaml").write_text(
        agent.config.read_text().replace("token_file: token", f"token_file: {agent.home}/token")
    )
    (agent.home / "cron" / "jobs.json").rename(work / "jobs")
    (work / "cron").mkdir()
    (work / "jobs").rename(work / "cron" / "jobs.json")
    root, agent.home = agent.home, work
    agent.due("a")
    agent.home = root
    refused(agent.fire(), 75, "name the profile under profiles in config.yaml, or serve its own callback")
    agent.home = work
    assert agent.fire().code == 0


@tries("nas_client/answers.py", "set cron.chronos.portal_url to where NAS itself answers")
@tries(
    "nas_client/answers.py", "check that cron.chronos.portal_url is NAS's address, and that nothing stands in between"
)
@tries("errors.py", "check portal_url and callback_url of cron.chronos; `chronos doctor` shows the hop")
@tries("nas_client/answers.py", "to it as its fires, then `chronos reconcile`")
@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (Answer(302, headers={"Location": "http://elsewhere.example/"}), 75, "set cron.chronos.portal_url to where NAS itself answers"),
        (Answer(200, raw=lambda out: out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<ht>")), 75, "check that cron.chronos.portal_url is NAS's address, and that nothing stands in between"),
        (Answer(404), 2, "check portal_url and callback_url of cron.chronos; `chronos doctor` shows the hop"),
    ],
)  # fmt: skip
def test_what_is_not_nas_is_replaced_by_it(agent, nas, answer, code, words):
    """A server that redirects, one of web pages, one that knows no such path: with NAS's address it goes through."""
    with PlayedServer(answer) as stub:
        agent.put(f"portal_url: {nas.url}", f"portal_url: {stub.url}")
        refused(agent.run("reconcile"), code, words)
        assert checked(agent, "nas")["level"] == "FAIL"
        agent.put(f"portal_url: {stub.url}", f"portal_url: {nas.url}")
    assert agent.run("reconcile").code == 0
    assert checked(agent, "nas")["level"] == "OK"


@tries("errors.py", "ask who runs NAS to provision this agent, then run `chronos reconcile`")
def test_an_agent_that_was_revoked_is_provisioned_again(agent, nas):
    """Whoever runs NAS adds it anew; with the token of that, the command in the hint arms its jobs."""
    revoked = nas.add_agent(f"{agent.access.name}-gone")
    nas.command("agent", "revoke", revoked.name)
    (agent.home / "token").write_text(revoked.token)
    line = refused(agent.run("reconcile"), 4, "ask who runs NAS to provision this agent, then run `chronos reconcile`")
    fresh = nas.add_agent(f"{agent.access.name}-again")
    (agent.home / "token").write_text(fresh.token)
    agent.put(agent.access.audience, fresh.audience)
    assert agent.run(*command_in(line)).code == 0
    assert set(nas.armed(fresh)) == {"a", "b"}


@tries("nas_client/token_command.py", "run it by hand to see what it prints")
@tries("nas_client/token_command.py", "try again later")
def test_a_token_command_waits_for_that_of_another_command(tmp_path):
    """Another command runs its own; once it has ended, this one prints the token."""

    def run():
        return run_token_command(
            ("echo", "t"), home=str(tmp_path), environ=dict(os.environ), timeout_s=5, within_s=0.05
        )

    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert hint_of(run) == "try again later"
    os.close(folder)
    assert (
        run_token_command(("echo", "t"), home=str(tmp_path), environ=dict(os.environ), timeout_s=5, within_s=5).strip()
        == "t"
    )


@tries("cli/commands/cancel.py", "name jobs, or give one of --all and --orphans")
@tries("cli/commands/cancel.py", "cancel again later")
def test_what_is_to_be_cancelled_is_said(agent, nas):
    """By name, or all of it; and again once NAS is there."""
    refused(agent.run("cancel"), 2, "name jobs, or give one of --all and --orphans")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.socket.connect", _nobody_there)
        refused(agent.run("cancel", "a"), 75, "cancel again later")
    assert agent.run("cancel", "a").code == 0
    assert agent.run("cancel", "--all", "--yes").code == 0
    assert nas.armed(agent.access) == {}


def _nobody_there(*_):
    raise ConnectionRefusedError(111, "Connection refused")


@tries("cli/commands/hold.py", "run `chronos reconcile`")
@tries("cli/notify.py", "then `")
def test_what_could_not_be_armed_is_armed_by_the_command_in_the_hint(agent, nas):
    """A hold that was lifted, and jobs that were changed, while NAS was away or refused the token."""
    token = agent.home / "token"
    right = token.read_text()

    def let_it_arm(line):
        token.write_text(right)
        assert agent.run(*command_in(line)).code == 0
        assert set(nas.armed(agent.access)) == {"a", "b"}

    for job_id in ("a", "b"):
        assert agent.run("cancel", job_id).code == 0
    assert agent.run("hold", "--on").code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.socket.connect", _nobody_there)
        line = refused(agent.run("hold", "--off"), 75, "lifted, but not armed: ")
    assert line.endswith(": run `chronos reconcile`")
    let_it_arm(line)
    assert agent.run("hold", "--on").code == 0
    token.write_text("wrong")
    line = refused(agent.run("hold", "--off"), 4, "to a valid token; then run `chronos reconcile`")
    let_it_arm(line)
    token.write_text("wrong")
    line = refused(
        agent.run("job", "edit", "a", "--schedule", "@daily"), 4, "to a valid token; then `chronos reconcile`"
    )
    let_it_arm(line)
    token.write_text("wrong")
    line = refused(
        agent.run("job", "edit", "a", "b", "--schedule", "@weekly"), 4, "to a valid token; then `chronos reconcile`"
    )
    let_it_arm(line)


@tries("cli/handlers/reconcile.py", "see `chronos job show")
def test_a_job_that_cannot_be_armed_is_looked_up_and_put_right(agent):
    """The command in the hint shows the record; without the fault the job is armed."""
    path = agent.home / "cron" / "jobs.json"
    right = path.read_text()
    path.write_text(right.replace('"minutes"', '"minuten"'))
    document = json.loads(right)
    document["jobs"][0]["schedule"] = {"kind": "never"}
    path.write_text(json.dumps(document))
    line = refused(agent.run("arm", "a"), 2, "see `chronos job show a`")
    assert "never" in agent.run(*command_in(line)).out
    path.write_text(right)
    assert agent.run("arm", "a").code == 0
