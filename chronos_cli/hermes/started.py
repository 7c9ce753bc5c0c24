"""A fire's own process, as the plug-in sees it: started, heard of once its runs have begun, and waited for.

It may be killed when its time is over without taking hermes along, and it outlives hermes: what runs goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.config.load import HOME_VARIABLE
from chronos_cli.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from threading import Event

_LOOKS_EVERY_S: Final = 0.2
_MAX_REPORT: Final = 64 * 1024


class FireProcess:
    """One process that settles one fire."""

    def __init__(self, home: str, given: Mapping[str, Any]) -> None:
        """Start it for a home. Raises OSError."""
        reports, writing = os.pipe()
        env = {**os.environ, "HERMES_HOME": home, HOME_VARIABLE: home}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "chronos_cli.hermes.run"],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env, start_new_session=True, pass_fds=(writing,),
            )  # fmt: skip
        except BaseException:
            os.close(reports)
            raise
        finally:
            os.close(writing)
        self._reports = os.fdopen(reports, "rb")
        self._job_id = str(given.get("job_id"))
        stdin = self._process.stdin
        if stdin is not None:
            with suppress(BrokenPipeError):
                stdin.write(json.dumps({**given, "reports": writing}).encode())
                stdin.close()

    def heard(self) -> Mapping[str, Any]:
        """Return its first report: what was decided, once what was decided on has begun and NAS knows the next wake.

        Raises TemporaryError where it ends without one.
        """
        line = self._reports.readline(_MAX_REPORT)
        try:
            report = json.loads(line)
        except ValueError:
            self._reports.close()
            code = self._process.wait()
            raise TemporaryError(f"the run of job {self._job_id} ended with {code} and no report") from None
        return report  # type: ignore[no-any-return]

    def wait(self, stop: Event | None = None) -> None:
        """Wait for its end; where `stop` is set, no longer: the run goes on in its own process."""
        try:
            if stop is None:
                self._process.wait()
                return
            while not stop.is_set():
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_LOOKS_EVERY_S)
                    return
            Thread(target=self._process.wait, daemon=True).start()  # else it stays in the process table
        finally:
            self._reports.close()
