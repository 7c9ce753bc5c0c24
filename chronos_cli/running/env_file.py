"""Files of variables, as systemd's EnvironmentFile= and `docker run --env-file` have them."""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_env_file(text: str) -> dict[str, str]:
    r"""Return the variables of a text with lines NAME=VALUE. Raises ValueError, which names the line and no value.

    As systemd.exec(5): empty lines and lines that begin with # or ; are passed over, `export` before a name is too; a
    backslash at the end of a line joins the next. Outside of quotes a backslash takes its character as it is, in single
    quotes everything is as it is, in double quotes a backslash counts before \, ", ` and $. A quoted value may go over
    several lines. Nothing is filled in.
    """
    found: dict[str, str] = {}
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    at, end = 0, len(text)
    while at < end:
        stop = text.find("\n", at)
        stop = end if stop < 0 else stop
        line = text[at:stop].strip()
        if not line or line[0] in "#;":
            at = stop + 1
            continue
        number = text.count("\n", 0, at) + 1
        name, equals, _ = line.partition("=")
        name = name.strip()
        name = name.removeprefix("export ").strip() if name.startswith("export ") else name
        if not equals or not _NAME.fullmatch(name):
            raise ValueError(f"has no NAME=VALUE on line {number}")
        value, at = _value(text, text.index("=", at) + 1, number)
        if "\0" in value:
            raise ValueError(f"has a NUL on line {number}")
        found[name] = value
    return found


def _value(text: str, at: int, number: int) -> tuple[str, int]:
    """Return a value that begins at `at`, and where the next line begins."""
    parts: list[str] = []
    kept = 0
    while at < len(text) and text[at] in " \t":
        at += 1
    while at < len(text) and text[at] != "\n":
        letter = text[at]
        if letter in "'\"":
            inner, at = _quoted(text, at, number)
            parts.append(inner)
            kept = len("".join(parts))
        elif letter == "\\":
            following = text[at + 1 : at + 2]
            parts.append("" if following == "\n" else following)
            kept = len("".join(parts)) if following != "\n" else kept
            at += 2
        else:
            parts.append(letter)
            at += 1
    value = "".join(parts)
    return value[:kept] + value[kept:].rstrip(), at + 1


def _quoted(text: str, at: int, number: int) -> tuple[str, int]:
    """Return what stands in the quotes that begin at `at`, and where they end."""
    quote, at = text[at], at + 1
    parts: list[str] = []
    while at < len(text):
        letter = text[at]
        if letter == quote:
            return "".join(parts), at + 1
        if letter == "\\" and quote == '"':
            following = text[at + 1 : at + 2]
            parts.append("" if following == "\n" else following if following in '\\"`$' else f"\\{following}")
            at += 2
            continue
        parts.append(letter)
        at += 1
    raise ValueError(f"has a quote without its end on line {number}")
