"""The figures of fires with their bars, in one interleaved run: `pytest -n 0 -s -m bench tests/bench/test_bars.py`."""

from __future__ import annotations

import pytest

from tests.bench.run import Report, fires, starts
from tests.bench.timing import Stopwatch
from tests.nas_process import running_nas


@pytest.mark.bench
def test_fires_beside_what_users_pick_instead(tmp_path):
    """Warm and started runners, `webhook` and a hand-written route: all accepted, all run; the bars are printed."""
    with Stopwatch(tmp_path) as watch:
        fires(watch, tmp_path, Report())


@pytest.mark.bench
def test_the_start_of_a_fire_beside_the_imports_it_needs(tmp_path):
    """`chronos fire` whole and until its job runs, over `import typer, jwt` in the same rounds; the bars are printed."""
    with Stopwatch(tmp_path) as watch, running_nas(tmp_path) as nas:
        starts(watch, tmp_path, nas, Report(), 5, None)
