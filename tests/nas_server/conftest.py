"""The two places for timers, and a registry on each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.postgres_process import running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chronos_cli.nas_server.timers.interface import Backend
    from tests.postgres_process import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for all tests; each takes its own database."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database: each test that takes it runs on both backends."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'timers.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def backend(database: str, tmp_path: Path) -> Iterator[Backend]:
    """A prepared backend."""
    from chronos_cli.nas_server.home import find_home

    made = find_home(tmp_path, database, {}).backend()
    made.prepare()
    yield made
    made.close()
