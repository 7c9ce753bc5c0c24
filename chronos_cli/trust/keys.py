"""Public keys as JWKs, whichever of JWKS and PEM they came as, and the choice of one for a token.

Only RSA of at least 2048 bits and the curves P-256 and P-384 are kept, and of those only the public members: a private
key that slipped into a JWKS goes no further than this module. Keys are read as widely as the common libraries read
them: a member that is null or empty counts as absent, base64url may be padded, in the other alphabet or broken over
lines, and a number may have more or fewer zeros in front. What is kept is written in the one proper form.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.errors import KeysUnavailableError
from chronos_cli.strict_json import NotJsonError, read_json
from chronos_cli.trust.token_errors import AlgorithmError, UnknownKeyError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Jwk = dict[str, str]

MAX_KEYS_BYTES: Final = 256 * 1024
_CURVE_OF: Final = {"ES256": "P-256", "ES384": "P-384"}
_RSA_BITS: Final = range(2048, 16384 + 1)
_LONGEST_EXPONENT_BITS: Final = 64
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_SAID_AT_MOST: Final = 3

# SEC 2: the prime p and the b of y^2 = x^3 - 3x + b.
_CURVES: Final = {
    "P-256": (
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    ),
    "P-384": (
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    ),
}


class UnusableKeysError(ValueError):
    """A text that should hold keys does not; the message says why, without quoting it."""


def parse_jwks(text: str | bytes) -> tuple[Jwk, ...]:
    """Return the usable signature keys of a JWK Set (RFC 7517), public members only. Others are skipped, by the RFC.

    A JWK by itself counts as a set of one. Raises UnusableKeysError when there is none, naming the member of each key
    that disqualified it.
    """
    try:
        document = read_json(text)
    except NotJsonError as error:
        raise UnusableKeysError(str(error)) from error
    members = document.get("keys") if isinstance(document, dict) else None
    if members is None and isinstance(document, dict) and "kty" in document:
        members = [document]
    if not isinstance(members, list):
        raise UnusableKeysError("it is not a JWK Set")
    found, reasons = [], []
    for number, member in enumerate(members, 1):
        try:
            found.append(read_jwk(member))
        except UnusableKeysError as error:
            reasons.append(f"{_name(member, number)}: {error}")
    return _some(found, reasons)


def _name(member: object, number: int) -> str:
    """Return a key as a message calls it: its place in the set, and its `kid` if it has one."""
    kid = member.get("kid") if isinstance(member, dict) else None
    return f"key {number}" if kid is None else f"key {number} ({shown(kid)})"


def parse_keys(text: str) -> tuple[Jwk, ...]:
    """Return the keys in the text of a PEM or JWKS file; several PEM blocks are several keys.

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


def _some(keys: Iterable[Jwk], reasons: Sequence[str] = ()) -> tuple[Jwk, ...]:
    found = tuple(keys)
    if not found:
        said = "; ".join(reasons[:_SAID_AT_MOST])
        more = len(reasons) - _SAID_AT_MOST
        said += f"; and {more} more" if more > 0 else ""
        raise UnusableKeysError("it holds no usable RSA, P-256 or P-384 public key" + (f" ({said})" if said else ""))
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
    """Return the public members of a JWK that can verify one of the accepted algorithms, else None."""
    try:
        return read_jwk(member)
    except UnusableKeysError:
        return None


def read_jwk(member: object) -> Jwk:
    """Return the public members of a JWK that can verify one of the accepted algorithms, each in its proper form.

    Raises UnusableKeysError, which names the member that disqualifies the key.
    """
    if not isinstance(member, dict):
        raise UnusableKeysError("it is not an object")
    given = {name: value for name, value in member.items() if value not in (None, "", [])}
    if given.get("use", "sig") != "sig":
        raise UnusableKeysError(f"use is {shown(given['use'])}, not 'sig'")
    operations = given.get("key_ops", ["verify"])
    if "verify" not in (operations if isinstance(operations, list) else [operations]):
        raise UnusableKeysError(f"key_ops is {shown(operations)}, without 'verify'")
    match given.get("kty"):
        case "RSA":
            key = _rsa(given)
        case "EC":
            key = _ec(given)
        case kind:
            raise UnusableKeysError("kty is absent" if kind is None else f"kty is {shown(kind)}, not 'RSA' or 'EC'")
    for name in ("kid", "alg"):
        if name in given:
            if not isinstance(given[name], str):
                raise UnusableKeysError(f"{name} is {shown(given[name])}, not a text")
            key[name] = given[name]
    return key


def _rsa(given: dict[str, Any]) -> Jwk:
    modulus, exponent = _number(given, "n"), _number(given, "e")
    if modulus.bit_length() not in _RSA_BITS:
        raise UnusableKeysError(f"n has {modulus.bit_length()} bits, not {_RSA_BITS.start} to {_RSA_BITS.stop - 1}")
    if exponent % 2 == 0 or exponent == 1 or exponent.bit_length() > _LONGEST_EXPONENT_BITS:
        raise UnusableKeysError("e is no public exponent")
    return {"kty": "RSA", "n": _base64(modulus), "e": _base64(exponent)}


def _ec(given: dict[str, Any]) -> Jwk:
    name = given.get("crv")
    if not isinstance(name, str) or name not in _CURVES:
        raise UnusableKeysError("crv is absent" if name is None else f"crv is {shown(name)}, not 'P-256' or 'P-384'")
    prime, constant = _CURVES[name]
    x, y = _number(given, "x"), _number(given, "y")
    for member, value in (("x", x), ("y", y)):
        if value >= prime:
            raise UnusableKeysError(f"{member} is too large for {name}")
    if (y * y - x * x * x + 3 * x - constant) % prime:
        raise UnusableKeysError(f"x and y are no point of {name}")
    size = (prime.bit_length() + 7) // 8
    return {"kty": "EC", "crv": name, "x": _base64(x, size), "y": _base64(y, size)}


def _number(given: dict[str, Any], name: str) -> int:
    """Return the whole number behind a base64url member. Raises UnusableKeysError."""
    value = given.get(name)
    if value is None:
        raise UnusableKeysError(f"{name} is absent")
    try:
        text = "".join(value.split()).translate({45: 43, 95: 47}).rstrip("=")
        return int.from_bytes(a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True))
    except (ValueError, AttributeError, TypeError):  # binascii.Error is a ValueError; the others: it is no text
        raise UnusableKeysError(f"{name} is not base64url") from None


def _base64(number: int, size: int = 0) -> str:
    """Return a whole number as base64url, in as few bytes as it takes, at least `size`."""
    data = number.to_bytes(max(size, (number.bit_length() + 7) // 8))
    return b2a_base64(data, newline=False).decode().rstrip("=").translate({43: 45, 47: 95})


def choose(keys: Sequence[Jwk], algorithm: str, kid: str | None) -> tuple[Jwk, ...]:
    """Return the keys that may have signed a token with this header; empty when its `kid` is not among them.

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
    """Do as `choose`, with keys that are configured inline. Raises UnknownKeyError and KeysUnavailableError."""
    try:
        found = choose(parse_keys(text), algorithm, kid)
    except UnusableKeysError as error:
        hint = "set cron.chronos.nas_jwks_url to a JWKS, a PEM or where one is"
        raise KeysUnavailableError(f"the configured key cannot be used: {error}", hint=hint) from error
    if not found:
        raise UnknownKeyError(claim="kid", received=kid)
    return found


def file_keys(path: str, algorithm: str, kid: str | None) -> tuple[Jwk, ...]:
    """Do as `choose`, with the keys of a PEM or JWKS file, read anew each time. Raises as `static_keys`."""
    from pathlib import Path

    from chronos_cli.files import read_file

    hint = "the key setting takes an https URL, a PEM file or a JWKS file"
    try:
        raw = read_file(Path(path).expanduser(), most=MAX_KEYS_BYTES)
        found = choose(parse_keys(raw.decode("utf-8-sig")), algorithm, kid)
    except OSError as error:
        raise KeysUnavailableError(f"the key file '{path}' cannot be read: {error.strerror}", hint=hint) from error
    except ValueError as error:  # UnusableKeysError, or not text
        reason = error if isinstance(error, UnusableKeysError) else "it is not text"
        raise KeysUnavailableError(f"the key file '{path}' cannot be used: {reason}", hint=hint) from error
    if not found:
        raise UnknownKeyError(claim="kid", received=kid)
    return found
