"""Public keys as JWKs, whichever of JWKS and PEM they came as, and the choice of one for a token.

Only RSA of at least 2048 bits and the curves P-256 and P-384 are kept, and of those only the public members: a private
key that slipped into a JWKS goes no further than this module.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.errors import KeysUnavailableError
from chronos_cli.trust.refusals import AlgorithmError, UnknownKeyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Jwk = dict[str, str]

MAX_KEYS_BYTES: Final = 256 * 1024
_CURVE_BYTES: Final = {"P-256": 32, "P-384": 48}
_CURVE_OF: Final = {"ES256": "P-256", "ES384": "P-384"}
_RSA_BITS: Final = range(2048, 16384 + 1)
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


class UnusableKeysError(ValueError):
    """A text that should hold keys does not; the message says why, without quoting it."""


def parse_jwks(text: str | bytes) -> tuple[Jwk, ...]:
    """The usable signature keys of a JWK Set (RFC 7517), public members only; others are skipped as the RFC asks.

    Raises UnusableKeysError when there is none.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableKeysError("it is not JSON") from error
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise UnusableKeysError("it is not a JWK Set")
    return _some(filter(None, map(public_jwk, members)))


def parse_keys(text: str) -> tuple[Jwk, ...]:
    """The keys in the text of a PEM or JWKS file; several PEM blocks are several keys.

    PEM keys bear no `kid`, so every token may try each of them. Raises UnusableKeysError.
    """
    if text.lstrip().startswith("{"):
        return parse_jwks(text)
    blocks = list(_PEM.finditer(text))
    for block in blocks:
        if "PRIVATE" in block[1]:
            raise UnusableKeysError("it holds a private key; only the public one belongs here")
        if "CERTIFICATE" in block[1]:
            raise UnusableKeysError("it holds a certificate; write its public key with `openssl x509 -pubkey -noout`")
    return _some(filter(None, (_jwk_of_pem(block[0]) for block in blocks)))


def _some(keys: Iterable[Jwk]) -> tuple[Jwk, ...]:
    found = tuple(keys)
    if not found:
        raise UnusableKeysError("it holds no usable RSA, P-256 or P-384 public key")
    return found


def _jwk_of_pem(pem: str) -> Jwk | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from jwt.algorithms import ECAlgorithm, RSAAlgorithm
    from jwt.exceptions import InvalidKeyError

    try:
        key = load_pem_public_key(pem.encode())
        if isinstance(key, RSAPublicKey):
            return public_jwk(RSAAlgorithm.to_jwk(key, as_dict=True))
        if isinstance(key, EllipticCurvePublicKey):
            return public_jwk(ECAlgorithm.to_jwk(key, as_dict=True))
    except (ValueError, UnsupportedAlgorithm, InvalidKeyError):
        return None  # not a key, or of a kind that no accepted algorithm uses; the caller says so if none is left
    return None


def public_jwk(member: object) -> Jwk | None:
    """The public members of a JWK that can verify one of the accepted algorithms, else None."""
    if not isinstance(member, dict) or member.get("use", "sig") != "sig":
        return None
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    names = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}.get(_text(member, "kty"), ())
    key = {name: _text(member, name) for name in ("kty", *names)}
    if not names or not all(key.values()) or not (_is_rsa(key) if key["kty"] == "RSA" else _is_ec(key)):
        return None
    for name in ("kid", "alg"):
        if name in member:
            if not isinstance(member[name], str):
                return None
            key[name] = member[name]
    return key


def _text(member: dict[str, Any], name: str) -> str:
    value = member.get(name)
    return value if isinstance(value, str) else ""


def _is_rsa(key: Jwk) -> bool:
    modulus = int.from_bytes(_unbase64(key["n"]))
    exponent = int.from_bytes(_unbase64(key["e"])[:9])
    return modulus.bit_length() in _RSA_BITS and exponent % 2 == 1 and exponent > 1


def _is_ec(key: Jwk) -> bool:
    size = _CURVE_BYTES.get(key["crv"])
    return len(_unbase64(key["x"])) == size == len(_unbase64(key["y"]))


def _unbase64(text: str) -> bytes:
    """The bytes of an unpadded base64url text, none if it is not one."""
    try:
        return a2b_base64(text.translate({45: 43, 95: 47}) + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:  # binascii.Error is one
        return b""


def choose(keys: Sequence[Jwk], algorithm: str, kid: str | None) -> tuple[Jwk, ...]:
    """The keys that may have signed a token with this header; empty when its `kid` is not among them.

    A key without a `kid` of its own (PEM) is tried for any; a token without one only where the choice is clear.
    Raises AlgorithmError when the key that the token names cannot have made such a signature.
    """
    named = [key for key in keys if kid is None or key.get("kid", kid) == kid]
    fitting = tuple(key for key in named if _fits(key, algorithm))
    if named and not fitting:
        kinds = sorted({key.get("alg") or key.get("crv") or key["kty"] for key in named})
        raise AlgorithmError(claim="alg", expected=", ".join(kinds), received=algorithm)
    if kid is None and len(fitting) > 1 and any("kid" in key for key in fitting):
        return ()
    return fitting


def _fits(key: Jwk, algorithm: str) -> bool:
    if key.get("alg", algorithm) != algorithm:
        return False
    if algorithm in _CURVE_OF:
        return key.get("crv") == _CURVE_OF[algorithm]
    return algorithm.startswith("RS") and key["kty"] == "RSA"


def static_keys(text: str, algorithm: str, kid: str | None) -> tuple[Jwk, ...]:
    """As `choose`, of keys that are configured inline. Raises UnknownKeyError and KeysUnavailableError."""
    try:
        found = choose(parse_keys(text), algorithm, kid)
    except UnusableKeysError as error:
        raise KeysUnavailableError(f"the configured key cannot be used: {error}", hint="check nas_jwks_url") from error
    if not found:
        raise UnknownKeyError(claim="kid", received=kid)
    return found


def file_keys(path: str, algorithm: str, kid: str | None) -> tuple[Jwk, ...]:
    """As `choose`, of the keys in a PEM or JWKS file, read anew each time. Raises as `static_keys`."""
    from pathlib import Path

    hint = "the key setting takes an https URL, a PEM file or a JWKS file"
    try:
        with Path(path).expanduser().open("rb") as file:
            raw = file.read(MAX_KEYS_BYTES + 1)
        if len(raw) > MAX_KEYS_BYTES:
            raise UnusableKeysError(f"it is larger than {MAX_KEYS_BYTES} bytes")
        found = choose(parse_keys(raw.decode()), algorithm, kid)
    except OSError as error:
        raise KeysUnavailableError(f"the key file {path!r} cannot be read: {error.strerror}", hint=hint) from error
    except ValueError as error:  # UnusableKeysError, or not text
        reason = error if isinstance(error, UnusableKeysError) else "it is not text"
        raise KeysUnavailableError(f"the key file {path!r} cannot be used: {reason}", hint=hint) from error
    if not found:
        raise UnknownKeyError(claim="kid", received=kid)
    return found
