"""Running programs as a user without rights, which is what most promises about neighbours are about.

with unprivileged() as user:
    user.run([user.python, "-c", "..."], CHRONOS_HOME=str(user.home))
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
UID = 65_533
"""A number that nobody has; where the tests run as an ordinary user, that one's own is taken."""


class User:
    """Whoever runs the tests, or a user without rights if that is root. `home`: a folder of its own, mode 0700."""

    def __init__(self, home: Path, python: str) -> None:
        self.home = home
        self.python = python
        self._as: dict[str, Any] = {} if os.geteuid() else {"user": UID, "group": UID, "extra_groups": []}
        if not os.geteuid():
            os.chown(home, UID, UID)

    def environment(self, **more: str) -> dict[str, str]:
        """An environment of its own, in which this package and what it needs can be imported."""
        path = os.pathsep.join(_imported())
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "TZ": "UTC", "PYTHONPATH": path, **more}

    def start(self, argv: list[str], **more: str) -> subprocess.Popen[str]:
        """Start a program as this user."""
        pipe = subprocess.PIPE
        env = self.environment(**more)
        return subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=self.home, env=env, **self._as
        )

    def run(self, argv: list[str], *, stdin: str = "", timeout: float = 60, **more: str) -> tuple[int, str, str]:
        """Run a program as this user; its exit code and what it said."""
        process = self.start(argv, **more)
        out, err = process.communicate(stdin, timeout)
        return process.returncode, out, err


@contextmanager
def unprivileged() -> Iterator[User]:
    """A user without rights; the test is skipped where such a user may run no Python, or not read what it imports."""
    home = Path(tempfile.mkdtemp(prefix="unprivileged-", dir="/tmp"))
    try:
        home.chmod(0o700)
        yield User(home, _python())
    finally:
        shutil.rmtree(home)


def _imported() -> list[str]:
    """Where this package and what it needs are imported from."""
    return [str(ROOT), *(entry for entry in sys.path if "site-packages" in entry)]


def _python() -> str:
    """This Python, or the system's of the same version where this one lies in a folder that is closed to others."""
    for folder in () if os.geteuid() else _imported():
        if not _open_to_all(Path(folder).resolve()):
            pytest.skip(f"{folder} is closed to a user without rights")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for found in (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin:/bin")):
        if found and (os.geteuid() or _open_to_all(Path(found).resolve())):
            return found
    pytest.skip(f"no {version} that a user without rights may run")


def _open_to_all(path: Path) -> bool:
    return all(part.stat().st_mode & 0o005 == 0o005 for part in (path, *path.parents))
