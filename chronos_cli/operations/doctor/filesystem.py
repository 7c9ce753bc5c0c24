"""File system of a path, and whether its locks can be trusted.

On NFS, SMB and most FUSE file systems flock is local to one machine, emulated, or does nothing at all.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import Final

from chronos_cli.frozen import frozen

LINUX_MOUNTS: Final = "/proc/mounts"
_NETWORK: Final = frozenset(
    {"9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs3",
     "nfs4", "orangefs", "smb2", "smb3", "smbfs", "virtiofs", "webdav"}
)  # fmt: skip
_ESCAPE = re.compile(r"\\([0-7]{3})")
_BSD_MOUNT = re.compile(r"(?P<device>.+?) on (?P<point>/.*) \((?P<kind>[^,)]+)")


@frozen
class Mount:
    """Place where a file system is mounted, and its kind as the kernel calls it."""

    point: str
    kind: str

    @property
    def remote(self) -> bool:
        """Return whether its locks may not hold between machines, or at all."""
        return self.kind in _NETWORK or self.kind.startswith(("fuse.", "osxfuse", "macfuse"))


def mount_of(path: str, mounts: str) -> Mount | None:
    """Return the file system a path lies on, from the text of a mount table; None where the table does not say."""
    real = os.path.realpath(path)
    found: Mount | None = None
    for mount in _read(mounts):
        inside = real == mount.point or real.startswith(mount.point.rstrip("/") + "/")
        # Of two mounts on one point the later one is on top.
        if inside and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def mount_table() -> str:
    """Return the machine's mount table: /proc/mounts (proc(5)), or what mount(8) prints.

    Empty where neither can be had.
    """
    try:
        if os.path.exists(LINUX_MOUNTS):  # noqa: PTH110 - plain path
            with open(LINUX_MOUNTS, encoding="utf-8", errors="surrogateescape") as stream:  # noqa: PTH123
                return stream.read()
        return subprocess.run(["mount"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""  # then nothing is known of the file system, and that is what is said


def _read(text: str) -> list[Mount]:
    mounts = []
    for line in text.splitlines():
        match = _BSD_MOUNT.match(line)
        fields = line.split()
        if match is not None:
            mounts.append(Mount(point=match["point"], kind=match["kind"]))
        elif len(fields) >= 3 and fields[1].startswith("/"):
            point = _ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), fields[1])
            mounts.append(Mount(point=point, kind=fields[2]))
    return mounts
