"""What a process of ours remembers, no other process of its user reads: not its jobs, not those of others."""

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from real_processes import eventually, is_running

from tests.fire_tokens import AUDIENCE, SigningKey
from tests.ports import free_port
from tests.unprivileged import unprivileged

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CANARY = "canary-nas-token-5f1c0ffee"

SCAN = r"""
import os, re, sys
wanted = [bytes(reversed(word.encode())) for word in sys.argv[1:]]

def reached(pid):
    while pid > 1:
        yield pid
        pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])

def memory(pid):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, rights = line.split()[:2]
            if "r" not in rights or "[v" in line:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                yield os.pread(mem.fileno(), end - start, start)
            except OSError:
                pass

def descriptors(pid):
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            fd = os.open(f"/proc/{pid}/fd/{name}", os.O_RDONLY | os.O_NONBLOCK)
            yield os.pread(fd, 1 << 20, 0)
        except OSError:
            pass

def file(name):
    return lambda pid: [open(f"/proc/{pid}/{name}", "rb").read()]

looks = {"mem": memory, "fd": descriptors, "environ": file("environ"), "cmdline": file("cmdline")}
for pid in reached(os.getppid()):
    name = open(f"/proc/{pid}/comm").read().strip()
    for what, look in looks.items():
        try:
            found = [word for word in wanted if any(word in data for data in look(pid))]
            print(name, what, "LEAKS" if found else "nothing")
        except (PermissionError, FileNotFoundError) as error:
            print(name, what, "closed")
"""
"""A job that looks into all above it. It is told what to look for backwards, so that it does not find itself."""


@pytest.fixture
def user():
    with unprivileged() as one:
        yield one


def make_home(user, nas_url="http://127.0.0.1:9"):
    """A home of that user with one job, due now, that looks; the key of its NAS and its instant."""
    key = SigningKey.es256()
    keys = user.home / "keys.json"
    keys.write_text(json.dumps(key.jwks()))
    keys.chmod(0o644)
    (user.home / "scan.py").write_text(SCAN)
    (user.home / "scan.py").chmod(0o644)
    home = user.home / "h"
    config = (
        "timezone: UTC\ncron:\n  provider: builtin\n  chronos:\n"
        f"    portal_url: {nas_url}\n    expected_audience: {AUDIENCE}\n    nas_jwks_url: {keys}\n"
    )
    assert user.run([user.python, "-c", f"import os; os.mkdir({str(home)!r}, 0o700)"])[0] == 0
    (home / "config.yaml").write_text(config)
    (home / "config.yaml").chmod(0o644)
    return key, home


def chronos(user, *words):
    return [user.python, "-m", "chronos_cli", *map(str, words)]


def add(user, home, looked, *words):
    command = (user.python, user.home / "scan.py", *(word[::-1] for word in looked))
    done = user.run(
        chronos(user, "--home", home, "job", "add", "@yearly", "--id", "spy", *words, "--command", *command)
    )
    assert done[0] == 0, done
    path = home / "cron/jobs.json"
    document = json.loads(path.read_text())
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
    for job in document["jobs"]:
        job["next_run_at"] = at.isoformat()
    path.write_text(json.dumps(document))
    return at


def seen(user, home):
    """What the job saw, by process and place."""
    logs = home / "cron/output/spy"
    assert eventually(lambda: any("cmdline" in path.read_text() for path in logs.glob("*.log")), 20)
    assert eventually(
        lambda: "ok" in [json.loads(path.read_text())["state"] for path in (home / "cron/runs/spy").glob("*.json")], 20
    )
    code, out, err = user.run(chronos(user, "--home", home, "logs", "spy"))
    assert code == 0, err
    return [tuple(line.split()) for line in out.splitlines() if line.count(" ") == 2]


def judged(lines, *, programs):
    """Each place of each of our processes is closed or holds nothing; the others are not ours to judge."""
    assert {what for _, what, _ in lines} == {"mem", "fd", "environ", "cmdline"}, lines
    ours = [line for line in lines if line[0].startswith(programs)]
    assert [line for line in ours if line[2] == "LEAKS"] == []
    assert ("closed", "mem") in {(said, what) for _, what, said in ours}
    return ours


@pytest.mark.parametrize("detach", [False, True])
def test_job_of_a_fire_finds_no_secret_above_it(user, detach):
    """Neither the NAS token nor the fire's own, in memory, environment, arguments or open files of `chronos fire`."""
    key, home = make_home(user)
    token = key.token(iss="http://127.0.0.1:9", jti="t")
    at = add(user, home, [CANARY, token])
    words = ("--home", home, "fire", "--job-id", "spy", "--fire-at", at.isoformat(), "--token", "-")
    code, out, err = user.run(
        chronos(user, *words, *(("--detach",) if detach else ())), stdin=token, CHRONOS_NAS_TOKEN=CANARY
    )
    assert code == 0, (out, err)
    judged(seen(user, home), programs=("python", "chronos"))


def test_what_the_scan_finds_without_that_wall(user):
    """The same job, let in by the switch for debuggers, finds the token: the scan would see a leak."""
    key, home = make_home(user)
    token = key.token(iss="http://127.0.0.1:9", jti="t")
    at = add(user, home, [CANARY, token])
    words = ("--home", home, "fire", "--job-id", "spy", "--fire-at", at.isoformat(), "--token", "-")
    done = user.run(chronos(user, *words), stdin=token, CHRONOS_NAS_TOKEN=CANARY, CHRONOS_DUMPABLE="1")
    assert done[0] == 0, done
    assert ("mem", "LEAKS") in {(what, said) for _, what, said in seen(user, home)}


@pytest.mark.parametrize("command", [("run", "spy"), ("tick",)])
def test_job_of_other_commands_finds_no_secret_above_it(user, command):
    """`run` and `tick` hold the NAS token too."""
    _, home = make_home(user)
    add(user, home, [CANARY])
    done = user.run(chronos(user, "--home", home, *command), CHRONOS_NAS_TOKEN=CANARY)
    assert done[0] == 0, done
    judged(seen(user, home), programs=("python", "chronos"))


@pytest.mark.parametrize("warm", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_job_of_the_callback_finds_no_secret_above_it(user, warm):
    """Nor in the worker that took the call: its memory holds the NAS token and the tokens of other fires.

    Nor in the warm runner, which has forked runners for those other fires, or in the one that it forks.
    """
    key, home = make_home(user)
    others = ("one", "two") if warm else ()
    for name in others:
        done = user.run(chronos(user, "--home", home, "job", "add", "@yearly", "--id", name, "--shell", "true"))
        assert done[0] == 0, done
    other, own = (key.token(iss="http://127.0.0.1:9", jti=name) for name in ("other", "own"))
    at = add(user, home, [CANARY, other, own])
    port = free_port()
    argv = [user.python, "-m", "chronos_cli.callback.serve", "--listen", f"127.0.0.1:{port}"]
    server = user.start(argv, CHRONOS_HOME=str(home), CHRONOS_NAS_TOKEN=CANARY)
    try:
        eventually(lambda: _connects(port), 20)
        assert _post(port, other, {"job_id": "nobody"}) == 200
        for name in others:
            token = key.token(iss="http://127.0.0.1:9", jti=name)
            assert _post(port, token, {"job_id": name, "fire_at": at.isoformat()}) == 202
        assert not warm or eventually(lambda: b'"runner": "warm"' in _health(port), 30)
        assert _post(port, own, {"job_id": "spy", "fire_at": at.isoformat()}) == 202
        ours = judged(seen(user, home), programs=("python", "chronos"))
        above = [name for name in _names_above() if name.startswith(("python", "chronos"))]  # what runs this test
        assert len(ours) == 4 * ((3 if warm else 2) + len(above))
    finally:
        server.terminate()
        server.communicate(timeout=20)


def _names_above():
    """The names of this process and of all above it, but the first."""
    pid = os.getpid()
    while pid > 1:
        yield Path(f"/proc/{pid}/comm").read_text().strip()
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _connects(port):
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True


def _health(port):
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30) as answer:
        return answer.read()


def _post(port, token, body):
    from http.client import HTTPConnection

    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/api/cron/fire", json.dumps(body), {"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_nothing_waits_for_a_runner_where_others_could_take_it_before_it_closes_itself(user):
    """A program that has just been started is open to all of its user; until it runs our code, /proc shows no secret of ours in it."""
    program = (
        "import os, signal, subprocess, sys, time\nfrom chronos_cli.running.detach import start_runner\n"
        f"given = {{'CHRONOS_NAS_TOKEN': {CANARY!r}}}\n"
        "runner = start_runner(['/bin/sleep', '60'], b'claim', environment={**os.environ, **given}, secrets=given)\n"
        "while open(f'/proc/{runner.pid}/comm').read() != 'sleep\\n': time.sleep(0.01)\n"
        "looked = f'SCAN = open(sys.argv.pop(1)).read().replace(\"os.getppid()\", sys.argv.pop(1))\\nexec(SCAN)'\n"
        "spy = [sys.executable, '-c', 'import sys\\n' + looked, 'scan.py', str(runner.pid), given['CHRONOS_NAS_TOKEN'][::-1]]\n"
        "print(subprocess.run(spy, stdout=subprocess.PIPE, text=True).stdout)\n"
        "os.kill(runner.pid, signal.SIGKILL)\n"
    )
    make_home(user)
    code, out, err = user.run([user.python, "-c", program])
    assert code == 0, err
    assert {tuple(line.split()) for line in out.splitlines() if line.startswith("sleep")} == {
        ("sleep", what, "nothing") for what in ("mem", "fd", "environ", "cmdline")
    }


def test_own_files_in_proc_still_serve(user):
    """A closed process still knows its machine, its descriptors and its start, and can blank what it was given."""
    program = (
        "import os\nfrom chronos_cli.private_memory import hide_memory\n"
        "assert hide_memory()\n"
        "from chronos_cli.running.secrecy import take_secrets\nfrom chronos_cli.running.machine import *\n"
        "from chronos_cli.running.descriptors import inheritable\n"
        "assert take_secrets(os.environ) == {'CHRONOS_NAS_TOKEN': 'canary-nas-token'}\n"
        "assert all(machine_identity().values()) and start_time(os.getpid()) and inheritable() is not None\n"
        "from chronos_cli.private_memory import shown_memory\n"
        "with shown_memory(): assert b'canary' not in open('/proc/self/environ', 'rb').read()\n"
        "try: open('/proc/self/mem', 'rb'); raise SystemExit('open')\nexcept PermissionError: print('closed')\n"
    )
    done = user.run([user.python, "-c", program], CHRONOS_NAS_TOKEN="canary-nas-token")
    assert done == (0, "closed\n", "")


def test_no_core_is_left_and_the_job_has_its_limit(user):
    """A crash of ours dumps nothing though the limit allows it; what is started has that limit as it was."""
    program = (
        "import os, resource, signal, subprocess\nfrom chronos_cli.private_memory import hide_memory\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))\n"
        "hide_memory()\n"
        "print(subprocess.check_output(['sh', '-c', 'ulimit -c; cat /proc/$$/environ | head -c 1'], text=True))\n"
        "pid = os.fork()\nif not pid: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "print(os.WCOREDUMP(os.waitpid(pid, 0)[1]))\n"
    )
    import resource

    if 0 <= resource.getrlimit(resource.RLIMIT_CORE)[1] < 4096:
        pytest.skip("core dumps are forbidden here")
    code, out, err = user.run([user.python, "-c", program])
    assert code == 0, err
    limit, *_, dumped = out.split()
    assert (limit in ("4", "8"), dumped) == (True, "False")


def test_stopped_runner_is_taken_over_by_its_own_user(user):
    """Its descriptors cannot be seen any more; it is found and ended all the same, with its job."""
    _, home = make_home(user)
    command = ("job", "add", "@yearly", "--id", "spy", "--timeout", "1s", "--command", "sleep", "600")
    assert user.run(chronos(user, "--home", home, *command))[0] == 0
    runner = user.start(chronos(user, "--home", home, "run", "spy"), CHRONOS_NAS_TOKEN=CANARY)
    try:
        job = _started(home, runner.pid)
        os.kill(runner.pid, signal.SIGSTOP)
        code, out, err = user.run(chronos(user, "--home", home, "job", "unlock", "spy", "--yes"))
        assert code == 0, (out, err)
        assert runner.wait(10) == -signal.SIGKILL
        assert eventually(lambda: not is_running(job))
    finally:
        runner.kill()
        runner.communicate()


def _started(home, runner):
    """The pid of the job's process, once its row says that it runs."""

    def child():
        rows = [json.loads(path.read_text()) for path in (home / "cron/runs/spy").glob("*.json")]
        stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
        found = [int(stat.split()[0]) for stat in stats if f"(sleep) S {runner} " in stat]
        return found if rows and rows[0]["state"] == "running" else []

    return eventually(child, 20)[0]


def test_memory_of_the_nas_is_closed_too(user):
    """It holds the keys that sign; a program of the same user does not read them out of it."""
    serve = ("serve", "--port", "0", "--home", user.home / "nas")
    server = user.start([user.python, "-m", "chronos_cli.nas_server", *map(str, serve)])
    try:
        assert "listening" in server.stderr.readline()
        look = f"open('/proc/{server.pid}/mem', 'rb')"
        code, _, err = user.run([user.python, "-c", look])
        assert (code, "PermissionError" in err) == (1, True)
    finally:
        server.terminate()
        server.communicate(timeout=20)
