"""PyJWT without what one verification does not need: the same judgement, and nothing incomplete left behind."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.fire_tokens import AUDIENCE, ISSUER, SigningKey

HEAVY = {
    "cryptography.x509", "cryptography.hazmat.primitives.serialization.ssh", "jwt.jwks_client", "urllib.request",
    "http.client", "ssl", "email.utils",
}  # fmt: skip

JUDGE = """
import json, sys
from pathlib import Path
from chronos_cli.errors import ChronosError
from chronos_cli.trust.settings import TrustSettings
from chronos_cli.trust.tokens import verify_fire_token
audience, issuer, keys, *tokens = json.load(sys.stdin)
settings = TrustSettings(expected_audience=audience, issuer=issuer, keys=keys, cache_dir=Path("/nonexistent"))
found = []
for token in tokens:
    try:
        found.append(verify_fire_token(token, settings, light=True).job_id)
    except ChronosError as error:
        found.append(error.code)
loaded = sorted(sys.modules)
"""
LATER = """
import jwt
import cryptography.x509
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
assert jwt.PyJWKClient and jwt.decode and cryptography.x509.Certificate
assert load_ssh_public_key.__module__ == "cryptography.hazmat.primitives.serialization.ssh", load_ssh_public_key
import jwt.algorithms
assert jwt.algorithms.x509 is cryptography.x509
"""


def judge(key: SigningKey, *tokens: str, before: str = "", after: str = "") -> tuple[list[str], set[str]]:
    """What a fresh process made of tokens, and the modules that it had loaded by then."""
    code = before + JUDGE + after + "\nprint(json.dumps([found, loaded]))"
    given = json.dumps([AUDIENCE, ISSUER, json.dumps(key.jwks()), *tokens])
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    found, loaded = json.loads(done.stdout)
    return found, set(loaded)


def forged(token: str) -> str:
    """The token with another signature of the same form."""
    body, _, signature = token.rpartition(".")
    return f"{body}.{signature[:20]}{'A' if signature[20] != 'A' else 'B'}{signature[21:]}"


@pytest.mark.parametrize("make", [SigningKey.rs256, SigningKey.es256])
def test_the_light_import_judges_as_the_plain_one_and_leaves_whole_libraries_to_others(make):
    """A good token passes, a forged one does not; X.509, SSH keys and PyJWT's client are not loaded, and whole later."""
    key = make()
    good = key.token(job_id="j")
    found, loaded = judge(key, good, forged(good), good, after=LATER)
    assert found == ["j", "signature", "j"]
    assert loaded & HEAVY == set()
    assert any(name.startswith("cryptography.hazmat") for name in loaded)


@pytest.mark.parametrize(
    "layout",
    [
        "import sys; sys.modules['jwt'] = __import__('jwt')",  # somebody has loaded it whole
        "import chronos_cli.trust.light_import as light; light.ModuleType = None",  # planting fails
        (
            "import chronos_cli.trust.light_import as light\n"
            "def broken(): import jwt.algorithms; raise ImportError('another layout')\n"
            "light._lightly = broken"
        ),
    ],
)
def test_another_layout_of_the_libraries_falls_back_to_the_plain_import(layout):
    """Whatever the light way does not know, the plain import judges."""
    key = SigningKey.rs256()
    good = key.token(job_id="j")
    found, loaded = judge(key, good, forged(good), before=f"{layout}\n")
    assert found == ["j", "signature"]
    assert "jwt.jwks_client" in loaded


def test_what_was_left_out_is_there_once_it_is_asked_for():
    """The stand-ins import the real module when something of it is called or looked into."""
    code = (
        "from chronos_cli.trust.light_import import import_jwk\n"
        "jwk, _ = import_jwk(light=True)\n"
        "import sys\n"
        "made = sys.modules.get('jwt') is None\n"
        "algorithms = jwk.__init__.__globals__['get_default_algorithms'].__globals__\n"
        "x509 = algorithms['x509']\n"
        "assert made and 'cryptography.x509' not in sys.modules\n"
        "assert x509.Version.v3.name == 'v3'\n"
        "assert 'cryptography.x509' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
