"""The verification for programs of others, in the shape that Hermes agents know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from chronos_cli.contract import FIRE_LEEWAY_S
from chronos_cli.errors import ChronosError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta
    from pathlib import Path

    from chronos_cli.trust.settings import TrustSettings
    from chronos_cli.trust.verifier import FireJudge


def verify_nas_fire_token(
    token: str | None = None,
    *more: object,
    expected_audience: str | None = None,
    jwks_or_key: str | bytes | Mapping[str, Any] | None = None,
    issuer: str | None = None,
    leeway_seconds: float | timedelta = FIRE_LEEWAY_S,
    cache_dir: str | Path | None = None,
    **unknown: object,
) -> dict[str, Any] | None:
    """Return the claims of a good fire token, None for any other; it never raises.

    What is not known here refuses the token: it may have been meant to restrict it.

    `jwks_or_key` is an https URL of a JWKS, the path of a PEM or JWKS file, or either of these inline; without one, or
    without an audience, every token is refused. `issuer` absent or empty takes any that the keys vouch for. Keys from a
    URL are cached under `cache_dir` (else `$CHRONOS_HOME/cache`, else `~/.chronos/cache`). Why a token was refused is
    logged at INFO, as a code.
    """
    try:
        from pathlib import Path

        from chronos_cli.trust.settings import TrustSettings
        from chronos_cli.trust.tokens import verify_fire_token

        if more or unknown:
            raise TypeError("an argument that is not known")

        settings = TrustSettings(
            expected_audience=_text(expected_audience),
            issuer=_text(issuer),
            any_issuer=not issuer,
            keys=_as_text(jwks_or_key),
            leeway_s=_seconds(leeway_seconds),
            cache_dir=_default_cache() if cache_dir is None else Path(cache_dir),
        )
        return dict(verify_fire_token(token, settings).claims)
    except ChronosError as error:
        _log(error.code)
    except Exception as error:  # noqa: BLE001 - the promise is None for whatever the caller hands in
        _log(type(error).__name__)
    return None


def _text(value: object) -> str:
    """Return a text, empty for None; something that only behaves like one must not compare equal to a claim."""
    if value is None or type(value) is str:
        return value or ""
    raise TypeError("not a text")


def _seconds(value: float | timedelta) -> float:
    return float(value) if isinstance(value, int | float) else value.total_seconds()


def _as_text(keys: str | bytes | Mapping[str, Any] | None) -> str:
    if keys is None or isinstance(keys, str):
        return keys or ""
    if isinstance(keys, bytes):
        return keys.decode()
    import json

    return json.dumps(dict(keys))


def _default_cache() -> Path:
    import os
    from pathlib import Path

    home = os.environ.get("CHRONOS_HOME")
    return (Path(home) if home else Path.home() / ".chronos") / "cache"


def _log(code: str) -> None:
    import logging

    logging.getLogger("chronos_cli.trust").info("fire token refused: %s", code)


@overload
def get_fire_verifier() -> Callable[..., dict[str, Any] | None]: ...


@overload
def get_fire_verifier(settings: TrustSettings) -> FireJudge: ...


def get_fire_verifier(settings: TrustSettings | None = None) -> Callable[..., Any]:
    """Return the verifier that `settings` name. Given a token, it returns FireClaims or raises (see `fire_verifier`).

    Without settings it is `verify_nas_fire_token`, which is told everything per call. Raises ConfigError.
    """
    if settings is None:
        return verify_nas_fire_token
    from chronos_cli.trust.verifier import fire_verifier

    return fire_verifier(settings)
