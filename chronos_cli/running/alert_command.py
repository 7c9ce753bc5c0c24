"""Run the on-failure command: one event on its standard input, bounded in time, and no secret of ours passed on.

It inherits no descriptor (no run lock, so it is not taken for a run) and no secret. What it says and how it ends
changes nothing on record but the note of that very end.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from chronos_cli.running.descriptors import close_quietly, nameless_file, null, pipe
from chronos_cli.running.secrecy import without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from subprocess import Popen

STOPPING_S: Final = 3.0
"""Time that it may take in a process that was told to stop, and will be killed soon."""

_LOOK_EVERY_S: Final = 0.02
_CHUNK: Final = 64 * 1024
_KEPT: Final = 4096
_SHOWN: Final = 200


def run_hook(
    argv: Sequence[str], event: bytes, *, environment: Mapping[str, str], cwd: str, timeout_s: float
) -> str | None:
    """Run the command and wait for its end, at most `timeout_s`; None when it went well, else why not, one line.

    After the timeout its whole process group is killed. Processes that it leaves at its own end are left alone.
    """
    import subprocess

    stdin, nowhere = nameless_file(event), null(os.O_WRONLY)
    said_read, said_write = pipe()
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=nowhere,
            stderr=said_write,
            env=without_secrets(environment),
            cwd=cwd if os.path.isdir(cwd) else "/",
            start_new_session=True,
        )
    except OSError as error:
        close_quietly(said_read)
        return f"cannot be started: {error.strerror or error}"
    finally:
        close_quietly(stdin, nowhere, said_write)
    try:
        said = _wait(process, said_read, time.monotonic() + timeout_s)
    except BaseException:
        _kill(process)
        raise
    finally:
        close_quietly(said_read)
    if said is None:
        _kill(process)
        return f"was still running after {timeout_s:g} s and was killed"
    return _how_it_ended(process.returncode, said)


def _wait(process: Popen[bytes], said: int, until: float) -> bytes | None:
    """Return what it said last on stderr, once it has ended; None when the time is up first."""
    os.set_blocking(said, False)
    kept = b""
    while True:
        over = process.poll() is not None
        with suppress(BlockingIOError):  # all there is for now
            while (data := os.read(said, _CHUNK)) and time.monotonic() < until:
                kept = (kept + data)[-_KEPT:]
        if over:
            return kept
        if time.monotonic() >= until:
            return None
        time.sleep(_LOOK_EVERY_S)


def _kill(process: Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the group, but none that ended by itself meanwhile
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _how_it_ended(status: int, said: bytes) -> str | None:
    if status == 0:
        return None
    how = f"exited with status {status}" if status > 0 else f"was killed by signal {-status}"
    last = next((line for line in reversed(said.decode("utf-8", "replace").splitlines()) if line.strip()), "")
    shown = "".join(letter if letter.isprintable() else " " for letter in last).strip()[:_SHOWN]
    return f"{how}: {shown}" if shown else how
