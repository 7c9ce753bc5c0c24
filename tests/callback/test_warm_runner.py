"""Runners forked from a warm one beside the server: the same as those that are started, and never a second start."""

from __future__ import annotations

import _thread
import json
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import FunctionType

import pytest

from chronos_cli.callback.warm_start import WarmStart, choose_runner
from chronos_cli.config import load_config
from chronos_cli.core.decision import FireRequest, Trigger
from chronos_cli.core.row import RunState, over
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.evaluate import evaluate
from chronos_cli.operations.firing import launchers, runner
from chronos_cli.operations.firing.run import RunTicket, begin, finish
from chronos_cli.running import warm
from chronos_cli.running.detach import Runners
from chronos_cli.running.errors import StartError
from chronos_cli.running.machine import start_time
from chronos_cli.running.runner_channel import Reporter
from chronos_cli.running.spawn import death_wrapper
from chronos_cli.running.warm import WarmRunner
from tests.callback.shim_home import ROOT
from tests.inherited import DUMP, differences

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a warm runner is for Linux")

TELL = """
import ctypes, json, os, sys
import chronos_cli.operations.firing.runner as runner
from chronos_cli.operations.firing import warm_runner
from chronos_cli.running.runner_channel import begin_runner

def main(wrapper):
    inherited = sorted(os.listdir("/proc/self/fd"), key=int)
    claim, secrets, reporter = begin_runner(os.environ)
    asked = json.loads(claim)
    reporter.send({
        "pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0), "secrets": secrets, "cwd": os.getcwd(),
        "inherited": inherited[:-1], "hidden": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0,
        "environ": open("/proc/self/environ").read(), "variables": dict(os.environ), "wrapper": wrapper,
    })
    if "wait" in asked:
        import time
        time.sleep(asked["wait"])
    return asked.get("exit", 0)

runner.main = main
warm_runner.IDLE_S = float(os.environ.get("IDLE", "60"))
raise SystemExit(warm_runner.main(sys.argv[1:]))
"""
HOST = f"""
import os, signal, sys, threading, time
from chronos_cli.running.detach import Runners
runners = Runners()
argv = [sys.executable, "-c", {TELL!r}]
starter = threading.Thread(target=lambda: runners.warm_up(argv, os.environ))
starter.start()
starter.join()  # the thread that has started it is over
while not runners.warm:
    time.sleep(0.01)
copy = os.fork()
if copy == 0:
    taken = runners.hand_over(b"{{}}", environment=os.environ, secrets={{}})
    os._exit(0 if taken is None and not runners.warm else 1)
_, status = os.waitpid(copy, 0)
said = runners.hand_over(b'{{"wait": 30}}', environment=os.environ, secrets={{}}).next_message(20)
print(runners._warm[-1].pid, said["pid"], status, flush=True)
time.sleep(60)
"""


def variables(**more):
    """An environment in which this package can be imported from anywhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHRONOS_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def eventually(fact, within_s=10.0):
    """Wait until a fact holds; what it last was."""
    until = time.monotonic() + within_s
    while not (found := fact()) and time.monotonic() < until:
        time.sleep(0.01)
    return found


def is_running(pid):
    """Whether a process is there, and no zombie."""
    return start_time(pid) is not None


@pytest.fixture
def started():
    """Start warm runners whose runners tell about themselves; all are gone afterwards."""
    all_of_them = []

    def start(*settings, code=TELL, environment=None):
        made = WarmRunner.start([sys.executable, "-c", code, *map(str, settings)], environment or variables())
        all_of_them.append(made)
        assert eventually(lambda: made.usable)
        return made

    yield start
    for made in all_of_them:
        made.retire()
        assert eventually(made.reap)


def told(runner):
    """What a runner says first."""
    assert runner is not None
    return runner.next_message(20)


def test_secrets_go_to_the_forked_child_alone_and_it_has_nothing_else_of_the_warm_one(started):
    """A session of its own, five descriptors, closed memory, the variables given, and no secret in any environ."""
    made = started(environment=variables(CHRONOS_NAS_TOKEN="canary"))
    given = variables(CHRONOS_NAS_TOKEN="canary", CHRONOS_HOME="/another")
    runner = made.hand_over(b"{}", environment=given, secrets={"CHRONOS_NAS_TOKEN": "canary"})
    said = told(runner)
    assert said["secrets"] == {"CHRONOS_NAS_TOKEN": "canary"}
    assert (said["parent"], said["session"], said["cwd"]) == (made.pid, said["pid"], "/")
    assert said["inherited"] == ["0", "1", "2", "3", "4"]
    assert said["hidden"]
    assert said["variables"] == {k: v for k, v in given.items() if k != "CHRONOS_NAS_TOKEN"}
    seen = (
        said["environ"] + Path(f"/proc/{made.pid}/environ").read_text() + Path(f"/proc/{made.pid}/cmdline").read_text()
    )
    assert "canary" not in seen.replace(TELL, "")


def test_exits_are_reaped_and_passed_on(started):
    """The exit status of a forked runner, and the signal that killed one, are heard of; no zombie is left."""
    made = started()
    first = made.hand_over(b'{"exit": 7}', environment=variables(), secrets={})
    second = made.hand_over(b'{"wait": 30}', environment=variables(), secrets={})
    told(first)
    killed = told(second)["pid"]
    assert eventually(lambda: first.exit_status == 7)
    assert not second.reap()
    os.kill(killed, signal.SIGKILL)
    assert eventually(lambda: second.exit_status == -signal.SIGKILL)
    assert not Path(f"/proc/{killed}").exists()
    # Its reader sees the end of the pipe: the warm one keeps no copy.
    assert second.next_message(5) is None
    assert second.closed


def test_it_ends_with_its_server_and_not_with_a_thread_of_it_and_runners_go_on():
    """A killed server takes the warm runner along; the thread that started it did not, nor is it used by a copy."""
    host = subprocess.Popen([sys.executable, "-c", HOST], env=variables(), stdout=subprocess.PIPE, text=True)
    warm_pid, runner, copied = map(int, host.stdout.readline().split())
    assert copied == 0, "a fork of the server took the claim to its parent's warm runner"
    assert is_running(warm_pid)
    host.kill()
    host.wait()
    host.stdout.close()
    assert eventually(lambda: not is_running(warm_pid))
    assert is_running(runner)
    os.kill(runner, signal.SIGKILL)


def test_it_ends_with_nothing_to_do_and_not_while_a_runner_goes(started):
    """After its idle time it is gone; while a runner of it goes it stays, to take its exit status."""
    assert warm.IDLE_S == 60
    made = started(environment=variables(IDLE="0.3"))
    runner = made.hand_over(b'{"wait": 0.8, "exit": 5}', environment=variables(IDLE="0.3"), secrets={})
    told(runner)
    assert eventually(lambda: runner.exit_status == 5)
    assert eventually(lambda: made.over)
    assert eventually(made.reap)
    assert made.hand_over(b"{}", environment=variables(IDLE="0.3"), secrets={}) is None


@pytest.mark.parametrize("what", ["package", "distribution", "zones", "machine's zones", "configuration"])
def test_nothing_is_run_by_old_code(started, tmp_path, what):
    """Once the program, what is installed, the zones or the configuration changed, a claim comes back at once."""
    config, zones, installed = tmp_path / "config.yaml", tmp_path / "zones", tmp_path / "site"
    (zones / "Etc").mkdir(parents=True)
    installed.mkdir()
    config.write_text("timezone: UTC\n")
    (zones / "tzdata.zi").write_text("# version 1\n")
    module = tmp_path / "loaded" / "chronos_cli_extra.py"
    module.parent.mkdir()
    module.write_text("A = 1\n")
    load = (
        "import sys, types; import chronos_cli; "
        f"extra = types.ModuleType('chronos_cli.extra'); extra.__file__ = {str(module)!r}; "
        "sys.modules['chronos_cli.extra'] = extra\n"
    )
    environment = variables(PYTHONTZPATH=str(zones), PYTHONPATH=f"{ROOT}{os.pathsep}{installed}")
    made = started(config, code=load + TELL, environment=environment)
    before = made.hand_over(b"{}", environment=environment, secrets={})
    assert told(before)["parent"] == made.pid
    assert eventually(before.reap)
    {
        "package": lambda: module.write_text("A = 2\n"),
        "distribution": (installed / "other-2.0.dist-info").mkdir,
        "zones": lambda: (zones / "tzdata.zi").write_text("# version 2\n"),
        "machine's zones": lambda: (zones / "leap-seconds.list").write_text("new\n"),
        "configuration": lambda: config.write_text("timezone: Europe/Berlin\n"),
    }[what]()
    began = time.monotonic()
    runner = made.hand_over(b"{}", environment=environment, secrets={})
    assert told(runner) is None
    assert time.monotonic() - began < 5
    assert eventually(lambda: made.over)
    assert eventually(made.reap)


def test_a_server_whose_mask_or_limits_changed_hands_nothing_over(started):
    """What a child would inherit from the server must be what the warm one has inherited; other variables neither."""
    made = started()
    assert made.hand_over(b"{}", environment=variables(LANG="xx"), secrets={}) is None
    assert not made.over
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        assert made.hand_over(b"{}", environment=variables(), secrets={}) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert made.over
    another = started()
    before = os.umask(0o027)
    os.umask(0o127)
    try:
        assert another.hand_over(b"{}", environment=variables(), secrets={}) is None
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("configured", "environ", "more", "warm_one"),
    [
        ("auto", {}, {}, True),
        ("off", {}, {}, False),
        ("auto", {}, {"freezes": True}, False),
        ("auto", {}, {"passing": True}, False),
        ("auto", {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {}, False),
    ],
)
def test_it_is_chosen_where_a_server_stays(configured, environ, more, warm_one):
    """Not where it is turned off, where the platform freezes, or where the server is there only while somebody calls."""
    choice = choose_runner(configured, environ, **{"freezes": False, **more})
    assert choice.warm is warm_one
    assert choice.because


def test_it_is_started_by_two_answers_close_together():
    """One answer starts nothing, nor do two that are further apart than its idle time; and where it is off, none do."""

    class Seen(Runners):
        count = 0

        def warm_up(self, argv, environment):
            assert argv[0] == sys.executable
            assert argv[-2:] == ("--warm", "config.yaml")
            assert environment == {"A": "1"}
            self.count += 1

    now, seen = [0.0], Seen()
    auto, never = (partial(choose_runner, configured, {}, freezes=False) for configured in ("auto", "off"))
    warm_start = WarmStart(seen, auto, ("config.yaml",), lambda: now[0])
    for at, expected in ((0.0, 0), (61.0, 0), (121.0, 1), (122.0, 2)):
        now[0] = at
        warm_start.answered({"A": "1"})
        assert seen.count == expected
    off = WarmStart(seen, never, (), lambda: 0.0)
    off.answered({})
    off.answered({})
    assert seen.count == 2


# -- whole fires ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def warmed(home, tmp_path, monkeypatch):
    """A home whose server has a warm runner; and what its job says of itself when its runner was started."""
    monkeypatch.delenv("CHRONOS_CALLBACK_WARM_RUNNER")
    (tmp_path / "dump.py").write_text(DUMP)
    shell = f"{sys.executable} -I -S {tmp_path / 'dump.py'}"
    home.shell = f"exec {shell}"
    for name in ("first", "second"):
        home.add(name, "every 1h", home.shell, ago=1)
        assert home.fire(name).status == 202
    home.wait_for_rows("first", state="ok")
    home.wait_for_rows("second", state="ok")
    runners = home.application.callback()._runners
    assert eventually(lambda: runners.warm)
    yield home
    for made in runners._warm:
        made.retire()
        assert eventually(made.reap)


def dump_of(home, job_id):
    """What a job has said of itself."""
    (path,) = (home.home / "cron/output" / job_id).glob("*.log")
    return json.loads(path.read_text())


def test_a_forked_runner_and_its_job_are_as_those_of_a_started_one(warmed):
    """Session, descriptors, signals, mask, limits, users and environment, of the runner and of the job."""
    warmed.add("third", "every 1h", warmed.shell, ago=1)
    assert warmed.fire("third").status == 202
    warmed.wait_for_rows("third", state="ok")
    as_started, forked = dump_of(warmed, "first"), dump_of(warmed, "third")
    assert as_started["from"] == os.getpid()
    assert forked["from"] == warmed.application.callback()._runners._warm[-1].pid
    forked["dump"]["runner"]["files"].remove("socket")  # its way to the server, for the write of its end
    assert differences(as_started["dump"], forked["dump"]) == {}


def test_health_says_how_runners_are_started(home, warmed):
    """/healthz names the way that the next fire goes, and why."""
    said = warmed.request(REQUEST_METHOD="GET", path="/healthz").json
    assert (said["runner"], "60 s" in said["runner_because"]) == ("warm", True)


def test_the_switch_turns_it_off(home, monkeypatch):
    """callback.warm_runner off: two answers start nothing, and /healthz says so."""
    monkeypatch.setenv("CHRONOS_CALLBACK_WARM_RUNNER", "off")
    for name in ("first", "second"):
        home.add(name, "every 1h", "true", ago=1)
        assert home.fire(name).status == 202
    assert home.application.callback()._runners._warm == []
    said = home.request(REQUEST_METHOD="GET", path="/healthz").json
    assert (said["runner"], said["runner_because"]) == ("started", "callback.warm_runner says so")


def test_there_is_none_where_something_replaces_threads(home, monkeypatch):
    """As gevent's monkey patch does, also once the server answers: what waits for runners would stop it.

    /healthz names what replaces them. Ends of runs are not shared there either.
    """
    monkeypatch.delenv("CHRONOS_CALLBACK_WARM_RUNNER")
    home.add("first", "every 1h", "true", ago=1)
    assert home.fire("first").status == 202
    greenlet = FunctionType((lambda *_: None).__code__, {"__name__": "gevent.thread"})
    monkeypatch.setattr(_thread, "start_new_thread", greenlet)
    for name in ("second", "third"):
        home.add(name, "every 1h", "true", ago=1)
        assert home.fire(name).status == 202
    callback = home.application.callback()
    assert (callback._runners._warm, callback._runners.end_fd) == ([], -1)
    said = home.request(REQUEST_METHOD="GET", path="/healthz").json
    assert (said["runner"], "gevent replaces threads" in said["runner_because"]) == ("started", True)


def test_a_stopped_child_that_goes_on_later_starts_nothing_twice(warmed, tmp_path, monkeypatch):
    """The claim is taken over by a runner that is started, and the child, once continued, finds that it has lost."""
    monkeypatch.setattr(launchers, "WARM_WITHIN_S", 0.5)
    mark = tmp_path / "stopped"
    served = warmed.application.callback()._homes.main
    object.__setattr__(served, "environment", {**served.environment, "CHRONOS_TEST_STOP_AT": f"starting:{mark}"})
    warmed.add("third", "every 1h", f"echo x >> {tmp_path}/ran", ago=1)
    reply = warmed.fire("third")
    assert (reply.status, reply.json["result"]) == (202, "claimed")
    (row,) = warmed.wait_for_rows("third", state="ok")
    stopped = int(mark.read_text())
    assert row["attempts"][-1]["owner"]["pid"] != stopped if "owner" in row["attempts"][-1] else True
    assert is_running(stopped)
    os.kill(stopped, signal.SIGCONT)
    assert eventually(lambda: not is_running(stopped))
    assert (tmp_path / "ran").read_text() == "x\n"
    assert [found["state"] for found in warmed.rows("third")] == ["ok"]


def test_the_job_follows_its_own_supervisor_and_not_the_warm_runner(warmed, tmp_path):
    """The warm runner's death ends no run; the runner's ends its job."""
    for name in ("third", "fourth"):
        warmed.add(name, "every 1h", f"echo $$ $PPID > {tmp_path}/{name}; sleep 1", ago=1)
        assert warmed.fire(name).status == 202
    found = {
        name: eventually(lambda name=name: (tmp_path / name).exists() and (tmp_path / name).read_text().split())
        for name in ("third", "fourth")
    }
    os.kill(warmed.application.callback()._runners._warm[-1].pid, signal.SIGKILL)
    job, runner = map(int, found["fourth"])
    os.kill(runner, signal.SIGKILL)
    assert eventually(lambda: not is_running(job), 0.8)
    warmed.wait_for_rows("third", state="ok")
    warmed.add("fifth", "every 1h", "true", ago=1)
    assert warmed.fire("fifth").status == 202, "and fires go on without it"


@pytest.mark.skipif(not death_wrapper(), reason="needs the setpriv of util-linux 2.33")
def test_a_warm_runner_starts_a_shell_without_a_copy_of_itself(started, home, monkeypatch):
    """What it has tried once reaches the runners that it forks, and these their jobs."""
    wrapper = death_wrapper()
    said = told(started().hand_over(b"{}", environment=variables(), secrets={}))
    assert said["wrapper"] == list(wrapper)
    home.add("beat", "every 1h", "echo $CHRONOS_JOB_ID", ago=1)
    outside = ProcessEnvironment(environ=dict(os.environ), secrets={})
    ctx = open_home(load_config(environ=os.environ), outside, armed=False)
    looked = evaluate(ctx, "beat", FireRequest(via=Trigger.RELAY, token=ctx.token()))
    ticket = RunTicket.of(looked.job, looked.decision.starts[0], ctx.token())
    launching = {"home": str(home.home), "armed": False}
    monkeypatch.setattr(runner, "begin_runner", lambda _: (
        json.dumps({"claim": ticket.to_json(), "launching": launching}).encode(), {}, Reporter(-1)
    ))  # fmt: skip
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("this process was copied"))
    assert runner.main(wrapper) == 0
    (output,) = (home.home / "cron/output/beat").glob("*.log")
    assert output.read_text() == "beat\n"


def test_one_claim_begun_twice_is_won_once(home, tmp_path):
    """The very same hand-over, with the same token, again: the second process finds the first one's lock in the row."""
    home.add("beat", "every 1h", f"echo x >> {tmp_path}/ran", ago=1)
    config = load_config(environ=os.environ)
    ctx = open_home(config, ProcessEnvironment(environ=dict(os.environ), secrets={}), armed=False)
    looked = evaluate(ctx, "beat", FireRequest(via=Trigger.RELAY, token=ctx.token()))
    ticket = RunTicket.of(looked.job, looked.decision.starts[0], ctx.token())
    first = begin(ctx, ticket)
    assert begin(ctx, RunTicket.from_json(json.loads(json.dumps(ticket.to_json())))) is None
    assert finish(ctx, first).state is RunState.OK
    assert begin(ctx, ticket) is None
    assert (tmp_path / "ran").read_text() == "x\n"


def test_a_row_that_somebody_settles_while_it_is_made_is_not_taken_back(home, monkeypatch):
    """`job unlock` may come between the row and the look whether its run is in hand: its word stands."""
    home.add("beat", "every 1h", "true", ago=1)
    config = load_config(environ=os.environ)
    ctx = open_home(config, ProcessEnvironment(environ=dict(os.environ), secrets={}), armed=False)
    looked = evaluate(ctx, "beat", FireRequest(via=Trigger.RELAY, token=ctx.token()))
    create = ctx.repository.rows.create

    def settled(row):
        version = create(row)
        ctx.repository.rows.replace(over(row, RunState.LOST, now=ctx.clock(), reason="unlocked"), version)
        path = home.home / "cron/jobs.json"
        document = json.loads(path.read_text())
        document["jobs"][0] |= {"fire_claim": None}
        document["jobs"][0]["chronos"] |= {"open": [], "change": "f" * 16}
        path.write_text(json.dumps(document))
        return version

    monkeypatch.setattr(ctx.repository.rows, "create", settled)
    assert begin(ctx, RunTicket.of(looked.job, looked.decision.starts[0], ctx.token())) is None
    assert [row["state"] for row in home.rows("beat")] == ["lost"]


def test_a_program_that_is_not_there_is_an_error_with_nothing_left_open():
    """The claim is then handed to a runner of its own."""
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(StartError, match="the warm runner could not be started: No such file"):
            WarmRunner.start(["/nowhere/python"], variables())
    assert len(list(Path("/dev/fd").iterdir())) < before + 10  # who else is in this process may open one or two
