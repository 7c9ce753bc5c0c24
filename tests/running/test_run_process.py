"""A job's process: what it gets, what it says, how it ends. Everything here is a real process."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_processes import eventually, is_running, program_environment, python, read_pid

from chronos_cli.running.errors import ActionError, StartError


def test_it_is_told_about_its_run(run):
    """The four variables say which job, run, instant and attempt it is."""
    ended = run(["/bin/sh", "-c", 'echo "$CHRONOS_JOB_ID $CHRONOS_RUN_ID $CHRONOS_FIRE_AT $CHRONOS_ATTEMPT"'])
    assert (ended.state, ended.exit_status, ended.reason) == ("ok", 0, "")
    assert ended.output_tail == "job run-1 2026-11-20T15:34:15+00:00 1\n"


def test_no_secret_of_ours_reaches_it(run):
    """Canaries in our variables and in one that the caller names are not in the job's environment or arguments."""
    given = {
        **os.environ,
        "CHRONOS_NAS_TOKEN": "canary-nas",
        "CHRONOS_FIRE_TOKEN": "canary-fire",
        "MINE": "canary-mine",
    }
    given["KEPT"] = "kept"
    program = "cat /proc/self/environ /proc/self/cmdline 2>/dev/null || env; echo $KEPT"
    ended = run(["/bin/sh", "-c", program], environment=given, secret_names=["MINE"])
    assert "canary" not in ended.output_tail
    assert "kept" in ended.output_tail


def test_its_stdin_is_empty_or_the_prompt(run):
    """A job reads its prompt, however long, and otherwise nothing; it never waits for a terminal."""
    count = python("import sys; print(len(sys.stdin.buffer.read()))")
    assert run(count).output_tail == "0\n"
    assert run(count, stdin=b"x" * 3_000_000).output_tail == "3000000\n"


def test_stdout_and_stderr_are_kept_in_order(run, tmp_path):
    """Both go to one file, as they came."""
    run(["/bin/sh", "-c", "echo one; echo two >&2; echo three"])
    assert (tmp_path / "out" / "run-1.log").read_text() == "one\ntwo\nthree\n"


def test_output_is_in_the_file_while_the_job_runs(supervise, tmp_path):
    """It can be followed: what a job said is there before it ends."""
    supervise(["/bin/sh", "-c", "echo early; sleep 30"])
    assert eventually(lambda: (tmp_path / "out.log").read_text() == "early\n")


@pytest.mark.parametrize(
    ("program", "status", "number", "reason"),
    [
        ("exit 3", 3, None, "exited with status 3"),
        ("echo; echo 'no space left'; echo; exit 1", 1, None, "exited with status 1: no space left"),
        ("printf '\\033[31mred\\033[0m\\r\\n'; exit 1", 1, None, "exited with status 1: [31mred[0m"),
        ("kill -KILL $$", None, 9, "killed by SIGKILL"),
        ("kill -SEGV $$", None, 11, "killed by SIGSEGV"),
    ],
)
def test_a_failure_says_why(run, program, status, number, reason):
    """The reason has the status or signal and the job's last words, without control characters."""
    ended = run(["/bin/sh", "-c", program])
    assert (ended.state, ended.exit_status, ended.signal, ended.reason) == ("failed", status, number, reason)


def test_a_program_that_is_not_there_is_an_action_error(run):
    """Neither a missing program, nor one without the right to be run, leaves a process or a zombie."""
    before = _children()
    for argv in (["/no/such/program"], ["no-such-program-either"], ["/etc/passwd"], ["/"], ["echo", "half \ud800"]):
        with pytest.raises(ActionError, match="cannot run"):
            run(argv)
    assert _children() <= before


def _children():
    """The processes that this one has started and not reaped; those of other tests may be among them."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):  # elsewhere than on Linux this shows nothing, and the test less
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


def test_an_output_that_cannot_be_written_starts_nothing(run, tmp_path):
    """The job is not started blind."""
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StartError, match="cannot write"):
        run(["touch", str(tmp_path / "ran")])
    assert not (tmp_path / "ran").exists()


def test_a_background_process_that_keeps_the_pipe_open_holds_nothing_up(run, tmp_path):
    """A parent that exits 0 is ok at once, while its child still has stdout."""
    before = time.monotonic()
    ended = run(["/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; echo done"])
    took = time.monotonic() - before
    left = read_pid(tmp_path / "pid")
    os.kill(left, signal.SIGKILL)
    assert (ended.state, ended.output_tail) == ("ok", "done\n")
    assert took < 5


def test_a_background_process_that_writes_for_ever_holds_nothing_up(run, tmp_path):
    """Nor does one that never stops writing; it ends by SIGPIPE once nobody reads."""
    ended = run(["/bin/sh", "-c", f"yes & echo $! > {tmp_path}/pid; exit 4"])
    assert (ended.state, ended.exit_status) == ("failed", 4)
    left = read_pid(tmp_path / "pid")
    assert eventually(lambda: not is_running(left))


def test_fifty_megabytes_of_output_stay_bounded_and_memory_flat(run, tmp_path):
    """The file stays within its limit, both ends are there, and we do not grow with what a job says."""
    program = (
        "import sys\nprint('the start')\nfor _ in range(800): sys.stdout.write('x' * 65535 + '\\n')\nprint('the end')"
    )
    run(python(program), limit=1024 * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = run(python(program), limit=1024 * 1024)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    kept = (tmp_path / "out" / "run-1.log").read_bytes()
    assert ended.state == "ok"
    assert ended.output_bytes > 50_000_000
    assert len(kept) <= 1024 * 1024
    assert kept.startswith(b"the start\n")
    assert kept.endswith(b"the end\n")
    assert b"bytes left out" in kept
    assert grown < 8 * 1024 * (1024 if sys.platform == "darwin" else 1)


def test_a_full_disk_loses_output_not_the_job(run, tmp_path):
    """Where output cannot be written any more the job goes on to its end, and the end says what was lost."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        ended = run(python("for _ in range(50): print('x' * 9999)\nprint('done')"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert ended.state == "ok"
    assert "output lost" in ended.output_error


def test_it_inherits_the_lock_and_nothing_else(run, lock, tmp_path):
    """Of our descriptors only the lock's reaches the job, even where one was left inheritable."""
    stray = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(stray, True)
    program = f"import os\nfor fd in range({max(stray, lock.fd) + 1}):\n  try: os.fstat(fd); print(fd)\n  except OSError: pass"
    ended = run(python(program))
    os.close(stray)
    assert ended.output_tail.split() == ["0", "1", "2", str(lock.fd)]


def test_it_starts_with_ordinary_signals(run):
    """Signals that we ignore or block, as a server that started us may have, work in the job."""
    program = "import signal\nfor s in (13, 25, 17, 1): print(s, signal.getsignal(s).name)\nprint(signal.pthread_sigmask(0, ()))"
    program = program.replace("(13, 25, 17, 1)", "(signal.SIGHUP, signal.SIGCHLD, signal.SIGTERM)").replace(
        "(s,", "(int(s),"
    )
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGTERM)}
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        ended = run(python(program))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert ended.output_tail.count("SIG_DFL") == 3
    assert ended.output_tail.endswith("set()\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_it_works_where_our_own_standard_descriptors_are_closed(tmp_path, closed):
    """Started as `chronos fire <&-`, nothing takes a file of ours for its stdin or stdout."""
    program = f"""
import os
from pathlib import Path
from chronos_cli.running.actions import ProcessAction
from chronos_cli.running.lock import RunLock
from chronos_cli.running.lock_place import LockPlace
from chronos_cli.running.process import RunFacts, start
from chronos_cli.running.supervise import wait
lock = RunLock.acquire(LockPlace(Path({str(tmp_path)!r}), str), "j", "r")
action = ProcessAction("command", ("/bin/sh", "-c", "cat; echo out; echo err >&2"), "/", b"in ")
child = start(action, facts=RunFacts("j", "r", "t", 1), environment=os.environ, lock=lock, output=Path({str(tmp_path)!r}, "out"))
ended = wait(child, timeout_s=10)
Path({str(tmp_path)!r}, "end").write_text(ended.state)
"""
    subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, program], env=program_environment(), check=True
    )
    assert (tmp_path / "out").read_text() == "in out\nerr\n"
    assert (tmp_path / "end").read_text() == "ok"


def test_an_ignored_sigchld_does_not_turn_success_into_failure(supervise):
    """A parent that ignores SIGCHLD passes that on to us; the exit status is read all the same."""
    ignoring = [
        sys.executable,
        "-S",
        "-c",
        "import os,signal,sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])",
    ]
    for program, state in (("exit 0", "ok"), ("exit 7", "failed")):
        ended = supervise(["/bin/sh", "-c", f"sleep 0.1; {program}"], prefix=ignoring).ended()
        assert ended["state"] == state
