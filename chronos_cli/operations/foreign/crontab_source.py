"""Source of a crontab, always as bytes: a file, standard input, or the user's own by `crontab -l`.

Lines that became jobs can be taken out of the user's own; what it held before is kept in a file first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import ConflictError, UsageError
from chronos_cli.files import give_to_folder, place_at

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

_TIMEOUT_S: Final = 30


def read_file(name: str) -> bytes:
    """Return the bytes of a file, or of standard input for `-`. Raises UsageError."""
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).expanduser().read_bytes()
    except IsADirectoryError as error:
        raise UsageError(f"{name} is a folder", hint="name a file, or say with --from what is in it") from error
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", hint="check the name") from error


def read_own(environ: Mapping[str, str]) -> bytes:
    """Return the bytes that `crontab -l` prints. Raises UsageError where there is none."""
    done = _crontab(["-l"], environ)
    if done.returncode != 0:
        raise UsageError(f"crontab -l: {_said(done) or 'no crontab'}", hint="give a FILE")
    return done.stdout


def take_out(before: bytes, numbers: Collection[int], environ: Mapping[str, str], folder: Path, now: datetime) -> Path:
    """Take these lines (from 1) out of the user's own crontab, which was `before`. Returns the file with what it was.

    Raises ConflictError where the crontab has changed since it was read; nothing is written then.
    """
    if read_own(environ) != before:
        raise ConflictError("the crontab has changed since it was read", hint="import it again")
    kept = folder / f"crontab-{now:%Y%m%dT%H%M%SZ}.bak"
    try:
        with place_at(kept) as place, os.fdopen(place.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            give_to_folder(file.fileno(), place.folder)
            file.write(before)
    except OSError as error:
        raise UsageError(
            f"{kept} cannot be written: {error.strerror}",
            hint="nothing was taken out; see that it can be written there, and import it again",
        ) from error
    lines = before.split(b"\n")
    after = b"\n".join(line for number, line in enumerate(lines, start=1) if number not in numbers)
    done = _crontab(["-"], environ, after) if after.strip() else _crontab(["-r"], environ)
    if done.returncode != 0:
        raise UsageError(
            f"crontab took no change: {_said(done)}", hint=f"see why, and import it again; what it held is in {kept}"
        )
    return kept


def _crontab(
    arguments: Sequence[str], environ: Mapping[str, str], given: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["crontab", *arguments],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            env={**environ, "LC_ALL": "C"},
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(
            "crontab cannot be asked", hint="give a FILE: chronos job import FILE --from crontab"
        ) from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join(done.stderr.decode(errors="replace").split())
