"""Help of commands as plain text within 80 columns: it needs no other library and looks the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_MARGIN: Final = 24
_INVALID = r"(?i)^invalid value for ('[^']+')(?: \(env var: '\w+'\))?: "
_SAID: Final = (
    (rf"{_INVALID}'(.*)' is not a valid int(?:eger)?(?: range)?$", r"\1 is '\2', which is no whole number"),
    (rf"{_INVALID}(\S+) is not in the range (\d+)<=x<=(\d+)$", r"\1 is \2, not from \3 to \4"),
    (rf"{_INVALID}(\S+) is not in the range x>=(\d+)$", r"\1 is \2, less than \3"),
    (r"(?i)^option '([^']+)' requires an argument$", r"\1 needs a value"),
    (r"(?i)^got unexpected extra arguments?(?:\(s\))? \((\S+).*\)$", r"'\1' is one word too many"),
)
"""Phrases of the parser, and what is said in their place."""


def section(title: str, rows: list[tuple[str, str]]) -> list[str]:
    """Return the lines of a heading with its rows, of a name and what it is for each; none where there are no rows."""
    lines = ["", f"{title}:"] if rows else []
    for name, text in rows:
        told = wrapped(text, width=78 - _MARGIN - 2)
        head = f"  {name}"
        if len(head) > _MARGIN:
            lines.append(head)
            head = ""
        lines.append(f"{head:<{_MARGIN + 2}}{told[0] if told else ''}".rstrip())
        lines += [" " * (_MARGIN + 2) + line for line in told[1:]]
    return lines


def paragraphs(text: str) -> list[str]:
    """Return the lines of a text whose paragraphs stand apart."""
    lines: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        if lines:
            lines.append("")
        lines += wrapped(" ".join(paragraph.split()))
    return lines


def nearest(word: str, known: list[str]) -> str:
    """Return the hint for a word that is none of the known."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"


def asked_for_help(words: list[str], groups: Collection[str]) -> list[str]:
    """Return the words of a command line with `help [COMMAND]`, or `GROUP help [COMMAND]`, as `... --help`."""
    if words[:1] == ["help"]:
        return [*(word for word in words if word != "help"), "--help"]
    if words[1:2] == ["help"] and words[0] in groups:
        return [words[0], *words[2:], "--help"]
    return words


def plain_usage(message: str) -> str:
    """Return what the parser of the command line has to say, on one line and in words for people."""
    import re

    text = " ".join(message.split()).rstrip(".")
    for said, plain in _SAID:
        text = re.sub(said, plain, text)
    return text


def wrapped(text: str, *, width: int = 78, hang: int = 0) -> list[str]:
    """Return the lines of a text of at most `width` characters each, those after the first `hang` further in."""
    import textwrap

    return textwrap.wrap(text, width, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False)
