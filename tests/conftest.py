"""What every test may need: programs that not every machine has, and the repository's own place."""

import gc
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# The tests start thousands of short processes: compiling everything anew in each would be most of their time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Where CI is set a plug-in's own words are kept back; a test that wants that sets it.
os.environ.pop("CI", None)
sys.dont_write_bytecode = False

# `nohup` and a script's `&` hand down that these are ignored: what tests start is to end by them all the same.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)


def thoroughly(full, few):
    """How many cases of one promise are tried: `full` where everything is required, as in CI, else a sample of `few`."""
    return full if os.environ.get("CHRONOS_TEST_REQUIRE_ALL") == "1" else few


# How long an example takes, or how long it takes to be made, says how busy a machine is.
settings.register_profile(
    "any machine",
    settings.default,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    max_examples=thoroughly(100, 30),
)
settings.load_profile("any machine")

UNIT = ("tests/core/", "tests/cli/test_screen.py", "tests/test_frozen.py")
"""Places whose tests start no process and no server."""

LAYERS = ("service", "soak", "bench", "interop")
"""The layers that a test names itself; every other has `unit` or `process` from here."""

LONG = ("tests/sim/", "tests/protocol/", "tests/providers/test_units", "tests/test_light", "tests/nas_server/test_conf", "tests/e2e/",
        "tests/trust/test_jwks", "tests/docs/test_shown", "tests/store/")  # fmt: skip


def pytest_ignore_collect(collection_path, config):
    """With `-m unit` no other file is read: to import all tests takes as long as these run."""
    place = collection_path.as_posix().removeprefix(f"{ROOT.as_posix()}/")
    if config.option.markexpr == "unit" and not any(place.startswith(at) or at.startswith(place) for at in UNIT):
        return True
    return None


def pytest_collection_modifyitems(items):
    """The files that take long come first: one that is handed out last is waited for while the other processes idle."""
    for item in items:
        if not any(mark.name in LAYERS for mark in item.iter_markers()):
            item.add_marker("unit" if item.nodeid.startswith(UNIT) else "process")
    items.sort(key=lambda item: next((n for n, name in enumerate(LONG) if item.nodeid.startswith(name)), len(LONG)))


def pytest_sessionstart():
    """The thousands of tests that are collected stay to the end: nobody need look for rubbish among them."""
    gc.disable()


def pytest_collection_finish():
    """Now there may be rubbish again, beside what was collected."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter):
    """In CI: before the closing line, the tests that failed once and were tried again."""
    if path := os.environ.get("CI_REPEATED"):
        for line in sorted(set(Path(path).read_text(encoding="utf-8").splitlines())):
            terminalreporter.write_line(f"REPEATED once by itself: {line}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With a program that failed goes what it printed, which the error of `subprocess` keeps to itself.

    A report that is no UTF-8 would end the process that it is sent to, and all other tests with it.
    """
    report = yield
    said = str(report.longrepr or "")
    if report.failed and said != (sound := said.encode(errors="backslashreplace").decode()):
        report.longrepr = sound
    error = None if call.excinfo is None else call.excinfo.value
    if isinstance(error, subprocess.CalledProcessError | subprocess.TimeoutExpired):
        printed = [
            part.decode(errors="replace") if isinstance(part, bytes) else part for part in (error.stdout, error.stderr)
        ]
        report.sections.append((f"what {error.cmd!r} printed", "".join(part or "" for part in printed)[-8000:]))
    return report


def _missing(what):
    if os.environ.get("CHRONOS_TEST_REQUIRE_ALL") == "1":
        pytest.fail(f"{what} is required here and missing")
    pytest.skip(f"{what} is not installed")


def at_length(full, short):
    """How long a slow proof goes on: `short` where CHRONOS_TEST_SHORT is set, as in CI."""
    return short if os.environ.get("CHRONOS_TEST_SHORT") == "1" else full


def require_program(*names):
    """The path of the first of these programs that is there; skips where there is none, or fails if all are required."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    return _missing(names[0])


def require_module(name):
    """Skip where this package is not installed, or fail if everything is required."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # not even the package it would be in
        found = None
    if found is None:
        _missing(name)


@pytest.fixture(scope="session")
def nas(tmp_path_factory):
    """A NAS for all tests of this process that need nothing special of it; each test is an agent of its own."""
    from tests.nas_process import running_nas

    with running_nas(tmp_path_factory.mktemp("nas")) as running:
        yield running


@pytest.fixture
def agent(nas, request):
    """This test's agent at that NAS."""
    return nas.add_agent(f"agent-{zlib.crc32(request.node.nodeid.encode()):08x}")


@pytest.fixture
def fixture_home(tmp_path):
    """A copy of a home that hermes-agent 0.19 wrote."""
    home = tmp_path / "home"
    shutil.copytree(ROOT / "tests" / "fixtures" / "hermes-0.19", home)
    return home


@pytest.fixture
def coming_home(fixture_home):
    """The same home with all that it waits for ahead, on any date: each job as if its scheduler had just looked at it."""
    from chronos_cli.core.claim import successor
    from chronos_cli.core.job import HomeDefaults, parse_job

    path = fixture_home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    home = HomeDefaults(zone=ZoneInfo("America/New_York"), zone_name="America/New_York")
    soon = datetime.now(UTC) + timedelta(minutes=2)
    for job in document["jobs"]:
        if job["schedule"]["kind"] == "once":
            at = datetime.fromisoformat(job["next_run_at"])
            weeks = max(0, (soon - at) // timedelta(weeks=1) + 1)
            shown = (at.astimezone(home.zone).replace(tzinfo=None) + timedelta(weeks=weeks)).replace(tzinfo=home.zone)
            job["next_run_at"] = job["schedule"]["run_at"] = shown.isoformat()
        else:
            job["next_run_at"] = successor(parse_job(job, home), None, soon).astimezone(home.zone).isoformat()
    path.write_text(json.dumps(document, indent=2))
    return fixture_home
