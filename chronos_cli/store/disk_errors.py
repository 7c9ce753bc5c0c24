"""Turn an OSError about the store into a StoreError that an operator can act on."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

_HINTS: Final = {
    errno.ENOSPC: "nothing was changed; free some space on that file system",
    errno.EDQUOT: "nothing was changed; free some space or raise the quota of that user",
    errno.EFBIG: "nothing was changed; raise the file size limit (ulimit -f)",
    errno.EROFS: "nothing was changed; mount it writable or point CHRONOS_HOME at a place that is",
    errno.EACCES: "nothing was changed; run as the owner, or give that user access",
    errno.EPERM: "nothing was changed; run as the owner, or give that user access",
}

_OF_ANOTHER_KIND: Final = frozenset({errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.ENXIO})
"""Errors of a folder, a pipe or a socket in place of a file, and of a file in place of a folder."""


def disk_error(action: str, path: Path, error: OSError) -> StoreError:
    """Return a StoreError naming the path, its owner and mode, and our own user.

    `action` completes "cannot ...": `write`, `lock`. The folder is described as well, because a file is replaced by
    making another in its folder; where they do not exist, the nearest existing ancestor is, whose permissions decided.
    """
    reason = error.strerror or str(error)
    hint = _HINTS.get(error.errno or 0)
    if action in ("read", "list") or error.errno in _OF_ANOTHER_KIND:
        hint = _hint_to_read(path, error)
    facts = describe(path)
    if os.path.lexists(path):
        facts = f"{facts}; its folder {describe(path.parent)}"
    return StoreError(f"cannot {action} {path}: {reason} ({facts}; running as {current_user()})", hint=hint)


def _hint_to_read(path: Path, error: OSError) -> str | None:
    """Return what gets a file read that could not be. No change was tried."""
    try:
        found = path.stat()
    except OSError:
        found = None
    if error.errno in _OF_ANOTHER_KIND:
        wrong = next(place for place in (path, *path.parents) if os.path.lexists(place))
        return f"move it away: mv {wrong} {wrong}.aside"
    if isinstance(error, FileNotFoundError):
        link = next((place for place in (path, *path.parents) if place.is_symlink() and not place.exists()), None)
        return None if link is None else f"bring back what the link {link} leads to ({link.readlink()}), or replace it"
    if error.errno not in (errno.EACCES, errno.EPERM):
        return None
    if found is not None and found.st_uid == os.geteuid():
        return f"chmod u+rX {path}"
    return "run as the owner, or give that user access"


def describe(path: Path) -> str:
    """Return owner, group and mode of `path` or of its nearest existing ancestor, for people."""
    for place in (path, *path.parents):
        try:
            found = place.stat()
        except OSError:  # Not there, or hidden behind a folder we may not enter: the ancestor says more.
            continue
        which = "" if place == path else f"{place} is "
        mode = stat.S_IMODE(found.st_mode)
        return f"{which}owned by {user_name(found.st_uid)}:{group_name(found.st_gid)}, mode {mode:04o}"
    return "nothing is known of it"


def current_user() -> str:
    """Return the user whose rights count, for people."""
    return user_name(os.geteuid())


def user_name(uid: int) -> str:
    """Return `name(uid)`, or the number alone where the machine knows no name."""
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name}({uid})"
    except KeyError:  # Containers run as users that have no entry.
        return str(uid)


def group_name(gid: int) -> str:
    """Return `name(gid)`, or the number alone where the machine knows no name."""
    import grp

    try:
        return f"{grp.getgrgid(gid).gr_name}({gid})"
    except KeyError:  # As for users.
        return str(gid)
