"""Rules along the fire path, each at its edge: who is told what, what is asked for, and what a pack or a plan leaves alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chronos_cli.contract import FEATURE_GENERATION
from chronos_cli.core.decision import Decision, FireRequest, Outcome, Trigger
from chronos_cli.core.job import Standing
from chronos_cli.core.plan import Action, ArmState
from chronos_cli.core.row import RunState, begun, row_of
from chronos_cli.errors import StandbyError, TemporaryError, TokenError, UsageError
from chronos_cli.frozen import replace
from chronos_cli.operations import evaluate, witness
from chronos_cli.operations.arming import reconcile
from chronos_cli.operations.evaluate_all import evaluate_all
from chronos_cli.operations.firing import answering, refused_token, run, run_row
from chronos_cli.store.arms import batch
from chronos_cli.trust.token_errors import AudienceError
from tests.core.making import HOME, T, at, entry, job, record
from tests.protocol.test_arming_rules import ARMED, HOUR, NOW
from tests.protocol.test_rules_of_looks import home, in_store


def test_a_stranger_hears_whether_to_come_again_and_not_why():
    """A fault that passes is told from one that stays by its status alone."""
    assert answering.error_body(TemporaryError("the disk is full"))["error"]["retryable"] is True
    assert answering.error_body(UsageError("it is no job id"))["error"]["retryable"] is False
    assert "full" not in str(answering.error_body(TemporaryError("the disk is full")))
    assert answering.error_body(StandbyError("it stands by")) == {"result": "standby"}


@pytest.mark.parametrize(
    ("state", "starter", "token", "ours"),
    [
        (RunState.RUNNING, "s", "t", True), (RunState.RUNNING, "other", "t", False), (RunState.RUNNING, "s", "other", False),
        (RunState.LOST, "s", "t", False),
    ],
)  # fmt: skip
def test_a_row_is_a_processs_own_by_its_starter_and_its_lock(state, starter, token, ours):
    """A claim that was handed over again has another starter; a lock that was taken again has another token."""
    found = job(ours={"open": [entry(T)]})
    row = begun(row_of("j", found.open[0], found.policy), starter="s", owner={"token": "t"}, now=T, lease_ends_at=T)
    assert run_row.is_ours(replace(row, state=state), starter, {"token": token}) is ours


@pytest.mark.parametrize(("numbered", "same", "rivals"), [(True, False, False), (True, True, False), (False, False, True), (False, True, False)])  # fmt: skip
def test_a_line_of_anothers_pack_is_a_rival_only_of_another_instant_at_a_nas_that_numbers_none(numbered, same, rivals):
    """Where NAS numbers wishes, the newest counts in whatever order they come."""
    sent = replace(ARMED, features=(FEATURE_GENERATION,) if numbered else ())
    other = sent.fire_at if same else sent.fire_at + HOUR
    assert batch._rivals({"fire_at": other.isoformat()}, sent) is rivals


@pytest.mark.parametrize(("generation", "noted"), [(6, False), (7, True), (8, True), (None, True)])
def test_a_cancel_is_noted_unless_something_newer_was_sent_meanwhile(generation, noted):
    """One of the document's own generation is what took it away."""
    document = replace(ARMED, generation=7)
    after = document.cancelled(generation, NOW)
    assert (after.state is ArmState.CANCELLED and after.wake is None) is noted
    assert (after == document) is not noted


@pytest.mark.parametrize(
    ("state", "action", "shown"),
    [
        (ArmState.UNCONFIRMED, Action.KEEP, True), (ArmState.CONFIRMED, Action.KEEP, False), (None, Action.KEEP, False),
        (ArmState.UNCONFIRMED, Action.CANCEL, False),
    ],
)  # fmt: skip
def test_reconcile_notes_what_a_list_shows_of_a_document_that_waits_for_it(state, action, shown):
    """Where there is no document nothing waits."""
    step = SimpleNamespace(job_id="j", action=action, wanted=T)
    documents = {} if state is None else {"j": replace(ARMED, state=state)}
    assert reconcile._shown(step, documents) is shown


def test_a_clock_is_asked_after_for_what_is_long_past_or_ahead_and_only_in_force():
    """What comes next as its schedule has it needs no witness, however far off it is."""
    assert not witness.needs_witness(job(), T)
    past = job(next_run_at=at(-3 * 86_400).isoformat())
    ahead = job(next_run_at=at(400 * 86_400).isoformat())
    assert witness.needs_witness(past, T)
    assert witness.needs_witness(ahead, T)
    assert not witness._is_long_past(ahead, T)
    for found in (past, ahead):
        assert not witness.needs_witness(replace(found, standing=Standing.PAUSED), T)


@pytest.mark.parametrize("stands_for", [None, T])
def test_a_run_is_told_the_instant_that_it_runs_or_stands_for(stands_for, monkeypatch):
    """A person's run may stand for one; a scheduled one is that of its own."""
    seen = []
    monkeypatch.setattr(run, "mark_running", lambda *_: None)
    ctx = SimpleNamespace(home=HOME, processes=SimpleNamespace(lock=lambda task: seen.append(task.fire_at)))
    scheduled = job(ours={"open": [entry(T)]}).open[0]
    asked = replace(scheduled, fire_at=None, stands_for=stands_for)
    for open_ in (scheduled, asked):
        run.begin(ctx, run.RunTicket(record=record(), entry=open_, attempt=1, starter="s"))
    assert seen == [T, stands_for]


def test_what_a_look_at_all_jobs_finds_over_is_told_and_whether_there_are_jobs_at_all():
    """Once its row says so; nothing is in hand then."""
    late = {"next_run_at": at(-300).isoformat(), "policy": {"on_failure": ["say"], "grace": 0}}
    ctx = home(record(**late))
    found = evaluate_all(ctx)
    assert {(row.run_id, row.state) for _, row in ctx.outbox} == {("20261120T115500Z", RunState.MISSED)}
    assert found.any_jobs
    assert not evaluate_all(home()).any_jobs
    assert in_store(ctx) is not None


@pytest.mark.parametrize(
    ("tried", "has_row", "via"), [(False, True, "asked"), (True, True, "ended"), (True, False, "asked")]
)
def test_a_run_that_others_started_is_not_claimed_again_by_a_look_that_comes_again(tried, has_row, via, monkeypatch):
    """The first time it looks nobody can have: the run's name is its own."""
    seen = []
    monkeypatch.setattr(evaluate, "_already_run", lambda *_: has_row)
    monkeypatch.setattr(
        evaluate, "decide", lambda job, facts, came, now: seen.append(came.via) or Decision(outcome=Outcome.IDLE)
    )
    ctx = home(record())
    ctx.must_be_active = lambda _: None
    look = evaluate._Look(ctx, "j", FireRequest(via=Trigger.MANUAL, token="t", run_id="manual-1"))
    look._tried = tried
    look.once(ctx.repository.jobs())
    assert seen == [Trigger.RUN_ENDED if via == "ended" else Trigger.MANUAL]


def test_the_last_refused_token_is_told_as_it_was_noted(tmp_path):
    """When, by which code, and in the words for the operator; of one that NAS did not sign nothing is kept."""
    cache = tmp_path / "cache"
    error = AudienceError()
    refused_token.note_refused(cache, error, now=T)
    last = refused_token.last_refused(cache)
    assert (last.at, last.code, last.message, last.hint) == (T, "audience", error.message, error.hint)
    refused_token.note_refused(cache, TokenError("no key signed it"), now=at(60))
    assert refused_token.last_refused(cache) == last
    (cache / refused_token.FILE).write_text("{}")
    assert refused_token.last_refused(cache) is None
