"""What CI stands on: pinned versions, clocks that are ahead, and failures that say why."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib

import pytest

from tests.callback.hosts import serving
from tests.conftest import ROOT
from tests.ports import free_port


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


def _ci(folder, script, timeout=60):
    """Run a script that begins like .ci/full, in a folder of its own."""
    (folder / ".ci").mkdir()
    for name in ("lib", "versions"):
        shutil.copy(ROOT / ".ci" / name, folder / ".ci")
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f". .ci/lib\n{script}\nsummed_up"],
        cwd=folder, env={**os.environ, "PY": sys.executable}, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def test_the_last_lines_say_what_ran_and_what_did_not(tmp_path):
    """A step that fails or hangs, or leaves a process behind, holds nothing up; a skip says its reason."""
    done = _ci(
        tmp_path,
        """CI_LIMIT=1
        absent() { echo no such thing here; return 77; }
        noted good sh -c 'sleep 30 & echo fine'
        noted bad sh -c 'echo broken; exit 3'
        noted none absent
        noted hung bounded sh -c 'echo "  File \\"/src/tests/a/test_b.py\\", line 9 in test_c"; sleep 60'
        CI_UNTIL=0 noted late true
        words=(ot) && noted other echo yes && noted fine true""",
    )
    lines = [re.sub(r", \d+ s$", "", line) for line in done.stdout.partition("== what ran")[2].splitlines()[1:]]
    assert lines == [
        "ran      good: fine",
        "FAILED   bad: exit 3: broken",
        "skipped  none: no such thing here",
        "FAILED   hung: exit 124: hung: ended after 1 s",
        "HUNG     tests/a/test_b.py:9 test_c",
        "skipped  late: 0 s are over",
        "ran      other: yes",
        "skipped  fine: not asked for",
    ]
    assert done.returncode == 1
    assert "broken" in done.stdout.partition("== what ran")[0], "what a step prints is shown"


@pytest.mark.soak
def test_what_was_repeated_into_green_is_named_apart_from_what_failed_twice(tmp_path):
    """By the names of the run and of the test; what only a busy machine made late is green the second time."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(
        "import pathlib\nmark = pathlib.Path('mark')\n"
        "def test_late():\n    there = mark.exists()\n    mark.touch()\n    assert there\n"
        "def test_bad(): assert False\ndef test_good(): pass\n"
    )
    done = _ci(tmp_path, 'noted both tested here "$PY" -m pytest -q --rootdir . tests')
    last = done.stdout.partition("== what ran")[2].splitlines()
    assert last[2:] == [
        "FAILED twice: tests/test_some.py::test_bad (here)",
        "REPEATED once by itself: tests/test_some.py::test_late (here)",
    ]


def test_programs_that_tests_start_can_be_interrupted_wherever_tests_run():
    """Under `nohup`, or as a script's background job, which hand down that signals are ignored."""
    code = (
        "import signal, tests.conftest\n"
        "print([signal.getsignal(n) for n in (2, 1)] == [signal.default_int_handler, signal.SIG_DFL])"
    )
    command = ["sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True\n", done.stderr


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
