"""Reads config.yaml into plain values.

Importing the YAML library takes longer than all the rest of reading a configuration, so a file that keeps to the plain
core of YAML (nested `key: value`, simple scalars, comments) is read by a few lines here. Whatever goes beyond that core
by a single character is left to the library. Both readers give the same values: a property test holds them together.
"""

from __future__ import annotations

from errno import EFBIG, EINVAL, ENXIO
from typing import Any

from chronos_cli.errors import ConfigError
from chronos_cli.files import read_file

MAX_BYTES = 8 * 2**20
MAX_DEPTH = 100
MAX_VALUES = 100_000
"""The most values a file may stand for, each alias counted as all that it repeats."""

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_KEY = _LETTERS | frozenset("0123456789_")
_PLAIN = _KEY | frozenset("./+@:- ")
_LONGEST = 100
_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
    "null": None,
    "y": 0,
    "n": 0,
}
"""Words (in any case) that YAML 1.1 does not read as text, or that its readers disagree about."""


def read_config(path: str) -> dict[str, object]:
    """Return the mapping that the file at `path` holds; empty when there is no such file.

    Raises ConfigError where it cannot be read, is no YAML (with the line) or no mapping.
    """
    try:
        data = read_file(path, most=MAX_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        if error.errno == EFBIG:
            raise ConfigError(
                f"{path} is larger than {MAX_BYTES} bytes", hint="a configuration is a few lines"
            ) from error
        hint = "make it readable for this user, or name another home with --home"
        if error.errno in (EINVAL, ENXIO):  # a folder, a pipe, a socket
            hint = "move it away, and put a file there"
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from error
    simple = read_simple(text)
    return read_yaml(text, path) if simple is None else simple


def read_simple(text: str) -> dict[str, object] | None:
    """Return the mapping in a text of YAML's plain core, or None where it takes the library to be sure."""
    lines = _split(text)
    if lines is None:
        return None
    root: dict[str, object] = {}
    open_maps = [(0, root)]
    waiting: tuple[dict[str, object], str] | None = None  # a key that so far has no value
    for indent, key, rest in lines:
        if indent > open_maps[-1][0]:
            if waiting is None:
                return None
            child: dict[str, object] = {}
            waiting[0][waiting[1]] = child
            open_maps.append((indent, child))
        while open_maps[-1][0] > indent:
            open_maps.pop()
        level, here = open_maps[-1]
        if level != indent or key in here:
            return None
        known, here[key] = _scalar(rest)
        if not known:
            return None
        waiting = None if rest else (here, key)
    return root


def _split(text: str) -> list[tuple[int, str, str]] | None:
    """Return indentation, key and rest of every line that says something; None where a line goes beyond the core."""
    result: list[tuple[int, str, str]] = []
    if not text.isascii():
        return None
    for raw in text.split("\n"):
        line = raw.rstrip(" ")
        if not line.isprintable():
            return None
        if not line or line.lstrip(" ").startswith("#"):
            continue
        key, colon, rest = line.lstrip(" ").partition(":")
        if not colon or (rest and rest[0] != " ") or not _is_key(key):
            return None
        result.append((len(line) - len(line.lstrip(" ")), key, rest.partition(" #")[0].strip(" ")))
    return result


def _is_key(text: str) -> bool:
    simple = 0 < len(text) <= _LONGEST and text[0] in _LETTERS and _KEY.issuperset(text)
    return simple and text.lower() not in _WORDS


def _scalar(text: str) -> tuple[bool, object]:
    """Return whether this is a scalar of the core, and its value."""
    if not text:
        return True, None
    quote, inner = text[0], text[1:-1]
    if quote in "\"'":
        return len(text) > 1 and text[-1] == quote and quote not in inner and "\\" not in inner, inner
    if text.isdecimal() and len(text) < len("9007199254740993"):
        return text == "0" or quote != "0", int(text)  # a leading zero would mean octal
    word = text.lower()
    if word in _WORDS:
        # The library knows true, True and TRUE, but no tRuE: other spellings are its to judge.
        return word not in ("y", "n") and text in (word, word.upper(), word.capitalize()), _WORDS[word]
    plain = (quote in _LETTERS or quote == "/") and _PLAIN.issuperset(text) and ": " not in f"{text} "
    return plain, text


def read_yaml(text: str, path: str) -> dict[str, object]:
    """Return the mapping in a text of YAML, by the library. Raises ConfigError with the line of what is wrong."""
    documents = yaml_documents(text, path)
    if len(documents) > 1:
        raise ConfigError(f"{path}: holds {len(documents)} documents", hint="a configuration is one")
    document = documents[0] if documents else None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must hold `key: value` lines at its top, not a {type(document).__name__}")
    return document


def yaml_documents(text: str, path: str) -> list[Any]:
    """Return the documents in a text of YAML, bounded in depth and size.

    Raises ConfigError with the line of what is wrong.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        measure_yaml(text, loader, path)
        return list(yaml.load_all(text, loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        problem = error.problem or error.context or "it cannot be read"
        raise ConfigError(f"{path}{where}: not YAML: {problem}", hint="put that line right") from error
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, LookupError, ArithmeticError) as error:
        # Beside YAML's own: a date such as 2026-13-45, a number of too many digits, a key that is a list.
        problem = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: not YAML: {problem}", hint="put the file right") from error


def measure_yaml(text: str, loader: Any, path: str) -> None:
    """Refuse what would take too much to build: too deep, or a few lines of aliases that stand for millions of values.

    Raises ConfigError, and what the parser raises.
    """
    import yaml

    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, loader):
        kind = type(event)
        if kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
            open_nodes.append((getattr(event, "anchor", None), total))
        elif kind in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = total - before + 1
        elif kind is yaml.AliasEvent:
            name = getattr(event, "anchor", "")
            if any(name == anchor for anchor, _ in open_nodes):
                raise ConfigError(
                    f"{_place(path, event)}: '*{name}' stands within itself", hint="take its aliases apart"
                )
            total += sizes.get(name, 1)
        total += 1
        if len(open_nodes) > MAX_DEPTH:
            raise ConfigError(
                f"{_place(path, event)}: nested deeper than {MAX_DEPTH} levels", hint="put the file right"
            )
        if total > MAX_VALUES:
            raise ConfigError(
                f"{_place(path, event)}: stands for more than {MAX_VALUES} values", hint="take its aliases apart"
            )


def _place(path: str, event: Any) -> str:
    mark = event.start_mark
    return path if mark is None else f"{path}:{mark.line + 1}:{mark.column + 1}"
