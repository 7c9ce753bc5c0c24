"""Headers, claims and bindings of a fire token at their edges, without a signature: each rule by itself."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from chronos_cli.contract import FIRE_PURPOSE, PROOF_PURPOSE
from chronos_cli.errors import ChronosError, KeysUnavailableError
from chronos_cli.trust import compat, tokens, verifier
from chronos_cli.trust.compat import get_fire_verifier, verify_nas_fire_token
from chronos_cli.trust.signature import from_base64url, signed_payload
from chronos_cli.trust.token_errors import (
    AudienceError,
    CritError,
    FireTokenError,
    MalformedTokenError,
    MissingAuthorizationError,
    MissingClaimError,
    NoIssuerConfiguredError,
    PurposeError,
    SignatureError,
    VerifierRefusedError,
)
from chronos_cli.trust.tokens import FireClaims, check_binding, check_claims, claims_from, parse_object, read_header
from tests.fire_tokens import AUDIENCE, ISSUER, SigningKey
from tests.trust.trusting import make_settings

if TYPE_CHECKING:
    from chronos_cli.trust import TrustSettings

NOW = datetime(2026, 11, 20, 15, 34, 15, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
GOOD = {"aud": AUDIENCE, "iss": ISSUER, "purpose": "cron_fire", "iat": SECONDS, "exp": SECONDS + 90}
LATEST = 253_402_300_799


def part(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    return urlsafe_b64encode(data).decode().rstrip("=")


def header(**members: Any) -> str:
    return f"{part(json.dumps({'alg': 'ES256', **members}))}.x.y"


def code(settings: TrustSettings, now: int = SECONDS, **claims: Any) -> str:
    """`ok`, or why these claims are refused."""
    try:
        check_claims(GOOD | claims, settings, now)
    except FireTokenError as error:
        return error.code
    return "ok"


@pytest.fixture
def settings(tmp_path: Path) -> TrustSettings:
    return make_settings(tmp_path, "keys.pem")


def test_a_header_names_its_algorithm_and_its_key() -> None:
    """Or no key at all; what is null says nothing."""
    assert read_header(header()) == ("ES256", None)
    assert read_header(header(kid="k", crit=None, b64=None)) == ("ES256", "k")
    assert read_header(header(kid=None, alg="RS512")) == ("RS512", None)


@pytest.mark.parametrize(
    ("token", "refused"),
    [
        (None, "missing_authorization"), ("", "missing_authorization"), (5, "malformed"), ("a.b", "malformed"),
        ("a.b.c.d", "malformed"), (f"{header()}.z", "malformed"), (header().removesuffix(".y"), "malformed"), (header(kid=5), "malformed"), (header(alg="HS256"), "algorithm"),
        (header(alg=None), "algorithm"), (header(alg=["ES256"]), "algorithm"), (header(crit=["x"]), "crit"),
        (header(b64=False), "crit"), ("!.x.y", "malformed"), (f"{part('[]')}.x.y", "malformed"), (b"a.b.c", "malformed"),
        (f"{part(b'{')}.x.y", "malformed"), (f"{part(bytes([255]))}.x.y", "malformed"),
    ],
    ids=lambda given: str(given)[:24],
)  # fmt: skip
def test_a_header_that_is_none_is_refused(token: Any, refused: str) -> None:
    """Before anything heavy is imported."""
    with pytest.raises(FireTokenError) as caught:
        read_header(token)
    assert caught.value.code == refused


def test_a_token_may_be_as_long_as_headers_are() -> None:
    """One character more is none."""
    token = header()
    assert read_header(token + "z" * (8 * 1024 - len(token))) == ("ES256", None)
    with pytest.raises(MalformedTokenError):
        read_header(token + "z" * (8 * 1024 - len(token) + 1))


def test_an_extension_that_is_demanded_is_named() -> None:
    """`b64` alone is one too (RFC 7797)."""
    for members, named in (({"crit": ["x"]}, ["x"]), ({"b64": True}, ["b64"]), ({"crit": ["y"], "b64": True}, ["y"])):
        with pytest.raises(CritError) as caught:
            read_header(header(**members))
        assert caught.value.received == named


@pytest.mark.parametrize(
    "text", ["[]", "5", '{"a": 1, "a": 1}', '{"a": {"b": 1, "b": 2}}', '{"a": NaN}', '{"a": -Infinity}', "["]
)
def test_an_object_has_every_name_once_and_no_number_that_is_none(text: str) -> None:
    """At any depth."""
    with pytest.raises(ValueError):
        parse_object(text.encode())


def test_what_is_nested_too_deeply_is_no_object() -> None:
    """It is refused, and nothing ends."""
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_object(b'{"a":' * 100_000)
    assert parse_object(b'{"a": {"b": 1}, "b": 2}') == {"a": {"b": 1}, "b": 2}


@pytest.mark.parametrize("name", ["aud", "iss", "purpose", "exp"])
def test_a_claim_that_must_be_there_is_named_where_it_is_not(name: str, settings: TrustSettings) -> None:
    """Null is as good as absent."""
    for claims in (GOOD | {name: None}, {key: value for key, value in GOOD.items() if key != name}):
        with pytest.raises(MissingClaimError) as caught:
            check_claims(claims, settings, SECONDS)
        assert caught.value.claim == name


def test_any_issuer_is_taken_where_a_call_says_so(tmp_path: Path, settings: TrustSettings) -> None:
    """Also none; a slash at its end is none of its name."""
    free = make_settings(tmp_path, "keys.pem", issuer="", any_issuer=True)
    assert [code(free, iss=iss) for iss in ("https://x", None, 5)] == ["ok"] * 3
    assert code(free, aud=None) == code(free, purpose=None) == "missing_claim"
    assert [code(settings, iss=iss) for iss in (ISSUER + "/", ISSUER + "//", ISSUER + "x", 5, [ISSUER])] == [
        "ok", "ok", "issuer", "issuer", "issuer",
    ]  # fmt: skip
    assert code(make_settings(tmp_path, "keys.pem", issuer=ISSUER + "/")) == "ok"


def test_an_audience_is_one_of_those_that_the_token_is_for(settings: TrustSettings) -> None:
    """A text within a text is none."""
    assert [code(settings, aud=aud) for aud in ([AUDIENCE], ["x", AUDIENCE], ["x"], [], f"{AUDIENCE} x", 5)] == [
        "ok", "ok", "audience", "audience", "audience", "audience",
    ]  # fmt: skip
    with pytest.raises(AudienceError) as caught:
        check_claims(GOOD | {"aud": ["x"]}, settings, SECONDS)
    assert caught.value.received == ["x"]


def test_a_purpose_is_the_one_that_is_asked_for(settings: TrustSettings) -> None:
    """A token for something else starts nothing, and a fire proves nothing else."""
    assert code(settings, purpose="cron_proof") == "purpose"
    check_claims(GOOD | {"purpose": "cron_proof"}, settings, SECONDS, purpose="cron_proof")
    with pytest.raises(FireTokenError):
        check_claims(GOOD, settings, SECONDS, purpose="cron_proof")


@pytest.mark.parametrize(
    ("claims", "refused"),
    [
        ({"exp": SECONDS - 30}, "ok"), ({"exp": SECONDS - 31}, "expired"), ({"exp": SECONDS - 29.1}, "ok"),
        ({"nbf": SECONDS + 30}, "ok"), ({"nbf": SECONDS + 31}, "not_yet_valid"), ({"nbf": None}, "ok"),
        ({"iat": SECONDS + 30}, "ok"), ({"iat": SECONDS + 31}, "not_yet_valid"), ({"iat": None}, "ok"),
        ({"iat": None, "exp": SECONDS + 330}, "ok"), ({"iat": None, "exp": SECONDS + 331}, "too_long_lived"),
        ({"iat": SECONDS - 9, "exp": SECONDS + 291}, "ok"), ({"iat": SECONDS - 9, "exp": SECONDS + 292}, "too_long_lived"),
        ({"exp": True}, "claim_type"), ({"exp": "1"}, "claim_type"), ({"exp": -1}, "claim_type"),
        ({"iat": 0, "exp": SECONDS}, "too_long_lived"), ({"iat": -0.5}, "claim_type"), ({"nbf": 0}, "ok"),
        ({"nbf": LATEST + 1}, "claim_type"), ({"nbf": LATEST}, "not_yet_valid"), ({"exp": 0}, "expired"),
        ({"exp": float("inf")}, "claim_type"), ({"nbf": LATEST + 0.5}, "claim_type"),
    ],
    ids=str,
)  # fmt: skip
def test_times_count_in_whole_seconds_with_the_leeway(claims: dict[str, Any], refused: str, tmp_path: Path) -> None:
    """A token is good for five minutes at most, from when it was made, or from now where it does not say."""
    assert code(make_settings(tmp_path, "keys.pem", max_life_s=300.0, leeway_s=30.0), **claims) == refused


def test_an_end_need_not_be_there_where_another_judges(settings: TrustSettings) -> None:
    """A verifier of somebody's own may not say until when."""
    found = claims_from(
        {"iat": SECONDS + 0.9, "jti": "a", "home": "h", "job_id": "j", "fire_at": "2026-11-20T16:34:15+01:00"}
    )
    assert found == FireClaims(
        job_id="j", fire_at=NOW, jti="a", issued=NOW, expires=None, claims=found.claims, home="h"
    )
    assert (found.bound, found.minted) == (True, NOW)
    bare = claims_from({"exp": SECONDS})
    assert (bare.bound, bare.job_id, bare.fire_at, bare.jti, bare.issued, bare.home) == (
        False,
        None,
        None,
        None,
        None,
        None,
    )
    assert (bare.expires, bare.minted) == (NOW, NOW - timedelta(seconds=90))
    assert claims_from({}).minted is None
    assert [claims_from({"job_id": "j"}).bound, claims_from({"fire_at": "2026-11-20T16:34:15+01:00"}).bound] == [
        False
    ] * 2


@pytest.mark.parametrize("name", ["job_id", "jti", "home", "fire_at", "iat", "exp"])
def test_a_claim_that_cannot_be_read_was_meant_to_bind_the_token(name: str) -> None:
    """So it is good for nothing."""
    for value in ([], {}, True, "x" if name in ("fire_at", "iat", "exp") else 5):
        with pytest.raises(FireTokenError) as caught:
            claims_from({name: value})
        assert (caught.value.code, caught.value.claim) == ("claim_type", name)


def binding(settings: TrustSettings, claims: dict[str, Any], *asked: Any, home: str | None = None) -> str:
    try:
        check_binding(claims_from(claims), *asked, settings, home=home)
    except FireTokenError as error:
        return f"{error.code} {error.claim}"
    return "ok"


def test_a_token_fires_what_it_is_bound_to(tmp_path: Path, settings: TrustSettings) -> None:
    """As far as it is, and as far as the request says."""
    at = NOW.isoformat()
    full = {"job_id": "j", "fire_at": at, "home": "h"}
    near = NOW.astimezone(timezone(timedelta(hours=5))) + timedelta(microseconds=999_999)
    assert [
        binding(settings, full, "j", moment, home=home) for moment in (NOW, near, None) for home in ("h", None)
    ] == ["ok"] * 6
    assert binding(settings, full, "k", NOW) == "bound_to_other_job job_id"
    assert binding(settings, full, "j", NOW, home="g") == "bound_to_other_home home"
    assert binding(settings, full, "j", NOW + timedelta(seconds=1)) == "bound_to_other_time fire_at"
    assert binding(settings, {}, "k", NOW, home="g") == "ok"
    with pytest.raises(ValueError, match="UTC offset"):
        binding(settings, full, "j", NOW.replace(tzinfo=None))
    strict = make_settings(tmp_path, "keys.pem", require_bound=True)
    assert binding(strict, full, "j", NOW) == "ok"
    assert binding(strict, {}, "j", NOW) == "unbound job_id and fire_at"
    assert binding(strict, {"job_id": "j"}, "j", NOW) == "unbound fire_at"
    assert binding(strict, {"fire_at": at}, "j", NOW) == "unbound job_id"


def test_what_is_not_configured_matches_no_token(tmp_path: Path, settings: TrustSettings) -> None:
    """An issuer of slashes alone is none."""
    tokens.check_configured(settings)
    tokens.check_configured(make_settings(tmp_path, "keys.pem", issuer="", any_issuer=True))
    with pytest.raises(NoIssuerConfiguredError):
        tokens.check_configured(make_settings(tmp_path, "keys.pem", issuer="//"))


@pytest.mark.parametrize("text", ["!", "a", "A A", "é", "AAA=="])
def test_a_part_of_a_token_that_is_no_base64url_is_malformed(text: str) -> None:
    """Whatever else it is."""
    with pytest.raises(MalformedTokenError):
        from_base64url(text)
    assert from_base64url("-_8") == b"\xfb\xff"


def test_a_signature_is_that_of_one_of_the_keys() -> None:
    """The others are passed over, also those that no library takes."""
    key, other = SigningKey.es256(), SigningKey.es256()
    jwk, foreign = ({name: key_.jwk()[name] for name in ("kty", "crv", "x", "y")} for key_ in (key, other))
    token = key.token()
    payload = signed_payload(token, "ES256", (foreign, jwk | {"x": "AA"}, jwk))
    assert json.loads(payload)["aud"] == AUDIENCE
    with pytest.raises(SignatureError):
        signed_payload(token, "ES256", (jwk | {"x": "AA"}, foreign))
    with pytest.raises(SignatureError):
        signed_payload(token, "ES256", ())
    with pytest.raises(ChronosError, match="a published key cannot be used"):
        signed_payload(token, "ES256", (jwk | {"x": "AA"},))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[TrustSettings]:
    """What the public function asks to be verified, which then holds."""
    found: list[TrustSettings] = []

    def verify(token: object, settings: TrustSettings) -> SimpleNamespace:
        found.append(settings)
        return SimpleNamespace(claims={"token": token})

    monkeypatch.setattr(tokens, "verify_fire_token", verify)
    return found


def test_the_public_function_hands_on_all_that_it_is_told(
    seen: list[TrustSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is absent is what refuses; without an issuer any is taken."""
    assert verify_nas_fire_token("t", expected_audience="a", jwks_or_key="k", issuer="i") == {"token": "t"}
    monkeypatch.delenv("CHRONOS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    verify_nas_fire_token(
        "t", jwks_or_key=b"k", leeway_seconds=timedelta(seconds=5), issuer="", cache_dir=str(tmp_path)
    )
    verify_nas_fire_token("t", jwks_or_key={"keys": []}, leeway_seconds=2)
    monkeypatch.setenv("CHRONOS_HOME", "/h")
    verify_nas_fire_token("t")
    assert [(s.expected_audience, s.keys, s.issuer, s.any_issuer, s.leeway_s) for s in seen] == [
        ("a", "k", "i", False, 30.0),
        ("", "k", "", True, 5.0),
        ("", '{"keys": []}', "", True, 2.0),
        ("", "", "", True, 30.0),
    ]
    assert [s.cache_dir for s in seen[1:]] == [tmp_path, tmp_path / ".chronos" / "cache", Path("/h/cache")]


@pytest.mark.parametrize(
    "given",
    [
        {"expected_audience": 5}, {"issuer": b"x"}, {"jwks_or_key": 5}, {"leeway_seconds": "1"}, {"cache_dir": 5},
        {"jwks_or_key": b"\xff"}, {"leeway_seconds": -1}, {"algorithms": ["ES256"]}, {"issuer": type("Text", (str,), {})("x")},
    ],
    ids=str,
)  # fmt: skip
def test_the_public_function_answers_none_to_whatever_it_is_handed(
    given: dict[str, Any], seen: list[TrustSettings], caplog: pytest.LogCaptureFixture
) -> None:
    """And says why, as a code."""
    caplog.set_level("INFO", logger="chronos_cli.trust")
    assert verify_nas_fire_token("t", **given) is None
    assert not seen
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert caplog.records[0].getMessage().startswith("fire token refused: ")
    assert verify_nas_fire_token("t", "more") is None


def test_a_verifier_is_the_public_function_or_that_of_settings(tmp_path: Path) -> None:
    """Which is made once for many tokens."""
    assert get_fire_verifier() is compat.verify_nas_fire_token
    key = SigningKey.es256()
    verify = get_fire_verifier(make_settings(tmp_path, json.dumps(key.jwks())))
    assert verify(key.token(job_id="j")).job_id == "j"


def test_a_verifier_of_somebodys_own_is_asked_about_a_token_and_its_claims_are_read(tmp_path: Path) -> None:
    """With all that it needs to judge; without a token it is not asked, and what it says has to be claims."""
    settings, asked = make_settings(tmp_path, "https://keys.example/jwks"), []

    def judge(token: str, **given: Any) -> Any:
        asked.append((token, given))
        return answers.pop(0)

    answers: list[Any] = [GOOD, None, 5, GOOD, GOOD | {"purpose": PROOF_PURPOSE}]
    for nothing in (None, ""):
        with pytest.raises(MissingAuthorizationError):
            verifier._call(judge, nothing, settings, FIRE_PURPOSE)
    assert asked == []
    assert verifier._call(judge, "t", settings, FIRE_PURPOSE) == claims_from(GOOD)
    given = {
        "expected_audience": settings.expected_audience,
        "jwks_or_key": settings.keys,
        "issuer": settings.issuer,
    }
    assert asked == [("t", given)]
    for error, purpose in (
        (VerifierRefusedError, FIRE_PURPOSE),
        (KeysUnavailableError, FIRE_PURPOSE),
        (PurposeError, PROOF_PURPOSE),
        (PurposeError, FIRE_PURPOSE),
    ):
        with pytest.raises(error):
            verifier._call(judge, "t", settings, purpose)

    def odd(error: Exception) -> Any:
        raise error

    for raised, error in ((SignatureError(), SignatureError), (ValueError("it has the token"), KeysUnavailableError)):
        with pytest.raises(error) as caught:
            verifier._call(lambda *_, raised=raised, **__: odd(raised), "t", settings, FIRE_PURPOSE)
        assert "it has the token" not in str(caught.value)
