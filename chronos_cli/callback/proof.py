"""Answer to a challenge: NAS asks, with a token of its own purpose, whose callback this is.

The answer is made from the token's nonce and the audience that this callback expects, so that neither a server that
echoes nor another agent's callback gives it. It tells nothing that the token does not, and starts nothing, so the same
token again gets the same answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.contract import callback_proof
from chronos_cli.trust import token_errors as refusals

if TYPE_CHECKING:
    from chronos_cli.trust.settings import TrustSettings
    from chronos_cli.trust.tokens import FireClaims

_NONCE_CHARS = range(16, 129)


def prove(claims: FireClaims, settings: TrustSettings, *, home: str | None) -> dict[str, object]:
    """Return the answer to a challenge whose token was verified; `home` is the NAME of a `/p/NAME` path.

    Raises TokenError.
    """
    nonce = claims.claims.get("nonce")
    if nonce is None:
        raise refusals.MissingClaimError(claim="nonce")
    if not isinstance(nonce, str) or not nonce.isascii() or len(nonce) not in _NONCE_CHARS:
        raise refusals.ClaimTypeError(claim="nonce", expected="an ASCII text of 16 to 128 characters", received=nonce)
    if claims.home is not None and home is not None and claims.home != home:
        raise refusals.OtherHomeError(claim="home", expected=home, received=claims.home)
    return {"result": "proved", "proof": callback_proof(nonce, settings.expected_audience)}
