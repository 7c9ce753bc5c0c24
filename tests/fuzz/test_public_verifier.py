"""The verifier that other programs call: whatever it is handed, it says None or the claims of a good token, and ends.

Its arguments come in the shapes of the peer's calls, with anything at all in the place of each; CHRONOS_FUZZ tries more.
"""

from __future__ import annotations

import errno
import json
import os
import time
from datetime import timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronos_cli.trust import verify_nas_fire_token
from tests.fire_tokens import AUDIENCE, ISSUER, SigningKey
from tests.fuzz.test_parsers import JSON, NOISE, TEXT, changed, fuzz

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_EC, _RSA = SigningKey.es256(), SigningKey.rs256()
_SETS: Final = [key.jwks() for key in (_EC, _RSA)]


@cache
def good() -> tuple[str, str]:
    """Return tokens that hold while these tests run, made when the first of them does."""
    now = int(time.time())
    return _EC.token(job_id="j1", iat=now, exp=now + 3_000), _RSA.token(job_id="j1", iat=now, exp=now + 3_000)


class Raising:
    """An object that fails whatever is done with it."""

    def fail(self, *_: object) -> Any:
        raise RuntimeError("\ud800")

    __bool__ = __len__ = __str__ = __repr__ = __iter__ = __float__ = __hash__ = __eq__ = __fspath__ = fail
    __getitem__ = __contains__ = __lt__ = __format__ = __index__ = __getattr__ = fail


class RaisingText(str):
    """A text that fails whatever is done with it."""

    __slots__ = ()
    split = encode = strip = startswith = lower = __eq__ = __len__ = __hash__ = Raising.fail


class RaisingMapping(dict[str, Any]):
    """A mapping that fails whatever is done with it."""

    keys = items = __iter__ = __getitem__ = get = Raising.fail


def _nested(depth: int) -> object:
    found: object = 1
    for _ in range(depth):
        found = {"keys": [found]}
    return found


_ITSELF: list[Any] = []
_ITSELF.append(_ITSELF)
_ODD: Final = (
    Raising(), RaisingText("x"), RaisingMapping(keys=[]), object(), object, len, {1, 2}, frozenset(), bytearray(b"x"), memoryview(b"x"),
    _ITSELF, _nested(50_000), 10**5_000, -(10**400), float("nan"), float("-inf"), 1j, Decimal("sNaN"), ..., NotImplemented,
    timedelta.max, timedelta(seconds=60), "\x00", "\ud800", "a" * 200_000, "." * 100_000, b"." * 100_000, "é" * 50_000, "[" * 100_000,
    "/", "/dev/null", "/dev/zero", "/proc/self/mem", "/etc", "~", "x" * 5_000 + "/k", "https://", "https://[", "https:///x", "https://\x00", "http://a",
    "ftp://a/b", "file:///etc/passwd", "-----BEGIN PUBLIC KEY-----\n\x00\n-----END PUBLIC KEY-----", {"keys": {}}, {"keys": None},
    {"keys": [_ITSELF]}, {1: 2}, {("a",): 1}, {"keys": [{"kty": "RSA", "n": "A" * 100_000, "e": "AQAB"}]},
    {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}, {"kty": "RSA", "n": 10**4_000, "e": 3},
)  # fmt: skip
ODD: Final = st.integers(0, len(_ODD) - 1).map(lambda number: _ODD[number])
ANYTHING: Final = ODD | JSON | NOISE | TEXT | st.binary(max_size=100)


def _tokens() -> st.SearchStrategy[Any]:
    whole = st.sampled_from(good())
    piece = st.sampled_from(["", ".", "..", "=", "e30", "bnVsbA", "\x00", "\ud800", *".".join(good()).split(".")])
    slip = st.tuples(whole, st.integers(0, 900), st.characters())
    return (
        whole
        | whole.map(str.encode)
        | st.lists(piece, max_size=5).map(".".join)
        | slip.map(lambda drawn: drawn[0][: drawn[1]] + drawn[2] + drawn[0][drawn[1] + 1 :])
        | ANYTHING
    )


TOKEN: Final = st.deferred(_tokens)
_PEM: Final = [key.public_pem for key in (_EC, _RSA)]
KEYS: Final = (
    st.sampled_from([*_PEM, *_SETS, *(json.dumps(found) for found in _SETS), *(pem.encode() for pem in _PEM), *(found["keys"][0] for found in _SETS)])
    | st.one_of(*(changed(found) for found in _SETS))
    | st.one_of(*(changed(found) for found in _SETS)).map(json.dumps)
    | st.tuples(st.sampled_from(_PEM), st.integers(0, 400), TEXT).map(lambda t: t[0][: t[1]] + t[2] + t[0][t[1] :])
    | ANYTHING
)  # fmt: skip
CALL: Final = st.fixed_dictionaries(
    {},
    optional={
        "token": TOKEN,
        "expected_audience": st.just(AUDIENCE) | ANYTHING,
        "jwks_or_key": KEYS,
        "issuer": st.sampled_from([ISSUER, ISSUER + "/", None, ""]) | ANYTHING,
        "leeway_seconds": st.sampled_from([0, 30, 30.5, True, timedelta(seconds=5)]) | ANYTHING,
        "cache_dir": ANYTHING,
        "algorithms": ANYTHING,
    },
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give a home of its own, and no way to any host."""
    monkeypatch.setenv("CHRONOS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def refuse(*_: object) -> None:  # as the system does: what asks elsewhere may be another thread
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    monkeypatch.setattr("socket.socket.connect", refuse)
    return tmp_path


@given(call=CALL)
@fuzz
def test_public_verifier_never_raises(call: dict[str, Any]) -> None:
    """It says None, but for a good token that names the audience, by a key of ours."""
    claims = verify_nas_fire_token(**call)
    if claims is not None:
        assert (claims["aud"], claims["job_id"], call["expected_audience"]) == (AUDIENCE, "j1", AUDIENCE)
        assert (call["token"] in good(), bool(call["jwks_or_key"]), "algorithms" in call) == (True, True, False)


@given(
    given=st.lists(ANYTHING, max_size=4), call=CALL.map(lambda call: {k: v for k, v in call.items() if k != "token"})
)
@fuzz
def test_public_verifier_takes_no_list_of_arguments(given: list[Any], call: dict[str, Any]) -> None:
    """What is handed in by its place beside the token means nothing here, and refuses it."""
    found = verify_nas_fire_token(*given, **call)
    assert found is None or len(given) == 1


@pytest.mark.parametrize("name", ["token", "expected_audience", "jwks_or_key", "issuer", "leeway_seconds", "cache_dir"])
def test_public_verifier_takes_what_is_odd(name: str) -> None:
    """Each argument of a call that is good but for one: None, or where that one is no matter, the claims."""
    call = {"token": good()[0], "expected_audience": AUDIENCE, "jwks_or_key": _SETS[0], "issuer": ISSUER}
    for odd in _ODD:
        found = verify_nas_fire_token(**{**call, name: odd})
        assert found is None or name in ("leeway_seconds", "cache_dir")


def test_good_calls_of_the_fuzz_are_good() -> None:
    """What is replaced piece by piece above verifies as it stands."""
    shapes: list[Callable[[SigningKey], Any]] = [
        lambda key: key.public_pem, lambda key: key.public_pem.encode(), lambda key: key.jwks(), lambda key: json.dumps(key.jwks()),
    ]  # fmt: skip
    for key, token in zip((_EC, _RSA), good(), strict=True):
        for shape in shapes:
            assert verify_nas_fire_token(token, expected_audience=AUDIENCE, jwks_or_key=shape(key))
