"""No job can find a secret of ours in the process above it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from real_processes import eventually, program_environment

from chronos_cli.running.secrecy import take_secrets, without_secrets

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_secrets_are_left_out_of_an_environment():
    """Ours always, and those that the caller names."""
    given = {"A": "1", "CHRONOS_NAS_TOKEN": "n", "CHRONOS_FIRE_TOKEN": "f", "B": "2"}
    assert without_secrets(given, ["B"]) == {"A": "1"}


def test_taken_secrets_are_returned_once():
    """They leave the environment they were taken from."""
    environment = {"CHRONOS_NAS_TOKEN": "n", "A": "1"}
    assert take_secrets(environment) == {"CHRONOS_NAS_TOKEN": "n"}
    assert environment == {"A": "1"}
    assert take_secrets(environment) == {}


@linux
def test_they_vanish_from_what_proc_shows_of_this_process():
    """The environ and cmdline of a process that took its secrets hold no canary; its other variables are unharmed."""
    program = (
        "import os; from chronos_cli.running.secrecy import blank_in_proc, take_secrets\n"
        "print(take_secrets(os.environ, ['OTHER']), blank_in_proc(['canary-on-argv']))\n"
        "print(open('/proc/self/environ').read() + open('/proc/self/cmdline').read())\n"
        "print(os.environ['KEPT'], os.environ.get('CHRONOS_NAS_TOKEN'), os.popen('env').read())"
    )
    given = program_environment(
        CHRONOS_NAS_TOKEN="canary-nas", CHRONOS_FIRE_TOKEN="canary-fire", OTHER="canary-o", KEPT="kept"
    )
    argv = [sys.executable, "-c", program.replace("'canary-on-argv'", "__import__('sys').argv[1]"), "canary-on-argv"]
    told = subprocess.run(argv, env=given, capture_output=True, text=True, check=True).stdout
    first, _, rest = told.partition("\n")
    assert first.startswith(
        "{'CHRONOS_NAS_TOKEN': 'canary-nas', 'CHRONOS_FIRE_TOKEN': 'canary-fire', 'OTHER': 'canary-o'}"
    )
    assert first.endswith("True")
    assert "canary" not in rest
    assert "kept None" in rest


@linux
def test_a_secret_of_one_letter_spoils_nothing_else():
    """Only the whole value goes, not each of its letters in what libraries still read from the environment."""
    program = (
        "import os; from chronos_cli.running.secrecy import take_secrets\n"
        "take_secrets(os.environ)\n"
        "print(open('/proc/self/environ').read().replace(chr(0), chr(10)))\n"
    )
    given = program_environment(CHRONOS_NAS_TOKEN="t", SSL_CERT_FILE="/etc/ssl/cert")
    done = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True, check=True)
    assert {"CHRONOS_NAS_TOKEN=*", "SSL_CERT_FILE=/etc/ssl/cert"} <= set(done.stdout.split("\n"))


@linux
def test_a_job_cannot_read_them_from_its_parent(supervise, tmp_path):
    """With the tokens in the supervisor's own environment, a job that searches all its ancestors finds none."""
    search = 'p=$$; while [ "$p" -gt 1 ]; do cat /proc/$p/environ /proc/$p/cmdline; p=$(cut -d" " -f4 /proc/$p/stat); [ "$p" = "$STOP" ] && break; done; echo; echo searched'
    supervisor = supervise(
        ["/bin/sh", "-c", search],
        CHRONOS_NAS_TOKEN="canary-nas",
        CHRONOS_FIRE_TOKEN="canary-fire",
        STOP=str(os.getpid()),
    )
    assert supervisor.ended()["state"] == "ok"
    told = (tmp_path / "out.log").read_bytes()
    assert b"supervisor.py" in told
    assert b"searched" in told
    assert b"canary" not in told
    assert eventually(lambda: supervisor.process.poll() == 0)


@linux
def test_the_guard_has_no_environment(supervise):
    """The process that guards the job's group knows nothing worth reading."""
    supervisor = supervise(["sleep", "60"], CHRONOS_NAS_TOKEN="canary-nas")
    assert Path(f"/proc/{supervisor.guard}/environ").read_bytes() == b""
