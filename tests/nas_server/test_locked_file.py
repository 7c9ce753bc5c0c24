"""A SQLite file that something else holds: no wait without end, readiness follows, and all who wait are told at once."""

from __future__ import annotations

import io
import sqlite3
import threading
import time
from contextlib import closing

import pytest

from chronos_cli.nas_server import pulse
from chronos_cli.nas_server.event_log import EventLog
from chronos_cli.nas_server.timers import sqlite
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.schema import write_meta


@pytest.fixture
def backend(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "WAIT_S", 0.2)
    made = sqlite.SqliteBackend(tmp_path / "timers.sqlite")
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def holder(backend):
    with closing(sqlite3.connect(backend.path, isolation_level=None)) as other:
        yield other


def until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def test_a_file_that_is_held_makes_it_not_ready(backend, holder, monkeypatch):
    """Reading goes on beside a writer that never ends; whoever arms would be refused, so it is not ready."""
    monkeypatch.setattr(pulse, "EVERY_S", 0.01)
    monkeypatch.setattr(pulse, "ALIVE_S", 0.3)
    log = io.StringIO()
    beating = pulse.Pulse(backend.measure, EventLog(log, time.time))
    try:
        until(lambda: beating.missing() is None)
        holder.execute("BEGIN IMMEDIATE")
        until(lambda: beating.missing() == "the timers cannot be reached")
        holder.execute("ROLLBACK")
        until(lambda: beating.missing() is None)
    finally:
        beating.stop()
    assert log.getvalue().count("database is locked") == 1


def test_a_look_writes_nothing(backend, tmp_path):
    """A process that nobody uses wears no disk out."""
    size = (tmp_path / "timers.sqlite-wal").stat().st_size if (tmp_path / "timers.sqlite-wal").exists() else 0
    for _ in range(5):
        assert backend.measure() == 0.0
    assert (tmp_path / "timers.sqlite-wal").stat().st_size == size


def test_all_who_wait_for_a_file_that_is_held_are_told_at_once(backend, holder):
    """One wait for many of them, and nothing of theirs is written later: they were told that it failed."""
    holder.execute("BEGIN IMMEDIATE")
    told = []

    def write(number):
        try:
            backend.write(lambda session: write_meta(session, f"fact-{number}", "x"))
        except RegistryUnavailableError as error:
            told.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(30)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 3
    holder.execute("ROLLBACK")
    backend.measure()
    assert len(told) == 30
    assert backend.read(lambda session: session.all("SELECT count(*) FROM meta WHERE name LIKE 'fact-%'")) == [(0,)]
