"""A store that does not answer, and says nothing of it: every wait ends, readiness follows, and nothing due is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.nas_server.home import find_home
from chronos_cli.nas_server.timers.group_commit import GroupCommit
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.meta import NasMeta
from chronos_cli.nas_server.timers.postgres import PostgresBackend
from tests.conftest import require_module
from tests.nas_process import Callback, run_nas, running_nas
from tests.ports import free_port
from tests.silent_proxy import SilentProxy

pytestmark = pytest.mark.service


def ready(nas) -> bool:
    began = time.monotonic()
    status = nas.call("GET", "/readyz").status
    assert time.monotonic() - began < 3, "a probe waited for the store"
    return status == 200


def until(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


@contextmanager
def stopped(postgres):
    """The server and all its children answer nothing, as a machine that hangs; the kernel still acknowledges."""
    parent = postgres.pid
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False).stdout
    pids = [parent, *map(int, found.split())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("how", ["proxy", pytest.param("stop", marks=pytest.mark.soak)])
def test_a_store_that_goes_silent_makes_it_not_ready_and_loses_nothing(postgres, tmp_path, how):
    """Not ready within 10 s, no request hangs, and all that fell due is delivered within 20 s of a working line."""
    url = postgres.new_database()
    with (
        SilentProxy(postgres.port) as proxy,
        Callback() as callback,
        running_nas(tmp_path, "--db", url.replace(str(postgres.port), str(proxy.port))) as nas,
    ):
        agent = nas.add_agent("a")
        base = datetime.now(UTC).replace(microsecond=0)
        for number in range(12):
            nas.provision(agent, f"job-{number}", base + timedelta(seconds=1 + number), callback.url)
        until(lambda: ready(nas), 10)
        callback.wait(2)
        asked = []

        def ask() -> None:
            began = time.monotonic()
            asked.append((nas.provision(agent, "more", base + timedelta(days=1), callback.url).status, began))
            asked.append((0, time.monotonic()))

        asking = threading.Thread(target=ask)
        if how == "proxy":
            proxy.silence()
            asking.start()
            until(lambda: not ready(nas), 10)
            asking.join(15)
            proxy.heal()
        else:
            with stopped(postgres):
                asking.start()
                until(lambda: not ready(nas), 10)
                asking.join(15)
        assert asked[0][0] == 503
        assert asked[1][1] - asked[0][1] < 12
        callback.wait(12, timeout=20)
        assert {fire.body["job_id"] for fire in callback.fires} == {f"job-{number}" for number in range(12)}
        until(lambda: ready(nas), 10)


def test_a_database_that_is_starting_is_waited_for(postgres, tmp_path):
    """A NAS that starts before its database comes up with it, and one that meets none ends with 75, never 2."""
    url = postgres.new_database()
    port = free_port()
    gone = run_nas("agent", "list", "--db", url.replace(str(postgres.port), str(port)), home=tmp_path)
    assert gone.returncode == 75, gone.stderr
    starting = threading.Timer(2.0, postgres.start)
    postgres.stop("fast")
    starting.start()
    try:
        with running_nas(tmp_path, "--db", url) as nas:
            until(lambda: ready(nas), 10)
    finally:
        starting.join()


@pytest.mark.parametrize("name", ["nobody-made-this", "nas1?sslmode=nonsense"])
def test_a_database_that_can_never_be_used_is_refused_at_once(postgres, tmp_path, name):
    """What waiting does not mend is a matter of the configuration: exit 2, without a wait."""
    postgres.new_database()
    refused = run_nas("agent", "list", "--db", f"postgresql://nas@127.0.0.1:{postgres.port}/{name}", home=tmp_path)
    assert refused.returncode == 2, refused.stderr


def test_a_server_that_only_reads_or_lets_nobody_in_is_waited_for(postgres, tmp_path):
    """After a failover the other server may be a replica, or know the role later: whoever has served goes on trying."""
    import psycopg

    url = postgres.new_database()
    name = url.rpartition("/")[2]
    backend = find_home(tmp_path, url.replace("nas@", "served@"), {}).backend(serving=True)
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute(b"CREATE ROLE served LOGIN; GRANT ALL ON SCHEMA public TO served")

        def cut(statement):
            operator.execute(statement.encode())
            operator.execute(b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'served'")

        try:
            backend.prepare()
            meta = NasMeta(backend, time.time)
            meta.remember("a", "1")
            for broken, mended in (
                (
                    f"ALTER DATABASE {name} SET default_transaction_read_only = on",
                    f"ALTER DATABASE {name} SET default_transaction_read_only = off",
                ),
                ("ALTER ROLE served NOLOGIN", "ALTER ROLE served LOGIN"),
            ):
                cut(broken)
                for _ in range(2):
                    with pytest.raises(RegistryUnavailableError):
                        meta.remember("a", "2")
                cut(mended)
                meta.remember("a", "3")
                assert meta.recall("a") == "3"
        finally:
            backend.close()
            cut("SELECT 1")
            operator.execute(b"DROP OWNED BY served; DROP ROLE served")


@pytest.mark.parametrize("silent_from", ["the first statement", "the announcements"])
def test_no_statement_is_waited_for_without_end(postgres, tmp_path, silent_from):
    """The look at start and the line that announcements come on have a deadline too, before anything else was asked."""
    url = postgres.new_database()
    find_home(tmp_path, url, {}).backend().prepare()
    with SilentProxy(postgres.port) as proxy:
        backend = PostgresBackend(url.replace(str(postgres.port), str(proxy.port)), deadline_s=0.3)
        connect = backend._pool.connect

        def silent_since_connected():
            made = connect()
            proxy.silence()
            return made

        backend._pool.connect = silent_since_connected
        began = time.monotonic()
        asked = {
            "the first statement": backend.prepare,
            "the announcements": lambda: backend._pool.listen("x", print, threading.Event()),
        }
        with pytest.raises(RegistryUnavailableError):
            asked[silent_from]()
        assert time.monotonic() - began < 5
        backend.close()


def test_a_server_that_stays_away_ends_serve_with_75(tmp_path):
    """Whoever supervises it starts it again: nothing is wrong with what it was told."""
    require_module("psycopg")
    program = (
        "import sys; from chronos_cli.nas_server import serve; serve.START_WAIT_S = 1.0;"
        "from chronos_cli.nas_server.cli import main; sys.exit(main())"
    )
    arguments = ["serve", "--home", str(tmp_path), "--db", f"postgresql://127.0.0.1:{free_port()}/x"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, timeout=30, check=False)
    assert done.returncode == 75, done.stderr


def test_a_store_that_is_away_is_asked_once_for_all_who_wait():
    """Ten callers that meet wait for one failure together, not for ten, one after the other."""
    calls, entered, go_on = [], threading.Event(), threading.Event()

    def work(items):
        calls.append(len(items))
        entered.set()
        go_on.wait(5)
        raise RegistryUnavailableError("away")

    group = GroupCommit(work)
    failures = []

    def caller() -> None:
        try:
            group([1])
        except RegistryUnavailableError as error:
            failures.append(error)

    threads = [threading.Thread(target=caller) for _ in range(10)]
    threads[0].start()
    entered.wait(5)
    for thread in threads[1:]:
        thread.start()
    until(lambda: len(group._waiting) == 9, 5)
    go_on.set()
    for thread in threads:
        thread.join(5)
    assert len(failures) == 10
    assert calls == [1, 9]
