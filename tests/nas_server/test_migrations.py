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
from tests.fixtures.make_nas_dump import NOW, TOKEN
from tests.nas_process import run_nas, running_nas

DUMPS = sorted((Path(__file__).parent.parent / "fixtures").glob("nas-schema-*"))
TABLES = ("meta", "agents", "tokens", "seen", "slots", "timers", "dead")


def restore(url: str, folder: Path) -> None:
    """Put a dump into an empty database."""
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.executescript((folder / "sqlite.sql").read_text())
        return
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((folder / "postgres.sql").read_text().encode())


@pytest.fixture(params=DUMPS, ids=lambda folder: folder.name)
def old(request, database):
    """The URL of a database that an earlier release made."""
    restore(database, request.param)
    return database


def opened(url, tmp_path):
    return find_home(tmp_path, url, {}).backend()


def rows(backend, tables=TABLES):
    """Every row, as far as the first release knew its columns."""
    columns = {
        "meta": "name, value",
        "timers": "schedule_id, agent_id, job_id, fire_at, fire_text, callback_url, host, armed_at, due_at, attempts,"
        " first_attempt_at, in_flight, current, last_error",
        "slots": "agent_id, job_id, generation, done_fire_at, done_schedule_id, done_at",
    }
    return {
        table: sorted(
            map(repr, backend.read(lambda s, table=table: s.all(f"SELECT {columns.get(table, '*')} FROM {table}")))
        )
        for table in tables
    }


def test_the_tables_of_an_earlier_release_are_brought_up_without_loss(old, tmp_path):
    """Every row is as it was; agents, timers, what is owed and what was given up go on under the new release."""
    backend = opened(old, tmp_path)
    before = rows(backend)
    assert backend.schema_status().pending
    assert backend.prepare()
    assert backend.schema_status().current
    assert backend.prepare() == []
    after = rows(backend)
    added = set(after.pop("meta")) - set(before.pop("meta"))
    assert len(added) == 1
    assert after == before
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


def test_tables_that_bear_no_version_get_what_they_lack(old, tmp_path):
    """A table that came without a version (who was seen) is made where it is missing."""
    backend = opened(old, tmp_path)
    backend.write(lambda s: s.run("DROP TABLE seen"))
    backend.prepare()
    register = AgentRegister(backend, lambda: NOW)
    assert register.authenticate(TOKEN).name == "one"
    assert [one.seen_at for one in register.all()] == [None, NOW, None]
    backend.close()


def test_a_server_starts_on_the_tables_of_an_earlier_release(old, tmp_path):
    """Starting brings them up and says so; the commands tell where they stand before and after."""
    status = ("db", "status", "--detailed-exitcode", "--db", old)
    behind = run_nas(*status, home=tmp_path)
    assert behind.returncode == 3, behind.stderr
    assert f"version 0 of {STEPS[-1].version}: behind" in behind.stdout
    assert STEPS[-1].does in behind.stdout
    with running_nas(tmp_path, "--db", old) as nas:
        assert STEPS[-1].does in nas.wait_for("tables_upgraded")["done"]
        assert nas.call("GET", "/api/agent-cron/list", TOKEN).status == 200
        assert nas.command("db", "status")["current"] is True
        assert nas.command("db", "upgrade")["done"] == []
    assert run_nas(*status, home=tmp_path).returncode == 0


def test_many_processes_that_start_together_upgrade_once(old, tmp_path):
    """The steps are taken under a lock: one takes all of them, the others find nothing to do."""
    done = []
    threads = [threading.Thread(target=lambda: done.append(opened(old, tmp_path).prepare())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, done))[:5] == [0] * 5
    assert len(max(done, key=len)) >= len(STEPS)


def test_a_step_that_fails_leaves_everything_as_it_was(old, tmp_path, monkeypatch):
    """A step half taken would be worse than none: the transaction takes all of them back."""
    broken = SchemaStep(
        version=99, does="fail", statements=("CREATE TABLE half (x BIGINT)", "CREATE TABLE half (x BIGINT)")
    )
    backend = opened(old, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(schema.advance, "__defaults__", ((*STEPS, broken),))
        with pytest.raises(ConfigError, match="cannot use the"):
            backend.prepare()
    assert backend.schema_status().pending == STEPS
    assert backend.prepare()
    with pytest.raises(Exception, match="half"):
        backend.read(lambda s: s.all("SELECT * FROM half"))
    backend.close()


def test_the_tables_of_a_later_release_are_refused(backend, database, tmp_path):
    """Whoever would write into tables that it does not understand ends with a line that says so, serving or not."""
    backend.write(lambda s: write_meta(s, "schema_version", str(STEPS[-1].version + 1)))
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
