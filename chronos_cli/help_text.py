"""Help of commands as plain text within 80 columns: it needs no other library and looks the same everywhere."""

from __future__ import annotations

from typing import Final

_MARGIN: Final = 24


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


def wrapped(text: str, *, width: int = 78, hang: int = 0) -> list[str]:
    """Return the lines of a text of at most `width` characters each, those after the first `hang` further in."""
    import textwrap

    return textwrap.wrap(text, width, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False)
