"""Trust: whether a call that claims to come from NAS does, and what it may fire.

The names below are all that others need. Each is loaded when it is first used, so that importing this package is free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chronos_cli.trust.compat import get_fire_verifier, verify_nas_fire_token
    from chronos_cli.trust.jti import bind_jti
    from chronos_cli.trust.settings import TrustSettings
    from chronos_cli.trust.token_errors import FireTokenError
    from chronos_cli.trust.tokens import FireClaims, check_binding, verify_fire_token

__all__ = [
    "FireClaims",
    "FireTokenError",
    "TrustSettings",
    "bind_jti",
    "check_binding",
    "get_fire_verifier",
    "verify_fire_token",
    "verify_nas_fire_token",
]


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    modules = {
        "FireClaims": "tokens",
        "FireTokenError": "token_errors",
        "TrustSettings": "settings",
        "bind_jti": "jti",
        "check_binding": "tokens",
        "get_fire_verifier": "compat",
        "verify_fire_token": "tokens",
        "verify_nas_fire_token": "compat",
    }
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{modules[name]}"), name)
