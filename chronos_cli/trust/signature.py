"""The one step that is left to PyJWT: whether a key signed a token.

`import jwt` is most of what a warm verification costs, so it happens here, inside the function, after everything that
can refuse a token without it, and for a process of one token without what that does not need (`light_import.py`).
"""

from __future__ import annotations

from binascii import a2b_base64
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import KeysUnavailableError
from chronos_cli.trust.token_errors import MalformedTokenError, SignatureError

if TYPE_CHECKING:
    from chronos_cli.trust.keys import Jwk


def signed_payload(token: str, algorithm: str, keys: tuple[Jwk, ...], *, light: bool = False) -> bytes:
    """Return the payload of a compact JWS that one of `keys` signed with `algorithm`; `light`: see `import_jwk`.

    The algorithm is one that the caller accepts and that fits the keys, so what the header says decides nothing here.
    Raises SignatureError when none did, MalformedTokenError, and KeysUnavailableError when none of them is a key.
    """
    from chronos_cli.trust.light_import import import_jwk

    jwk, jwk_error = import_jwk(light=light)
    signed, _, signature = token.rpartition(".")
    payload, proof = from_base64url(signed.partition(".")[2]), from_base64url(signature)
    unusable: Exception | None = None
    usable = False
    for key in keys:
        try:
            public = jwk(key, algorithm=algorithm)
        except (jwk_error, ValueError) as error:  # what OpenSSL takes for no key; the others may still be it
            unusable = error
            continue
        usable = True
        if public.Algorithm.verify(signed.encode("ascii"), public.key, proof):
            return payload
    if unusable is not None and not usable:
        raise KeysUnavailableError(
            "a published key cannot be used", hint="ask who runs NAS to publish one that can"
        ) from unusable
    raise SignatureError


def from_base64url(text: str) -> bytes:
    """Return the bytes of one part of a token (RFC 7515, section 2: unpadded base64url). Raises MalformedTokenError."""
    try:
        data = text.encode("ascii").translate(_FROM_BASE64URL)
        return a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True)
    except ValueError:  # not ASCII, or not base64 (binascii.Error)
        raise MalformedTokenError from None


_FROM_BASE64URL: Final = bytes.maketrans(b"-_", b"+/")
