"""The guard of a job's process group: a /bin/sh that sleeps on a pipe and kills the group when its supervisor is gone.

It works wherever there is a shell, and reaches what the kernel's parent death signal does not: the children of the
group's leader. It holds the run's lock, so the lock is not free before the group is dead. Its session is its own, so
that what kills the supervisor's group does not kill it too.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Final

from chronos_cli.running.descriptors import close_quietly, inheritable, null, pipe

# First the group's number, then a word that all is over; the end of the pipe instead of that word is the supervisor's.
# (dash takes no `--` before the number.) Before the number may come another word: then the leader cannot say it itself,
# and if it never comes, the leader is found by the pipe for its output, which nobody else writes to. It is looked for
# three times, since one that is just at exec hides its descriptors for a moment.
_PROGRAM: Final = """trap '' TERM INT HUP QUIT TSTP
read -r group || exit 0
case $group in expect)
  read -r group || {
    for again in 1 2 3; do
      for process in /proc/[0-9]*; do
        [ "$process/fd/1" -ef "/proc/$$/fd/7" ] || continue
        kill -KILL "-${process#/proc/}"
        kill -KILL "${process#/proc/}"
      done
    done
    exit 0
  }
esac
read -r over || kill -KILL "-$group"
"""
_OUTPUT_TARGET: Final = 7
_REAPED_WITHIN_S: Final = 0.2

ORDINARY_SIGNALS: Final = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGUSR1,
    signal.SIGUSR2, signal.SIGCHLD, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGXCPU, signal.SIGXFSZ,
)  # fmt: skip
"""Reset for every child: an ignored signal stays ignored across exec, and Python ignores SIGPIPE."""


class Guard:
    """A started guard; `pid` is -1 where there is no /bin/sh, and then only the kernel's signal is left."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self._fd = fd

    @classmethod
    def start(cls, lock_fd: int, output_fd: int = -1) -> Guard:
        """Start a guard that holds the lock and watches nothing yet. Raises OSError where no pipe can be had.

        `output_fd`: the reading end of the pipe that is to be the leader's stdout, for one that is expected.
        """
        read_fd, write_fd = pipe()
        nothing = null()
        lock_target = 9 if lock_fd != 9 else 8
        actions: list[tuple[int, int] | tuple[int, int, int]] = [
            *((os.POSIX_SPAWN_CLOSE, fd) for fd in inheritable({lock_fd})),
            (os.POSIX_SPAWN_DUP2, read_fd, 0),
            (os.POSIX_SPAWN_DUP2, nothing, 1),
            (os.POSIX_SPAWN_DUP2, nothing, 2),
            (os.POSIX_SPAWN_DUP2, lock_fd, lock_target),
        ]
        if output_fd >= 0:
            actions.append((os.POSIX_SPAWN_DUP2, output_fd, _OUTPUT_TARGET))
        argv = ("sh", "-c", _PROGRAM, "chronos-guard")
        try:
            pid = os.posix_spawn(
                "/bin/sh", argv, {}, file_actions=actions, setsid=True, setsigmask=(), setsigdef=ORDINARY_SIGNALS
            )
        except OSError:
            os.close(write_fd)
            return cls(-1, -1)
        finally:
            close_quietly(read_fd, nothing)
        return cls(pid, write_fd)

    def expect(self) -> None:
        """Tell it that a group comes whose leader does not say its number itself: its output is known till then."""
        self._say("expect\n")

    def watch(self, pgid: int) -> None:
        """Tell it which group to kill once neither this process nor a copy of it that has not called exec is left."""
        self._say(f"{pgid}\n")

    def dismiss(self) -> None:
        """Tell it that all is over, and reap it."""
        if self._fd < 0:
            return
        self._say("over\n")
        os.close(self._fd)
        self._fd = -1
        until = time.monotonic() + _REAPED_WITHIN_S
        with suppress(ChildProcessError):  # this process ignores SIGCHLD, so the kernel has reaped it
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0 and time.monotonic() < until:
                time.sleep(0.0005)

    def _say(self, text: str) -> None:
        if self._fd >= 0:
            with suppress(BrokenPipeError):  # it was killed: then only the kernel's signal is left
                os.write(self._fd, text.encode())
