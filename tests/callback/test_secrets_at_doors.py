"""References of jobs behind the doors that NAS comes through: a canary in each reaches its job, and nobody else."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from chronos_cli.cli import main
from tests.callback.hosts import Caller, serving
from tests.callback.shim_home import ROOT
from tests.played_server import Answer, PlayedServer
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

USER, STRANGER = 65534, 12345
MARK = "kanarie-"
CANARIES = {kind: f"{MARK}{kind}-0123456789" for kind in ("env", "file", "cmd", "vars", "header", "body")}
PEEK = """\
for found in $(grep -la 'kanari[e]-' /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null); do
  echo "${found##*/} of $(tr '\\0' '\\n' < ${found%/*}/environ 2>/dev/null | grep -a ^CHRONOS_JOB_ID=)"
done
"""
AS = "import os, sys; os.setgroups([]); os.setgid({0}); os.setuid({0}); os.execv(sys.argv[1], sys.argv[1:])"
UNPRIVILEGED = """
import ctypes, os, sys
for right in (19, 21, 38):  # CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON
    ctypes.CDLL(None).prctl(24, right, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Root whom the kernel lets look into other processes no further than it does anybody."""
SHOW = (
    ("list", "--json"), ("job", "show", "own"), ("job", "show", "web", "--json"), ("job", "export"), ("job", "export", "-o", "apply"),
    ("history", "--json"), ("history", "bad"), ("logs", "own"), ("logs", "bad"), ("logs", "web", "--json"), ("status", "--json"),
    ("--debug", "doctor", "--json"), ("timeline",), ("-vv", "job", "edit", "own", "--env", "M=x", "--dry-run"),
    ("job", "export", "--format", "kubernetes"), ("job", "export", "--format", "systemd"), ("job", "export", "--format", "crontab"),
)  # fmt: skip


@pytest.fixture
def web():
    """A server that says what it was sent, as some do, and no sooner than it is told to."""

    def said(call):
        server.go.wait(20)
        return Answer(500, f"you said {call.headers['Authorization']} ".encode() + call.data)

    with PlayedServer(said) as server:
        server.go = threading.Event()
        yield server
        server.go.set()


@pytest.fixture
def user(tmp_path):
    """Return the user that chronos runs as here: one who is not root, where such a one can run this Python."""
    if os.getuid() != 0:
        return os.getuid()
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder).startswith("/tmp/") and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    probe = as_user(USER, [sys.executable, "-c", "import chronos_cli.callback.serve"])
    done = subprocess.run(probe, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    return USER if done.returncode == 0 else 0


def as_user(uid, words):
    """Return the words that run a program as somebody; only root can be another."""
    if os.getuid() != 0:
        return words
    return [sys.executable, "-I", "-c", AS.format(uid) if uid else UNPRIVILEGED, *words]


def put(home, web, folder, user):
    """The jobs: one that holds its values until it is let go, a request, one that fails and tells, one that peeks."""
    hold = f"env > {folder}/own; echo $A $B $C; read go < {folder}/go"
    os.mkfifo(folder / "go")
    bad = "echo $A; echo $A >&2; exit 3"
    refers = {"A": {"from": "env:SECRET_SOURCE"}, "B": {"from": f"file:{folder}/file"}}
    refers["C"] = {"from": f"cmd:cat {folder}/printed"}
    request = {
        "url": f"{web.url}/", "method": "POST", "body_from": f"file:{folder}/body",
        "headers": {"Authorization": {"before": "Bearer ", "from": "env:HEADER_SOURCE"}},
    }  # fmt: skip
    tell = ("sh", "-c", f"cat > {folder}/alert.json; env > {folder}/alert.env")
    for name, line, ours in (
        ("own", hold, {"env": refers, "env_file": [f"{folder}/vars"]}),
        ("bad", bad, {"env": refers}),
        ("web", "true", {"action": {"http": request}}),
        ("peek", f"env; {PEEK}", {}),
    ):
        home.add(name, "every 1h", line, ago=1, on_failure=tell, inherit_env=())
        document = json.loads((home.home / "cron/jobs.json").read_text())
        document["jobs"][-1]["chronos"] |= ours
        (home.home / "cron/jobs.json").write_text(json.dumps(document))
    for name, text in (("file", "file"), ("printed", "cmd"), ("body", "body")):
        (folder / name).write_text(CANARIES[text] + "\n")
    (folder / "vars").write_text(f"D={CANARIES['vars']}\n")
    for path in (folder, *folder.iterdir(), home.home, *home.home.rglob("*")):
        os.chown(path, user, user if os.getuid() == 0 else -1)


@pytest.mark.parametrize("door", ["shim", pytest.param("fire", marks=pytest.mark.soak)])
def test_a_canary_reaches_its_job_alone(door, home, web, tmp_path, user, monkeypatch, capsys):
    """Not a file, an argument, a process of another job or user, an alert, a log, an export, nor anything we say."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("CHRONOS_SAFE_HOMES", str(home.home))  # it is another user's once the jobs are there
    with (home.home / "config.yaml").open("a") as config:
        config.write("policy: {inherit_env: none}\n")
    put(home, web, folder, user)
    given = {"SECRET_SOURCE": CANARIES["env"], "HEADER_SOURCE": CANARIES["header"], "CHRONOS_DEBUG": "1"}
    port, log, going = free_port(), tmp_path / "log", []

    def through_the_shim(job_id):
        assert Caller(port)(json.dumps({"job_id": job_id}).encode(), token=home.token()).status == 202

    def through_fire(job_id):
        words = [sys.executable, "-m", "chronos_cli", "--debug", "fire", "--job-id", job_id, "--token", "-", "--detach"]
        with log.open("ab") as said:
            done = subprocess.run(
                as_user(user, words), env={**os.environ, **given}, input=home.token().encode(), stdout=said,
                stderr=said, check=False, timeout=30,
            )  # fmt: skip
        assert done.returncode == 0, log.read_text()

    def checked(fire):
        for job_id in ("own", "web", "bad"):
            fire(job_id)
        until = time.monotonic() + 20
        while not (web.calls and (folder / "own").exists() and (folder / "own").read_text().count("\n") > 10):
            assert time.monotonic() < until
            time.sleep(0.02)
        fire("peek")
        home.wait_for_rows("peek", state="ok")
        strangers = subprocess.run(
            as_user(STRANGER, ["/bin/sh", "-c", f"{PEEK} grep -r 'kanari[e]-' {tmp_path} 2>/dev/null"]),
            capture_output=True, text=True, check=False, timeout=30,
        ).stdout if os.getuid() == 0 else ""  # fmt: skip
        going.extend(path / "cmdline" for path in Path("/proc").iterdir() if path.name.isdecimal())
        shown = [path for path in going if MARK in read(path)]
        web.go.set()
        (folder / "go").write_text("go\n")
        home.wait_for_rows("own", state="ok")
        home.wait_for_rows("web", state="failed")
        home.wait_for_rows("bad", state="failed")
        return strangers, shown

    if door == "shim":
        argv = [sys.executable, "-m", "chronos_cli.callback.serve", "--listen", f"127.0.0.1:{port}"]
        with serving(as_user(user, argv), port, log, **given):
            strangers, shown = checked(through_the_shim)
    else:
        strangers, shown = checked(through_fire)

    assert (strangers, shown) == ("", [])
    has = dict(line.partition("=")[::2] for line in (folder / "own").read_text().splitlines())
    assert [has[name] for name in "ABCD"] == [CANARIES[kind] for kind in ("env", "file", "cmd", "vars")]
    assert not {"SECRET_SOURCE", "HEADER_SOURCE"} & has.keys()
    (call,) = web.calls
    assert (call.headers["Authorization"], call.data.decode()) == (f"Bearer {CANARIES['header']}", CANARIES["body"])
    (output,) = (home.home / "cron/output/peek").iterdir()
    peeked = {line for line in output.read_text().splitlines() if " of " in line}
    assert peeked == {"environ of CHRONOS_JOB_ID=own"}, "a job of the same user sees its process, and no other"
    monkeypatch.setenv("SECRET_SOURCE", CANARIES["env"])
    monkeypatch.setenv("HEADER_SOURCE", CANARIES["header"])
    (tmp_path / "again.yaml").write_text("- {id: own, schedule: every 1h, shell: x, env: {A: 'env:SECRET_SOURCE'}}\n")
    capsys.readouterr()
    for words in (*SHOW, ("apply", "-f", str(tmp_path / "again.yaml"), "--dry-run", "-o", "diff")):
        main(list(words))
    said = "".join(capsys.readouterr())
    assert "env:SECRET_SOURCE" in said
    assert "exited with status 3: ***" in said
    alerts = "".join((folder / name).read_text() for name in ("alert.json", "alert.env"))
    assert "exited with status 3" in alerts or "500" in alerts
    kept = {str(path.relative_to(tmp_path)): read(path) for path in home.home.rglob("*") if path.is_file()}
    for where, text in {**kept, "log": read(log), "said": said, "alerts": alerts}.items():
        assert [kind for kind, canary in CANARIES.items() if canary in text] == [], where


def read(path):
    """The text of a file; of a process that has ended, none."""
    try:
        return Path(path).read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
