"""Keys at their edges, by points and numbers that everybody knows: which are read, how they are written, which fit a token."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest

from chronos_cli.errors import ConfigError, KeysUnavailableError
from chronos_cli.trust.keys import (
    MAX_KEYS_BYTES,
    UnusableKeysError,
    choose,
    file_keys,
    parse_jwks,
    parse_keys,
    public_jwk,
    read_jwk,
    static_keys,
)
from chronos_cli.trust.settings import KeyKind, is_loopback
from chronos_cli.trust.token_errors import AlgorithmError, UnknownKeyError
from tests.fire_tokens import SigningKey
from tests.trust.trusting import make_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

P256 = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
P384 = (
    0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
    0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
)
"""The base points of the curves (SEC 2): as good a public key as any."""


def b64(number: int, size: int = 0) -> str:
    data = number.to_bytes(max(size, (number.bit_length() + 7) // 8))
    return urlsafe_b64encode(data).decode().rstrip("=")


EC = {"kty": "EC", "crv": "P-256", "x": b64(P256[0], 32), "y": b64(P256[1], 32)}
EC384 = {"kty": "EC", "crv": "P-384", "x": b64(P384[0], 48), "y": b64(P384[1], 48)}
RSA = {"kty": "RSA", "n": b64(2**2047 + 1), "e": "AQAB"}


def why(member: object) -> str:
    """Why a key is none."""
    with pytest.raises(UnusableKeysError) as caught:
        read_jwk(member)
    return str(caught.value)


@pytest.mark.parametrize("member", [EC, EC384, RSA], ids=["P-256", "P-384", "RSA"])
def test_a_key_is_read_as_it_is_written(member: dict[str, Any]) -> None:
    """With what it says of its use, and without what it has besides."""
    assert read_jwk(member) == public_jwk(member) == member
    said = {"kid": "k", "alg": "RS256"}
    assert read_jwk(member | said | {"use": "sig", "key_ops": ["sign", "verify"], "d": "secret"}) == member | said
    assert read_jwk(member | {"key_ops": "verify", "kid": None, "alg": ""}) == member


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use": "enc"}, "use is 'enc', not 'sig'"), ({"key_ops": ["sign"]}, "key_ops is ['sign'], without 'verify'"),
        ({"key_ops": "sign"}, "key_ops is 'sign', without 'verify'"), ({"kty": "oct"}, "kty is 'oct', not 'RSA' or 'EC'"),
        ({"kty": None}, "kty is absent"), ({"kid": 5}, "kid is 5, not a text"), ({"alg": ["x"]}, "alg is ['x'], not a text"),
        ({"crv": "P-521"}, "crv is 'P-521', not 'P-256' or 'P-384'"), ({"crv": 5}, "crv is 5, not 'P-256' or 'P-384'"),
        ({"crv": None}, "crv is absent"), ({"crv": ["P-256"]}, "crv is ['P-256'], not"), ({"key_ops": "verifying"}, "without 'verify'"), ({"x": None}, "x is absent"), ({"y": "!"}, "y is not base64url"),
        ({"x": 5}, "x is not base64url"), ({"x": b64(2**256)}, "x is too large for P-256"),
        ({"x": b64(2**256 - 2**224 + 2**192 + 2**96 - 1)}, "x is too large for P-256"),
        ({"y": b64(2**256 - 2**224 + 2**192 + 2**96 - 1)}, "y is too large for P-256"),
        ({"y": b64(P256[1] + 1)}, "x and y are no point of P-256"), ({"x": EC["y"], "y": EC["x"]}, "no point of P-256"),
    ],
    ids=str,
)  # fmt: skip
def test_a_key_that_is_none_says_which_member_disqualifies_it(change: dict[str, Any], said: str) -> None:
    """Nothing of it is taken."""
    assert said in why(EC | change)
    assert public_jwk(EC | change) is None


@pytest.mark.parametrize("member", [None, 5, "x", []])
def test_what_is_no_object_is_no_key(member: object) -> None:
    """Whatever else it is."""
    assert why(member) == "it is not an object"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n": b64(2**2046 + 1)}, "n has 2047 bits, not 2048 to 16384"), ({"n": b64(2**16384 + 1)}, "n has 16385 bits"),
        ({"e": b64(1)}, "e is no public exponent"), ({"e": b64(4)}, "e is no public"), ({"e": "AA"}, "e is no public"),
        ({"e": b64(2**64 + 1)}, "e is no public exponent"), ({"n": None}, "n is absent"), ({"e": ""}, "e is absent"),
    ],
    ids=lambda given: str(given)[:30],
)  # fmt: skip
def test_an_rsa_key_has_enough_bits_and_an_odd_exponent(change: dict[str, Any], said: str) -> None:
    """An exponent of one signs nothing; one of many bits costs whoever verifies."""
    assert said in why(RSA | change)


@pytest.mark.parametrize("exponent", [3, 65537, 2**64 - 1])
@pytest.mark.parametrize("bits", [2048, 16384])
def test_bounds_of_rsa_are_of_the_range(bits: int, exponent: int) -> None:
    """The smallest and the largest."""
    member = RSA | {"n": b64(2 ** (bits - 1) + 1), "e": b64(exponent)}
    assert read_jwk(member) == member


def test_numbers_are_read_widely_and_written_properly() -> None:
    """Padded, in the other alphabet, broken over lines, with more or fewer zeros in front."""
    wide = {name: EC[name].replace("-", "+").replace("_", "/") + "=" for name in ("x", "y")}
    assert read_jwk(EC | wide) == EC
    assert read_jwk(EC | {"x": f"{EC['x'][:20]}\r\n {EC['x'][20:]}"}) == EC
    assert read_jwk(EC | {"x": b64(P256[0], 40)}) == EC
    assert read_jwk(RSA | {"n": b64(2**2047 + 1, 300), "e": b64(65537, 4)}) == RSA


@pytest.mark.parametrize(
    ("curve", "size", "x", "y"),
    [
        (
            "P-256", 32,
            0x5543894AF3D00ED7D740ABDBD75C96B06877B787DB5F70EEA78B90A8D7C00A,
            0xBB4C85A3D8EA29EFAAFA24406912DD84D5B14DC32BF656EF6C6BD58A5D943F92,
        ),
        (
            "P-384", 48,
            0x4D104B26EE5671F72C10C986841D3E65D285E2516161B7BAA341B12631B9E32B6F0D5896D8431C51D5D93A37CBC90E,
            0xF11A1E3F8B7B90538EE42CC00EE934A6E2EE25541607D8FB65C7A8B11E2F886853886EEF3865EC933200B9F25599F29F,
        ),
    ],
    ids=["P-256", "P-384"],
)  # fmt: skip
def test_a_coordinate_is_written_with_the_zeros_in_front_that_its_curve_asks_for(
    curve: str, size: int, x: int, y: int
) -> None:
    """These points are 379 and 197 times the base points: the first whose x has a byte less than the curve."""
    found = read_jwk({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)})
    assert found == {"kty": "EC", "crv": curve, "x": b64(x, size), "y": b64(y, size)}
    assert found["x"].startswith("A")


def test_a_set_is_read_past_what_is_none_and_a_key_by_itself_is_one() -> None:
    """Each that is none is named with its place, its name and its fault; the first three are told."""
    assert parse_jwks(json.dumps({"keys": [5, RSA, EC | {"use": "enc"}, EC]})) == (RSA, EC)
    assert parse_jwks(json.dumps(EC)) == (EC,)
    assert parse_jwks(json.dumps({"keys": [EC], "kty": "RSA"}).encode()) == (EC,)
    bad = [5, EC | {"use": "enc", "kid": "k"}, EC | {"kty": None}, {}, {}]
    with pytest.raises(UnusableKeysError) as caught:
        parse_jwks(json.dumps({"keys": bad}))
    assert str(caught.value).endswith(
        "(key 1: it is not an object; key 2 ('k'): use is 'enc', not 'sig'; key 3: kty is absent; and 2 more)"
    )
    for many, end in ((3, "key 3: kty is absent)"), (4, "key 3: kty is absent; and 1 more)")):
        with pytest.raises(UnusableKeysError) as caught:
            parse_jwks(json.dumps({"keys": bad[:many]}))
        assert str(caught.value).endswith(end)


def test_keys_in_pem_are_each_one_and_what_is_secret_or_signed_is_none() -> None:
    """A block of another kind is passed over where there is a good one."""
    rsa, ec = SigningKey.rs256(), SigningKey.es384()
    found = parse_keys(f"first {rsa.public_pem} and\n{ec.public_pem}")
    assert found == tuple({k: v for k, v in key.jwk().items() if k in EC or k in RSA} for key in (rsa, ec))
    odd = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    assert parse_keys(odd + ec.public_pem) == found[1:]
    with pytest.raises(UnusableKeysError, match="holds a private key"):
        parse_keys(ec.public_pem + ec.private_pem)
    with pytest.raises(UnusableKeysError, match="holds a certificate"):
        parse_keys("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
    with pytest.raises(UnusableKeysError, match="no usable RSA"):
        parse_keys(odd)


@pytest.mark.parametrize("text", ["5", "[]", '["kty"]', "{}", '{"keys": {}}', '{"keys": 5}', '{"kid": "x"}', '"kty"'])
def test_what_is_no_set_is_said_to_be_none(text: str) -> None:
    """Whatever JSON it is."""
    with pytest.raises(UnusableKeysError, match="it is not a JWK Set"):
        parse_jwks(text)


def test_an_empty_set_and_what_is_no_json_hold_no_key() -> None:
    """Nothing is quoted of either."""
    with pytest.raises(UnusableKeysError, match=r"public key$"):
        parse_jwks('{"keys": []}')
    with pytest.raises(UnusableKeysError, match="not JSON"):
        parse_jwks("{")
    with pytest.raises(UnusableKeysError, match=r"public key$"):
        parse_keys("no PEM")
    assert parse_keys(f"\n {json.dumps(EC)}") == (EC,)


def test_a_token_chooses_among_the_keys_that_its_header_fits() -> None:
    """Its `kid` counts first, then the algorithm; a key without a `kid` is tried for any."""
    one, two, bare = RSA | {"kid": "1"}, EC | {"kid": "2"}, RSA
    assert choose([one, two, bare], "RS256", "1") == (one, bare)
    assert choose([one, two], "ES256", "2") == (two,)
    assert choose([one, two], "RS256", "3") == ()
    assert choose([], "RS256", "3") == ()
    assert choose([one, two], "RS512", None) == (one,)
    assert choose([one, one | {"kid": "3"}], "RS256", None) == ()
    assert choose([bare, one], "RS256", None) == ()
    assert choose([bare, bare | {"e": "Aw"}], "RS256", None) == (bare, bare | {"e": "Aw"})


@pytest.mark.parametrize(
    ("key", "algorithm", "kinds"),
    [
        (RSA, "ES256", "RSA"), (EC, "ES384", "P-256"), (EC384, "ES256", "P-384"), (EC, "RS256", "P-256"),
        (RSA | {"alg": "RS256"}, "RS384", "RS256"), (EC | {"alg": "ES384"}, "ES256", "ES384"), (RSA, "PS256", "RSA"),
    ],
    ids=str,
)  # fmt: skip
def test_a_key_of_another_kind_is_the_tokens_fault(key: Mapping[str, str], algorithm: str, kinds: str) -> None:
    """It names what the key could have signed."""
    with pytest.raises(AlgorithmError, match=f"expected '{kinds}', received '{algorithm}'"):
        choose([dict(key)], algorithm, None)
    with pytest.raises(AlgorithmError):
        choose([dict(key) | {"kid": "k"}], algorithm, "k")


def test_a_curve_and_its_algorithm_fit() -> None:
    """As an algorithm of RSA fits any RSA key that names none."""
    assert (choose([EC], "ES256", "x"), choose([EC384], "ES384", None)) == ((EC,), (EC384,))
    assert choose([RSA | {"alg": "RS384"}], "RS384", None) == (RSA | {"alg": "RS384"},)


def test_keys_of_a_file_are_read_anew_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a path that may begin at home, with or without a mark of its bytes' order."""
    path, named = tmp_path / "keys", {"kid": "k"}
    path.write_text(json.dumps(EC | named))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert file_keys("~/keys", "ES256", "k") == (EC | named,)
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(RSA).encode())
    assert file_keys(str(path), "RS256", "k") == static_keys(json.dumps(RSA), "RS256", "k") == (RSA,)
    for find, keys in ((file_keys, str(path)), (static_keys, json.dumps(RSA | named))):
        path.write_text(json.dumps(RSA | named))
        with pytest.raises(UnknownKeyError) as unknown:
            find(keys, "RS256", "other")
        assert (unknown.value.claim, unknown.value.received) == ("kid", "other")


def test_a_file_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    """It may be away, no text, no key, or larger than any set of keys."""
    path = tmp_path / "keys"
    for content, said in ((None, "cannot be read"), (b"\xff\xfe", "it is not text"), (b"x", "no usable RSA")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(KeysUnavailableError, match=said):
            file_keys(str(path), "RS256", None)
    path.write_text(json.dumps(RSA).ljust(MAX_KEYS_BYTES))
    assert file_keys(str(path), "RS256", None) == (RSA,)
    path.write_text(json.dumps(RSA).ljust(MAX_KEYS_BYTES + 1))
    with pytest.raises(KeysUnavailableError):
        file_keys(str(path), "RS256", None)
    with pytest.raises(KeysUnavailableError, match="the configured key cannot be used"):
        static_keys("x", "RS256", None)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", KeyKind.NONE), (" \n", KeyKind.NONE), (" {}", KeyKind.INLINE), ("\n-----BEGIN PUBLIC KEY-----", KeyKind.INLINE),
        ("https://x/y", KeyKind.URL), ("keys.pem", KeyKind.FILE), ("/etc/keys", KeyKind.FILE),
    ],
)  # fmt: skip
def test_keys_are_one_of_four_things(text: str, kind: KeyKind, tmp_path: Path) -> None:
    """Or nothing."""
    assert make_settings(tmp_path, text).key_kind is kind


@pytest.mark.parametrize(
    "url",
    [
        "https://nas.example.com", "https://nas.example.com/a@b", "http://localhost/x", "http://127.0.0.2:8080/x",
        "http://[::1]/x", "https://nas.example.com/?x=http://y",
    ],
)  # fmt: skip
def test_keys_come_from_https_or_from_this_machine(url: str, tmp_path: Path) -> None:
    """A sign in the path is no password."""
    assert make_settings(tmp_path, url).keys == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://a@nas.example.com/x", "holds credentials"), ("https://a:b@nas", "holds credentials"),
        ("https://nas/a b", "holds blanks"), ("https://nas/\x00", "holds blanks"), ("https:///x", "cannot be fetched"),
        ("https://", "cannot be fetched"), ("http://nas.example.com/x", "cannot be fetched"),
        ("ftp://localhost/x", "cannot be fetched"), ("http://127.0.0.1.example.com/x", "cannot be fetched"),
        ("http://[::/x", "cannot be fetched"), ("HTTPS://nas/x", "cannot be fetched"),
    ],
)  # fmt: skip
def test_keys_come_from_nowhere_else(url: str, said: str, tmp_path: Path) -> None:
    """The cause is said, and no password with it."""
    with pytest.raises(ConfigError, match=said):
        make_settings(tmp_path, url)


def test_this_machine_is_named_by_its_own_spellings_alone() -> None:
    """A name that resolves to it is none."""
    assert [is_loopback(f"http://{host}/") for host in ("localhost", "127.9.9.9", "[::1]")] == [True] * 3
    assert [is_loopback(url) for url in ("http://10.0.0.1/", "http:///", "x", "http://local/", "http://[x/")] == [
        False
    ] * 5


NUMBERS = ("fetch_timeout_s", "max_age_s", "max_stale_s", "cooldown_s", "max_life_s", "leeway_s")


@pytest.mark.parametrize("name", NUMBERS)
def test_a_duration_is_from_nothing_to_ten_years(name: str, tmp_path: Path) -> None:
    """Both are of the range; what is no number at all is none."""
    longest = 10 * 365 * 86400
    for good in (0, 0.5, longest):
        make_settings(tmp_path, "", **{name: good})
    for bad in (-0.001, longest + 1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=name):
            make_settings(tmp_path, "", **{name: bad})


@pytest.mark.parametrize("name", ["a:f", "a.b_c:f1"])
def test_a_verifier_is_a_function_of_a_module(name: str, tmp_path: Path) -> None:
    """It is looked for when it is needed."""
    assert make_settings(tmp_path, "", verifier=name).verifier == name


@pytest.mark.parametrize("name", ["", "a", "a:", ":f", "a.:f", "a:f.g", "a-b:f", "a:1", "nas-jwt:f", "a:f:g"])
def test_what_names_no_function_is_refused(name: str, tmp_path: Path) -> None:
    """As one sets it, not when the first fire comes."""
    with pytest.raises(ConfigError, match=r"trust\.verifier"):
        make_settings(tmp_path, "", verifier=name)
