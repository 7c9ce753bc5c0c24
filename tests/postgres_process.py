"""A real PostgreSQL for tests: its own folder, a free port, on loopback, as an ordinary user (it refuses root).

with running_postgres() as server:
url = server.new_database()
server.restart()            # at once, as after a crash ("immediate"), on the same port
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import require_module, require_program

if TYPE_CHECKING:
    from collections.abc import Iterator


def find_binaries() -> Path:
    """The folder of PostgreSQL's programs; skips where there is none (Debian keeps them off the PATH)."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    return Path(require_program("postgres")).resolve().parent


class Postgres:
    """One server."""

    def __init__(self, folder: Path, user: str | None) -> None:
        self._bin = find_binaries()
        self._data = folder / "data"
        self._folder = folder
        self._as: dict[str, Any] = (
            {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
        )
        self._databases = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def _run(self, program: str, *arguments: str) -> None:
        with tempfile.TemporaryFile() as said:  # no pipe: the server that pg_ctl leaves would hold it open
            done = subprocess.run(
                [str(self._bin / program), *arguments], check=False, cwd="/", timeout=60, stdout=said, stderr=said,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **self._as,
            )  # fmt: skip
            said.seek(0)
            text = said.read().decode(errors="replace")
        log = self._folder / "log"
        text += log.read_text(errors="replace") if done.returncode and log.exists() else ""
        assert done.returncode == 0, f"{program} failed with exit {done.returncode}: {text[-4000:]}"

    def start(self) -> None:
        """Start it, made first where it is new."""
        if not self._data.exists():
            self._run("initdb", "-D", str(self._data), "-U", "nas", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-h 127.0.0.1 -p {self.port} -k {self._folder} -c shared_buffers=64MB -c max_connections=100"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._data), "-l", log, "-w", "-o", options, "start")

    @property
    def pid(self) -> int:
        """The postmaster's."""
        return int((self._data / "postmaster.pid").read_text(encoding="ascii").split()[0])

    def stop(self, mode: str = "immediate") -> None:
        """Stop it."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def restart(self, mode: str = "immediate") -> None:
        """Stop it, as after a crash unless told otherwise, and start it again."""
        self.stop(mode)
        self.start()

    def new_database(self) -> str:
        """The URL of a fresh, empty database."""
        self._databases += 1
        name = f"nas{self._databases}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "nas", name)
        return f"postgresql://nas@127.0.0.1:{self.port}/{name}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server that runs for the length of the block."""
    require_module("psycopg")
    find_binaries()
    user = "nobody" if os.geteuid() == 0 else None
    # Not in pytest's own folder: that is closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="nas-pg-"))
    try:
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        server = Postgres(folder, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
