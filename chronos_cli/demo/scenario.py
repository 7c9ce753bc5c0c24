"""The play itself: three jobs, watched for a while, and then judged by what the jobs themselves wrote down."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.config import load_config
from chronos_cli.core.edits import JobDraft
from chronos_cli.core.instant import SECOND
from chronos_cli.core.policy import Policy
from chronos_cli.core.row import RunState
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.demo.events import Watcher
from chronos_cli.operations.arming.reconcile import reconcile
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.jobs import edit as jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chronos_cli.core.job import Job
    from chronos_cli.demo.environment import DemoHome
    from chronos_cli.demo.events import Event
    from chronos_cli.operations.context import Context

WATCH_S: Final = 7.5
SETTLE_S: Final = 30.0
"""At most: as soon as all is quiet it is over, which only a busy machine keeps waiting for."""
_PATIENCE_S: Final = 10.0
_POLL_S: Final = 0.05
_CLEAR_OF_IT: Final = timedelta(seconds=1)
_LINE_UP_S: Final = 0.5
"""Events come from several files; held back this long, they come out in order."""

_CAST: Final = (
    ("pulse", "every 2s", "echo beat at $(date +%H:%M:%S)"),
    ("hello", "in 3s", "echo hello from a process that was not there"),
    ("oops", "in 4s", "echo this one fails on purpose; exit 3"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoVerdict:
    """The result of the demo: for each job, the instants that were due, and how often the job says it ran at each.

    `passed_over`: the instants that a row names as missed or skipped, as happens to a pulse on a machine that is busy.
    """

    due: dict[str, tuple[datetime, ...]]
    ran: dict[str, Counter[str]]
    passed_over: dict[str, tuple[datetime, ...]]

    @property
    def faults(self) -> list[str]:
        """Return the occurrences that did not run exactly once, without a record of why, and runs that were not due."""
        found = []
        for job_id, instants in self.due.items():
            times = self.ran.get(job_id, Counter())
            expected = {instant.isoformat() for instant in instants}
            passed = {instant.isoformat() for instant in self.passed_over.get(job_id, ())}
            found += [f"{job_id} at {at}: ran {times[at]} times" for at in sorted(expected - passed) if times[at] != 1]
            found += [f"{job_id} at {at}: ran, and is on record as passed over" for at in sorted(passed & set(times))]
            found += [f"{job_id} at {at}: ran, but was not due" for at in sorted(set(times) - expected)]
        return found


class DemoPlay:
    """One performance. Iterate `events()`, then ask for the `verdict()`."""

    def __init__(self, stage: DemoHome) -> None:
        config = load_config(environ=stage.environ)
        self._ctx: Context = open_home(config, ProcessEnvironment(environ=stage.environ, secrets={}))
        self._watcher = Watcher(stage.home, stage.nas_log)
        self._diary = stage.home / "diary"
        self._diary.mkdir(mode=0o700)
        self._begun: dict[str, Job] = {}
        self._until: datetime = datetime.now(UTC)

    def events(self) -> Iterator[Event]:
        """Add the jobs, reconcile, and tell what happens until it is over."""
        now = datetime.now(UTC)
        for job_id, schedule, script in _CAST:
            self._begun[job_id] = jobs.add(self._ctx, self._draft(job_id, schedule, script, now)).job
        reconcile(self._ctx)
        held: list[Event] = []
        end = time.monotonic() + WATCH_S
        while time.monotonic() < end or (time.monotonic() < end + _PATIENCE_S and not self._between_fires()):
            held, ready = self._line_up(held)
            yield from ready
            time.sleep(_POLL_S)
        self._until = jobs.pause(self._ctx, "pulse").job.claimed_through or now
        reconcile(self._ctx)
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end and not self._quiet():
            time.sleep(_POLL_S)
        yield from sorted(held + self._watcher.news(), key=lambda event: event.at)

    def verdict(self) -> DemoVerdict:
        """Hold what was due, by the schedules alone, against what the jobs wrote into their diary."""
        due = {}
        for job_id, job in self._begun.items():
            instants = []
            for instant in job.timetable.walk((job.cursor or self._until) - SECOND):
                if instant > self._until and job_id == "pulse":
                    break
                instants.append(instant)
            due[job_id] = tuple(instants)
        ran = {job_id: Counter(_lines(self._diary / job_id)) for job_id in self._begun}
        passed_over = {job_id: tuple(at for at in due[job_id] if self._is_passed_over(job_id, at)) for job_id in due}
        return DemoVerdict(due=due, ran=ran, passed_over=passed_over)

    def _is_passed_over(self, job_id: str, at: datetime) -> bool:
        rows = [row for row in self._ctx.repository.rows.of(job_id) if row.state in (RunState.MISSED, RunState.SKIPPED)]
        return any(
            row.scheduled_at is not None and row.scheduled_at <= at <= (row.through or row.scheduled_at) for row in rows
        )

    def _draft(self, job_id: str, schedule: str, script: str, now: datetime) -> JobDraft:
        zone = self._ctx.home.zone
        diary = f'echo "$CHRONOS_FIRE_AT" >> "{self._diary}/{job_id}"; '
        return JobDraft(
            job_id=job_id,
            name=job_id,
            schedule=parse_schedule(schedule, now=now, zone=zone),
            zone=zone,
            zone_name=self._ctx.home.zone_name,
            policy=Policy(),
            action={"shell": diary + script},
        )

    def _line_up(self, held: list[Event]) -> tuple[list[Event], list[Event]]:
        held = sorted(held + self._watcher.news(), key=lambda event: event.at)
        horizon = datetime.now(UTC).timestamp() - _LINE_UP_S
        ready = [event for event in held if event.at.timestamp() <= horizon]
        return held[len(ready) :], ready

    def _between_fires(self) -> bool:
        """Return whether no run of the pulse is open or about to start: to pause it now takes nothing from it."""
        job = jobs.get(self._ctx, "pulse")
        return not job.open and job.cursor is not None and job.cursor - datetime.now(UTC) > _CLEAR_OF_IT

    def _quiet(self) -> bool:
        """Return whether every claimed run is over and nothing is still to come."""
        for job_id in self._begun:
            job = jobs.get(self._ctx, job_id)
            rows = list(self._ctx.repository.rows.of(job_id))
            if job.open or any(row.state is RunState.RUNNING for row in rows):
                return False
            if job_id != "pulse" and not rows:
                return False
        return True


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []
