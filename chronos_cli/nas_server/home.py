"""The home of a NAS: one folder with the database and the keys.

`--home`, else `$CHRONOS_NAS_HOME`, else `~/.chronos-nas`; the database elsewhere with `--db`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chronos_cli.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.nas_server.keys import KeyRing
    from chronos_cli.nas_server.timers.interface import Backend

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8787

KEY_VARIABLE = "CHRONOS_NAS_SIGNING_KEY"
KEY_FILE_VARIABLE = "CHRONOS_NAS_SIGNING_KEY_FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class NasHome:
    """The folder, and the database's URL (`sqlite:///PATH` or `postgresql://...`)."""

    folder: Path
    database: str

    @property
    def postgres(self) -> bool:
        """Return whether timers are kept in PostgreSQL."""
        return not self.database.startswith("sqlite:")

    @property
    def sqlite_path(self) -> Path:
        """Return the SQLite file."""
        return Path(self.database.removeprefix("sqlite:///"))

    def backend(self, *, serving: bool = False) -> Backend:
        """Return the place for timers, not prepared yet.

        `serving`: for a process whose callers wait for their answers.
        """
        if self.postgres:
            from chronos_cli.nas_server.timers.postgres import PostgresBackend
            from chronos_cli.nas_server.timers.postgres_pool import COMMAND_DEADLINE_S, DEADLINE_S

            return PostgresBackend(self.database, deadline_s=DEADLINE_S if serving else COMMAND_DEADLINE_S)
        from chronos_cli.nas_server.timers.sqlite import SqliteBackend

        return SqliteBackend(self.sqlite_path)

    def key_ring(self, clock: Callable[[], float], environ: Mapping[str, str]) -> KeyRing:
        """Return the signing keys: the one given by variable or file, else those in the folder. Raises ConfigError."""
        from chronos_cli.nas_server.keys import KeyRing

        pem = environ.get(KEY_VARIABLE)
        if pem is None and (path := environ.get(KEY_FILE_VARIABLE)):
            try:
                pem = Path(path).read_text(encoding="ascii")
            except (OSError, ValueError) as error:
                hint = f"name its PEM file with {KEY_FILE_VARIABLE}"
                raise ConfigError(f"cannot read the key {path}: {error}", hint=hint) from error
        return KeyRing(self.folder / "keys", clock, pem=pem)


def find_home(folder: Path | None, database: str | None, environ: Mapping[str, str] = os.environ) -> NasHome:
    """Return the home that flags and environment name. Raises UsageError for a database URL that is none."""
    chosen = folder or Path(environ.get("CHRONOS_NAS_HOME") or Path.home() / ".chronos-nas")
    chosen = chosen.expanduser().absolute()
    url = database or environ.get("CHRONOS_NAS_DB") or f"sqlite:///{chosen / 'nas.sqlite'}"
    if url.startswith(("postgresql://", "postgres://")):
        return NasHome(folder=chosen, database=url)
    if not url.startswith("sqlite:///") or url == "sqlite:///":
        raise UsageError("--db must be sqlite:///PATH or postgresql://...", hint="an absolute path has four slashes")
    return NasHome(folder=chosen, database=f"sqlite:///{Path(url.removeprefix('sqlite:///')).expanduser().absolute()}")
