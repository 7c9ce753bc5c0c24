"""The tick as a line of the user's crontab. The line ends with this home's mark; no other line is touched."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from chronos_cli.operations.install import InstallResult, Piece, cron_fields, must_be_said, refuse, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.operations.install import Tick

_WHERE = "your crontab"
_READ = ("crontab", "-l")
_WRITE = ("crontab", "-")
_EMPTY = ("crontab", "-r")
_NONE = ("no crontab", "no such file", "can't open")
"""Words by which the implementations of cron say, with exit code 1, that a user has no crontab."""


def pieces(tick: Tick, environ: Mapping[str, str]) -> tuple[Piece, ...]:
    """Return the line. Raises UsageError."""
    del environ
    return (Piece(where=_WHERE, text=_line(tick) + "\n"),)


def install(tick: Tick, environ: Mapping[str, str]) -> InstallResult:
    """Put the line in place of the one this home has, or at the end. Raises UsageError and InstallError."""
    before = _read(environ)
    line = _line(tick)
    lines = _lines(before)
    ours = [number for number, text in enumerate(lines) if _is_ours(text, tick)]
    kept = [text for number, text in enumerate(lines) if number not in ours[1:]]
    if ours:
        kept[ours[0]] = line
    else:
        kept.append(line)
    return _put(before, kept, environ)


def remove(tick: Tick, environ: Mapping[str, str]) -> InstallResult:
    """Take this home's line out. Raises InstallError."""
    before = _read(environ)
    return _put(before, [text for text in _lines(before) if not _is_ours(text, tick)], environ)


def _line(tick: Tick) -> str:
    variables = must_be_said(tick, "a crontab", "a line break", lambda text: not set(text) & {"\n", "\r"})
    words = [f"{name}={shlex.quote(value)}" for name, value in sorted(variables.items())]
    words += [shlex.quote(word) for word in (*tick.program, "tick", "--quiet")]
    command = " ".join(words)
    # crontab(5): a bare % ends the command; the shell takes what follows # for a comment.
    return f"{cron_fields(tick.every_s)} {command} {_mark(tick)}".replace("%", "\\%")


def _mark(tick: Tick) -> str:
    return f"# {tick.name}"


def _lines(text: str) -> list[str]:
    """Split a crontab as cron does, at line feeds alone: every other byte belongs to a line."""
    return text.removesuffix("\n").split("\n") if text else []


def _is_ours(line: str, tick: Tick) -> bool:
    """Tell this home's line; one that was made a comment is its owner's."""
    return line.rstrip().endswith(f" {_mark(tick)}") and not line.lstrip().startswith("#")


def _read(environ: Mapping[str, str]) -> str:
    done = run(_READ, environ)
    if done.returncode == 0:
        return done.stdout
    if any(words in done.stderr.lower() for words in _NONE):
        return ""
    raise refuse(_READ, done)  # one that cannot be read must not be written over


def _put(before: str, lines: list[str], environ: Mapping[str, str]) -> InstallResult:
    after = "".join(f"{line}\n" for line in lines)
    if _lines(before) == lines:
        return InstallResult(changed=False, where=_WHERE)
    done = run(_WRITE, environ, text=after) if lines else run(_EMPTY, environ)
    if done.returncode != 0:
        raise refuse(_WRITE if lines else _EMPTY, done)
    return InstallResult(changed=True, where=_WHERE)
