"""Tables of an earlier release are brought up without loss, once, whole or not at all; those of a later one are left."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from chronos_cli.errors import ConfigError
from chronos_cli.nas_server.home import find_home
from chronos_cli.nas_server.timers import schema
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.dead_letters import Operations
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.meta import NasMeta
from chronos_cli.nas_server.timers.registry import TimerRegistry
from chronos_cli.nas_server.timers.schema import STEPS, SchemaStep, write_meta
from chronos_cli.nas_server.timers.sqlite import SqliteBackend
from tests.fixtures.make_nas_dump import NOW, TOKEN
from tests.nas_process import run_nas, running_nas

FIXTURES = Path(__file__).parent.parent / "fixtures"
DUMPS = {int(folder.name.rpartition("-")[2]): folder for folder in FIXTURES.glob("nas-schema-*")}
NEWEST = STEPS[-1].version


def restore(url: str, folder: Path) -> None:
    """Put a dump into an empty database."""
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.executescript((folder / "sqlite.sql").read_text())
        return
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((folder / "postgres.sql").read_text().encode())


@pytest.fixture(params=sorted(DUMPS))
def made(request, database):
    """The URL of a database that a release made, whichever: an earlier one, or one with the tables of today."""
    restore(database, DUMPS[request.param])
    return database


@pytest.fixture(params=sorted(DUMPS.keys() - {NEWEST}))
def old(request, database):
    """The URL of a database that an earlier release made, and the version that its tables bear."""
    restore(database, DUMPS[request.param])
    return database, 0 if request.param == 1 else request.param


def opened(url, tmp_path):
    return find_home(tmp_path, url, {}).backend()


def tables(backend):
    """Every table and its columns, as they are now."""
    listed = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        if isinstance(backend, SqliteBackend)
        else "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )

    def columns(session, table):
        return [one[0] for one in session.connection.execute(f"SELECT * FROM {table} LIMIT 0").description]

    return backend.read(lambda s: {row[0]: columns(s, row[0]) for row in s.all(listed)})


def rows(backend, known):
    """Every row of the tables and columns in `known`, but for the version."""
    where = {"meta": " WHERE name <> 'schema_version'"}

    def read(session):
        return {
            table: sorted(map(repr, session.all(f"SELECT {', '.join(columns)} FROM {table}{where.get(table, '')}")))
            for table, columns in known.items()
        }

    return backend.read(read)


def test_there_is_a_copy_of_todays_tables():
    """The next step is tried on it: whoever appends one finds the tables of the release before, in every state.

    Made by `python tests/fixtures/make_nas_dump.py`, see there, before a step is appended.
    """
    assert {1, NEWEST - 1, NEWEST} <= DUMPS.keys()


def test_the_tables_of_a_release_are_brought_up_without_loss(made, tmp_path):
    """Every row is as it was; agents, timers, what is owed and what was given up go on under the new release."""
    backend = opened(made, tmp_path)
    known = tables(backend)
    before = rows(backend, known)
    assert all(before[table] for table in ("agents", "tokens", "seen", "slots", "timers", "dead", "meta"))
    pending = backend.schema_status().pending
    assert backend.prepare() == [step.does for step in pending]
    assert backend.schema_status().current
    assert backend.prepare() == []
    assert rows(backend, known) == before
    fresh = find_home(tmp_path, f"sqlite:///{tmp_path / 'fresh.sqlite'}", {}).backend()
    fresh.prepare()
    assert {name: sorted(columns) for name, columns in tables(backend).items() if "pgqueuer" not in name} == {
        name: sorted(columns) for name, columns in tables(fresh).items()
    }
    fresh.close()
    clock = lambda: NOW + 1  # noqa: E731
    agent = AgentRegister(backend, clock).authenticate(TOKEN)
    assert (agent.name, agent.max_timers, agent.rate) == ("one", 50, 12.5)
    assert NasMeta(backend, clock).recall("portal_url") == "https://portal.example.com"
    registry = TimerRegistry(backend, lambda: NOW + 100)
    listed = {one.job_id: one.state.value for one in registry.armed(agent, limit=10)}
    assert listed == {"armed": "armed", "far": "armed", "in-flight": "in_flight", "retrying": "armed"}
    taken = registry.claim([(due.schedule_id, due.attempts) for due in registry.due().timers])
    assert {(one.job_id, one.attempt) for one in taken} == {("retrying", 2), ("in-flight", 2), ("armed", 1)}
    assert Operations(backend, clock).dead()[0].job_id == "dead"
    backend.close()


def test_tables_that_bear_no_version_get_what_they_lack(database, tmp_path):
    """A table that came without a version (who was seen) is made where it is missing."""
    restore(database, DUMPS[1])
    backend = opened(database, tmp_path)
    backend.write(lambda s: s.run("DROP TABLE seen"))
    backend.prepare()
    register = AgentRegister(backend, lambda: NOW)
    assert register.authenticate(TOKEN).name == "one"
    assert [one.seen_at for one in register.all()] == [None, NOW, None]
    backend.close()


def test_a_server_starts_on_the_tables_of_an_earlier_release(old, tmp_path):
    """Starting brings them up and says so; the commands tell where they stand before and after."""
    url, version = old
    status = ("db", "status", "--detailed-exitcode", "--db", url)
    behind = run_nas(*status, home=tmp_path)
    assert behind.returncode == 3, behind.stderr
    assert f"version {version} of {NEWEST}: behind" in behind.stdout
    assert STEPS[-1].does in behind.stdout
    with running_nas(tmp_path, "--db", url) as nas:
        assert STEPS[-1].does in nas.wait_for("tables_upgraded")["done"]
        assert nas.call("GET", "/api/agent-cron/list", TOKEN).status == 200
        assert nas.command("db", "status")["current"] is True
        assert nas.command("db", "upgrade")["done"] == []
    assert run_nas(*status, home=tmp_path).returncode == 0


def test_many_processes_that_start_together_upgrade_once(old, tmp_path):
    """The steps are taken under a lock: one takes all of them, the others find nothing to do."""
    (url, version), done = old, []
    threads = [threading.Thread(target=lambda: done.append(opened(url, tmp_path).prepare())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, done))[:5] == [0] * 5
    assert len(max(done, key=len)) == NEWEST - version


def test_a_step_that_fails_leaves_everything_as_it_was(old, tmp_path, monkeypatch):
    """A step half taken would be worse than none: the transaction takes all of them back."""
    broken = SchemaStep(
        version=99, does="fail", statements=("CREATE TABLE half (x BIGINT)", "CREATE TABLE half (x BIGINT)")
    )
    url, version = old
    backend = opened(url, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(schema.advance, "__defaults__", ((*STEPS, broken),))
        with pytest.raises(ConfigError, match="cannot use the"):
            backend.prepare()
    assert backend.schema_status().pending == tuple(step for step in STEPS if step.version > version)
    assert backend.prepare()
    with pytest.raises(Exception, match="half"):
        backend.read(lambda s: s.all("SELECT * FROM half"))
    backend.close()


def test_the_tables_of_a_later_release_are_refused(backend, database, tmp_path):
    """Whoever would write into tables that it does not understand ends with a line that says so, serving or not."""
    backend.write(lambda s: write_meta(s, "schema_version", str(NEWEST + 1)))
    for command in (("agent", "list"), ("db", "status"), ("db", "upgrade"), ("serve", "--port", "0")):
        done = run_nas(*command, "--db", database, home=tmp_path)
        assert done.returncode == 2
        assert "the tables of this database are of version" in done.stderr
        assert "run the newer release" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.service
def test_tables_that_another_process_holds_are_waited_for_a_while(postgres, tmp_path, monkeypatch):
    """Waiting for ever would look like starting: the line says what holds it up, and that it may pass."""
    from chronos_cli.nas_server.timers import postgres as place

    psycopg = pytest.importorskip("psycopg")
    url = postgres.new_database()
    monkeypatch.setattr(place, "_MIGRATION_WAIT_S", 1)
    with psycopg.connect(url) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", (place._INSTALL_LOCK,))
        with pytest.raises(RegistryUnavailableError, match="another process holds the tables: ") as caught:
            opened(url, tmp_path).prepare()
    assert caught.value.exit_code == 75
    assert opened(url, tmp_path).prepare()
