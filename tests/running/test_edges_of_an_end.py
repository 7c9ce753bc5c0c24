"""Rules of a run's two writes at their edges: for how long each is tried, and what is waited for between two tries."""

from __future__ import annotations

from datetime import UTC, timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.core.job import HomeDefaults
from chronos_cli.core.row import RunResult, RunState, begun, concluded, row_of
from chronos_cli.errors import TemporaryError, UnreadableError
from chronos_cli.frozen import replace
from chronos_cli.operations import evaluate
from chronos_cli.operations.firing import after_answer, run, run_end, run_row
from chronos_cli.store.interface import OutcomeUnknown, VersionConflict
from tests.running.test_end_rules import ENTRY, JOB, RECORD, Locked, T

RUNNING = begun(
    row_of("j", ENTRY, JOB.policy), starter="s", owner={"token": "t"}, now=T, lease_ends_at=T + timedelta(hours=1)
)
TICKET = run.RunTicket(record=RECORD, entry=ENTRY, attempt=1, starter="s")
RESULT = RunResult(state=RunState.OK, finished_at=T)


class Store:
    """Rows of which the first writes fail; the outside as an end needs it."""

    def __init__(self, errors=(), *, now=T, told_to_stop=False, results_are_seen=True):
        self.errors, self.writes, self.waits, self.stored = list(errors), 0, [], None
        self.rows = self
        processes = SimpleNamespace(
            told_to_stop=told_to_stop, results_are_seen=results_are_seen, elapsed=lambda _: None
        )
        self.ctx = SimpleNamespace(
            repository=self, processes=processes, clock=lambda: now, checkpoint=lambda _: None, budget_s=None
        )

    def get(self, *_):
        return self.stored and SimpleNamespace(value=self.stored, version="1")

    def replace(self, row, *_):
        self.writes += 1
        if self.errors:
            raise self.errors.pop(0)
        return "2"

    create = replace

    def is_in_hand(self, *_):
        return True

    def wait_to_retry(self, tried):
        self.waits.append(tried)


def record(store, *, waited_for=False, locked=None):
    begun_run = SimpleNamespace(
        row=RUNNING,
        policy=JOB.policy,
        version="1",
        ticket=TICKET,
        locked=locked or Locked(),
        attempt=None,
        failure=None,
    )
    store.stored = RUNNING
    return run_row.record_end(store.ctx, begun_run, RESULT, waited_for=waited_for)


LEASE_OVER = {"now": T + timedelta(hours=1)}


@pytest.mark.parametrize(
    ("outside", "waited_for", "safe", "tries"),
    [
        ({"told_to_stop": True}, False, True, run_row._TRIES_AT_LEAST + 1),
        (LEASE_OVER, False, True, run_row._TRIES_AT_LEAST + 1),
        ({}, True, True, run_row._TRIES_WAITED_FOR + 1),
        ({"results_are_seen": False}, True, True, None),
        ({}, True, False, None),
        ({}, False, True, None),
    ],
    ids=["told to stop", "lease over", "waited for", "elsewhere", "not kept", "nobody waits"],
)
def test_an_end_is_tried_for_as_long_as_it_may_take(outside, waited_for, safe, tries):
    """Where its lease is over or this process has to go, a few times; longer where somebody waits and the result is safe."""
    store = Store([TemporaryError("the disk")] * 30, **outside)
    locked = Locked(None if safe else OSError())
    if tries is None:
        assert record(store, waited_for=waited_for, locked=locked) == concluded(RUNNING, RESULT, retries=2)
        assert store.writes == 31
    else:
        with pytest.raises(TemporaryError, match="the end of run"):
            record(store, waited_for=waited_for, locked=locked)
        assert store.writes == tries
    assert store.waits == list(range(store.writes - 1))


def test_a_lease_without_an_end_is_over():
    """Nobody promised that run any time."""
    ctx, locked = Store().ctx, Locked()
    assert run_row._lease_is_over(ctx, replace(RUNNING, lease_ends_at=None), locked)
    assert not run_row._lease_is_over(ctx, RUNNING, locked)
    for seconds, over in ((-1, False), (0, True)):
        at_end = Store(now=RUNNING.lease_ends_at + timedelta(seconds=seconds)).ctx
        assert run_row._lease_is_over(at_end, RUNNING, locked) is over


def marking(store):
    locked = Locked()
    locked.unhandled = ()
    return run_row._Marking(store.ctx, JOB, TICKET, locked)


def test_a_start_whose_answer_is_lost_is_written_until_it_surely_stands():
    """Its lease counts from the first try: until that is over nobody else may take it for his."""
    store = Store([OutcomeUnknown("lost")] * 12)
    store.stored = row_of("j", ENTRY, JOB.policy)
    assert marking(store).won().value.state is RunState.RUNNING
    assert (store.writes, store.waits) == (13, list(range(12)))


def test_a_start_is_given_up_where_its_time_is_over_before_it_is_known_to_stand():
    """By the lease of the first try, whatever those after it say."""
    store = Store([OutcomeUnknown("lost")] * 200)
    store.stored = row_of("j", ENTRY, JOB.policy)
    hours = iter(range(100))
    store.ctx.clock = lambda: T + timedelta(minutes=20) * next(hours)
    with pytest.raises(TemporaryError, match="changed under every attempt"):
        marking(store).won()
    assert store.writes == 3


def test_others_swaps_are_looked_at_at_once_and_waited_for_while_an_answer_is_lost():
    """The row tells at once what another has made of it."""
    store = Store([VersionConflict()] * 5)
    store.stored = row_of("j", ENTRY, JOB.policy)
    assert marking(store).won() is not None
    assert (store.writes, store.waits) == (6, [])
    store = Store([OutcomeUnknown("lost"), VersionConflict(), VersionConflict()])
    store.stored = row_of("j", ENTRY, JOB.policy)
    assert marking(store).won() is not None
    assert (store.writes, store.waits) == (4, [0, 1, 2])


class Ledger(Store):
    """Store that knows which runs are in hand, and what it was told to take back."""

    def __init__(self, entries=(), stands=RUNNING):
        super().__init__()
        self.stored, self.taken_back = stands, []
        self.in_hand = {(entry.claim, entry.run) for entry in entries}

    def is_in_hand(self, row):
        return (row.claim, row.run_id) in self.in_hand

    def take_back(self, row, version):
        self.taken_back.append((row, version))


MADE = SimpleNamespace(value=RUNNING, version="1")
KEY = f"cron/runs/j/{ENTRY.run}.json"


@pytest.mark.parametrize("entries", [(ENTRY,), ()])
def test_a_row_that_was_made_for_a_run_that_is_over_goes_again(entries):
    """As it was made: what somebody has settled since stays."""
    ledger = Ledger(entries)
    assert (marking(ledger)._if_in_hand(MADE) is MADE) is bool(entries)
    assert ledger.taken_back == ([] if entries else [(RUNNING, "1")])


@pytest.mark.parametrize(("attempt", "asks"), [(1, True), (2, False)])
@pytest.mark.parametrize("entries", [(ENTRY,), ()])
def test_a_row_that_others_made_proves_nothing_until_an_attempt_of_it_is_over(entries, attempt, asks):
    """It may have been made, as this one would be, by a process that stood still while the run ended and was pruned."""
    ledger = Ledger(entries, replace(row_of("j", ENTRY, JOB.policy), attempt=attempt))
    mine = marking(ledger)
    mine.ticket = replace(TICKET, attempt=attempt)
    won = mine.won()
    assert (won is None) is (asks and not entries)
    assert len(ledger.taken_back) == (asks and not entries)


def test_a_row_that_rotted_where_there_are_no_jobs_any_more_is_over():
    """Nobody tries that run again."""
    torn = UnreadableError("torn", hint="", key=KEY, data=b"torn", version="7")
    ledger = Ledger()
    ledger.errors, ledger.set_aside = [VersionConflict()], lambda error: None

    def rotten(*_):
        raise torn

    ledger.get = rotten
    begun_run = SimpleNamespace(row=RUNNING, policy=JOB.policy, version="1", ticket=TICKET, locked=Locked())
    failed = RunResult(state=RunState.FAILED, finished_at=T)
    recording = run_row._Recording(ledger.ctx, begun_run, failed)
    assert recording.once(last=False) is None
    assert recording.once(last=False).state is RunState.FAILED


def beginning(monkeypatch, locked, *, budget_s=None, lease=timedelta(hours=1)):
    """Begin a run whose lock is `locked`, and whose lease ends then."""
    row = replace(RUNNING, lease_ends_at=T + lease)
    monkeypatch.setattr(run, "mark_running", lambda *_: SimpleNamespace(value=row, version="1"))
    processes = SimpleNamespace(lock=lambda _: locked, elapsed=lambda _: None)
    home = HomeDefaults(zone=UTC, zone_name="UTC")
    ctx = SimpleNamespace(home=home, clock=lambda: T, checkpoint=lambda _: None, budget_s=budget_s, processes=processes)
    return run.begin(ctx, TICKET)


class Beginning(Locked):
    """A lock under which a process begins, or does not."""

    def __init__(self, error=None):
        super().__init__()
        self.begins, self.began = error, []

    def begin(self, **how):
        self.began.append(how)
        if self.begins is not None:
            raise self.begins
        return "attempt"


def test_a_process_has_the_time_that_its_lease_leaves(monkeypatch):
    """Where a platform stops every clock but the wall's, it is told when that is over."""
    locked = Beginning()
    assert beginning(monkeypatch, locked).attempt == "attempt"
    beginning(monkeypatch, locked, budget_s=60.0)
    assert locked.began == [
        {"lease_ends_at": None, "timeout_s": 3540.0}, {"lease_ends_at": T + timedelta(hours=1), "timeout_s": 3540.0}
    ]  # fmt: skip
    late = beginning(monkeypatch, locked, lease=timedelta(seconds=60))
    assert (late.attempt, late.failure) == (None, "it was suspended past its time before it could start")


def test_what_breaks_in_on_a_begin_leaves_the_lock_to_say_whether_the_job_was_begun(monkeypatch):
    """A process that cannot be started is a run that failed, and its lock is held on."""
    broken = Beginning(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        beginning(monkeypatch, broken)
    assert broken.kept == [True]
    for error, why in ((TemporaryError("no room"), "no room"), (FileNotFoundError(2, "no such file"), "no such file")):
        failed = Beginning(error)
        begun_run = beginning(monkeypatch, failed)
        assert (begun_run.attempt, why in begun_run.failure, failed.kept) == (None, True, [])


def test_output_that_cannot_be_kept_is_said_in_the_row(capsys):
    """As well as that can be done: a row that somebody has changed since stays as it is."""
    ended = concluded(RUNNING, replace(RESULT, reason="it is done"), retries=0)
    written = []
    for stored, said in ((ended, True), (replace(ended, reason="other"), False), (None, False)):
        store = Store()
        store.stored = stored
        store.replace = lambda row, version: written.append(row)

        def keep_output():
            raise TemporaryError("the bucket is closed")

        row = run._with_output(store.ctx, ended, SimpleNamespace(keep_output=keep_output))
        assert (row.reason == "it is done; its output could not be kept: the bucket is closed") is said
        assert len(store.waits) == 3
    assert len(written) == 1
    assert "the output of run j/20261120T120000Z could not be kept: the bucket is closed" in capsys.readouterr().err
    kept = SimpleNamespace(keep_output=lambda: None)
    assert run._with_output(Store().ctx, ended, kept) is ended


@pytest.mark.parametrize("follows", [True, False])
def test_one_of_several_runs_arms_its_job_once_nothing_of_it_goes(follows, monkeypatch):
    """And its row is what whoever waits for it is told."""
    row, behind, told = SimpleNamespace(job_id="j"), SimpleNamespace(), []
    monkeypatch.setattr(run_end, "finish", lambda *_, waited_for: row)
    monkeypatch.setattr(run_end, "_note", lambda *_: told.append("noted"))
    monkeypatch.setattr(run_end, "_look_after", lambda *_: SimpleNamespace(wake="a wake"))
    monkeypatch.setattr(run_end, "_begin_each", lambda *_: [behind] if follows else [])
    monkeypatch.setattr(run_end, "_arm", lambda _, job_id, wake: told.append((job_id, wake)))
    monkeypatch.setattr(run_end, "_prune", lambda *_: told.append("pruned"))
    going = []
    ctx = SimpleNamespace(send_alerts=lambda: told.append("alerts"))
    assert run_end.end_and_begin(ctx, None, going) is row
    assert going == ([behind] if follows else [])
    assert told == ["noted", *([] if follows else [("j", "a wake")]), "alerts", "pruned"]


@pytest.mark.parametrize(("fails", "tries"), [(0, 1), (2, 3), (3, 3)])
def test_a_job_whose_run_is_over_is_looked_at_three_times(fails, tries, monkeypatch):
    """The store may be gone for a moment; each time by the same token, since a write that failed may stand."""
    errors, seen = [TemporaryError("the store is gone")] * fails, []

    def after_end(ctx, job_id, token):
        seen.append(token)
        if errors:
            raise errors.pop()
        return SimpleNamespace(job=None, decision=SimpleNamespace(wake="a wake", starts=()))

    monkeypatch.setattr(run_end, "after_end", after_end)
    tokens = iter("abc")
    ctx = SimpleNamespace(token=lambda: next(tokens), repository=Store())
    if fails < 3:
        assert run_end._look_after(ctx, "j").wake == "a wake"
    else:
        with pytest.raises(TemporaryError):
            run_end._look_after(ctx, "j")
    assert seen == ["a"] * tries


def test_a_row_that_does_not_say_how_often_it_is_tried_is_shown_as_failed():
    """By the result beside its lock."""
    failed = RunResult(state=RunState.FAILED, finished_at=T)
    ctx = SimpleNamespace(processes=SimpleNamespace(result=lambda row: failed))
    for policy in (None, {}, {"retries": "2"}):
        assert evaluate.as_known(ctx, replace(RUNNING, policy=policy)).state is RunState.FAILED
    assert evaluate.as_known(ctx, replace(RUNNING, policy={"retries": 1})).state is RunState.ACCEPTED


@pytest.mark.parametrize(
    ("wire", "stored", "needs", "looks"), [(1, 1, True, 1), (None, 1, True, 0), (1, None, True, 0), (1, 1, False, 0)]
)
def test_nas_is_looked_at_after_an_answer_where_it_may_have_dropped_something(wire, stored, needs, looks, monkeypatch):
    """Where there is one, and something was sent."""
    looked = []
    monkeypatch.setattr(run_end, "needs_look", lambda *_: needs)
    monkeypatch.setattr(after_answer, "arm_again_if_deleted", lambda *_: looked.append(1))
    arms = SimpleNamespace(get=lambda _: stored and SimpleNamespace(value="document"))
    run_end._look_again(SimpleNamespace(wire=wire, repository=SimpleNamespace(arms=arms)), "j")
    assert len(looked) == looks


def test_only_the_attempt_that_was_claimed_may_start():
    """And only a row that waits to be started."""
    row = row_of("j", ENTRY, JOB.policy)
    for state in RunState:
        startable = state in (RunState.ACCEPTED, RunState.QUEUED)
        assert run_row._startable(replace(row, state=state), TICKET) is startable
    assert not run_row._startable(replace(row, attempt=2), TICKET)


def test_a_run_that_went_well_ends_the_complaint_before_its_job_is_looked_at(monkeypatch):
    """Runs can be started again."""
    told = []
    monkeypatch.setattr(run_end, "finish", lambda *_, waited_for: SimpleNamespace(job_id="j"))
    monkeypatch.setattr(run_end, "_note", lambda _, row: told.append("noted"))
    monkeypatch.setattr(run_end, "_follow", lambda *_, waited_for: told.append("followed"))
    for name in ("_arm", "_prune"):
        monkeypatch.setattr(run_end, name, lambda *_: None)
    run_end.wait_and_follow_up(SimpleNamespace(send_alerts=lambda: None), None)
    assert told == ["noted", "followed"]


def test_a_row_that_was_made_and_lost_its_answer_is_asked_after_as_well():
    """Its run may have been over before it was made."""
    ledger = Ledger((), None)

    def create(row):
        ledger.stored = row
        raise OutcomeUnknown("lost")

    ledger.create = create
    trying = marking(ledger)
    with pytest.raises(OutcomeUnknown):
        trying._once()
    assert trying._once() is None
    assert ledger.taken_back == [(ledger.stored, "1")]


@pytest.mark.parametrize(
    ("state", "manual", "ends"), [("ok", False, True), ("ok", True, False), ("failed", False, False)]
)
def test_a_scheduled_run_that_went_well_ends_the_complaint_that_none_can_be_started(state, manual, ends):
    """A person's run is started otherwise."""
    changed = []
    ctx = SimpleNamespace(
        repository=SimpleNamespace(arms=SimpleNamespace(change=lambda job_id, fn: changed.append(job_id)))
    )
    run_end._note(ctx, replace(RUNNING, state=RunState(state), scheduled_at=None if manual else T))
    assert changed == (["j"] if ends else [])


def test_only_a_row_that_is_accepted_again_awaits_an_attempt():
    """One that runs has begun it, and one that is over has had it."""
    again = replace(RUNNING, attempt=2)
    assert [state for state in RunState if replace(again, state=state).awaits_attempt] == [RunState.ACCEPTED]
    assert not replace(RUNNING, state=RunState.ACCEPTED).awaits_attempt
