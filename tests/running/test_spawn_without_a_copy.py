"""A shell that is started without a copy of its supervisor: as any other job, and it outlives nobody either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from real_processes import FACTS, RUN, eventually, is_running, program_environment, read_pid

from chronos_cli.running import spawn
from chronos_cli.running.actions import ProcessAction
from chronos_cli.running.errors import ActionError
from chronos_cli.running.liveness import LivenessProbe, liveness
from chronos_cli.running.lock import RunLock
from chronos_cli.running.process import start
from chronos_cli.running.spawn import death_wrapper
from chronos_cli.running.supervise import wait

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is such a program on Linux alone")
capable = pytest.mark.skipif(not death_wrapper(), reason="needs the setpriv of util-linux 2.33")

SAME = ("SigBlk", "SigIgn", "Umask", "Threads", "NoNewPrivs")
UNTOLD = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from real_processes import FACTS, places_of
from chronos_cli.running.actions import ProcessAction
from chronos_cli.running.group_guard import Guard
from chronos_cli.running.lock import RunLock
from chronos_cli.running.process import start
import json
lock = RunLock.acquire(places_of(sys.argv[1]), "job", "run-1")
print(json.dumps(lock.owner()), flush=True)
Guard.watch = lambda guard, pgid: os.kill(os.getpid(), signal.SIGKILL)
start(
    ProcessAction("command", ("/bin/sh", "-c", sys.argv[2]), "/"), facts=FACTS, environment=os.environ, lock=lock,
    output=Path(sys.argv[3]), wrapper=("/usr/bin/env",),
)
"""


@pytest.fixture
def begin(tmp_path, places):
    """Run a shell command to its end, and give what it said: `begin(command, wrapper)`."""

    def run(command, wrapper, cwd=None):
        lock = RunLock.acquire(places, "job", "run-1")
        output = tmp_path / "out.log"
        try:
            action = ProcessAction("command", ("/bin/sh", "-c", command), str(cwd or tmp_path))
            child = start(action, facts=FACTS, environment={}, lock=lock, output=output, wrapper=wrapper)
            assert wait(child, timeout_s=20).state == "ok"
        finally:
            lock.release()
        return output.read_text()

    return run


def no_fork():
    """Stand in for fork(2) where none is to happen."""
    raise AssertionError("this process was copied")


def facts_of(begin, wrapper):
    """What two jobs tell of how they were started; each is one process by then."""
    where, *status = begin('echo "$PWD $CHRONOS_RUN_ID"; exec cat /proc/self/status', wrapper).splitlines()
    found = dict(line.split(":\t", 1) for line in status)
    # The C library's own two signals are ignored in whatever posix_spawn(3) starts, a runner and what it forks included.
    found["SigIgn"] = f"{int(found['SigIgn'], 16) & ~0x180000000:x}"
    files = begin("exec ls -l /proc/self/fd", wrapper).splitlines()
    return {"where": where, "files": len(files), **{name: found[name] for name in SAME}}


@capable
def test_a_shell_is_started_without_a_copy_and_is_as_one_that_is_forked(begin, monkeypatch):
    """The same folder, variables, descriptors and signals; and our own folder stays ours."""
    here = Path.cwd()
    forked = facts_of(begin, ())
    monkeypatch.setattr(os, "fork", no_fork)
    assert facts_of(begin, death_wrapper()) == forked
    assert Path.cwd() == here


@capable
def test_no_other_program_is_started_so_since_only_a_fork_can_say_why_it_cannot(tmp_path, lock):
    """A program that is no program is an error with its reason, and no run that failed."""
    (tmp_path / "broken").write_bytes(b"\0\1\2")
    (tmp_path / "broken").chmod(0o755)
    action = ProcessAction("command", (str(tmp_path / "broken"),), "/")
    with pytest.raises(ActionError, match="Exec format error"):
        start(action, facts=FACTS, environment={}, lock=lock, output=tmp_path / "out.log", wrapper=death_wrapper())


@capable
def test_what_would_change_the_wrapper_itself_is_for_the_job_alone(tmp_path, lock):
    """With a loader's variable the job is forked: another library than its own is nothing for the wrapper to meet."""
    action = ProcessAction("command", ("/bin/sh", "-c", "echo $LD_LIBRARY_PATH"), "/")
    given = {"LD_LIBRARY_PATH": str(tmp_path)}
    (tmp_path / "libcap-ng.so.0").write_text("no library")
    output = tmp_path / "out.log"
    child = start(action, facts=FACTS, environment=given, lock=lock, output=output, wrapper=death_wrapper())
    assert wait(child, timeout_s=20).state == "ok"
    assert output.read_text().startswith(f"{tmp_path}\n")


def test_where_it_cannot_be_had_a_fork_does_it_or_tells_why(begin, tmp_path):
    """A wrapper that has gone since is no obstacle; a folder that is not there is named as ever."""
    here, gone = Path.cwd(), ("/nonexistent/setpriv", "--")
    assert begin("echo $CHRONOS_RUN_ID", gone) == "run-1\n"
    with pytest.raises(ActionError, match="No such file or directory"):
        begin("true", gone, cwd=tmp_path / "none")
    assert Path.cwd() == here


def test_a_program_that_does_not_know_the_signal_is_not_used(monkeypatch):
    """That of busybox, or an old one, fails when it is tried; one that is missing is no error."""
    for words in (("/bin/false", "--"), ("/nonexistent/setpriv", "--")):
        monkeypatch.setattr(spawn, "_WRAPPER", words)
        assert death_wrapper() == ()


@capable
def test_without_a_guard_the_kernel_still_ends_it(supervise, places):
    """The wrapper has set the parent death signal, which is enough for a job of one process."""
    supervisor = supervise(["/bin/sh", "-c", "exec sleep 60"], WRAPPER="1")
    sleeps = Path(f"/proc/{supervisor.child}/comm")
    assert eventually(lambda: sleeps.read_text() == "sleep\n")
    os.kill(supervisor.guard, signal.SIGKILL)
    supervisor.process.kill()
    assert eventually(lambda: liveness(places, supervisor.owner, *RUN) is LivenessProbe.DEAD)
    assert not is_running(supervisor.child)


def test_a_supervisor_that_dies_before_it_told_the_guard_leaves_nothing(tmp_path, lock_dir, places):
    """The guard finds the leader by the pipe that it writes to, and ends its group; here no signal of the kernel helps."""
    command = f"sleep 60 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/leader; wait"
    argv = [sys.executable, "-c", UNTOLD, str(lock_dir), command, str(tmp_path / "out.log")]
    told = subprocess.run(argv, env=program_environment(), stdout=subprocess.PIPE, check=False, start_new_session=True)
    assert told.returncode == -signal.SIGKILL
    assert eventually(lambda: liveness(places, json.loads(told.stdout), *RUN) is LivenessProbe.DEAD)
    for name in ("leader", "child"):  # each is there only where it got so far
        assert not (tmp_path / name).exists() or not is_running(read_pid(tmp_path / name))
