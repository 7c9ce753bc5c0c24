"""The rules of answers that arm, each taken out alone; joined to those of `sabotage`."""

from __future__ import annotations

from typing import Final

from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import CancelRequest
from chronos_cli.operations.arming import apply_plan, reconcile, slot_memory
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.firing import admission, answering
from chronos_cli.store.arms.document import ArmDocument
from tests.sim.answers import ARMS, DROPS
from tests.sim.rewriting import rule


def _believes_the_wake_it_carries(one, other, now):
    """Without the second look: the wake that was worked out before it was noted is taken for the one that is needed."""
    return True


def _counts_from_nothing(document, delivery, *, above, now):
    """Without a generation above all that NAS has heard: it takes the answer for a late one."""
    return replace(document, answered_to=delivery, generation=1)


def _believes_any_nas(ctx, wire):
    """Without the proof: whoever asks for the next wake in the answer is believed to arm it."""
    return True


def _calls_nobody(ctx, document, wake, came, door):
    """Without the provision beside the answer: neither a late answer nor one that NAS drops is made up for."""
    return False


def _numbers_no_cancel(job_id, document, now):
    """Without the generation of a cancel: what was on its way before it arms after it."""
    return CancelRequest(job_id=job_id, generation=None)


_ARMS: Final = {"nas": True, "characters": frozenset({ARMS})}
_DROPS: Final = {"nas": True, "characters": frozenset({DROPS})}
_BUSY: Final = {"p_operation": 0.4, "operations": ("edit", "pause", "resume"), "p_crash": 0.0, "p_plain": 0.0}
_CALM: Final = {"p_stall": 0.6, "stall_at": ("answer",), "jumps": False, "leaps": False, "put_at": None, "zone": "UTC", "p_crash": 0.0,
                "p_plain": 0.0, "p_garbled": 0.0, "p_spoiled": 0.0, "p_drop": 0.0, "p_nas_lost": 0.0, "p_nas_answer_lost": 0.0}  # fmt: skip

WORLDS: Final = {
    "look before the answer": _ARMS | _BUSY | {"steps": 60},
    "generation of the answer": _ARMS | {"steps": 40},
    "proof of answers": _DROPS | {"steps": 40},
    "token's word": _ARMS | {"steps": 40, "p_plain": 0.5},
    "provision beside the answer": _DROPS | {"steps": 40, "mode": "frozen"},
    "redelivery after our 2xx": _ARMS | {"steps": 40, "p_garbled": 0.6},
    "generation of a cancel": _ARMS | _CALM | {"operations": ("pause", "resume"), "p_operation": 0.4, "steps": 60},
}

SELDOM: Final = frozenset({"generation of a cancel"})

RULES: Final = {
    "look before the answer": ((answering, "is_same_need", _believes_the_wake_it_carries),),
    "generation of the answer": ((ArmDocument, "answering", _counts_from_nothing),),
    "proof of answers": (
        (slot_memory, "takes_answers", _believes_any_nas),
        (answering, "takes_answers", _believes_any_nas),
    ),
    "token's word": ((admission, "ARM_BY_ANSWER", None),),
    "provision beside the answer": ((answering, "_must_call", _calls_nobody),),
    "redelivery after our 2xx": (
        rule(answering, "_must_call", "document.answered_to is not None and document", "False and document"),
    ),
    "generation of a cancel": tuple(
        (module, "cancel_of", _numbers_no_cancel) for module in (arming, apply_plan, reconcile)
    ),
}
