"""No hint of `chronos-nas` that is not the cure: what is refused is taken when it is written as the hint says."""

from __future__ import annotations

import gc
import json
import re
import shlex
import shutil
import socket
import sqlite3
import sys
import time
import warnings

import pytest

from chronos_cli.errors import ChronosError
from chronos_cli.nas_server.cli import main
from chronos_cli.nas_server.conformance.probe import ContractProbe, Listener
from chronos_cli.nas_server.home import KEY_FILE_VARIABLE, KEY_VARIABLE, find_home
from chronos_cli.nas_server.http.listener import Server, _close, _listen
from chronos_cli.nas_server.keys import KeyAlgorithm, generate
from chronos_cli.nas_server.serve import _sole, _write_ready
from chronos_cli.nas_server.timers import sqlite
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.model import DeliveryOutcome, Fate, Provision
from chronos_cli.nas_server.timers.registry import TimerRegistry
from chronos_cli.nas_server.timers.sqlite import SqliteBackend
from tests.conftest import require_module
from tests.errors.hinted import tries
from tests.nas_process import running_nas
from tests.postgres_process import running_postgres

SERVE = ("serve", "--port", "0")
PROBE = ("conformance", "--portal-url", "http://127.0.0.1:9")
TOKEN = ("--token-file", "{token}")
LATER = ("--log-file", "{none}/log")
"""What `serve` looks at only once all else is right: else it would go on for good."""

NEXT = ("start the NAS, or name where it answers", "give --log-file a place that can be written")
"""What a command says whose fault was cured, and that has come as far as a test can take it."""

NAS_SPELLINGS = [
    # file, words of the hint, what is wrong, what the hint says to write
    ("nas_server/cli/__init__.py", "--help`", ("agent", "add"), ("agent", "add", "--help")),
    ("nas_server/cli/common.py", "name it with --home or --db, or start `chronos-nas serve`", ("--home", "{none}", "agent", "list"), ("--home", "{home}", "agent", "list")),
    ("nas_server/cli/completions.py", "there is one for", ("completions", "tcsh"), ("completions", "bash")),
    ("nas_server/cli/conformance.py", "give both, or neither", (*PROBE, "--callback-url", "http://x"), (*PROBE, *TOKEN)),
    ("nas_server/cli/conformance.py", "set CHRONOS_NAS_TOKEN, or give --token-file", PROBE, (*PROBE, *TOKEN)),
    ("nas_server/cli/conformance.py", "name the file that holds it with --token-file", (*PROBE, "--token-file", "/nowhere"), (*PROBE, *TOKEN)),
    ("nas_server/cli/conformance.py", "like 127.0.0.1:9000", (*PROBE, "--callback-listen", "x", "--callback-url", "http://x"), (*PROBE, *TOKEN, "--callback-listen", "127.0.0.1:0", "--callback-url", "http://127.0.0.1:0")),
    ("nas_server/cli/help.py", "it may be json; without it, a table is shown", ("agent", "list", "-o", "yaml"), ("agent", "list", "-o", "json")),
    ("nas_server/cli/help.py", "--help`", ("agent", "revke"), ("agent", "--help")),
    ("nas_server/cli/keys.py", "choose ES256 or RS256", ("keys", "rotate", "--alg", "HS256"), ("keys", "rotate", "--alg", "ES256")),
    ("nas_server/cli/serve.py", "choose web, worker or both", (*SERVE, "--role", "king"), (*SERVE, "--role", "both", *LATER)),
    ("nas_server/cli/serve.py", "one process serves a SQLite file", (*SERVE, "--role", "web"), (*SERVE, *LATER)),
    ("nas_server/cli/serve.py", "begin it with https://", (*SERVE, "--portal-url", "x"), (*SERVE, "--portal-url", "https://x", *LATER)),
    ("nas_server/cli/serve.py", "an agent answers once the job has started", (*SERVE, "--relay-timeout", "1h"), (*SERVE, "--relay-timeout", "15m", *LATER)),
    ("nas_server/cli/serve.py", "write it like 127.0.0.1:9787", (*SERVE, "--operator-listen", "x"), (*SERVE, "--operator-listen", "127.0.0.1:9787", *LATER)),
    ("nas_server/cli/serve.py", "name the file that holds it with --metrics-token-file", (*SERVE, "--metrics-token-file", "/nowhere"), (*SERVE, "--metrics-token-file", "{token}", *LATER)),
    ("nas_server/cli/serve.py", "write it like 10.0.0.0/8", (*SERVE, "--allow-callback-network", "x"), (*SERVE, "--allow-callback-network", "10.0.0.0/8", *LATER)),
    ("nas_server/home.py", "an absolute path has four slashes", ("--db", "mysql://x", "agent", "list"), ("--db", "sqlite:///{home}/nas.sqlite", "agent", "list")),
    ("nas_server/keys.py", "see `chronos-nas keys list`", ("keys", "retire", "none"), ("keys", "list")),
    ("nas_server/timers/agents.py", "see `chronos-nas agent list`", ("agent", "rotate", "nobody"), ("agent", "list")),
    ("nas_server/timers/agents.py", "letters, digits and . _ @ -, at most 64", ("agent", "add", "a b"), ("agent", "add", "a_b")),
    ("nas_server/timers/agents.py", "rotate its token, or take another name", ("agent", "add", "taken"), ("agent", "rotate", "taken")),
    ("nas_server/timers/agents.py", "add it under another name", ("agent", "rotate", "gone"), ("agent", "add", "come-again")),
    ("nas_server/timers/dead_letters.py", "see `chronos-nas dead list`", ("dead", "drop", "none"), ("dead", "list")),
]  # fmt: skip


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    """The home of a NAS with an agent, and one that was revoked."""
    folder = tmp_path_factory.mktemp("nas")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHRONOS_NAS_HOME", str(folder))
        for words in (("agent", "add", "taken"), ("agent", "add", "gone"), ("agent", "revoke", "gone")):
            assert main([*words, "--json"]) == 0
    return folder


@pytest.mark.parametrize(
    ("words", "wrong", "right"), [case[1:] for case in NAS_SPELLINGS], ids=[" ".join(case[2]) for case in NAS_SPELLINGS]
)
def test_what_a_hint_of_chronos_nas_says_is_right(pattern, tmp_path, monkeypatch, capsys, words, wrong, right):
    """The command is refused with the hint, on one line; written as the hint says it is taken."""
    home = tmp_path / "nas"
    shutil.copytree(pattern, home)
    monkeypatch.setenv("CHRONOS_NAS_HOME", str(home))
    monkeypatch.delenv("CHRONOS_NAS_TOKEN", raising=False)

    def run(command):
        filled = [word.format(home=home, none=tmp_path / "none", token=tmp_path / "token") for word in command]
        at = 2 if filled[0] in ("--home", "--db") else 0  # an option of all commands stands behind them
        return main([*filled[at:], *filled[:at]])

    assert run(wrong) not in (0, 1)
    assert words in capsys.readouterr().err.splitlines()[-1]
    (tmp_path / "token").write_text("t")
    code, said = run(right), capsys.readouterr().err
    assert code == 0 or any(words in said for words in NEXT), said


@pytest.fixture
def nas(pattern, tmp_path, monkeypatch, capsys):
    """Commands on a home of their own: `nas(*words)` gives the exit code and the last line on stderr."""
    home = tmp_path / "nas"
    shutil.copytree(pattern, home)
    monkeypatch.setenv("CHRONOS_NAS_HOME", str(home))

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        run.out, run.err = capsys.readouterr()
        return code, (run.err.splitlines() or [""])[-1]

    def follow(line):
        (command,) = re.findall(r"`chronos-nas ([^`]+)`", line)
        assert run(*shlex.split(command))[0] == 0, run.err

    run.home, run.follow = home, follow
    return run


def hint_of(work):
    """The hint of the error that `work` raises."""
    with pytest.raises(ChronosError) as refused:
        work()
    return refused.value.hint


@pytest.fixture
def taken():
    """A port of 127.0.0.1 where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@tries("nas_server/keys.py", "run `chronos-nas keys rotate --now` first")
def test_the_only_key_can_be_retired_once_another_signs(nas):
    """The command in the hint makes one."""
    assert nas("keys", "rotate", "--now", "--json")[0] == 0
    kid = json.loads(nas.out)["key"]["kid"]
    code, line = nas("keys", "retire", kid)
    assert (code, "run `chronos-nas keys rotate --now` first" in line) == (6, True), line
    nas.follow(line)
    assert nas("keys", "retire", kid)[0] == 0


@tries("nas_server/keys.py", "restore it from a backup, or move it away: `serve` makes a new key")
def test_a_list_of_keys_that_cannot_be_read_is_restored_or_begun_anew(nas):
    """Put back it is read again; without it a NAS that starts makes a key."""
    assert nas("keys", "rotate", "--now")[0] == 0
    path = nas.home / "keys" / "keys.json"
    right = path.read_bytes()
    path.write_bytes(b"{")
    code, line = nas("keys", "list")
    assert (code, "restore it from a backup, or move it away" in line) == (2, True), line
    path.write_bytes(right)
    assert nas("keys", "list")[0] == 0
    path.rename(nas.home / "aside")
    ring = find_home(nas.home, None).key_ring(time.time, {})
    assert ring.signing().kid == made.kid if (made := ring.prepare()) else pytest.fail("no key was made")


@tries("nas_server/keys.py", "replace the file or variable it comes from")
@tries("nas_server/home.py", "name its PEM file with")
def test_a_key_from_outside_is_replaced_where_it_comes_from(nas, monkeypatch, tmp_path):
    """A variable's key is not rotated by a command, but by another in its place; a file has to be one."""
    one, two = (generate(KeyAlgorithm.ES256).decode() for _ in range(2))
    monkeypatch.setenv(KEY_VARIABLE, one)
    before = nas("keys", "list", "--json")[0], nas.out
    code, line = nas("keys", "rotate")
    assert (code, "replace the file or variable it comes from" in line) == (6, True), line
    monkeypatch.setenv(KEY_VARIABLE, two)
    assert nas("keys", "list", "--json")[0] == 0
    assert nas.out != before[1]
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "none"))
    code, line = nas("keys", "list")
    assert (code, line.endswith(f"name its PEM file with {KEY_FILE_VARIABLE}")) == (2, True), line
    (tmp_path / "key").write_text(one)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    assert (nas("keys", "list", "--json")[0], nas.out) == before


@tries("nas_server/cli/agents.py", "`chronos-nas agent rotate")
def test_a_token_that_was_lost_is_replaced_by_another(nas, monkeypatch):
    """Standard output is full: the command in the hint gives one that is shown."""
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:  # noqa: PTH123
        patch.setattr(sys, "stdout", full)
        assert nas("agent", "add", "lost")[0] == 1
    lost = next(line for line in nas.err.splitlines() if "is lost" in line)
    nas.follow(lost)
    assert "The token of lost" in nas.out


@tries("nas_server/cli/__init__.py", "run it again with CHRONOS_DEBUG=1 and report what it prints")
def test_what_nobody_thought_of_is_told_whole_when_it_is_asked_for(nas, monkeypatch):
    """One line and no traceback; run again as the hint says it shows where it went wrong."""
    monkeypatch.setattr(AgentRegister, "add", lambda *_, **__: 1 / 0)
    code, line = nas("agent", "add", "x")
    assert (code, "run it again with CHRONOS_DEBUG=1" in line, nas.err.count("\n")) == (1, True, 1), nas.err
    monkeypatch.setenv("CHRONOS_DEBUG", "1")
    assert nas("agent", "add", "x")[0] == 1
    assert "Traceback" in nas.err


@tries("nas_server/http/listener.py", "stop what listens there, or choose another with")
def test_a_port_that_is_taken_is_freed_or_another_chosen(taken):
    """The hint names the option of that port; each of its two ways works."""
    port = taken.getsockname()[1]
    assert hint_of(lambda: _listen("127.0.0.1", port)).endswith("choose another with --port")
    operators = hint_of(lambda: Server(None, "127.0.0.1", 0, operator=("127.0.0.1", port)))
    assert operators == "stop what listens there, or choose another with --operator-listen"
    _close(_listen("127.0.0.1", 0))
    taken.close()
    _close(_listen("127.0.0.1", port))


@tries("nas_server/conformance/probe.py", "stop what listens there, or choose another --callback-listen")
def test_a_callback_of_a_conformance_run_listens_where_nobody_else_does(taken):
    """At another port, or at that one once it is free."""
    port = taken.getsockname()[1]
    words = "stop what listens there, or choose another --callback-listen"
    with warnings.catch_warnings():  # waitress leaves its own pipe open where it cannot listen
        warnings.simplefilter("ignore", ResourceWarning)
        assert hint_of(Listener("127.0.0.1", port).start) == words
        gc.collect()
    taken.close()
    again = Listener("127.0.0.1", port)
    again.start()


@tries("nas_server/conformance/probe.py", "start the NAS, or name where it answers with --portal-url")
@tries("nas_server/serve.py", "give --log-file a place that can be written")
@tries("nas_server/serve.py", "give --ready-file a place that can be written")
@tries("nas_server/serve.py", "stop it, or use PostgreSQL for several processes")
@tries("nas_server/timers/interface.py", "try again later; /readyz says whether the store is back")
def test_a_nas_that_is_not_there_or_cannot_start(nas, taken, tmp_path, monkeypatch):
    """A log and a ready file that cannot be written, a second one on a file, a store that is busy, and none at all."""
    port = taken.getsockname()[1]
    taken.close()
    probe = ContractProbe(f"http://127.0.0.1:{port}", "x")
    assert "start the NAS, or name where it answers with --portal-url" in hint_of(
        lambda: probe.call("GET", "/api/agent-cron/list")
    )
    code, line = nas("serve", "--port", 0, "--log-file", tmp_path / "none" / "log")
    assert (code, line.endswith("give --log-file a place that can be written")) == (2, True), line
    words = "give --ready-file a place that can be written"
    assert hint_of(lambda: _write_ready(tmp_path / "none" / "ready", "u")) == words
    with running_nas(tmp_path / "running") as running:
        assert running.log.exists()
        assert ContractProbe(running.url, "x").call("GET", "/api/agent-cron/list").status == 401
        words = "stop it, or use PostgreSQL for several processes"
        assert hint_of(lambda: _sole(running.home / "nas.sqlite")) == words
        backend = SqliteBackend(running.home / "nas.sqlite")
        with monkeypatch.context() as patch:
            patch.setattr(sqlite, "WAIT_S", 0.02)
            busy = hint_of(lambda: backend.write(lambda _: time.sleep(0.1)))
        assert busy == "try again later; /readyz says whether the store is back"
        until = time.monotonic() + 10
        while running.call("GET", "/readyz").status != 200:
            assert time.monotonic() < until
            time.sleep(0.02)
        backend.write(lambda session: session.all("SELECT 1"))
        backend.close()
    _sole(running.home / "nas.sqlite").close()


@tries("nas_server/serve.py", "give --home or --db a place that can be written")
def test_a_database_is_put_where_it_can_be_written(tmp_path):
    """A file is no folder to make one in; a folder is."""
    (tmp_path / "file").write_text("")
    words = "give --home or --db a place that can be written"
    assert hint_of(lambda: _sole(tmp_path / "file" / "nas.sqlite")) == words
    _sole(tmp_path / "nas.sqlite").close()


@tries("nas_server/timers/dead_letters.py", "drop this one with `chronos-nas dead drop")
def test_a_dead_one_that_is_armed_again_is_dropped(nas):
    """The command in the hint drops it, and the one that is armed stays."""
    backend = find_home(nas.home, None).backend()
    backend.prepare()
    registry = TimerRegistry(backend, time.time)
    agent = AgentRegister(backend, time.time).add("one").agent
    wish = Provision(
        agent_id=agent.id, job_id="a", fire_at=int(time.time()) - 1, fire_text="then",
        callback_url="https://a.example", host="https://a.example:443",
    )  # fmt: skip
    registry.apply([wish])
    (delivery,) = registry.claim([(due.schedule_id, due.attempts) for due in registry.due().timers])
    registry.settle([DeliveryOutcome(delivery=delivery, fate=Fate.DEAD, at=time.time(), error="x")])
    registry.apply([wish])
    backend.close()
    code, line = nas("dead", "redrive", delivery.schedule_id)
    assert (code, "; the other will be delivered" in line) == (6, True), line
    nas.follow(line)
    assert nas("dead", "list", "--json")[0] == 0
    assert json.loads(nas.out)["dead"] == []
    assert nas("timers", "--json")[0] == 0
    assert [timer["job_id"] for timer in json.loads(nas.out)["timers"]] == ["a"]


@tries("nas_server/timers/schema.py", "run the newer release, or restore a backup from before it")
def test_a_database_of_a_newer_release_is_restored(nas):
    """Its copy from before is read again."""
    path = nas.home / "nas.sqlite"
    before = path.read_bytes()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '9999' WHERE name = 'schema_version'")
    connection.close()
    code, line = nas("agent", "list")
    assert (code, "run the newer release, or restore a backup from before it" in line) == (2, True), line
    for left in nas.home.glob("nas.sqlite-*"):
        left.unlink()
    path.write_bytes(before)
    assert nas("agent", "list")[0] == 0


@tries("nas_server/timers/postgres.py", "install the extra: in the checkout, pip install '.[nas]")
def test_postgresql_without_its_package_names_what_to_install(monkeypatch):
    """With the package that fault is gone: what is missing then is a server."""
    require_module("psycopg")
    from chronos_cli.nas_server.timers.postgres import PostgresBackend

    backend = PostgresBackend("postgresql://a@127.0.0.1:9/x")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "psycopg", None)
        assert hint_of(backend.prepare) == "install the extra: in the checkout, pip install '.[nas]'"
    assert hint_of(backend.prepare) == "try again later; /readyz says whether the store is back"


@pytest.mark.service
@tries("nas_server/timers/postgres.py", "name it in --db: postgresql://USER@HOST/NAME")
@tries("nas_server/timers/postgres_pool.py", "name it in --db: postgresql://USER@HOST/NAME")
def test_a_database_that_postgresql_has_is_used(nas):
    """A name it does not know, and options that are none, are refused with the form; a right one works."""
    require_module("psycopg")
    words = "name it in --db: postgresql://USER@HOST/NAME"
    with running_postgres() as server:
        url = server.new_database()
        for wrong in (re.sub(r"/[^/?]+(\?|$)", r"/nosuch\1", url), "postgresql://x?nonsense=1"):
            code, line = nas("agent", "list", "--db", wrong)
            assert (code, line.endswith(words)) == (2, True), line
        assert nas("db", "upgrade", "--db", url)[0] == 0, nas.err
        assert nas("agent", "list", "--db", url)[0] == 0, nas.err
