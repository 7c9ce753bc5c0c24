"""The authority over HTTP: who gets in, what is refused and how, and that the OpenAPI document is true."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.conftest import require_module
from tests.nas_process import METRICS_TOKEN, running_nas

PROVISION, CANCEL, LIST, BATCH = (f"/api/agent-cron/{name}" for name in ("provision", "cancel", "list", "batch"))
FAR = "2031-01-01T00:00:00+00:00"
OPENAPI = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi" / "nas.yaml").read_text())


@pytest.fixture(scope="module")
def nas(tmp_path_factory):
    with running_nas(tmp_path_factory.mktemp("nas"), "--max-timers", "3000") as running:
        yield running


@pytest.fixture(scope="module")
def agent(nas):
    return nas.add_agent("http")


def item(job_id="job", **more):
    return {
        "job_id": job_id,
        "fire_at": FAR,
        "agent_callback_url": "http://127.0.0.1:9",
        "dedup_key": f"{job_id}:x",
    } | more


def schema_of(path, method, status):
    answer = OPENAPI["paths"][path][method]["responses"][str(status)]
    if "$ref" in answer:
        answer = OPENAPI["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
    return {"components": OPENAPI["components"], **answer["content"]["application/json"]["schema"]}


def checked(nas, method, path, token=None, document=None, *, raw=None):
    """A call whose answer must be one that the OpenAPI document names, in its shape."""
    reply = nas.call(method, path, token, document, raw=raw)
    jsonschema.validate(reply.json, schema_of(path.partition("?")[0], method.lower(), reply.status))
    return reply


def test_the_served_document_is_the_one_in_the_repository(nas):
    """The contract is served as it is written."""
    reply = nas.call("GET", "/openapi.yaml")
    assert reply.headers["content-type"] == "application/yaml"
    assert yaml.safe_load(reply.body) == OPENAPI


def test_every_answer_has_the_shape_that_the_document_says(nas, agent):
    """Good and bad calls of every route are answered in the shapes of the OpenAPI document."""
    assert checked(nas, "POST", PROVISION, agent.token, item()).status == 200
    assert checked(nas, "POST", PROVISION, agent.token, item(generation=3)).status == 200
    assert checked(nas, "POST", PROVISION, agent.token, item(generation=2)).json["generation"] == 3
    assert checked(nas, "GET", LIST, agent.token).status == 200
    items = [
        {"op": "cancel", "job_id": "job"},
        {"op": "provision"} | item("b"),
        {"op": "provision"},
        {"op": "x"},
        {"op": {}},
        {"op": {}},
    ]
    results = checked(nas, "POST", BATCH, agent.token, {"items": items}).json["results"]
    assert [one["ok"] for one in results] == [True, True, False, False, False, False]
    assert checked(nas, "POST", CANCEL, agent.token, {"job_id": "b"}).json == {"ok": True, "cancelled": 1}
    for path in ("/healthz", "/.well-known/jwks.json"):
        assert checked(nas, "GET", path).status == 200
    reply = nas.call("GET", "/metrics", METRICS_TOKEN)
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"job_id": "../x"}, "invalid_request"),
        ({"job_id": 7}, "invalid_request"),
        ({"fire_at": "2031-01-01T00:00:00"}, "invalid_request"),
        ({"fire_at": "2031-01-01\u202800:00:00+00:00"}, "invalid_request"),
        ({"fire_at": 1}, "invalid_request"),
        ({"fire_at": "9999-12-31T23:59:59-23:59"}, "invalid_request"),
        ({"dedup_key": ""}, "invalid_request"),
        ({"generation": -1}, "invalid_request"),
        ({"generation": True}, "invalid_request"),
        ({"generation": 2**63}, "invalid_request"),
        ({"agent_callback_url": "http://example.com"}, "callback_refused"),
        ({"agent_callback_url": "https://user:pw@example.com"}, "callback_refused"),
        ({"agent_callback_url": "ftp://example.com"}, "callback_refused"),
        ({"agent_callback_url": "https://example.com?x=1"}, "callback_refused"),
        ({"agent_callback_url": "https://0x7f.1"}, "callback_refused"),
        ({"agent_callback_url": None}, "callback_refused"),
    ],
)
def test_a_malformed_provision_is_refused_with_the_reason(nas, agent, changes, error):
    """Each bad member gives 400, a code and a sentence, and arms nothing."""
    reply = checked(nas, "POST", PROVISION, agent.token, item("bad") | changes)
    assert (reply.status, reply.json["error"]) == (400, error)
    assert "bad" not in nas.armed(agent)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b"[" * 50_000, b'{"job_id": 1' + b"0" * 5000 + b"}"])
def test_a_body_that_is_no_object_is_refused(nas, agent, raw):
    """Whatever comes as a body is answered with a 400, never a 500."""
    assert checked(nas, "POST", CANCEL, agent.token, raw=raw).status == 400


def test_sizes_are_bounded(nas, agent):
    """A body over its limit is 413, as is a batch of more than 1,000 items."""
    assert checked(nas, "POST", PROVISION, agent.token, item(pad="x" * 70_000)).status == 413
    cancels = [{"op": "cancel", "job_id": f"j{n}"} for n in range(1_001)]
    assert checked(nas, "POST", BATCH, agent.token, {"items": cancels}).status == 413
    assert checked(nas, "POST", BATCH, agent.token, {"items": cancels[:1000]}).status == 200


def test_who_gets_in(nas):
    """No token and a wrong one are 401; a revoked agent is refused for good; an expired token is 401."""
    assert checked(nas, "GET", LIST).json["error"] == "invalid_token"
    assert checked(nas, "GET", LIST, "cnas_wrong").status == 401
    assert "Bearer" in nas.call("GET", LIST).headers["www-authenticate"]
    gone = nas.add_agent("gone")
    nas.provision(gone, "job", FAR, "http://127.0.0.1:9")
    assert nas.command("agent", "revoke", "gone")["dropped"] == 1
    # What was accepted within the last second may still be.
    time.sleep(1.1)
    reply = checked(nas, "GET", LIST, gone.token)
    assert (reply.status, reply.json["error"]) == (403, "invalid_client")
    assert checked(nas, "GET", LIST, nas.add_agent("short", "--expires-in", "0s").token).status == 401


def test_nobody_sees_anothers_timers(nas, agent):
    """Two agents with the same job id hold two timers, and each sees and cancels only its own."""
    other = nas.add_agent("other")
    nas.provision(agent, "shared", FAR, "http://127.0.0.1:9")
    assert "shared" not in nas.armed(other)
    assert nas.cancel(other, "shared").json["cancelled"] == 0
    assert "shared" in nas.armed(agent)
    nas.cancel(agent, "shared")


def test_a_list_in_pages_has_every_job_once(nas):
    """Following next_cursor gives every job once, and a small set has no cursor at all."""
    many = nas.add_agent("many")
    items = [{"op": "provision"} | item(f"job-{n}") for n in range(25)]
    nas.call("POST", BATCH, many.token, {"items": items})
    assert "next_cursor" not in nas.call("GET", LIST, many.token).json
    seen, cursor = [], ""
    for _ in range(3):
        page = checked(nas, "GET", f"{LIST}?limit=10{cursor}", many.token).json
        seen += [one["job_id"] for one in page["armed"]]
        cursor = f"&cursor={page.get('next_cursor')}"
    assert sorted(seen) == sorted(one["job_id"] for one in items)
    assert len(seen) == 25
    assert "next_cursor" not in page
    for bad in ("?limit=0", "?limit=x", "?cursor=%21", "?limit=1&limit=2", "?" + "a&" * 20):
        assert checked(nas, "GET", LIST + bad, many.token).status == 400


def test_an_agent_over_its_limits_is_told(nas):
    """More timers than allowed are 422, more requests than allowed are 429 with Retry-After."""
    small = nas.add_agent("small", "--max-timers", "1", "--rate", "3")
    assert checked(nas, "POST", PROVISION, small.token, item("a")).status == 200
    reply = checked(nas, "POST", PROVISION, small.token, item("b"))
    assert (reply.status, reply.json["limit"]) == (422, 1)
    replies = (checked(nas, "GET", LIST, small.token) for _ in range(80))
    slow = next(reply for reply in replies if reply.status == 429)
    assert int(slow.headers["retry-after"]) >= 1


def test_other_paths_and_methods(nas):
    """Unknown paths are 404, wrong methods 405 with Allow, and HEAD has no body."""
    assert nas.call("GET", "/nothing").json["error"] == "not_found"
    reply = nas.call("GET", PROVISION)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    head = nas.call("HEAD", "/healthz")
    assert (head.status, head.body) == (200, b"")


def test_a_kept_alive_connection_serves_many_calls(nas, agent):
    """One connection carries call after call."""
    connection = http.client.HTTPConnection("127.0.0.1", int(nas.url.rsplit(":", 1)[1]), timeout=10)
    for _ in range(5):
        connection.request("GET", LIST, headers={"Authorization": f"Bearer {agent.token}"})
        reply = connection.getresponse()
        assert reply.status == 200
        reply.read()
    connection.close()


def test_metrics_follow_what_happens(nas, agent):
    """Counters move with requests, and every line is one that Prometheus can read."""
    nas.provision(agent, "counted", FAR, "http://127.0.0.1:9")
    lines = nas.call("GET", "/metrics", METRICS_TOKEN).body.decode().splitlines()
    assert any(re.match(r'chronos_nas_wishes_total\{result="provisioned"\} \d+', line) for line in lines)
    pattern = re.compile(r"(# (HELP|TYPE) .+|[a-z_]+(\{[^}]*\})? [0-9.e+-]+)")
    assert [line for line in lines if not pattern.fullmatch(line)] == []
    for name in ("armed", "due", "dead", "retrying", "lateness_seconds_count"):
        assert any(line.startswith(f"chronos_nas_{name} ") for line in lines), name
    nas.cancel(agent, "counted")


def test_no_token_is_ever_logged(nas, agent):
    """The log names agents by audience; neither access tokens nor fire tokens are in it."""
    text = nas.log.read_text()
    assert agent.token not in text
    assert "eyJ" not in text
    assert "listening" in [json.loads(line)["event"] for line in text.splitlines()]


@pytest.mark.service
@pytest.mark.soak
def test_the_document_is_true_under_schemathesis(nas):
    """Generated requests, good and bad, are all answered as the document says."""
    require_module("schemathesis")
    generous = nas.add_agent("generated", "--rate", "100000")
    program = shutil.which("schemathesis") or str(Path(sys.executable).with_name("schemathesis"))
    done = subprocess.run(
        [
            *(
                program,
                "run",
                f"{nas.url}/openapi.yaml",
                "--url",
                nas.url,
                "-H",
                f"Authorization: Bearer {generous.token}",
            ),
            *("--max-examples", "25", "--exclude-checks", "positive_data_acceptance,ignored_auth", "--seed", "1"),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
