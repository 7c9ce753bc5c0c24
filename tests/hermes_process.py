"""A real hermes-agent for tests, in its own environment: `CHRONOS_HERMES_PYTHON` names that environment's Python."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

from tests.conftest import _missing

if TYPE_CHECKING:
    from pathlib import Path


class Hermes:
    """hermes-agent, unmodified, on one home. `path`: folders from which it may import more than it brought."""

    def __init__(self, home: Path, *, path: tuple[Path, ...] = ()) -> None:
        self.python = os.environ.get("CHRONOS_HERMES_PYTHON") or _missing("hermes-agent (CHRONOS_HERMES_PYTHON)")
        self.home = home
        self._env = {"PATH": os.environ["PATH"], "HOME": str(home.parent), "HERMES_HOME": str(home), "TZ": "UTC"}
        if path:
            self._env["PYTHONPATH"] = os.pathsep.join(map(str, path))

    def run(self, text: str, *given: Any, timeout: float = 90) -> Any:
        """Run a piece of Python among its modules, `given` in `given`; what it leaves in `answer`."""
        program = f"import json, sys\ngiven = json.loads(sys.argv[1])\n{text}\nprint(json.dumps(answer))"
        done = self._start([self.python, "-c", program, json.dumps(given)], timeout)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def cron(self, *arguments: str, timeout: float = 90) -> str:
        """Run its own command, `hermes cron ...`; what it printed."""
        done = self._start([self.python, "-m", "hermes_cli.main", "cron", *arguments], timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _start(self, command: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, env=self._env,
            cwd=self.home.parent, stdin=subprocess.DEVNULL,
        )  # fmt: skip
