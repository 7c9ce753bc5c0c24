"""Commands on a terminal of any size: a real pseudo-terminal, in this process, which is quick."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
import termios
import threading
import tty
from dataclasses import dataclass
from unicodedata import category, east_asian_width

import pytest

from chronos_cli.cli import main

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Screen:
    """What a command wrote to a terminal, standard output and error as they came, and its exit code."""

    code: int
    raw: str
    columns: int

    @property
    def lines(self):
        """The lines without styles."""
        return ESCAPES.sub("", self.raw).replace("\r", "").splitlines()

    @property
    def text(self):
        """All of it, without styles and with what was folded on one line again."""
        return " ".join(" ".join(self.lines).split())

    def too_wide(self):
        """The lines that the terminal would break in two; a command to be copied may be as long as it is."""
        return [line for line in self.lines if columns_of(line) > self.columns and not line.strip().startswith("`")]

    def rows(self, *names):
        """The rows of a table that begin so."""
        return [line for line in self.lines for name in names if line.startswith(name)]


def columns_of(text):
    """How many columns a text takes, as terminals count."""
    return sum(0 if category(c) in ("Mn", "Me") else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def on_terminal(*words, columns=80, lines=24, encoding="utf-8", env=None):
    """Run a command on a terminal of that size, in a locale of that encoding."""
    outside, inside = os.openpty()
    tty.setraw(inside)
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    seen = []
    reader = threading.Thread(target=_read, args=(outside, seen))
    reader.start()
    stream = open(inside, "w", encoding=encoding, newline="\n")  # noqa: SIM115, PTH123 - a descriptor, closed below
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("COLUMNS", raising=False)
            patch.setenv("TERM", "xterm")
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            code = main([str(word) for word in words])
    finally:
        stream.close()
        reader.join(10)
        os.close(outside)
    return Screen(int(code), b"".join(seen).decode(encoding), columns)


def _read(descriptor, seen):
    while True:
        try:
            data = os.read(descriptor, 65_536)
        except OSError:  # how Linux ends a terminal
            return
        if not data:
            return
        seen.append(data)
