"""Hand claims to a warm runner: a process beside a server that has imported everything and forks a runner per claim.

It is the server's own child, started by exec, and ends with it: the server's end of their socket is closed on exec, so
the kernel closes it with the server, whichever of its threads end before. What a runner gets is what it would get from
`detach.start_runner`: claim, secrets and variables go by descriptor and reach the forked child alone, and its session,
descriptors, signals, mask and limits are the same. Where they could not be (the server has changed its umask or limits
since, or other variables are given), nothing is handed over, and the caller starts a runner as ever.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from threading import Lock
from typing import TYPE_CHECKING, Final
from weakref import finalize

from chronos_cli.private_memory import hide_memory
from chronos_cli.running.descriptors import close_quietly, hidden_file, high, inheritable, nameless_file, null, pipe
from chronos_cli.running.detach import Runner, ordinary_signals
from chronos_cli.running.errors import StartError
from chronos_cli.running.machine import start_time
from chronos_cli.running.runner_channel import RUNNER_VARIABLE
from chronos_cli.running.secrecy import without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHANNEL_FD: Final = 3
"""The warm runner's end of the socket, when it starts."""
IDLE_S: Final = 60.0
"""Time that it stays with nothing to do, and within which one answer must follow another to have it started."""

HAND_OVER: Final = struct.Struct("=I")
"""The number of a hand-over; with it come claim, secrets, variables, the pipe for messages, and perhaps END_FD."""
NEWS: Final = struct.Struct("=Iii")
"""News from the warm runner: of which hand-over, the runner's pid, its exit status or BEGUN."""
READY: Final = 0
"""The number of no hand-over: it has imported everything."""
BEGUN: Final = -(2**31)

_OURS: Final = "CHRONOS_"
_INHERITED: Final = ("Umask", "Uid", "Gid", "Groups")


class WarmRunner:
    """A warm runner, as the process that has started it sees it. Safe to share between threads."""

    def __init__(self, pid: int, channel: socket.socket, environment: Mapping[str, str]) -> None:
        self.host = os.getpid()
        self._process = Runner(pid, -1)
        self._channel = channel
        self._variables = _variables(environment)
        self._inherited = inherited()
        self._guard = Lock()
        self._heard = b""
        self._ready = self._retired = self._lost = False
        self._last = READY
        self._pids: dict[int, tuple[int, int | None]] = {}
        self._ended: dict[int, int] = {}
        finalize(self, channel.close)  # the process ends with this object

    @classmethod
    def start(cls, argv: Sequence[str], environment: Mapping[str, str]) -> WarmRunner:
        """Start one. argv[0] is an absolute path; `environment` goes without our secrets. Raises StartError."""
        hide_memory()
        given = {**without_secrets(environment), RUNNER_VARIABLE: "1"}
        near, far = (high(end.detach()) for end in socket.socketpair())
        ours, nothing = socket.socket(fileno=near), -1
        try:
            nothing = null()
            actions: list[tuple[int, int] | tuple[int, int, int]] = [(os.POSIX_SPAWN_CLOSE, fd) for fd in inheritable()]
            wanted = ((nothing, 0), (nothing, 1), (nothing, 2), (far, CHANNEL_FD))
            actions += [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in wanted]
            pid = os.posix_spawn(
                argv[0], list(argv), given, file_actions=actions, setsid=True, setsigmask=(),
                setsigdef=ordinary_signals(),
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise StartError(f"the warm runner could not be started: {error.strerror}") from error
        finally:
            close_quietly(far, nothing)
        return cls(pid, ours, environment)

    @property
    def pid(self) -> int:
        """Return its process."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Return whether it takes claims of this process, now."""
        with self._guard:
            self._listen()
            return self._ready and self._is_ours()

    @property
    def over(self) -> bool:
        """Return whether another may take its place: it has ended, is about to, or belongs to the process we copy."""
        with self._guard:
            self._listen()
            return not self._is_ours()

    def hand_over(
        self, claim: bytes, *, environment: Mapping[str, str], secrets: Mapping[str, str], end_fd: int = -1
    ) -> ForkedRunner | None:
        """Have a runner forked for a claim; None where it could not be the same as one that is started.

        `end_fd`: see `Runners`.
        """
        given = without_secrets(environment, secrets)
        if not self.usable or _variables(given) != self._variables:
            return None
        if inherited() != self._inherited:
            self.retire()
            return None
        opened: list[int] = []
        try:
            opened.append(nameless_file(claim))
            opened.append(hidden_file(json.dumps(dict(secrets)).encode()))
            opened.append(nameless_file(json.dumps({**given, RUNNER_VARIABLE: "1"}).encode()))
            read_fd, write_fd = pipe()
            opened.append(write_fd)
            with self._guard:
                self._last = number = self._last % (2**32 - 1) + 1
                try:
                    handed = [*opened, *([end_fd] if end_fd >= 0 else [])]
                    socket.send_fds(self._channel, [HAND_OVER.pack(number)], handed, socket.MSG_DONTWAIT)
                except OSError:  # it is gone, or more waits there than it takes
                    os.close(read_fd)
                    return None
            return ForkedRunner(self, number, read_fd)
        except OSError:
            return None
        finally:
            close_quietly(*opened)

    def retire(self) -> None:
        """Have it end once the runners that it has forked are over; another may take its place."""
        with self._guard:
            if self._is_ours() and not self._retired:
                self._retired = True
                try:
                    self._channel.shutdown(socket.SHUT_WR)
                except OSError:
                    self._lost = True

    def reap(self) -> bool:
        """Take its exit status once it is over, without waiting; whether it is."""
        with self._guard:
            self._listen()
        return self._process.reap()

    def status_of(self, number: int) -> tuple[bool, int | None]:
        """Return whether a runner that was forked is over, and its exit status as far as that is known."""
        with self._guard:
            self._listen()
            if number in self._ended:
                return True, self._ended[number]
            pid, started = self._pids.get(number, (0, None))
            return self._lost and (not pid or start_time(pid) != started), None

    def pid_of(self, number: int) -> int:
        """Return the pid of a runner that was forked; -1 while it is not known."""
        with self._guard:
            self._listen()
            return self._pids.get(number, (-1, None))[0]

    def _is_ours(self) -> bool:
        return self.host == os.getpid() and not (self._retired or self._lost)

    def _listen(self) -> None:
        """Take in what it has told, without waiting."""
        while self.host == os.getpid() and not self._lost:
            try:
                data = self._channel.recv(NEWS.size * 64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._lost = True
                self._channel.close()
                return
            self._heard += data
            whole = len(self._heard) // NEWS.size * NEWS.size
            for number, pid, status in NEWS.iter_unpack(self._heard[:whole]):
                self._note(number, pid, status)
            self._heard = self._heard[whole:]

    def _note(self, number: int, pid: int, status: int) -> None:
        if number == READY:
            self._ready = True
        elif status == BEGUN:
            self._pids[number] = pid, start_time(pid)
        else:
            self._ended[number] = status


class ForkedRunner(Runner):
    """A runner that a warm one has forked: its exit is heard of, since it is no child of ours."""

    def __init__(self, warm: WarmRunner, number: int, fd: int) -> None:
        super().__init__(-1, fd)
        self._warm = warm
        self._number = number

    def reap(self) -> bool:
        """Return whether the runner is over, without waiting."""
        if not self._reaped:
            self._reaped, self._status = self._warm.status_of(self._number)
            self.pid = self._warm.pid_of(self._number)
        return self._reaped

    def give_up(self) -> None:
        """Stop expecting anything of the process that should have forked it."""
        self._warm.retire()


def inherited() -> tuple[object, ...]:
    """Return what every child of this process inherits without being handed it: its mask, its users, its limits."""
    import resource

    names = sorted(name for name in vars(resource) if name.startswith("RLIMIT_"))
    limits = tuple(resource.getrlimit(getattr(resource, name)) for name in names)
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            lines = tuple(line for line in file if line.partition(":")[0] in _INHERITED)
    except OSError:
        lines = ()
    return (*lines, limits)


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those that a process has from its start on: the interpreter and the C library have read them by then."""
    return {name: value for name, value in environment.items() if not name.startswith(_OURS)}
