"""The detached runner: it outlives whoever started it, takes nothing along, and says how it goes."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_processes import eventually, is_running, program_environment, read_pid

from chronos_cli.running.detach import Runners, start_runner
from chronos_cli.running.errors import StartError

BEGIN = """
import json, os, signal, sys, time
from chronos_cli.running.runner_channel import begin_runner
claim, secrets, reporter = begin_runner(os.environ)
"""

WORKER = """
import os, socket, sys, time
from chronos_cli.running.detach import Runners
listening = socket.create_server(("127.0.0.1", 0)); listening.set_inheritable(True)
runner = Runners().start([sys.executable, "-c", sys.argv[1], sys.argv[2]], b"{}", environment=os.environ)
print(runner.next_message(10)["pid"], listening.getsockname()[1], flush=True)
time.sleep(60)
"""


def begin(code, claim=b"{}", *, runners=None, **given):
    argv = [sys.executable, "-c", BEGIN + code]
    environment = program_environment(**given.pop("environment", {}))
    return (runners.start if runners else start_runner)(argv, claim, environment=environment, **given)


@pytest.fixture
def worker(tmp_path):
    """A worker process that has started a runner, which says when it is done by a file."""
    code = (
        BEGIN
        + "reporter.send({'pid': os.getpid()})\nwhile not os.path.exists(sys.argv[1] + '/go'): time.sleep(0.01)\nreporter.send({'state': 'ended'})\nopen(sys.argv[1] + '/done', 'w').close()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, code, str(tmp_path)],
        env=program_environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    runner, port = map(int, process.stdout.readline().split())
    yield process, runner, port
    (tmp_path / "go").touch()
    process.kill()
    process.wait()
    process.stdout.close()
    assert eventually(lambda: not is_running(runner))


@pytest.mark.parametrize(
    "how", ["SIGKILL to it", "SIGTERM to its group", "SIGKILL to its group", "SIGHUP to its group"]
)
def test_it_outlives_its_parent(worker, tmp_path, how):
    """Neither the worker's death nor a signal to the worker's whole group touches the runner or its work."""
    process, runner, _ = worker
    number = getattr(signal, how.split()[0])
    if "group" in how:
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid, number)
    process.wait(5)
    time.sleep(0.05)
    assert is_running(runner)
    (tmp_path / "go").touch()
    assert eventually((tmp_path / "done").exists), "it went on to the end, with nobody left to report to"


def test_it_takes_no_listening_socket_along(worker):
    """Once the worker is dead its port is free, although the runner lives on."""
    process, runner, port = worker
    process.kill()
    process.wait()
    assert is_running(runner)
    socket.create_server(("127.0.0.1", port)).close()


def test_even_before_it_closes_anything_it_has_none_of_our_descriptors(tmp_path):
    """An inheritable descriptor is shut out by the start itself: the runner needs a while until it can act."""
    opened = os.open(tmp_path, os.O_RDONLY)
    stray = fcntl.fcntl(opened, fcntl.F_DUPFD, 55)
    os.close(opened)
    program = f"for fd in 0 1 2 3 4 {stray}; do [ -e /dev/fd/$fd ] && echo $fd; done >&3"
    runner = start_runner(["/bin/sh", "-c", program], b"", environment=os.environ)
    os.close(stray)
    assert runner.next_message(10) is None
    assert runner.stray.split() == ["0", "1", "2", "3", "4"]
    assert eventually(runner.reap)


def test_claim_and_secrets_reach_it_out_of_sight(tmp_path):
    """A claim of any size comes on stdin; secrets come back to the runner, and no environ or cmdline shows them."""
    claim = json.dumps({"x": "y" * 300_000}).encode()
    code = "time.sleep(0.2)\nreporter.send({'claim': len(claim), 'secrets': secrets, 'seen': 'CHRONOS_NAS_TOKEN' in os.environ, 'stdin': os.read(0, 1).decode()})"
    runner = begin(
        code,
        claim,
        environment={"CHRONOS_NAS_TOKEN": "canary-1", "CHRONOS_FIRE_TOKEN": "canary-2"},
        secrets={"CHRONOS_NAS_TOKEN": "canary-1"},
    )
    sampled = b""
    while (message := runner.next_message(0.005)) is None and not runner.closed:
        for name in ("environ", "cmdline"):
            if Path(f"/proc/{runner.pid}").exists():
                sampled += Path(f"/proc/{runner.pid}/{name}").read_bytes()
    assert message == {"claim": len(claim), "secrets": {"CHRONOS_NAS_TOKEN": "canary-1"}, "seen": False, "stdin": ""}
    assert b"canary" not in sampled
    assert sys.platform != "linux" or b"begin_runner" in sampled
    assert eventually(runner.reap)


def test_messages_come_one_by_one(tmp_path):
    """Each message as soon as it was sent; None when none comes in time, and None with `closed` after the last."""
    runner = begin(
        "reporter.send({'state': 'running'})\nwhile not os.path.exists(os.environ['GO']): time.sleep(0.01)\nreporter.send({'state': 'ended', 'text': 'ü' * 9000})",
        environment={"GO": str(tmp_path / "go")},
    )
    assert runner.next_message(10) == {"state": "running"}
    assert runner.next_message(0.05) is None
    assert not runner.closed
    (tmp_path / "go").touch()
    assert runner.next_message(10) == {"state": "ended", "text": "ü" * 9000}
    assert runner.next_message(10) is None
    assert runner.closed
    assert eventually(lambda: runner.exit_status == 0 or None)


def test_a_runner_that_cannot_start_says_why():
    """Its traceback is kept, the wait is over at once, and nothing was taken for a message."""
    before = time.monotonic()
    runner = begin("raise SystemExit('no such home')")
    assert runner.next_message(30) is None
    assert runner.closed
    assert "no such home" in runner.stray
    assert eventually(lambda: runner.exit_status == 1)
    assert time.monotonic() - before < 20


def test_a_program_that_is_not_there_is_an_error_with_nothing_left_open():
    """No descriptor and no process stays behind."""
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(StartError):
            start_runner(["/no/such/python"], b"{}", environment={})
    assert len(list(Path("/dev/fd").iterdir())) < before + 10  # who else is in this process may open one or two


def test_it_goes_on_when_nobody_listens_any_more(tmp_path):
    """A worker that has its answer stops listening; later messages and words on stderr harm nobody."""
    code = "reporter.send({'state': 'running'})\nsys.stderr.write('a warning'); sys.stderr.flush()\nwhile not os.path.exists(os.environ['T'] + '/go'): time.sleep(0.01)\nsent = reporter.send({'state': 'ended'})\nsys.stderr.write('late'); sys.stderr.flush()\nopen(os.environ['T'] + '/end', 'w').write(repr(sent))"
    runner = begin(code, environment={"T": str(tmp_path)})
    assert runner.next_message(10) == {"state": "running"}
    runner.close()
    (tmp_path / "go").touch()
    assert eventually(lambda: (tmp_path / "end").exists() and (tmp_path / "end").read_text() == "False")
    assert eventually(lambda: runner.exit_status == 0)


def test_it_hears_signals_that_its_starter_blocked_or_ignored():
    """A worker thread's signal mask and ignored signals are not handed on."""
    code = "reporter.send({'blocked': len(signal.pthread_sigmask(signal.SIG_BLOCK, ())), 'hup': signal.getsignal(signal.SIGHUP) == signal.SIG_DFL, 'chld': signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL})"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        runner = begin(code)
        assert runner.next_message(10) == {"blocked": 0, "hup": True, "chld": True}
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        signal.signal(signal.SIGHUP, before)
    assert eventually(runner.reap)


def test_ended_runners_do_not_pile_up_as_zombies():
    """Starting one reaps those before it that are over, without waiting for those that are not."""
    runners = Runners()
    first, second = (begin("", runners=runners) for _ in range(2))
    assert eventually(lambda: first.next_message(5) is None and second.next_message(5) is None)
    time.sleep(0.1)
    third = begin("time.sleep(60)", runners=runners)
    for runner in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(runner.pid, 0)
    assert first.exit_status == 0
    assert runners.sweep() == 1
    os.kill(third.pid, signal.SIGKILL)
    third.close()
    assert eventually(lambda: runners.sweep() == 0)
    assert third.exit_status == -signal.SIGKILL


def test_a_server_that_reaps_every_child_confuses_nobody():
    """Where somebody else took the exit status, the runner counts as over."""
    runner = begin("")
    assert runner.next_message(10 * 365 * 86400.0) is None, "a wait of years is not too long for poll"
    os.waitpid(runner.pid, 0)
    assert runner.reap()
    assert runner.exit_status is None
    runner.close()


def test_a_claim_piped_in_by_hand_works(tmp_path):
    """A person may start the hidden command from a shell; descriptors 3 and 4 are then left alone."""
    code = BEGIN + "print(claim, secrets, reporter.send({'a': 1}), flush=True)"
    told = subprocess.run(
        [sys.executable, "-c", code], input=b"{}", env=program_environment(), capture_output=True, check=True
    )
    assert told.stdout == b"b'{}' {} False\n"


def test_the_variable_that_marks_a_runner_is_not_handed_on():
    """A job of the runner must not take itself for one."""
    runner = begin("reporter.send({'marked': 'CHRONOS_RUNNER' in os.environ, 'cwd': os.getcwd()})")
    assert runner.next_message(10) == {"marked": False, "cwd": "/"}
    assert runner.next_message(10) is None
    assert eventually(runner.reap)


def test_it_stays_when_its_first_reader_died_before_it_spoke(tmp_path):
    """A worker killed before the runner reported changes nothing for the run."""
    code = "time.sleep(0.3)\nreporter.send({'state': 'running'})\nopen(os.environ['T'] + '/pid', 'w').write(str(os.getpid()))"
    runner = begin(code, environment={"T": str(tmp_path)})
    runner.close()
    assert read_pid(tmp_path / "pid") == runner.pid
    assert eventually(lambda: runner.exit_status == 0)
