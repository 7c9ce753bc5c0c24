"""Programs of ours as processes of their own, each a fork of one process that has imported what they need.

    forked.run(["list", "--json"], env=..., input=..., timeout=60)      # as subprocess.run, with text
    forked.start(["fire", "--job-id", "a"], env=...)                     # as subprocess.Popen, with pipes and text

A program's start is most of what a short command costs, and the tests run thousands. A fork has its own id, environment,
folder, descriptors and end, like a program: it is killed, waited for and read in the same way. What is loaded when, what
/proc shows of its start, and an interpreter with switches of its own are for real programs to show. So is everything
with CHRONOS_TEST_REQUIRE_ALL=1, as in CI; what a fork cannot be (another Python's settings) is a program here too.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent

PROGRAMS = {
    "chronos": ("-m", "chronos_cli"),
    "chronos-nas": ("-c", "import sys; from chronos_cli.nas_server.cli import main; sys.exit(main())"),
}
"""How Python starts each of them."""

IMPORTED = (
    "requests",
    "jwt",
    "yaml",
    "typer._click.decorators",
    "chronos_cli.cli.app",
    "chronos_cli.cli.fast_exit",
    "chronos_cli.cli.quick",
    "chronos_cli.config.zone",
    "chronos_cli.nas_client.client",
    "chronos_cli.nas_server.cli",
    "chronos_cli.nas_server.serve",
    "chronos_cli.nas_server.timers.agents",
    "chronos_cli.operations.arming.reconcile",
    "chronos_cli.operations.assembly",
    "chronos_cli.operations.doctor",
    "chronos_cli.operations.firing.run_end",
    "chronos_cli.operations.firing.tick",
    "chronos_cli.providers.builtin",
    "chronos_cli.running.local",
    "chronos_cli.store.holds",
    "chronos_cli.store.local",
    "chronos_cli.trust.verifier",
)
"""What many commands need: loaded once instead of in each fork. Nothing that looks at its environment as it is loaded."""

LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)
"""What a test may set for the programs that it starts."""

OF_PYTHON = ("PYTHON", "LC_", "LANG", "MALLOC_", "LD_")
"""Beginnings of variables that are looked at before a program's first line."""


def run(
    arguments: Sequence[str], *, env: Mapping[str, str], program: str = "chronos", input: str = "", timeout: float = 60,  # noqa: A002 - as there
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a program to its end: `subprocess.run` with text, pipes for both streams, and no check."""
    with start(arguments, env=env, program=program, cwd=cwd, stdin=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(list(arguments), process.returncode, out, err)


def start(
    arguments: Sequence[str], *, env: Mapping[str, str], program: str = "chronos", cwd: Path | None = None, stdin: int = subprocess.DEVNULL,
    stdout: Any = subprocess.PIPE, stderr: Any = subprocess.PIPE,
) -> Any:  # fmt: skip
    """Begin a program: what `subprocess.Popen` gives, with text."""
    environ = {"PYTHONPATH": str(ROOT), **env}
    if os.environ.get("CHRONOS_TEST_REQUIRE_ALL") == "1" or _of_python(environ) != _of_python(_as_here()):
        command = [sys.executable, *PROGRAMS[program], *arguments]
        return subprocess.Popen(command, env=environ, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, text=True)
    return Fork(program, arguments, environ, cwd or Path.cwd(), stdin, stdout, stderr)


def _as_here() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _of_python(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(OF_PYTHON)}


class Fork:
    """A process that the mother forked, with the members of `subprocess.Popen` that tests use."""

    def __init__(
        self, program: str, arguments: Sequence[str], environ: Mapping[str, str], cwd: Path, stdin: int, stdout: Any, stderr: Any
    ) -> None:  # fmt: skip
        self.args = [program, *arguments]
        self.returncode: int | None = None
        self.stdin = self.stdout = self.stderr = None
        said = {"program": program, "arguments": list(arguments), "environ": dict(environ), "cwd": str(cwd)}
        limits = {number: resource.getrlimit(number) for number in LIMITS}
        with contextlib.ExitStack() as handed:
            read, ours = _pipe(stdin, os.O_RDONLY, handed)
            self.stdin = None if ours is None else os.fdopen(ours, "w", encoding="utf-8")
            ours, out = _pipe(stdout, os.O_WRONLY, handed)
            self.stdout = None if ours is None else os.fdopen(ours, encoding="utf-8")
            ours, err = _pipe(stderr, os.O_WRONLY, handed)
            self.stderr = None if ours is None else os.fdopen(ours, encoding="utf-8")
            self._word, theirs = socket.socketpair()
            handed.callback(theirs.close)
            _Mother.ask(
                json.dumps({**said, "limits": list(limits.items())}).encode(), [read, out, err, theirs.fileno()]
            )
        self.pid = int.from_bytes(_exactly(self._word, 4), "little")

    def poll(self) -> int | None:
        """Return how it ended, or None while it goes on."""
        if self.returncode is None and select.select([self._word], [], [], 0)[0]:
            self._read_end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended, once it has; raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._word], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._read_end()
        assert self.returncode is not None
        return self.returncode

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str | None, str | None]:  # noqa: A002 - as there
        """Write what it is told, read both streams to their ends and wait."""
        until = None if timeout is None else time.monotonic() + timeout
        said: dict[str, str] = {}
        jobs = [(self._tell, (input or "",))] if self.stdin and not self.stdin.closed else []
        heard = [name for name in ("stdout", "stderr") if (stream := getattr(self, name)) and not stream.closed]
        jobs += [(self._hear, (name, said)) for name in heard]
        threads = [threading.Thread(target=job, args=given, daemon=True) for job, given in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
            if thread.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if until is None else max(0.0, until - time.monotonic()))
        return said.get("stdout", self.stdout and ""), said.get("stderr", self.stderr and "")

    def send_signal(self, number: int) -> None:
        """Send it a signal, where it is still there."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.wait()

    def _read_end(self) -> None:
        self.returncode = os.waitstatus_to_exitcode(int.from_bytes(_exactly(self._word, 4), "little"))
        self._word.close()

    def _tell(self, text: str) -> None:
        assert self.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.stdin.write(text)
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()

    def _hear(self, name: str, said: dict[str, str]) -> None:
        with getattr(self, name) as stream:
            said[name] = stream.read()


def _pipe(asked: Any, flags: int, handed: contextlib.ExitStack) -> tuple[Any, Any]:
    """Open both ends of a stream, the reader first; the end that is not handed over is None where it is no pipe."""
    if asked == subprocess.PIPE:
        read, write = os.pipe()
        handed.callback(os.close, read if flags == os.O_RDONLY else write)
        return read, write
    if asked == subprocess.DEVNULL:
        asked = os.open(os.devnull, flags)
        handed.callback(os.close, asked)
    elif not isinstance(asked, int):
        asked = asked.fileno()
    return (asked, None) if flags == os.O_RDONLY else (None, asked)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise AssertionError("the mother of all commands has died")
        data += more
    return data


class _Mother:
    """The one that forks, as this process sees it: started when it is first asked, gone with this process."""

    lock = threading.Lock()
    line: socket.socket | None = None

    @classmethod
    def ask(cls, text: bytes, descriptors: list[int]) -> None:
        with cls.lock:
            socket.send_fds(cls.line or cls._begin(), [text], descriptors)

    @classmethod
    def _begin(cls) -> socket.socket:
        cls.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.forked", str(theirs.fileno())]
            mother = subprocess.Popen(
                command, env=_as_here(), cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )

        def end() -> None:
            assert cls.line is not None
            cls.line.close()
            mother.wait()

        atexit.register(end)
        return cls.line


def _serve(line: socket.socket) -> int:
    """Fork a process for each request, and report its id and its end; returns the exit code of one of them in it."""
    going: dict[int, socket.socket] = {}
    woken, wake = os.pipe2(os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    while True:
        ready = select.select([line, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            while going and (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                with going.pop(ended[0]) as word, contextlib.suppress(BrokenPipeError):
                    word.send(ended[1].to_bytes(4, "little"))
        if line not in ready:
            continue
        text, descriptors, _, _ = socket.recv_fds(line, 1 << 20, 4)
        if not text:
            return 0
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return _be(json.loads(text), descriptors[:3])
        for descriptor in descriptors[:3]:
            os.close(descriptor)
        going[pid] = socket.socket(fileno=descriptors[3])
        going[pid].send(pid.to_bytes(4, "little"))


def _be(asked: dict[str, Any], streams: list[int]) -> int:
    """Be the program that was asked for, in this process; returns its exit code."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, 1 << 16)
    for number, limits in asked["limits"]:
        resource.setrlimit(number, limits)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    time.tzset()
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):  # what stood there knew another file
        was = getattr(sys, name)
        mode = "w" if descriptor else "r"
        stream = os.fdopen(descriptor, mode, encoding=was.encoding, errors=was.errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.stderr.reconfigure(line_buffering=True)
    sys.path[0] = asked["cwd"]
    if asked["program"] == "chronos":
        from chronos_cli.cli import main

        sys.argv = [str(ROOT / "chronos_cli" / "__main__.py"), *asked["arguments"]]
    else:
        from chronos_cli.nas_server.cli import main

        sys.argv = ["-c", *asked["arguments"]]
    return main()


def _main() -> int:
    """Be the mother, until the line is closed."""
    line = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its children end by it, it when it is no longer needed
    for module in IMPORTED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is there now is nobody's rubbish, and looking at it would copy it into each fork
    return _serve(line)


if __name__ == "__main__":
    sys.exit(_main())
