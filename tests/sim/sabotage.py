"""The rules of the protocol, each taken out alone: the checker has to notice."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from chronos_cli.core import claim, clock, occurrence
from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Outcome, Trigger
from chronos_cli.core.job import parse_job
from chronos_cli.core.occurrence import _Look, decide
from chronos_cli.core.open_runs import OpenRuns
from chronos_cli.core.policy import Overlap
from chronos_cli.core.row import begun, row_of
from chronos_cli.operations import context, evaluate_all
from chronos_cli.operations import evaluate as look
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.arming import slot_memory
from chronos_cli.operations.firing import after_answer, fire, run, run_end, run_row, tick
from chronos_cli.operations.jobs import edit as jobs
from chronos_cli.operations.views import listing, open_runs
from chronos_cli.store.arms.document import ArmDocument
from chronos_cli.store.documents import DocumentRepository, dump
from chronos_cli.store.rows import RowStore
from tests.sim import sabotage_answers, sabotage_mends, sabotage_moves, sabotage_wire
from tests.sim.config import LEAPING, ORDINARY
from tests.sim.machines import SimProcesses
from tests.sim.rewriting import rule

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


def _answers_first(ctx, looked, report, came, *, began, door):
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


def _not_durable(self, row):
    """Without the sync: a row that is owed is made, and may be gone after a power cut."""
    return self._documents.create(f"cron/runs/{row.job_id}/{row.run_id}.json", dump(row.to_json()), durable=False)


def _keeps_output_first(ctx, run, *, waited_for=False):
    """Without the order of result and output: an output that cannot be kept takes the result with it."""
    if run.attempt is not None:
        wait = run.attempt.wait
        ended = wait()
        run.attempt.keep_output()
        run.attempt.wait = lambda: ended
    return _finish(ctx, run, waited_for=waited_for)


_finish = run.finish

_STILL = {
    "p_stall": 0.08,
    "busy": True,
    "nas": True,
    "machines": 1,
    "p_operation": 0.02,
    "mode": "detached",
    "jumps": False,
}
_DISK = {"machines": 1, "jumps": False, "leaps": False, "p_operation": 0.2, "p_crash": 0.03, "busy": True,
         "operations": ("reboot", "rot", "rot", "tick", "reconcile")}  # fmt: skip
_ENDS = {"machines": 1, "jumps": False, "leaps": False, "busy": False, "steps": 50, "p_crash": 0.02, "p_write_fails": 0.2,
         "p_operation": 0.05, "operations": ("tick", "reconcile", "manual", "disk")}  # fmt: skip
_CLEARS = {"characters": frozenset({"2xx clears slot"}), "mode": "detached", "nas": True, "knows": 0}
WORLDS = {
    "a person's run": {
        "operations": ("manual", "manual", "tick", "unlock"),
        "p_operation": 0.2,
        "p_crash": 0.04,
        "nas": True,
    },
    "views name a leap": LEAPING | {"nas": False, "p_look": 0.3},
    "views ask NAS": {"nas": True, "p_look": 0.3, "p_nas_lost": 0.3},
    "views tell of a hold": {"operations": ("hold",), "p_operation": 0.1, "p_look": 0.3},
    "views tell of torn rows": _DISK | {"p_look": 0.5, "operations": ("rot",)},
    "views ask the lock": _ENDS | {"p_look": 0.4, "p_crash": 0.06},
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
    "whose write it was": {"mode": "detached", "machines": 1, "p_slow_runner": 0.5, "jumps": False},
    "queued beside": {
        "busy": True,
        "steps": 60,
        "p_stall": 0.0,
        "operations": ("manual", "tick", "edit"),
        "policy": {"overlap": Overlap.QUEUE, "timeout": 300},
    },
    "no row made anew": _STILL
    | {
        "keep": 1,
        "p_stall": 0.1,
        "steps": 80,
        "p_operation": 0.0,
        "characters": frozenset({"duplicates"}),
        "stall_at": ("lock run", "create row"),
    },
    "no end made anew": _STILL
    | {
        "keep": 1,
        "p_stall": 0.3,
        "steps": 80,
        "p_operation": 0.0,
        "locks": False,
        "stall_at": ("create row",),
        "characters": frozenset({"duplicates"}),
    },
    "the attempt": _STILL | {"characters": frozenset({"duplicates"}), "p_write_fails": 0.1, "p_drop": 0.1},
    "late at NAS": _STILL | {"characters": frozenset({"past ignored"}), "p_stall": 0.5, "stall_at": ("nas provision",)},
    "repeat": {"put_at": None, "zone": "UTC"},
    "owed rows": _DISK | {"operations": ("reboot", "jump", "tick")},
    "the row that is torn": _DISK,
    "torn, never accepted": _DISK,
    "torn, kept aside": _DISK,
    "lock's outcome": _ENDS,
    "never begun": _DISK | {"p_crash": 0.05, "p_write_fails": 0.3},
    "result before output": {"p_write_fails": 0.3},
    "death by reboot": _DISK,
    "lease by the steady clock": {
        "jumps": True,
        "machines": 1,
        "characters": frozenset({"kind"}),
        "busy": True,
        "policy": {"timeout": 300},
        "operations": ("jump", "tick", "reconcile"),
        "p_operation": 0.2,
    },
    "brought back": LEAPING | {"nas": False},
    "409 raises": {
        "characters": frozenset({"kind"}),
        "nas": True,
        "machines": 1,
        "jumps": True,
        "put_at": None,
        "zone": "UTC",
        "start": ORDINARY,
        "operations": ("jump", "rot", "rot", "edit", "pause", "resume"),
        "p_operation": 0.3,
        "steps": 60,
    },
    "rows by a clock alone": LEAPING
    | {"nas": True, "keep": 50, "busy": True, "operations": ("leap", "manual", "manual")},
    "lease by a clock alone": LEAPING | {"nas": True},
    "lease by a corrected clock": LEAPING
    | {
        "nas": True,
        "machines": 2,
        "busy": True,
        "characters": frozenset({"clock ahead"}),
        "p_slow_runner": 0.0,
        "operations": ("leap", "manual", "reconcile", "reconcile"),
    },
    "change token": {"p_answer_lost": 0.3},
    "starter token": {"p_answer_lost": 0.3},
    **sabotage_answers.WORLDS,
    **sabotage_mends.WORLDS,
    **sabotage_moves.WORLDS,
    **sabotage_wire.WORLDS,
}
"""Where a rule is needed most: these worlds are played without it, and others as they come."""

SELDOM = frozenset(
    {
        "late at NAS",
        "no end made anew",
        "the attempt",
        "rows by a clock alone",
        "lease by a clock alone",
        "lease by the steady clock",
        "409 raises",
        "result before output",
        "silent witness",
        "claimed_through",
        *sabotage_answers.SELDOM,
        *sabotage_mends.SELDOM,
        *sabotage_wire.SELDOM,
    }
)
"""What takes more than a second to be noticed: once in some hundred schedules, or in long ones."""

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
    "wake recomputation": ((arming, "is_same_need", _believes_the_first_wake),),
    "views name a leap": ((listing, "doubt_about", lambda *_, **__: None),),
    "views ask NAS": (rule(listing, "_will_fire", "arm.state is ArmedWake.ARMED", "True"),),
    "views tell of a hold": ((listing, "obstacle", lambda *_, **__: None),),
    "views tell of torn rows": (rule(open_runs, "open_rows", "unreadable.append(error.line())", "pass"),),
    "views ask the lock": (
        rule(open_runs, "running_now", " and ctx.processes.liveness(row) is not Liveness.DEAD", ""),
    ),
    "queued beside": (rule(OpenRuns, "is_clear", "not self.running and ", ""),),
    "no row made anew": ((run_row._Marking, "_if_in_hand", lambda _, made: made),),
    "no end made anew": (
        (RowStore, "make", RowStore.create),
        (look, "settle_new_row", lambda ctx, _, row: ctx.repository.rows.create(row)),
    ),
    "whose write it was": (rule(run_row, "is_ours", ' and row.starter == starter and theirs == owner["token"]', ""),),
    "the attempt": (rule(run_row, "_startable", " and row.attempt == ticket.attempt", ""),),
    "retries end": (
        rule(OpenRuns, "_survey_attempt", "self.shelved or newer", "self.shelved"),
        (OpenRuns, "end_retries", lambda _: None),
    ),
    "a person's run": (rule(OpenRuns, "_survey_one", "newer and not entry.manual", "newer"),),
    "late at NAS": ((ArmDocument, "is_late", lambda *_: False),),
    "complete when over": (rule(_Look, "_complete", "and not self.hand.open\n", "\n"),),
    "early limit": (
        (occurrence, "EARLY_LIMIT", timedelta(seconds=600)),
        (claim, "EARLY_LIMIT", timedelta(seconds=600)),
    ),
    "repeat": (
        rule(_Look, "_advance", "self.job.completed + 1 if counted else self.job.completed", "self.job.completed"),
    ),
    "owed rows": ((RowStore, "create", _not_durable),),
    "the row that is torn": (
        rule(look, "gather_rows", "except UnreadableError as error:", "except ZeroDivisionError as error:"),
        (
            evaluate_all,
            "gather_rows",
            rule(look, "gather_rows", "except UnreadableError as error:", "except ZeroDivisionError as error:")[2],
        ),
    ),
    "torn, never accepted": (
        (
            look,
            "rebuilt_row",
            lambda ctx, job, entry, error, now: (row_of(job.id, entry, job.policy), look.Liveness.UNSEEN),
        ),
    ),
    "torn, kept aside": ((DocumentRepository, "set_aside", lambda *_: ""),),
    "lock's outcome": ((SimProcesses, "result", lambda *_: None),),
    "never begun": (
        rule(OpenRuns, "_after_running", "is Liveness.UNSTARTED", "is None and False"),
        rule(OpenRuns, "_is_over", "is Liveness.DEAD", "in (Liveness.DEAD, Liveness.UNSTARTED)"),
    ),
    "result before output": ((run, "finish", _keeps_output_first), (run_end, "finish", _keeps_output_first)),
    "death by reboot": (rule(SimProcesses, "liveness", "Liveness.DEAD if self.results_are_seen else ", ""),),
    "lease by the steady clock": ((SimProcesses, "elapsed", lambda *_: None),),
    "brought back": ((occurrence, "mended_by", lambda *_: False), (tick, "mended_by", lambda *_: False)),
    "409 raises": ((ArmDocument, "stale", lambda document, *_: document),),
    "rows by a clock alone": (rule(RowStore, "prune", "not sure", "False"),),
    "lease by a clock alone": (rule(clock.Lease, "is_over", "if self.counted or", "if True or"),),
    "lease by a corrected clock": ((clock.Lease, "_allowed", lambda *_: timedelta()),),
    **sabotage_answers.RULES,
    **sabotage_mends.RULES,
    **sabotage_moves.RULES,
    **sabotage_wire.RULES,
}
"""Where each rule stands in the code, and what takes its place."""


@contextmanager
def without(name: str) -> Iterator[None]:
    """The code under test with one rule taken out."""
    before = [(module, what, getattr(module, what)) for module, what, _ in RULES[name]]
    for module, what, instead in RULES[name]:
        setattr(module, what, instead)
    try:
        yield
    finally:
        for module, what, value in before:
            setattr(module, what, value)
