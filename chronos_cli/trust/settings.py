"""Settings of the verification of fire tokens.

Read from the launching configuration only: a profile that is served beside others cannot widen it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from chronos_cli.contract import FIRE_LEEWAY_S, FIRE_MAX_LIFE_S
from chronos_cli.errors import ConfigError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from pathlib import Path

NAS_JWT: Final = "nas-jwt"
"""The built-in verifier: a JWT signed by NAS, as the wire contract describes it."""


class KeyKind(StrEnum):
    """Source of the keys that verify."""

    NONE = "none"
    URL = "url"
    FILE = "file"
    INLINE = "inline"


@frozen
class TrustSettings:
    """The claims a fire token must show, and the place of the keys that prove it.

    `keys` is an https URL of a JWKS (plain http only to loopback), the path of a PEM or JWKS file, or either of these
    inline. `cache_dir` is the home's cache folder; it need not exist. Durations are seconds. Raises ConfigError for
    values that could never verify anything safely; an empty audience, issuer or key is allowed here and refuses every
    token later.
    """

    expected_audience: str
    issuer: str
    keys: str
    cache_dir: Path
    require_bound: bool = False
    verifier: str = NAS_JWT
    fetch_timeout_s: float = 5.0
    """The whole of one request for keys, name resolution and body included."""
    max_age_s: float = 300.0
    """The longest that fetched keys are used without asking again, also where Cache-Control allows more."""
    max_stale_s: float = 3600.0
    """The time they serve beyond that while NAS cannot be reached."""
    cooldown_s: float = 30.0
    """The least time between two requests caused by an unknown `kid`, or by keys that would not renew."""
    max_life_s: float = FIRE_MAX_LIFE_S
    """The longest that a token may be good for: from its `iat`, or from now where it has none, to its `exp`."""
    leeway_s: float = FIRE_LEEWAY_S
    """The most by which the clocks here and at NAS may differ."""
    any_issuer: bool = False
    """Take a token of any issuer. Only for programs that say so by a call; no configuration can."""

    def __post_init__(self) -> None:
        if self.verifier != NAS_JWT and not _names_function(self.verifier):
            raise ConfigError(
                f"trust.verifier is '{self.verifier}'", hint=f"write {NAS_JWT} or an importable module:function"
            )
        for name in ("fetch_timeout_s", "max_age_s", "max_stale_s", "cooldown_s", "max_life_s", "leeway_s"):
            if not 0 <= getattr(self, name) <= 10 * 365 * 86400:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="write a number of seconds, not negative")
        if self.key_kind is KeyKind.URL:
            _check_url(self.keys)

    @property
    def key_kind(self) -> KeyKind:
        """Return which of its four forms `keys` has."""
        text = self.keys.lstrip()
        if not text:
            return KeyKind.NONE
        if text.startswith(("-----BEGIN ", "{")):
            return KeyKind.INLINE
        return KeyKind.URL if "://" in text else KeyKind.FILE


def _names_function(text: str) -> bool:
    module, colon, function = text.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def _check_url(url: str) -> None:
    """Refuse what could hand us another server's keys. An ordinary https URL costs no import."""
    scheme, _, rest = url.partition("://")
    if "@" in rest.partition("/")[0]:
        raise ConfigError(
            "the key URL holds credentials", hint="keys are public: give their URL without user or password"
        )
    if not url.isprintable() or " " in url:
        raise ConfigError(
            "the key URL holds blanks or control characters", hint="set cron.chronos.nas_jwks_url without them"
        )
    if scheme == "https" and rest.partition("/")[0]:
        return
    if scheme == "http" and is_loopback(url):
        return
    raise ConfigError(f"keys cannot be fetched from '{url}'", hint="use https (plain http only to this machine)")


def is_loopback(url: str) -> bool:
    """Return whether the URL's host is this machine by its own spelling: `localhost`, 127.0.0.0/8 or ::1."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # not an address, or not a URL: certainly not loopback
        return False
