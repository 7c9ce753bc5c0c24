"""The public doors of trust: the function that never raises, the pluggable verifier, and what importing them costs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import chronos_cli.trust
from chronos_cli.errors import ConfigError, KeysUnavailableError
from chronos_cli.trust import FireTokenError, get_fire_verifier, verify_fire_token, verify_nas_fire_token
from tests.fire_tokens import AUDIENCE, ISSUER, SigningKey, serve_jwks
from tests.trust.trusting import make_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.es256()


class EqualToAll(str):
    """A text that claims to be whatever it is compared with."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True


class Raising:
    """An object that fails whatever is done with it."""

    def __bool__(self) -> bool:
        raise RuntimeError

    __len__ = __str__ = __repr__ = __iter__ = __bool__  # type: ignore[assignment]


def nas_fire_token(token: Any, keys: Any, **changes: Any) -> dict[str, Any] | None:
    values = {"expected_audience": AUDIENCE, "issuer": ISSUER, "jwks_or_key": keys, **changes}
    return verify_nas_fire_token(token, **values)


def test_public_function_returns_claims_or_none(key: SigningKey, caplog: pytest.LogCaptureFixture) -> None:
    """`verify_nas_fire_token` takes a PEM or a JWKS as text or object, and says None to everything else, with a code."""
    caplog.set_level(logging.INFO)
    token = key.token(job_id="j1")
    for keys in (key.public_pem, json.dumps(key.jwks()), key.jwks()):
        claims = nas_fire_token(token, keys)
        assert claims is not None
        assert claims["job_id"] == "j1"
    assert not caplog.messages
    assert nas_fire_token(token, key.public_pem, expected_audience="agent:other") is None
    assert caplog.messages == ["fire token refused: audience"]
    assert token not in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"keys": None},
        {"keys": ""},
        {"keys": 7},
        {"keys": object()},
        {"keys": {"keys": {1, 2}}},
        {"keys": "http://example.com"},
        {"keys": "/nowhere/key.pem"},
        {"keys": "\x00"},
        {"issuer": 7},
        {"issuer": "https://other.example.com"},
        {"leeway_seconds": None},
        {"leeway_seconds": "30"},
        {"leeway_seconds": float("nan")},
        {"leeway_seconds": float("inf")},
        {"leeway_seconds": -1},
        {"expected_audience": ""},
        {"expected_audience": EqualToAll()},
        {"issuer": EqualToAll()},
        {"keys": b"\xff"},
        {"keys": Raising()},
        {"token": Raising()},
        {"expected_audience": Raising()},
        {"issuer": Raising()},
        {"expected_audience": None},
        {"expected_audience": ["agent:7f3"]},
        {"keys": "https://portal.invalid/jwks", "cache_dir": 7},
        {"token": None},
        {"token": b""},
    ],
)
def test_public_function_never_raises(change: dict[str, Any], key: SigningKey) -> None:
    """Arguments of every wrong kind give None."""
    assert nas_fire_token(**{"token": key.token(), "keys": key.public_pem, **change}) is None


@pytest.mark.parametrize(("more", "named"), [(("x",), {}), ((), {"algorithms": ["HS256"]})])
def test_public_function_refuses_what_it_does_not_know(
    more: tuple[Any, ...], named: dict[str, Any], key: SigningKey
) -> None:
    """An argument of another version is no error, and no token holds: it may have been meant to restrict."""
    given = {"expected_audience": AUDIENCE, "jwks_or_key": key.public_pem, **named}
    assert verify_nas_fire_token(key.token(), *more, **given) is None


def test_public_function_takes_the_calls_of_hermes(key: SigningKey, caplog: pytest.LogCaptureFixture) -> None:
    """Issuer and key may be left out, as there: any issuer that the keys vouch for then, and nothing without a key."""
    now = int(time.time())
    token = key.token()
    assert verify_nas_fire_token(token=token, expected_audience=AUDIENCE, jwks_or_key=key.public_pem)
    for issuer in (None, ""):
        for given in (token, key.token(iss="https://elsewhere.example.com"), key.token(without=["iss"])):
            assert nas_fire_token(given, key.public_pem, issuer=issuer)
    assert nas_fire_token(token, key.public_pem.encode())
    for leeway in (60, 60.5, timedelta(seconds=60)):
        assert nas_fire_token(key.token(exp=now - 50), key.public_pem, leeway_seconds=leeway)
        assert nas_fire_token(key.token(exp=now - 80), key.public_pem, leeway_seconds=leeway) is None
    assert nas_fire_token(key.token(exp=now - 5), key.public_pem, leeway_seconds=0) is None
    assert verify_nas_fire_token(token=token, expected_audience=AUDIENCE) is None
    assert verify_nas_fire_token() is None
    assert token not in caplog.text


def test_public_function_caches_under_the_home(
    key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys from a URL are cached in the home's cache folder unless another is given."""
    monkeypatch.setenv("CHRONOS_HOME", str(tmp_path / "home"))
    with serve_jwks(key) as nas:
        for _ in range(3):
            assert nas_fire_token(key.token(), nas.url)
        assert nas.count == 1
        assert list((tmp_path / "home" / "cache" / "jwks").glob("*.json"))
        monkeypatch.delenv("CHRONOS_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert nas_fire_token(key.token(), nas.url)
        assert list((tmp_path / ".chronos" / "cache" / "jwks").glob("*.json"))


def test_verifier_without_settings_is_the_public_function() -> None:
    """Programs that know the function of Hermes agents find it here."""
    assert get_fire_verifier() is verify_nas_fire_token


def test_verifier_for_settings(key: SigningKey, tmp_path: Path) -> None:
    """A process that judges many tokens keeps one verifier; it asks once and refuses as the function does."""
    with serve_jwks(key) as nas:
        judge = get_fire_verifier(make_settings(tmp_path, nas.url))
        for _ in range(3):
            assert judge(key.token(job_id="j1")).job_id == "j1"
        assert nas.count == 1
        for token in (None, "x.y.z", key.token(aud="other")):
            with pytest.raises(FireTokenError):
                judge(token)
    assert get_fire_verifier(make_settings(tmp_path, key.public_pem))(key.token()).bound is False
    with pytest.raises(FireTokenError, match="No audience"):
        get_fire_verifier(make_settings(tmp_path, nas.url, expected_audience=""))(key.token())


PLUG_IN = """
def accept(token, *, expected_audience, jwks_or_key, issuer):
    return {"aud": expected_audience, "job_id": token, "fire_at": "2026-11-20T15:34:15Z", "jti": issuer}

def refuse(token, **expected):
    return None

def fail(token, **expected):
    raise RuntimeError("cannot judge " + token)

def unavailable(token, **expected):
    from chronos_cli.errors import KeysUnavailableError
    raise KeysUnavailableError("my keys are away")

def nonsense(token, **expected):
    return True

def unreadable(token, **expected):
    return {"fire_at": "soon"}

constant = 7
"""


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_trust.py").write_text(PLUG_IN)
    (tmp_path / "my_broken_trust.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_trust"


def test_own_verifier_judges(plug_in: str, tmp_path: Path) -> None:
    """`module:function` takes the place of the built-in verifier, with its keywords, and its claims are typed."""
    settings = make_settings(tmp_path, "", verifier=f"{plug_in}:accept")
    for claims in (verify_fire_token("anything", settings), get_fire_verifier(settings)("anything")):
        assert (claims.job_id, claims.jti, claims.bound, claims.expires) == ("anything", ISSUER, True, None)


@pytest.mark.parametrize(
    ("function", "token", "error", "code"),
    [
        ("refuse", "secret-token", FireTokenError, "refused_by_verifier"),
        ("accept", "", FireTokenError, "missing_authorization"),
        ("accept", None, FireTokenError, "missing_authorization"),
        ("unreadable", "secret-token", FireTokenError, "claim_type"),
        ("fail", "secret-token", KeysUnavailableError, "keys_unavailable"),
        ("unavailable", "secret-token", KeysUnavailableError, "keys_unavailable"),
        ("nonsense", "secret-token", KeysUnavailableError, "keys_unavailable"),
    ],
)
def test_own_verifier_that_does_not_accept(
    function: str, token: str | None, error: type[Exception], code: str, plug_in: str, tmp_path: Path
) -> None:
    """None refuses; a verifier that fails has judged nothing, so it is 503, and its text, which may hold the token, is dropped."""
    settings = make_settings(tmp_path, "", verifier=f"{plug_in}:{function}")
    for judge in (get_fire_verifier(settings), lambda token: verify_fire_token(token, settings)):
        with pytest.raises(error) as caught:
            judge(token)
        assert getattr(caught.value, "code", None) == code
        assert "secret-token" not in f"{caught.value} {caught.value.__cause__}"
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("name", ["my_trust:absent", "my_trust:constant", "no_such_module:f", "my_broken_trust:f"])
def test_own_verifier_that_cannot_be_loaded(name: str, plug_in: str, tmp_path: Path) -> None:
    """A verifier that is not there is a configuration error, at once where one is kept."""
    assert plug_in
    with pytest.raises(ConfigError, match=name):
        get_fire_verifier(make_settings(tmp_path, "", verifier=name))


def test_public_names() -> None:
    """Every public name can be had from the package, and no other."""
    for name in chronos_cli.trust.__all__:
        assert getattr(chronos_cli.trust, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = chronos_cli.trust.other


def modules_after(code: str) -> set[str]:
    program = f"import sys; sys.path[:] = {sys.path!r}\n{code}\nprint(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_costs_nothing_heavy() -> None:
    """Importing the package loads nothing of it; loading its names loads no jwt, requests or cryptography."""
    assert not {name for name in modules_after("import chronos_cli.trust") if name.startswith("chronos_cli.trust.")}
    every = f"from chronos_cli.trust import {', '.join(chronos_cli.trust.__all__)}"
    assert not {"jwt", "requests", "cryptography", "logging", "ssl", "asyncio"} & modules_after(every)


def test_refusing_junk_costs_nothing_heavy(tmp_path: Path) -> None:
    """A stranger's junk is refused before jwt is imported or the network is used."""
    code = (
        "from pathlib import Path\nfrom chronos_cli.trust import *\n"
        f"s = TrustSettings(expected_audience='a', issuer='i', keys='https://nas.invalid/', cache_dir=Path({str(tmp_path)!r}))\n"
        "for token in (None, 'junk', 'a.b.c', 'eyJhbGciOiJub25lIn0.e30.'):\n"
        "    try: verify_fire_token(token, s)\n"
        "    except FireTokenError: pass\n"
        "    else: raise SystemExit(1)"
    )
    assert not {"jwt", "requests", "cryptography", "logging", "ssl"} & modules_after(code)


def test_warm_verification_imports_no_http_client(key: SigningKey, tmp_path: Path) -> None:
    """With a cached key a fire imports PyJWT and what that needs, and nothing else of weight."""
    with serve_jwks(key) as nas:
        settings = make_settings(tmp_path, nas.url)
        verify_fire_token(key.token(), settings)
    code = (
        "from pathlib import Path\nfrom chronos_cli.trust import *\n"
        f"verify_fire_token({key.token()!r}, TrustSettings(expected_audience={AUDIENCE!r}, issuer={ISSUER!r}, "
        f"keys={settings.keys!r}, cache_dir=Path({str(settings.cache_dir)!r})))"
    )
    loaded = modules_after(code)
    assert "jwt" in loaded
    assert not {"requests", "urllib3", "logging", "asyncio"} & loaded
