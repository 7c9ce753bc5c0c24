"""Verify a fire token: the JWT of the wire contract's hop 3, whole and in one place.

RFC 7515 (the signature), RFC 7519 (the claims), RFC 8725 (what not to believe). PyJWT checks the signature; the header
before it and the claims after it are checked here, because every refusal has to say which claim failed and how. Until
the signature holds, nothing but `alg` and `kid` of the header is acted on.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import FIRE_ALGORITHMS, FIRE_PURPOSE, FIRE_REQUIRED_CLAIMS, parse_fire_at
from chronos_cli.frozen import frozen
from chronos_cli.trust import token_errors as refusals
from chronos_cli.trust.settings import NAS_JWT, KeyKind
from chronos_cli.trust.signature import from_base64url, signed_payload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.trust.keys import Jwk
    from chronos_cli.trust.settings import TrustSettings

MAX_TOKEN_CHARS: Final = 8 * 1024
_LATEST: Final = 253_402_300_799
"""The last second a datetime can name; a later NumericDate is no date."""


@frozen
class FireClaims:
    """The claims of a verified fire token.

    `job_id` and `fire_at` (whole UTC seconds) are None where NAS does not bind its tokens, `home` (the NAME of a
    `/p/NAME` callback) where the token names none; `expires` is None only from a verifier of your own that did not say.
    """

    job_id: str | None
    fire_at: datetime | None
    jti: str | None
    issued: datetime | None
    expires: datetime | None
    claims: Mapping[str, Any]
    home: str | None = None

    @property
    def minted(self) -> datetime | None:
        """Return its signer's clock: when it was issued, or, where that is not said, about when by its end."""
        return self.issued or (self.expires and self.expires - timedelta(seconds=90))

    @property
    def bound(self) -> bool:
        """Return whether the token is good for one occurrence only."""
        return self.job_id is not None and self.fire_at is not None


def verify_fire_token(
    token: str | None,
    settings: TrustSettings,
    *,
    now: Callable[[], datetime] | None = None,
    light: bool = False,
    purpose: str = FIRE_PURPOSE,
) -> FireClaims:
    """Return the claims of a token that NAS signed, for this agent, to fire a job, and that is valid now.

    `token` is the compact JWT without `Bearer`. `now` gives the present as an aware datetime; else the system clock.
    `light`: this process judges no other (see `light_import.py`). `purpose`: another one that it has to be for.
    With `settings.verifier` naming a function, that one judges instead. Raises FireTokenError, of the class that names
    the cause (see token_errors.py), KeysUnavailableError when the token cannot be judged, and ConfigError for a
    verifier that cannot be loaded.
    """
    clock = time.time if now is None else (lambda: now().timestamp())
    if settings.verifier != NAS_JWT:
        from chronos_cli.trust.verifier import call_verifier

        return call_verifier(token, settings, purpose)
    algorithm, kid = read_header(token)
    keys = find_keys(settings, algorithm, kid, clock)
    return judge(token or "", algorithm, keys, settings, clock, light=light, purpose=purpose)


def find_keys(settings: TrustSettings, algorithm: str, kid: str | None, clock: Callable[[], float]) -> tuple[Jwk, ...]:
    """Return the configured keys that may have signed a token with this header.

    Raises FireTokenError and KeysUnavailableError.
    """
    check_configured(settings)
    match settings.key_kind:
        case KeyKind.URL:
            from chronos_cli.trust.jwks import JwksCache

            return JwksCache(settings, clock=clock).find(algorithm, kid)
        case KeyKind.FILE:
            from chronos_cli.trust.keys import file_keys

            return file_keys(settings.keys, algorithm, kid)
        case _:
            from chronos_cli.trust.keys import static_keys

            return static_keys(settings.keys, algorithm, kid)


def check_configured(settings: TrustSettings) -> None:
    """Check that there is something to verify against; what is not configured matches no token.

    Raises FireTokenError.
    """
    if settings.key_kind is KeyKind.NONE:
        raise refusals.NoKeyConfiguredError
    if not settings.expected_audience:
        raise refusals.NoAudienceConfiguredError
    if not settings.any_issuer and not settings.issuer.rstrip("/"):
        raise refusals.NoIssuerConfiguredError


def read_header(token: object) -> tuple[str, str | None]:
    """Return the algorithm and key id that a token's header names; only an accepted algorithm is returned.

    Imports nothing heavy, so that a stranger's junk stays cheap. Raises FireTokenError.
    """
    if token is None or token == "":
        raise refusals.MissingAuthorizationError
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS or token.count(".") != 2:
        raise refusals.MalformedTokenError
    try:
        header = parse_object(from_base64url(token.partition(".")[0]))
    except ValueError:  # not UTF-8, or not a JSON object
        raise refusals.MalformedTokenError from None
    if header.get("crit") is not None or header.get("b64") is not None:
        raise refusals.CritError(claim="crit", received=header.get("crit", ["b64"]))
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in FIRE_ALGORITHMS:
        raise refusals.AlgorithmError(claim="alg", expected=", ".join(FIRE_ALGORITHMS), received=algorithm)
    if kid is not None and not isinstance(kid, str):
        raise refusals.MalformedTokenError(claim="kid", expected="a text", received=kid)
    return algorithm, kid


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object, with every name once and no NaN or Infinity. Raises ValueError."""
    try:
        document = json.loads(data.decode(), object_pairs_hook=_each_once, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004 - a fault of the text, not of the caller
    return document


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def judge(
    token: str,
    algorithm: str,
    keys: tuple[Jwk, ...],
    settings: TrustSettings,
    clock: Callable[[], float],
    *,
    light: bool = False,
    purpose: str = FIRE_PURPOSE,
) -> FireClaims:
    """Return the claims of a token, once its signature by one of `keys` and every claim have held.

    Raises FireTokenError.
    """
    payload = signed_payload(token, algorithm, keys, light=light)
    try:
        claims = parse_object(payload)
    except ValueError:
        raise refusals.MalformedTokenError from None
    check_claims(claims, settings, int(clock()), purpose=purpose)
    return claims_from(claims)


def check_claims(
    claims: Mapping[str, Any], settings: TrustSettings, now_s: int, *, purpose: str = FIRE_PURPOSE
) -> None:
    """Check the claims that every fire token must have, and its times. Raises FireTokenError.

    Times are compared in whole seconds: with the usual leeway 30 s past `exp`, or before `nbf` and `iat`, is accepted,
    31 s is not.
    """
    for name in (*FIRE_REQUIRED_CLAIMS, "purpose"):
        if claims.get(name) is None and not (name == "iss" and settings.any_issuer):
            raise refusals.MissingClaimError(claim=name)
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if settings.expected_audience not in audiences:
        raise refusals.AudienceError(claim="aud", expected=settings.expected_audience, received=claims["aud"])
    if not settings.any_issuer:
        issuer, expected = claims["iss"], settings.issuer.rstrip("/")
        if not isinstance(issuer, str) or issuer.rstrip("/") != expected:
            raise refusals.IssuerError(claim="iss", expected=expected, received=issuer)
    if claims["purpose"] != purpose:
        raise refusals.PurposeError(claim="purpose", expected=purpose, received=claims["purpose"])
    _check_times(claims, settings, now_s)


def _check_times(claims: Mapping[str, Any], settings: TrustSettings, now_s: int) -> None:
    leeway = int(settings.leeway_s)
    expires, issued = _date(claims, "exp"), _date(claims, "iat")
    if expires is not None and now_s - expires > leeway:
        raise refusals.ExpiredError(claim="exp", expected=f"later than {now_s - leeway - 1}", received=expires)
    for name in ("nbf", "iat"):
        starts = _date(claims, name)
        if starts is not None and starts - now_s > leeway:
            raise refusals.NotYetValidError(claim=name, expected=f"at most {now_s + leeway}", received=starts)
    latest = int(settings.max_life_s) + (now_s + leeway if issued is None else issued)
    if expires is not None and expires > latest:
        raise refusals.TooLongLivedError(claim="exp", expected=f"at most {latest}", received=expires)


def _date(claims: Mapping[str, Any], name: str) -> int | None:
    """Return a NumericDate (RFC 7519, section 2) cut to its second, None where the claim is absent or null."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise refusals.ClaimTypeError(claim=name, expected="seconds since 1970", received=value)
    return int(value)


def claims_from(claims: Mapping[str, Any]) -> FireClaims:
    """Return the typed form of claims that were verified. Raises ClaimTypeError for a value that cannot be compared.

    A claim that is there and cannot be read refuses the token: it was meant to bind it, and to what is unknown.
    """
    job_id, jti, home, fire_at = (claims.get(name) for name in ("job_id", "jti", "home", "fire_at"))
    for name, value in (("job_id", job_id), ("jti", jti), ("home", home)):
        if value is not None and not isinstance(value, str):
            raise refusals.ClaimTypeError(claim=name, expected="a text", received=value)
    try:
        moment = None if fire_at is None else parse_fire_at(fire_at)
    except ValueError:
        raise refusals.ClaimTypeError(claim="fire_at", expected="ISO 8601 with offset", received=fire_at) from None
    issued, expires = _date(claims, "iat"), _date(claims, "exp")
    return FireClaims(
        job_id=job_id,
        fire_at=moment,
        jti=jti,
        issued=None if issued is None else datetime.fromtimestamp(issued, UTC),
        expires=None if expires is None else datetime.fromtimestamp(expires, UTC),
        claims=claims,
        home=home,
    )


def check_binding(
    claims: FireClaims, job_id: str, fire_at: datetime | None, settings: TrustSettings, *, home: str | None = None
) -> None:
    """Check that the token may fire this job at this time, in this home.

    `fire_at` is what the request names, None when it names none: then the token's own time is the one meant. `home` is
    the NAME of a `/p/NAME` path, None where there is no such path. Raises OtherHomeError, OtherJobError,
    OtherTimeError, and UnboundError where `require_bound` is set and the token lacks job or time.
    """
    if settings.require_bound and not claims.bound:
        absent = " and ".join(name for name in ("job_id", "fire_at") if getattr(claims, name) is None)
        raise refusals.UnboundError(claim=absent)
    if claims.home is not None and home is not None and claims.home != home:
        raise refusals.OtherHomeError(claim="home", expected=home, received=claims.home)
    if claims.job_id is not None and claims.job_id != job_id:
        raise refusals.OtherJobError(claim="job_id", expected=job_id, received=claims.job_id)
    if claims.fire_at is not None and fire_at is not None and claims.fire_at != _second(fire_at):
        raise refusals.OtherTimeError(
            claim="fire_at", expected=_second(fire_at).isoformat(), received=claims.fire_at.isoformat()
        )


def _second(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("an instant needs a UTC offset")
    return moment.astimezone(UTC).replace(microsecond=0)
