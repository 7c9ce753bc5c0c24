"""What keeps bad documents, lost writes, ends of runs and wrong clocks from doing harm, each mend taken out alone.

Joined to the rules of `sabotage`.
"""

from __future__ import annotations

from typing import Any, Final

from chronos_cli import strict_json
from chronos_cli.core import claim, clock, occurrence
from chronos_cli.core.clock import Trust
from chronos_cli.core.clock import may_settle as _may_settle
from chronos_cli.core.clock import put_right as _put_right
from chronos_cli.core.occurrence import _Look
from chronos_cli.core.open_runs import OpenRuns
from chronos_cli.operations import evaluate as look
from chronos_cli.operations.arming import apply_plan, reconcile, slot_memory
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.firing import run, run_end, run_row, tick
from chronos_cli.operations.jobs import edit as jobs
from chronos_cli.store import documents
from chronos_cli.store.arms import pack, store
from chronos_cli.store.arms.document import ArmDocument
from chronos_cli.store.arms.store import ArmStore
from chronos_cli.store.documents import DocumentRepository
from chronos_cli.store.repository import Repository
from chronos_cli.store.rows import RowStore
from tests.sim.config import LEAPING
from tests.sim.rewriting import rule

_DISK: Final[dict[str, Any]] = {"machines": 1, "jumps": False, "leaps": False, "p_operation": 0.2, "p_crash": 0.03, "busy": True,
                                "operations": ("reboot", "rot", "rot", "tick", "reconcile")}  # fmt: skip
_ROT: Final = _DISK | {"operations": ("rot", "rot", "tick", "reconcile", "manual")}
_ENDS: Final = {"machines": 1, "jumps": False, "leaps": False, "busy": False, "steps": 50, "p_crash": 0.02, "p_write_fails": 0.2,
                "p_operation": 0.05, "operations": ("tick", "reconcile", "manual", "disk")}  # fmt: skip
_FULL: Final = _ENDS | {"nas": True, "characters": frozenset({"kind"}), "mode": "sync", "busy": True, "p_crash": 0.0, "p_write_fails": 0.02,
                        "p_operation": 0.03, "operations": ("disk",), "steps": 120}  # fmt: skip
_ALONE: Final = LEAPING | {"nas": False}


def _forgets_first(ctx, row, found):
    """Without the order of record and lock: the lock's file goes, and what it says with it, before the row says so."""
    before = found.facts.rows.get(row.run_id)
    if before is not None and before.state is look.RunState.RUNNING:
        ctx.processes.forget(before)
    _put(ctx, row, found)


_put: Final = look._put_row


def _leaves_the_timer(ctx, nas, job_id, *, sure):
    """Without the cancel: what NAS holds for a job that wants nothing stays."""
    return ctx.repository.arms.change(job_id, lambda document: document), False


WORLDS: Final = {
    "jobs are durable": _DISK,
    "ends are durable": _DISK,
    "kept aside for good": _DISK | {"operations": ("reboot", "rot"), "p_operation": 0.4, "steps": 60},
    "one bad record": _ROT,
    "one bad arm document": _ROT,
    "one bad memory of NAS": _ROT | {"nas": True},
    "one bad pack": _ROT | {"nas": True},
    "what is nested deep": _ROT,
    "numbers of many digits": _ROT,
    "torn, its run goes on": _ROT | {"p_operation": 0.4, "steps": 40},
    "torn, when its job goes": _ROT | {"operations": ("rot", "remove", "remove"), "p_operation": 0.5, "steps": 40},
    "torn, by its lock's outcome": _ROT | {"p_operation": 0.4, "steps": 40, "p_crash": 0.05},
    "torn, elsewhere": _ROT | {"machines": 2, "p_operation": 0.4, "steps": 40},
    "the end is tried again": _ENDS | {"machines": 2},
    "kept until it is on record": _FULL,
    "put right past rows": LEAPING | {"nas": True, "machines": 1, "keep": 50, "busy": True, "leap_by": (1_800.0,), "operations": ("leap", "tick", "tick")},
    "overtaken": {"nas": True, "mode": "detached", "jumps": False, "leaps": False, "characters": frozenset({"duplicates"}), "p_crash": 0.0,
                  "p_operation": 0.3, "operations": ("pause", "resume", "resume"), "p_stall": 0.3, "stall_at": ("nas provision",)},
    "forgotten once on record": _ENDS | {"p_crash": 0.05},
    "a start in doubt": _ENDS | {"p_answer_lost": 0.3},
    "a free lock is an end": _DISK,
    "leaps are noted": _ALONE,
    "the tick alone goes on": _ALONE,
    "the same time on the wall": {"operations": ("offset", "tick", "reconcile"), "p_operation": 0.15, "jumps": False, "leaps": False},
    "generations rise": {"jumps": True, "machines": 1, "characters": frozenset({"kind"}), "operations": ("jump", "edit", "reconcile"),
                         "p_operation": 0.25},
    "an arm of a wrong clock": {"jumps": True, "machines": 1, "nas": True, "characters": frozenset({"kind"}), "operations": ("jump", "edit"), "p_operation": 0.25},
    "timers go with their jobs": {"operations": ("pause", "resume", "remove"), "p_operation": 0.3, "nas": True, "steps": 30},
    "reconcile cancels": {"operations": ("remove", "pause"), "p_operation": 0.2, "p_nas_lost": 0.3, "nas": True},
}  # fmt: skip

SELDOM: Final = frozenset(
    {
        "the tick alone goes on",
        "an arm of a wrong clock",
        "a start in doubt",
    }
)

RULES: Final = {
    "jobs are durable": (
        rule(Repository, "_store_for", "self.write(JOBS_KEY, data, found)", "self.write(JOBS_KEY, data, found, durable=False)"),
    ),
    "ends are durable": (rule(RowStore, "replace", "dump(row.to_json()), version)", "dump(row.to_json()), version, durable=False)"),),
    "kept aside for good": (rule(DocumentRepository, "set_aside", "create(aside, data)", "create(aside, data, durable=False)"),),
    "one bad record": (rule(look, "_parsed", "except ChronosError as error", "except ZeroDivisionError as error"),),
    "one bad arm document": (
        rule(ArmStore, "own", "except NotJsonError as error", "except ZeroDivisionError as error"),
        rule(store, "_arm_of", "except NOT_READ as error", "except ZeroDivisionError as error"),
    ),
    "one bad memory of NAS": (
        rule(slot_memory, "_read", "except (ValueError, KeyError, TypeError, AttributeError)", "except ZeroDivisionError"),
    ),
    "one bad pack": (
        rule(pack, "read_packs", "except NotJsonError", "except ZeroDivisionError"),
        rule(pack, "find_line", "except NotJsonError", "except ZeroDivisionError"),
    ),
    "what is nested deep": (
        *((module, "read_json", rule(strict_json, "read_json", "except RecursionError", "except ZeroDivisionError")[2])
          for module in (documents, store, pack, slot_memory)),
    ),
    "numbers of many digits": (
        *((module, "read_json", rule(strict_json, "read_json", '            raise\n        raise NotJsonError("a number in it has too many digits") from None', "            raise\n        raise ArithmeticError from error")[2])
          for module in (documents, store, pack, slot_memory)),
    ),
    "torn, its run goes on": (rule(look, "rebuilt_row", "if lock is not None and lock[1]:", "if False:"),),
    "torn, by its lock's outcome": (rule(look, "rebuilt_row", "if result is not None:", "if False:"),),
    "torn, elsewhere": (rule(look, "rebuilt_row", "if not ctx.processes.results_are_seen and", "if False and"),),
    "torn, when its job goes": (rule(jobs, "_close_open", "except UnreadableError as error", "except ZeroDivisionError as error"),),
    "the end is tried again": ((run, "record_end", rule(run_row, "record_end", "if (settled_by_others and", "if True or (settled_by_others and")[2]),),
    "kept until it is on record": (
        (run, "finish", rule(run, "finish", "keep=not recorded", "keep=False")[2]),
        (run_end, "finish", rule(run, "finish", "keep=not recorded", "keep=False")[2]),
    ),
    "forgotten once on record": ((look, "_put_row", _forgets_first),),
    "a start in doubt": ((run, "mark_running", rule(run_row, "mark_running", "keep=marking.in_doubt", "keep=False")[2]),),
    "a free lock is an end": (rule(OpenRuns, "_is_over", "dead or self", "self"),),
    "put right past rows": ((occurrence, "put_right", lambda job, rows, now: _put_right(job, (), now)),),
    "overtaken": ((ArmDocument, "overtook", lambda *_: False),),
    "leaps are noted": ((_Look, "_note_leap", lambda *_: None),),
    "the tick alone goes on": tuple(
        (module, "may_settle", lambda job, cursor, now, trust: _may_settle(job, cursor, now, Trust.UNHEARD if trust is Trust.ALONE else trust))
        for module in (occurrence, tick)
    ),
    "the same time on the wall": tuple((module, "displaced", lambda _: None) for module in (occurrence, claim, clock, tick, jobs)),
    "generations rise": (rule(ArmDocument, "next_generation", "max(self.generation + 1, int(now.timestamp() * 1000))", "int(now.timestamp() * 1000)"),),
    "reconcile cancels": ((reconcile, "apply_plan", rule(apply_plan, "apply_plan", "if present_wake(ctx, job_id) is None", "if False")[2]),),
    "an arm of a wrong clock": ((ArmDocument, "is_astray", lambda *_: False),),
    "timers go with their jobs": ((arming, "_drop", _leaves_the_timer),),
}  # fmt: skip
