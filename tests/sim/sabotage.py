"""The rules of the protocol, each taken out alone: the checker has to notice."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from chronos_cli.core import occurrence
from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Outcome, Trigger
from chronos_cli.core.job import parse_job
from chronos_cli.core.occurrence import decide
from chronos_cli.core.row import begun
from chronos_cli.operations import context
from chronos_cli.operations import evaluate as look
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.arming import slot_memory
from chronos_cli.operations.firing import after_answer, fire, run_row, tick
from chronos_cli.operations.jobs import edit as jobs
from tests.sim.config import LEAPING

if TYPE_CHECKING:
    from collections.abc import Iterator

_meant, _launch_each = occurrence.claimable_occurrence, fire.launch_each


def _claims_whatever_is_named(job, cursor, came, now):
    """Without the claim check: the instant that a fire names is claimed, whether or not it is the cursor."""
    if came.via is Trigger.RELAY and came.fire_at is not None and came.fire_at <= now and cursor is not None:
        return came.fire_at
    return _meant(job, cursor, came, now)


def _forgets_what_was_claimed(record, home):
    """Without `claimed_through`: only the cursor says what was claimed."""
    return replace(parse_job(record, home), claimed_through=None)


def _answers_first(ctx, looked, report, came, *, began):
    """Without arm-before-answer: NAS has its 2xx, and nothing was armed."""
    return report


def _arms_first(ctx, looked, launcher):
    """Without start-before-arm: the redelivery is cancelled before anything has started."""
    if looked.job is not None and looked.decision.wake is not None and ctx.wire is not None:
        with ctx.wire.connect(10.0) as nas:
            arming.arm(ctx, nas, looked.job.id, looked.decision.wake)
    return _launch_each(ctx, looked, launcher)


def _takes_its_own_claim_for_anothers(job, facts, came, now):
    """Without the token of a change: a claim whose answer was lost reads, when it is found, as somebody else's."""
    decision = decide(job, facts, came, now)
    if job is None or not decision.starts:
        return decision
    found = {entry.run for entry in job.open if entry.claim == came.token}
    starts = tuple(start for start in decision.starts if start.entry.run not in found)
    return decision if starts == decision.starts else replace(decision, starts=starts, outcome=Outcome.DUPLICATE)


def _nobody_is_the_starter(row, *, starter, owner, now, lease_ends_at):
    """Without the starter's token: a lost answer to the own write reads as somebody else's start."""
    return begun(row, starter="", owner=owner, now=now, lease_ends_at=lease_ends_at)


def _believes_the_first_wake(one, other, now):
    """Without the wake recomputation: what was worked out before the call is taken for what is needed after it."""
    return True


def _believes_any_clock(now, witness):
    """Without the witness: whatever this machine's clock says is taken for the time."""
    return timedelta(), Trust.CONFIRMED


def _settles_all_the_same(job, cursor, now, trust):
    """Without the rule for a witness that was not heard: what only this clock calls past is settled."""
    return True


def _never_looks(ctx, job_id, pause):
    """Without the look after an answer: what it deleted stays deleted."""
    return False


def _proves_whatever_came(document):
    """Without the condition on what counts: a wake that was sent after an answer, or due right after it, does as well."""
    return document.fire_at is not None


_CLEARS = {"characters": frozenset({"2xx clears slot"}), "mode": "detached", "nas": True}
WORLDS = {
    "look after the answer": _CLEARS,
    "proof of a kept slot": _CLEARS | {"knows": 4},
    "claimed_through": {
        "jumps": True,
        "machines": 1,
        "characters": frozenset({"kind"}),
        "mode": "sync",
        "p_operation": 0.15,
        "operations": ("jump", "edit", "tick"),
    },
    "clock's witness": LEAPING | {"nas": True},
    "silent witness": LEAPING | {"nas": True},
    "change token": {"p_answer_lost": 0.3},
    "starter token": {"p_answer_lost": 0.3},
}
"""Where a rule is needed most: these worlds are played without it, and others as they come."""

RULES = {
    "clock's witness": ((context, "judged", _believes_any_clock),),
    "silent witness": ((occurrence, "may_settle", _settles_all_the_same), (tick, "may_settle", _settles_all_the_same)),
    "claim check": ((occurrence, "claimable_occurrence", _claims_whatever_is_named),),
    "claimed_through": ((look, "parse_job", _forgets_what_was_claimed), (jobs, "parse_job", _forgets_what_was_claimed)),
    "arm before answer": ((fire, "_arm_and_note", _answers_first),),
    "start before arm": ((fire, "launch_each", _arms_first),),
    "change token": ((look, "decide", _takes_its_own_claim_for_anothers),),
    "starter token": ((run_row, "begun", _nobody_is_the_starter),),
    "look after the answer": ((after_answer, "arm_again_if_deleted", _never_looks),),
    "proof of a kept slot": ((slot_memory, "_proves", _proves_whatever_came),),
    "wake recomputation": ((arming, "_same", _believes_the_first_wake),),
}
"""Where each rule stands in the code, and what takes its place."""


@contextmanager
def without(rule: str) -> Iterator[None]:
    """The code under test with one rule taken out."""
    before = [(module, name, getattr(module, name)) for module, name, _ in RULES[rule]]
    for module, name, instead in RULES[rule]:
        setattr(module, name, instead)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
