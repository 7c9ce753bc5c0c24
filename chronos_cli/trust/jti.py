"""A token's `jti` is good for one occurrence: the first that it came with (RFC 7519, section 4.1.7).

One symbolic link per `jti` holds what it is bound to as its target: making a link is create-if-absent and complete at
once, in a single system call, for all processes of the machine. Nothing follows the links. Losing them in a power cut
is fine: the store keeps an occurrence from running twice, this keeps a stolen token from firing another one.

The memory is the machine's (the home's `cache/jti`): behind several machines each has its own. Where it cannot be
written, a token that names its job and instant is as good as ever, for the claim makes it good once; any other could
then fire anything that its holder likes, and is not taken.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from chronos_cli.contract import format_fire_at
from chronos_cli.errors import TemporaryError
from chronos_cli.files import Place, open_folder
from chronos_cli.trust.token_errors import JtiReusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from chronos_cli.trust.tokens import FireClaims

_KEPT_AFTER_EXP_S: Final = 60
"""The leeway, and some: a binding must outlive the last moment at which its token is accepted."""
_NO_EXP_S: Final = 3600
_PRUNE_EVERY_S: Final = 30
_PRUNE_AT_MOST: Final = 5_000
_LONGEST_PLAIN: Final = 100


class JtiMemoryError(TemporaryError):
    """A fire token that is not bound to its job and instant cannot be remembered as used."""

    code = "jti_memory"
    default_hint = "make the home's cache folder writable for whoever serves the callback; `chronos doctor` checks it"


def bind_jti(
    claims: FireClaims,
    job_id: str,
    fire_at: datetime | None,
    cache_dir: Path,
    *,
    home: str | None = None,
    now: Callable[[], datetime] | None = None,
) -> None:
    """Bind the token's `jti` to this occurrence until it expires; a token without one is left alone.

    The same occurrence again is an honest redelivery. `fire_at` is the request's, else the token's own counts; `home`
    is the NAME of a `/p/NAME` path. Call it once the token is verified: only NAS can add entries, so their number is
    bounded by what it mints. Raises JtiReusedError when the `jti` came with another job, time or home before, and
    JtiMemoryError when that cannot be remembered and the token itself is not bound to job and time.
    """
    if claims.jti is None:
        return
    now_s = int(time.time() if now is None else now().timestamp())
    meant = fire_at or claims.fire_at
    bound_to = f"{f'{home}/' if home else ''}{job_id}:{format_fire_at(meant) if meant else ''}"
    until = (now_s + _NO_EXP_S if claims.expires is None else int(claims.expires.timestamp())) + _KEPT_AFTER_EXP_S
    folder = cache_dir / "jti"
    try:
        with _memory(cache_dir, _file_name(claims.jti)) as place:
            known = _bind(place, f"{until}:{bound_to}", now_s)
            _prune(place, now_s)
    except OSError as error:
        if not claims.bound:
            raise JtiMemoryError(f"{folder} cannot be written ({error.strerror})") from error
        return
    if known != bound_to:
        raise JtiReusedError(claim="jti", expected=f"only with {known}", received=f"with {bound_to}")


def check_memory(cache_dir: Path) -> None:
    """Check that a `jti` can be remembered, by remembering one for a moment. Raises OSError."""
    with _memory(cache_dir, f".proof-{os.getpid()}-{time.monotonic_ns()}") as place:
        _bind(place, "0:proof", 0)
        _unlink(place)


def _memory(cache_dir: Path, name: str) -> Place:
    return Place(open_folder(cache_dir.parent, cache_dir.name, "jti", make=True), name, str(cache_dir / "jti" / name))


def _file_name(jti: str) -> str:
    """Return a name that no other `jti` has, on file systems that ignore case too."""
    raw = jti.encode("utf-8", "surrogatepass")
    if len(raw) <= _LONGEST_PLAIN:
        return f"hex-{raw.hex()}"
    from hashlib import sha256

    return f"sha256-{sha256(raw).hexdigest()}"


def _bind(place: Place, entry: str, now_s: int) -> str:
    """Make the entry unless there is a live one; returns what the `jti` is bound to. Raises OSError."""
    for _ in range(5):
        try:
            os.symlink(entry, place.name, dir_fd=place.folder)
        except FileExistsError:
            until, known = _read(place)
            if until > now_s:
                return known
            _unlink(place)
            continue
        return entry.partition(":")[2]
    return _read(place)[1]


def _read(place: Place) -> tuple[int, str]:
    """Return until when an entry counts, and its binding; no other file counts. Raises OSError."""
    try:
        until, _, known = os.readlink(place.name, dir_fd=place.folder).partition(":")
        return int(until), known
    except (FileNotFoundError, ValueError):  # pruned meanwhile, or not written by us
        return 0, ""


def _unlink(place: Place) -> None:
    with suppress(FileNotFoundError):
        os.unlink(place.name, dir_fd=place.folder)


def _prune(beside: Place, now_s: int) -> None:
    """Remove what has expired, now and then and some at a time, so that no single fire pays for it. Raises OSError."""
    marker = beside.sibling(".pruned")
    try:
        last = marker.stat().st_mtime
    except FileNotFoundError:
        os.close(marker.open(os.O_WRONLY | os.O_CREAT))
        last = 0
    if 0 <= now_s - last < _PRUNE_EVERY_S:
        return
    os.utime(marker.name, (now_s, now_s), dir_fd=marker.folder, follow_symlinks=False)
    listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=beside.folder)
    try:
        with os.scandir(listed) as entries:
            for _, entry in zip(range(_PRUNE_AT_MOST), entries, strict=False):
                if entry.is_symlink() and _read(old := beside.sibling(entry.name))[0] <= now_s:
                    _unlink(old)
    finally:
        os.close(listed)
