"""Fire tokens and the keys behind them, for tests: real keys, real signatures, a real JWKS over HTTP.

key = SigningKey.rs256()
with serve_jwks(key) as nas:
    token = key.token(job_id="j1", fire_at="2026-11-20T15:34:15+00:00")
    ... nas.url, nas.requests, nas.keys = [other], nas.status = 503 ...
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Sequence

AUDIENCE = "agent:7f3"
ISSUER = "https://portal.example.com"


@cache
def _rsa(bits: int, other: bool) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A key as NAS has it: it signs tokens, and its public half can be published."""

    kid: str
    algorithm: str
    private: Any = field(repr=False)

    @classmethod
    def rs256(
        cls, kid: str = "rsa-1", *, algorithm: str = "RS256", bits: int = 2048, other: bool = False
    ) -> SigningKey:
        """The RSA key of this process, which took a tenth of a second to make; `other`: one that is not the same."""
        return cls(kid=kid, algorithm=algorithm, private=_rsa(bits, other or kid != "rsa-1"))

    @classmethod
    def es256(cls, kid: str = "ec-1") -> SigningKey:
        """A fresh P-256 key."""
        return cls(kid=kid, algorithm="ES256", private=ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def es384(cls, kid: str = "ec-384") -> SigningKey:
        """A fresh P-384 key."""
        return cls(kid=kid, algorithm="ES384", private=ec.generate_private_key(ec.SECP384R1()))

    @property
    def public_pem(self) -> str:
        """The public half as PEM."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def private_pem(self) -> str:
        """The private half as PEM."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def jwk(self, **members: Any) -> dict[str, Any]:
        """The public half as a JWK; `members` are added or replace."""
        family = RSAAlgorithm if isinstance(self.private, rsa.RSAPrivateKey) else ECAlgorithm
        public = family.to_jwk(self.private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        return {**public, "kid": self.kid, "alg": self.algorithm, "use": "sig", **members}

    def jwks(self, *others: SigningKey) -> dict[str, Any]:
        """The JWK Set with this key and others."""
        return {"keys": [key.jwk() for key in (self, *others)]}

    def claims(
        self,
        *,
        now: float | None = None,
        without: Sequence[str] = (),
        **overrides: Any,
    ) -> dict[str, Any]:
        """The claims that NAS would put into a token, bound only if `job_id` and `fire_at` are among the overrides."""
        issued = int(time.time() if now is None else now)
        claims: dict[str, Any] = {
            "aud": AUDIENCE,
            "iss": ISSUER,
            "purpose": "cron_fire",
            "iat": issued,
            "exp": issued + 90,
            "jti": uuid.uuid4().hex,
        }
        claims.update(overrides)
        return {name: value for name, value in claims.items() if name not in without}

    def token(self, *, headers: dict[str, Any] | None = None, algorithm: str | None = None, **claims: Any) -> str:
        """A signed token; `claims` as for `claims()`, `headers` are added to the usual `kid`."""
        header = {name: value for name, value in {"kid": self.kid, **(headers or {})}.items() if value is not None}
        return jwt.encode(self.claims(**claims), self.private, algorithm=algorithm or self.algorithm, headers=header)


@dataclass(kw_only=True)
class JwksServer:
    """What the served JWKS endpoint answers; change it at will while it runs."""

    url: str = ""
    keys: list[SigningKey] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay_s: float = 0.0
    drip_s: float = 0.0
    requests: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request that came, in order."""

    @property
    def count(self) -> int:
        """How many requests came."""
        return len(self.requests)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(dict(handler.headers.items()))
        time.sleep(self.delay_s)
        body = json.dumps({"keys": [key.jwk() for key in self.keys]}).encode() if self.body is None else self.body
        handler.send_response(self.status)
        for name, value in {"Content-Type": "application/json", **self.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        pieces = [body] if not self.drip_s else [body[i : i + 1] for i in range(len(body))]
        for piece in pieces:
            handler.wfile.write(piece)
            time.sleep(self.drip_s)


@contextmanager
def serve_jwks(*keys: SigningKey, tls: ssl.SSLContext | None = None) -> Iterator[JwksServer]:
    """Publish keys on a free port of 127.0.0.1 while the block runs, over https if a context is given."""
    state = JwksServer(keys=list(keys))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                state._answer(self)
            except (BrokenPipeError, ConnectionResetError):  # the client had enough, as some tests want it to
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Stay quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Stay quiet: a client that does not like our certificate hangs up."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    state.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}/.well-known/jwks.json"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
