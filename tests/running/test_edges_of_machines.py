"""What is known of machines, processes, disks, folders and locks, each at its edge and by itself."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from real_processes import RUN

from chronos_cli.running import descriptors, liveness, lock, lock_place, machine, reboot
from chronos_cli.running.descriptors import (
    close_above,
    hidden_file,
    high,
    inheritable,
    nameless_file,
    null,
    open_hidden,
)
from chronos_cli.running.liveness import LivenessProbe, owners_found
from chronos_cli.running.local import LocalProcesses
from chronos_cli.running.lock import RunLock, SeenLock, find_lock
from chronos_cli.running.lock_place import LockPlace
from chronos_cli.running.mask import LEAST_BYTES, MASK, Mask
from chronos_cli.running.signals import Interrupts, signal_name

HERE = {"boot": "b", "pid_namespace": "n", "host": "h"}


@pytest.mark.parametrize("unknown", [None, "boot", "pid_namespace", "host"])
def test_a_machine_that_does_not_know_itself_is_no_other(unknown, monkeypatch):
    """Each member counts, and an empty one is like none."""
    monkeypatch.setattr(machine, "_boot", lambda: "" if unknown == "boot" else "b")
    monkeypatch.setattr(machine, "_pid_namespace", lambda: "" if unknown == "pid_namespace" else "n")
    monkeypatch.setattr(machine.os, "uname", lambda: SimpleNamespace(nodename="" if unknown == "host" else "h"))
    assert machine.same_machine(machine.machine_identity()) is (unknown is None)
    if unknown is None:
        assert machine.machine_identity() == HERE
        for member in HERE:
            assert not machine.same_machine({**HERE, member: "other"})
        assert not machine.same_machine(None)


@pytest.mark.parametrize(
    ("change", "since"),
    [
        ({}, 7.5), ({"seconds": 5}, 7.346), ({"boot": "other"}, None), ({"namespace": "other"}, None), ({"more": 1}, None),
        ({"seconds": "5"}, None), ({"seconds": None}, None),
    ],
)  # fmt: skip
def test_how_long_ago_is_told_by_the_clock_of_this_boot_alone(change, since, monkeypatch):
    """To the millisecond; where the boot is not known no clock is."""
    monkeypatch.setattr(machine, "_boot", lambda: "b")
    monkeypatch.setattr(machine, "_time_namespace", lambda: "n")
    monkeypatch.setattr(machine.time, "clock_gettime", lambda clock: 12.34567)
    now = machine.boot_clock()
    assert now == {"boot": "b", "namespace": "n", "seconds": 12.346}
    then = now | {"seconds": 4.846} | change
    found = machine.seconds_since(then)
    assert (found if found is None else round(found, 6)) == since
    assert machine.seconds_since([]) is None
    monkeypatch.setattr(machine, "_boot", lambda: "")
    assert machine.seconds_since({**then, "boot": ""}) is None


def fields(state="S", group=7, started=99):
    found = ["0"] * 30
    found[0], found[2], found[19] = state, str(group), str(started)
    return found


@pytest.mark.parametrize(
    ("state", "lives"), [("S", True), ("R", True), ("T", True), ("Z", False), ("X", False), ("x", False)]
)
def test_a_process_is_over_once_only_its_number_is_left(state, lives, monkeypatch):
    """Its start time is its own; so is its group."""
    table = {1: fields(state), 2: fields(group=8), 3: None}
    monkeypatch.setattr(machine, "_stat", table.get)
    monkeypatch.setattr(machine, "_pids", lambda: iter(table))
    assert machine.start_time(1) == (99 if lives else None)
    assert machine.start_time(3) is None
    assert machine.group_members(7) == [1] * lives
    assert machine.group_members(8) == [2]
    monkeypatch.setattr(machine.os, "getpid", lambda: 1)
    assert machine.can_tell_processes() is lives


def test_a_name_with_spaces_and_brackets_does_not_shift_what_follows_it(tmp_path, monkeypatch):
    """The second field may hold anything; the last bracket ends it."""
    shown = f"/proc/{os.getpid()}/stat"
    real = Path(shown).read_text().rpartition(")")[2].split()
    found = machine._stat(os.getpid())
    assert (found[:7], found[19]) == (real[:7], real[19])  # what lies between counts on
    (tmp_path / "stat").write_text("5 (a) b (c) S 1 7 " + "0 " * 40)
    opened = open
    monkeypatch.setattr(
        "builtins.open",
        lambda path, *more, **how: opened(tmp_path / "stat" if path == "/proc/5/stat" else path, *more, **how),
    )
    assert machine._stat(5)[:3] == ["S", "1", "7"]
    (tmp_path / "stat").write_text("")
    assert machine._stat(5) is None


@pytest.mark.parametrize(
    ("flags", "held"), [(os.O_RDONLY, False), (os.O_WRONLY, True), (os.O_RDWR | os.O_CLOEXEC, True)]
)
def test_a_lock_is_held_by_who_could_write_it(flags, held, tmp_path):
    """To look at one is to have it open for reading; this process itself is never among the holders."""
    (tmp_path / "lock").write_text("")
    found = (tmp_path / "lock").stat()
    fd = os.open(tmp_path / "lock", flags)
    try:
        assert machine.has_open(os.getpid(), found.st_dev, found.st_ino) is held
        assert not machine.has_open(os.getpid(), found.st_dev + 1, found.st_ino)
        assert not machine.has_open(os.getpid(), found.st_dev, found.st_ino + 1)
        assert machine.holders(found.st_dev, found.st_ino) == []
    finally:
        os.close(fd)
    assert not machine.has_open(2**22 + 1, found.st_dev, found.st_ino)
    assert not machine._is_writable(os.getpid(), "9999")


@pytest.mark.parametrize(("platform", "boot", "namespace"), [("linux", "", ""), ("darwin", "session", "none")])
def test_where_there_is_no_proc_a_machine_is_named_as_far_as_it_can_be(platform, boot, namespace, monkeypatch):
    """MacOS gives each boot a name, and has one namespace; nothing else is taken as known."""

    def missing(*_, **__):
        raise OSError

    monkeypatch.setattr(machine.sys, "platform", platform)
    monkeypatch.setattr(machine, "_BOOT_ID", "/nothing/here")
    monkeypatch.setattr(machine, "_boot_session", lambda: "session")
    monkeypatch.setattr(machine.os, "readlink", missing)
    monkeypatch.setattr(machine.os, "listdir", missing)
    assert (machine._boot(), machine._pid_namespace(), machine._time_namespace()) == (boot, namespace, "none")
    assert list(machine._pids()) == []
    assert machine.group_members(os.getpgrp()) == []


def shown(mask, *parts):
    return b"|".join([*(mask.masked(part) for part in parts), mask.rest()])


@pytest.mark.parametrize(
    ("values", "parts", "out"),
    [
        (["secret"], [b"a secret b"], b"a *** b|"), (["secret"], [b"a sec", b"ret b"], b"a |*** b|"), (["secre"], [b"secre"], b"secre|"),
        (["secret"], [b"sec"], b"|sec"), (["secret"], [b"secre", b"x"], b"|secrex|"), (["secretly", "secret"], [b"secretly"], b"***|"),
        ([" secret\n"], [b"a secret b"], b"a *** b|"), (["first of lines\nshort\n"], [b"first of lines and short"], b"*** and short|"),
        (["x" * 11 + "\n" + "y" * 12], [b"x" * 11 + b" " + b"y" * 12], b"x" * 11 + b" ***|"), ([], [b"a"], b"a|"),
        (["sec\udcffret"], [b"sec\xffret"], b"***|"),
    ],
)  # fmt: skip
def test_a_value_is_masked_however_it_comes(values, parts, out):
    """In parts, with its newline or without, as one line of several; what is short stays."""
    assert shown(Mask(values), *parts) == out
    assert (LEAST_BYTES, MASK) == (6, b"***")
    mask = Mask(["secret"])
    assert (mask.masked(b"abcsecre"), mask.rest(), mask.rest()) == (b"abc", b"secre", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_noted_and_wakes_who_waits(number):
    """The first counts; handlers, and what was ignored, are as before in the end. A real-time signal has no name."""
    assert (signal_name(15), signal_name(40)) == ("SIGTERM", "signal 40")
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)}
    child = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {number, signal.SIGCHLD})
    try:
        with Interrupts() as interrupts:
            assert interrupts.signal is None
            assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupts.signal == number
            assert os.read(interrupts.fd, 10) in (b"!", b"!!")
            with suppress(BlockingIOError):
                while os.write(interrupts._write_fd, b"!" * 4096):
                    pass
            interrupts._note(signal.SIGTERM, None)  # what the pipe cannot take is no reason to wait
            assert interrupts.signal == number
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGCHLD, child)
    assert {n: signal.getsignal(n) for n in before} == before
    for fd in (interrupts.fd, interrupts._write_fd):
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_files_for_children_are_clear_of_the_numbers_that_those_get(tmp_path):
    """And closed on exec, all but one that is told otherwise."""
    low = os.open(tmp_path, os.O_RDONLY)
    made = [nameless_file(b"x" * 100), null(), *descriptors.pipe(), high(os.dup(low))]
    assert all(fd >= 10 and not os.get_inheritable(fd) for fd in made)
    assert os.read(made[0], 200) == b"x" * 100
    assert high(made[0]) == made[0]
    assert descriptors._ABOVE_STANDARD == 10
    os.set_inheritable(made[0], True)
    os.set_inheritable(made[1], True)
    found = inheritable({made[1]})
    assert made[0] in found
    assert not {made[1], made[2], 0, 1, 2} & set(found)
    hidden = hidden_file(b"secret")
    assert hidden >= 10
    file = open_hidden(hidden)
    assert os.read(file, 10) == b"secret"
    assert not os.get_inheritable(file)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(hidden)
    for fd in (*made, low, file):
        os.close(fd)
    near, far = socket.socketpair()
    near.close()
    with pytest.raises(OSError, match="no file waits"):
        open_hidden(far.detach())


def test_everything_above_a_number_is_closed_and_nothing_below():
    """As exec does; tried in a copy of this process."""
    pid = os.fork()
    if pid == 0:
        try:
            fds = [os.dup2(1, number) for number in (20, 21, 22)]
            close_above(20)
            os.fstat(fds[0])
            for fd in fds[1:]:
                try:
                    os.fstat(fd)
                except OSError:
                    continue
                os._exit(2)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_newest_lock_of_a_run_is_told_first_and_the_one_that_is_held(lock_dir, places):
    """What is no lock of that run is none, however like it is its name; the token alone tells them apart."""
    held = RunLock.acquire(places, *RUN)
    old = RunLock.acquire(places, *RUN)
    old.release(keep=True)
    name = next(path.name for path in lock_dir.iterdir() if path.name.endswith(old.token))
    os.utime(lock_dir / name, ns=(1, 1))
    (lock_dir / f"{RUN[0]}.{RUN[1]}.{held.token}.end").write_text("")
    (lock_dir / "another.run.0123").write_text("")
    found = owners_found(places, *RUN)
    assert [(owner["token"], is_held) for owner, is_held in found] == [(held.token, True), (old.token, False)]
    assert found[0][0] == {key: held.owner()[key] for key in ("machine", "lock", "file", "token")}
    local = SimpleNamespace(locks=places)
    assert LocalProcesses.found(local, *RUN) == found[0]
    os.utime(lock_dir / name)
    assert LocalProcesses.found(local, *RUN) == (found[0][0], True)
    held.release()
    assert LocalProcesses.found(local, *RUN)[1] is False
    assert LocalProcesses.found(local, "no", "run") is None


@pytest.mark.parametrize(
    ("begun", "held", "supervisor", "tells", "found"),
    [
        (True, False, True, True, LivenessProbe.DEAD), (False, False, True, True, LivenessProbe.UNSTARTED),
        (True, True, True, True, LivenessProbe.ALIVE), (True, True, False, True, LivenessProbe.ORPHANED),
        (True, True, False, False, LivenessProbe.ALIVE),
    ],
)  # fmt: skip
def test_a_lock_tells_whether_its_run_lives(begun, held, supervisor, tells, found, tmp_path, monkeypatch):
    """Free or held, its supervisor there or not; looking at it leaves it free."""
    path = tmp_path / "lock"
    path.write_text("")
    holder, fd = os.open(path, os.O_RDWR), os.open(path, os.O_RDONLY)
    if held:
        fcntl.flock(holder, fcntl.LOCK_EX)
    monkeypatch.setattr(liveness, "can_tell_processes", lambda: tells)
    monkeypatch.setattr(liveness, "start_time", lambda pid: 5 if supervisor else 6)
    seen = SeenLock(fd=fd, status=os.fstat(fd), begun=begun, supervisor=(77, 5))
    assert liveness._liveness_of(seen) is found
    if not held:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    os.close(holder)
    assert liveness._liveness_of(SeenLock(fd=fd, status=seen.status)) is LivenessProbe.UNSEEN


@pytest.mark.parametrize(
    ("process", "lives"), [((1, 5), True), ((1, 6), False), ((0, 5), False), ((-1, 5), False), (("1", 5), False), ((1, None), False), (None, False), ((True, 5), False)]
)  # fmt: skip
def test_a_process_is_that_of_its_number_and_its_start(process, lives, monkeypatch):
    """Anything else that a note may hold is none."""
    monkeypatch.setattr(liveness, "start_time", lambda _: 5)
    assert liveness._lives(process) is lives


@pytest.mark.parametrize(
    ("least", "number", "started", "found"),
    [(2, 2, 0, (2, 0)), (2, 1, 0, None), (1, 1, 9, (1, 9)), (1, 0, 9, None), (1, True, 9, None), (1, 5, "9", None), (1, None, 9, None)],
)  # fmt: skip
def test_a_note_names_a_process_only_by_two_numbers(least, number, started, found):
    """The group of the first process of all is nobody's job."""
    assert lock._process(number, started, least=least) == found


@pytest.mark.parametrize("other", [None, "mode", "link", "kind", "user"])
def test_a_lock_file_is_ours_alone(other, monkeypatch):
    """A file, of this user, with one name, closed to all others."""
    found = SimpleNamespace(st_mode=stat.S_IFREG | 0o600, st_uid=5, st_nlink=1)
    monkeypatch.setattr(lock.os, "geteuid", lambda: 6 if other == "user" else 5)
    if other == "mode":
        for bit in (0o001, 0o010, 0o040, 0o004):
            found.st_mode = stat.S_IFREG | 0o600 | bit
            assert not lock._is_ours(found)
    found.st_mode = {"mode": stat.S_IFREG | 0o640, "kind": stat.S_IFIFO | 0o600}.get(other, found.st_mode)
    found.st_nlink = 2 if other == "link" else 1
    assert lock._is_ours(found) is (other is None)


@pytest.mark.parametrize(
    "change", [None, {"token": 5}, {"token": "a" * 15}, {"token": "a/" + "a" * 14}, {"file": [1, 2]}, {"file": None}]
)
def test_a_lock_is_found_by_all_that_its_row_says_of_it(change, lock, places):
    """Its token is of one length, and the file the very one that was locked."""
    found = find_lock(places, lock.owner() | (change or {}), *RUN)
    assert (found is not None) is (change is None)
    if found:
        os.close(found.fd)
    assert find_lock(places, lock.owner(), "a/b", RUN[1]) is None
    assert find_lock(places, lock.owner(), RUN[0], "other") is None


@pytest.mark.parametrize(
    ("kind", "network"), [("nfs4", True), ("ext4", False), ("fuse.sshfs", True), ("fuseblk", False), ("macfuse", True), ("osxfuse_x", True), ("", False)]
)  # fmt: skip
def test_a_file_system_across_a_network_is_known_by_its_kind(kind, network):
    """Whatever is mounted by fuse may be anywhere; `fuseblk` is a disk."""
    assert lock_place._is_network(kind) is network


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("22 1 0:5 / /mnt rw - nfs4 host:/ rw\n", "nfs4"), ("22 1 0:5 / /mnt rw shared:1 master:2 - ext4 /dev/a rw\n", "ext4"),
        ("22 1 0:6 / /mnt rw - nfs4 host:/ rw\n", ""), ("0:5 short line\n", ""), ("22 1 0:5 / /mnt rw x nfs4 rw\n", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_kernels_table_names_the_kind_of_a_mount(line, kind, tmp_path, monkeypatch):
    """After the optional fields; a table of another shape says nothing."""
    (tmp_path / "mounts").write_text(line)
    monkeypatch.setattr(lock_place, "_MOUNTS", str(tmp_path / "mounts"))
    assert lock_place.kind_of(os.makedev(0, 5)) == kind
    monkeypatch.setattr(lock_place, "_MOUNTS", str(tmp_path / "none"))
    assert lock_place.kind_of(os.makedev(0, 5)) == ""


@pytest.mark.parametrize("store_id", ["", ".", "..", "a/b"])
def test_a_store_is_named_by_no_path(store_id):
    """Its id becomes the name of a folder."""
    with pytest.raises(lock_place.LockDirError, match="cannot have the id"):
        list(LockPlace(None, lambda: store_id)._folders("locks"))


def test_the_id_of_a_store_is_read_once(tmp_path):
    """And the last resort is three names below /tmp."""
    read = []
    place = LockPlace(None, lambda: read.append(1) or "id", machine_home=lambda: None)
    folders = [list(place._folders("locks")) for _ in range(2)]
    assert read == [1]
    assert folders[0] == folders[1]
    assert len(set(folders[0])) == 3
    assert {root for root, _ in folders[0]} == {"/tmp"}
    assert set(folders[0]).isdisjoint(place._folders("output"))
    own = LockPlace(None, lambda: "id", machine_home=lambda: str(tmp_path))
    first = next(iter(own._folders("locks")))
    assert first == (str(tmp_path), (".local", "state", "chronos", "id", "locks"))


@pytest.mark.parametrize(
    ("then", "own", "bare", "over"),
    [({"boot": "x", "host": "h"}, "m", "m", True), ({"boot": "b", "host": "h"}, "m", "m", False), ({"boot": "", "host": "h"}, "m", "m", False),
     ({"boot": "x", "host": "g"}, "m", "m", False), ({"boot": "x", "host": "h"}, "", "", False), ({"boot": "x", "host": "h"}, "m", "k", False),
     (None, "m", "m", False)],
)  # fmt: skip
@pytest.mark.parametrize("fixed", [True, False])
def test_a_reboot_proves_an_end_only_where_nothing_else_can_have_run_it(then, own, bare, over, fixed, monkeypatch):
    """This very machine, no container, a disk that stays in it."""
    monkeypatch.setattr(reboot, "machine_identity", lambda: HERE)
    monkeypatch.setattr(reboot, "bare_machine", lambda: own)
    monkeypatch.setattr(reboot, "on_fixed_disk", lambda _: fixed)
    assert reboot.rebooted_since({"machine": then, "bare": bare}, "/home") is (over and fixed)
    monkeypatch.setattr(reboot, "machine_identity", lambda: HERE | {"boot": ""})
    assert reboot.rebooted_since({"machine": then, "bare": bare}, "/home") is False
