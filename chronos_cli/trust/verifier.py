"""Choice of the verifier of fire tokens: the built-in one, or a function that the configuration names.

Such a function has the shape of `verify_nas_fire_token`: called with the token and the keywords `expected_audience`,
`jwks_or_key` and `issuer`, it returns the claims, or None to refuse. What it accepts is accepted; binding to a job and
a time is still checked by the caller, and so is that no token for another purpose of NAS starts a job.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from chronos_cli.contract import FIRE_PURPOSE, PROOF_PURPOSE
from chronos_cli.errors import ChronosError, ConfigError, KeysUnavailableError
from chronos_cli.trust import token_errors as refusals
from chronos_cli.trust import tokens
from chronos_cli.trust.settings import NAS_JWT, KeyKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chronos_cli.trust.settings import TrustSettings


class FireJudge(Protocol):
    """Judges a token, to fire a job or for another `purpose`. Raises as `tokens.verify_fire_token` does."""

    def __call__(self, token: str | None, purpose: str = FIRE_PURPOSE) -> tokens.FireClaims:
        """Return its claims."""
        ...


def fire_verifier(settings: TrustSettings, *, now: Callable[[], datetime] | None = None) -> FireJudge:
    """Return the configured verifier, to be kept by a process that judges many tokens.

    Where the key cache cannot be written, it remembers the keys in memory. A function that the configuration names is
    loaded now. Raises ConfigError; what it returns raises as `tokens.verify_fire_token` does.
    """
    if settings.verifier != NAS_JWT:
        judge = load_verifier(settings.verifier)
        return lambda token, purpose=FIRE_PURPOSE: _call(judge, token, settings, purpose)
    if settings.key_kind is not KeyKind.URL:
        return lambda token, purpose=FIRE_PURPOSE: tokens.verify_fire_token(token, settings, now=now, purpose=purpose)
    from chronos_cli.trust.jwks import JwksCache

    clock = time.time if now is None else (lambda: now().timestamp())
    cache = JwksCache(settings, clock=clock)

    def verify(token: str | None, purpose: str = FIRE_PURPOSE) -> tokens.FireClaims:
        algorithm, kid = tokens.read_header(token)
        tokens.check_configured(settings)
        return tokens.judge(token or "", algorithm, cache.find(algorithm, kid), settings, clock, purpose=purpose)

    return verify


def load_verifier(name: str) -> Callable[..., Any]:
    """Return the function behind `module:function`. Raises ConfigError."""
    from importlib import import_module

    module, _, function = name.partition(":")
    try:
        judge = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"trust.verifier '{name}' cannot be loaded: {error}",
            hint="name a module that can be imported: is its folder on PYTHONPATH?",
        ) from error
    if not callable(judge):
        raise ConfigError(f"trust.verifier '{name}' is not a function", hint="name a function as module:function")
    found: Callable[..., Any] = judge
    return found


def call_verifier(token: str | None, settings: TrustSettings, purpose: str = FIRE_PURPOSE) -> tokens.FireClaims:
    """Load the named function and let it judge one token. Raises as `tokens.verify_fire_token` does."""
    return _call(load_verifier(settings.verifier), token, settings, purpose)


def _call(judge: Callable[..., Any], token: str | None, settings: TrustSettings, purpose: str) -> tokens.FireClaims:
    if not token:
        raise refusals.MissingAuthorizationError
    try:
        claims = judge(
            token,
            expected_audience=settings.expected_audience,
            jwks_or_key=settings.keys,
            issuer=settings.issuer,
        )
    except ChronosError:
        raise
    except Exception as error:  # noqa: BLE001 - foreign code: where it fails, the token was not judged
        # Neither its text nor its traceback goes on: they may hold the token.
        raise KeysUnavailableError(
            f"trust.verifier '{settings.verifier}' failed with {type(error).__name__}",
            hint="put the function right that it names",
        ) from None
    if claims is None:
        raise refusals.VerifierRefusedError
    if not isinstance(claims, Mapping):
        raise KeysUnavailableError(
            f"trust.verifier '{settings.verifier}' returned a {type(claims).__name__}, not claims"
        )
    # It may not look at `purpose`: a challenge is no fire for all that, and a fire no challenge.
    if (claims.get("purpose") == PROOF_PURPOSE) != (purpose == PROOF_PURPOSE):
        raise refusals.PurposeError(claim="purpose", expected=purpose, received=claims.get("purpose"))
    return tokens.claims_from(claims)
