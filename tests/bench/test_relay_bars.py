"""The bars of the relay, beside its peers in one run: `pytest -n 0 -s -m bench tests/bench/test_relay_bars.py`.

On a machine that is otherwise quiet: the callback, the database and whoever relays share its cores.
"""

from __future__ import annotations

import json

import pytest

from tests.nas_process import running_nas
from tests.postgres_process import running_postgres

pytest.importorskip("psycopg", reason="psycopg is not installed")
from tests.bench import nas_arms, nas_load, relays


@pytest.fixture(scope="module")
def server():
    with running_postgres() as running:
        yield running


@pytest.fixture(scope="module")
def measured(server, tmp_path_factory):
    """Each scene's figures, measured once, when first asked for; a peer that is missing skips."""
    known = {}

    def measure(name):
        if (reason := relays.missing(name)) is not None:
            pytest.skip(reason)
        if name not in known:
            known[name] = relays.measure(name, server.new_database(), tmp_path_factory.mktemp("relays"), 5_000)
            print(name, json.dumps(known[name]))
        return known[name]

    return measure


@pytest.mark.bench
@pytest.mark.parametrize("name", ["chronos", "SQLite", "three"])
def test_nothing_is_lost_and_nothing_comes_twice(measured, name):
    """5,000 due in one second, on either store, and with three processes on one database."""
    assert (measured(name)["lost"], measured(name)["twice"]) == (0, 0)


@pytest.mark.bench
def test_a_relay_costs_at_most_1_9_of_bare_pgqueuers(measured):
    """Processor time of worker and database, our signature included."""
    assert measured("chronos")["cpu_us"] <= 1.9 * measured("PgQueuer")["cpu_us"]


@pytest.mark.bench
def test_a_herd_is_at_most_twice_as_late_as_graphile_workers(measured):
    """The p99 of 5,000 due in one second."""
    assert measured("chronos")["p99_s"] <= 2 * measured("graphile-worker")["p99_s"]


@pytest.mark.bench
@pytest.mark.parametrize("name", ["pg-boss", "BullMQ"])
def test_the_others_are_measured_too(measured, name):
    """Their figures stand beside ours; no bar goes by them."""
    assert measured(name)["lost"] == 0


@pytest.mark.bench
def test_slow_callbacks_are_called_side_by_side(measured):
    """2,000 due whose callback takes 200 ms: all have come within 2 s."""
    assert measured("slow")["last_s"] <= 2.0


@pytest.mark.bench
def test_sqlite_is_no_slower_than_it_was(measured):
    """5,000 due in one second: all have come within 2.5 s."""
    assert measured("SQLite")["last_s"] <= 2.5


@pytest.mark.bench
def test_what_an_arm_costs(server, tmp_path):
    """A plain arm at most 600 us of processor time, one that came in an answer at most 100 us more than its settle."""
    found = nas_arms.measure(server.new_database(), tmp_path, 4_000)
    print(json.dumps(found))
    assert found["arm_in_groups_of_8_us"] <= 600
    assert found["arm_in_an_answer_us"] <= 100


@pytest.mark.bench
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_a_lone_timer_is_in_time(server, tmp_path, store):
    """One timer a second: p95 of the lateness at most 10 ms."""
    flags = ("--db", server.new_database()) if store == "postgres" else ()
    with running_nas(tmp_path, *flags) as nas:
        found = nas_load.idle(nas, count=20)
    print(store, json.dumps(found))
    assert found["p95_ms"] <= 10
