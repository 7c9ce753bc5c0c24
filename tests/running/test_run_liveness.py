"""Who can tell whether a run lives, and that nobody ever kills the wrong process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_processes import RUN, eventually, is_running, program_environment, python, read_pid

from chronos_cli.running.liveness import LivenessProbe, end_leftovers, end_run, liveness
from chronos_cli.running.lock import RunLock
from chronos_cli.running.machine import start_time
from tests.conftest import thoroughly

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

ESCAPE = """import os, time
if os.fork() == 0:
    os.setsid()
    {before}
    open({path!r} + '.new', 'w').write(str(os.getpid()))
    os.rename({path!r} + '.new', {path!r})
    time.sleep(60)
time.sleep(60)"""


def test_a_held_lock_is_a_living_run(lock, places):
    """While its supervisor lives and holds the lock, a run is alive, and there are no leftovers to end."""
    owner = json.loads(json.dumps(lock.owner()))
    assert liveness(places, owner, *RUN) is LivenessProbe.ALIVE
    assert end_leftovers(places, owner, *RUN) is False


def test_looking_disturbs_nobody(lock, places):
    """Any number may look at once, and the lock stays its owner's."""
    owner = lock.owner()
    assert {liveness(places, owner, *RUN) for _ in range(100)} == {LivenessProbe.ALIVE}


@linux
def test_kill_9_of_the_supervisor_takes_the_whole_job_with_it(supervise, tmp_path, places):
    """A supervisor that is killed leaves no process of its job's tree, and the lock is free."""
    tree = f"(trap '' TERM; sleep 60 & echo $! > {tmp_path}/a; sleep 60) & echo $! > {tmp_path}/b; wait"
    supervisor = supervise(["/bin/sh", "-c", tree])
    pids = [supervisor.child, read_pid(tmp_path / "a"), read_pid(tmp_path / "b")]
    assert liveness(places, supervisor.owner, *RUN) is LivenessProbe.ALIVE
    supervisor.process.kill()
    assert eventually(lambda: liveness(places, supervisor.owner, *RUN) is LivenessProbe.DEAD, within_s=5)
    assert not any(is_running(pid) for pid in pids)
    assert end_leftovers(places, supervisor.owner, *RUN) is True


@linux
def test_killing_the_supervisors_own_group_does_not_spare_the_job(supervise, tmp_path, places):
    """The guard is in a session of its own, so that it survives what kills the supervisor."""
    supervisor = supervise(["/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/a; wait"])
    pid = read_pid(tmp_path / "a")
    os.killpg(supervisor.process.pid, signal.SIGKILL)
    assert eventually(lambda: liveness(places, supervisor.owner, *RUN) is LivenessProbe.DEAD)
    assert not is_running(pid)


@linux
def test_without_a_guard_the_kernel_still_ends_the_leader(supervise, places):
    """PR_SET_PDEATHSIG is enough for a job of one process."""
    supervisor = supervise(["sleep", "60"])
    os.kill(supervisor.guard, signal.SIGKILL)
    supervisor.process.kill()
    assert eventually(lambda: liveness(places, supervisor.owner, *RUN) is LivenessProbe.DEAD)
    assert not is_running(supervisor.child)


@linux
def test_without_the_kernels_signal_the_guard_ends_the_group(supervise, tmp_path, places):
    """A job that clears its parent death signal, as a setuid program would, is ended by the guard."""
    program = f"import ctypes, time; ctypes.CDLL(None).prctl(1, 0); open({str(tmp_path / 'on')!r}, 'w').close(); time.sleep(60)"
    supervisor = supervise([sys.executable, "-I", "-c", program])
    assert eventually((tmp_path / "on").exists)
    supervisor.process.kill()
    assert eventually(lambda: liveness(places, supervisor.owner, *RUN) is LivenessProbe.DEAD)
    assert not is_running(supervisor.child)


@linux
def test_what_escaped_the_group_is_an_orphan_until_it_is_ended(supervise, tmp_path, places):
    """A setsid(2) escapee keeps the lock, so the run is not over; `end_leftovers` finds it by the lock and ends it."""
    path = tmp_path / "escaped"
    supervisor = supervise(python(ESCAPE.format(path=str(path), before="pass")))
    escaped = read_pid(path)
    supervisor.process.kill()
    assert eventually(lambda: not is_running(supervisor.child) and not is_running(supervisor.guard))
    time.sleep(0.05)
    assert liveness(places, supervisor.owner, *RUN) is LivenessProbe.ORPHANED
    assert is_running(escaped)
    assert end_leftovers(places, supervisor.owner, *RUN) is True
    assert eventually(lambda: not is_running(escaped))
    assert liveness(places, supervisor.owner, *RUN) is LivenessProbe.DEAD


@linux
def test_a_group_that_closed_the_lock_is_still_found(supervise, tmp_path, places):
    """With guard, leader and lock all gone, the rest of the group proves itself by the run id in its environment."""
    program = f"import os, subprocess; p = subprocess.Popen(['sleep', '60']); open({str(tmp_path / 'a')!r}, 'w').write(str(p.pid)); p.wait()"
    supervisor = supervise([sys.executable, "-I", "-c", program])
    left = read_pid(tmp_path / "a")
    os.kill(supervisor.guard, signal.SIGKILL)
    supervisor.process.kill()
    assert eventually(lambda: liveness(places, supervisor.owner, *RUN) is LivenessProbe.DEAD)
    assert is_running(left)
    assert end_leftovers(places, supervisor.owner, *RUN) is True
    assert not is_running(left)


@linux
def test_a_stuck_supervisor_is_ended_by_whoever_takes_over(supervise, tmp_path, places):
    """A supervisor that stopped answering keeps its run alive; after the lease the run is ended, supervisor first."""
    supervisor = supervise(["/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/a; wait"])
    pid = read_pid(tmp_path / "a")
    supervisor.process.send_signal(signal.SIGSTOP)
    assert liveness(places, supervisor.owner, *RUN) is LivenessProbe.ALIVE
    assert end_leftovers(places, supervisor.owner, *RUN) is False, "it is no leftover while its supervisor lives"
    wrong = {**supervisor.owner, "token": "0" * 16}
    assert end_run(places, wrong, *RUN) is False
    assert is_running(supervisor.process.pid)
    assert end_run(places, supervisor.owner, *RUN) is True
    assert not is_running(supervisor.process.pid)
    assert not is_running(pid)
    assert liveness(places, supervisor.owner, *RUN) is LivenessProbe.DEAD


@linux
def test_a_supervisor_killed_at_any_moment_leaves_nothing(tmp_path, lock_dir):
    """From before the fork to well into the job, whenever the kill comes, no process of the run is left."""
    argv = ["/bin/sh", "-c", "(trap '' TERM; sleep 60) & (sleep 60) & sleep 60"]
    spec = {"argv": argv, "lock_dir": str(lock_dir), "output": str(tmp_path / "out"), "timeout_s": 60}
    program = [sys.executable, "-S", str(Path(__file__).with_name("supervisor.py")), json.dumps(spec)]
    mark = os.urandom(8).hex()
    began = []
    steps = thoroughly(40, 16)
    for step in range(steps):
        process = subprocess.Popen(program, env=program_environment(MARK=mark), stdout=subprocess.PIPE)
        known = len(list(lock_dir.iterdir()))
        if step:  # the first is killed before it does anything
            assert eventually(lambda known=known: len(list(lock_dir.iterdir())) > known)
        time.sleep(step * 0.016 / steps)
        said = process.stdout.readline() if step == steps - 1 else b""  # the last once its job runs
        process.kill()
        began.append(bool(said + process.stdout.read()))
        process.stdout.close()
        process.wait()
    assert eventually(lambda: not marked(mark)), marked(mark)
    assert not began[0]
    assert began[-1]


def marked(mark):
    """The processes that have a mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and f"MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # over meanwhile, or somebody else's
    return found


@linux
@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "not json",
        {"token": "0" * 16},
        {"job_id": "other"},
        {"run_id": "run-2"},
        {"machine": {}},
        {"pid": None},
    ],
)
def test_a_wrong_note_in_the_lock_file_kills_nobody(lock_dir, wrong, places):
    """A torn note, one of another run, or one of another boot names no group and no supervisor."""
    owner = dead_owner(lock_dir)
    path = lock_dir / owner["lock"]
    with bystander() as process:
        note = json.loads(path.read_text()) | {"pgid": process.pid, "group_started": start_time(process.pid)}
        path.write_text(json.dumps(note | wrong) if isinstance(wrong, dict) else wrong or "")
        assert end_leftovers(places, owner, *RUN) is False
        assert end_run(places, owner, *RUN) is False
        assert process.poll() is None
        path.write_text(json.dumps(note))
        assert end_leftovers(places, owner, *RUN) is True
        assert process.wait(5) == -signal.SIGKILL, "the same note without a fault names it"


@linux
def test_a_pid_used_anew_is_not_killed(lock_dir, places):
    """A group whose leader started at another time than recorded belongs to somebody else."""
    owner = dead_owner(lock_dir)
    with bystander() as process:
        path = lock_dir / owner["lock"]
        note = json.loads(path.read_text()) | {"pgid": process.pid, "group_started": start_time(process.pid) - 1}
        path.write_text(json.dumps(note))
        assert end_leftovers(places, owner, *RUN) is True
        assert process.poll() is None
        note["group_started"] += 1
        path.write_text(json.dumps(note))
        assert end_leftovers(places, owner, *RUN) is True
        assert process.wait(5) == -signal.SIGKILL


@linux
def test_a_supervisors_pid_used_anew_does_not_keep_a_run_alive(lock_dir, places):
    """The pid of a dead supervisor, now another process's, is told apart by its start time."""
    owner = dead_owner(lock_dir)
    owner["pid"] = os.getpid()
    assert liveness(places, owner, *RUN) is LivenessProbe.DEAD
    (lock_dir / owner["lock"]).unlink()
    assert liveness(places, owner, *RUN) is LivenessProbe.UNSEEN
    owner["started"] = start_time(os.getpid())
    assert liveness(places, owner, *RUN) is LivenessProbe.ALIVE


@pytest.mark.parametrize("member", ["boot", "pid_namespace", "host"])
def test_another_machine_cannot_tell(lock, member, places):
    """From another boot, pid namespace or host neither the lock nor the pid means anything, and nothing is killed."""
    owner = lock.owner() | {
        "bare": ""
    }  # not known to be outside a container, where another boot may be another machine
    owner["machine"][member] += "x"
    assert liveness(places, owner, *RUN) is LivenessProbe.UNSEEN
    assert end_leftovers(places, owner, *RUN) is False


@linux
def test_a_real_other_pid_namespace_cannot_tell(lock, tmp_path):
    """In a container of its own, with the same disk, the same record says nothing about life or death."""
    probe = ["unshare", "--pid", "--fork", "--mount-proc", "--user", "--map-root-user"]
    if subprocess.run([*probe, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets us make no pid namespace")
    program = (
        "import json,sys; from pathlib import Path; from chronos_cli.running.liveness import liveness\n"
        "from chronos_cli.running.lock_place import LockPlace\n"
        "print(liveness(LockPlace(Path(sys.argv[2]), str), json.loads(sys.argv[1]), 'job', 'run-1').name)"
    )
    told = subprocess.run(
        [*probe, sys.executable, "-c", program, json.dumps(lock.owner()), str(tmp_path)],
        env=program_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "UNSEEN\n"


def test_another_file_in_the_locks_place_cannot_tell(lock_dir, places):
    """A lock that was removed and made again, or replaced by a link or a pipe, is not the run's."""
    owner = dead_owner(lock_dir)
    assert liveness(places, owner, *RUN) is LivenessProbe.DEAD
    path = lock_dir / owner["lock"]
    path.rename(path.with_name("old"))  # kept, so that no new file can get its inode number
    for make in (path.touch, lambda: path.symlink_to("/etc/passwd"), lambda: os.mkfifo(path)):
        make()
        assert liveness(places, owner, *RUN) is LivenessProbe.UNSEEN
        path.unlink()


@pytest.mark.parametrize(
    "change",
    [
        {"machine": None},
        {"token": None},
        {"token": 7},
        {"token": "../../../x"},
        {"token": "a\0b"},
        {"token": "/etc/passwd"},
        {"file": None},
        {"file": [0, 0]},
    ],
)
def test_a_broken_record_is_unseen(lock_dir, change, places):
    """What a row says is never trusted to have a shape."""
    owner = {**dead_owner(lock_dir), **change}
    assert liveness(places, owner, *RUN) is LivenessProbe.UNSEEN
    assert liveness(places, {}, *RUN) is LivenessProbe.UNSEEN
    assert end_leftovers(places, {}, *RUN) is False


def test_a_supervisor_that_died_before_its_job_leaves_a_run_that_may_still_start(lock_dir, places):
    """The note says whether the job was begun; only one that says so keeps the run from being started again."""
    owner = dead_owner(lock_dir, begun=False)
    assert liveness(places, owner, *RUN) is LivenessProbe.UNSTARTED
    assert liveness(places, dead_owner(lock_dir), *RUN) is LivenessProbe.DEAD
    (lock_dir / owner["lock"]).write_bytes(b"")  # what says nothing does not say that either
    assert liveness(places, owner, *RUN) is LivenessProbe.UNSEEN


def test_a_released_lock_is_removed(lock_dir, places):
    """After a run's recorded end its lock file is gone."""
    lock = RunLock.acquire(places, "job", "run-1")
    lock.release()
    lock.release()
    assert list(lock_dir.iterdir()) == []


def test_every_attempt_has_a_lock_of_its_own(lock_dir, places):
    """A retry does not wait for what an earlier attempt left behind."""
    first, second = (RunLock.acquire(places, "job", "run-1") for _ in range(2))
    assert first.path != second.path
    first.release()
    assert liveness(places, second.owner(), *RUN) is LivenessProbe.ALIVE
    second.release()


def dead_owner(lock_dir, *, begun=True):
    """The owner of a run whose supervisor took the lock, began its job, and was killed."""
    program = (
        "import json,os,sys; from pathlib import Path; from chronos_cli.running.lock import RunLock\n"
        "from chronos_cli.running.lock_place import LockPlace\n"
        "lock = RunLock.acquire(LockPlace(Path(sys.argv[1]).parents[1], str), 'job', 'run-1')\n"
        "if sys.argv[2]: lock.record_begun()\n"
        "print(json.dumps(lock.owner()), flush=True); os.kill(os.getpid(), 9)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(lock_dir), "begun" if begun else ""],
        env=program_environment(), capture_output=True, check=False,
    )  # fmt: skip
    return json.loads(told.stdout)


class bystander:  # noqa: N801 - used as a function
    """Somebody else's process, leader of its own group."""

    def __enter__(self):
        self.process = subprocess.Popen(["sleep", "60"], start_new_session=True)
        return self.process

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
