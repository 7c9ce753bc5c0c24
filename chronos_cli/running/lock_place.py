"""The folder of a home's run locks: the same for every process of the home, a service or a shell, and its own alone.

It is inside the home (`cron/locks`) where that lies on a local disk. On a network file system locks cannot be trusted,
and a bucket has none: then it is named for the store's id, below the user's own folder as the machine's list of users
has it; no variable has a say. A user without such a folder has one in /tmp, under a name that cannot be guessed without
reading the store.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import ChronosError
from chronos_cli.files import Place, check_private, open_folder
from chronos_cli.running.errors import LockDirError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOCKS: Final = "locks"
STATE: Final = (".local", "state", "chronos")
NETWORK_KINDS: Final = frozenset(
    {"9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs3",
     "nfs4", "orangefs", "smb2", "smb3", "smbfs", "virtiofs", "webdav"}
)  # fmt: skip
"""The file systems, as the kernel calls them, whose locks may not hold between machines, or at all."""
_TEMPORARY: Final = "/tmp"  # noqa: S108 - the last resort, under a name that cannot be guessed, and checked
_NAMES: Final = 3
_MOUNTS: Final = "/proc/self/mountinfo"


class LockPlace:
    """Place of the run locks of one home, for this user.

    `home`: the folder of a local store, None for a bucket's. `store_id` gives the store's id where it is needed.
    `machine_home`: this user's folder by the machine's list of users; None where that names none.
    """

    def __init__(
        self, home: Path | None, store_id: Callable[[], str], *, machine_home: Callable[[], str | None] | None = None
    ) -> None:
        self._home = home
        self._store_id = store_id
        self._machine_home = machine_home or _machine_home
        self._id: str | None = None

    @property
    def home(self) -> Path | None:
        """Return the folder of a local store; None for a bucket's."""
        return self._home

    @property
    def shared(self) -> bool:
        """Return whether the folder is outside the home, named for the store's id."""
        return self._home is None or on_network(self._home)

    def make(self, name: str = LOCKS) -> tuple[int, str]:
        """Make and open the folder; its descriptor and its path, for messages. Raises LockDirError.

        `name`: another private folder beside that of the locks.
        """
        for root, names in self._folders(name):
            try:
                return self._open(root, names, make=True)
            except OSError as error:
                path = os.path.join(root, *names)
                where = error.filename or path
                problem = LockDirError(f"cannot use {where} for run locks: {error.strerror}")
        raise problem

    def find(self, name: str) -> Iterator[Place]:
        """Give each private folder of ours in which a lock of this name may lie."""
        try:
            folders = list(self._folders(LOCKS))
        except ChronosError:
            return  # the store's id cannot be read: what else needs it says so
        for root, names in folders:
            try:
                fd, path = self._open(root, names, make=False)
            except OSError:
                continue  # not made, or not ours: no lock of ours is in there
            with Place(fd, name, os.path.join(path, name)) as place:
                yield place

    def _open(self, root: str, names: tuple[str, ...], *, make: bool) -> tuple[int, str]:
        path = os.path.join(root, *names)
        if make:
            os.close(open_folder(root, *names[:-1], make=True))
        fd = open_folder(root, *names, make=make, give=False)
        try:
            if make or os.fstat(fd).st_mode & 0o077 == 0:
                check_private(fd, path)
            else:
                raise PermissionError(path)
        except BaseException:
            os.close(fd)
            raise
        return fd, path

    def _folders(self, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Return where the folder may be, best first: a folder that is there, and the names below it."""
        if not self.shared:
            yield str(self._home), ("cron", self._own(name))
            return
        if self._id is None:
            self._id = self._store_id()
        if "/" in self._id or self._id in ("", ".", ".."):
            raise LockDirError(f"a store cannot have the id '{self._id}'", hint="put cron/store.json right")
        home = self._machine_home()
        if home is not None and _is_ours(home) and not on_network(Path(home)):
            yield home, (*STATE, self._id, name)
        from hashlib import sha256

        # A folder that another user has taken leads to the next name, which the one before it does not tell.
        for number in range(_NAMES):
            secret = sha256(f"{self._id} {os.geteuid()} {name} {number}".encode()).hexdigest()[:32]
            yield _TEMPORARY, (f"chronos-{secret}",)

    def _own(self, name: str) -> str:
        """Return the folder of root, or of a second user at work in this home, beside its owner's."""
        try:
            owner = os.stat(os.path.join(str(self._home), "cron")).st_uid
        except OSError:
            owner = os.geteuid()
        return name if owner == os.geteuid() else f"{name}-{os.geteuid()}"


def on_network(folder: Path) -> bool:
    """Return whether a folder, or what there is of it, lies on a file system whose locks may not hold.

    False where the machine does not say.
    """
    for place in (folder, *folder.parents):
        try:
            device = os.stat(place).st_dev
        except OSError:
            continue
        if os.major(device):
            return False  # a disk of this machine; what has none of its own says more below
        return _is_network(kind_of(device))
    return False


def kind_of(device: int) -> str:
    """Return the kind of a mounted file system, as the kernel calls it; empty where it does not say (proc(5))."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as table:
            for line in table:
                fields = line.split(" ")
                if len(fields) > 6 and fields[2] == wanted:
                    return fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        return ""  # no such table here, or of another shape
    return ""


def _is_network(kind: str) -> bool:
    return kind in NETWORK_KINDS or kind.startswith(("fuse.", "osxfuse", "macfuse"))


def _machine_home() -> str | None:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:  # a container runs as a user that has no entry
        return None


def _is_ours(folder: str) -> bool:
    try:
        found = os.stat(folder)
    except OSError:
        return False
    return found.st_uid == os.geteuid() and os.access(folder, os.W_OK | os.X_OK) and folder != "/"
