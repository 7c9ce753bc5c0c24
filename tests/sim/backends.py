"""Characters of NAS that lie in what it is built on: its timers, its lists, its line, and what stands before it.

A backend may keep a timer for each `dedup_key` and never replace one, answer byte by byte, clear a slot some seconds
after the 2xx, list from a replica that lags, and stand behind a proxy that answers by itself, or turns good
answers into errors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import NasRejectedError, NasUnavailableError

if TYPE_CHECKING:
    from chronos_cli.errors import ChronosError
    from chronos_cli.nas_client.interface import Arm
    from tests.sim.nas import Server, Slot
    from tests.sim.tasks import Task

NEVER_REPLACES: Final = "never replaces"
DRIPS: Final = "drips"
CLEARS_LATE: Final = "clears late"
LISTS_LATE: Final = "lists late"
PROXY: Final = "a proxy spoils answers"
CHARACTERS: Final = (NEVER_REPLACES, DRIPS, CLEARS_LATE, LISTS_LATE, PROXY)

DELETING: Final = frozenset({"2xx clears slot", CLEARS_LATE})
"""The characters whose 2xx deletes what is in the slot, at once or later."""

_LAGS_S: Final = (3.0, 20.0)
_CLEARS_AFTER_S: Final = (0.3, 2.0, 4.0)
"""So long after the 2xx, before the second look: later nobody but reconcile could know."""


PRICE: Final = {
    "kind": 1.1,
    "upsert cancels redelivery": 1.15,
    "redelivery retakes slot": 1.15,
    "2xx clears slot": 1.5,
    "keys for ever": 1.15,
    "past refused": 1.15,
    "past ignored": 1.15,
    "other zone": 1.15,
    "list hides in flight": 1.15,
    "clock ahead": 0.5,
    "clock behind": 1.2,
    "no fire_at": 1.1,
    "duplicates": 1.15,
    "late and reordered calls": 1.15,
    "gives up": 1.15,
    "refuses for a while": 1.15,
    NEVER_REPLACES: 1.15,
    DRIPS: 1.25,
    CLEARS_LATE: 1.7,
    LISTS_LATE: 1.5,
    PROXY: 1.15,
    "arms by answer": 0.8,
    "spreads": 1.15,
    "claims and drops": 0.95,
}
"""Provisions that a fire costs at a NAS of one character, in the mean of many schedules: its call, or its copy.

What a fire is sent for more than one is the price of what NAS deletes, hides, or says too late; an early one, or a copy
that finds all done, is sent nothing. Under faults, crashes and edits, of which the schedules are full.
"""

_MORE: Final = 4
"""So many more in one schedule, where what is wanted changes while it is sent."""

_ROUNDS: Final = 16
_STEPS: Final = 40
"""So many more in so many steps where slow processes send at the same time, and each finds that another has overtaken it."""


def count_price(server: Server) -> None:
    """Judge what the fires of one schedule have cost, and add it to what is known of the character."""
    fires, sent, again = (server.served[name] for name in ("fire", "provision", "sent again"))
    most = max(math.ceil(PRICE[name]) for name in server.char)
    most += {
        NEVER_REPLACES,
        LISTS_LATE,
    } <= server.char  # timers left beside come at once, and no list shows what was sent
    runs = len(server.world.check.starts)  # whose end may need another wake
    if sent > most * fires + runs + _MORE:
        server.world.check.fail(f"{fires} fires and {runs} runs took {sent} provisions, with nobody in between")
    if sent + again > most * fires + runs + _ROUNDS * max(1, server.world.budget // _STEPS):
        server.world.check.fail(f"{fires} fires and {runs} runs took {sent + again} provisions")
    for name in server.char if len(server.char) == 1 else ():
        server.world.covered["fires at", name] += fires
        server.world.covered["provisions at", name] += sent + again


def fit(characters: set[str]) -> None:
    """Take out of these characters what nobody can survive together."""
    if CLEARS_LATE in characters:
        # As with one that clears its slot at once, whose list has to show what it did.
        characters -= {"2xx clears slot", "redelivery retakes slot", "duplicates" if "no fire_at" in characters else ""}
        if "clock ahead" in characters:
            characters -= {"upsert cancels redelivery"}
    if characters & DELETING:
        characters -= {LISTS_LATE, NEVER_REPLACES}
    if NEVER_REPLACES in characters:
        # These are about the one slot of a job.
        characters -= {"redelivery retakes slot", "upsert cancels redelivery"}
        # A timer that stands beside the wanted one is fired at once, minutes ahead, and what is armed then stands beside as well.
        characters -= {"clock ahead"}


def count(server: Server, job: str) -> None:
    """Count a provision within a fire: by its door, its runner, or the look after its answer.

    One that is sent again since another process has written the job's arm document meanwhile is counted apart.
    """
    task = server.world.tasks.current
    if task is None or task.kind not in ("door", "runner"):
        return
    written = server.world.check.written.get(job, [])
    before = server.sent_at.get((job, task.number))
    server.sent_at[job, task.number] = len(written)
    met = before is not None and any(number != task.number for number in written[before:])
    server.served["sent again" if met else "provision"] += 1


# -- never replaces --------------------------------------------------------------------------------------------------


def holds(server: Server, job: str, at: float) -> bool:
    """Whether a timer of just this key stands beside the newest one."""
    return any(slot.fire_at == at for slot in server.beside.get(job, ()))


def leave(server: Server, job: str) -> None:
    """A new key: the timer of the old one stays."""
    before = server.slots.get(job)
    if before is not None and NEVER_REPLACES in server.char:
        server.has(NEVER_REPLACES)
        server.beside.setdefault(job, []).append(before)


def pop_due(server: Server) -> tuple[str, Slot] | None:
    """Take out a timer that was never replaced, and is due."""
    for job, slots in server.beside.items():
        for slot in slots:
            if slot.due <= server.world.now:
                slots.remove(slot)
                return job, slot
    return None


def earliest(server: Server, job: str) -> Slot | None:
    """The timer of a job that comes first."""
    slots = [*server.beside.get(job, ()), *([server.slots[job]] if job in server.slots else [])]
    return min(slots, key=lambda slot: slot.fire_at, default=None)


# -- clears late -----------------------------------------------------------------------------------------------------


def clear_later(server: Server, job: str, door: Task | None) -> None:
    """A 2xx was heard: what is in the slot some seconds later goes."""
    if CLEARS_LATE in server.char:
        server.clears.append((server.world.now + server.world.rng.choice(_CLEARS_AFTER_S), job, door))


def clear_due(server: Server) -> bool:
    """Clear one slot whose time has come."""
    for entry in server.clears:
        at, job, door = entry
        if at <= server.world.now:
            server.clears.remove(entry)
            if server.slots.pop(job, None) is not None:
                server.has(CLEARS_LATE)
                server.world.log("NAS clears its slot of %s, late", job)
                server.world.check.cleared(job, door)
            return True
    return False


def catch_up(server: Server) -> None:
    """Before it answers, a server has done what was due."""
    while server.clears and clear_due(server):
        pass


# -- lists late ------------------------------------------------------------------------------------------------------


def remember(server: Server) -> None:
    """Something is about to change: until now a list said this."""
    if LISTS_LATE in server.char:
        server.past.append((server.world.now, server.arms()))


def late_list(server: Server) -> tuple[Arm, ...]:
    """What a list says: in some worlds, what was so a while ago."""
    if LISTS_LATE not in server.char:
        return server.arms()
    before = server.world.now - _LAGS_S[server.world.seed % 2]
    said = next((arms for until, arms in server.past if until > before), None)
    if said is None:
        return server.arms()
    server.has(LISTS_LATE)
    return said


# -- the line --------------------------------------------------------------------------------------------------------


def come_back(server: Server, task: Task, until: float) -> None:
    """Bring an answer of NAS back: byte by byte, or through a proxy. `until`: when its caller gives up."""
    world = server.world
    if DRIPS in server.char and world.chance(0.5):
        server.has(DRIPS)
        takes = world.rng.choice((1.0, 4.0, 60.0)) if world.faults else 2.0
        world.pause(task, "drips", until=min(world.now + takes, until))
        if world.now + takes > until:
            raise NasUnavailableError("NAS did not answer in time")
    if spoils(server, 0.25):
        raise _page(server)


def stand_between(server: Server) -> None:
    """Answer a call in place of NAS, which never hears of it."""
    if spoils(server, 0.1):
        raise _page(server)


def _page(server: Server) -> ChronosError:
    """What a proxy says."""
    return server.world.rng.choice((NasUnavailableError("NAS answered 502 (an HTML page)"),
                                    NasUnavailableError("NAS answered 403 (an HTML page)"),
                                    NasRejectedError("NAS rejected the request: 404", status=404)))  # fmt: skip


def spoils(server: Server, likely: float) -> bool:
    """Whether the proxy turns this answer into an error, or has it never asked for."""
    world = server.world
    return PROXY in server.char and world.faults and world.chance(likely) and server.has(PROXY)
