"""Kinds of values of a setting: each reads a YAML value or the text of a variable, or says what is allowed.

Every reader takes the raw value and returns the typed one, or raises ValueError whose text follows the key: `must be
...`. The value itself is not repeated where it could hold a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN = 60
_SIZES = {"": 1, "b": 1, "k": 1000, "kb": 1000, "kib": 1024, "m": 10**6, "mb": 10**6, "mib": 2**20, "gib": 2**30}
_SIZE = r"(\d{1,12}) ?([a-zA-Z]{0,3})"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_VARIABLE = r"[^\s=*,]+\*?|\*"


class ValueKind:
    """A kind of value: its name in the docs, how it is read, and whether `${VARIABLE}` in a file is filled in."""

    __slots__ = ("expands", "name", "read")

    def __init__(self, name: str, read: Callable[[object], object], *, expands: bool = False) -> None:
        self.name = name
        self.read = read
        self.expands = expands


def shown(value: object) -> str:
    """Return a value as an error message repeats it, as a config.yaml could have it: one line, bounded."""
    if isinstance(value, str):
        text = f"'{' '.join(value[: 2 * _SHOWN].split())}'"
    else:
        import json

        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def read_text(value: object) -> str:
    """Return a text without control characters."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {shown(value)} (quotes make a number text)")  # noqa: TRY004 - one family
    text = value.strip()
    if not text.isprintable():
        raise ValueError("must be one line of text without control characters")
    return text


def read_bool(value: object) -> bool:
    """Return true or false; a variable may also say yes, no, on, off, 1 or 0."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise ValueError(f"must be true or false, not {shown(value)}")


def read_url(value: object) -> str:
    """Return a base URL that a token may be sent to: https, or http to this machine itself.

    No credentials, no query.
    """
    from urllib.parse import urlsplit

    allowed = "must be an https:// URL (http:// only to loopback)"
    if not isinstance(value, str):
        raise ValueError(f"{allowed}, not {shown(value)}")  # noqa: TRY004 - one family of errors
    text = value.strip()
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{allowed}: {error}") from error
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ValueError("must not hold credentials")
    if not host or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError(f"{allowed}, not {shown(value)}")
    if parts.query or parts.fragment:
        raise ValueError("must be a URL without ? and #")
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return text.rstrip("/")
    raise ValueError(f"{allowed}, not {shown(value)}")


def read_callback_url(value: object) -> str:
    """Read the base URL of a callback: as `read_url`, and without the path that NAS adds to it."""
    from chronos_cli.contract import FIRE_PATH

    url = read_url(value)
    if re.sub("/+", "/", url).endswith(FIRE_PATH):
        raise ValueError(f"must not end in {FIRE_PATH}: NAS adds that path itself")
    return url


def is_loopback(host: str) -> bool:
    """Return whether a URL's host (no brackets, no port) is this machine by its text alone, without asking DNS."""
    if host.lower() == "localhost":
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_keys(value: object) -> str:
    """Return where the public keys are: a URL, a PEM or JWKS file, or either of these written out."""
    if isinstance(value, str) and value.lstrip().startswith(("-----BEGIN ", "{")):
        return value.strip()
    return read_url(value) if "://" in str(value) else read_text(value)


def read_store(value: object) -> str:
    """Return a folder, or `s3://`, `gs://`, `az://` with bucket and prefix."""
    text = read_text(value)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    if scheme not in ("s3", "gs", "az"):
        raise ValueError(f"must be a folder or s3://, gs://, az:// BUCKET/PREFIX, not {shown(scheme)}")
    bucket = rest.partition("/")[0]
    if "@" in bucket:
        raise ValueError("must not hold credentials; they come from the provider's usual environment")
    if not bucket:
        raise ValueError("must name a bucket")
    return text


def read_zone(value: object) -> str:
    """Return the name of an IANA time zone."""
    from zoneinfo import ZoneInfo

    name = read_text(value)
    try:
        if name == "localtime":
            raise ValueError("localtime is no name of a zone")
        ZoneInfo(name)
    except (ValueError, LookupError, OSError) as error:  # LookupError: unknown; OSError: a folder of zones
        if name == "UTC":
            from chronos_cli.errors import ConfigError

            raise ConfigError("there is no data of time zones here", hint="pip install tzdata") from error
        read_zone("UTC")
        raise ValueError(f"must be an IANA time zone such as Europe/Berlin, not {shown(value)}") from error
    return name


def read_argv(value: object) -> tuple[str, ...]:
    """Return a program and its arguments: a list of text; in a variable a JSON list, or words quoted as for a shell."""
    allowed = "must be a list of texts: the program and its arguments"
    if isinstance(value, str):
        value = _json_or_words(value, allowed)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(word, str) for word in value):
        raise ValueError(allowed)
    if not value[0] or any("\0" in word for word in value):
        raise ValueError(allowed)
    return tuple(value)


def read_names(value: object) -> tuple[str, ...]:
    """Return names of variables, `*` at the end of one for all that begin so; or for the words all and none."""
    allowed = "must be names of variables (a * may end one), or all, or none"
    if isinstance(value, str):
        word = value.strip().lower()
        value = {"all": ["*"], "none": []}.get(word, value.replace(",", " ").split())
    if not isinstance(value, list | tuple) or not all(
        isinstance(name, str) and re.fullmatch(_VARIABLE, name) for name in value
    ):
        raise ValueError(allowed)
    return tuple(value)


def read_homes(value: object) -> tuple[tuple[str, str], ...]:
    """Return homes by profile name, from a mapping, or from a variable as `name=path,name=path`."""
    allowed = "must map profile names to homes (in a variable: name=path,name=path)"
    if isinstance(value, str):
        value = dict(_name_path(item.strip(), allowed) for item in value.split(",") if item.strip())
    if not isinstance(value, dict):
        raise ValueError(allowed)  # noqa: TRY004 - one family of errors
    for name, path in value.items():
        if not isinstance(name, str) or not re.fullmatch(_NAME, name) or not isinstance(path, str) or not path.strip():
            raise ValueError(allowed)
    return tuple(sorted((name, path.strip()) for name, path in value.items()))


def whole(low: int, high: int, *, zero: str = "") -> ValueKind:
    """Return a whole number within bounds. `zero`: a word that says 0."""
    span = f"a whole number from {low} to {high}" + (f", or {zero}" if zero else "")

    def read(value: object) -> int:
        if zero and isinstance(value, str) and value.strip().lower() == zero:
            return 0
        number = value
        if isinstance(value, str) and value.strip().isdecimal():
            number = int(value.strip()[:20])
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise ValueError(f"must be {span}, not {shown(value)}")
        return number

    return ValueKind(span, read)


def seconds(low: float, high: float) -> ValueKind:
    """Return a length of time, in seconds: a number, or texts such as 90s, 15m, 1h30m, 7d."""
    allowed = f"must be seconds or a duration such as 90s, 15m, 24h, from {low:g}s to {high:.10g}s"

    def read(value: object) -> float:
        result = _duration(value)
        if result is None or not low <= result <= high:
            raise ValueError(f"{allowed}, not {shown(value)}")
        return result

    return ValueKind("duration", read)


def whole_seconds(low: int, high: int) -> ValueKind:
    """Return a length of time in whole seconds, written like the others."""
    allowed = f"must be whole seconds or a duration such as 90s, 15m, 24h, from {low}s to {high}s"

    def read(value: object) -> int:
        result = _duration(value)
        if result is None or result != int(result) or not low <= result <= high:
            raise ValueError(f"{allowed}, not {shown(value)}")
        return int(result)

    return ValueKind("duration", read)


def size(low: int, high: int) -> ValueKind:
    """Return a number of bytes: a number, or texts such as 512KiB, 1MiB."""

    def read(value: object) -> int:
        match = re.fullmatch(_SIZE, str(value).strip()) if isinstance(value, int | str) else None
        unit = _SIZES.get(match[2].lower()) if match and not isinstance(value, bool) else None
        result = int(match[1]) * unit if match and unit else -1
        if not low <= result <= high:
            raise ValueError(f"must be a size such as 512KiB or 1MiB, from {low} to {high} bytes, not {shown(value)}")
        return result

    return ValueKind("size", read)


def one_of(*words: str) -> ValueKind:
    """Return one of a few words."""
    listed = ", ".join(words)

    def read(value: object) -> str:
        if value is False and "off" in words:
            return "off"  # what YAML makes of the word
        if not isinstance(value, str) or value.strip().lower() not in words:
            raise ValueError(f"must be one of {listed}, not {shown(value)}")
        return value.strip().lower()

    return ValueKind(listed, read)


TEXT = ValueKind("text", read_text, expands=True)
PATH = ValueKind("path", read_text, expands=True)
BOOL = ValueKind("true or false", read_bool)
URL = ValueKind("URL", read_url, expands=True)
CALLBACK_URL = ValueKind("URL", read_callback_url, expands=True)
KEYS = ValueKind("URL, path or PEM", read_keys, expands=True)
STORE = ValueKind("path or URL", read_store, expands=True)
ZONE = ValueKind("IANA zone", read_zone, expands=True)
ARGV = ValueKind("list of text", read_argv)
NAMES = ValueKind("list of names", read_names)
HOMES = ValueKind("map of paths", read_homes)


def _duration(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    from chronos_cli.durations import parse_seconds
    from chronos_cli.errors import UsageError

    try:
        return parse_seconds(value)
    except UsageError:
        return None


def _json_or_words(text: str, allowed: str) -> object:
    if text.lstrip().startswith("["):
        import json

        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{allowed} (this JSON cannot be read)") from error
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{allowed} (a quote is not closed)") from error


def _name_path(item: str, allowed: str) -> tuple[str, str]:
    name, separator, path = item.partition("=")
    if not separator:
        raise ValueError(allowed)
    return name.strip(), path
