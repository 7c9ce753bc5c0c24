"""A job's process while it runs: started as a supervised group, its output kept, everything of it closed at the end."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from chronos_cli.private_memory import hide_memory
from chronos_cli.running.actions import HttpAction, ProcessAction
from chronos_cli.running.descriptors import close_quietly, nameless_file, null, pipe
from chronos_cli.running.errors import StartError
from chronos_cli.running.group_guard import Guard
from chronos_cli.running.output import BoundedOutput
from chronos_cli.running.secrecy import without_secrets
from chronos_cli.running.spawn import spawn_group

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from chronos_cli.running.interface import Echo
    from chronos_cli.running.lock import RunLock
    from chronos_cli.running.mask import Mask

DEFAULT_OUTPUT_LIMIT_BYTES: Final = 1024 * 1024
_CHUNK: Final = 64 * 1024


class RunFacts(NamedTuple):
    """Facts for a job on its run, in CHRONOS_JOB_ID, _RUN_ID, _FIRE_AT (ISO 8601, UTC) and _ATTEMPT (from 1)."""

    job_id: str
    run_id: str
    fire_at: str
    attempt: int

    def environment(self) -> dict[str, str]:
        """Return the variables."""
        return {
            "CHRONOS_JOB_ID": self.job_id,
            "CHRONOS_RUN_ID": self.run_id,
            "CHRONOS_FIRE_AT": self.fire_at,
            "CHRONOS_ATTEMPT": str(self.attempt),
        }


class Child:
    """A started job: its leader's `pid` (also its process group), where it writes, and its guard."""

    def __init__(
        self,
        *,
        pid: int,
        pipe_fd: int,
        output: BoundedOutput,
        lock: RunLock,
        guard: Guard,
        mask: Mask | None = None,
        echo: Echo | None = None,
    ) -> None:
        self.pid = pid
        self.pipe_fd = pipe_fd
        self.output = output
        self.output_error = ""
        self.lock = lock
        self.guard = guard
        self.pidfd = _pidfd(pid)
        self.status: int | None = None
        self._mask = mask
        self._echo = echo

    def pump(self) -> bool:
        """Move one chunk of output, if there is any, into the file; whether there may be more right now."""
        if self._echo is not None:
            self._echo.go_on()
        if self.pipe_fd < 0:
            return False
        try:
            data = os.read(self.pipe_fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            os.close(self.pipe_fd)
            self.pipe_fd = -1
            return False
        self._keep(data if self._mask is None else self._mask.masked(data))
        return True

    def pump_rest(self) -> None:
        """Move what is left once the job is over: what was held back because a secret might have begun there."""
        if self._mask is not None:
            self._keep(self._mask.rest())

    def _keep(self, data: bytes) -> None:
        if self._echo is not None:
            self._echo.show(data)
        if data and not self.output_error:
            try:
                self.output.write(data)
            except OSError as error:  # a full disk must not block or end the job: its output is lost, and that is said
                self.output_error = f"output lost: {error.strerror}"

    def close(self) -> None:
        """Dismiss the guard and close everything but the lock, which the caller gives up once the end is recorded."""
        self.guard.dismiss()
        close_quietly(self.pipe_fd, self.pidfd)
        self.pipe_fd = self.pidfd = -1
        self.output.close()


def start(
    action: ProcessAction | HttpAction,
    *,
    facts: RunFacts,
    environment: Mapping[str, str],
    lock: RunLock,
    output: Path,
    output_limit_bytes: int = DEFAULT_OUTPUT_LIMIT_BYTES,
    secret_names: Iterable[str] = (),
    mask: Mask | None = None,
    echo: Echo | None = None,
    wrapper: tuple[str, ...] = (),
) -> Child:
    """Start an action as a process group of its own that dies with this process; call from the main thread.

    The job gets `environment` without our secrets and those named, and the facts of its run; its stdin is the action's
    or empty. It and all it starts inherit the lock. Its output goes through `mask` into the file, and is shown by
    `echo` as it comes. `wrapper`: see `spawn_group`. Raises ActionError where the action cannot be run, StartError
    where nothing can be started right now.
    """
    hide_memory()  # before there is a job that could look
    process = action.as_process() if isinstance(action, HttpAction) else action
    _have_standard_descriptors()
    given = {**without_secrets(environment, secret_names), **dict(process.environment), **facts.environment()}
    try:
        file = BoundedOutput(output, output_limit_bytes)
    except OSError as error:
        raise StartError(f"cannot write {output}: {error.strerror}", hint="see that it can be written") from error
    read_fd = write_fd = stdin = -1
    guard = None
    try:
        read_fd, write_fd = pipe()
        stdin = null(os.O_RDONLY) if process.stdin is None else nameless_file(process.stdin)
        lock.record_begun()
        guard = Guard.start(lock.fd, read_fd if wrapper else -1)
        pid = spawn_group(
            process.argv,
            cwd=process.cwd,
            environment=given,
            stdin=stdin,
            output=write_fd,
            lock_fd=lock.fd,
            guard=guard,
            wrapper=wrapper,
        )
    except BaseException as error:
        close_quietly(read_fd)
        file.close()
        if guard is not None:
            guard.dismiss()
        if isinstance(error, OSError):
            raise StartError(f"no process can be started: {error.strerror}") from error
        raise
    finally:
        close_quietly(write_fd, stdin)
    with suppress(OSError):  # the job goes; without the note its processes are still found by the lock they hold
        lock.record_group(pid)
    os.set_blocking(read_fd, False)
    return Child(pid=pid, pipe_fd=read_fd, output=file, lock=lock, guard=guard, mask=mask, echo=echo)


def _pidfd(pid: int) -> int:
    """Return a descriptor that is readable once the process is over; -1 where there is no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1  # macOS, or an old kernel: the end is looked for at short intervals


def _have_standard_descriptors() -> None:
    """Open the standard descriptors that are closed: after `<&-` the next file opened would be taken for stdin."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
