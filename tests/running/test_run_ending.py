"""Ending a job: its timeout, its lease, suspended time, and signals to its supervisor."""

import os
import signal
import sys
import time

import pytest
from real_processes import RUN, eventually, is_running, python, read_pid

from chronos_cli.running import machine
from chronos_cli.running.liveness import LivenessProbe, end_leftovers, end_run, liveness
from chronos_cli.running.supervise import Clock

STUBBORN = "trap '' TERM INT HUP; echo $$ > {0}/a; (trap '' TERM; echo $(sh -c 'echo $PPID') > {0}/b; while :; do sleep 1; done) & while :; do sleep 1; done"


def test_a_timeout_ends_the_whole_tree(run, tmp_path):
    """Children of children are gone with the job, and the end says after how long."""
    before = time.monotonic()
    ended = run(["/bin/sh", "-c", f"(sleep 60 & echo $! > {tmp_path}/b; sleep 60) & echo said; wait"], timeout_s=0.3)
    assert (ended.state, ended.signal, ended.exit_status) == ("timeout", signal.SIGTERM, None)
    assert ended.reason == "killed after its timeout of 0.3 s"
    assert ended.output_tail == "said\n"
    assert not is_running(read_pid(tmp_path / "b"))
    assert time.monotonic() - before < 4


def test_what_ignores_sigterm_is_killed_after_the_grace(run, tmp_path):
    """A tree that shrugs off SIGTERM is gone all the same."""
    ended = run(["/bin/sh", "-c", STUBBORN.format(tmp_path)], timeout_s=0.3, grace_s=0.3)
    assert (ended.state, ended.signal) == ("timeout", signal.SIGKILL)
    assert not is_running(read_pid(tmp_path / "a"))
    assert not is_running(read_pid(tmp_path / "b"))


def test_a_job_may_use_the_grace_to_clean_up(run):
    """What it says and does after SIGTERM counts, and its exit status is kept; it stays a timeout."""
    ended = run(["/bin/sh", "-c", "trap 'echo cleaned; exit 5' TERM; sleep 60 & wait"], timeout_s=0.3)
    assert (ended.state, ended.exit_status) == ("timeout", 5)
    assert "cleaned" in ended.output_tail


def test_a_stopped_job_is_ended_too(run):
    """A job that stopped itself takes no SIGTERM until it goes on; the timeout sees to that."""
    ended = run(["/bin/sh", "-c", "kill -STOP $$; sleep 60"], timeout_s=0.3)
    assert (ended.state, ended.signal) == ("timeout", signal.SIGTERM)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to find who holds a file")
def test_what_left_the_group_is_ended_with_it(run, tmp_path):
    """A child that called setsid(2) escapes the group's signals, but it holds the lock and is found by that."""
    escape = f"import os,time\nif os.fork() == 0:\n  os.setsid(); open({str(tmp_path / 'b')!r}, 'w').write(str(os.getpid())); time.sleep(60)\ntime.sleep(60)"
    ended = run(python(escape), timeout_s=0.5)
    assert ended.state == "timeout"
    assert not is_running(read_pid(tmp_path / "b"))


def test_a_flood_of_output_does_not_hide_the_timeout(run):
    """Reading what a job says never keeps us from ending it."""
    ended = run(["yes"], timeout_s=0.3)
    assert ended.state == "timeout"
    assert ended.output_bytes > 0


class Suspended(Clock):
    """Clocks that leap, as after a suspend, once the job has run for a moment."""

    def __init__(self, *, elapsed_leap=0.0, wall_leap=0.0):
        self.leaps = time.monotonic() + 0.2
        self.elapsed_leap, self.wall_leap = elapsed_leap, wall_leap

    def _leap(self, size):
        return size if time.monotonic() > self.leaps else 0.0

    def elapsed(self):
        return super().elapsed() + self._leap(self.elapsed_leap)

    def wall(self):
        return super().wall() + self._leap(self.wall_leap)


def test_suspended_time_counts(run):
    """A job that slept through its timeout with the machine is ended on waking."""
    ended = run(["sleep", "60"], timeout_s=3600, clock=Suspended(elapsed_leap=7200))
    assert (ended.state, ended.reason) == ("timeout", "killed after its timeout of 3600 s")


def test_the_timeout_is_said_as_the_job_has_it(run):
    """What is left of it by the time the job has started is a little less."""
    ended = run(["sleep", "60"], timeout_s=39.3, clock=Suspended(elapsed_leap=7200))
    assert ended.reason == "killed after its timeout of 40 s"


def test_a_job_that_wakes_up_past_its_lease_is_ended(run):
    """Others may have taken the run for over by then, whatever our own clock of elapsed time says."""
    ended = run(["sleep", "60"], timeout_s=None, lease_end=time.time() + 3600, clock=Suspended(wall_leap=7200))
    assert (ended.state, ended.reason) == ("timeout", "still running at the end of its lease")


def test_a_wall_clock_set_back_does_not_prolong_a_run(run):
    """The timeout is counted on a clock that nobody sets."""
    ended = run(["sleep", "60"], timeout_s=0.6, lease_end=time.time() + 3600, clock=Suspended(wall_leap=-10800))
    assert (ended.state, ended.reason) == ("timeout", "killed after its timeout of 0.6 s")


@pytest.mark.skipif(sys.platform != "linux", reason="CLOCK_BOOTTIME is Linux's")
def test_the_clock_is_one_that_counts_suspended_time():
    """Elapsed time is the boot clock's, not the monotonic one's, which stands still during suspend."""
    assert abs(Clock().elapsed() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_supervisor_interrupts_within_two_seconds(supervise, tmp_path, number, places):
    """Even a tree that ignores SIGTERM is gone, and the end is told, two seconds after the signal."""
    supervisor = supervise(["/bin/sh", "-c", STUBBORN.format(tmp_path)])
    pids = [read_pid(tmp_path / name) for name in "ab"]
    before = time.monotonic()
    supervisor.process.send_signal(number)
    ended = supervisor.ended()
    assert supervisor.process.wait(5) == 0
    assert time.monotonic() - before < 2
    assert (ended["state"], ended["reason"]) == ("interrupted", f"stopped by {number.name}")
    assert not any(is_running(pid) for pid in pids)
    assert liveness(places, supervisor.owner, *RUN) is not LivenessProbe.ALIVE


def test_a_signal_during_the_grace_of_a_timeout_shortens_it(supervise, tmp_path):
    """Being told to stop does not wait for the five seconds that a timeout allows."""
    supervisor = supervise(["/bin/sh", "-c", STUBBORN.format(tmp_path)], timeout_s=0.2)
    read_pid(tmp_path / "b")
    time.sleep(0.5)
    before = time.monotonic()
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.ended()["state"] == "timeout"
    assert time.monotonic() - before < 2


def test_a_signal_mask_that_we_inherited_does_not_make_us_deaf(supervise):
    """A server thread that blocks SIGTERM passes its mask on to what it starts; we hear SIGTERM all the same."""
    deaf = [
        sys.executable,
        "-S",
        "-c",
        "import os,signal,sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); os.execv(sys.argv[1], sys.argv[1:])",
    ]
    supervisor = supervise(["sleep", "60"], prefix=deaf)
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.ended()["state"] == "interrupted"


def test_no_guard_or_zombie_is_left_after_the_end(supervise):
    """When a run is over its guard is too."""
    supervisor = supervise(["/bin/sh", "-c", "exit 0"])
    assert supervisor.ended()["state"] == "ok"
    assert supervisor.process.wait(5) == 0
    assert not eventually(lambda: is_running(supervisor.guard), within_s=0.3)
    with pytest.raises(ProcessLookupError):
        os.kill(supervisor.child, 0)


@pytest.fixture
def bare_platform(monkeypatch):
    """A platform without /proc, pidfd_open(2), waitid(2) and memfd_create(2), as macOS is one."""
    for name in ("waitid", "pidfd_open", "memfd_create"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(machine, "_stat", lambda pid: None)
    monkeypatch.setattr(machine, "_pids", lambda: iter(()))


@pytest.mark.usefixtures("bare_platform")
def test_without_linuxs_help_runs_end_all_the_same(run, tmp_path):
    """Exit, failure, a stubborn tree past its timeout and a background process come out as anywhere."""
    assert run(["cat"], stdin=b"prompt").output_tail == "prompt"
    assert run(["/bin/sh", "-c", "exit 3"]).exit_status == 3
    ended = run(["/bin/sh", "-c", STUBBORN.format(tmp_path)], timeout_s=0.3, grace_s=0.3)
    assert (ended.state, ended.signal) == ("timeout", signal.SIGKILL)
    ended = run(["/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/left"])
    assert ended.state == "ok"
    os.kill(read_pid(tmp_path / "left"), signal.SIGKILL)


@pytest.mark.usefixtures("bare_platform")
def test_without_proc_only_the_lock_counts(lock, places):
    """No process is taken for dead or alive by its number, and none is killed."""
    owner = lock.owner()
    assert liveness(places, owner, *RUN) is LivenessProbe.ALIVE
    owner["pid"] = 2**22 + 1
    assert liveness(places, owner, *RUN) is LivenessProbe.ALIVE
    assert end_leftovers(places, owner, *RUN) is False
    assert end_run(places, owner, *RUN) is False
