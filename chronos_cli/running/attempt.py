"""A run locked on this machine, and its attempts: what is resolved, started and waited for. Views load none of this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.core.record_action import unhandled_fields
from chronos_cli.core.row import RunState
from chronos_cli.running.actions import resolve_action
from chronos_cli.running.environment import run_environment
from chronos_cli.running.interface import Attempt, AttemptEnd, LockedRun
from chronos_cli.running.mask import Mask
from chronos_cli.running.process import RunFacts, start
from chronos_cli.running.references import Lookup
from chronos_cli.running.secrecy import without_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from chronos_cli.core.row import RunResult
    from chronos_cli.running.interface import Task
    from chronos_cli.running.local import LocalProcesses
    from chronos_cli.running.lock import RunLock
    from chronos_cli.running.process import Child


class LocalLockedRun(LockedRun):
    """Run whose lock file this process holds."""

    def __init__(self, machine: LocalProcesses, task: Task, lock: RunLock) -> None:
        self._machine = machine
        self._task = task
        self._lock = lock
        self.owner = lock.owner()
        self.unhandled = unhandled_fields(task.record)

    def begin(self, *, lease_ends_at: datetime | None, timeout_s: float) -> Attempt:
        """Resolve the action and start it. Raises ActionError, StartError or OSError."""
        task, machine = self._task, self._machine
        home = machine.scripts_dir.parent
        environment = run_environment(
            machine.environment, inherit=task.inherit_env, zone_name=task.zone_name, home=str(home)
        )
        lookup = Lookup(
            started_with=without_secrets(machine.environment),
            environment=without_secrets(environment),
            folder=str(home),
            lock_fd=self._lock.fd,
        )
        action = resolve_action(
            task.record, scripts_dir=machine.scripts_dir, prompt_runner=machine.prompt_runner, lookup=lookup
        )
        name = task.run_id if task.attempt == 1 else f"{task.run_id}.{task.attempt}"
        output = machine.output_folder(task.job_id) / f"{name}.log"
        facts = RunFacts(
            job_id=task.job_id,
            run_id=task.run_id,
            fire_at=task.fire_at.isoformat() if task.fire_at else "",
            attempt=task.attempt,
        )
        child = start(
            action,
            facts=facts,
            environment=environment,
            lock=self._lock,
            output=output,
            output_limit_bytes=machine.output_limit,
            mask=Mask(lookup.found) if lookup.found else None,
            echo=machine.echo_of(task.run_id),
            wrapper=machine.wrapper,
        )
        lease_end = None if lease_ends_at is None else lease_ends_at.timestamp()
        return _LocalAttempt(machine, child, output, f"cron/output/{task.job_id}/{name}.log", lease_end, timeout_s)

    def conclude(self, result: RunResult, *, durable: bool) -> None:
        """Write the result into the lock file."""
        self._lock.record_result(result.to_json(), durable=durable)

    def release(self, *, keep: bool = False) -> None:
        """Let go of the lock, and remove its file unless that is to be kept."""
        self._lock.release(keep=keep)


class _LocalAttempt(Attempt):
    def __init__(
        self, machine: LocalProcesses, child: Child, file: Path, key: str, lease_end: float | None, timeout_s: float
    ) -> None:
        self._machine = machine
        self._file = file
        self.run = machine.supervisor.add(child, timeout_s=timeout_s, lease_end=lease_end)
        self.output = key

    def first_of(self, others: Sequence[Attempt]) -> Attempt:
        mine = {attempt.run: attempt for attempt in others if isinstance(attempt, _LocalAttempt)}
        return mine[self._machine.supervisor.first_over(*mine)]

    def wait(self) -> AttemptEnd:
        ended = self._machine.supervisor.wait(self.run).end
        assert ended is not None  # noqa: S101 - that is what was waited for
        reason = "; ".join(text for text in (ended.reason, ended.output_error) if text)
        return AttemptEnd(state=RunState(ended.state), exit_status=ended.exit_status, reason=reason or None)

    def keep_output(self) -> None:
        if self._machine.keep_output is not None and self.output is not None:
            self._machine.keep_output(self.output, self._file)
