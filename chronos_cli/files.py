"""Files and folders that nobody else on the machine can stand in the way of.

A path is walked by descriptors, so what was looked at is what is used. Below the folder that the operator named, a link
counts only if it is ours, root's, or leads into a folder of its own owner: else root, at work in a user's home, would
write wherever that user likes. Modes are set on the open descriptor, so that no umask has a say in them.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700

_STREAMS: Final = frozenset({"/dev", "/dev/fd", "/proc/self/fd"})
"""Folders of root's alone, whose names are streams: `/dev/stdout` is written, and no file takes its place."""
_READABLE: Final = 0o444
_FRESH: Final = PRIVATE_FOLDER | stat.S_ISVTX
"""The mode of a folder whose name may not be durable yet: whoever means to write there makes it so first."""
_LINKS: Final = 16
_WALK: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_AS_LINK: Final = getattr(os, "O_PATH", getattr(os, "O_SYMLINK", 0)) | os.O_NOFOLLOW | os.O_CLOEXEC


class Place:
    """A name in an open folder; `path` is for messages alone. Close it, or use it as a context."""

    def __init__(self, folder: int, name: str, path: str) -> None:
        self.folder = folder
        self.name = name
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder."""
        if self.folder >= 0:
            os.close(self.folder)
            self.folder = -1

    def open(self, flags: int, mode: int = PRIVATE_FILE) -> int:
        """Open the file, never through a link. `mode` is that of a new file. Raises OSError."""
        try:
            return os.open(self.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.folder)
        except OSError as error:
            error.filename = self.path
            raise

    def stat(self) -> os.stat_result:
        """Return the stat of what has the name, a link itself. Raises OSError."""
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)

    def exists(self) -> bool:
        """Return whether anything has the name."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def sibling(self, name: str) -> Place:
        """Return another name in the same folder; it shares the descriptor and is not closed."""
        return Place(self.folder, name, os.path.join(os.path.dirname(self.path), name))


def open_folder(root: str | os.PathLike[str], *names: str, make: bool = False, give: bool = True) -> int:
    """Open the folder `names` below `root`, one component after the other, and return a descriptor to walk on from.

    `root` is the operator's and taken as it is. With `make`, what is missing is made: private, durable, and, when root
    makes it and `give` is true, for the owner of the folder it lies in. Raises OSError; a link that does not count is
    ELOOP.
    """
    path = os.fspath(root)
    missing = []
    while True:
        try:
            fd = os.open(path or ".", _WALK)
            break
        except FileNotFoundError:
            above, name = os.path.split(path.rstrip("/"))
            if not make or not name or os.path.islink(path):  # a folder may have come meanwhile
                raise
            missing.append(name)
            path = above
    for name in (*reversed(missing), *names):
        path = os.path.join(path, name)
        try:
            below = _enter(fd, name, path, make=make, give=give)
        finally:
            os.close(fd)
        fd = below
    return fd


def place_of(root: str | os.PathLike[str], key: str, *, make: bool = False) -> Place:
    """Return the place of the file `key`, a relative path, below `root`; a link that counts is followed to its end.

    Raises OSError (FileNotFoundError where its folder is missing), and ValueError for a key that leads out.
    """
    names = key.split("/")
    if any(name in {"", ".", ".."} or "\0" in name for name in names):
        raise ValueError(f"not a name inside the home: {key!r}")
    folder = open_folder(root, *names[:-1], make=make)
    name, path = names[-1], os.path.join(os.fspath(root), key)
    try:
        for _ in range(_LINKS):
            beyond = _beyond(folder, name, path, make=make)
            if beyond is None:
                return Place(folder, name, path)
            os.close(folder)
            folder, name, suspect = beyond
            if suspect is not None:
                raise _not_followed(suspect, path)
    except BaseException:
        os.close(folder)
        raise
    os.close(folder)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def leads_nowhere(root: str | os.PathLike[str], key: str) -> bool:
    """Return whether a link on the way to `key` leads to nothing: its target may be on a volume not mounted now."""
    top = os.fspath(root)
    place = os.path.join(top, key)
    while len(place) >= len(top) and place not in {"", "/"}:
        if os.path.islink(place) and not os.path.exists(place):
            return True
        place = os.path.dirname(place)
    return False


def place_at(path: str | os.PathLike[str], *, make: bool = False) -> Place:
    """Return the place of a file that the operator names by its whole path: its folder is taken as it is.

    Raises OSError; a link that does not count is ELOOP.
    """
    folder, name = os.path.split(os.fspath(path))
    if name in {"", ".", ".."}:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    return place_of(folder or ".", name, make=make)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and what is missing above it, private and durable. Raises OSError."""
    os.close(open_folder(path, make=True))


def check_private(fd: int, path: str) -> None:
    """See that an open folder is ours and closed to others, closing it where it is only too open. Raises OSError."""
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        raise OSError(errno.EPERM, f"it belongs to user {found.st_uid}, not to {os.geteuid()}", path)
    if found.st_mode & 0o077:
        opened = os.open(".", _READ, dir_fd=fd)
        try:
            os.fchmod(opened, PRIVATE_FOLDER)
        finally:
            os.close(opened)


def sync_folder(fd: int) -> None:
    """Make the names in an open folder durable. Raises OSError."""
    opened = os.open(".", _READ, dir_fd=fd)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read_file(path: str | os.PathLike[str], *, most: int) -> bytes:
    """Return a file's bytes: of a regular one, so that no pipe or device in its place keeps anybody waiting.

    Raises OSError: EINVAL where it is none, EFBIG where it is larger than `most` bytes.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
        data = b""
        while len(data) <= most and (more := os.read(fd, most + 1 - len(data))):
            data += more
    finally:
        os.close(fd)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes", os.fspath(path))
    return data


def write_file(place: Place, data: bytes, *, mode: int = PRIVATE_FILE, durable: bool = False) -> None:
    """Write a file whole or not at all: a temporary one beside it takes its name. Raises OSError.

    It gets `mode` whatever the umask says, and, when root writes it, the owner of its folder.
    """
    with temporary(place, mode=mode) as (fd, beside):
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if durable:
            os.fsync(fd)
        os.replace(beside.name, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
    if durable:
        sync_folder(place.folder)


def write_output(path: str | os.PathLike[str], data: bytes, *, shared: bool = False) -> None:
    """Write what the operator asked to have in a file: whole or not at all, unless it is a stream. Raises OSError.

    It is private; with `shared`, others can read a file that is there as they could before.
    """
    with ExitStack() as stack:
        if os.path.dirname(path) not in _STREAMS:
            place = stack.enter_context(place_at(path))
            found = place.stat().st_mode if place.exists() else stat.S_IFREG
            if stat.S_ISREG(found) or stat.S_ISDIR(found):
                write_file(place, data, mode=PRIVATE_FILE | (found & _READABLE if shared else 0))
                return
        with os.fdopen(open_named(path, os.O_WRONLY), "wb") as stream:
            stream.write(data)


def open_named(path: str | os.PathLike[str], flags: int, *, make: bool = False) -> int:
    """Open a file that the operator names, making it private, and with `make` its folders. Raises OSError.

    Not one that somebody else has put there, in a folder where anybody may.
    """
    if os.path.dirname(path) in _STREAMS:
        return os.open(path, flags | os.O_CLOEXEC)
    with place_at(path, make=make) as place:
        try:
            fd = place.open(flags | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            fd = place.open(flags)
            owner = os.fstat(fd).st_uid
            if os.fstat(place.folder).st_mode & stat.S_IWOTH and owner not in (0, os.geteuid()):
                os.close(fd)
                raise PermissionError(errno.EPERM, f"it belongs to user {owner}", place.path) from None
        else:
            give_to_folder(fd, place.folder)
            os.fchmod(fd, PRIVATE_FILE)
        return fd


@contextmanager
def temporary(place: Place, *, mode: int) -> Iterator[tuple[int, Place]]:
    """Give a new file beside `place`, open for writing; it is removed unless it has taken another name by the end."""
    beside = place.sibling(f".{place.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    fd = beside.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        give_to_folder(fd, place.folder)
        os.fchmod(fd, mode)
        yield fd, beside
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside.name, dir_fd=place.folder)
        raise
    finally:
        os.close(fd)


def give_to_folder(fd: int, folder: int) -> None:
    """Give what root has just made to the owner of the folder that it lies in: root must not lock the owner out."""
    if os.geteuid() == 0:
        owner = os.fstat(folder)
        if (owner.st_uid, owner.st_gid) != (0, os.getegid()):
            os.fchown(fd, owner.st_uid, owner.st_gid)


def _enter(fd: int, name: str, path: str, *, make: bool, give: bool) -> int:
    at = fd
    opened: list[int] = []
    suspects: list[int] = []
    try:
        for _ in range(_LINKS):
            try:
                found = os.open(name, _WALK | os.O_NOFOLLOW, dir_fd=at)
            except FileNotFoundError:
                if not make or at != fd:  # a link that leads nowhere: its volume may not be mounted now
                    raise
                _make(fd, name, give=give)
            except OSError as error:
                beyond = _beyond(at, name, path) if error.errno in (errno.ELOOP, errno.ENOTDIR) else None
                if beyond is None:
                    raise
                at, name, suspect = beyond
                opened.append(at)
                suspects += [] if suspect is None else [suspect]
            else:
                owner = os.fstat(found).st_uid if suspects else None
                if all(uid == owner for uid in suspects):
                    return _made_durable(found, at) if make else found
                os.close(found)
                raise _not_followed(suspects[-1], path)
    except OSError as error:
        error.filename = path
        raise
    finally:
        for one in opened:
            os.close(one)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _make(fd: int, name: str, *, give: bool) -> None:
    """Make one folder. What stands there once it is opened is given away only if it is the empty one just made."""
    with suppress(FileExistsError):  # another process was faster; that it is a folder shows when it is entered
        os.mkdir(name, _FRESH, dir_fd=fd)
        made = os.open(name, _READ, dir_fd=fd)
        try:
            if os.fstat(made).st_uid == os.geteuid() and not os.listdir(made):
                if give:
                    give_to_folder(made, fd)
                os.fchmod(made, _FRESH)
        finally:
            os.close(made)


def _made_durable(found: int, fd: int) -> int:
    """Return a folder found in `fd`, its name durable: whoever has just made it may not have come to that.

    Where that fails, the folder is closed. Raises OSError.
    """
    try:
        status = os.fstat(found)
        if stat.S_IMODE(status.st_mode) == _FRESH and os.geteuid() in (0, status.st_uid):
            sync_folder(fd)
            opened = os.open(".", _READ, dir_fd=found)
            try:
                os.fchmod(opened, PRIVATE_FOLDER)
            finally:
                os.close(opened)
    except OSError:
        os.close(found)
        raise
    return found


def _not_followed(uid: int, path: str) -> OSError:
    return OSError(errno.ELOOP, f"a link of user {uid} is not followed", path)


def _beyond(fd: int, name: str, path: str, *, make: bool = False) -> tuple[int, str, int | None] | None:
    """Follow one link: the folder and the name that it leads to; None where the name is no link. Raises OSError.

    The third value is the link's owner where what it leads to must prove to be that user's own.
    """
    try:
        link = os.open(name, _AS_LINK, dir_fd=fd)
    except FileNotFoundError:
        return None
    except OSError:
        if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            raise
        return None  # nothing that can be opened like this, and no link
    try:
        found = os.fstat(link)
        if not stat.S_ISLNK(found.st_mode):
            return None
        target = os.readlink("", dir_fd=link) if hasattr(os, "O_PATH") else os.readlink(name, dir_fd=fd)
    finally:
        os.close(link)
    above, last = os.path.split(target.rstrip("/") or "/")
    if last in {"", ".", ".."}:
        above, last = target, "."
    if make and above and found.st_uid in (0, os.geteuid()):
        os.close(open_folder(os.path.join(os.path.dirname(path), above), make=True))
    folder = os.open(above or ".", _WALK, dir_fd=fd)
    trusted = found.st_uid in (0, os.geteuid(), os.fstat(folder).st_uid)
    return folder, last, None if trusted else found.st_uid
