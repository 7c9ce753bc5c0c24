"""The runner that a command forks: what start_runner would have started, or nothing at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from real_processes import eventually, is_running, program_environment

from chronos_cli.running import detach
from chronos_cli.running.detach import Runners, fork_runner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")

COMMAND = """
import atexit, json, os, signal, sys, threading, time
from chronos_cli.operations.firing import runner
from chronos_cli.operations.firing.forked import be_runner
from chronos_cli.running.detach import Runners
from chronos_cli.running.runner_channel import begin_runner
from chronos_cli.running.signals import Interrupts

def main(wrapper):
    inherited = sorted(map(int, os.listdir("/proc/self/fd")))[:-1]
    claim, secrets, reporter = begin_runner(os.environ)
    reporter.send({
        "pid": os.getpid(), "session": os.getsid(0), "claim": claim.decode(), "secrets": secrets, "cwd": os.getcwd(),
        "inherited": inherited, "variables": dict(os.environ),
        "handled": [n for n in signal.valid_signals() if signal.getsignal(n) not in (signal.SIG_DFL, signal.SIG_IGN)],
        "blocked": [*signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    })
    exec(sys.argv[1])
    return 3

runner.main = main
given = {"environment": dict(os.environ), "secrets": {"CHRONOS_NAS_TOKEN": "canary"}}
kept = open(sys.executable, "rb"), os.dup(0)
os.set_inheritable(kept[1], True)
sys.stdout.write("held back ")
atexit.register(print, "the command ends")
with Interrupts():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    forked = Runners().fork(b"a claim", be_runner, **given)
    said = forked.next_message(20)
    print(json.dumps([said, forked.stray, os.getpid()]), flush=True)
    exec(sys.argv[2])
"""


def command(body="", after="", **more):
    """Start a command that forks a runner; `body` is what that does once it has told what it is."""
    argv = [sys.executable, "-c", COMMAND, body, after]
    return subprocess.Popen(argv, env=program_environment(**more), stdout=subprocess.PIPE, text=True)


def test_it_has_what_a_started_one_has():
    """A session, claim, secrets, variables and signals of its own, and no other descriptor.

    What waits to be written or to be done at the command's end is the command's alone.
    """
    ends = "atexit.register(print, 'the runner ends')"
    with command(ends, CHRONOS_FIRE_TOKEN="canary") as process:
        out, _ = process.communicate(timeout=30)
    first, last = out.splitlines()
    assert last == "the command ends"
    said, _, starter = json.loads(first.removeprefix("held back "))
    assert said["pid"] == said["session"] != starter
    assert (said["claim"], said["secrets"], said["cwd"]) == ("a claim", {"CHRONOS_NAS_TOKEN": "canary"}, "/")
    assert said["inherited"] == [0, 1, 2, 3, 4]
    assert "CHRONOS_FIRE_TOKEN" not in said["variables"]
    assert said["variables"].get("PATH") == os.environ.get("PATH")
    assert (said["handled"], said["blocked"]) == ([signal.SIGINT], [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, signal.SIGINT])
def test_it_goes_on_when_the_group_of_its_command_is_ended(tmp_path, number):
    """Neither a signal for the whole group nor the command's death reaches it."""
    body = (
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\nopen({str(tmp_path / 'done')!r}, 'w')"
    )
    argv = [sys.executable, "-c", COMMAND, body, "time.sleep(60)"]
    with subprocess.Popen(
        argv, env=program_environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        said = json.loads(process.stdout.readline().removeprefix("held back "))[0]
        os.killpg(process.pid, number)
        assert is_running(said["pid"])
        (tmp_path / "go").touch()
        assert eventually((tmp_path / "done").exists)
        assert eventually(lambda: not is_running(said["pid"]) or process.poll() is None)
        process.kill()


def test_one_that_cannot_go_on_says_why_and_its_exit_is_heard_of():
    """What it raises comes as the last of its lines, as from a program; and its exit code is passed on."""
    runners = Runners()

    def fails(descriptors, _variables):
        report = descriptors[2]
        sys.stderr = os.fdopen(report, "w", buffering=1)
        raise ValueError("no such thing")

    def ends(descriptors, _variables):
        claim, _secrets, report = descriptors
        os.write(report, json.dumps({"claim": os.read(claim, 100).decode()}).encode() + b"\n")
        return 7

    failed, ended = (runners.fork(b"a claim", body, environment={}) for body in (fails, ends))
    if failed is None or ended is None:
        pytest.skip("this process has more than one thread")
    assert ended.next_message(20) == {"claim": "a claim"}
    assert eventually(ended.reap)
    assert ended.exit_status == 7
    assert failed.next_message(20) is None
    assert failed.stray.endswith("ValueError: no such thing\n")
    assert eventually(failed.reap)
    assert failed.exit_status == 1
    assert eventually(lambda: runners.sweep() == 0)


def test_beside_another_thread_or_without_a_process_to_be_had_there_is_none(monkeypatch):
    """Then nothing was started, nothing is left open, and no signal stays blocked."""

    def none_left():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def never(*_):
        raise AssertionError

    before = sorted(Path("/proc/self/fd").iterdir())
    monkeypatch.setattr(os, "listdir", lambda _: ["1", "2"])
    monkeypatch.setattr(os, "fork", never)
    assert fork_runner(b"", never, environment={}) is None
    monkeypatch.setattr(detach.os, "listdir", lambda _: ["1"])
    monkeypatch.setattr(os, "fork", none_left)
    assert fork_runner(b"", never, environment={}) is None
    monkeypatch.undo()
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
