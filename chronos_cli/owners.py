"""Owner of a home. What somebody else wrote would run as us: their plug-ins, token_command, jobs and scripts.

So a home that belongs to another user is refused, as git refuses another's repository, unless it is named in
`CHRONOS_SAFE_HOMES` or in `~/.config/chronos/safe-homes`. Root's files are trusted: root can do anything to us anyway.

Who may change a folder above can put another home in the place of ours between our look and our use, so that one has
to be ours or root's as well, as sshd asks of the folders above a key.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import ForeignHomeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SAFE_VARIABLE: Final = "CHRONOS_SAFE_HOMES"
SAFE_FILE: Final = ".config/chronos/safe-homes"
_ROOT: Final = 0
_MAX_BYTES: Final = 1 << 20
_LINKS: Final = 40
_SYSTEM: Final = "/usr"
"""The owner of this is trusted with the folders above: inside a user namespace root has another number."""


def require_own(home: str, paths: Iterable[str], environ: Mapping[str, str], *, outside: Iterable[str] = ()) -> None:
    """Refuse what belongs to another user, unless `home` is named as safe. What is not there belongs to nobody.

    `outside`: whole paths of files that need not lie in the home, so the folders above each are looked at as well.
    Raises ForeignHomeError with the owner and the cure.
    """
    trusted, outside = _trusted(environ), tuple(outside)
    owned = (_of_another(path, trusted) for path in (*paths, *outside))
    movable = (_movable(path, trusted, name) for path, name in ((home, "it"), *((path, path) for path in outside)))
    why = next(filter(None, (*owned, *movable)), None)
    if why is None:
        return
    base = _base(environ)
    if _is_safe(home, base, environ):
        return
    place = SAFE_FILE if base is None else os.path.join(_shown(base, environ), SAFE_FILE)  # noqa: PTH118
    folder = os.path.dirname(place)  # noqa: PTH120
    cure = f"mkdir -p {folder} && printf '%s\\n' {_quoted(home)} >> {place}"
    raise ForeignHomeError(
        f"the home {home} is not used: {why}, and what stands in it would be run",
        hint=f"if you trust that user: {cure} (or name it in {SAFE_VARIABLE})",
    )


def below(folder: str) -> Iterator[str]:
    """Give a folder and all that is in it."""
    yield folder
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield os.path.join(parent, name)  # noqa: PTH118


def _trusted(environ: Mapping[str, str]) -> set[int]:
    """Return the users whose files may be run: us, root, and, as git does, who became root by sudo."""
    found = {_ROOT, os.geteuid()}
    sudo = environ.get("SUDO_UID", "")
    if os.geteuid() == _ROOT and sudo.isascii() and sudo.isdecimal():
        found.add(int(sudo))
    return found


def _of_another(path: str, trusted: set[int]) -> str | None:
    """Return what of a path is another user's; None where nothing is."""
    owner = next((uid for uid in _owners(path) if uid not in trusted), None)
    return None if owner is None else f"{path} belongs to {_name(owner)}, not to {_name(os.geteuid())}"


def _movable(path: str, trusted: set[int], name: str) -> str | None:
    """Return who can put another thing in the place of `path`, link by link, as the kernel walks it; None: nobody.

    `name` is what a message calls it.
    """
    if hasattr(sys, "getandroidapilevel"):  # there a program is a user of its own, the system another
        return None
    trusted = trusted | set(_owners(_SYSTEM))
    at, rest, links = "/", path.split("/")[::-1], 0
    try:
        above = os.lstat(at)
        while rest:
            step = rest.pop()
            if step in {"", "."}:
                continue
            if step == "..":
                at = os.path.dirname(at)  # noqa: PTH120
                above = os.lstat(at)
                continue
            if above.st_uid not in trusted:
                return f"{at} above {name} belongs to {_name(above.st_uid)}, not to {_name(os.geteuid())}"
            here = os.path.join(at, step)  # noqa: PTH118
            anybody = above.st_mode & stat.S_IWOTH
            if anybody and not (above.st_mode & stat.S_ISVTX and _kept(here, trusted)):
                return f"{at} above {name} can be written by anybody"
            found = os.lstat(here)
            if not stat.S_ISLNK(found.st_mode):
                at, above = here, found
                continue
            links += 1
            target = os.readlink(here)  # noqa: PTH115
            rest += target.split("/")[::-1] if links <= _LINKS else []
            if target.startswith("/"):
                at, above = "/", os.lstat("/")
    except (OSError, ValueError):  # not there, or hidden from us: then nothing of it is run either
        pass
    return None


def _kept(path: str, trusted: set[int]) -> bool:
    """Return whether nobody else may move what stands in a folder with the sticky bit; where nothing does, so too."""
    try:
        return os.lstat(path).st_uid in trusted
    except FileNotFoundError:
        return True


def _owners(path: str) -> Iterator[int]:
    """Give the owner of what is there, and of the link to it: who has that can turn it elsewhere once we looked."""
    try:
        found = os.lstat(path)
        yield found.st_uid
        if stat.S_ISLNK(found.st_mode):
            yield os.stat(path).st_uid  # noqa: PTH116 - pathlib is slower
    except (OSError, ValueError):  # not there, or hidden from us: then nothing of it is run either
        return


def _base(environ: Mapping[str, str]) -> str | None:
    """Return the folder of this user's own settings.

    A HOME of somebody else, as `su` leaves it, does not speak for us.
    """
    named = environ.get("HOME", "")
    owners = set(_owners(named)) if named.startswith("/") else set()
    if owners and owners <= {_ROOT, os.geteuid()}:
        return named
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:  # a container's user
        return None


def _is_safe(home: str, base: str | None, environ: Mapping[str, str]) -> bool:
    real = os.path.realpath(home)
    named = environ.get(SAFE_VARIABLE, "").split(os.pathsep)
    if base is not None:
        named += _lines(os.path.join(base, SAFE_FILE))  # noqa: PTH118
    written = (text if base is None or not text.startswith("~/") else base + text[1:] for text in named)
    return any(text.startswith("/") and os.path.realpath(text) == real for text in written)


def _lines(path: str) -> list[str]:
    """Return the lines of the file of safe homes; none of one that somebody else may have written."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib is slower
            facts = os.fstat(file.fileno())
            by_group = facts.st_mode & stat.S_IWGRP and facts.st_gid not in {_ROOT, os.getegid()}
            if facts.st_uid not in {_ROOT, os.geteuid()} or facts.st_mode & stat.S_IWOTH or by_group:
                return []
            text = os.fsdecode(file.read(_MAX_BYTES))
    except OSError:
        return []
    return [line for line in text.split("\n") if line and not line.startswith("#")]


def _shown(base: str, environ: Mapping[str, str]) -> str:
    return "~" if base == environ.get("HOME") else base


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def _name(uid: int) -> str:
    """Return `name (id 7)`, or the id alone where the machine knows no name."""
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (id {uid})"
    except KeyError:  # a container's user
        return f"the user with id {uid}"
