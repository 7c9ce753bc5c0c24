"""Fire tokens are made without PyJWT's own encoder: what it reads of them is what it would have written."""

from __future__ import annotations

import time

import jwt
import pytest

from chronos_cli.nas_server.keys import KeyAlgorithm, KeyRing, generate
from chronos_cli.nas_server.relay.delivery import signed


@pytest.mark.parametrize("algorithm", [pytest.param(one, id=str(one.value)) for one in KeyAlgorithm])
def test_a_token_is_what_pyjwt_would_have_made(tmp_path, algorithm):
    """The same header and claims, whatever is in them, and a signature that holds; no padding anywhere."""
    key = KeyRing(tmp_path, time.time, pem=generate(algorithm).decode()).signing()
    assert key.alg == algorithm.value
    for job in ("a", "ab", "abc", '\u00e9\U0001f552 "\\'):
        claims = {
            "iss": "https://nas.example",
            "aud": "agent:1",
            "job_id": job,
            "exp": int(time.time()) + 90,
            "home": None,
        }
        token = signed(claims, key)
        theirs = jwt.encode(claims, key.private, algorithm=key.alg, headers={"kid": key.kid})
        assert jwt.get_unverified_header(token) == jwt.get_unverified_header(theirs)
        assert token.split(".")[1] == theirs.split(".")[1]
        assert "=" not in token
        found = jwt.decode(token, key.private.public_key(), algorithms=[key.alg], audience="agent:1")
        assert found == claims
