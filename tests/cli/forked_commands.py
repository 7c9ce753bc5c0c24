"""Runs many commands, each in a fork of one process that has imported them: `python -m tests.cli.forked_commands`.

Reads on stdin a list of {name, mode, argv, environ, home, on, program}, writes {"name mode": {code, out, err}} on stdout.
`program` is chronos, where it is not said, or chronos-nas. `on` is what stdout is: `pipe`, `closed` (a pipe that nobody reads), `full` (a disk without space), `shut` (no stdout at all), `mute`
(nor stderr), or `terminal`. Each runs on a copy of its home.
"""

import gc
import importlib
import json
import os
import pty
import shutil
import sys
import tempfile
from pathlib import Path

from chronos_cli.cli import cli_model as surface
from chronos_cli.cli import main
from chronos_cli.nas_server.cli import main as nas_main

IMPORTED = (
    "requests",
    "jwt",
    "yaml",
    "typer._click.decorators",
    "chronos_cli.cli.app",
    "chronos_cli.cli.quick",
    "chronos_cli.config.zone",
    "chronos_cli.nas_client.client",
    "chronos_cli.nas_server.timers.agents",
    "chronos_cli.operations.arming.reconcile",
    "chronos_cli.operations.assembly",
    "chronos_cli.operations.doctor",
    "chronos_cli.operations.firing.run_end",
    "chronos_cli.operations.firing.tick",
    "chronos_cli.providers.builtin",
    "chronos_cli.running.attempt",
    "chronos_cli.running.local",
    "chronos_cli.store.holds",
    "chronos_cli.store.local",
)
"""What many commands need: loaded once instead of in each fork."""


def run(case):
    # A runner that a command leaves behind may still write its last words while the folder goes.
    # The file of errors stays open: a child that ends as a process does takes its name, and the folder, along.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, tempfile.TemporaryFile() as errors:
        home = Path(folder, "home")
        shutil.copytree(case["home"], home, ignore=shutil.ignore_patterns("*.lock"))
        read, write = pty.openpty() if case["on"] == "terminal" else os.pipe()
        pid = os.fork()
        if pid == 0:
            program = case.get("program", "chronos")
            run_it, named = (main, "CHRONOS_HOME") if program == "chronos" else (nas_main, "CHRONOS_NAS_HOME")
            os.environ.update(case["environ"] | {named: str(home)})
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(write, 1)
            os.dup2(write if case["on"] == "terminal" else errors.fileno(), 2)
            os.close(read)
            os.close(write)
            if case["on"] == "full":
                os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
            if case["on"] in ("shut", "mute"):
                os.close(1)
                sys.stdout = None  # as the interpreter begins where there is none
            if case["on"] == "mute":
                os.close(2)
                sys.stderr = None
            sys.argv = [program, *case["argv"]]
            code = run_it(case["argv"])
            if case["on"] == "closed":
                sys.exit(code)  # as a process of its own ends: with what is still to be written
            if sys.stdout is not None:
                sys.stdout.flush()
            os._exit(code)  # quicker
        os.close(write)
        if case["on"] == "closed":
            os.close(read)
            said = b""
        else:
            said = _all(read)
        _, status = os.waitpid(pid, 0)
        errors.seek(0)
        err = errors.read()
        return {"code": os.waitstatus_to_exitcode(status), "out": said.decode("latin-1"), "err": err.decode("latin-1")}


def _all(fd):
    data = b""
    while True:
        try:
            chunk = os.read(fd, 65536)
        except OSError:  # how Linux ends a terminal
            chunk = b""
        if not chunk:
            os.close(fd)
            return data
        data += chunk


if __name__ == "__main__":
    cases = json.load(sys.stdin)
    list(surface.commands())
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()  # what is there now is nobody's rubbish, and looking at it would copy it into each fork
    results = {f"{case['name']} {case['mode']}": run(case) for case in cases}
    sys.stdout.write(json.dumps(results))
