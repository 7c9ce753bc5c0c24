"""Runs the token_command: bounded in time and output, one at a time per home."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import AuthError, ConfigError, LockTimeoutError, TemporaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_OUTPUT: Final = 64 * 1024
_SHOWN = 200


def run_token_command(
    argv: tuple[str, ...], *, home: str, environ: Mapping[str, str], timeout_s: float, within_s: float
) -> str:
    """Return what the command prints on its standard output.

    `timeout_s`: how long it may run; `within_s`: how long that and waiting for one's turn may take. Raises ConfigError
    (it cannot be started), AuthError (it failed), TemporaryError (it, or another command's run of it, took too long).
    """
    deadline = time.monotonic() + within_s
    with _alone(home, within_s):
        return _run(argv, home, environ, min(timeout_s, deadline - time.monotonic()))


@contextmanager
def _alone(home: str, timeout_s: float) -> Iterator[None]:
    """Keep other chronos commands of this home from running theirs meanwhile.

    The lock is taken on the home's folder itself, so it needs no file and no permission to write. Where the folder does
    not exist, or its file system knows no such lock (some network ones), the command runs unguarded: it is a courtesy
    to commands that spend a refresh token, and without a home there is no other process to be courteous to.
    """
    from chronos_cli.flock import wait_for_lock

    try:
        folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):  # no locks on this file system
            if not wait_for_lock(folder, time.monotonic() + timeout_s):
                message = f"another command's token_command has not ended within {timeout_s:.3g} s"
                raise LockTimeoutError(message, hint="try again later")
        yield
    finally:
        os.close(folder)


def _run(argv: tuple[str, ...], home: str, environ: Mapping[str, str], timeout_s: float) -> str:
    import signal
    import subprocess

    program = f"token_command {argv[0]}"
    by_hand = "run it by hand to see what it prints"
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            cwd=home if os.path.isdir(home) else None,  # noqa: PTH112 - plain text in, plain text out
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError(
            f"{program} cannot be started: {error.strerror}",
            hint="name a program that can be started in cron.chronos.token_command",
        ) from error
    try:
        output, complaint = process.communicate(timeout=max(timeout_s, 0.01))
    except BaseException as error:
        with suppress(ProcessLookupError):  # the whole group, but none that ended by itself meanwhile
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise TemporaryError(f"{program} has not ended within {timeout_s:.3g} s", hint=by_hand) from None
        raise
    if process.returncode != 0:
        lines = complaint.decode("utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        raise AuthError(f"{program} ended with status {process.returncode}{_told(last, output)}", hint=by_hand)
    if len(output) > MAX_OUTPUT:
        raise ConfigError(f"{program} printed {len(output)} bytes", hint="it must print the token alone")
    return output.decode("utf-8", errors="replace")


def _told(complaint: str, output: bytes) -> str:
    """Return the command's last word on stderr, bounded, unless it repeats what it printed as the token."""
    text = "".join(letter if letter.isprintable() else " " for letter in complaint).strip()[:_SHOWN]
    secrets = output.decode("utf-8", errors="replace").split()
    if not text or any(secret in text for secret in secrets if len(secret) > len("password")):
        return ""
    return f" ({text})"
