"""A plug-in of pytest that notes which tests run which lines of the modules that are mutated, and how long each takes.

`pytest -p tests.mutations.seen --seen FILE TESTS` writes it to a file; the driver reads it to try the cheapest tests first
that can notice a mutant at all.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.mutations.targets import ROOT, TARGETS

WATCHED = {str(ROOT / file): file for file in TARGETS}
_lines: set[tuple[str, int]] = set()
_seen: dict[str, tuple[float, list[tuple[str, int]]]] = {}


def _called(frame, event, arg):
    file = WATCHED.get(frame.f_code.co_filename)
    if file is None:
        return None

    def within(frame, event, arg):
        if event == "line":
            _lines.add((file, frame.f_lineno))
        return within

    _lines.add((file, frame.f_lineno))
    return within


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Watch one test, its fixtures included."""
    _lines.clear()
    began = time.monotonic()
    threading.settrace(_called)
    sys.settrace(_called)
    try:
        return (yield)
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        _seen[item.nodeid] = time.monotonic() - began, sorted(_lines)


def pytest_addoption(parser):
    """Where to write it."""
    parser.addoption("--seen", type=Path, required=True)


def pytest_sessionfinish(session):
    """Write what was seen."""
    session.config.getoption("--seen").write_text(json.dumps(_seen), encoding="utf-8")
