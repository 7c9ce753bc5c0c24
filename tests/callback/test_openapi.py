"""docs/openapi/shim.yaml and the callback say the same."""

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from chronos_cli.core.decision import Outcome
from tests.callback.hosts import command, serving
from tests.callback.shim_home import PATH
from tests.conftest import ROOT, require_module
from tests.ports import free_port

DOCUMENT = ROOT / "docs/openapi/shim.yaml"


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load(DOCUMENT.read_text())


def schema_of(document, path, method, status):
    answer = document["paths"][path][method]["responses"][str(status)]
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return {**answer["content"]["application/json"]["schema"], "components": document["components"]}


def test_every_outcome_is_named(document):
    """The words of the answers are those of the protocol, no more and no less."""
    named = document["components"]["schemas"]["Report"]["properties"]["result"]["enum"]
    assert set(named) == {outcome.value for outcome in Outcome}


def test_the_answers_have_the_shapes_of_the_document(home, document):
    """One answer of each status, judged by its schema."""
    due = home.add("due", "every 1h", "true", ago=1)
    early = home.add("early", "in 5m", "true")
    replies = [
        home.fire("nobody"),
        home.fire("due", due.isoformat()),
        home.fire("early", early.isoformat()),
        home.request(b"{", token=home.token()),
        home.request(b"{}"),
        home.request(REQUEST_METHOD="PUT"),
        home.request(CONTENT_LENGTH="70000", token=home.token()),
    ]
    home.wait_for_rows("due", state="ok")
    (home.home / "cron/jobs.json").write_text("[")
    replies.append(home.fire("due"))
    assert {reply.status for reply in replies} == {200, 202, 400, 401, 405, 413, 503}
    for reply in replies:
        for path in (PATH, f"/p/{{profile}}{PATH}"):
            jsonschema.validate(reply.json, schema_of(document, path, "post", reply.status))
        assert (reply.header("Retry-After") is not None) == (reply.status == 503)
    health = home.request(REQUEST_METHOD="GET", path="/healthz")
    jsonschema.validate(health.json, schema_of(document, "/healthz", "get", 200))


@pytest.mark.service
@pytest.mark.soak
def test_generated_requests_find_no_fault(home, tmp_path):
    """schemathesis, with a good token and generated paths, methods and bodies, gets only what the document says."""
    require_module("schemathesis")
    port = free_port()
    program = str(Path(sys.executable).with_name("schemathesis"))
    token = home.token(exp=4_000_000_000)
    with serving(command("wsgi.md", "waitress-serve", port), port, tmp_path / "log"):
        argv = [
            program,
            "run",
            str(DOCUMENT),
            "--url",
            f"http://127.0.0.1:{port}",
            "-H",
            f"Authorization: Bearer {token}",
        ]
        argv += ["--max-examples", "40", "--seed", "1", "--exclude-checks", "positive_data_acceptance,ignored_auth"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "Traceback" not in (tmp_path / "log").read_text()
