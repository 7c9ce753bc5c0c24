"""A tick: run what is due, once, without any NAS. The same claim, ledger and runners as a fire.

No lock is held while jobs run. A tick and a NAS may both be live: the first of them claims an occurrence, once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.core.clock import Trust, displaced, doubt_about, is_ahead, may_settle, mended_by
from chronos_cli.core.decision import FireRequest, Purpose, Trigger, Wake
from chronos_cli.core.job import Standing
from chronos_cli.core.row import RunState
from chronos_cli.errors import ChronosError, DocumentError, HeldError, TemporaryError
from chronos_cli.frozen import frozen
from chronos_cli.operations.arming.arm import is_armed
from chronos_cli.operations.evaluate import evaluate_together, read_all
from chronos_cli.operations.firing.launchers import launch_each, wait_for
from chronos_cli.operations.firing.run_end import rearm
from chronos_cli.operations.witness import hear, needs_witness
from chronos_cli.store.ticks import note_tick

if TYPE_CHECKING:
    from datetime import datetime

    from chronos_cli.core.clock import TimeDoubt
    from chronos_cli.core.job import Job
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.evaluate import Evaluation
    from chronos_cli.operations.firing.launchers import Launcher, Running


_TOGETHER: Final = 50
"""So many jobs are claimed in one write, at most: their rows are read under the lock of the jobs."""


@frozen
class TickResult:
    """Result of one tick: run ids started, rows of those that ended while it waited, jobs it could not look at.

    `unarmed`: jobs whose next wake NAS could not be told of; another tick will find them due all the same.
    """

    started: tuple[str, ...]
    rows: tuple[Row, ...]
    failed: dict[str, ChronosError]
    unarmed: dict[str, ChronosError]
    doubts: dict[str, TimeDoubt]
    """Doubts about next times that no look of this tick has put right."""
    owed: tuple[Row, ...] = ()
    """The rows of what was due and is not started by this tick: queued, skipped or missed."""

    @property
    def unsuccessful(self) -> tuple[Row, ...]:
        """Return the runs that ended otherwise than well."""
        return tuple(row for row in self.rows if row.state is not RunState.OK)


def tick(ctx: Context, launcher: Launcher, *, max_parallel: int = 0, leave_s: float = 0.0) -> TickResult:
    """Run everything due, at most `max_parallel` runs at once (0: all), and return when those runs have ended.

    Claims a job only when a slot is free for it, so what waits for one is still anybody's; as many as have one are
    claimed in one write. How long runs are waited for is the launcher's business. `leave_s`: for how long an occurrence
    that NAS has confirmed to hold is left to it.
    Raises StandbyError, HeldError under a stop, StoreError where the store cannot be read.
    """
    ctx.must_be_active("a tick")
    _refuse_held(ctx)
    ctx.repository.mend_store_id(ctx.token)
    note_tick(ctx.repository, ctx.clock())
    everything = read_all(ctx)
    if ctx.trust is Trust.UNHEARD and any(needs_witness(job, ctx.clock()) for job in everything):
        ctx = hear(ctx)
        _refuse_held(ctx)  # only a clock that was ahead may have said that the hold is over
    now = ctx.clock()
    due = [job for job in everything if is_due(job, now, ctx.trust) and not _left_to_nas(ctx, job, leave_s)]
    running: list[tuple[str, Running]] = []
    started: list[str] = []
    rows: list[Row] = []
    owed: list[Row] = []
    failed: dict[str, ChronosError] = {
        job.id: _unconfirmed(job, now) for job in due if _is_doubtful(job, now, ctx.trust)
    }
    unarmed: dict[str, ChronosError] = {}
    waiting = sorted(due, key=lambda job: (job.cursor or now, job.id))
    while waiting:
        while max_parallel and len(running) >= max_parallel:
            _collect(running, rows, failed, only_first=True)
        many = min(max_parallel - len(running), _TOGETHER) if max_parallel else _TOGETHER
        taken, waiting = waiting[:many], waiting[many:]
        fires = [(job.id, FireRequest(via=Trigger.TICK, token=ctx.token())) for job in taken]
        for job, looked in zip(taken, evaluate_together(ctx, fires), strict=True):
            if isinstance(looked, ChronosError):
                failed[job.id] = looked
                continue
            owed += looked.decision.owed
            error = _launch(ctx, job.id, looked, launcher, running)
            if error is not None:
                failed[job.id] = error
                continue
            started += [start.entry.run for start in looked.decision.starts]
            unarmed |= _rearm(ctx, job.id, looked)
    try:
        ctx.send_alerts()
    finally:
        _collect(running, rows, failed)
    looked_at = {job.id for job in due}
    doubts = {job.id: doubt_about(job, now) for job in everything if job.id not in looked_at}
    return TickResult(
        started=tuple(started),
        rows=tuple(rows),
        failed=failed,
        unarmed=unarmed,
        owed=tuple(owed),
        doubts={job_id: doubt for job_id, doubt in doubts.items() if doubt is not None},
    )


def _launch(
    ctx: Context, job_id: str, looked: Evaluation, launcher: Launcher, running: list[tuple[str, Running]]
) -> ChronosError | None:
    """Start what a look has decided on; the error, if something could not be started."""
    try:
        running.extend((job_id, run) for run in launch_each(ctx, looked, launcher))
    except ChronosError as error:
        return error
    except OSError as error:
        return TemporaryError(f"no runner could be started: {error}")
    return None


def _rearm(ctx: Context, job_id: str, looked: Evaluation) -> dict[str, ChronosError]:
    """Have NAS, where one is configured, hold the new wake; where it cannot be told, the next tick is the net."""
    if looked.decision.wake is None or ctx.wire is None:
        return {}
    try:
        rearm(ctx, job_id, looked.decision.wake)
    except ChronosError as error:
        return {job_id: error}
    return {}


def _refuse_held(ctx: Context) -> None:
    hold = ctx.repository.hold(ctx.clock())
    if hold is not None:
        raise HeldError(f"all jobs are held: {hold.words(ctx.home.zone)}", hint=f"lift it with `{hold.lifted_by}`")


def is_due(job: Job, now: datetime, trust: Trust = Trust.ALONE) -> bool:
    """Return whether a look could find work: an instant that has come, an open run, a cursor to put right."""
    if job.open:
        return True
    if job.standing is not Standing.LIVE:
        return False
    if job.cursor is None or job.cursor <= now or displaced(job) is not None:
        return True
    return is_ahead(job, now) and mended_by(job, now, trust)


def _is_doubtful(job: Job, now: datetime, trust: Trust) -> bool:
    """Return whether only an unconfirmed clock says that a job is due."""
    if job.standing is not Standing.LIVE or job.cursor is None:
        return False
    return job.cursor <= now and not may_settle(job, job.cursor, now, trust)


def _unconfirmed(job: Job, now: datetime) -> ChronosError:
    days = 0 if job.cursor is None else round((now - job.cursor) / timedelta(days=1))
    return TemporaryError(
        f"job {job.id} is left alone: by this clock it is {days} days late, and NAS did not confirm the clock",
        hint="compare the clock (date -u), and try again when NAS answers",
    )


def _left_to_nas(ctx: Context, job: Job, leave_s: float) -> bool:
    """Return whether NAS has confirmed the timer of just this occurrence, and still has time for it."""
    if ctx.wire is None or job.cursor is None or job.open:
        return False
    now = ctx.clock()
    if (now - job.cursor).total_seconds() >= leave_s:
        return False
    try:
        stored = ctx.repository.arms.get(job.id)
    except DocumentError:
        return False
    return stored is not None and is_armed(stored.value, Wake(at=job.cursor, purpose=Purpose.CURSOR), ctx.wire, now)


def _collect(
    running: list[tuple[str, Running]], rows: list[Row], failed: dict[str, ChronosError], *, only_first: bool = False
) -> None:
    """Wait for runs; one whose end could not be recorded does not end the wait for the others."""
    while running:
        over = running[0][1].first_of([run for _, run in running])
        job_id, run = running.pop(next(at for at, (_, run) in enumerate(running) if run is over))
        ended, trouble = wait_for((run,))
        rows += ended
        for error in trouble:
            failed[job_id] = error
        if only_first:
            return
