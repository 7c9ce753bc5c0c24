"""Every connection is an open file: `serve` makes room for all of them, and says where there is none."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from chronos_cli.nas_server.open_files import SPARE, raise_open_files
from tests.conftest import ROOT
from tests.nas_process import running_nas


@pytest.fixture
def limits():
    """Limits of this process for one test: called with (soft, hard)."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def limit_of(pid):
    line = next(one for one in Path(f"/proc/{pid}/limits").read_text().splitlines() if one.startswith("Max open files"))
    return [int(number) for number in line.split()[3:5]]


def test_serve_raises_its_soft_limit_and_says_so(tmp_path, limits):
    """A process that was given 512 files takes as many as its connections may need."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2_000:
        pytest.skip("the hard limit is below what is asked for here")
    limits(512)
    with running_nas(tmp_path, "--relays", "100") as nas:
        said = nas.events("open_files")
        assert limit_of(nas.pid)[0] == said[0]["limit"] == 900 + 300 + SPARE
        assert said[0]["before"] == 512
        assert "warning" not in (tmp_path / "nas.stderr").read_text()


def test_serve_warns_where_the_hard_limit_is_too_low(tmp_path):
    """One line that names both numbers and the cure; it serves all the same."""
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (400, 600));"
        "from chronos_cli.nas_server.open_files import raise_open_files;"
        "files = raise_open_files(connections=900, relays=1); print(files.before, files.now, files.needed, files.enough)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["400", "600", str(900 + 3 + SPARE), "False"]
    with running_nas(tmp_path, "--relays", "10000") as nas:
        hard = limit_of(nas.pid)[1]
        needed = 900 + 30_000 + SPARE
        said = (tmp_path / "nas.stderr").read_text()
        assert limit_of(nas.pid)[0] == min(hard, needed)
        assert nas.call("GET", "/healthz").status == 200
    warning = (
        f"chronos-nas: warning: {hard} files may be open at once, and {needed} may be needed: raise the hard limit"
    )
    assert (warning in said) == (hard < needed)


def test_a_limit_that_is_high_enough_is_left_alone(limits):
    """Nothing is lowered, and nothing said."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = raise_open_files(connections=0, relays=0)
    assert files.before == files.now
    assert files.enough
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
