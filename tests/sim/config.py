"""What kind of world a seed makes: NAS's characters, machines, clocks, faults and how likely each is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from tests.sim import answers, backends
from tests.sim.nas import CHARACTERS

if TYPE_CHECKING:
    import random

ORDINARY = datetime.fromisoformat("2026-11-20T12:00:00+00:00").timestamp()

DAY, YEAR = 86_400.0, 365 * 86_400.0

TRANSITIONS = (
    ("Europe/Berlin", "2026-10-25T01:00:00+00:00", "30 2 * * *"),
    ("Europe/Berlin", "2027-03-28T01:00:00+00:00", "30 2 * * *"),
    ("America/New_York", "2026-11-01T06:00:00+00:00", "30 1 * * *"),
    ("America/New_York", "2027-03-14T07:00:00+00:00", "30 2 * * *"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00+00:00", "15 2 * * *"),
    ("Australia/Lord_Howe", "2027-04-03T15:00:00+00:00", "45 1 * * *"),
)
"""A zone, the instant its clocks are put, and a time of day that this night has twice, or not at all."""


OPERATIONS = (
    "add", "add", "pause", "resume", "resume", "edit", "edit", "remove", "manual", "manual", "tick", "tick", "reconcile",
    "reconcile", "unlock", "hermes", "probe", "hold", "jump", "jump", "leap", "leap", "nas", "nas", "reboot", "rot", "rot",
    "disk", "disk", "offset", "cancel", "move",
)  # fmt: skip


LEAPING: dict[str, object] = {
    "leaps": True,
    "put_at": None,
    "zone": "UTC",
    "start": ORDINARY,
    "p_operation": 0.3,
    "operations": ("leap", "leap", "tick", "tick", "reconcile", "reconcile", "manual", "unlock", "edit", "nas"),
    "steps": 60,
}
"""Worlds in which little else happens than that clocks jump years and come back."""


@dataclass(slots=True)
class Config:
    """What kind of world this is; drawn from the seed."""

    nas: bool = True
    characters: frozenset = frozenset({"kind"})
    mode: str = "detached"
    machines: int = 1
    locks: bool = True
    apart: bool = False
    """Whether the home is a bucket that keeps its jobs apart."""
    jumps: bool = False
    leaps: bool = False
    """Whether clocks jump years and come back, each machine's alone."""
    leap_by: tuple[float, ...] = (12 * YEAR, 12 * YEAR, YEAR, 10 * DAY, -12 * YEAR)
    zone: str = "UTC"
    start: float = ORDINARY
    put_at: float | None = None
    """When the zone's clocks are put, near this world's time; None: they are not."""
    daily: str = "30 2 * * *"
    p_crash: float = 0.0
    p_conflict: float = 0.0
    p_write_fails: float = 0.0
    p_answer_lost: float = 0.0
    p_read_fails: float = 0.0
    read_pause: float = 0.3
    p_nas_lost: float = 0.0
    p_nas_answer_lost: float = 0.0
    p_drop: float = 0.0
    p_start_fails: float = 0.02
    p_runner_fails: float = 0.02
    p_slow_runner: float = 0.02
    """How likely a runner comes to its claim so late that the claim is handed to another."""
    p_shared_end: float = 0.5
    """How likely a runner asks the server to make the write of its end."""
    p_mute: float = 0.1
    """How likely that server is gone before it has looked, or before it has answered."""
    p_spoiled: float = 0.0
    p_orphan: float = 0.2
    p_unseen: float = 0.0
    p_stall: float = 0.0
    """How likely a process stands still for a while, as on a machine that swaps, or sleeps."""
    stall_at: tuple[str, ...] = ()
    """Before which effects alone they do; empty: before any."""
    policy: dict[str, object] = field(default_factory=dict)
    """What every job has of its policy, whatever is drawn."""
    busy: bool = False
    """Whether jobs come due often and go long, so that their runs meet."""
    slow: bool = False
    """Whether no job comes due more often than every quarter of an hour, as beside a NAS whose clock is behind."""
    p_plain: float = 0.0
    """How likely a door is an older worker's, or a command's, whose answers carry nothing."""
    p_garbled: float = 0.0
    """How likely a proxy answers for a door, or turns its answer into an error."""
    p_look: float = 0.06
    """How likely somebody looks at the home at a step."""
    keep: int = 50
    knows: int = 0
    """So many wakes that an answer left in the slot were seen before this world begins."""
    p_operation: float = 0.06
    operations: tuple[str, ...] = OPERATIONS


def draw(rng: random.Random) -> Config:
    """A world. Half of them have one NAS character, so that each is also met alone."""
    characters = _characters(rng)
    mode = rng.choice(("detached", "detached", "sync", "waits", "frozen"))
    if characters & backends.DELETING:
        mode = rng.choice(("detached", "waits"))  # only a process that outlives the answer can provision after it
    # NAS that says yes and drops what is past by its clock: only one whose clock is ours can be survived.
    machines = 1 if "past ignored" in characters else rng.choice((1, 1, 2))
    rough = rng.random() < 0.6
    may_jump = machines == 1 and not characters & {"past ignored", "no fire_at"}

    def some(value: float) -> float:
        return value if rough and rng.random() < 0.6 else 0.0

    found = Config(
        nas=rng.random() < 0.94,
        characters=frozenset(characters),
        mode=mode,
        machines=machines,
        locks=rng.random() < 0.5,
        jumps=may_jump and rng.random() < 0.3,
        p_crash=rng.choice((0.0, 0.01, 0.03)),
        p_conflict=some(0.1),
        p_write_fails=some(0.06),
        p_answer_lost=some(0.15),
        p_read_fails=some(0.02),
        p_nas_lost=some(0.15),
        p_nas_answer_lost=some(0.15),
        p_drop=some(0.2),
        p_spoiled=some(0.1),
        p_orphan=0.3 if machines == 1 else 0.0,
        p_unseen=some(0.2),
        p_stall=rng.choice((0.0, 0.0, 0.02)),
        busy=rng.random() < 0.2,
        keep=rng.choice((1, 2, 50)),
        p_operation=rng.choice((0.03, 0.08)),
    )
    found.apart = found.machines > 1 and not found.locks
    if rng.random() < 0.25:
        found.zone, put_at, found.daily = rng.choice(TRANSITIONS)
        found.put_at = datetime.fromisoformat(put_at).timestamp()
        found.jumps = found.jumps or (may_jump and rng.random() < 0.3)
        found.start = found.put_at - rng.choice((600.0, 2_400.0, 5_400.0, 10_000.0))
    found.p_plain, found.p_garbled = some(0.3), some(0.2)
    found.leaps = found.put_at is None and rng.random() < 0.25
    # A NAS that clears its slot was never seen to keep it; one wake that counts though it proves nothing is too many.
    found.knows = min({1: 0, 2: 4, 50: 5}[found.keep], 4 if characters & backends.DELETING else 5)
    return found


def _characters(rng: random.Random) -> set[str]:
    """One of NAS's characters, or three, less those that nobody can survive together."""
    characters = {rng.choice(CHARACTERS)}
    if rng.random() < 0.3 and "kind" not in characters:
        characters |= {rng.choice(CHARACTERS[1:]) for _ in range(2)}
    if "clock ahead" in characters:
        # An instant that NAS takes for past and drops or refuses can be sent as often as one likes.
        characters -= {"past ignored", "past refused", "clock behind"}
    if "redelivery retakes slot" in characters:
        # The wish that it displaced is sent again, which a NAS that remembers keys would not take.
        characters -= {"keys for ever"}
    if "2xx clears slot" in characters:
        # What is owed to an early fire stands in the very slot that the answer to another fire then clears; and where
        # a nameless copy is told that it is early, nothing is owed, though it looks so.
        characters -= {"redelivery retakes slot", "duplicates" if "no fire_at" in characters else ""}
        if "clock ahead" in characters:
            characters -= {"upsert cancels redelivery"}
    if "past ignored" in characters:
        characters -= {"clock behind"}
    backends.fit(characters)
    answers.fit(characters)
    return characters or {"kind"}
