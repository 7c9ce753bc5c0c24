"""Rules of a look at all jobs, of a tick, and of what a fire says, each by itself in this process."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Outcome
from chronos_cli.core.edits import resumed
from chronos_cli.core.row import RunState
from chronos_cli.errors import ExitCode, HeldError, StandbyError
from chronos_cli.operations.arming import reconcile
from chronos_cli.operations.evaluate import present_wake
from chronos_cli.operations.evaluate_all import evaluate_all
from chronos_cli.operations.firing import tick
from chronos_cli.operations.firing.fire import FireReport
from chronos_cli.store.holds import Hold
from chronos_cli.store.interface import JOBS_KEY
from chronos_cli.store.repository import STOP_KEY, Repository
from tests.core.making import HOME, T, at, job, record
from tests.memory_store import MemoryStore


def home(*records, trust=Trust.CONFIRMED, now=T):
    """A store with these records, and the outside as a look needs it."""
    store = MemoryStore()
    store.create(JOBS_KEY, json.dumps({"jobs": list(records)}).encode())
    repository = Repository(store, sleep=lambda _: None, random=lambda: 0.5)
    return SimpleNamespace(repository=repository, home=HOME, clock=lambda: now, token=lambda: "t", trust=trust, outbox=[],
                           checkpoint=lambda _: None, processes=None)  # fmt: skip


def in_store(ctx, job_id="j"):
    return ctx.repository.jobs().get(job_id)


@pytest.mark.parametrize(("trust", "stays"), [(Trust.UNHEARD, True), (Trust.CONFIRMED, False), (Trust.ALONE, False)])
def test_a_completed_job_goes_after_its_week_but_not_by_a_clock_whose_witness_was_not_heard(trust, stays):
    """A clock that is ahead would else take away what was completed today."""
    done = {"completed_at": (T - timedelta(days=8)).isoformat()}
    ctx = home(record(state="completed", enabled=False, next_run_at=None, ours=done), trust=trust)
    evaluate_all(ctx)
    assert (in_store(ctx) is not None) is stays


def test_a_look_at_some_jobs_leaves_the_others_as_they_are():
    """Reconcile can be asked about single jobs."""
    late = {"next_run_at": (T - timedelta(days=3)).isoformat()}
    ctx = home(record(**late), record(**late) | {"id": "k"})
    found = evaluate_all(ctx, only=frozenset({"k"}))
    assert found.changed == ("k",)
    assert in_store(ctx)["next_run_at"] == late["next_run_at"]
    assert in_store(ctx, "k")["next_run_at"] != late["next_run_at"]


def test_what_a_look_at_all_jobs_owes_has_its_row_and_then_leaves_the_record():
    """The missed range is on record by itself; nothing of it stays in hand."""
    ctx = home(record(next_run_at=(T - timedelta(days=3)).isoformat(), policy={"grace": 60}), now=at(150))
    evaluate_all(ctx)
    (name,) = ctx.repository.rows.ids("j")
    assert ctx.repository.rows.get("j", name).value.state is RunState.MISSED
    assert not in_store(ctx)["chronos"].get("open")


def test_under_a_hold_with_an_end_the_wake_is_no_later_than_that_end():
    """What came due meanwhile is looked at when it is lifted; without an end NAS comes again after a quarter of an hour."""
    ctx = home(record())
    assert present_wake(ctx, "j").at == T + timedelta(seconds=1)
    ctx.repository.documents.create(STOP_KEY, b"a test")
    assert present_wake(ctx, "j").at == at(900)
    ctx.repository.documents.delete(STOP_KEY)
    ctx.repository.documents.create(
        STOP_KEY, json.dumps({"reason": "a test", "expires_at": at(120).isoformat()}).encode()
    )
    assert present_wake(ctx, "j").at == at(120)


def test_a_tick_under_a_hold_touches_nothing():
    """It says so before it writes down that it came."""
    repository = SimpleNamespace(hold=lambda now: Hold(reason="a test"))
    ctx = SimpleNamespace(must_be_active=lambda _: None, repository=repository, clock=lambda: T, home=HOME)
    with pytest.raises(HeldError, match="a test"):
        tick.tick(ctx, None)


def test_a_machine_on_standby_drops_no_timers():
    """They are the active one's."""

    def must_be_active(doing):
        raise StandbyError(f"{doing} is refused")

    with pytest.raises(StandbyError):
        reconcile.cancel(SimpleNamespace(must_be_active=must_be_active), ["j"])


@pytest.mark.parametrize("seconds", [None, 7])
def test_an_answer_names_a_wait_where_there_is_one(seconds):
    """The body says what the header says."""
    said = FireReport(
        job_id="j", outcome=Outcome.EARLY, http_status=503, exit_code=ExitCode.TEMPORARY, retry_after=seconds
    ).as_json()
    assert said.get("retry_after", "nothing") == (seconds or "nothing")


def test_a_paused_job_without_a_next_time_goes_on_at_its_next_instant():
    """Nothing came due while it had none."""
    again = resumed(job(state="paused", enabled=False, next_run_at=None), now=at(1), token="t")
    assert again["next_run_at"] == at(300).isoformat()
    assert not again["chronos"].get("open")
