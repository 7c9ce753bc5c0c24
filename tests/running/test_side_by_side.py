"""Several jobs under one process: each is heard, timed and ended as if it went alone."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
from real_processes import FACTS

from chronos_cli.running.actions import ProcessAction
from chronos_cli.running.lock import RunLock, ask_to_end
from chronos_cli.running.process import start
from chronos_cli.running.supervise import Supervisor


@pytest.fixture
def going(tmp_path, places):
    """Start shell lines under one supervisor: `going(line, ..., timeout_s=...)` gives the supervisor and what goes."""
    locks = []

    def begin(*lines, interrupts=None, timeout_s=(), grace_s=0.3):
        supervisor, found = Supervisor(interrupts), []
        for number, line in enumerate(lines):
            locks.append(RunLock.acquire(places, "job", f"run-{number}"))
            action = ProcessAction("command", ("/bin/sh", "-c", line), str(tmp_path), None)
            child = start(
                action, facts=FACTS, environment=os.environ, lock=locks[-1], output=tmp_path / f"{number}.log"
            )
            limit = timeout_s[number] if timeout_s else 20
            found.append(supervisor.add(child, timeout_s=limit, grace_s=grace_s))
        return supervisor, found

    yield begin
    for lock in locks:
        lock.release()


def test_one_that_says_much_goes_on_while_another_is_waited_for(going):
    """More than a pipe holds: the first waits for what the second does after it has said that."""
    supervisor, (first, second) = going(
        "until [ -e done ]; do sleep 0.02; done", "yes | head -c 300000; touch done", timeout_s=(10, 10)
    )
    assert supervisor.wait(first).end.state == "ok"
    assert supervisor.wait(second).end.output_bytes == 300_000


def test_the_first_to_end_is_known_first(going):
    """Whichever it is, in whatever order they were started."""
    supervisor, (first, second) = going("until [ -e go ]; do sleep 0.02; done; sleep 0.3", "touch go")
    assert supervisor.wait(first, second) is second
    assert supervisor.wait(first) is first


def test_a_timeout_is_kept_while_another_is_waited_for(going, tmp_path):
    """It ends in its time, and not when its turn comes."""
    supervisor, (first, second) = going("until [ -e go ]; do sleep 0.02; done", "sleep 60", timeout_s=(20, 0.2))
    assert supervisor.wait(first, second) is second
    (tmp_path / "go").touch()
    assert (second.end.state, supervisor.wait(first).end.state) == ("timeout", "ok")


def test_one_that_is_slow_to_end_keeps_no_other(going):
    """While it has its grace the other ends, and its timeout is kept."""
    stubborn = "trap '' TERM; while :; do sleep 0.02; done"
    supervisor, (first, second, third) = going(stubborn, "sleep 0.4", "sleep 60", timeout_s=(0.2, 20, 0.3), grace_s=5)
    began = time.monotonic()
    assert {supervisor.wait(second, third), supervisor.wait(second), supervisor.wait(third)} == {second, third}
    assert time.monotonic() - began < 3
    assert (second.end.state, third.end.state, first.end) == ("ok", "timeout", None)
    os.killpg(first.child.pid, signal.SIGKILL)
    assert supervisor.wait(first).end.state == "timeout"


def test_one_that_is_asked_to_end_ends_alone(going, tmp_path, places):
    """The word lies beside its own lock."""
    line = "until [ -e go ]; do sleep 0.02; done"
    supervisor, (first, second) = going(line, line)
    assert ask_to_end(places, second.child.lock.owner(), "job", "run-1")
    assert supervisor.wait(first, second) is second
    assert (second.end.state, first.end) == ("interrupted", None)
    (tmp_path / "go").touch()
    assert supervisor.wait(first).end.state == "ok"


def test_a_signal_ends_all_at_once(going):
    """Jobs that shrug off SIGTERM share one grace: their ends are on record in time."""
    line = "trap '' TERM; touch $$.up; while :; do sleep 0.1; done"
    read_fd, write_fd = os.pipe()
    interrupts = SimpleNamespace(signal=None, fd=read_fd)
    supervisor, found = going(*[line] * 4, interrupts=interrupts)
    interrupts.signal = signal.SIGTERM
    began = time.monotonic()
    ends = [supervisor.wait(one).end for one in found]
    assert time.monotonic() - began < 2
    assert {(end.state, end.signal) for end in ends} <= {
        ("interrupted", signal.SIGKILL), ("interrupted", signal.SIGTERM),
    }  # fmt: skip
    os.close(read_fd)
    os.close(write_fd)


def test_what_goes_wrong_at_the_end_of_one_is_its_own(going, tmp_path, monkeypatch):
    """It is raised to who waits for that one, and the other is seen through."""
    supervisor, (first, second) = going("until [ -e go ]; do sleep 0.02; done; echo said", "true")
    monkeypatch.setattr(second.child, "pump_rest", lambda: 1 / 0)
    threading.Timer(0.5, (tmp_path / "go").touch).start()
    assert supervisor.first_over(first, second) is second
    assert supervisor.wait(first).end.state == "ok"
    with pytest.raises(ZeroDivisionError):
        supervisor.wait(second)
