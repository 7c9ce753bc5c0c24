"""The rules of answers that arm, each taken out alone; joined to those of `sabotage`."""

from __future__ import annotations

from typing import Final

from chronos_cli.frozen import replace
from chronos_cli.operations.arming import slot_memory
from chronos_cli.operations.firing import admission, answering
from chronos_cli.store.arms import ArmDocument
from tests.sim.answers import ARMS, DROPS


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


_ARMS: Final = {"nas": True, "characters": frozenset({ARMS})}
_DROPS: Final = {"nas": True, "characters": frozenset({DROPS})}
_BUSY: Final = {"p_operation": 0.4, "operations": ("edit", "pause", "resume"), "p_crash": 0.0, "p_plain": 0.0}

WORLDS: Final = {
    "look before the answer": _ARMS | _BUSY | {"steps": 60},
    "generation of the answer": _ARMS | {"steps": 40},
    "proof of answers": _DROPS | {"steps": 40},
    "token's word": _ARMS | {"steps": 40, "p_plain": 0.5},
    "provision beside the answer": _DROPS | {"steps": 40, "mode": "frozen"},
}

RULES: Final = {
    "look before the answer": ((answering, "is_same_need", _believes_the_wake_it_carries),),
    "generation of the answer": ((ArmDocument, "answering", _counts_from_nothing),),
    "proof of answers": (
        (slot_memory, "takes_answers", _believes_any_nas),
        (answering, "takes_answers", _believes_any_nas),
    ),
    "token's word": ((admission, "ARM_BY_ANSWER", None),),
    "provision beside the answer": ((answering, "_must_call", _calls_nobody),),
}
