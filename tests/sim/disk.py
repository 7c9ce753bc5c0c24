"""The disk of a simulated home: a power cut takes any subset of what was not synced, and any document may rot.

What a cut leaves of a file and of a folder is told by the recorder of `tests/power`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.memory_store import MemoryStore
from tests.power.recorded import File, Folder

if TYPE_CHECKING:
    from random import Random

    from chronos_cli.store.interface import Document

WAYS = ("nothing", "names", "zeros", "all")
"""What a cut may keep beside a subset drawn at random: see `tests/power`."""

GARBAGE = (b"", b"\0" * 64, b"{", b"[]", b"null", b'"text"', b"\xff\xfe garbage", b"[" * 4_000, b"9" * 5_000)


class Disk(MemoryStore):
    """Documents whose every write is noted, with what of it is durable."""

    def __init__(self) -> None:
        super().__init__()
        self._at = 0
        self._files: dict[int, File] = {}
        self._folders: dict[str, Folder] = {}

    def create(self, key: str, data: bytes, *, durable: bool = True) -> str:
        version = super().create(key, data)
        self._noted(key, data, durable=durable)
        return version

    def replace(self, key: str, data: bytes, version: str, *, durable: bool = True) -> str:
        version = super().replace(key, data, version)
        self._noted(key, data, durable=durable)
        return version

    def delete(self, key: str, *, durable: bool = True) -> None:
        if key in self._documents:
            super().delete(key)
            self._noted(key, None, durable=durable)

    def _noted(self, key: str, data: bytes | None, *, durable: bool) -> None:
        self._at += 1
        folder, _, name = key.rpartition("/")
        if data is not None:
            self._files[self._at] = File(made=self._at, states=[(self._at, data)], synced=[self._at] if durable else [])
        changed = self._folders.setdefault(folder, Folder())
        changed.changes.append((self._at, {name: None if data is None else self._at}))
        if durable:
            changed.synced.append(self._at)

    def cut(self, rng: Random) -> dict[str, tuple[bytes | None, bytes | None]]:
        """Cut the power: what became of each document that is another now, or gone, or back, as bytes before and after."""
        keep = rng if rng.random() < 0.7 else rng.choice(WAYS)
        left: dict[str, bytes] = {}
        for folder, changed in self._folders.items():
            for name, number in changed.after(self._at, keep).items():
                left[f"{folder}/{name}" if folder else name] = self._files[number].after(self._at, keep)
        before = {key: document.data for key, document in self._documents.items()}
        self._documents.clear()
        self._files.clear()
        self._folders.clear()
        for key, data in left.items():
            super().create(key, data)
            self._noted(key, data, durable=True)
        keys = [*before, *(key for key in left if key not in before)]
        return {key: (before.get(key), left.get(key)) for key in keys if before.get(key) != left.get(key)}

    def rot(self, key: str, data: bytes) -> None:
        """Have other bytes stand there, as after a bad sector or a clumsy hand."""
        found: Document | None = self.read(key)
        assert found is not None
        self.replace(key, data, found.version)
