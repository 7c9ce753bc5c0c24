"""The answer to NAS's challenge: given to a token of its purpose for this agent, and to nothing else."""

from __future__ import annotations

import hashlib
import json
import sys
import time

import jsonschema
import pytest
import yaml

from chronos_cli.callback.wsgi import CallbackApplication
from tests.callback.shim_home import ShimHome
from tests.conftest import ROOT
from tests.fire_tokens import AUDIENCE, SigningKey

PROOF = "/api/cron/proof"
NONCE = "n" * 43


def challenge(shim, path=PROOF, data=b"{}", **claims):
    token = shim.token(**{"purpose": "callback_proof", "nonce": NONCE, **claims})
    return shim.request(data, path=path, token=token)


def proof_for(nonce, audience=AUDIENCE):
    return hashlib.sha256(f"callback-proof:{nonce}:{audience}".encode()).hexdigest()


def test_a_challenge_is_answered_from_its_nonce_and_our_audience(home):
    """The answer is the hash that the contract names, and has the shape of the document; the store is not read."""
    (home.home / "cron").mkdir(exist_ok=True)
    (home.home / "cron/jobs.json").write_text("[")
    reply = challenge(home)
    assert (reply.status, reply.json) == (200, {"result": "proved", "proof": proof_for(NONCE)})
    assert challenge(home, nonce="another-nonce-of-nas").json["proof"] == proof_for("another-nonce-of-nas")
    assert challenge(home, path=PROOF + "/").status == 200
    document = yaml.safe_load((ROOT / "docs/openapi/shim.yaml").read_text())
    for path in (PROOF, "/p/{profile}" + PROOF):
        schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(reply.json, schema | {"components": document["components"]})


REFUSED = {
    "a fire's": {"purpose": "cron_fire"},
    "another agent's": {"aud": "agent:other"},
    "another NAS's": {"iss": "https://elsewhere.example.com"},
    "expired": {"exp": 1_700_000_000, "iat": 1_699_999_000},
    "without a nonce": {"nonce": None},
    "with a number": {"nonce": 7},
    "with a short nonce": {"nonce": "short"},
    "with a long nonce": {"nonce": "n" * 129},
    "with another script": {"nonce": "ä" * 20},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_any_other_token_is_refused_like_every_refusal(home, kind):
    """No oracle: the same bytes as for a fire's refused token."""
    reply = challenge(home, **REFUSED[kind])
    assert (reply.status, reply.body) == (401, b'{"result": "refused"}')


def test_a_stranger_learns_nothing(home):
    """No token, junk, and a signature by another key are refused."""
    stranger = SigningKey.es256(kid=home.key.kid)
    forged = stranger.token(iss=home.issuer, purpose="callback_proof", nonce=NONCE)
    for token in (None, "x", forged):
        assert home.request(b"{}", path=PROOF, token=token).status == 401


def test_a_challenge_starts_no_job(home):
    """At the fire's path its token is refused, whatever the body names, and nothing runs."""
    cursor = home.add("beat", "every 1h", "true", ago=1)
    token = home.token(purpose="callback_proof", nonce=NONCE, job_id="beat", fire_at=cursor.isoformat())
    assert home.fire("beat", cursor.isoformat(), token=token).status == 401
    assert home.rows("beat") == []


def test_the_request_is_bounded_like_a_fire(home):
    """Another method, a body without a length, and one that is too large."""
    assert home.request(path=PROOF, REQUEST_METHOD="GET").status == 405
    token = home.token(purpose="callback_proof", nonce=NONCE)
    assert home.request(path=PROOF, token=token, CONTENT_LENGTH="70000").status == 413
    assert home.request(path=PROOF, token=token, CONTENT_LENGTH="x", checked=False).status == 400


def test_a_machine_on_standby_is_still_the_agents(tmp_path, key, nas, monkeypatch):
    """Whose callback it is does not depend on which of two machines works just now."""
    standby = ShimHome(tmp_path, key, nas.url, monkeypatch)
    monkeypatch.setenv("CHRONOS_STANDBY", "true")
    standby.application = CallbackApplication()
    assert standby.fire("any").status == 503
    assert challenge(standby).json["proof"] == proof_for(NONCE)


def test_the_home_in_the_token_is_the_one_in_the_path(tmp_path, key, nas, monkeypatch):
    """A profile's URL proves itself under its own path; a token for another home, and a name not served, do not."""
    second = tmp_path / "second"
    second.mkdir()
    (second / "config.yaml").write_text("timezone: UTC\n")
    home = ShimHome(tmp_path, key, nas.url, monkeypatch, extra=f"profiles:\n  second: {second}\n")
    assert challenge(home, f"/p/second{PROOF}", home="second").status == 200
    assert challenge(home, f"/p/second{PROOF}", home="third").status == 401
    assert challenge(home, f"/p/third{PROOF}", home="third").status == 404
    assert challenge(home, home="second").status == 200, "a proxy in front may sort by path and take it away"


JUDGE = """
import json, base64
def judge(token, *, expected_audience, jwks_or_key, issuer):
    text = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
"""


def test_a_verifier_of_ones_own_never_mixes_the_two(tmp_path, key, nas, monkeypatch):
    """One that does not look at the purpose still starts nothing by a challenge, and proves nothing by a fire."""
    (tmp_path / "own_judge.py").write_text(JUDGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_judge", raising=False)
    home = ShimHome(tmp_path, key, nas.url, monkeypatch, extra="trust:\n  verifier: own_judge:judge\n")
    cursor = home.add("beat", "every 1h", "true", ago=1)
    now = int(time.time())
    assert challenge(home, iat=now, exp=now + 60).json["proof"] == proof_for(NONCE)
    assert challenge(home, purpose="cron_fire").status == 401
    token = home.token(purpose="callback_proof", nonce=NONCE)
    body = json.dumps({"job_id": "beat", "fire_at": cursor.isoformat()}).encode()
    assert home.request(body, token=token).status == 401
    assert home.rows("beat") == []
