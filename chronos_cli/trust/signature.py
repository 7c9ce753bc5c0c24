"""The one step that is left to PyJWT: whether a key signed a token.

`import jwt` is most of what a warm verification costs (it brings in all of cryptography's X.509), so it happens here,
inside the function, after everything that can refuse a token without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.errors import KeysUnavailableError
from chronos_cli.trust.refusals import MalformedTokenError, SignatureError

if TYPE_CHECKING:
    from chronos_cli.trust.keys import Jwk


def signed_payload(token: str, algorithm: str, keys: tuple[Jwk, ...]) -> bytes:
    """The payload of a compact JWS that one of `keys` signed with `algorithm`.

    The algorithm is one that the caller accepts and that fits the keys, so what the header says decides nothing here.
    Raises SignatureError when none did, MalformedTokenError, and KeysUnavailableError for a key that is no key.
    """
    from jwt.api_jwk import PyJWK
    from jwt.api_jws import PyJWS
    from jwt.exceptions import InvalidSignatureError, InvalidTokenError, PyJWTError

    verifier = PyJWS(algorithms=[algorithm])
    for key in keys:
        try:
            public = PyJWK(key, algorithm=algorithm)
        except (PyJWTError, ValueError) as error:  # ValueError: a point that is not on its curve, in older PyJWT
            raise KeysUnavailableError("a published key cannot be used", hint="ask who runs NAS") from error
        try:
            payload: bytes = verifier.decode(token, public, algorithms=[algorithm])
        except InvalidSignatureError:
            continue  # of several possible keys the next one may be it
        except InvalidTokenError:  # its text names parts of the token
            raise MalformedTokenError from None
        return payload
    raise SignatureError
