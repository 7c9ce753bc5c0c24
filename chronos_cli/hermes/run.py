"""One fire inside hermes' environment, in a process of its own: `python -m chronos_cli.hermes.run`.

It reads {"job_id", "fire_at", "delivery", "heard", "asked", "reports"} on stdin, settles the fire under chronos' claim
and, once what it starts has begun and NAS knows the next wake, writes one line of JSON to the descriptor `reports`.
hermes' jobs are run by hermes, with its agent and its delivery; what chronos added to hermes' store, commands and
requests, by chronos.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
from contextlib import contextmanager, suppress
from datetime import datetime
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any

from chronos_cli.config import load_config
from chronos_cli.core.record_action import MONITOR, action_kind
from chronos_cli.core.row import RunState
from chronos_cli.errors import ChronosError, ExitCode
from chronos_cli.frozen import replace
from chronos_cli.operations.assembly import ProcessEnvironment, locks_of, open_home
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.running.errors import ActionError
from chronos_cli.running.interface import Attempt, AttemptEnd, LockedRun, Processes, Task
from chronos_cli.running.lock import RunLock
from chronos_cli.running.secrecy import take_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chronos_cli.core.decision import Liveness
    from chronos_cli.core.row import Row, RunResult
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.fire import FireReport
    from chronos_cli.operations.firing.launchers import Running
    from chronos_cli.running.lock_place import LockPlace

OURS = ("command", "shell", "http")
"""The kinds of action that hermes knows nothing of."""


class HermesProcesses(Processes):
    """Runs hermes' jobs by hermes, in this very process; hands everything else to `local`."""

    def __init__(self, local: Processes, locks: LockPlace) -> None:
        self._local = local
        self._locks = locks

    def lock(self, task: Task) -> LockedRun:
        """Take the lock of one attempt. Raises LockDirError."""
        if action_kind(task.record) in OURS:
            return self._local.lock(task)
        return _HermesLockedRun(task, RunLock.acquire(self._locks, task.job_id, task.run_id))

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


class _HermesLockedRun(LockedRun):
    def __init__(self, task: Task, lock: RunLock) -> None:
        self._task = task
        self._lock = lock
        self.owner = lock.owner()

    def begin(self, *, lease_ends_at: datetime | None, timeout_s: float) -> Attempt:
        del lease_ends_at
        must_be_known(self._task.record)
        return _HermesAttempt(self._task, timeout_s, self._lock)

    def conclude(self, result: RunResult, *, durable: bool) -> None:
        self._lock.record_result(result.to_json(), durable=durable)

    def release(self, *, keep: bool = False) -> None:
        self._lock.release(keep=keep)


def must_be_known(record: Mapping[str, Any]) -> None:
    """Refuse a job that this version of hermes would run differently. Raises ActionError naming the field.

    A version knows the fields that its jobs can be made with.
    """
    asked = [name for name in ("interpreter", *MONITOR) if record.get(name)]
    if not asked:
        return
    parameters = inspect.signature(import_module("cron.jobs").create_job).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    unknown = next((name for name in asked if name not in parameters), None)
    if unknown is not None:
        raise ActionError(
            f"the job has the field {unknown}, which this version of hermes does not know and would run without",
            hint="run it in the version that made it, or take that field out",
        )


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

        def mark(
            job_id: Any = None, success: Any = True, error: Any = None, delivery_error: Any = None, *_: Any, **__: Any
        ) -> bool:
            del job_id
            reason = error or (f"it was not delivered: {delivery_error}" if delivery_error else None)
            state = RunState.OK if success else RunState.FAILED
            marked.append(AttemptEnd(state=state, reason=None if reason is None else str(reason)))
            return True

        # The claim and the record of its end are chronos' here: hermes' two writes of the store give way to them.
        _put_everywhere("mark_job_run", mark)
        _put_everywhere("claim_dispatch", lambda *_, **__: True)
        record = _as_claimed(self._task.record)
        try:
            with _at_most(self._timeout_s):
                scheduler.run_one_job(record)
        except _OutOfTimeError:
            return AttemptEnd(state=RunState.TIMEOUT, reason=f"it ran for more than {self._timeout_s:.0f} s")
        return marked[-1] if marked else AttemptEnd(state=RunState.INTERRUPTED, reason="hermes recorded no end of it")


def _put_everywhere(name: str, stand_in: Any) -> None:
    """Replace a function of hermes' in each module of its cron package that has it by this name."""
    for module in [module for key, module in sys.modules.items() if key == "cron" or key.startswith("cron.")]:
        if hasattr(module, name):
            setattr(module, name, stand_in)


def _as_claimed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record as the claim left it for hermes, which looks once more whether the job may run.

    A claim of ours switches a job off whose last occurrence it took; to hermes it is live while that one runs.
    """
    jobs = import_module("cron.jobs")
    stored = jobs.get_job(record["id"]) or {}
    live = {"enabled": True, "state": "scheduled", "paused_at": None}
    if stored.get("fire_claim"):
        live["fire_claim"] = stored["fire_claim"]
    looked_up = jobs.get_job

    def get_job(job_id: str, *args: Any, **kwargs: Any) -> Any:
        found = looked_up(job_id, *args, **kwargs)
        return {**found, **live} if isinstance(found, dict) and job_id == record["id"] else found

    _put_everywhere("get_job", get_job)
    return {**record, **live}


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
    os.set_inheritable(given["reports"], False)  # no job keeps the pipe to the plug-in open
    # hermes needs its own secrets, and this process is hermes; ours are taken out, so that no job inherits them.
    secrets = take_secrets(os.environ)
    config = load_config(environ=os.environ)
    context = open_home(config, ProcessEnvironment(environ=dict(os.environ), secrets=secrets))
    processes = HermesProcesses(context.processes, locks_of(config, context.repository))
    context = replace(context, processes=processes)

    def tell(report: FireReport) -> None:
        _say(
            given,
            report.outcome.value,
            report.started,
            report.reason,
            again=report.http_status >= HTTPStatus.BAD_REQUEST,
        )

    try:
        if given.get("asked"):
            return _run_now(context, given)
        report = fire(
            context,
            given["job_id"],
            fire_at=_moment(given.get("fire_at")),
            delivery=given.get("delivery"),
            launcher=InlineLauncher(),
            heard=_moment(given.get("heard")),
            begun=tell,
        )
    except ChronosError as error:
        _say(given, "error", (), error.line(), again=True)
        return int(error.exit_code)
    finally:
        context.send_alerts()
    return int(report.exit_code)


def _run_now(context: Context, given: Mapping[str, Any]) -> int:
    """Make a run that a person asked for, outside the schedule."""
    from chronos_cli.operations.firing.launchers import launch_each, wait_for
    from chronos_cli.operations.jobs.edit import claim_manual

    looked = claim_manual(context, given["job_id"])
    running: list[Running] = []
    try:
        # Into the list one by one: what has started is waited for, also when the next one cannot start.
        running.extend(launch_each(context, looked, InlineLauncher()))
        started = [start.entry.run for start in looked.decision.starts] if running else []
        _say(given, "manual", started, None, again=False)
    finally:
        rows, trouble = wait_for(running)
    return int(
        ExitCode.TEMPORARY
        if trouble
        else ExitCode.OK
        if all(row.state is RunState.OK for row in rows)
        else ExitCode.JOB_FAILED
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _say(given: Mapping[str, Any], outcome: str, started: Sequence[str], reason: str | None, *, again: bool) -> None:
    """Tell the plug-in; it may be gone, and what runs goes on."""
    line = json.dumps({"outcome": outcome, "started": list(started), "reason": reason, "again": again})
    with suppress(OSError), os.fdopen(given["reports"], "w") as reports:
        reports.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
