"""Output of a job, in a file that never grows past its limit: the beginning stays, the end stays, the middle goes.

It is written as it comes, so it can be followed. When the file is full, the older half of what comes after the head is
cut out and a line says how much is missing; a reader that follows it sees the file become shorter, as with any rotated
log.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from chronos_cli.files import PRIVATE_FILE, Place, give_to_folder, open_folder

if TYPE_CHECKING:
    from pathlib import Path

MIN_LIMIT_BYTES: Final = 4096
_BLOCK: Final = 64 * 1024
_MARK_BYTES: Final = 64


class BoundedOutput:
    """An output file of at most `limit_bytes` (at least 4096). Raises OSError where it cannot be written."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.limit = max(MIN_LIMIT_BYTES, limit_bytes)
        self.head = self.limit // 2
        self.total = 0
        self._elided = 0
        with Place(open_folder(path.parent, make=True), path.name, str(path)) as place:
            self._fd = place.open(os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.fchmod(self._fd, PRIVATE_FILE)
            give_to_folder(self._fd, place.folder)
        self._end = 0

    def write(self, data: bytes) -> None:
        """Take bytes in; afterwards they, or the mark that stands for them, are in the file."""
        self.total += len(data)
        view = memoryview(data)
        while view:
            room = self.limit - self._end
            if room <= 0:
                self._elide()
                continue
            written = os.pwrite(self._fd, view[:room], self._end)
            self._end += written
            view = view[written:]

    def tail(self, size: int) -> bytes:
        """Return the last `size` bytes of the file."""
        start = max(0, self._end - size)
        return os.pread(self._fd, self._end - start, start)

    def close(self) -> None:
        """Close the file; writing is over."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _elide(self) -> None:
        """Make room: keep the head and the newer half of the rest, with the mark between them."""
        oldest = self.head + (_MARK_BYTES if self._elided else 0)
        kept_from = oldest + (self._end - oldest) // 2
        self._elided += kept_from - oldest
        text = f"\n[... {self._elided} bytes left out ...]"
        os.pwrite(self._fd, text.encode().ljust(_MARK_BYTES - 1) + b"\n", self.head)
        to = self.head + _MARK_BYTES
        while kept_from < self._end:  # towards the front, so nothing is overwritten before it was read
            block = os.pread(self._fd, min(_BLOCK, self._end - kept_from), kept_from)
            to += os.pwrite(self._fd, block, to)
            kept_from += len(block)
        os.ftruncate(self._fd, to)
        self._end = to
