"""Rules of a run's two writes at their edges: for how long each is tried, and what is waited for between two tries."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.core.row import RunResult, RunState, begun, concluded, row_of
from chronos_cli.errors import TemporaryError
from chronos_cli.frozen import replace
from chronos_cli.operations.firing import run, run_row
from chronos_cli.store.interface import OutcomeUnknown, VersionConflict
from tests.running.test_end_rules import ENTRY, JOB, RECORD, Hold, T

RUNNING = begun(
    row_of("j", ENTRY, JOB.policy), starter="s", owner={"token": "t"}, now=T, lease_ends_at=T + timedelta(hours=1)
)
TICKET = run.RunTicket(record=RECORD, entry=ENTRY, attempt=1, starter="s")
RESULT = RunResult(state=RunState.OK, finished_at=T)


class Store:
    """Rows of which the first writes fail; the outside as an end needs it."""

    def __init__(self, errors=(), *, now=T, told_to_stop=False, results_are_seen=True):
        self.errors, self.writes, self.waits, self.stored = list(errors), 0, [], None
        processes = SimpleNamespace(
            told_to_stop=told_to_stop, results_are_seen=results_are_seen, elapsed=lambda _: None
        )
        self.ctx = SimpleNamespace(
            repository=self, processes=processes, clock=lambda: now, checkpoint=lambda _: None, budget_s=None
        )

    def row(self, *_):
        return self.stored and SimpleNamespace(value=self.stored, version="1")

    def replace_row(self, row, *_):
        self.writes += 1
        if self.errors:
            raise self.errors.pop(0)
        return "2"

    create_row = replace_row

    def wait_to_retry(self, tried):
        self.waits.append(tried)


def record(store, *, waited_for=False, hold=None):
    begun_run = SimpleNamespace(
        row=RUNNING, policy=JOB.policy, version="1", claim=TICKET, held=hold or Hold(), attempt=None, failure=None
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
    hold = Hold(None if safe else OSError())
    if tries is None:
        assert record(store, waited_for=waited_for, hold=hold) == concluded(RUNNING, RESULT, retries=2)
        assert store.writes == 31
    else:
        with pytest.raises(TemporaryError, match="the end of run"):
            record(store, waited_for=waited_for, hold=hold)
        assert store.writes == tries
    assert store.waits == list(range(store.writes - 1))


def test_a_lease_without_an_end_is_over():
    """Nobody promised that run any time."""
    ctx, hold = Store().ctx, Hold()
    assert run_row._lease_is_over(ctx, replace(RUNNING, lease_ends_at=None), hold)
    assert not run_row._lease_is_over(ctx, RUNNING, hold)
    for seconds, over in ((-1, False), (0, True)):
        at_end = Store(now=RUNNING.lease_ends_at + timedelta(seconds=seconds)).ctx
        assert run_row._lease_is_over(at_end, RUNNING, hold) is over


def marking(store):
    hold = Hold()
    hold.unhandled = ()
    return run_row._Marking(store.ctx, JOB, TICKET, hold)


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
