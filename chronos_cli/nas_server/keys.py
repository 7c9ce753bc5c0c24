"""The keys that sign fire tokens: a folder of private keys, what each may still be used for, and the JWKS of them.

`keys.json` in the folder says from when each key signs and until when it is published; each private key is a PEM file
of mode 0600. A key given from outside (a file or a variable) stands alone and is never rotated here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from chronos_cli.errors import ConfigError, ConflictError, NotFoundError
from chronos_cli.files import place_of, write_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

JWKS_MAX_AGE_S = 300
"""The time for which clients may keep the JWKS; a new key signs only after this, unless told otherwise."""

RETIRE_AFTER_S = 600.0
"""The time an old key stays published after the new one signs: a token's 90 s, leeways, and clocks that differ."""

_CHECK_S = 1.0


class KeyAlgorithm(StrEnum):
    """The key that signs."""

    RS256 = "RS256"
    ES256 = "ES256"


DEFAULT_ALGORITHM = KeyAlgorithm.ES256
"""For new keys: it signs in an eighth of the time, and every agent takes both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """The record of a key. Times are seconds since the epoch; `retires_at` None means for ever."""

    kid: str
    alg: str
    created_at: float
    signs_from: float
    retires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key ready to sign, and its public half as a JWK."""

    kid: str
    alg: str
    private: Any
    jwk: dict[str, str]


class KeyRing:
    """The keys in one folder, or the one key given as PEM. `clock`: seconds since the epoch."""

    def __init__(self, folder: Path, clock: Callable[[], float], *, pem: str | None = None) -> None:
        self._folder = folder
        self._clock = clock
        self._outside = None if pem is None else _load(pem.encode(), "the key given")
        self._loaded: dict[str, SigningKey] = {}
        self._records: list[KeyRecord] = []
        self._checked_at = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def prepare(self) -> KeyRecord | None:
        """Make a first key where there is none; returns it."""
        if self._outside is not None or self.records():
            return None
        return self._add(DEFAULT_ALGORITHM, self._read(), signs_from=self._clock())

    def records(self) -> list[KeyRecord]:
        """Return all keys that are not retired yet, the newest last."""
        if self._outside is not None:
            return [KeyRecord(kid=self._outside.kid, alg=self._outside.alg, created_at=0.0, signs_from=0.0)]
        now = self._clock()
        return [record for record in self._read() if record.retires_at is None or record.retires_at > now]

    def signing(self) -> SigningKey:
        """Return the key to sign with now: the newest whose time has come. Raises ConfigError where there is no key.

        Where no key's time has come, as after a rotation with no key before it or under a clock that was set back, the
        first that comes signs: a refused token is asked about once more, and a fire without a signature is late.
        """
        if self._outside is not None:
            return self._outside
        now = self._clock()
        with self._lock:
            if not 0 <= now - self._checked_at < _CHECK_S:
                self._refresh()
                self._checked_at = now
            left = [one for one in self._records if one.retires_at is None or one.retires_at > now]
            if not left:
                raise ConfigError(f"no key in {self._folder} may sign", hint="run `chronos-nas keys rotate --now`")
            begins = sorted(left, key=lambda record: record.signs_from)
            ready = [record for record in begins if record.signs_from <= now]
            return self._key(ready[-1] if ready else begins[0])

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the published keys (RFC 7517)."""
        if self._outside is not None:
            return {"keys": [self._outside.jwk]}
        with self._lock:
            return {"keys": [self._key(record).jwk for record in self.records()]}

    def rotate(self, algorithm: KeyAlgorithm, *, after: float) -> KeyRecord:
        """Add a key that signs `after` seconds from now, and retire the others some time after that."""
        self._own()
        signs_from = self._clock() + after
        retires_at = signs_from + RETIRE_AFTER_S
        others = [
            record
            if record.retires_at is not None and record.retires_at <= retires_at
            else replace(record, retires_at=retires_at)
            for record in self._read()
        ]
        return self._add(algorithm, others, signs_from=signs_from)

    def retire(self, kid: str) -> KeyRecord:
        """Stop publishing a key now. Raises NotFoundError, and ConflictError where no other key could sign."""
        self._own()
        now = self._clock()
        record = next((one for one in self.records() if one.kid == kid), None)
        if record is None:
            raise NotFoundError(f"there is no key {kid}", hint="see `chronos-nas keys list`")
        if not any(one.kid != kid and one.signs_from <= now for one in self.records()):
            raise ConflictError(
                f"key {kid} is the only one that signs", hint="run `chronos-nas keys rotate --now` first"
            )
        retired = replace(record, retires_at=now)
        self._replace(retired)
        (self._folder / f"{kid}.pem").unlink(missing_ok=True)
        return retired

    def _own(self) -> None:
        if self._outside is not None:
            raise ConflictError("the key is given from outside", hint="replace the file or variable it comes from")

    def _key(self, record: KeyRecord) -> SigningKey:
        if record.kid not in self._loaded:
            path = self._folder / f"{record.kid}.pem"
            try:
                with path.open("rb") as file:
                    if os.fstat(file.fileno()).st_mode & 0o077:
                        raise ConfigError(f"the private key {path} is readable by others", hint=f"chmod 600 {path}")
                    self._loaded[record.kid] = _load(file.read(), str(path))
            except OSError as error:
                raise ConfigError(f"cannot read the private key {path}: {error}", hint="put it back") from error
        return self._loaded[record.kid]

    def _add(self, algorithm: KeyAlgorithm, others: list[KeyRecord], *, signs_from: float) -> KeyRecord:
        """Add a key beside `others`, in one write: at no moment do they end without a successor."""
        pem = generate(algorithm)
        key = _load(pem, "a fresh key")
        record = KeyRecord(kid=key.kid, alg=key.alg, created_at=self._clock(), signs_from=signs_from)
        _write(self._folder / f"{key.kid}.pem", pem)
        self._write([*others, record])
        return record

    def _replace(self, record: KeyRecord) -> None:
        self._write([record if one.kid == record.kid else one for one in self._read()])

    def _refresh(self) -> None:
        try:
            status = (self._folder / "keys.json").stat()
        except FileNotFoundError:
            self._records = []
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._records, self._stamp = self._read(), stamp

    def _read(self) -> list[KeyRecord]:
        path = self._folder / "keys.json"
        try:
            document = json.loads(path.read_bytes())
            return [KeyRecord(**record) for record in document["keys"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"cannot read {path}: {error}",
                hint="restore it from a backup, or move it away: `serve` makes a new key",
            ) from error

    def _write(self, records: list[KeyRecord]) -> None:
        document = {"keys": [asdict(record) for record in records]}
        _write(self._folder / "keys.json", json.dumps(document, indent=2).encode() + b"\n")
        with self._lock:
            self._checked_at = float("-inf")


def generate(algorithm: KeyAlgorithm) -> bytes:
    """Return a fresh private key as PEM (PKCS 8, not encrypted)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if algorithm is KeyAlgorithm.RS256:
        key: Any = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    plain: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return plain


def _load(pem: bytes, source: str) -> SigningKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{source} is no private key in PEM form: {error}", hint="RSA or P-256, unencrypted"
        ) from error
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        rsa_numbers = private.public_key().public_numbers()
        alg, members = "RS256", {"e": _b64_int(rsa_numbers.e), "kty": "RSA", "n": _b64_int(rsa_numbers.n)}
    elif isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1):
        ec_numbers = private.public_key().public_numbers()
        alg = "ES256"
        members = {"crv": "P-256", "kty": "EC", "x": _b64_int(ec_numbers.x, 32), "y": _b64_int(ec_numbers.y, 32)}
    else:
        raise ConfigError(f"{source} is no key we sign with", hint="RSA of 2,048 bits or more, or P-256")
    # RFC 7638: the thumbprint is over the required members, sorted, without spaces. One in 64 begins with a dash, which
    # on a command line would read as an option; without it the id is as good.
    thumbprint = hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest()
    kid = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").lstrip(b"-").decode()
    return SigningKey(kid=kid, alg=alg, private=private, jwk={**members, "kid": kid, "alg": alg, "use": "sig"})


def _b64_int(number: int, length: int | None = None) -> str:
    size = length or (number.bit_length() + 7) // 8
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()


def _write(path: Path, data: bytes) -> None:
    """Write a private file whole or not at all, in a folder that is made where it is missing."""
    with place_of(path.parent.parent, f"{path.parent.name}/{path.name}", make=True) as place:
        write_file(place, data, durable=True)
