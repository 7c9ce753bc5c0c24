"""`doctor --probe` against a real NAS and a real callback: the whole circle, and each hop that can fail."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.operations.doctor.callback_probe import runners_told
from tests.agent_home import AgentHome, running_agent
from tests.nas_process import Callback, running_nas
from tests.played_server import Answer, PlayedServer

PROBE = "chronos.probe"


@pytest.fixture(scope="module")
def nas(tmp_path_factory):
    with running_nas(tmp_path_factory.mktemp("nas"), "--retry-base", "0.3") as running:
        yield running


def probed(agent, *more):
    """The checks of a probe by name, its exit code, and how long it took."""
    done = agent.chronos("doctor", "--probe", "--json", *more)
    document = json.loads(done.stdout)
    return {check["name"]: check for check in document["checks"]}, done


def levels(agent):
    """The levels of the checks without a probe."""
    return {check["name"]: check["level"] for check in json.loads(agent.chronos("doctor", "--json").stdout)["checks"]}


def at_once(function, values):
    """The results for all values; a probe is mostly waiting."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(function, values))


def change(agent, key, value):
    path = agent.home / "config.yaml"
    lines = [f"    {key}: {value}" if f"{key}:" in line else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def test_the_whole_circle_is_proven(tmp_path, nas):
    """NAS takes the one-shot, calls through the public address, the call is verified and written down, and nothing runs.

    A hold stops jobs, not the proof that they could be called.
    """
    with running_agent(tmp_path, nas, name="good") as agent:
        assert levels(agent)["audience"] == "WARN"
        told = {"at": datetime.now(UTC).isoformat(), "code": "audience", "message": "the audience is b", "hint": "x"}
        (agent.home / "cache").mkdir(mode=0o700, exist_ok=True)
        (agent.home / "cache" / "refused.json").write_text(json.dumps(told))
        assert levels(agent)["audience"] == "FAIL"
        assert agent.chronos("hold", "--reason", "test").returncode == 0
        checks, done = probed(agent)
        assert done.returncode == 0, checks
        assert [checks[name]["level"] for name in ("probe_armed", "probe_received", "probe_slot")] == ["OK"] * 3
        assert "keeps" in checks["probe_slot"]["text"]
        assert "its runners: 'fires within 60 s" in checks["probe_received"]["text"], "as the callback itself says"
        assert checks["hold"]["level"] == "WARN"
        assert checks["audience"]["level"] == "OK", "what was refused before the probe is over with it"
        # A fire was accepted since the configuration was written: now the claims are known too.
        after = levels(agent)
        assert (after["audience"], after["issuer"]) == ("OK", "OK")
        noted = json.loads((agent.home / "cron/probe.json").read_text())
        assert datetime.fromisoformat(noted["received_at"]) >= datetime.fromisoformat(noted["fire_at"])
        assert noted["delivery_id"]
        assert not (agent.home / "cron/runs").exists()
        assert not (agent.home / "cron/jobs.json").exists()
        assert nas.armed(agent.access) == {}, "what was armed for the probe is gone"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"ok": true, "runner_because": "each is started anew"}', "each is started anew"),
        (b'{"runner_because": 5}', None), (b"[]", None), (b"<html>", None), (b"", None),
    ],
)  # fmt: skip
def test_the_callback_is_asked_how_its_runners_start(body, told):
    """In the process that serves it something may replace threads, of which nobody else knows; a page tells nothing."""
    with PlayedServer(lambda call: Answer(200 if call.path == "/below/healthz" else 404, body)) as server:
        assert runners_told(f"{server.url}/below/") == told
        assert runners_told(server.url) is None
    assert runners_told(server.url) is None


@pytest.mark.soak
def test_a_callback_that_began_with_another_audience_is_to_be_restarted(tmp_path, nas):
    """Set right, the setting is no cure while the callback goes by the old one; with a restart the probe comes through."""
    agent = AgentHome(tmp_path / "home", nas, name="restarted")
    change(agent, "expected_audience", "agent:other")
    agent.start_shim()
    try:
        assert "set cron.chronos.expected_audience in config.yaml" in probed(agent)[0]["audience"]["mend"]
        change(agent, "expected_audience", agent.access.audience)
        checks = json.loads(agent.chronos("doctor", "--json").stdout)["checks"]
        (found,) = [check for check in checks if check["name"] == "audience"]
        assert found["mend"] == "restart the callback, which began with another setting, then chronos doctor --probe"
    finally:
        agent.stop_shim()
    agent.start_shim()
    try:
        checks, done = probed(agent)
        assert (done.returncode, checks["audience"]["level"]) == (0, "OK"), checks
    finally:
        agent.stop_shim()


def test_the_probe_s_id_is_no_job_s(tmp_path, nas):
    """No job can be given the probe's id, and where another program put one there the probe does not touch it."""
    agent = AgentHome(tmp_path / "home", nas, name="reserved")
    refused = agent.chronos("job", "add", "every 1h", "--id", PROBE, "--command", "true")
    assert refused.returncode == 2
    assert "doctor --probe" in refused.stderr
    (agent.home / "cron").mkdir(exist_ok=True)
    (agent.home / "cron/jobs.json").write_text(json.dumps({"jobs": [{"id": PROBE, "enabled": False}]}))
    assert probed(agent)[0]["probe_armed"]["code"] == "conflict"
    assert not (agent.home / "cron/probe.json").exists()


def test_a_late_probe_is_answered_and_arms_nothing(tmp_path, nas):
    """A fire of the probe that nobody waits for is answered with 200, so that NAS does not call again."""
    with running_agent(tmp_path, nas, name="late") as agent:
        nas.provision(agent.access, PROBE, datetime.now(UTC) + timedelta(seconds=1), f"http://127.0.0.1:{agent.port}")
        nas.wait_for("relayed", agent=agent.access.audience, job_id=PROBE, outcome="delivered")
        assert nas.armed(agent.access) == {}
        assert not (agent.home / "cron/probe.json").exists()


def test_a_claim_that_is_not_as_expected_is_named(tmp_path, nas):
    """A token that NAS signed for another audience, or as another issuer, is refused, and the claim is named with its mend."""
    port = nas.url.rsplit(":", 1)[1]
    wrong = {
        "audience": ("expected_audience", '"agent:somebody-else"'),
        "issuer": ("portal_url", f"http://localhost:{port}"),
    }

    def look(code):
        key, value = wrong[code]
        agent = AgentHome(tmp_path / code, nas, name=f"wrong-{code}")
        change(agent, key, value)
        agent.start_shim()
        try:
            return agent, *probed(agent, "--wait", "2")
        finally:
            agent.stop_shim()

    for code, (agent, checks, done) in zip(wrong, at_once(look, wrong), strict=True):
        failed = checks["probe_received"]
        assert (failed["level"], failed["code"], done.returncode) == ("FAIL", code, 1)
        assert f"cron.chronos.{wrong[code][0]}" in failed["mend"]
        assert "expected" in failed["text"]
        assert levels(agent)[code] == "FAIL", "it is remembered without a probe"
        assert nas.armed(agent.access) == {}


def test_a_callback_where_nobody_listens_is_named(tmp_path, nas):
    """With nobody at callback_url the failing hop is the callback, and the address is in the line."""
    agent = AgentHome(tmp_path / "home", nas, name="dead-port")
    checks, done = probed(agent, "--wait", "1")
    failed = checks["probe_received"]
    assert (failed["code"], done.returncode) == ("callback_unreachable", 1)
    assert f"127.0.0.1:{agent.port}" in failed["text"]
    assert checks["probe_armed"]["level"] == "OK"
    assert nas.armed(agent.access) == {}


def login_page(port, status):
    """A server that shows a login page for every path, or sends people to one."""
    to = {"Location": "https://login.example.com/?next=secret"} if status == 302 else {}
    page = Answer(status, b"<html><form>password</form></html>", {"Content-Type": "text/html; charset=utf-8"} | to)
    return PlayedServer(page, port=port)


def test_another_server_at_the_public_address_is_named(tmp_path, nas):
    """A login page in front of the callback, whatever status it has, is told from the callback, and the mend names the route."""

    def look(status):
        agent = AgentHome(tmp_path / str(status), nas, name=f"login-{status}")
        with login_page(agent.port, status):
            return probed(agent, "--wait", "1")[0]["probe_received"]

    statuses = (200, 302, 401)
    for status, failed in zip(statuses, at_once(look, statuses), strict=True):
        assert failed["code"] == "callback_elsewhere"
        assert str(status) in failed["text"]
        assert "secret" not in failed["text"]
        assert "/api/cron/fire" in failed["mend"]


def test_a_callback_that_serves_another_home_is_named(tmp_path, nas):
    """A callback that verifies the token but writes into another store is told from one that was never called."""
    agent = AgentHome(tmp_path / "home", nas, name="two-homes")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.yaml").write_text((agent.home / "config.yaml").read_text())
    (other / "token").write_text((agent.home / "token").read_text())
    agent.start_shim(CHRONOS_HOME=str(other))
    try:
        checks, _ = probed(agent, "--wait", "3")
    finally:
        agent.stop_shim()
    assert checks["probe_received"]["code"] == "other_store"


def test_nas_that_refuses_is_the_first_hop(tmp_path, nas):
    """With a token that NAS does not know nothing is armed, and that is the hop."""
    agent = AgentHome(tmp_path / "home", nas, name="stranger")
    (agent.home / "token").write_text("nobody")
    checks, done = probed(agent)
    assert checks["probe_armed"]["code"] == "not_authenticated"
    assert "probe_received" not in checks
    assert done.returncode == 1


def test_nas_that_never_calls_is_told_from_a_callback_that_fails(tmp_path, nas):
    """When the callback is well and nothing came, it is what NAS says of the one-shot that tells why."""
    from chronos_cli.nas_client.interface import Arm, ArmList
    from chronos_cli.operations.doctor.probe_round_trip import _not_relayed
    from chronos_cli.operations.firing.probe import Probe

    now = datetime.now(UTC)
    probe = Probe(fire_at=now, sent_at=now, callback_url="http://127.0.0.1:1")

    class Says:
        def __init__(self, state):
            arm = Arm(job_id=PROBE, fire_at=now, fire_at_text=now.isoformat(), schedule_id="s", state=state)
            self.listed = ArmList(arms=(arm,))

        def list(self):
            return self.listed

    assert _not_relayed(Says("armed"), probe, now).code == "not_relayed"
    assert _not_relayed(Says(""), probe, now).code == "not_relayed"
    assert _not_relayed(Says("retrying"), probe, now).code == "callback_refuses"


def test_a_stranger_cannot_make_the_callback_write(tmp_path, nas):
    """A token that NAS did not sign leaves no file behind; only what NAS signed and was refused is written down."""
    with running_agent(tmp_path, nas, name="stranger-calls") as agent:
        import urllib.error
        import urllib.request

        for token in ("junk", "eyJhbGciOiJSUzI1NiJ9.e30.AAAA"):
            request = urllib.request.Request(
                f"http://127.0.0.1:{agent.port}/api/cron/fire", data=b"{}", headers={"Authorization": f"Bearer {token}"}
            )
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=10)
            refused.value.close()
        assert not (agent.home / "cache/refused.json").exists()


def test_nas_that_drops_the_slot_after_a_2xx_is_recognised(tmp_path, nas):
    """Where NAS deletes whatever is in the slot once the fire is answered, the probe says so, and nothing is left."""
    agent = AgentHome(tmp_path / "home", nas, name="dropper")

    def drop(fire):
        from chronos_cli.config import load_config
        from chronos_cli.operations.assembly import ProcessEnvironment, open_home
        from chronos_cli.operations.firing.probe import receive

        ctx = open_home(load_config(environ={}, home=str(agent.home)), ProcessEnvironment(environ={}, secrets={}))
        receive(ctx, datetime.fromisoformat(fire.body["fire_at"]), "d")
        time.sleep(0.2)
        nas.cancel(agent.access, PROBE)
        return 200

    with Callback(drop) as callback:
        change(agent, "callback_url", callback.url)
        checks, _ = probed(agent)
    assert "drops" in checks["probe_slot"]["text"]
