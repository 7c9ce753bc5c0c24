"""The on-failure command, stamps of files and a runner's messages, each at its edge and by itself."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from real_processes import eventually, is_running

from chronos_cli.running import alert_command, file_watch, runner_channel
from chronos_cli.running.alert_command import run_hook
from chronos_cli.running.file_watch import FileWatch, places_of_code, places_of_zones, stamp_of
from chronos_cli.running.runner_channel import Reporter, begin_runner


def open_files():
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def hook(code, tmp_path, *, event=b"", timeout_s=20.0, cwd=None, **environment):
    given = {"PATH": os.environ["PATH"], **environment}
    argv = ["/bin/sh", "-c", code]
    return run_hook(argv, event, environment=given, cwd=cwd or str(tmp_path), timeout_s=timeout_s)


def test_the_command_gets_its_event_its_folder_and_no_secret_of_ours(tmp_path):
    """In a session of its own; what it prints is nobody's, and what it leaves open is nothing of ours."""
    before = open_files()
    tell = "cat > event; pwd > at; echo \"$CHRONOS_NAS_TOKEN$A\" > env; cut -d' ' -f6 /proc/$$/stat > sid; echo $$ > pid; echo printed"
    assert hook(tell, tmp_path, event=b"{}\n", A="a", CHRONOS_NAS_TOKEN="t") is None
    assert (tmp_path / "event").read_bytes() == b"{}\n"
    assert (tmp_path / "at").read_text().strip() == os.path.realpath(tmp_path)
    assert (tmp_path / "env").read_text() == "a\n"
    assert (tmp_path / "sid").read_text() == (tmp_path / "pid").read_text()
    assert open_files() == before
    assert hook("pwd | grep -qx /", tmp_path, cwd=str(tmp_path / "gone")) is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("exit 3", "exited with status 3"),
        ("exit 1", "exited with status 1"),
        ("echo first >&2; printf ' a\\033[31mb \\n\\n' >&2; exit 3", "exited with status 3: a [31mb"),
        ("kill -9 $$", "was killed by signal 9"),
        ("echo fine >&2", None),
        ("head -c 20000 /dev/zero | tr '\\0' x >&2; exit 1", f"exited with status 1: {'x' * 200}"),
    ],
)
def test_how_the_command_ended_is_one_line(code, said, tmp_path):
    """With the end of what it said last."""
    assert hook(code, tmp_path) == said


def test_a_command_that_is_none_is_said(tmp_path):
    """And nothing stays open."""
    before = open_files()
    said = run_hook([str(tmp_path / "none")], b"", environment={}, cwd="/", timeout_s=5.0)
    assert said == "cannot be started: No such file or directory"
    assert open_files() == before


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(tmp_path):
    """Its whole group; what it has left behind at an end of its own goes on."""
    late = f"sleep 60 & echo $! > {tmp_path}/child; wait"
    said = hook(late, tmp_path, timeout_s=0.3)
    assert said == "was still running after 0.3 s and was killed"
    child = int((tmp_path / "child").read_text())
    assert eventually(lambda: not is_running(child))
    assert hook(f"sleep 60 >/dev/null 2>&1 & echo $! > {tmp_path}/child", tmp_path) is None
    left = int((tmp_path / "child").read_text())
    os.kill(left, 0)
    os.kill(left, signal.SIGKILL)


def test_one_that_talks_without_end_is_not_listened_to_beyond_its_time(tmp_path, monkeypatch):
    """Nor is more kept than is shown."""
    process = SimpleNamespace(poll=lambda: None)
    read_fd, write_fd = os.pipe()
    now = iter([1.0, 2.0, 3.0, *[9.0] * 9])
    monkeypatch.setattr(alert_command, "time", SimpleNamespace(monotonic=lambda: next(now), sleep=lambda _: None))
    endless = iter([b"x" * 3000] * 20)
    monkeypatch.setattr(os, "read", lambda *_: next(endless))
    try:
        assert alert_command._wait(process, read_fd, 9.0) is None
        assert os.get_blocking(read_fd) is False
        said = iter([b"a" * 3000, b"b" * 3000, b""])
        monkeypatch.setattr(os, "read", lambda *_: next(said))
        now = iter([1.0] * 9)
        process.poll = lambda: 0
        assert alert_command._wait(process, read_fd, 9.0) == b"a" * 1096 + b"b" * 3000
    finally:
        monkeypatch.undo()
        os.close(read_fd)
        os.close(write_fd)


def test_a_fault_while_it_is_waited_for_leaves_no_command_behind(tmp_path, monkeypatch):
    """A person who interrupts it, for one."""
    killed = []
    kill = alert_command._kill

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(alert_command, "_wait", interrupted)
    monkeypatch.setattr(alert_command, "_kill", lambda process: killed.append(process.pid) or kill(process))
    with pytest.raises(KeyboardInterrupt):
        hook("exec sleep 60", tmp_path)
    (pid,) = killed
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


def test_a_stamp_changes_with_a_files_text_its_time_and_its_place(tmp_path):
    """As it does when the file goes or comes; what is none has none."""
    path = tmp_path / "a.py"
    watch = FileWatch([str(path), "a\0b"])
    assert stamp_of("a\0b") is None
    assert not watch.changed
    path.write_text("1")
    assert watch.changed
    watch, found = FileWatch([str(path)]), path.stat()
    assert stamp_of(str(path)) == (found.st_mtime_ns, found.st_size, found.st_ino)
    assert not watch.changed
    os.utime(path, ns=(1, 1))
    assert watch.changed
    path.unlink()
    assert watch.changed


def test_what_a_process_has_loaded_is_watched_from_before_it_was(tmp_path):
    """A package's sources, however deep; of what is asked for besides, the present stamps."""
    (tmp_path / "deep").mkdir()
    for name in ("a.py", "deep/b.so", "c.txt"):
        (tmp_path / name).write_text("1")
    watch = FileWatch.of_package(str(tmp_path))
    assert set(watch._seen) == {str(tmp_path / "a.py"), str(tmp_path / "deep/b.so")}
    (tmp_path / "a.py").write_text("22")
    (tmp_path / "c.txt").write_text("22")
    both = watch.only([str(tmp_path / "a.py"), str(tmp_path / "c.txt")])
    assert set(both._seen) == {str(tmp_path / "a.py"), str(tmp_path / "c.txt")}
    assert both.changed
    assert not watch.only([str(tmp_path / "c.txt")]).changed
    assert not watch.only([str(tmp_path / "deep/b.so")]).changed


def test_the_places_of_code_and_zones_are_those_that_change_with_them(monkeypatch):
    """This package's own modules, what is installed, the interpreter; the zones' lists wherever they are looked for."""
    monkeypatch.setitem(sys.modules, "chronos_cli.nowhere", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "chronos_cli.no_file", SimpleNamespace(__file__=None))
    code = places_of_code()
    assert {file_watch.__file__, sys.executable, *sys.path} <= set(code)
    assert json.__file__ not in code
    assert None not in code
    zones = places_of_zones()
    assert {"/etc/localtime", "/usr/share/zoneinfo/tzdata.zi"} <= set(zones)
    assert f"{sys.path[-1]}/tzdata/zoneinfo/tzdata.zi" in zones


class Pipe:
    """A pipe, and stderr as a copy of its end or of something else."""

    def __init__(self):
        self.read, self.write = os.pipe()

    def close(self):
        for fd in (self.read, self.write):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def pipe():
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def stderr_kept():
    """Give stderr back in the end: what is tried here changes it."""
    kept = os.dup(2)
    yield
    os.dup2(kept, 2)
    os.close(kept)


@pytest.mark.parametrize("shared", [True, False])
def test_a_message_is_a_line_and_then_stderr_is_let_go_of_where_it_was_the_same_pipe(shared, pipe, stderr_kept):
    """One that is another file stays as it is."""
    beside, beside_write = os.pipe()
    os.dup2(pipe.write if shared else beside_write, 2)
    assert Reporter(pipe.write).send({"event": "running"}) is True
    assert os.read(pipe.read, 100) == b'{"event": "running"}\n'
    assert os.path.sameopenfile(2, pipe.write) is False
    assert os.path.sameopenfile(2, beside_write) is not shared
    for fd in (beside, beside_write):
        os.close(fd)


def test_without_a_reader_messages_are_lost_and_the_pipe_is_let_go_of(pipe, stderr_kept):
    """One who was never there, one who has gone: the run goes on without it, and waits for nobody."""
    before = open_files()
    assert Reporter(-1).send({}) is False
    assert Reporter(-1).wait_until_unread(0.0) is True
    assert open_files() == before
    reporter = Reporter(pipe.write)
    assert reporter.wait_until_unread(0.0) is False
    os.close(pipe.read)
    pipe.read = -1
    assert reporter.wait_until_unread(0.0) is True
    assert reporter.send({}) is False
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe.write)
    pipe.write = -1
    assert reporter.send({}) is False
    assert reporter.wait_until_unread(0.0) is True
    reporter.close()


def test_the_reader_is_waited_for_as_long_as_was_said(pipe, monkeypatch):
    """In seconds."""
    asked = []
    made = SimpleNamespace(
        register=lambda *given: asked.append(given), poll=lambda timeout_ms: asked.append(timeout_ms) or []
    )
    monkeypatch.setattr(runner_channel, "select", SimpleNamespace(poll=lambda: made, POLLIN=select.POLLIN))
    assert Reporter(pipe.write).wait_until_unread(1.5) is False
    assert asked == [(pipe.write, 0), 1500.0]


def numbers():
    """The descriptors that are open."""
    found = set()
    for fd in range(64):
        with suppress(OSError):
            os.fstat(fd)
            found.add(fd)
    return found


def in_a_fork(work):
    """Run `work` in a copy of this process; what it returned."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_fd)
            at = os.dup(write_fd)
            os.close(write_fd)
            os.set_inheritable(at, False)
            try:
                said = work()
            except BaseException as error:  # noqa: BLE001 - it is said, and fails the test
                said = repr(error)
            os.write(at, json.dumps(said).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as file:
        text = file.read()
    os.waitpid(pid, 0)
    return json.loads(text)


@pytest.mark.parametrize("started", [True, False])
def test_a_runner_takes_its_claim_and_secrets_and_lets_go_of_all_else(started):
    """A person who pipes a claim in has no secrets and no reader; then nothing of his is closed."""
    from chronos_cli.running.descriptors import hidden_file, nameless_file

    def runner():
        os.setsid()
        claim, left = nameless_file(b"claim" * 30_000), os.dup(1)
        os.set_inheritable(left, True)
        hidden = hidden_file(b'{"A": "secret"}')
        report = nameless_file(b"")
        for fd, target in ((claim, 0), (report, 3), (hidden, 4)):
            os.dup2(fd, target)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        hidden_from = []
        runner_channel.hide_memory = lambda: hidden_from.append("all")
        before = numbers()
        environment = {"B": "b"} | ({"CHRONOS_RUNNER": "1"} if started else {"CHRONOS_RUNNER": "0"})
        data, secrets, reporter = begin_runner(environment)
        try:
            os.fstat(left)
            closed = False
        except OSError:
            closed = True
        return {
            "claim": data == b"claim" * 30_000, "secrets": secrets, "environment": environment, "closed": closed,
            "reads": bool(reporter.send({"a": 1})), "here": str(Path.cwd()), "stdin": os.read(0, 1) == b"",
            "masked": signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            "inherited": os.get_inheritable(3), "same": os.path.sameopenfile(0, claim),
            "memory": hidden_from, "more": sorted(numbers() - before),
        }  # fmt: skip

    found = in_a_fork(runner)
    assert found == {
        "claim": True, "secrets": {"A": "secret"} if started else {}, "environment": {"B": "b"}, "closed": started, "reads": started,
        "here": "/", "stdin": True, "masked": not started, "inherited": not started, "same": False,
        "memory": ["all"], "more": [],
    }  # fmt: skip
