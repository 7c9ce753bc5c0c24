"""Refusals of a fire token: one class, and so one stable code, per cause.

The code goes to logs and JSON. The claim's name with the expected and the received value is in the message alone, for
the operator's stderr; the HTTP answer is the same for every cause. The token itself is in none of them.
"""

from __future__ import annotations

from chronos_cli.errors import TokenError

_LONGEST_VALUE = 160
_FOREIGN = "fire with a token that NAS minted for a fire, as it came"
_KEYS = "set cron.chronos.nas_jwks_url to where the NAS that mints the tokens publishes its keys"
_SCOPE = "name the job and the instant that the token is for"


class FireTokenError(TokenError):
    """The fire token is refused."""

    def __init__(self, *, claim: str = "", expected: object = None, received: object = None) -> None:
        cause = (type(self).__doc__ or "").strip().splitlines()[0].rstrip(".")
        self.cause = cause
        self.claim = claim
        self.received = received
        super().__init__(f"{cause} ({_comparison(claim, expected, received)})" if claim else cause)

    def as_json(self) -> dict[str, object]:
        """Return the `error` member of a failure document: the cause without the values that were compared."""
        return {**super().as_json(), "message": self.cause}


def _comparison(claim: str, expected: object, received: object) -> str:
    parts = [f"expected {shown(expected)}"] if expected is not None else []
    if received is not None:
        parts.append(f"received {shown(received)}")
    return f"{claim}: {', '.join(parts)}" if parts else claim


def shown(value: object) -> str:
    """Return a value as one short line of ASCII: it may come from a stranger and must not steer a terminal or a log."""
    try:
        text = ascii(value)
    except (RecursionError, ValueError):  # nested past the stack, or an integer too long to print
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


class MissingAuthorizationError(FireTokenError):
    """There is no fire token in the request."""

    code = "missing_authorization"
    default_hint = "send `Authorization: Bearer <token>`; some servers drop the header unless told to pass it on"


class MalformedTokenError(FireTokenError):
    """The fire token is not a JWT."""

    code = "malformed"
    default_hint = _FOREIGN


class NoKeyConfiguredError(FireTokenError):
    """No key is configured to verify fire tokens with."""

    code = "no_key_configured"
    default_hint = "set cron.chronos.nas_jwks_url"


class NoAudienceConfiguredError(FireTokenError):
    """No audience is configured, so no fire token can be for us."""

    code = "no_audience_configured"
    default_hint = "set cron.chronos.expected_audience"


class NoIssuerConfiguredError(FireTokenError):
    """No issuer is configured, so no fire token can be from it."""

    code = "no_issuer_configured"
    default_hint = "set cron.chronos.portal_url"


class AlgorithmError(FireTokenError):
    """The fire token is not signed with an accepted algorithm."""

    code = "algorithm"
    default_hint = _KEYS


class CritError(FireTokenError):
    """The fire token demands an extension that is not understood."""

    code = "crit"
    default_hint = _FOREIGN


class UnknownKeyError(FireTokenError):
    """The fire token is signed with a key that NAS does not publish."""

    code = "unknown_key"
    default_hint = _KEYS


class SignatureError(FireTokenError):
    """The fire token's signature is wrong."""

    code = "signature"
    default_hint = _KEYS


class MissingClaimError(FireTokenError):
    """The fire token lacks a claim that it must have."""

    code = "missing_claim"
    default_hint = _FOREIGN


class ClaimTypeError(FireTokenError):
    """A claim of the fire token does not have the form it must have."""

    code = "claim_type"
    default_hint = _FOREIGN


class ExpiredError(FireTokenError):
    """The fire token has expired."""

    code = "expired"
    default_hint = "set the clock that is wrong: `chronos doctor` compares this machine's with NAS's"


class TooLongLivedError(FireTokenError):
    """The fire token is good for too long."""

    code = "too_long_lived"
    default_hint = "NAS has to mint short-lived tokens, or raise trust.max_token_life"


class NotYetValidError(FireTokenError):
    """The fire token is not valid yet."""

    code = "not_yet_valid"
    default_hint = "set the clock that is wrong: `chronos doctor` compares this machine's with NAS's"


class AudienceError(FireTokenError):
    """The fire token is for another agent."""

    code = "audience"


class IssuerError(FireTokenError):
    """The fire token is from another issuer."""

    code = "issuer"


class PurposeError(FireTokenError):
    """The token was not made for firing jobs."""

    code = "purpose"
    default_hint = _FOREIGN


class OtherJobError(FireTokenError):
    """The fire token is bound to another job."""

    code = "bound_to_other_job"
    default_hint = _SCOPE


class OtherTimeError(FireTokenError):
    """The fire token is bound to another time."""

    code = "bound_to_other_time"
    default_hint = _SCOPE


class OtherHomeError(FireTokenError):
    """The fire token is bound to another home of this callback."""

    code = "bound_to_other_home"
    default_hint = _SCOPE


class UnboundError(FireTokenError):
    """The fire token is not bound to a job and a time, and here it must be."""

    code = "unbound"
    default_hint = "NAS has to put job_id and fire_at into the token, or set trust.require_bound_token to false"


class JtiReusedError(FireTokenError):
    """The fire token was already used for another occurrence."""

    code = "jti_reused"
    default_hint = _SCOPE


class VerifierRefusedError(FireTokenError):
    """The configured verifier refuses the fire token."""

    code = "refused_by_verifier"
    default_hint = "see why the function that trust.verifier names does"
