"""The lines of errors that lie below the commands, each brought about for real or by the smallest thing that fails."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from chronos_cli.callback.request import parse_fire, read_body
from chronos_cli.config import load_config
from chronos_cli.core.decision import FireRequest, Trigger
from chronos_cli.core.edits import Edit, JobDraft, edited, new_record
from chronos_cli.core.job import HomeDefaults as JobHome
from chronos_cli.core.job import parse_job
from chronos_cli.core.policy import Policy
from chronos_cli.core.row import RunState
from chronos_cli.core.schedule import Cron, Once
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.demo import environment as stage
from chronos_cli.errors import ChronosError, ConfigError
from chronos_cli.frozen import replace
from chronos_cli.hermes import inside as inside_hermes
from chronos_cli.hermes import started
from chronos_cli.nas_client.client import NasClient
from chronos_cli.nas_client.interface import ArmRequest
from chronos_cli.nas_client.tokens import HomeTokens
from chronos_cli.nas_server import cli as nas_cli
from chronos_cli.nas_server.home import NasHome
from chronos_cli.nas_server.keys import KeyRing
from chronos_cli.nas_server.timers import sqlite
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.dead_letters import Operations
from chronos_cli.nas_server.timers.model import DeliveryOutcome, Fate, Provision
from chronos_cli.nas_server.timers.registry import TimerRegistry
from chronos_cli.nas_server.timers.sqlite import SqliteBackend
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.arming.reconcile import cancel, reconcile
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.evaluate import evaluate
from chronos_cli.operations.firing import launchers as starting
from chronos_cli.operations.firing import probe, run, tick
from chronos_cli.operations.firing.admission import admit
from chronos_cli.operations.install import run as run_program
from chronos_cli.operations.install.systemd import _control
from chronos_cli.operations.jobs import edit as jobs
from chronos_cli.operations.jobs import hold
from chronos_cli.running.detach import Runners
from chronos_cli.running.lock import RunLock
from chronos_cli.running.lock_place import LockPlace
from chronos_cli.store import bucket, local
from chronos_cli.store.arms.pack import create_pack
from chronos_cli.store.disk_errors import disk_error
from chronos_cli.store.interface import VersionConflict
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.local import LocalStore
from chronos_cli.store.proof import prove_compare_and_swap
from chronos_cli.store.repository import Repository
from chronos_cli.trust.jwks import JwksCache
from chronos_cli.trust.keys import static_keys
from chronos_cli.trust.settings import TrustSettings
from chronos_cli.trust.signature import signed_payload
from chronos_cli.trust.verifier import call_verifier, load_verifier
from tests.conftest import require_module
from tests.errors.hinted import tries
from tests.memory_store import MemoryStore

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOKEN = "e30.e30.e30"


def said(work):
    """The line of the error that `work` raises, which says what to do as well."""
    with pytest.raises(ChronosError) as caught:
        work()
    assert caught.value.hint
    assert "\n" not in caught.value.line()
    assert caught.value.line() == f"{' '.join(caught.value.message.split())}: {' '.join(caught.value.hint.split())}"
    return caught.value.line()


# -- schedules and edits ----------------------------------------------------------------------------------------------


def test_times_beyond_the_calendar():
    """A span or a schedule that leads out of the years there are is refused, not wrapped."""
    late = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    assert said(lambda: parse_schedule("in 90d", now=late, zone=UTC)) == (
        "that time is beyond the calendar: give a nearer time"
    )
    draft = JobDraft(job_id="a", name="a", schedule=Cron(expr="0 0 1 1 *"), zone=UTC, zone_name="UTC", policy=Policy())
    line = said(lambda: new_record(draft, now=late, token="t", defaults=Policy()))
    assert line == "the schedule never comes due again: give one that does"


def test_an_edit_to_what_never_comes():
    """A new schedule without an instant ahead is refused, and the job stays as it was."""
    schedule = parse_schedule("@hourly", now=NOW, zone=UTC)
    draft = JobDraft(job_id="a", name="a", schedule=schedule, zone=UTC, zone_name="UTC", policy=Policy())
    job = parse_job(new_record(draft, now=NOW, token="t", defaults=Policy()), JobHome(zone=UTC, zone_name="UTC"))
    edit = Edit(schedule=Once(at=NOW - timedelta(hours=1)))
    line = said(lambda: edited(job, edit, now=NOW, token="t", defaults=Policy()))
    assert line == "the new schedule never comes due again: give a time ahead"


# -- the store ---------------------------------------------------------------------------------------------------------


class Busy(MemoryStore):
    """A store that somebody else changes between each reading and writing."""

    def __init__(self, *names):
        super().__init__()
        self.names = names

    def create(self, key, data, *, durable=True):
        if any(name in key for name in self.names):
            raise VersionConflict(key)
        return super().create(key, data, durable=durable)

    def replace(self, key, data, version, *, durable=True):
        if any(name in key for name in self.names):
            raise VersionConflict(key)
        return super().replace(key, data, version, durable=durable)


def context(documents, folder):
    """A home's context over these documents, patient with nobody, whose clock stands."""
    found = open_home(
        load_config(environ={}, home=str(folder)), ProcessEnvironment(environ={"PATH": "/bin:/usr/bin"}, secrets={})
    )
    repository = Repository(documents, sleep=lambda _: None, random=lambda: 0.0)
    return replace(found, repository=repository, clock=lambda: NOW)


def add(ctx):
    """One job that is due."""
    schedule = parse_schedule("every 1h", now=NOW, zone=UTC)
    draft = JobDraft(
        job_id="a", name="a", schedule=schedule, zone=UTC, zone_name="UTC", policy=Policy(), action={"shell": "true"}
    )
    jobs.add(replace(ctx, clock=lambda: NOW), draft)
    return evaluate(replace(ctx, clock=lambda: NOW + timedelta(hours=1)), "a", FireRequest(via=Trigger.TICK, token="t"))


def test_documents_that_change_under_every_attempt(tmp_path):
    """Contention that does not end is an error to be tried again, for each kind of document."""
    again = "try again later"
    repository = context(Busy("jobs.json", "arms", "store.json"), tmp_path).repository
    line = said(lambda: repository.change(lambda found: found.add({"id": "a"})))
    assert line == f"cron/jobs.json changed under every attempt: {again}"
    line = said(lambda: repository.arms.change("a", lambda found: replace(found, generation=5)))
    assert line == f"cron/arms/a.json changed under every attempt: {again}"
    assert said(lambda: repository.store_id(lambda: "x")) == f"cron/store.json changed under every attempt: {again}"
    packs = context(Busy("arm-packs"), tmp_path).repository
    assert said(lambda: create_pack(packs, "p", {})).endswith(f" changed under every attempt: {again}")
    ctx = context(Busy("ESTOP", "probe"), tmp_path)
    assert said(lambda: hold.engage(ctx, reason="x")) == f"ESTOP changed under every attempt: {again}"
    line = said(lambda: probe._change(ctx, lambda _: probe.Probe(fire_at=NOW, sent_at=NOW, callback_url="u")))
    assert line == f"cron/probe.json changed under every attempt: {again}"


def test_an_operation_that_needs_a_nas(tmp_path):
    """Wherever it is found out that no NAS is configured, it is one error, which names the setting that lacks."""
    ctx = context(MemoryStore(), tmp_path)
    add(ctx)
    line = f"no NAS is configured: cron.chronos.portal_url is not set: set it in {tmp_path}/config.yaml, see "
    for work in (
        lambda: probe._arm_again(ctx, NOW),
        lambda: reconcile(ctx),
        lambda: cancel(ctx, ["a"]),
        lambda: arming.arm(ctx, None, "a", arming.Wake(at=NOW, purpose="look")),
    ):
        assert said(work).startswith(line)
        with pytest.raises(ConfigError):
            work()


@tries(
    "operations/firing/run_row.py",
    "its result is kept beside its lock; the next fire, tick or reconcile on this machine records it",
)
def test_rows_that_change_under_every_attempt(tmp_path):
    """A row that can be neither started nor ended says which run it is."""
    documents = Busy()
    ctx = context(documents, tmp_path)
    looked = add(ctx)
    claim = run.RunTicket.of(looked.job, looked.decision.starts[0], "s")
    documents.names = ("runs",)
    assert (
        said(lambda: run.begin(ctx, claim))
        == "the row of run 20261120T130000Z changed under every attempt: try again later"
    )
    documents.names = ()
    begun = run.begin(ctx, claim)
    documents.names = ("runs",)
    ctx.processes.interrupts = SimpleNamespace(signal=15)  # else it would go on until the lease ends
    line = said(lambda: run.finish(ctx, begun))
    assert line == (
        "the end of run 20261120T130000Z could not be recorded: its row changed under every attempt: "
        "its result is kept beside its lock; the next fire, tick or reconcile on this machine records it"
    )
    documents.names = ()
    row = ctx.repository.rows.get("a", "20261120T130000Z").value
    assert row.state is RunState.RUNNING
    tick.tick(replace(ctx, clock=lambda: NOW + timedelta(hours=1, seconds=2)), starting.InlineLauncher())
    assert ctx.repository.rows.get("a", "20261120T130000Z").value.state in (RunState.OK, RunState.INTERRUPTED)


def test_a_wake_that_changes_under_every_attempt_to_arm_it(tmp_path, monkeypatch):
    """Arming gives up once the job has wished something else, or was overtaken, after each of its calls.

    One that is overtaken again and again waits longer each time, so that the others get through.
    """

    class Nas:
        def cancel(self, job_id, generation=None):
            """Take it."""

    ctx = context(MemoryStore(), tmp_path)
    add(ctx)
    wishes = iter(range(1, 1000))
    monkeypatch.setattr(
        arming, "present_wake", lambda *_: arming.Wake(at=NOW + timedelta(days=next(wishes)), purpose="look")
    )
    monkeypatch.setattr(
        arming, "_send", lambda ctx, *_, **__: (ctx.repository.arms.change("a", lambda found: found), True, False)
    )
    given_up = "the wake of job a changed under every attempt to arm it: try again later"
    assert said(lambda: arming.arm(ctx, Nas(), "a", None)) == given_up
    waits = []
    patient = Repository(ctx.repository.documents, sleep=waits.append, random=lambda: 0.5)
    ctx = replace(ctx, repository=patient)
    assert said(lambda: arming.arm(ctx, Nas(), "a", arming.Wake(at=NOW, purpose="look"))) == given_up
    assert waits == []
    monkeypatch.setattr(
        arming, "_send", lambda ctx, *_, **__: (ctx.repository.arms.change("a", lambda found: found), False, False)
    )
    assert said(lambda: arming.arm(ctx, Nas(), "a", arming.Wake(at=NOW, purpose="look"))) == given_up
    assert waits == [0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5]


def test_records_that_are_not_in_a_store():
    """What is changed or removed must be there."""
    empty = JobsFile.empty()
    for work in (lambda: empty.put("a", {"id": "a"}), lambda: empty.remove("a")):
        assert said(work) == "no job 'a' in this store: see `chronos job list`"


class Lax(MemoryStore):
    """A store that keeps its conditions only as far as it is told."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.writes = 0

    def replace(self, key, data, version, *, durable=True):
        self.writes += 1
        if self.fault == "refuses" or (self.fault == "renames" and b"3" in data):
            raise VersionConflict(key)
        if self.fault == "accepts" and b"stale" in data:
            return version
        return super().replace(key, data, version, durable=durable)

    def read(self, key):
        found = super().read(key)
        return replace(found, data=b"old") if self.fault == "forgets" and found else found


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("refuses", "refuses a write with the right version"),
        ("accepts", "took a write with an old version"),
        ("forgets", "does not hold what was written last"),
        ("renames", "gives a document another version on reading"),
    ],
)
def test_a_store_that_does_not_keep_conditions_is_found_out(fault, text):
    """Each way of not being fit for it has its own words."""
    assert text in said(lambda: prove_compare_and_swap(Lax(fault)))


def test_what_the_disk_refuses_names_the_file_its_owner_and_us(tmp_path):
    """A write that fails, and one that is not known to last."""
    line = said(
        lambda: (_ for _ in ()).throw(disk_error("write", tmp_path / "x", OSError(28, "No space left on device")))
    )
    assert f"cannot write {tmp_path}/x: No space left on device" in line
    assert "; running as " in line

    def not_durable():
        with local._reported("write", tmp_path, "x"):
            raise local.NotDurableError("no fsync")

    line = said(not_durable)
    assert "was written, but its folder could not be made durable: no fsync: check that disk; " in line


def test_a_locked_store_says_who_has_it(tmp_path):
    """A lock that does not come free in time names its holder; nothing is written."""
    one, two = LocalStore(tmp_path, lock_timeout_s=1), LocalStore(tmp_path, lock_timeout_s=0.05)

    def wait():
        with two.exclusive("cron/jobs.json"):
            raise AssertionError

    with one.exclusive("cron/jobs.json"):
        line = said(wait)
    assert "is locked" in line
    assert "; nothing was written: try again, or raise CHRONOS_LOCK_TIMEOUT (seconds)" in line


def test_buckets_that_cannot_be_reached_as_configured(monkeypatch):
    """What a store's URL or endpoint may not be; without the package, what to install."""
    line = said(lambda: bucket._checked_endpoint("https://x", "gs"))
    assert line == "a store at gs:// has no other endpoint: leave CHRONOS_STORE_ENDPOINT away"
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    line = said(lambda: bucket._open("s3", "b", "", None, attempts=1))
    assert (
        line
        == "a store at s3:// needs a package that is not installed: install the extra: in the checkout, pip install '.[bucket]'"
    )


def test_an_environment_that_describes_no_bucket(monkeypatch):
    """What the provider's own library needs to know is missing: its usual variables are named, its text is not told."""
    require_module("obstore")
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    line = said(lambda: bucket._open("az", "b", "", None, attempts=1))
    assert line.startswith("the environment does not describe access to az://b (")
    assert line.endswith("set the provider's usual variables: AWS_*, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_*")


# -- processes ---------------------------------------------------------------------------------------------------------


def test_lock_folders_that_cannot_be_trusted(tmp_path):
    """A run lock is taken in a private folder or not at all."""
    line = said(lambda: LockPlace(None, lambda: "../x").make())
    assert line == "a store cannot have the id '../x': put cron/store.json right"
    place = LockPlace(tmp_path, str)
    (tmp_path / "cron").mkdir()
    (tmp_path / "cron" / "locks").write_text("")
    line = said(place.make)
    assert line.startswith(f"cannot use {tmp_path}/cron/locks for run locks: Not a directory: it must be this user's")
    (tmp_path / "cron" / "locks").unlink()
    assert f"cannot lock {tmp_path}/cron/locks/a.{'b' * 300}." in said(lambda: RunLock.acquire(place, "a", "b" * 300))


def test_a_machine_without_a_process_to_spare(tmp_path, monkeypatch):
    """No process, no runner: to be tried again, and nothing is lost."""

    def refuse(*_, **__):
        raise OSError(11, "Resource temporarily unavailable")

    from chronos_cli.running import spawn

    monkeypatch.setattr(os, "fork", refuse)
    line = said(lambda: spawn.spawn_group(["true"], cwd="/", environment={}, stdin=0, output=1, lock_fd=2, guard=None))
    assert line.startswith(
        "no process can be started: Resource temporarily unavailable: try again later, or allow this user more: "
    )
    line = said(lambda: Runners().start(("/nowhere/python",), b"", environment={}, secrets={}))
    assert line.startswith("the runner could not be started: No such file or directory: ")


def test_a_tick_that_can_start_nothing_says_so_of_the_job(tmp_path):
    """The job is named with the reason; the others are looked at all the same."""

    class NoRunners:
        def launch(self, *_):
            raise OSError(12, "Cannot allocate memory")

    ctx = context(MemoryStore(), tmp_path)
    add(ctx)
    ticked = tick.tick(replace(ctx, clock=lambda: NOW + timedelta(hours=3)), NoRunners())
    assert ticked.failed["a"].line() == "no runner could be started: [Errno 12] Cannot allocate memory: try again later"


def test_a_runner_that_says_nothing(tmp_path, monkeypatch):
    """A runner that never reports its run is an error in its own last words."""
    monkeypatch.setattr(starting.sys, "executable", "/bin/false")
    ctx = context(MemoryStore(), tmp_path)
    looked = add(ctx)
    claim = run.RunTicket.of(looked.job, looked.decision.starts[0], "s")
    launcher = starting.DetachedLauncher(Runners(), launching={}, environment={}, secrets={})
    line = said(lambda: launcher.launch(ctx, claim))
    assert line == "the runner did not start the job: it said nothing in time: try again later"


def test_programs_of_the_machine_that_fail(tmp_path):
    """What they said is passed on."""
    program = tmp_path / "failing"
    program.write_text("#!/bin/sh\necho no bus >&2\nexit 3\n")
    program.chmod(0o755)
    line = said(lambda: _control((str(program), "now"), {}))
    assert line.startswith(f"`{program} now` exited with 3: no bus: ")
    assert said(lambda: run_program(("/nowhere/x",), {})).startswith("there is no program /nowhere/x here: ")


def test_a_run_inside_hermes_without_a_report(tmp_path, monkeypatch):
    """The process that runs a job for hermes must say what came of it."""
    monkeypatch.setenv("HERMES_HOME", str(tmp_path))
    monkeypatch.setattr(started.sys, "executable", "/bin/false")
    monkeypatch.setattr(inside_hermes, "_home", lambda: tmp_path)
    line = said(lambda: inside_hermes.fire_due("a"))
    assert line == "the run of job a ended with 1 and no report: try again later"


def test_a_demo_that_cannot_come_up(tmp_path, monkeypatch):
    """A part of it that ends at once is named by its last words; so is a NAS that lets no agent in."""
    log = tmp_path / "log"
    log.write_text("first\nport taken\n")
    ended = stage.subprocess.Popen(["/bin/false"])
    ended.wait()
    line = said(lambda: stage._check_up(ended, log, float("inf")))
    assert line == "a part of the demo did not come up: port taken: try again later"
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho the disk is full >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(stage.sys, "executable", str(python))
    line = said(lambda: stage._start(tmp_path, {}, []))
    assert line == "chronos-nas agent add failed: the disk is full: try again later"


# -- NAS ---------------------------------------------------------------------------------------------------------------


def answering(data):
    """A server that answers one call with these bytes; its URL."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = server.accept()
        with connection, server:
            connection.recv(65536)
            with contextlib.suppress(OSError):  # who has heard enough hangs up
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def client(url, **more):
    """A client with a token, for one call."""
    tokens = HomeTokens(home="/nowhere", environ={"CHRONOS_NAS_TOKEN": "a-token-of-a-test"})
    return NasClient(url, tokens, **{"attempts": 1, "timeout_s": 2, "budget_s": 2, **more})


REQUEST = ArmRequest(job_id="a", fire_at=NOW, callback_url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/x\r\nContent-Length: 0\r\n\r\n",
            "a redirect to http://evil.example, which is refused: it would carry the token along: set cron.chronos.portal_url",
        ),
        (
            b'HTTP/1.1 403 No\r\nContent-Length: 27\r\n\r\n{"error": "invalid_client"}',
            "refuses this agent for good: 403",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 5_000_000, "answered with more than "),
        (
            b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n{}",
            "rejected the request: 400: check portal_url and callback_url of cron.chronos",
        ),
    ],
)
def test_what_nas_answers_is_said_with_its_address(answer, text):
    """Each kind of bad answer has its own words."""
    with client(answering(answer)) as nas:
        line = said(lambda: nas.provision(REQUEST))
    assert text in line
    assert line.startswith("NAS at 127.0.0.1:")


def test_a_nas_that_asks_to_be_left_alone():
    """Its Retry-After holds for the calls after it too."""
    with client(answering(b"HTTP/1.1 429 Later\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n"), attempts=2) as nas:
        said(lambda: nas.provision(REQUEST))
        line = said(lambda: nas.provision(REQUEST))
    assert "NAS asked to be left alone for another " in line


def test_a_nas_that_cannot_even_be_called():
    """An address that no request can be sent to is a fault of the configuration, not of the network."""
    with client("https://.example") as nas:
        line = said(lambda: nas.provision(REQUEST))
    assert " cannot be called: " in line


def test_logins_that_hold_no_token(tmp_path):
    """A Hermes login that is absent from its file, or over, says which file and what else there is."""
    auth = tmp_path / "auth.json"
    tokens = HomeTokens(home=str(tmp_path), environ={})
    auth.write_text("{}")
    assert f"{auth} holds no login to NAS: log in with hermes, or set CHRONOS_NAS_TOKEN" in said(
        lambda: tokens.get(within_s=1)
    )
    login = {"access_token": "t", "expires_at": "2020-01-01T00:00:00Z"}
    auth.write_text(json.dumps({"providers": {"nous": login}}))
    assert f"the login in {auth} expired at 2020-01-01T00:00:00Z: let hermes renew it, or set" in said(
        lambda: tokens.get(within_s=1)
    )
    auth.write_text("no json")
    assert f"{auth} cannot be used: it is not JSON (line 1, column 1: Expecting value): log in again, or set" in said(
        lambda: tokens.get(within_s=1)
    )


# -- fire tokens and requests ------------------------------------------------------------------------------------------


def test_requests_that_are_none():
    """Length, transport and body of a fire, each refused in its own words."""
    assert said(lambda: read_body({})).startswith("the request has no usable Content-Length: ")
    short = {"CONTENT_LENGTH": "5", "wsgi.input": BytesIO(b"abc")}
    assert said(lambda: read_body(short)).startswith("the request body is shorter than its Content-Length: ")

    class Broken:
        def read(self, _):
            raise OSError

    broken = {"CONTENT_LENGTH": "5", "wsgi.input": Broken()}
    assert said(lambda: read_body(broken)).startswith("the request body could not be read: ")
    for data in (b"x", b"[]", b'{"a": 1, "a": 2}'):
        assert said(lambda data=data: parse_fire(data)).startswith("the body is not a JSON object: ")
    settings = TrustSettings(expected_audience="a", issuer="i", keys="", cache_dir=Path("/nowhere"))
    line = said(lambda: admit(None, settings, job_id="a b", fire_at=None))
    assert line.startswith("the job id is malformed: a job id is letters, digits")


def settings(**more):
    """What tokens are judged by."""
    return TrustSettings(**{"expected_audience": "a", "issuer": "i", "keys": "", "cache_dir": Path("/nowhere"), **more})


def test_keys_that_cannot_be_fetched_just_now(tmp_path):
    """Nobody publishes them and they were asked for a moment ago; or another process keeps asking."""
    cache = JwksCache(settings(keys="http://127.0.0.1:9/jwks", cache_dir=tmp_path, fetch_timeout_s=0.1))
    assert said(lambda: cache.find("RS256", "k")).startswith(
        "the keys at http://127.0.0.1:9/jwks could not be fetched: "
    )
    line = said(lambda: cache.find("RS256", "k"))
    assert "could not be fetched 0 s ago, and none in the cache fits this token: check nas_jwks_url" in line
    (lock,) = (tmp_path / "jwks").glob("*.lock")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        line = said(lambda: cache.find("RS256", "k"))
    assert line.startswith("another process has been fetching the keys for too long: ")


def fails(*_, **__):
    """A verifier that fails."""
    raise ZeroDivisionError


def mumbles(*_, **__):
    """A verifier that gives no claims."""
    return 5


NOT_CALLABLE = 5


def test_trust_that_cannot_be_had():
    """Settings, keys and verifiers of others that cannot be used; none of them lets a token pass."""
    here = __name__
    assert said(lambda: settings(verifier="x y")).startswith("trust.verifier is 'x y': write nas-jwt or an importable")
    assert said(lambda: settings(keys="ftp://x")) == (
        "keys cannot be fetched from 'ftp://x': use https (plain http only to this machine)"
    )
    assert (
        said(lambda: settings(keys="https://x y"))
        == "the key URL holds blanks or control characters: set cron.chronos.nas_jwks_url without them"
    )
    assert said(lambda: settings(keys="https://a@x")).startswith("the key URL holds credentials: keys are public")
    assert said(lambda: settings(max_age_s=-1)) == "max_age_s is -1: write a number of seconds, not negative"
    line = said(lambda: load_verifier("nowhere:x"))
    assert (
        line
        == "trust.verifier 'nowhere:x' cannot be loaded: No module named 'nowhere': name a module that can be imported: is its folder on PYTHONPATH?"
    )
    assert "is not a function: name a function as module:function" in said(
        lambda: load_verifier(f"{here}:NOT_CALLABLE")
    )
    line = said(lambda: call_verifier(TOKEN, settings(verifier=f"{here}:fails")))
    assert line == f"trust.verifier '{here}:fails' failed with ZeroDivisionError: put the function right that it names"
    line = said(lambda: call_verifier(TOKEN, settings(verifier=f"{here}:mumbles")))
    assert f"trust.verifier '{here}:mumbles' returned a int, not claims: " in line
    assert said(lambda: static_keys("{}", "RS256", None)).startswith("the configured key cannot be used: ")
    line = said(lambda: signed_payload(TOKEN, "ES256", ({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},)))
    assert line == "a published key cannot be used: ask who runs NAS to publish one that can"


# -- our own NAS -------------------------------------------------------------------------------------------------------

NAS_COMMANDS = [
    (("agent", "add", "a b"), 2, "'a b' cannot name an agent: letters, digits and . _ @ -, at most 64"),
    (("agent", "add", "taken"), 6, "there is an agent taken already: rotate its token, or take another name"),
    (("agent", "add", "x", "--expires-in", "soon"), 2, "cannot read the duration 'soon': write it as 90s, 30m, 2h or 1d"),
    (("agent", "rotate", "nobody"), 5, "there is no agent nobody: "),
    (("agent", "rotate", "gone"), 6, "agent gone was revoked: add it under another name"),
    (("keys", "retire", "none"), 5, "there is no key none: see `chronos-nas keys list`"),
    (("keys", "rotate", "--alg", "HS256"), 2, "--alg HS256 is unknown: "),
    (("dead", "show", "none"), 5, "nothing dead is named none: see `chronos-nas dead list`"),
    (("--db", "mysql://x", "agent", "list"), 2, "--db must be sqlite:///PATH or postgresql://...: an absolute path"),
    (("--home", "/nowhere", "agent", "list"), 2, "there is no database /nowhere/nas.sqlite: name it with --home or --db, or start"),
    (("--home", "/dev/null/x", "agent", "add", "a"), 2, "cannot use "),
    (("serve", "--role", "king"), 2, "--role king is unknown: choose web, worker or both"),
    (("serve", "--role", "web"), 2, "--role web needs PostgreSQL: one process serves a SQLite file"),
    (("serve", "--portal-url", "x"), 2, "--portal-url x is no URL: begin it with https://"),
    (("serve", "--relay-timeout", "1h"), 2, "--relay-timeout must be from 1s to 15m: an agent answers once the job"),
    (("serve", "--allow-callback-network", "x"), 2, "--allow-callback-network: 'x' does not appear to be an IPv4"),
    (("conformance", "--portal-url", "http://127.0.0.1:9", "--callback-url", "http://x"), 2, "--callback-listen and --callback-url go together: give both"),
    (("conformance", "--portal-url", "http://127.0.0.1:9", "--token-file", "/nowhere"), 2, "cannot read the token file /nowhere: "),
    (("conformance", "--portal-url", "http://127.0.0.1:9"), 2, "no token: set CHRONOS_NAS_TOKEN, or give --token-file"),
]  # fmt: skip


@pytest.fixture(scope="module")
def nas_home(tmp_path_factory):
    """The home of a NAS with an agent and one that was revoked."""
    home = tmp_path_factory.mktemp("nas")
    for words in (("agent", "add", "taken"), ("agent", "add", "gone"), ("agent", "revoke", "gone")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CHRONOS_NAS_HOME", str(home))
            assert nas_cli.main([*words, "--json"]) == 0
    return home


@pytest.mark.parametrize(("words", "code", "text"), NAS_COMMANDS, ids=[" ".join(words) for words, *_ in NAS_COMMANDS])
def test_what_chronos_nas_refuses(nas_home, capsys, monkeypatch, words, code, text):
    """One line on stderr, its exit code, and what to do."""
    monkeypatch.setenv("CHRONOS_NAS_HOME", str(nas_home))
    monkeypatch.delenv("CHRONOS_NAS_TOKEN", raising=False)
    options, rest = (words[:2], words[2:]) if words[0].startswith("--") else ((), words)
    assert nas_cli.main([*rest, *options]) == code
    line = capsys.readouterr().err
    assert line.startswith("chronos-nas: ")
    assert text in line
    assert line.count("\n") == 1


def test_keys_of_a_nas_that_cannot_sign(tmp_path):
    """Keys that are missing, foreign, weak, or the last of their kind."""
    ring = KeyRing(tmp_path, lambda: 1000.0)
    assert said(ring.signing) == f"no key in {tmp_path} may sign: run `chronos-nas keys rotate --now`"
    ring.prepare()
    (record,) = ring.records()
    assert (
        said(lambda: ring.retire(record.kid))
        == f"key {record.kid} is the only one that signs: run `chronos-nas keys rotate --now` first"
    )
    (tmp_path / f"{record.kid}.pem").unlink()
    line = said(KeyRing(tmp_path, lambda: 1000.0).signing)
    assert line.startswith(f"cannot read the private key {tmp_path}/{record.kid}.pem: ")
    assert said(lambda: KeyRing(tmp_path, lambda: 0.0, pem="x")).endswith("RSA or P-256, unencrypted")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    def pem(key):
        form = serialization.PrivateFormat.PKCS8
        return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()

    line = said(lambda: KeyRing(tmp_path, lambda: 0.0, pem=pem(ed25519.Ed25519PrivateKey.generate())))
    assert "is no key we sign with: RSA of 2,048 bits or more, or P-256" in line
    line = said(lambda: KeyRing(tmp_path, lambda: 0.0, pem="x"))
    assert "is no private key in PEM form: " in line
    outside = object.__new__(KeyRing)
    outside._outside = record
    assert said(outside._own) == "the key is given from outside: replace the file or variable it comes from"


def test_a_database_that_cannot_be_used(tmp_path):
    """One that is no database, that is gone, or closed."""
    (tmp_path / "x").write_text("no database, but long enough to be looked at as one" * 40)
    line = said(SqliteBackend(tmp_path / "x").prepare)
    assert line.startswith(
        f"cannot use the database {tmp_path}/x: file is not a database: name another with --db or --home, or move that file away"
    )
    backend = SqliteBackend(tmp_path / "y")
    backend.prepare()
    line = said(lambda: backend.read(lambda session: session.all("SELECT * FROM absent")))
    assert line.startswith(f"cannot read the database {tmp_path}/y: no such table: absent: ")
    line = said(lambda: backend.write(lambda session: session.run("DELETE FROM absent", ())))
    assert line.startswith(f"cannot write the database {tmp_path}/y: no such table: absent: ")
    backend.close()
    assert said(lambda: backend.write(lambda session: None)).startswith("the registry is closed: ")


def test_a_database_that_does_not_take_a_change(tmp_path, monkeypatch):
    """A writer that is held up is an answer to the caller, not a wait without end."""
    backend = SqliteBackend(tmp_path / "x")
    backend.prepare()
    monkeypatch.setattr(sqlite, "WAIT_S", 0.05)
    line = said(lambda: backend.write(lambda _: time.sleep(0.4)))
    assert line.startswith(f"the database {tmp_path}/x did not take the change in time: ")
    monkeypatch.undo()
    backend.close()


def test_a_dead_one_whose_instant_is_armed_again(tmp_path):
    """It would be delivered twice."""
    backend = SqliteBackend(tmp_path / "x")
    backend.prepare()
    now = 1_800_000_000.0
    registry = TimerRegistry(backend, lambda: now)
    agent = AgentRegister(backend, lambda: now).add("one").agent
    wish = Provision(
        agent_id=agent.id, job_id="a", fire_at=int(now) - 1, fire_text="then", callback_url="https://a.example",
        host="https://a.example:443",
    )  # fmt: skip
    registry.apply([wish])
    (delivery,) = registry.claim([(due.schedule_id, due.attempts) for due in registry.due().timers])
    registry.settle([DeliveryOutcome(delivery=delivery, fate=Fate.DEAD, at=now, error="x")])
    registry.apply([wish])
    line = said(lambda: Operations(backend, lambda: now).redrive(delivery.schedule_id))
    dropped = f"drop this one with `chronos-nas dead drop {delivery.schedule_id}`; the other will be delivered"
    assert line == f"job a is armed for then again: {dropped}"
    backend.close()


def test_a_postgresql_that_cannot_be_used(monkeypatch):
    """Nobody listens, it is too busy, or its packages are not installed; a password is in no line."""
    require_module("psycopg")
    import psycopg

    from chronos_cli.nas_server.timers.postgres import PostgresBackend

    backend = PostgresBackend("postgresql://user:canary@127.0.0.1:9/x")
    line = said(backend.prepare)
    assert line.startswith("PostgreSQL cannot be reached: ")
    assert "canary" not in line
    assert said(PostgresBackend("postgresql://x?nonsense=1").prepare).startswith("cannot use the PostgreSQL database: ")
    line = said(lambda: backend.read(lambda session: session.all("SELECT 1")))
    assert line.startswith("PostgreSQL cannot be reached: ")

    def deadlocked(*_, **__):
        raise psycopg.errors.DeadlockDetected("deadlock detected")

    monkeypatch.setattr(backend._pool, "call", deadlocked)
    line = said(lambda: backend.write(lambda _: None))
    assert line.startswith("PostgreSQL is too busy: deadlock detected: ")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    line = said(backend.prepare)
    assert line == "PostgreSQL needs psycopg: install the extra: in the checkout, pip install '.[nas]'"


def test_a_key_file_of_a_nas_that_cannot_be_read(tmp_path):
    """The file that a variable names must be there."""
    home = NasHome(folder=tmp_path, database="sqlite:///x")
    line = said(lambda: home.key_ring(lambda: 0.0, {"CHRONOS_NAS_SIGNING_KEY_FILE": "/nowhere"}))
    assert line.startswith("cannot read the key /nowhere: ")
