"""What CI stands on: pinned versions, clocks that are ahead, and failures that say why."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib

import pytest

from tests.callback.hosts import free_port, serving
from tests.conftest import ROOT


def _section(name):
    text = (ROOT / ".ci" / "versions").read_text(encoding="utf-8")
    lines = text.partition(f"\n[{name}]\n")[2].partition("\n[")[0].splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("section", ["pip", "hermes"])
def test_every_package_has_one_version(section):
    """What CI installs is pinned, once and to one version."""
    lines = _section(section)
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+]*", line)] == []
    names = [_plain(line.partition("==")[0]) for line in lines]
    assert len(names) == len(set(names))


def test_all_that_the_project_names_is_pinned():
    """A dependency, an extra or the build's own that is added needs a line among the versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    texts = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    texts += [text for extra in project["project"]["optional-dependencies"].values() for text in extra]
    named = {_plain(re.match(r"[A-Za-z0-9._-]+", text)[0]) for text in texts} - {"chronos-cron"}
    assert named - {_plain(line.partition("==")[0]) for line in _section("pip")} == set()
    assert "hermes-agent" in {line.partition("==")[0] for line in _section("hermes")}
    assert all(re.fullmatch(r"before=[0-9-]{10}|[a-z]+@[0-9.]+", line) for line in _section("npm"))


def test_every_python_that_is_supported_is_run():
    """The classifiers, the tests' runs and the README speak of the same Pythons, and nothing caps them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = [text.rpartition(" ")[2] for text in project["classifiers"] if "Python :: 3." in text]
    assert project["requires-python"] == f">={said[0]}"
    assert f"for version in {' '.join(said)}; do" in (ROOT / ".ci" / "full").read_text(encoding="utf-8")
    assert f"Python {said[0]} or newer, up to {said[-1]} tried " in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.service
def test_every_process_has_its_clock_ahead():
    """Also one with a clean environment; clocks that only count stay."""
    counted = "import time; print(time.monotonic(), time.time())"
    begun = time.time()
    command = [str(ROOT / ".ci" / "ahead"), "+400d", "env", "-i", sys.executable, "-c", counted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout)
    counts, wall = map(float, done.stdout.split())
    assert 400 * 86400 <= wall - begun < 400 * 86400 + 60
    assert 0 <= time.monotonic() - counts < 60


def test_a_server_that_cannot_start_says_what_it_printed(tmp_path):
    """Not that nobody listens: its own words, at once."""
    port = free_port()
    with (
        pytest.raises(AssertionError, match=r"did not start, exit 1: .*Cannot find module 'tslib'"),
        serving([sys.executable, "-c", "raise SystemExit(\"Cannot find module 'tslib'\")"], port, tmp_path / "log"),
    ):
        pass


def test_what_failed_is_shown_and_what_was_repeated_is_named(tmp_path):
    """A program's own words stand with its failure, and the repeated tests above pytest's closing line."""
    (tmp_path / "conftest.py").write_text(
        "from tests.conftest import pytest_runtest_makereport, pytest_terminal_summary\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import subprocess\ndef test_it(): subprocess.run(['sh', '-c', 'echo why >&2; exit 3'], check=True, capture_output=True)\n"
    )
    (tmp_path / "repeated").write_text("tests/test_a.py::test_b (somewhere)\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CI_REPEATED": str(tmp_path / "repeated")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert "printed ---" in done.stdout
    assert "\nwhy\n" in done.stdout
    lines = done.stdout.splitlines()
    assert any("REPEATED once by itself: tests/test_a.py::test_b (somewhere)" in line for line in lines[-5:])
    assert lines[-1].startswith("1 failed in ")
