"""Rules of a run's end, each by itself: what is kept where it cannot be recorded, and what follows it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Decision, Facts, Liveness, Outcome, Start
from chronos_cli.core.job import HomeDefaults, Open, OpenKind, parse_job
from chronos_cli.core.open_runs import OpenRuns
from chronos_cli.core.row import RunResult, RunState, begun, concluded, row_of
from chronos_cli.errors import StandbyError, TemporaryError, UnreadableError
from chronos_cli.frozen import replace
from chronos_cli.operations import evaluate
from chronos_cli.operations.firing import launchers, run, run_end, run_row, tick
from chronos_cli.store.interface import JOBS_KEY, VersionConflict
from chronos_cli.store.repository import Repository
from tests.memory_store import MemoryStore

T = datetime(2026, 11, 20, 12, tzinfo=UTC)
RECORD = {
    "id": "j", "name": "J", "schedule": {"kind": "interval", "minutes": 60}, "enabled": True, "state": "scheduled",
    "next_run_at": T.isoformat(), "chronos": {"timezone": "UTC", "action": {"shell": "true"}, "policy": {"retries": 2}},
}  # fmt: skip
JOB = parse_job(RECORD, HomeDefaults(zone=UTC, zone_name="UTC"))
ENTRY = Open(run="20261120T120000Z", kind=OpenKind.RUN, fire_at=T, claim="c", claimed_at=T)


class Locked:
    """A run's lock that notes how it was given back."""

    def __init__(self, error=None):
        self.error, self.kept, self.owner = error, [], {"token": "t"}

    def conclude(self, result, *, durable):
        if self.error is not None:
            raise self.error

    def release(self, *, keep=False):
        self.kept.append(keep)


def begun_with(locked):
    ticket = run.RunTicket(record=RECORD, entry=ENTRY, attempt=1, starter="s")
    return SimpleNamespace(
        ticket=ticket, row=SimpleNamespace(output="o"), locked=locked, attempt=None, failure="it failed"
    )


def test_a_result_that_could_not_be_kept_is_not_taken_for_safe():
    """Then the row alone can tell how the run ended."""
    assert run_row._conclude(begun_with(Locked()), None, durable=True) is True
    assert run_row._conclude(begun_with(Locked(OSError())), None, durable=True) is False


@pytest.mark.parametrize("recorded", [True, False])
def test_the_lock_keeps_its_result_where_the_row_could_not_be_written(recorded, monkeypatch):
    """The next look settles the run by it."""

    def record_end(ctx, begun, result, *, waited_for):
        assert (result.state, result.output, result.reason) == (RunState.FAILED, "o", "it failed")
        if not recorded:
            raise TemporaryError("the disk is gone")
        return begun.row

    monkeypatch.setattr(run, "record_end", record_end)
    locked, ctx = Locked(), SimpleNamespace(clock=lambda: T, checkpoint=lambda _: None)
    if recorded:
        run.finish(ctx, begun_with(locked))
    else:
        with pytest.raises(TemporaryError):
            run.finish(ctx, begun_with(locked))
    assert locked.kept == [not recorded]


@pytest.mark.parametrize("standby", [True, False])
def test_what_is_queued_is_left_to_the_active_machine(standby, monkeypatch):
    """One that was put on standby while its run went on starts nothing more."""
    start = Start(entry=ENTRY, attempt=1)
    looks = iter([Decision(outcome=Outcome.CLAIMED, starts=(start,)), Decision(outcome=Outcome.IDLE)])
    monkeypatch.setattr(run_end, "after_end", lambda *_: SimpleNamespace(job=JOB, decision=next(looks)))
    monkeypatch.setattr(run_end, "_note", lambda *_: None)
    begun = []
    monkeypatch.setattr(run_end, "begin", lambda _, ticket: begun.append(ticket) or ticket)
    monkeypatch.setattr(run_end, "finish", lambda *_, **__: None)
    run_end._follow(SimpleNamespace(standby=standby, token=lambda: "t"), "j", waited_for=False)
    assert len(begun) == (not standby)


@pytest.mark.parametrize("fault", [None, ZeroDivisionError("ours")])
def test_the_end_of_one_that_goes_wrong_leaves_no_other_unseen(fault, monkeypatch, capfd):
    """Each of a group is seen through with what it begins; a fault of ours is raised once nothing goes any more."""
    seen = []
    first, second, third, behind = (
        SimpleNamespace(attempt=None, row=SimpleNamespace(job_id=name, run_id=name)) for name in "abcd"
    )

    def ends(_, run, going):
        seen.append(run.row.job_id)
        if run is second:
            going.append(behind)
        if run in (first, behind):
            raise TemporaryError(f"{run.row.job_id} is not on record")
        if run is third and fault:
            raise fault
        return run.row

    monkeypatch.setattr(launchers, "begin", lambda _, claim: claim)
    monkeypatch.setattr(launchers, "end_and_begin", ends)
    monkeypatch.setattr(run_end, "end_and_begin", ends)
    launcher = launchers.InlineLauncher()
    running = [launcher.launch(None, run) for run in (first, second, third)]
    if fault:
        with pytest.raises(ZeroDivisionError):
            launchers.wait_for(running)
    else:
        rows, trouble = launchers.wait_for(running)
        assert (rows, [error.message for error in trouble]) == ((second.row, third.row), ["a is not on record"])
    assert sorted(seen) == ["a", "b", "c", "d"]
    assert "job d ended, but what follows its end is left to the next fire" in capfd.readouterr().err


def test_a_slot_is_waited_for_by_the_first_run_alone():
    """What goes on beside it is waited for when the next slot is needed, or at the end."""
    rows = [SimpleNamespace(run_id=name) for name in "abc"]
    running = [(row.run_id, SimpleNamespace(first_of=lambda going: going[0], wait=lambda row=row: row)) for row in rows]
    ended, failed = [], {}
    tick._collect(running, ended, failed, only_first=True)
    assert (ended, len(running)) == (rows[:1], 2)
    tick._collect(running, ended, failed)
    assert (ended, running, failed) == (rows, [], {})


def torn(kind, *, lock=None, seen=True, result=None, now=T):
    processes = SimpleNamespace(
        found=lambda *_: lock, result=lambda _: result, results_are_seen=seen, elapsed=lambda _: None
    )
    ctx = SimpleNamespace(processes=processes, trust=Trust.CONFIRMED)
    row, alive = evaluate.rebuilt_row(ctx, JOB, replace(ENTRY, kind=kind), SimpleNamespace(why="torn"), now)
    return row.state, alive


def test_a_torn_row_is_made_anew_by_what_its_lock_tells():
    """Held: it runs. Free, or nowhere where it would be seen: it is lost, unless it was still to be started by a lock."""
    assert torn(OpenKind.RUN, lock=({"token": "t"}, True)) == (RunState.RUNNING, Liveness.ALIVE)
    assert torn(OpenKind.RUN, lock=({"token": "t"}, False)) == (RunState.LOST, Liveness.DEAD)
    assert torn(OpenKind.QUEUED, lock=({"token": "t"}, False)) == (RunState.LOST, Liveness.DEAD)
    assert torn(OpenKind.RUN) == (RunState.LOST, Liveness.DEAD)
    assert torn(OpenKind.QUEUED) == (RunState.QUEUED, Liveness.UNSEEN)
    assert torn(OpenKind.SKIPPED) == (RunState.SKIPPED, Liveness.UNSEEN)
    assert torn(OpenKind.MISSED, seen=False) == (RunState.MISSED, Liveness.UNSEEN)


def test_a_torn_row_of_another_machine_runs_for_as_long_as_its_lease_may_last():
    """From its claim on, by the job's timeout and the margin; queued or not."""
    until = T + timedelta(seconds=JOB.policy.timeout) + evaluate.LEASE_MARGIN
    for kind in (OpenKind.RUN, OpenKind.QUEUED):
        before = torn(kind, seen=False, now=until - timedelta(seconds=1))
        assert before == (RunState.RUNNING, Liveness.UNSEEN)
        assert torn(kind, seen=False, now=until) == (RunState.LOST, Liveness.DEAD)
        # The lock of a start that died here says nothing of the one that another machine has won.
        free = ({"token": "t"}, False)
        assert torn(kind, lock=free, seen=False, now=until - timedelta(seconds=1)) == before
        assert torn(kind, lock=free, seen=False, now=until) == (RunState.LOST, Liveness.DEAD)


class Marking(run_row._Marking):
    """A run's row that is never won: each try fails alike."""

    def __init__(self, error, *, in_doubt=False, stop_after=10**6, over_after=10**6):
        self.tries, self.stop_after, self.over_after, self.error = 0, stop_after, over_after, error
        ctx = SimpleNamespace(processes=self, repository=SimpleNamespace(wait_to_retry=lambda _: None))
        ticket = run.RunTicket(record=RECORD, entry=ENTRY, attempt=1, starter="s")
        super().__init__(ctx, JOB, ticket, Locked())
        self.in_doubt = self._answer_lost = in_doubt

    @property
    def told_to_stop(self):
        return self.tries >= self.stop_after

    def _lease_is_over(self):
        return self.tries >= self.over_after

    def _once(self):
        self.tries += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "how", "tries"),
    [
        (TemporaryError("the disk"), {}, run_row._ERRORS),
        (TemporaryError("the disk"), {"in_doubt": True, "stop_after": 40}, 40),
        (TemporaryError("the disk"), {"in_doubt": True, "over_after": 40}, 40),
        (VersionConflict(), {}, run_row._CONFLICTS + 1),
        (VersionConflict(), {"in_doubt": True, "stop_after": 40}, 40),
    ],
    ids=["error", "in doubt, told to stop", "in doubt, lease over", "conflict", "conflict in doubt"],
)
def test_a_row_that_is_not_won_is_given_up_unless_it_may_be_ours(error, how, tries):
    """While the answer to a write is lost nothing is given up before the lease is over, or this process has to go."""
    marking = Marking(error, **how)
    with pytest.raises(TemporaryError):
        marking.won()
    assert marking.tries == tries


def test_a_run_that_only_its_asker_can_start_is_not_tried_again(monkeypatch):
    """What it was given is nowhere kept: its end is its last."""
    monkeypatch.setattr(
        run, "mark_running", lambda *_: SimpleNamespace(value=SimpleNamespace(lease_ends_at=T), version="1")
    )
    monkeypatch.setattr(run, "lease_end", lambda *_: T)
    ctx = SimpleNamespace(
        home=HomeDefaults(zone=UTC, zone_name="UTC"), clock=lambda: T, checkpoint=lambda _: None, budget_s=None,
        processes=SimpleNamespace(lock=lambda _: Locked(), elapsed=lambda _: None),
    )  # fmt: skip
    for own, retries in ((True, 0), (False, 2)):
        ticket = run.RunTicket(record=RECORD, entry=replace(ENTRY, own=own), attempt=1, starter="s")
        begun = run.begin(ctx, ticket)
        assert begun.policy.retries == retries
        assert begun.failure == "it was suspended past its time before it could start"


def test_what_became_of_a_run_is_forgotten_once_its_row_says_so():
    """Only that of a run: nothing is kept beside the lock of what never ran."""
    for state, forgotten in ((RunState.RUNNING, 1), (RunState.ACCEPTED, 0)):
        seen = []
        row = SimpleNamespace(run_id="r", state=state)
        ctx = SimpleNamespace(
            repository=SimpleNamespace(rows=SimpleNamespace(replace=lambda *_: None)),
            processes=SimpleNamespace(forget=seen.append),
        )
        found = SimpleNamespace(versions={"r": "1"}, facts=SimpleNamespace(rows={"r": row}))
        evaluate._put_row(ctx, row, found)
        assert len(seen) == forgotten


@pytest.mark.parametrize("waited_for", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_a_wake_is_armed_after_a_runs_end_once_that_was_followed_up(waited_for, fails, monkeypatch):
    """Before whoever waits is let go, and after it where nobody waits; where it could not be followed up, not at all."""
    told = []
    row = SimpleNamespace(job_id="j")
    monkeypatch.setattr(run_end, "finish", lambda *_, waited_for: told.append(("finish", waited_for)) or row)
    monkeypatch.setattr(run_end, "_note", lambda *_: None)

    def follow(ctx, job_id, server, *, waited_for):
        told.append(("follow", waited_for))
        if fails:
            raise TemporaryError("the store is gone")
        return "a wake"

    monkeypatch.setattr(run_end, "_follow", follow)
    monkeypatch.setattr(run_end, "_arm", lambda _, job_id, wake: told.append((job_id, wake)))
    monkeypatch.setattr(run_end, "_look_again", lambda *_: told.append("looked"))
    monkeypatch.setattr(run_end, "_prune", lambda *_: told.append("pruned"))
    ctx = SimpleNamespace(send_alerts=lambda: told.append("alerts"))
    how = {"ended": lambda _: told.append("ended"), "settled": lambda: told.append("settled"), "looks": True}
    assert run_end.wait_and_follow_up(ctx, None, waited_for=waited_for, **how) is row
    armed = [] if fails else [("j", "a wake")]
    after = [*armed, "alerts", "settled"] if waited_for else ["settled", *armed, "alerts"]
    assert told == [("finish", waited_for), "ended", ("follow", waited_for), *after, "looked", "pruned"]
    told.clear()
    run_end.wait_and_follow_up(ctx, None, waited_for=waited_for)
    assert told[:2] == [("finish", True), ("follow", True)]
    assert "looked" not in told


@pytest.mark.parametrize("elapsed", [None, 60.0])
def test_a_lease_is_counted_where_a_steady_clock_tells_how_long_it_has_gone(elapsed):
    """Else only the row says when it ends. A clock that was set meanwhile moves the counted end."""
    later = T + timedelta(days=3)
    entry = row_of("j", ENTRY, JOB.policy)
    row = begun(entry, starter="s", owner={"token": "t"}, now=T, lease_ends_at=T + timedelta(hours=1))
    ctx = SimpleNamespace(
        repository=SimpleNamespace(
            rows=SimpleNamespace(get=lambda *_: SimpleNamespace(value=row, version="1"), ids=lambda _: ())
        ),
        processes=SimpleNamespace(
            elapsed=lambda _: elapsed,
            liveness=lambda _: Liveness.UNSEEN,
            result=lambda _: None,
            end_leftovers=lambda _: None,
        ),
        trust=Trust.CONFIRMED,
    )
    job = replace(JOB, open=(ENTRY,))
    facts = evaluate.gather_rows(ctx, job, later, hold=None, arm=None, ending=False).facts
    counted = {} if elapsed is None else {ENTRY.run: later + timedelta(minutes=59)}
    assert facts.leases == counted


@pytest.mark.parametrize(
    ("stands", "fails", "last", "found"),
    [
        ("after", True, False, "again"), ("after", True, True, "after"), ("after", False, False, "after"),
        ("other", True, False, "other"), ("other", False, False, "other"), ("ours", True, True, "again"),
        ("ours", False, False, None), (None, True, False, "after"),
    ],
)  # fmt: skip
def test_an_end_is_written_until_it_surely_stands(stands, fails, last, found):
    """What stands but may not be durable is written again, a few times; what somebody else wrote is left."""
    ours = begun(row_of("j", ENTRY, JOB.policy), starter="s", owner={"token": "t"}, now=T, lease_ends_at=T)
    result = RunResult(state=RunState.OK, finished_at=T)
    ended = concluded(ours, result, retries=0)
    rows = {"ours": ours, "after": ended, "other": replace(ended, reason="lost")}

    def write(row, version):
        assert row == ended
        raise TemporaryError("the disk") if fails else VersionConflict

    stored = None if stands is None else SimpleNamespace(value=rows[stands], version="2")
    ctx = SimpleNamespace(repository=SimpleNamespace(rows=SimpleNamespace(replace=write, get=lambda *_: stored)))
    ticket = run.RunTicket(record=RECORD, entry=ENTRY, attempt=1, starter="s")
    begun_run = SimpleNamespace(
        row=ours, policy=replace(JOB.policy, retries=0), version="1", ticket=ticket, locked=Locked()
    )
    recording = run_row._Recording(ctx, begun_run, result)
    if found == "again":
        with pytest.raises(TemporaryError):
            recording.once(last=last)
    else:
        assert recording.once(last=last) == (found and rows[found])


def test_a_start_that_may_not_have_been_synced_is_written_again():
    """It stands, but a power cut may still take it away; one that was synced is left as it is."""
    made = []

    def write(row, version):
        made.append(row)
        if len(made) == 1:
            raise TemporaryError("the disk is slow")
        return "3"

    rows = {"stands": row_of("j", ENTRY, JOB.policy)}
    known = SimpleNamespace(
        get=lambda *_: SimpleNamespace(value=made[-1] if made else rows["stands"], version="1"),
        replace=write,
        is_in_hand=lambda *_: True,
    )
    repository = SimpleNamespace(rows=known)
    ctx = SimpleNamespace(repository=repository, clock=lambda: T, checkpoint=lambda _: None, budget_s=None)
    locked = Locked()
    locked.unhandled = ()
    marking = run_row._Marking(ctx, JOB, run.RunTicket(record=RECORD, entry=ENTRY, attempt=1, starter="s"), locked)
    with pytest.raises(TemporaryError):
        marking._once()
    assert marking._once().version == "3"
    assert made[0] == made[1]
    assert marking._once().version == "1"
    assert len(made) == 2


@pytest.mark.parametrize("trust", list(Trust))
def test_after_a_run_old_rows_and_lock_files_go(trust):
    """By a clock that a witness has confirmed or corrected; else the horizon alone does not count."""
    told = []
    ctx = SimpleNamespace(
        clock=lambda: T, trust=trust, retention=SimpleNamespace(days=2, keep=5),
        repository=SimpleNamespace(rows=SimpleNamespace(prune=lambda job_id, **how: told.append((job_id, how)), may_be_in_hand="asked")),
        processes=SimpleNamespace(sweep=told.append),
    )  # fmt: skip
    run_end._prune(ctx, "j")
    sure = trust in (Trust.CONFIRMED, Trust.CORRECTED)
    unbegun = told[0][1].pop("unbegun")
    for seen in Liveness:
        ctx.processes.liveness = lambda _, seen=seen: seen
        assert unbegun("a row") is (seen is Liveness.UNSTARTED)
    assert told == [("j", {"keep": 5, "horizon": "20261118T120000Z", "now": T, "sure": sure}), "asked"]


def test_a_manual_run_that_has_a_row_was_started_by_another():
    """What has none is claimed by the look that comes again, and so is every other fire."""
    rows = {"manual-1": "a row"}
    ctx = SimpleNamespace(repository=SimpleNamespace(rows=SimpleNamespace(get=lambda _, run_id: rows.get(run_id))))
    asked = [
        evaluate._already_run(ctx, "j", SimpleNamespace(run_id=run_id)) for run_id in ("manual-1", "manual-2", None)
    ]
    assert asked == [True, False, False]


@pytest.mark.parametrize("alive", list(Liveness))
@pytest.mark.parametrize("over", [True, False])
@pytest.mark.parametrize("ending", [True, False])
def test_what_a_dead_owner_left_is_ended_before_its_row_is_settled(alive, over, ending):
    """What it comes to then counts; who only shows ends nothing, and what ended by itself left nothing."""
    ended, results = [], {}
    processes = SimpleNamespace(liveness=lambda _: alive, result=results.get)

    def end_leftovers(row):
        ended.append(row)
        results[row] = "interrupted"

    processes.end_leftovers = end_leftovers
    ctx = SimpleNamespace(processes=processes)
    ends = ending and (over or alive is Liveness.DEAD)
    assert evaluate._ended(ctx, "r", over=over, ending=ending) == (alive, "interrupted" if ends else None)
    assert ended == ["r"] * ends
    assert evaluate._ended(ctx, "r", over=over, ending=ending)[1] == ("interrupted" if ends else None)
    assert ended == ["r"] * ends


@pytest.mark.parametrize(("fails_at", "keep"), [("read", False), ("write", True)])
def test_a_lock_is_kept_only_where_a_write_of_ours_may_stand(fails_at, keep):
    """Then the next look has to see that no job was begun; else the row has nothing to tell of it."""

    def failing(*_):
        raise TemporaryError("the disk")

    row = SimpleNamespace(value=row_of("j", ENTRY, JOB.policy), version="1")
    rows = SimpleNamespace(get=failing if fails_at == "read" else lambda *_: row, replace=failing)
    repository = SimpleNamespace(rows=rows, wait_to_retry=lambda _: None)
    ctx = SimpleNamespace(
        repository=repository, clock=lambda: T, checkpoint=lambda _: None, budget_s=None,
        processes=SimpleNamespace(told_to_stop=False, elapsed=lambda _: None),
    )  # fmt: skip
    locked = Locked()
    locked.unhandled = ()
    ticket = run.RunTicket(record=RECORD, entry=ENTRY, attempt=1, starter="s")
    with pytest.raises(TemporaryError):
        run_row.mark_running(ctx, JOB, ticket, locked)
    assert locked.kept == [keep]
    assert run_row._Marking(ctx, JOB, ticket, locked)._lease_is_over()


@pytest.mark.parametrize("entries", [(ENTRY,), ()])
def test_a_row_that_rotted_is_written_anew_as_it_is_known(entries):
    """As waiting for its retry only while the run is in hand: what has been settled, nobody tries again."""
    row = begun(
        row_of("j", ENTRY, JOB.policy), starter="s", owner={"token": "t"}, now=T, lease_ends_at=T + timedelta(hours=1)
    )
    written = []

    def write(after, version):
        written.append((after.state, version))
        if len(written) == 1:
            raise VersionConflict("it rotted")

    def rotten(*_):
        raise UnreadableError("it is empty", key="k", version="2")

    in_hand = {(entry.claim, entry.run) for entry in entries}
    repository = SimpleNamespace(
        rows=SimpleNamespace(replace=write, get=rotten, is_in_hand=lambda row: (row.claim, row.run_id) in in_hand),
        set_aside=lambda _: None,
    )
    begun_run = SimpleNamespace(
        ticket=run.RunTicket(record=RECORD, entry=ENTRY, attempt=1, starter="s"),
        row=row,
        version="1",
        locked=Locked(),
        policy=JOB.policy,
    )
    result = RunResult(state=RunState.FAILED, finished_at=T)
    recording = run_row._Recording(SimpleNamespace(repository=repository), begun_run, result)
    assert recording.once(last=False) is None
    assert recording.once(last=False).state is (RunState.ACCEPTED if entries else RunState.FAILED)
    assert [version for _, version in written] == ["1", "2"]


MISSED = Open(run="20261120T110000Z", kind=OpenKind.MISSED, fire_at=T - timedelta(hours=1), claim="c", claimed_at=T)


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"separators": (",", ":")}, {"sort_keys": True}])
@pytest.mark.parametrize(
    ("entries", "held"),
    [((MISSED, ENTRY), True), ((ENTRY, MISSED), True), ((MISSED,), False), ((), False), ((replace(ENTRY, claim="cc"),), False)],
)  # fmt: skip
def test_a_row_is_made_only_for_a_run_that_the_record_has_in_hand(entries, held, layout):
    """Its claim's token in what was noted for other programs, or in an entry beside it, says nothing of it."""
    record = {"id": "j", "chronos": {"open": [entry.to_record() for entry in entries]}}
    record["fire_claim"] = {"at": T.isoformat(), "by": "chronos:c"}
    data = json.dumps({"jobs": [record, {"id": "k", "last": ENTRY.run}]}, **layout).encode()
    documents = MemoryStore()
    documents.create(JOBS_KEY, data)
    found = Repository(documents, sleep=lambda _: None, random=lambda: 0.5)
    row = row_of("j", ENTRY, JOB.policy)
    assert found.rows.is_in_hand(row) is held


@pytest.mark.parametrize("own", [True, False])
def test_a_run_that_failed_is_tried_again_unless_only_its_asker_could_start_it(own):
    """By its result, when a look comes upon it."""
    entry = replace(ENTRY, own=own)
    row = begun(
        row_of("j", entry, JOB.policy), starter="s", owner={"token": "t"}, now=T, lease_ends_at=T + timedelta(hours=1)
    )
    facts = Facts(rows={entry.run: row}, results={entry.run: RunResult(state=RunState.FAILED, finished_at=T)})
    hand = OpenRuns(replace(JOB, open=(entry,)), facts, T)
    hand.survey(newer=None)
    assert [settled.state for settled in hand.settle] == [RunState.FAILED if own else RunState.ACCEPTED]


def test_a_run_whose_result_stands_beside_its_lock_is_shown_as_over_whatever_its_row_says():
    """Views ask the lock of what says running, and of nothing else."""
    lease = T + timedelta(hours=1)
    row = begun(row_of("j", ENTRY, JOB.policy), starter="s", owner={"token": "t"}, now=T, lease_ends_at=lease)
    result = RunResult(state=RunState.OK, finished_at=T + timedelta(minutes=1))
    asked = []
    ctx = SimpleNamespace(processes=SimpleNamespace(result=lambda row: asked.append(row.state) or result))
    assert evaluate.as_known(ctx, row).state is RunState.OK
    assert evaluate.as_known(ctx, replace(row, state=RunState.ACCEPTED)).state is RunState.ACCEPTED
    assert asked == [RunState.RUNNING]


@pytest.mark.parametrize("standby", [True, False])
def test_a_machine_that_was_put_on_standby_meanwhile_arms_nothing_after_its_run(standby, monkeypatch, capsys):
    """The active one has the job by then; the end is on record, and one line says what was left."""
    armed = []
    monkeypatch.setattr(run_end, "rearm", lambda _, job_id, wake: armed.append(job_id))

    def must_be_active(doing):
        if standby:
            raise StandbyError(f"{doing} is refused")

    run_end._arm(SimpleNamespace(must_be_active=must_be_active), "j", None)
    assert armed == ([] if standby else ["j"])
    assert ("its wake was not armed" in capsys.readouterr().err) is standby
