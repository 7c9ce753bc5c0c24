"""One look at one job: gather the facts, decide, write what was decided. Every door and every trigger comes here."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.contract import is_job_id
from chronos_cli.core.claim import instant_of, run_id_of
from chronos_cli.core.clock import AHEAD, doubt_about, lease_end
from chronos_cli.core.decision import NO_EFFECT_OUTCOMES, Decision, Facts, FireRequest, Liveness, Outcome, Trigger, Wake
from chronos_cli.core.job import OURS, Job, OpenKind, parse_job, readable_open
from chronos_cli.core.occurrence import decide
from chronos_cli.core.open_runs import lease_of
from chronos_cli.core.row import LEASE_MARGIN, Row, RunState, concluded, over, row_of
from chronos_cli.errors import ChronosError, DocumentError, UnreadableError
from chronos_cli.frozen import field, frozen, replace
from chronos_cli.store.documents import StoredDocument
from chronos_cli.store.interface import VersionConflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from chronos_cli.core.clock import TimeDoubt
    from chronos_cli.core.job import Open
    from chronos_cli.core.row import RunResult
    from chronos_cli.operations.context import Context
    from chronos_cli.store.arms.document import ArmDocument
    from chronos_cli.store.holds import Hold
    from chronos_cli.store.job_entries import Record
    from chronos_cli.store.jobsfile import JobsFile


TORN: Final = "its row could not be read"
_MOST_SAID: Final = 300
"""Characters of what is said to be wrong with a record, which may quote it."""


@frozen
class Evaluation:
    """Findings and decision of one look. `invalid` says why the record cannot be run, if it cannot."""

    decision: Decision
    job: Job | None
    invalid: str | None = None


@frozen
class _GatheredFacts:
    """The facts beside a record, and the version of each row.

    `torn`: rows that cannot be read; `rebuilt`: what they become, where their run is not under way; `doubt`: what is
    strange about the next time.
    """

    facts: Facts
    versions: Mapping[str, str]
    torn: Mapping[str, UnreadableError] = field(default_factory=dict)
    rebuilt: Mapping[str, Row] = field(default_factory=dict)
    doubt: TimeDoubt | None = None


def evaluate(ctx: Context, job_id: str, fire: FireRequest) -> Evaluation:
    """Look at a job and write what follows: settled rows, then the record, then the rows it owes.

    The runs to start and the wake to arm are left to the caller. Raises StoreError, LockTimeoutError or
    TemporaryError; then nothing was taken, or what was taken is found again by the next look. StandbyError where
    the look could take something. Rows that are over now are in the context's outbox.
    """
    look = _Look(ctx, job_id, fire)
    return look.follow(ctx.repository.change(look.once))


def evaluate_together(ctx: Context, fires: Sequence[tuple[str, FireRequest]]) -> Iterator[Evaluation | ChronosError]:
    """Look at several jobs, each as `evaluate` does, with one write of their records; what failed, in the same order.

    Raises StandbyError before anything is taken.
    """
    looks = [_Look(ctx, job_id, fire) for job_id, fire in fires]
    for look, outcome in zip(looks, ctx.repository.change_together([look.once for look in looks]), strict=True):
        if isinstance(outcome, ChronosError):
            yield outcome
            continue
        try:
            yield look.follow(outcome)
        except ChronosError as error:
            yield error


class _Look:
    """One look at one job, until it is stored. `once` may run several times, in whichever thread writes."""

    def __init__(self, ctx: Context, job_id: str, fire: FireRequest) -> None:
        if fire.via in (Trigger.RELAY, Trigger.TICK, Trigger.MANUAL):
            ctx.must_be_active(f"looking at job {job_id}")
        self._ctx, self._job_id, self._fire = ctx, job_id, fire
        self._tried = False
        self._over: tuple[tuple[Job, Row], ...] = ()

    def once(self, jobs: JobsFile) -> Evaluation:
        """Decide on the record as it is in `jobs`, and put what it becomes."""
        ctx, job_id, fire = self._ctx, self._job_id, self._fire
        now = ctx.clock()
        job, invalid = read_job(ctx, jobs, job_id)
        # The row after the record, which may be read only now: a run that left `open` in between has one.
        came = replace(fire, via=Trigger.RUN_ENDED) if self._tried and _already_run(ctx, job_id, fire) else fire
        self._tried, self._over = True, ()
        if invalid is not None:
            return Evaluation(decision=Decision(outcome=Outcome.IGNORED, reason=invalid), job=None, invalid=invalid)
        found = _gather(ctx, job, now, ending=True)
        decision = decide(job, found.facts, came, now)
        write_settled(ctx, job, decision, found)
        if decision.record is not None:
            jobs.put(job_id, dict(decision.record))
            ctx.checkpoint("claiming")
        self._over = rows_over(ctx, job, decision, found.facts)
        return Evaluation(decision=decision, job=job)

    def follow(self, looked: Evaluation) -> Evaluation:
        """Do what follows once it is stored: tell of what is over, ask what is replaced to end, create owed rows."""
        ctx, owed = self._ctx, looked.decision.owed
        ctx.outbox.extend(self._over)
        ctx.checkpoint("claimed")
        for row in looked.decision.replaced:
            ctx.processes.ask_to_end(row)
            ctx.checkpoint("replacing")
        create_owed(ctx, owed)
        if owed and all(row.terminal for row in owed) and not looked.decision.starts:
            # Nothing runs whose end would take the entries out, now that their rows exist.
            evaluate(ctx, self._job_id, FireRequest(via=Trigger.RUN_ENDED, token=ctx.token()))
        return looked


def _already_run(ctx: Context, job_id: str, fire: FireRequest) -> bool:
    """Return whether another process has started the manual run that an earlier attempt of this look claimed."""
    return fire.run_id is not None and ctx.repository.rows.get(job_id, fire.run_id) is not None


def present_wake(ctx: Context, job_id: str) -> Wake | None:
    """Return the wake the job needs now, as stored; nothing is written. An unreadable job needs none."""
    job, _ = read_job(ctx, ctx.repository.jobs(), job_id)
    now = ctx.clock()
    found = _gather(ctx, job, now, ending=False)
    return decide(job, found.facts, FireRequest(via=Trigger.INSPECT, token=""), now).wake


def wake_of(ctx: Context, job: Job, now: datetime, *, hold: Hold | None, document: ArmDocument | None) -> Wake | None:
    """Return what `present_wake` does, for a job that was read with the hold and its arm document."""
    arm = None if document is None else StoredDocument(value=document, version="")
    facts = gather_rows(ctx, job, now, hold=hold, arm=arm, ending=False).facts
    return decide(job, facts, FireRequest(via=Trigger.INSPECT, token=""), now).wake


def as_known(ctx: Context, row: Row) -> Row:
    """Return the row as views show it: the result that its own process noted comes before what the row still says."""
    result = ctx.processes.result(row) if row.state is RunState.RUNNING else None
    retries = (row.policy or {}).get("retries")
    return row if result is None else concluded(row, result, retries=retries if isinstance(retries, int) else 0)


def read_job(ctx: Context, jobs: JobsFile, job_id: str) -> tuple[Job | None, str | None]:
    """Return the parsed job, or None with the reason why it cannot be run (no reason: there is no such job)."""
    value = jobs.get(job_id)
    if value is None:
        return None, jobs.problem_of(job_id)
    return _parsed(ctx, value)


def read_record(ctx: Context, record: Record) -> tuple[Job | None, str | None]:
    """Return the job of one entry of the file, or None with the reason why it cannot be run."""
    return (None, record.problem) if record.problem else _parsed(ctx, record.value)


def usable(ctx: Context, record: Mapping[str, Any]) -> Job:
    """Return the job of a stored record. Raises ChronosError with what gets the record out of the way."""
    try:
        return parse_job(record, ctx.home)
    except ChronosError as error:
        raise type(error)(error.message, hint=mend_of_record(record, record.get("id"))) from error


def mend_of_record(record: Mapping[str, Any], name: object) -> str:
    """Return what gets a record out of the way that cannot be used; `name`: what a command takes for it."""
    ours = record.get(OURS)
    entries = ours.get("open") if isinstance(ours, dict) else None
    if isinstance(entries, list) and len(readable_open(entries)) < len(entries):
        return f"mend it with `chronos job unlock {name} --yes`"
    return f"put it right in cron/jobs.json, or `chronos job remove {name} --yes`"


def mend_of_entry(record: Record) -> str:
    """Return what gets one entry of the file out of the way that cannot be used."""
    if record.problem is None:
        return mend_of_record(record.value, record.id if is_job_id(record.id) else f"'{record.number}'")
    name = record.id if is_job_id(record.id) and "of record" not in record.problem else f"'{record.number}'"
    return mend_of_record({}, name)


def why_unusable(record: Record, problem: str | None) -> str:
    """Return why an entry of the file is left out, and what gets it out of the way."""
    return f"{problem or 'it cannot be read'}; {mend_of_entry(record)}"


def read_all(ctx: Context) -> list[Job]:
    """Return every job of the store that can be read."""
    found = (_parsed(ctx, record.value) for record in ctx.repository.jobs().records if record.problem is None)
    return [job for job, _ in found if job is not None]


def _parsed(ctx: Context, value: Mapping[str, Any]) -> tuple[Job | None, str | None]:
    try:
        return parse_job(value, ctx.home), None
    except ChronosError as error:
        return None, error.message[:_MOST_SAID]


def _gather(ctx: Context, job: Job | None, now: datetime, *, ending: bool) -> _GatheredFacts:
    """Return the facts beside the record.

    `ending`: end what a dead owner left running, since its row is about to be settled. A view never does.
    """
    hold = ctx.repository.hold(now)
    if job is None:
        return _GatheredFacts(facts=Facts(held=hold is not None), versions={})
    # Before the rows: a process that changes a row and then arms leaves a newer generation than the one read here.
    try:
        arm = ctx.repository.arms.get(job.id)
    except DocumentError:
        arm = None  # no run depends on it; the next arm of the job says what is wrong
    return gather_rows(ctx, job, now, hold=hold, arm=arm, ending=ending)


def gather_rows(
    ctx: Context, job: Job, now: datetime, *, hold: Hold | None, arm: StoredDocument[ArmDocument] | None, ending: bool
) -> _GatheredFacts:
    """Return the facts beside a record, as `_gather` does, where the hold and the arm document have been read."""
    rows: dict[str, Row] = {}
    versions: dict[str, str] = {}
    liveness: dict[str, Liveness] = {}
    leases: dict[str, datetime] = {}
    results: dict[str, RunResult] = {}
    torn: dict[str, UnreadableError] = {}
    rebuilt: dict[str, Row] = {}
    for entry in job.open:
        try:
            stored = ctx.repository.rows.get(job.id, entry.run)
        except UnreadableError as error:
            torn[entry.run], versions[entry.run] = error, error.version
            rows[entry.run], liveness[entry.run] = rebuilt_row(ctx, job, entry, error, now)
            if rows[entry.run].state is not RunState.RUNNING:
                rebuilt[entry.run] = rows[entry.run]
            continue
        if stored is None:
            continue
        rows[entry.run], versions[entry.run] = stored.value, stored.version
        if stored.value.state is RunState.RUNNING:
            elapsed = ctx.processes.elapsed(stored.value.owner or {})
            end = lease_end(stored.value, elapsed, now)
            if end is not None and elapsed is not None:
                leases[entry.run] = end
            over = lease_of(stored.value, entry, leases.get(entry.run)).is_over(now, ctx.trust)
            liveness[entry.run], result = _ended(ctx, stored.value, over=over, ending=ending)
            if result is not None:
                results[entry.run] = result
    doubt = doubt_about(job, now)
    armed = {moment for moment in (arm.value.wake, arm.value.fire_at, arm.value.owed) if moment} if arm else set()
    return _GatheredFacts(
        facts=Facts(
            held=hold is not None,
            held_until=None if hold is None else hold.expires_at,
            rows=rows,
            liveness=liveness,
            leases=leases,
            results=results,
            armed=frozenset(armed - {job.cursor}),
            trust=ctx.trust,
            ahead=_rows_ahead(ctx, job, now) if doubt is not None and doubt.code == AHEAD else None,
            settled_at=_settled_at(arm),
        ),
        versions=versions,
        torn=torn,
        rebuilt=rebuilt,
        doubt=doubt,
    )


def _rows_ahead(ctx: Context, job: Job, now: datetime) -> frozenset[datetime]:
    """Return the instants still to come that have rows, or are owed one; looked for only where a clock was ahead."""
    names = (name for name in ctx.repository.rows.ids(job.id) if name > run_id_of(now) and name[0].isdigit())
    owed = {entry.fire_at for entry in job.open if entry.fire_at is not None}
    return frozenset(owed | {at for at in map(instant_of, names) if at is not None})


def rebuilt_row(ctx: Context, job: Job, entry: Open, error: UnreadableError, now: datetime) -> tuple[Row, Liveness]:
    """Return the row that stands for one that cannot be read, made from its entry and from what the run's lock tells.

    A run is never accepted again for it: it may have done its work. While its lock is held it goes on as `running`, and
    so it does where its lock may lie on another machine, as long as a lease may last that began with the claim.
    """
    row = row_of(job.id, entry, job.policy)
    may_run = entry.kind in (OpenKind.RUN, OpenKind.QUEUED)
    until = entry.claimed_at + timedelta(seconds=job.policy.timeout) + LEASE_MARGIN
    lock = ctx.processes.found(job.id, entry.run)
    if lock is not None:
        result = ctx.processes.result(replace(row, state=RunState.RUNNING, owner=lock[0]))
        if result is not None:
            return concluded(row, result, retries=0), Liveness.DEAD
    if lock is not None and lock[1]:
        return replace(row, state=RunState.RUNNING, owner=lock[0], started_at=entry.claimed_at), Liveness.ALIVE
    if lock is None and not may_run:
        return row, Liveness.UNSEEN  # nothing ever starts it
    running = replace(row, state=RunState.RUNNING, started_at=entry.claimed_at, lease_ends_at=until)
    if not ctx.processes.results_are_seen and not lease_of(running, entry, None).is_over(now, ctx.trust):
        return running, Liveness.UNSEEN  # a free lock here may be of a start that died, and another machine's won
    if lock is None and entry.kind is OpenKind.QUEUED and ctx.processes.results_are_seen:
        return row, Liveness.UNSEEN  # a process that starts it takes a lock here first
    return over(row, RunState.LOST, now=now, reason=f"{TORN}: {error.why}"), Liveness.DEAD


def write_settled(ctx: Context, job: Job | None, decision: Decision, found: _GatheredFacts) -> None:
    """Write the rows that were settled, and those that had to be made anew once their old bytes are kept aside."""
    entries = {} if job is None else {entry.run: entry for entry in job.open}
    for row in {**found.rebuilt, **{row.run_id: row for row in decision.settle}}.values():
        if row.run_id in found.torn:
            ctx.repository.set_aside(found.torn[row.run_id])
        if job is not None and row.run_id not in found.versions:
            settle_new_row(ctx, row_of(job.id, entries[row.run_id], job.policy), row)
            ctx.checkpoint("settling")
            continue
        _put_row(ctx, row, found)
        ctx.checkpoint("settling")


def _settled_at(arm: StoredDocument[ArmDocument] | None) -> datetime | None:
    """Return when the last callback came, if it settled something."""
    return arm.value.last_callback_at if arm is not None and arm.value.last_callback not in NO_EFFECT_OUTCOMES else None


def _ended(ctx: Context, row: Row, *, over: bool, ending: bool) -> tuple[Liveness, RunResult | None]:
    """Return whether a run's owner lives, and how the run ended where that is written down (it may just have been).

    `over`: its lease is. Nothing is left to be ended of a run that ended by itself, and its owner, if it lives, is busy
    with its row.
    """
    alive = ctx.processes.liveness(row)
    result = ctx.processes.result(row)
    if ending and result is None and (alive is Liveness.DEAD or over):
        ctx.processes.end_leftovers(row)
        result = ctx.processes.result(row)
    return alive, result


def create_owed(ctx: Context, owed: Iterable[Row]) -> None:
    """Create the rows that a record's entries owe; every reader of an entry would write the same.

    Durable, since the next write of the record drops the entries, and then nothing else knows of these occurrences.
    """
    for row in owed:
        try:
            ctx.repository.rows.make(row)
        except VersionConflict:
            continue  # another look wrote the same row from the same entry, or it was all over before


def rows_over(ctx: Context, job: Job | None, decision: Decision, facts: Facts) -> tuple[tuple[Job, Row], ...]:
    """Return the rows that are over after a look. Rows of one run are told once, however many looks come upon them."""
    if job is None or not job.policy.on_failure:
        return ()
    settled = {row.run_id: row for row in decision.settle}
    rows = [settled.get(entry.run) or facts.rows.get(entry.run) for entry in job.open]
    after = parse_job(decision.record, ctx.home) if decision.record is not None else job
    return tuple((after, row) for row in (*rows, *decision.owed) if row is not None and row.terminal)


def settle_new_row(ctx: Context, first: Row, row: Row) -> None:
    """Write a settled row where there is none: as its entry has it at `first`, and then as it was settled.

    Without the first step an end could be written for a run that is long over, by a process that stood still: see
    `RowStore.make`. Raises VersionConflict.
    """
    version = ctx.repository.rows.make(first)
    if row != first:
        ctx.repository.rows.replace(row, version)


def _put_row(ctx: Context, row: Row, found: _GatheredFacts) -> None:
    """Write a settled row over the one that was read. Raises VersionConflict: then the look starts again."""
    before = found.facts.rows.get(row.run_id)
    ctx.repository.rows.replace(row, found.versions[row.run_id])
    if before is not None and before.state is RunState.RUNNING:
        ctx.processes.forget(before)  # what became of it is on record now
