"""What makes a fire token good, and each way in which it can be bad (RFC 7515, 7519, 8725 and the wire contract)."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from jwt.api_jws import PyJWS

from chronos_cli.errors import ConfigError, ExitCode, KeysUnavailableError
from chronos_cli.trust import (
    FireClaims,
    FireTokenError,
    TrustSettings,
    check_binding,
    verify_fire_token,
    verify_nas_fire_token,
)
from chronos_cli.trust import token_errors as refusals
from tests.fire_tokens import AUDIENCE, ISSUER, SigningKey
from tests.trust.trusting import make_settings

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 20, 15, 34, 15, 400_000, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
FIRE_AT = "2026-11-20T15:34:15+00:00"
OTHER_ZONE = timezone(timedelta(hours=-5))


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.rs256()


@pytest.fixture(scope="module")
def ec_key() -> SigningKey:
    return SigningKey.es256()


@pytest.fixture
def settings(key: SigningKey, tmp_path: Path) -> TrustSettings:
    return make_settings(tmp_path, json.dumps(key.jwks()))


def verify(token: Any, settings: TrustSettings) -> FireClaims:
    return verify_fire_token(token, settings, now=lambda: NOW)


def refusal(token: Any, settings: TrustSettings) -> FireTokenError:
    with pytest.raises(FireTokenError) as caught:
        verify(token, settings)
    error = caught.value
    if isinstance(token, str) and len(token) > 20:
        assert token not in f"{error!r} {error.line()} {error.as_json()}"
    assert (error.http_status, error.exit_code) == (401, ExitCode.REFUSED)
    return error


def segment(document: object) -> str:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_good_token_gives_its_claims(key: SigningKey, settings: TrustSettings) -> None:
    """A token as NAS mints it verifies, and its claims come out typed, the instant cut to its second."""
    claims = verify(key.token(now=NOW_S, job_id="j1", fire_at="2026-11-20T16:34:15.9+01:00", jti="x"), settings)
    assert (claims.job_id, claims.jti, claims.bound) == ("j1", "x", True)
    assert claims.fire_at == datetime(2026, 11, 20, 15, 34, 15, tzinfo=UTC)
    assert claims.expires == datetime.fromtimestamp(NOW_S + 90, UTC)
    assert claims.issued == datetime.fromtimestamp(NOW_S, UTC)
    assert claims.claims["purpose"] == "cron_fire"


def test_token_with_the_required_claims_only(key: SigningKey, settings: TrustSettings) -> None:
    """A NAS that binds nothing and dates nothing but the expiry is within the contract."""
    claims = verify(key.token(now=NOW_S, without=("iat", "jti")), settings)
    assert (claims.job_id, claims.fire_at, claims.jti, claims.issued, claims.bound) == (None, None, None, None, False)


def test_null_binds_nothing(key: SigningKey, settings: TrustSettings) -> None:
    """`null` for a job, a time or a `jti` is as good as none."""
    claims = verify(key.token(now=NOW_S, **dict.fromkeys(("job_id", "fire_at", "jti"))), settings)
    assert (claims.job_id, claims.fire_at, claims.jti) == (None, None, None)


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
def test_every_rsa_algorithm_of_the_contract(algorithm: str, key: SigningKey, tmp_path: Path) -> None:
    """A key that does not say its algorithm verifies each RSA algorithm of the contract."""
    jwk = {name: value for name, value in key.jwk().items() if name != "alg"}
    token = key.token(now=NOW_S, algorithm=algorithm)
    assert verify(token, make_settings(tmp_path, json.dumps({"keys": [jwk]}))).claims["aud"] == AUDIENCE


@pytest.mark.parametrize("make", [SigningKey.es256, SigningKey.es384])
def test_every_curve_of_the_contract(make: Any, tmp_path: Path) -> None:
    """ES256 and ES384 verify with keys on their own curve."""
    key = make()
    assert verify(key.token(now=NOW_S), make_settings(tmp_path, json.dumps(key.jwks()))).claims["iss"] == ISSUER


@pytest.mark.parametrize(
    ("claims", "code", "said"),
    [
        ({"without": ["aud"]}, "missing_claim", "aud"),
        ({"without": ["iss"]}, "missing_claim", "iss"),
        ({"without": ["exp"]}, "missing_claim", "exp"),
        ({"without": ["purpose"]}, "missing_claim", "purpose"),
        ({"aud": None}, "missing_claim", "aud"),
        ({"exp": None}, "missing_claim", "exp"),
        ({"aud": "agent:other"}, "audience", "aud: expected 'agent:7f3', received 'agent:other'"),
        ({"aud": ["agent:other"]}, "audience", "received ['agent:other']"),
        ({"aud": "agent:7f30"}, "audience", "agent:7f30"),
        ({"aud": ""}, "audience", "aud"),
        ({"aud": {"agent:7f3": 1}}, "audience", "aud"),
        ({"iss": "https://evil.example.com"}, "issuer", "iss: expected 'https://portal.example.com', received"),
        ({"iss": ISSUER + "/x"}, "issuer", "iss"),
        ({"iss": ISSUER.upper()}, "issuer", "iss"),
        ({"purpose": "agent_api"}, "purpose", "purpose: expected 'cron_fire', received 'agent_api'"),
        ({"purpose": ["cron_fire"]}, "purpose", "purpose"),
        ({"exp": str(NOW_S + 60)}, "claim_type", "exp"),
        ({"exp": True}, "claim_type", "exp"),
        ({"exp": [NOW_S]}, "claim_type", "exp"),
        ({"exp": 10**30}, "claim_type", "exp"),
        ({"exp": -1}, "claim_type", "exp"),
        ({"exp": 1e300}, "claim_type", "exp"),
        ({"iat": "now"}, "claim_type", "iat"),
        ({"nbf": "now"}, "claim_type", "nbf"),
        ({"job_id": 7}, "claim_type", "job_id"),
        ({"fire_at": "yesterday"}, "claim_type", "fire_at"),
        ({"fire_at": "2026-11-20T15:34:15"}, "claim_type", "fire_at"),
        ({"fire_at": NOW_S}, "claim_type", "fire_at"),
        ({"jti": 7}, "claim_type", "jti"),
        ({"home": 7}, "claim_type", "home"),
        ({"exp": NOW_S - 31}, "expired", "exp"),
        ({"exp": NOW_S + 3601}, "too_long_lived", f"exp: expected 'at most {NOW_S + 3600}'"),
        ({"iat": NOW_S - 3600, "exp": NOW_S + 1}, "too_long_lived", "exp"),
        ({"exp": NOW_S + 3631, "without": ["iat"]}, "too_long_lived", "exp"),
        ({"exp": NOW_S + 3631, "iat": None}, "too_long_lived", "exp"),
        ({"nbf": NOW_S + 31}, "not_yet_valid", "nbf"),
        ({"iat": NOW_S + 31}, "not_yet_valid", "iat"),
    ],
)
def test_bad_claim(claims: dict[str, Any], code: str, said: str, key: SigningKey, settings: TrustSettings) -> None:
    """Each claim that is missing, of the wrong form or wrong refuses the token under its own code, and is named."""
    error = refusal(key.token(now=NOW_S, **claims), settings)
    assert error.code == code
    assert said in error.message


def test_null_counts_as_absent(key: SigningKey, settings: TrustSettings) -> None:
    """`nbf`, `iat` and all that binds a token are optional, and so may be null; so may members of its header."""
    claims = verify(key.token(now=NOW_S, nbf=None, iat=None, jti=None, home=None, sub=None), settings)
    assert (claims.issued, claims.jti, claims.home) == (None, None, None)
    header = {"alg": "RS256", "kid": None, "typ": None, "crit": None, "b64": None, "x5c": None}
    signed = f"{segment(header)}.{segment(key.claims(now=NOW_S))}"
    proof = key.private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert verify(f"{signed}.{segment(proof)}", settings).claims["aud"] == AUDIENCE


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW_S + 3600},
        {"iat": NOW_S - 3500, "exp": NOW_S + 100},
        {"exp": NOW_S + 3630, "without": ["iat"]},
    ],
)
def test_longest_life(claims: dict[str, Any], key: SigningKey, settings: TrustSettings) -> None:
    """An hour from `iat` to `exp` is accepted; without `iat` an hour from now, by clocks that may differ."""
    assert verify(key.token(now=NOW_S, **claims), settings)


def test_longest_life_is_a_setting(key: SigningKey, tmp_path: Path) -> None:
    """`max_life_s` moves the bound, both ways."""
    token = key.token(now=NOW_S, exp=NOW_S + 7200)
    assert verify(token, make_settings(tmp_path, key.public_pem, max_life_s=7200))
    assert refusal(token, make_settings(tmp_path, key.public_pem, max_life_s=7199)).code == "too_long_lived"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_leeway_is_thirty_seconds(name: str, key: SigningKey, settings: TrustSettings) -> None:
    """30 s past `exp`, or ahead of `nbf` and `iat`, is accepted, fractions included; 31 s is refused."""
    edge = -30 if name == "exp" else 30
    beyond = -31 if name == "exp" else 31
    assert verify(key.token(now=NOW_S, **{name: NOW_S + edge}), settings)
    assert verify(key.token(now=NOW_S, **{name: NOW_S + edge + 0.9}), settings)
    assert refusal(key.token(now=NOW_S, **{name: NOW_S + beyond}), settings).code in {"expired", "not_yet_valid"}


def test_system_clock_is_the_default(key: SigningKey, settings: TrustSettings) -> None:
    """Without an injected clock the present is the machine's."""
    assert verify_fire_token(key.token(), settings)
    with pytest.raises(refusals.ExpiredError):
        verify_fire_token(key.token(now=1_700_000_000), settings)


@pytest.mark.parametrize(("here", "there"), [("/", ""), ("", "/"), ("/", "/"), ("", "//")])
def test_issuer_without_trailing_slash(here: str, there: str, key: SigningKey, tmp_path: Path) -> None:
    """The issuer is compared without a trailing slash, on both sides."""
    ours = make_settings(tmp_path, key.public_pem, issuer=ISSUER + here)
    assert verify(key.token(now=NOW_S, iss=ISSUER + there), ours)


def test_audience_may_be_one_of_several(key: SigningKey, settings: TrustSettings) -> None:
    """`aud` may be a list (RFC 7519, 4.1.3); ours has to be in it."""
    assert verify(key.token(now=NOW_S, aud=["agent:other", AUDIENCE]), settings)


@pytest.mark.parametrize("token", [None, ""])
def test_no_token(token: str | None, settings: TrustSettings) -> None:
    """A request without a token has a code of its own: some servers drop the header."""
    assert refusal(token, settings).code == "missing_authorization"


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b",
        "..",
        "a.b.c.d",
        " e30.e30.e30",
        "\u00e9.a.b",
        "\udc80.a.b",
        f"{segment([])}.e30.AA",
        segment(b"{") + ".e30.AA",
        segment(b"[" * 3000) + ".e30.AA",
        segment(b'{"alg":"none","alg":"RS256"}') + ".e30.AA",
        segment(b'{"alg":NaN}') + ".e30.AA",
        f"{segment(bytes([255, 254]))}.e30.AA",
        segment({"alg": "RS256", "kid": 7}) + ".e30.AA",
        "A" * 5_000 + "." + "A" * 5_000 + ".A",
        b"a.b.c",
        7,
        ["a.b.c"],
    ],
)
def test_not_a_jwt(token: Any, settings: TrustSettings) -> None:
    """What is no JWT is refused as such, whatever it is."""
    assert refusal(token, settings).code == "malformed"


def test_bad_base64_behind_a_good_header(key: SigningKey, settings: TrustSettings) -> None:
    """Garbage in the payload or the signature is refused, not decoded around."""
    header, payload, signature = key.token(now=NOW_S).split(".")
    for token in (f"{header}.!{payload}.{signature}", f"{header}.{payload}.{signature}!", f"{header}.{payload}."):
        assert refusal(token, settings).code in {"malformed", "signature"}


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "HS512", "PS256", "ES512", "EdDSA", "", None, 7])
def test_algorithm_not_on_the_list(algorithm: Any, settings: TrustSettings) -> None:
    """Only the contract's asymmetric algorithms count; `none` and HS* never do."""
    token = f"{segment({'alg': algorithm, 'kid': 'rsa-1'})}.{segment({'aud': AUDIENCE})}."
    assert refusal(token, settings).code == "algorithm"


def test_public_key_as_hmac_secret(key: SigningKey, tmp_path: Path) -> None:
    """The classic confusion: an HS256 token made with the public key as its secret is refused."""
    import hashlib
    import hmac

    head = f"{segment({'alg': 'HS256', 'typ': 'JWT', 'kid': key.kid})}.{segment(key.claims(now=NOW_S))}"
    mac = hmac.new(key.public_pem.encode(), head.encode(), hashlib.sha256).digest()
    for keys in (key.public_pem, json.dumps(key.jwks())):
        assert refusal(f"{head}.{segment(mac)}", make_settings(tmp_path, keys)).code == "algorithm"


def test_algorithm_has_to_fit_the_key(key: SigningKey, ec_key: SigningKey, tmp_path: Path) -> None:
    """A header that names a key and an algorithm which that key is not for is refused before any arithmetic."""
    settings = make_settings(tmp_path, json.dumps(key.jwks(ec_key, SigningKey.es384())))
    for token in (
        key.token(now=NOW_S, headers={"kid": "ec-1"}),
        ec_key.token(now=NOW_S, headers={"kid": "rsa-1"}),
        ec_key.token(now=NOW_S, headers={"kid": "ec-384"}),
        key.token(now=NOW_S, algorithm="RS512"),  # the JWK says RS256
    ):
        assert refusal(token, settings).code == "algorithm"


@pytest.mark.parametrize("headers", [{"crit": ["b64"], "b64": True}, {"crit": ["x"], "x": 1}, {"b64": False}])
def test_critical_extensions_are_refused(headers: dict[str, Any], key: SigningKey, settings: TrustSettings) -> None:
    """Whatever `crit` demands is not understood here (RFC 7515, 4.1.11), `b64` of RFC 7797 included."""
    head, _, rest = key.token(now=NOW_S).partition(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    assert refusal(f"{segment({**header, **headers})}.{rest}", settings).code == "crit"


def test_changed_token(key: SigningKey, settings: TrustSettings) -> None:
    """Claims that were changed after signing do not verify."""
    header, _, signature = key.token(now=NOW_S).split(".")
    payload = segment(key.claims(now=NOW_S, job_id="another"))
    assert refusal(f"{header}.{payload}.{signature}", settings).code == "signature"


def test_foreign_key_under_a_known_kid(settings: TrustSettings) -> None:
    """A stranger's signature under the name of a published key does not verify."""
    assert refusal(SigningKey.rs256(other=True).token(now=NOW_S), settings).code == "signature"


def test_unknown_kid(key: SigningKey, settings: TrustSettings) -> None:
    """A `kid` that is not among the keys is refused, and named."""
    error = refusal(key.token(now=NOW_S, headers={"kid": "other"}), settings)
    assert (error.code, "other" in error.message) == ("unknown_key", True)


def test_token_without_kid(key: SigningKey, ec_key: SigningKey, tmp_path: Path) -> None:
    """Without a `kid` the key is used where only one can be meant, and none is guessed where there are several."""
    token = key.token(now=NOW_S, headers={"kid": None})
    assert verify(token, make_settings(tmp_path, json.dumps(key.jwks(ec_key))))
    several = make_settings(tmp_path, json.dumps(key.jwks(SigningKey.rs256("rsa-2"))))
    assert refusal(token, several).code == "unknown_key"


@pytest.mark.parametrize("payload", [b"[]", b"7", b"{", b"\xff", b'{"aud":1,"aud":2}', b'{"exp":NaN}', b"[" * 3000])
def test_signed_nonsense(payload: bytes, key: SigningKey, settings: TrustSettings) -> None:
    """A good signature over what is no JSON object is still refused."""
    token = PyJWS().encode(payload, key.private, algorithm="RS256", headers={"kid": key.kid})
    assert refusal(token, settings).code == "malformed"


def test_keys_from_files_and_inline(key: SigningKey, ec_key: SigningKey, tmp_path: Path) -> None:
    """A host without egress verifies with a PEM file, a JWKS file, or either of them inline."""
    pem, jwks = tmp_path / "nas.pem", tmp_path / "nas.json"
    pem.write_text(f"Our NAS\n{ec_key.public_pem}{key.public_pem}")
    jwks.write_text(json.dumps(key.jwks(ec_key)))
    for keys in (str(pem), str(jwks), pem.read_text().partition("\n")[2], "\n" + jwks.read_text()):
        settings = make_settings(tmp_path, keys)
        assert verify(key.token(now=NOW_S), settings)
        assert verify(ec_key.token(now=NOW_S, headers={"kid": "whatever" if "BEGIN" in keys else "ec-1"}), settings)
    assert refusal(SigningKey.rs256(other=True).token(now=NOW_S), make_settings(tmp_path, str(pem))).code == "signature"


def test_several_pem_keys_are_each_tried(key: SigningKey, tmp_path: Path) -> None:
    """While keys rotate, a PEM file may hold the old and the new one."""
    new = SigningKey.rs256("rsa-2")
    settings = make_settings(tmp_path, key.public_pem + new.public_pem)
    assert verify(key.token(now=NOW_S), settings)
    assert verify(new.token(now=NOW_S), settings)


def test_key_file_is_found_under_home(key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key path may start with a tilde."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "k.pem").write_text(key.public_pem)
    assert verify(key.token(now=NOW_S), make_settings(tmp_path, "~/k.pem"))


def unusable_keys(key: SigningKey) -> list[tuple[str, str]]:
    weak = SigningKey.rs256(bits=1024)
    return [
        (key.private_pem, "private key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "certificate"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "no usable"),
        ("-----BEGIN PUBLIC KEY-----", "no usable"),
        (weak.public_pem, "no usable"),
        ("{", "not JSON"),
        ("{}", "not a JWK Set"),
        ('{"keys": []}', "no usable"),
        (
            json.dumps({"keys": [weak.jwk()]}),
            "no usable RSA, P-256 or P-384 public key (key 1 ('rsa-1'): n has 1024 bits",
        ),
        (json.dumps({"keys": [key.jwk(use="enc")]}), "key 1 ('rsa-1'): use is 'enc', not 'sig'"),
        (json.dumps({"keys": [key.jwk(key_ops=["sign"])]}), "key_ops is ['sign'], without 'verify'"),
        (json.dumps({"keys": [key.jwk(kid=7)]}), "key 1 (7): kid is 7, not a text"),
        (json.dumps({"keys": [key.jwk(alg=["RS256"])]}), "alg is ['RS256'], not a text"),
        (json.dumps({"keys": [key.jwk(n=None)]}), "n is absent"),
        (json.dumps({"keys": [key.jwk(e="AQ")]}), "e is no public exponent"),
        (json.dumps({"keys": [key.jwk(n="a*b")]}), "n is not base64url"),
        (json.dumps({"keys": [key.jwk(kty=None)]}), "kty is absent"),
        (json.dumps({"keys": [7]}), "key 1: it is not an object"),
        (json.dumps({"keys": [key.jwk(use="enc"), 7, 7, 7, 7]}), "; and 2 more)"),
        (json.dumps({"keys": [{"kty": "oct", "k": "AAAA", "kid": "rsa-1"}, 7, None]}), "no usable"),
        (json.dumps({"keys": [key.jwk(n="AQAB"), key.jwk(n="!"), key.jwk(e="AA"), key.jwk(n=[])]}), "no usable"),
        (json.dumps({"keys": [{"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA", "kid": "rsa-1"}]}), "crv is 'P-521'"),
        (json.dumps({"keys": [{"kty": "EC", "x": "AA", "y": "AA", "kid": "rsa-1"}]}), "crv is absent"),
        (json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}), "x and y are no point of P-256"),
        (json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "_" * 43, "y": "AA"}]}), "x is too large for P-256"),
    ]


def test_keys_that_cannot_be_used(key: SigningKey, tmp_path: Path) -> None:
    """With keys that are none, or too weak, nothing can be judged: a temporary error, not a refusal."""
    for text, said in unusable_keys(key):
        path = tmp_path / "keys"
        path.write_text(text)
        for keys in (text, str(path)):
            with pytest.raises(KeysUnavailableError) as caught:
                verify(key.token(now=NOW_S), make_settings(tmp_path, keys))
            assert said in caught.value.message
            assert caught.value.http_status == 503
            assert "BEGIN" not in caught.value.line()


def test_key_file_that_cannot_be_read(key: SigningKey, tmp_path: Path) -> None:
    """A key file that is absent, a folder, binary or huge is named in a temporary error."""
    binary, huge = tmp_path / "binary", tmp_path / "huge"
    binary.write_bytes(b"\xff\xfe\x00")
    huge.write_text("#" * 300_000)
    for path in (tmp_path / "absent.pem", tmp_path, binary, huge):
        with pytest.raises(KeysUnavailableError, match=str(path)):
            verify(key.token(now=NOW_S), make_settings(tmp_path, str(path)))


@pytest.mark.parametrize(
    "name", ["use", "alg", "kid", "key_ops", "x5c", "x5t", "x5u", "x5t#S256", "d", "crv", "nobody"]
)
@pytest.mark.parametrize("nothing", [None, "", []])
def test_member_that_is_null_or_empty_counts_as_absent(
    name: str, nothing: object, key: SigningKey, ec_key: SigningKey, tmp_path: Path
) -> None:
    """Serializers write members that have no value; such a key is as good as one without them."""
    for signer in (key, ec_key):
        if name == "crv" and signer is ec_key:
            continue
        jwks = json.dumps({"keys": [signer.jwk(**{name: nothing})]})
        assert verify(signer.token(now=NOW_S), make_settings(tmp_path, jwks))


def test_every_optional_member_null_at_once(key: SigningKey, tmp_path: Path) -> None:
    """A whole record of nulls beside the key itself."""
    names = (
        "kid",
        "alg",
        "use",
        "key_ops",
        "x5c",
        "x5t",
        "x5u",
        "x5t#S256",
        "d",
        "p",
        "q",
        "oth",
        "crv",
        "x",
        "y",
        "k",
    )
    jwks = json.dumps({"keys": [key.jwk(**dict.fromkeys(names))]})
    assert verify(key.token(now=NOW_S), make_settings(tmp_path, jwks))


def test_keys_are_read_as_widely_as_others_read_them(key: SigningKey, ec_key: SigningKey, tmp_path: Path) -> None:
    """Padding, the other base64 alphabet, broken lines, zeros in front and too few of them: it is the same number."""
    plain = key.jwk()
    modulus = base64.urlsafe_b64decode(plain["n"] + "==")
    small = ec_key.jwk()
    x = base64.urlsafe_b64decode(small["x"] + "==")
    variants = [
        (key, key.jwk(e="AQAB====")),
        (key, key.jwk(n=base64.b64encode(modulus).decode(), e="AAEAAQ")),
        (key, key.jwk(n=base64.urlsafe_b64encode(b"\0" + modulus).decode())),
        (key, key.jwk(n="\n".join(plain["n"][at : at + 64] for at in range(0, len(plain["n"]), 64)))),
        (key, key.jwk(key_ops="verify")),
        (ec_key, ec_key.jwk(x=base64.b64encode(b"\0\0" + x).decode())),
    ]
    for signer, jwk in variants:
        for text in (json.dumps({"keys": [jwk]}), json.dumps(jwk)):
            assert verify(signer.token(now=NOW_S), make_settings(tmp_path, text)), jwk
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(key.jwks()).encode())
    assert verify(key.token(now=NOW_S), make_settings(tmp_path, str(path)))


def short_point() -> SigningKey:
    """A P-256 key whose x begins with a zero byte, which some serializers then leave out."""
    for number in range(1, 10_000):
        private = ec.derive_private_key(number, ec.SECP256R1())
        if private.public_key().public_numbers().x < 2**248:
            return SigningKey(kid="short", algorithm="ES256", private=private)
    raise AssertionError


def test_coordinate_without_its_zeros(tmp_path: Path) -> None:
    """RFC 7518 wants the full length; the point is known without it."""
    key = short_point()
    x = base64.urlsafe_b64decode(key.jwk()["x"] + "==").lstrip(b"\0")
    jwk = key.jwk(x=base64.urlsafe_b64encode(x).decode().rstrip("="))
    assert verify(key.token(now=NOW_S), make_settings(tmp_path, json.dumps({"keys": [jwk]})))


def test_unusable_key_never_hides_a_good_one(key: SigningKey, ec_key: SigningKey, tmp_path: Path) -> None:
    """Off the curve, too weak, private to somebody else's protocol or no key at all: the others still verify.

    Also where it bears the very `kid` of a good one, or none.
    """
    off = ec_key.jwk(y=ec_key.jwk()["x"])
    bad = [
        off,
        {**off, "kid": None},
        key.jwk(n="AQAB"),
        key.jwk(use="enc"),
        {"kty": "oct", "k": "AAAA", "kid": "ec-1"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "rsa-1"},
        None,
        [],
        {"kty": ["RSA"]},
        {"kty": "EC", "crv": {}, "x": 1, "y": 2},
    ]
    for one in bad:
        for members in ([one, key.jwk(), ec_key.jwk()], [key.jwk(), ec_key.jwk(), one]):
            settings = make_settings(tmp_path, json.dumps({"keys": members}))
            assert verify(ec_key.token(now=NOW_S), settings), one
            assert verify(key.token(now=NOW_S), settings), one


def test_key_that_openssl_does_not_take(key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library finds to be no key after all is passed over, and is the cause only where no other is left."""
    from jwt.api_jwk import PyJWK
    from jwt.exceptions import InvalidKeyError

    read = PyJWK.__init__

    def init(self: Any, data: dict[str, Any], algorithm: str | None = None) -> None:
        if data.get("alg") is None:
            raise InvalidKeyError
        read(self, data, algorithm)

    monkeypatch.setattr(PyJWK, "__init__", init)
    bad = key.jwk(alg=None)
    assert verify(key.token(now=NOW_S), make_settings(tmp_path, json.dumps({"keys": [bad, key.jwk()]})))
    with pytest.raises(KeysUnavailableError, match="a published key cannot be used"):
        verify(key.token(now=NOW_S), make_settings(tmp_path, json.dumps({"keys": [bad]})))


def test_private_members_of_a_jwk_are_not_used(key: SigningKey) -> None:
    """Of a private key that slipped into a JWKS only the public half is kept."""
    from jwt.algorithms import RSAAlgorithm

    from chronos_cli.trust.keys import parse_jwks

    private = {**RSAAlgorithm.to_jwk(key.private, as_dict=True), "key_ops": ["sign", "verify"], "kid": "k"}
    (kept,) = parse_jwks(json.dumps({"keys": [private]}))
    assert set(kept) == {"kty", "n", "e", "kid"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"keys": ""}, "no_key_configured"),
        ({"keys": "  "}, "no_key_configured"),
        ({"expected_audience": ""}, "no_audience_configured"),
        ({"issuer": ""}, "no_issuer_configured"),
        ({"issuer": "/"}, "no_issuer_configured"),
    ],
)
def test_what_is_not_configured_matches_nothing(
    change: dict[str, str], code: str, key: SigningKey, tmp_path: Path
) -> None:
    """Without a key, an audience or an issuer every token is refused, matching empty claims included."""
    settings = make_settings(tmp_path, **{"keys": key.public_pem, **change})
    for claims in ({}, {"aud": ["", AUDIENCE], "iss": "/"}, {"aud": "", "iss": ""}):
        assert refusal(key.token(now=NOW_S, **claims), settings).code == code


@pytest.mark.parametrize(
    "keys",
    [
        "http://portal.example.com/jwks",
        "http://127.0.0.1.example.com/jwks",
        "http://127.evil.com/jwks",
        "http://localhost.example.com/",
        "http://[::2]/jwks",
        "http://10.0.0.1/jwks",
        "http:///jwks",
        "https:///jwks",
        "https://user:secret@portal.example.com/jwks",
        "https://portal.example.com/jw ks",
        "https://portal.example.com/\r\nX: y",
        "ftp://portal.example.com/jwks",
        "file:///etc/passwd",
        "HTTP://portal.example.com/jwks",
    ],
)
def test_urls_that_could_hand_us_foreign_keys(keys: str, tmp_path: Path) -> None:
    """Keys come over https, or from this machine; credentials in the URL are refused and not repeated."""
    with pytest.raises(ConfigError) as caught:
        make_settings(tmp_path, keys)
    assert "secret" not in caught.value.line()


@pytest.mark.parametrize(
    "keys", ["https://p.example.com/j", "http://localhost:8/j", "http://[::1]:8/j", "http://127.9.9.9"]
)
def test_urls_that_are_fine(keys: str, tmp_path: Path) -> None:
    """Any host over https, this one over plain http too."""
    assert make_settings(tmp_path, keys).key_kind == "url"


@pytest.mark.parametrize(
    "change", [{"verifier": "mine"}, {"verifier": "a b:c"}, {"verifier": ":f"}, {"cooldown_s": -1}]
)
def test_settings_that_make_no_sense(change: dict[str, Any], key: SigningKey, tmp_path: Path) -> None:
    """A verifier that is neither built in nor module:function, or a negative time, is a configuration error."""
    with pytest.raises(ConfigError):
        make_settings(tmp_path, key.public_pem, **change)


def bound(**claims: Any) -> FireClaims:
    values = {"job_id": None, "fire_at": None, "jti": None, "issued": None, "expires": None, "claims": {}, **claims}
    return FireClaims(**values)


def test_binding(settings: TrustSettings) -> None:
    """A token fires the job and the second that it names, in whatever zone and fraction they are written."""
    at = datetime.fromisoformat(FIRE_AT)
    token = bound(job_id="j1", fire_at=at)
    check_binding(token, "j1", at, settings)
    check_binding(token, "j1", at.astimezone(OTHER_ZONE) + timedelta(milliseconds=900), settings)
    check_binding(token, "j1", None, settings)
    with pytest.raises(refusals.OtherJobError, match="expected 'j2', received 'j1'"):
        check_binding(token, "j2", at, settings)
    there = bound(job_id="j1", fire_at=at, home="work")
    check_binding(there, "j1", at, settings, home="work")
    check_binding(there, "j1", at, settings)
    with pytest.raises(refusals.OtherHomeError, match="expected 'play', received 'work'"):
        check_binding(there, "j1", at, settings, home="play")
    with pytest.raises(refusals.OtherTimeError, match="15:34:16"):
        check_binding(token, "j1", at + timedelta(seconds=1), settings)
    with pytest.raises(ValueError, match="offset"):
        check_binding(token, "j1", at.replace(tzinfo=None), settings)


def test_unbound_tokens_pass_unless_that_is_forbidden(key: SigningKey, tmp_path: Path) -> None:
    """The hosted NAS may bind nothing; `require_bound` refuses that, naming what is absent."""
    at = datetime.fromisoformat(FIRE_AT)
    lax = make_settings(tmp_path, key.public_pem)
    strict = make_settings(tmp_path, key.public_pem, require_bound=True)
    check_binding(bound(), "j1", at, lax)
    check_binding(bound(job_id="j1", fire_at=at), "j1", at, strict)
    for claims, said in (
        (bound(), "job_id and fire_at"),
        (bound(job_id="j1"), "fire_at"),
        (bound(fire_at=at), "job_id"),
    ):
        with pytest.raises(refusals.UnboundError, match=said):
            check_binding(claims, "j1", at, strict)


def test_every_cause_has_its_own_code() -> None:
    """Codes are stable names: one per cause, none twice, and a hint for each."""
    classes = [kind for kind in vars(refusals).values() if isinstance(kind, type) and issubclass(kind, FireTokenError)]
    codes = sorted(kind.code for kind in classes if kind is not FireTokenError)
    assert codes == sorted(
        [
            "missing_authorization",
            "malformed",
            "no_key_configured",
            "no_audience_configured",
            "no_issuer_configured",
            "algorithm",
            "crit",
            "unknown_key",
            "signature",
            "missing_claim",
            "claim_type",
            "expired",
            "not_yet_valid",
            "audience",
            "issuer",
            "purpose",
            "bound_to_other_home",
            "bound_to_other_job",
            "too_long_lived",
            "bound_to_other_time",
            "unbound",
            "jti_reused",
            "refused_by_verifier",
        ]
    )
    assert all(kind().hint and kind().message for kind in classes)


def test_values_are_for_stderr_only(key: SigningKey, settings: TrustSettings) -> None:
    """The line for the operator has the values that were compared, the JSON document has the cause alone."""
    error = refusal(key.token(now=NOW_S, aud="agent:other"), settings)
    assert "agent:other" in error.line()
    assert error.as_json() == {
        "code": "audience",
        "message": "The fire token is for another agent",
        "hint": error.hint,
        "retryable": False,
    }


@pytest.mark.parametrize("value", ["\x1b[2J\r\nforged: line", "\u202e", "x" * 5000])
def test_received_values_cannot_steer_a_terminal(value: str, key: SigningKey, settings: TrustSettings) -> None:
    """What a stranger put into a claim is shown short, on one line, in plain ASCII."""
    line = refusal(key.token(now=NOW_S, aud=value), settings).line()
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
HEADER = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["RS256", "ES256", "HS256", "none"]) | JSON,
        "kid": JSON,
        "crit": JSON,
        "b64": JSON,
    },
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("aud", "iss", "exp", "nbf", "iat", "purpose", "job_id", "fire_at", "jti", "home", "sub"), JSON
    ),
)
PART = st.builds(segment, JSON) | st.builds(segment, st.binary(max_size=60)) | st.text(max_size=20)
JUNK = (
    st.text(max_size=200)
    | st.binary(max_size=200)
    | JSON
    | st.builds(lambda *parts: ".".join(parts), st.builds(segment, HEADER) | PART, PART, PART)
)


@given(token=JUNK)
@given_settings(max_examples=300, deadline=None, database=None)
def test_fuzzed_tokens(token: Any, shared: TrustSettings) -> None:
    """Whatever is sent as a token is refused with one of our errors, and the public function says None."""
    with pytest.raises(FireTokenError):
        verify(token, shared)
    keys, cache = shared.keys, shared.cache_dir
    assert (
        verify_nas_fire_token(token, expected_audience=AUDIENCE, jwks_or_key=keys, issuer=ISSUER, cache_dir=cache)
        is None
    )


@given(changes=CLAIMS)
@given_settings(max_examples=150, deadline=None, database=None)
def test_fuzzed_claims_with_a_good_signature(changes: dict[str, Any], key: SigningKey, shared: TrustSettings) -> None:
    """Signed claims of every shape either verify, with the required ones intact, or are refused with one of our errors."""
    token = PyJWS().encode(
        json.dumps({**key.claims(now=NOW_S), **changes}).encode(),
        key.private,
        algorithm="RS256",
        headers={"kid": key.kid},
    )
    try:
        claims = verify(token, shared).claims
    except FireTokenError:
        return
    assert (claims["aud"] == AUDIENCE or AUDIENCE in claims["aud"], claims["purpose"]) == (True, "cron_fire")
    given = {name: value for name, value in claims.items() if value is not None}  # PyJWT takes no null
    token = jwt.encode(given, key.private, "RS256")
    options = {"verify_sub": False, "verify_jti": False}
    assert jwt.decode(token, key.public_pem, ["RS256"], audience=AUDIENCE, leeway=10**9, options=options)


@given(keys=st.text(max_size=200) | st.builds(lambda keys: json.dumps({"keys": keys}), st.lists(JSON, max_size=3)))
@given_settings(max_examples=100, deadline=None, database=None)
def test_fuzzed_keys(keys: str, key: SigningKey, shared: TrustSettings) -> None:
    """Whatever stands where keys should be, the public function neither verifies with it nor raises."""
    if "://" in keys:
        return
    token = key.token(now=NOW_S)
    cache = shared.cache_dir
    assert (
        verify_nas_fire_token(token, expected_audience=AUDIENCE, jwks_or_key=keys, issuer=ISSUER, cache_dir=cache)
        is None
    )


@pytest.fixture(scope="module")
def shared(key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> TrustSettings:
    return make_settings(tmp_path_factory.mktemp("fuzz"), json.dumps(key.jwks()))
