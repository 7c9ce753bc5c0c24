"""Stamps of files, which tell whether what a process has loaded is still what lies on the disk."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    Stamp = tuple[int, int, int] | None


class FileWatch:
    """The stamps of some paths as they were at one moment; `changed` compares them with the present ones."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._seen = {path: stamp_of(path) for path in paths}

    @classmethod
    def of_package(cls, folder: str) -> FileWatch:
        """Return a watch of all source files below a folder, to be made before they are imported."""
        return cls(
            os.path.join(place, name)
            for place, _, names in os.walk(folder)
            for name in names
            if name.endswith((".py", ".so"))
        )

    def only(self, paths: Iterable[str]) -> FileWatch:
        """Return the same of some of these paths, with those of others as they are now."""
        found = FileWatch(())
        found._seen = {path: self._seen[path] if path in self._seen else stamp_of(path) for path in paths}
        return found

    @property
    def changed(self) -> bool:
        """Return whether one of them is another file by now, is gone, or has come."""
        return any(stamp_of(path) != seen for path, seen in self._seen.items())


def stamp_of(path: str) -> Stamp:
    """Return when a file was last written, its size and its number; None where there is none to be seen."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def places_of_code() -> list[str]:
    """Return the files of this package that this process has loaded, and the folders of installed distributions."""
    package = __name__.partition(".")[0]
    loaded = [
        module.__file__
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == package and getattr(module, "__file__", None)
    ]
    return [*filter(None, loaded), *sys.path, sys.executable]


def places_of_zones() -> list[str]:
    """Return what changes with the rules of time zones: the database's folders and lists, this machine's own zone."""
    from zoneinfo import TZPATH

    names = ("", "tzdata.zi", "zone.tab", "+VERSION", "version")
    packaged = [os.path.join(folder, "tzdata", "zoneinfo", "tzdata.zi") for folder in sys.path]
    return [os.path.join(folder, name) for folder in TZPATH for name in names] + packaged + ["/etc/localtime"]
