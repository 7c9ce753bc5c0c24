"""Unit files of systemd, taken apart: sections, repeated keys, continued lines, quoted words (systemd.syntax(7))."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import UsageError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"',
                   "'": "'", "s": " ", ";": ";"}  # fmt: skip
_ROOTS: Final = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
"""Where systemd's own folders are, the one that counts first at the front."""


@frozen
class Unit:
    """A unit: its name with its ending, and the values of each key of each section, in order."""

    name: str
    values: Mapping[tuple[str, str], tuple[str, ...]]

    def last(self, section: str, key: str) -> str | None:
        """Return the value that counts where a key has one: its last. None where it has none, or an empty one."""
        found = self.values.get((section, key), ())
        return found[-1] if found and found[-1] else None

    def all(self, section: str, key: str) -> tuple[str, ...]:
        """Return the values of a key that may stand several times; an empty one takes back those above it."""
        found = self.values.get((section, key), ())
        begin = max((place + 1 for place, value in enumerate(found) if not value), default=0)
        return found[begin:]

    def flag(self, section: str, key: str, *, default: bool) -> bool:
        """Return a boolean. Raises UsageError for a value that is none."""
        value = self.last(section, key)
        if value is None:
            return default
        if value.lower() in ("1", "yes", "y", "true", "t", "on"):
            return True
        if value.lower() in ("0", "no", "n", "false", "f", "off"):
            return False
        raise UsageError(f"{key}={value} is neither yes nor no", hint=f"put {self.name} right")

    def keys(self, section: str) -> frozenset[str]:
        """Return the keys that say something in a section."""
        return frozenset(key for (place, key), found in self.values.items() if place == section and any(found))


def read_unit(text: str, name: str) -> Unit:
    """Take a unit's text apart. Raises UsageError naming the line that is neither section, key nor comment."""
    values: dict[tuple[str, str], tuple[str, ...]] = {}
    section = ""
    begun: list[str] = []
    for number, raw in enumerate([*text.split("\n"), ""], 1):  # the last ends a line that is continued past the end
        line = raw.strip() if not begun else raw.rstrip()
        if line.lstrip().startswith(("#", ";")) or (not line and not begun):
            continue
        if line.endswith("\\"):
            begun.append(line[:-1])
            continue
        line = " ".join([*begun, line]).strip()
        begun = []
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        if not equals or not section:
            raise UsageError(f"{name}, line {number}: '{line[:40]}' is no setting", hint="put that line right")
        place = (section, key.strip())
        values[place] = (*values.get(place, ()), value.strip())
    return Unit(name=name, values=values)


def drop_ins(path: Path) -> list[Path]:
    """Return the drop-ins of a unit in the order in which they count: by their names, each name once.

    As unit_file_find_dropin_paths of systemd's dropin.c finds them: of `a-b.timer` those in `a-b.timer.d`, `a-.timer.d`
    and `timer.d`, beside it and, where it lies in a folder of systemd's, in all of those. The first one found counts.
    """
    folders = [path.parent]
    where = path.parent.name
    if path.parent.parent.name == "systemd" and where in ("system", "user"):
        folders = [Path(root, "systemd", where) for root in _ROOTS]
        if path.parent not in folders:
            folders.insert(0, path.parent)
    names = [f"{stem}{path.suffix}" for stem in _stems(path.stem)]
    places = [folder / f"{name}.d" for folder in folders for name in names]
    places += [folder / f"{path.suffix[1:]}.d" for folder in folders]
    found: dict[str, Path] = {}
    for place in places:
        for one in place.glob("*.conf"):
            if not one.name.startswith("."):
                found.setdefault(one.name, one)
    return [found[name] for name in sorted(found)]


def timers_in(place: Path) -> list[Path]:
    """Return the timers of a folder, and the instances of its templates that its `*.wants` name, by their names.

    A template that has an instance there is not among them.
    """
    wanted = {place / one.name for one in place.glob("*.wants/*@?*.timer")}
    found = {*place.glob("*.timer"), *(one for one in wanted if _template_of(one).exists())}
    return sorted(found - {_template_of(one) for one in found if "@" in one.stem and not one.stem.endswith("@")})


def read_whole(path: Path) -> Unit:
    """Read a unit with its drop-ins, which add to it in the order of their names; an instance's from its template.

    Raises UsageError where it cannot be read, or is masked.
    """
    values: dict[tuple[str, str], tuple[str, ...]] = {}
    main, extra = path, drop_ins(path)
    if "@" in path.stem:
        template = _template_of(path)
        main = path if os.path.lexists(path) else template
        names = {one.name for one in extra}
        extra = sorted(
            [*extra, *(one for one in drop_ins(template) if one.name not in names)], key=lambda one: one.name
        )
    for part in (main, *extra):
        try:
            text = part.read_bytes().decode()
        except OSError as error:
            raise UsageError(f"{part.name} cannot be read: {error.strerror}", hint="put it beside the timer") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{part.name} is not UTF-8 text", hint="save it as UTF-8") from error
        if part == main and not text:
            raise UsageError(
                f"{part.name} is empty: it is masked, and starts nothing", hint="unmask it, or leave it so"
            )
        for key, given in read_unit(text, part.name).values.items():
            values[key] = (*values.get(key, ()), *given)
    return Unit(name=path.name, values=values)


def unescaped(text: str) -> str:
    r"""Return a part of a unit's name as `systemd-escape --unescape` does: a dash is a slash, `\x2d` a dash."""
    raw = re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), text.replace("-", "/"))
    try:
        return raw.encode("latin-1").decode()
    except UnicodeError:
        return raw


def _template_of(path: Path) -> Path:
    return path.with_name(f"{path.stem.partition('@')[0]}@{path.suffix}")


def _stems(stem: str) -> Iterator[str]:
    """Yield a unit's name and its beginnings up to a dash, the longest first."""
    yield stem
    while (cut := stem.removesuffix("-").rfind("-")) > 0:
        stem = stem[: cut + 1]
        yield stem


def commands_of(line: str) -> list[str]:
    """Split a line into its commands, which a word `;` of its own separates; a quoted or escaped one is a word."""
    found, begin, quote, escaped = [], 0, "", False
    for place, letter in enumerate(line):
        if escaped or letter == "\\":
            escaped = not escaped
        elif quote or letter in "\"'":
            quote = "" if letter == quote else quote or letter
        elif letter == ";" and line[place - 1 : place].isspace() and not line[place + 1 : place + 2].strip():
            found.append(line[begin:place].strip())
            begin = place + 1
    return [command for command in (*found, line[begin:].strip()) if command]


def words_of(text: str, expand: Callable[[str], str]) -> list[str]:
    """Split a line into words, quotes and escapes taken away, each word expanded. Raises UsageError."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    rest = iter(text)
    for letter in rest:
        if letter == "\\":
            word = [*(word or []), _escape(rest)]
        elif quote:
            if letter == quote:
                quote = ""
            else:
                word = [*(word or []), letter]
        elif letter in "\"'":
            quote, word = letter, word or []
        elif letter in " \t\n\r":
            if word is not None:
                words.append(expand("".join(word)))
            word = None
        else:
            word = [*(word or []), letter]
    if quote:
        raise UsageError(f"a quote is open at the end of '{text[:60]}'", hint="close it")
    if word is not None:
        words.append(expand("".join(word)))
    return words


def _escape(rest: object) -> str:
    letter = next(rest, "")  # type: ignore[call-overload]
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    length = {"x": 2, "u": 4, "U": 8}.get(letter, 0)
    digits = "".join(next(rest, "") for _ in range(length or 2))  # type: ignore[call-overload]
    try:
        return chr(int(digits, 16) if length else int(letter + digits, 8))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"'\\{letter}{digits}' is no escape of systemd's", hint="put that line right") from error
