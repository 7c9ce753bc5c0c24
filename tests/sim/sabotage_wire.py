"""The rules between a fire's answer, the end of its run and NAS, each taken out alone; joined to those of `sabotage`.

That an answer which does not leave takes back what it was to carry is held by tests/callback/test_answers_that_arm.py:
here nothing keeps the end of a waited-for run from its row for so long, and yet lets its arm document be written.
"""

from __future__ import annotations

from typing import Any, Final

from chronos_cli.core import claim, occurrence
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.arming import reconcile
from chronos_cli.operations.firing import answering, fire, run_end
from chronos_cli.store.arms.document import ArmDocument
from tests.sim.answers import ARMS
from tests.sim.backends import LISTS_LATE, PROXY
from tests.sim.nas import SPREADS
from tests.sim.rewriting import rule

_ARMS: Final[dict[str, Any]] = {"nas": True, "characters": frozenset({ARMS})}

WORLDS: Final[dict[str, dict[str, Any]]] = {
    "the wake at a run's end": {"nas": True, "characters": frozenset({"kind"}), "policy": {"retries": 2}, "mode": "detached", "p_operation": 0.0, "p_crash": 0.0, "jumps": False, "leaps": False, "p_look": 0.3},
    "the answer's time budget": _ARMS | {"mode": "waits", "busy": True, "steps": 60, "p_operation": 0.0, "p_plain": 0.0, "p_drop": 0.3, "jumps": False, "leaps": False},
    "a door that carries nothing": _ARMS | {"p_plain": 1.0, "busy": True, "steps": 60, "p_operation": 0.0, "p_drop": 0.0, "p_garbled": 0.0},
    "a cancel that NAS calls old": {"nas": True, "characters": frozenset({"kind"}), "operations": ("cancel",), "p_operation": 0.3},
    "what is not listed yet is taken back": {"nas": True, "characters": frozenset({LISTS_LATE}), "operations": ("pause", "resume"), "p_operation": 0.3,
                                             "p_nas_lost": 0.3, "p_nas_answer_lost": 0.3},
    "what may still come is left to NAS": {"nas": True, "characters": frozenset({SPREADS}), "machines": 1, "jumps": False, "leaps": False,
                                           "slow": True, "policy": {"tolerance": 600}, "operations": ("reconcile",), "p_operation": 0.4},
    "an error is no yes": {"nas": True, "characters": frozenset({PROXY}), "p_nas_lost": 0.0, "p_nas_answer_lost": 0.0},
    "sent once": {"nas": True, "characters": frozenset({"kind"}), "busy": True, "machines": 1, "jumps": False, "leaps": False, "p_operation": 0.0},
    "grace from the tolerance's end": {"nas": True, "characters": frozenset({SPREADS}), "policy": {"grace": 0}},
}  # fmt: skip

SELDOM: Final[frozenset[str]] = frozenset()

_SENDS_AGAIN: Final = rule(arming, "arm", "(certain and told", "(number > 2 and certain and told")[2]
_SHORT_GRACE: Final = rule(claim, "claim_of", " + timedelta(seconds=job.policy.tolerance)", "")[2]

RULES: Final = {
    "the wake at a run's end": ((run_end, "_arm", lambda *_: None),),
    "the answer's time budget": (
        rule(answering, "_must_call", "door.within_s is None or wake.at <= ctx.clock() + timedelta(seconds=door.within_s)", "False"),
    ),
    "a door that carries nothing": ((ArmDocument, "accepts", property(lambda self: "arm-in-answer" in self.features)),),
    "a cancel that NAS calls old": ((reconcile, "drop_noted", rule(arming, "drop_noted", "range(_ROUNDS)", "range(0)")[2]),),
    "what is not listed yet is taken back": ((reconcile, "_owes_cancel", lambda *_: False),),
    "what may still come is left to NAS": ((reconcile, "_may_still_come", lambda *_: False),),
    "an error is no yes": (
        rule(arming, "_send", "if result.error is not None:", "if result.error is not None and not isinstance(result.error, NasRejectedError):"),
    ),
    "sent once": tuple((module, "arm", _SENDS_AGAIN) for module in (fire, run_end)),
    "grace from the tolerance's end": ((occurrence, "claim_of", _SHORT_GRACE),),
}  # fmt: skip
