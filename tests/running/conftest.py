"""Fixtures for tests of real processes."""

import os

import pytest
from real_processes import FACTS, Supervisor, places_of

from chronos_cli.running.actions import ProcessAction
from chronos_cli.running.lock import RunLock
from chronos_cli.running.process import start
from chronos_cli.running.supervise import wait


@pytest.fixture
def lock_dir(tmp_path):
    folder = tmp_path / "cron" / "locks"
    folder.mkdir(mode=0o700, parents=True)
    return folder


@pytest.fixture
def places(lock_dir):
    """Where the run locks of the home in `tmp_path` lie."""
    return places_of(lock_dir)


@pytest.fixture
def lock(places):
    held = RunLock.acquire(places, "job", "run-1")
    yield held
    held.release()


@pytest.fixture
def run(tmp_path, lock):
    """Run an action to its end under a lock: `run(argv, timeout_s=..., ...)` gives how it ended."""

    def run_it(argv, *, stdin=None, environment=None, limit=1024 * 1024, secret_names=(), timeout_s=20.0, **waiting):
        action = argv if not isinstance(argv, list) else ProcessAction("command", tuple(argv), str(tmp_path), stdin)
        child = start(
            action,
            facts=FACTS,
            environment=os.environ if environment is None else environment,
            lock=lock,
            output=tmp_path / "out" / "run-1.log",
            output_limit_bytes=limit,
            secret_names=secret_names,
        )
        return wait(child, timeout_s=timeout_s, **waiting)

    return run_it


@pytest.fixture
def supervise(tmp_path, lock_dir):
    """Start a supervisor with a job in a process of its own: `supervise(argv)`."""
    started = []

    def begin(argv, *, timeout_s=60, prefix=(), **environment):
        started.append(Supervisor(tmp_path, lock_dir, argv, timeout_s, prefix, environment))
        return started[-1]

    yield begin
    for one in started:
        one.clean_up()
