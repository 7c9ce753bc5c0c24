"""One fire inside hermes' environment, in a process of its own: `python -m chronos_cli.hermes.run`.

It reads {"job_id", "fire_at", "delivery"} on stdin, settles the fire under chronos' claim, and writes the report as the
last line of stdout. hermes' jobs are run by hermes, with its agent and its delivery; what chronos added to hermes'
store, commands and requests, by chronos.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from chronos_cli.config import load_config
from chronos_cli.core.row import RunState
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import replace
from chronos_cli.operations.assembly import ProcessEnvironment, locks_of, open_home
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.running.actions import action_kind
from chronos_cli.running.interface import Attempt, AttemptEnd, Processes, RunHold, Task
from chronos_cli.running.lock import RunLock
from chronos_cli.running.secrecy import take_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chronos_cli.core.decision import Liveness
    from chronos_cli.core.row import Row, RunResult
    from chronos_cli.running.lock_place import LockPlace

OURS = ("command", "shell", "http")
"""The kinds of action that hermes knows nothing of."""


class HermesProcesses(Processes):
    """Runs hermes' jobs by hermes, in this very process; hands everything else to `local`."""

    def __init__(self, local: Processes, locks: LockPlace) -> None:
        self._local = local
        self._locks = locks

    def hold(self, task: Task) -> RunHold:
        """Take the lock of one attempt. Raises LockDirError."""
        if action_kind(task.record) in OURS:
            return self._local.hold(task)
        return _HermesHeld(task, RunLock.acquire(self._locks, task.job_id, task.run_id))

    def liveness(self, row: Row) -> Liveness:
        """Return whether a run's owner lives."""
        return self._local.liveness(row)

    def result(self, row: Row) -> RunResult | None:
        """Return how a run ended, as its lock file tells."""
        return self._local.result(row)

    def forget(self, row: Row) -> None:
        """Remove a run's lock file."""
        self._local.forget(row)

    def end_leftovers(self, row: Row) -> None:
        """End what is left of a run."""
        self._local.end_leftovers(row)

    def elapsed(self, owner: Mapping[str, Any]) -> float | None:
        """Return the duration of the run."""
        return self._local.elapsed(owner)

    def alert(self, argv: Sequence[str], event: bytes, *, facts: Mapping[str, str], timeout_s: float) -> str | None:
        """Run an on-failure command."""
        return self._local.alert(argv, event, facts=facts, timeout_s=timeout_s)


class _HermesHeld(RunHold):
    def __init__(self, task: Task, lock: RunLock) -> None:
        self._task = task
        self._lock = lock
        self.owner = lock.owner()

    def begin(self, *, lease_ends_at: datetime | None, timeout_s: float) -> Attempt:
        del lease_ends_at
        return _HermesAttempt(self._task, timeout_s, self._lock)

    def conclude(self, result: RunResult, *, durable: bool) -> None:
        self._lock.record_result(result.to_json(), durable=durable)

    def release(self, *, keep: bool = False) -> None:
        self._lock.release(keep=keep)


class _HermesAttempt(Attempt):
    """A job that hermes runs. It has not begun before `wait`: until then NAS is told of the next wake."""

    output = None  # hermes keeps it in its own place

    def __init__(self, task: Task, timeout_s: float, lock: RunLock) -> None:
        self._task = task
        self._timeout_s = timeout_s
        self._lock = lock

    def wait(self) -> AttemptEnd:
        """Let hermes run and deliver it, for as long as its time lasts."""
        scheduler = import_module("cron.scheduler")
        try:
            self._lock.record_begun()
        except OSError as error:
            return AttemptEnd(state=RunState.FAILED, reason=f"it could not be started: {error}")
        marked: list[AttemptEnd] = []

        def mark(_: str, success: bool, error: str | None = None, delivery_error: str | None = None) -> None:
            reason = error or (f"it was not delivered: {delivery_error}" if delivery_error else None)
            marked.append(AttemptEnd(state=RunState.OK if success else RunState.FAILED, reason=reason))

        # The claim and the record of its end are chronos' here: hermes' two writes of the store give way to them.
        scheduler.mark_job_run = mark  # type: ignore[attr-defined]
        scheduler.claim_dispatch = lambda _: True  # type: ignore[attr-defined]
        try:
            with _at_most(self._timeout_s):
                scheduler.run_one_job(dict(self._task.record))
        except _OutOfTimeError:
            return AttemptEnd(state=RunState.TIMEOUT, reason=f"it ran for more than {self._timeout_s:.0f} s")
        return marked[0] if marked else AttemptEnd(state=RunState.INTERRUPTED, reason="hermes recorded no end of it")


class _OutOfTimeError(BaseException):
    """The job's time is over. Not an Exception: hermes must not take it for a failure of the job's and go on."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def over(*_: object) -> None:
        raise _OutOfTimeError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main() -> int:
    """Settle the fire on stdin; the exit code of `chronos fire`."""
    given = json.load(sys.stdin)
    # hermes needs its own secrets, and this process is hermes; ours are taken out, so that no job inherits them.
    secrets = take_secrets(os.environ)
    config = load_config(environ=os.environ)
    context = open_home(config, ProcessEnvironment(environ=dict(os.environ), secrets=secrets))
    processes = HermesProcesses(context.processes, locks_of(config, context.repository))
    fire_at = datetime.fromisoformat(given["fire_at"]) if given["fire_at"] else None
    context = replace(context, processes=processes)
    try:
        report = fire(
            context,
            given["job_id"],
            fire_at=fire_at,
            delivery=given["delivery"],
            launcher=InlineLauncher(),
            heard=datetime.fromisoformat(given["heard"]) if given.get("heard") else None,
        )
    except ChronosError as error:
        _say({"outcome": "error", "started": [], "reason": error.line()})
        return int(error.exit_code)
    _say({"outcome": report.outcome.value, "started": list(report.started), "reason": report.reason})
    sys.stdout.flush()
    if report.over:
        from chronos_cli.operations.alerts import alert

        alert(context, report.over)
    return int(report.exit_code)


def _say(report: Mapping[str, Any]) -> None:
    sys.stdout.write("\n" + json.dumps(report) + "\n")


if __name__ == "__main__":
    sys.exit(main())
