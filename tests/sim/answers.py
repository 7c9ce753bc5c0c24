"""NAS's side of answers that arm, and what stands between a door and NAS: older workers, gateways, proxies.

Two characters name the feature. One keeps to docs/nas/contract.md; the other says that it does, and drops what answers
carry.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import ARM_BY_ANSWER, ARM_CLAIM, FEATURE_ARM_IN_ANSWER
from chronos_cli.nas_server.bodies import BadRequestError, next_wake
from chronos_cli.operations.arming.slot_memory import MEMORY_KEY
from chronos_cli.operations.firing.answering import Door
from chronos_cli.store.arms.document import CARRIES
from tests.sim import backends
from tests.sim.machines import PLATFORM_S

if TYPE_CHECKING:
    from chronos_cli.nas_client.interface import ArmRequest
    from tests.sim.nas import Delivery, Server
    from tests.sim.tasks import Task
    from tests.sim.world import World

ARMS: Final = "arms by answer"
DROPS: Final = "claims and drops"
CHARACTERS: Final = (ARMS, DROPS)

_CONTRADICTED: Final = frozenset(
    {"2xx clears slot", "redelivery retakes slot", "upsert cancels redelivery", "keys for ever", "past refused", "past ignored",
     backends.NEVER_REPLACES, backends.CLEARS_LATE}
)  # fmt: skip
"""What the feature promises not to do: a delivery is settled and the next armed in one, and a past instant fires at once."""


def fit(characters: set[str]) -> None:
    """Take out of these characters what those of the feature exclude."""
    if characters & set(CHARACTERS):
        characters -= _CONTRADICTED
    if ARMS in characters:
        characters -= {DROPS}


def claims(server: Server) -> bool:
    """Whether this NAS names the feature."""
    return bool(server.char & set(CHARACTERS))


def features(server: Server) -> frozenset[str]:
    return frozenset({FEATURE_ARM_IN_ANSWER}) if claims(server) else frozenset()


def accepts(server: Server, request: ArmRequest) -> bool:
    return claims(server) and FEATURE_ARM_IN_ANSWER in request.accepts


def said_by_token(delivery: Delivery) -> dict[str, Any]:
    """The claims by which a token tells what its answer may carry."""
    said: dict[str, Any] = {} if delivery.generation is None else {"generation": delivery.generation}
    return said | ({ARM_CLAIM: ARM_BY_ANSWER} if delivery.accepts else {})


def door_of(world: World) -> Door | None:
    """How the answer of a door gets to NAS; None for an older worker, or a command whose body nobody hands on."""
    if world.faults and world.chance(world.cfg.p_plain):
        world.cover("door", "plain")
        return None
    return {
        "detached": Door(within_s=0.0),
        "waits": Door(within_s=PLATFORM_S),
        "frozen": Door(within_s=PLATFORM_S, looks=False),
    }.get(world.cfg.mode, Door(within_s=None, looks=False))


def go(
    world: World, delivery: Delivery, token: int, status: int, retry_after: int | None, door: Task, body: dict | None
) -> None:
    """Bring an answer to NAS, if nothing on the way spoils it."""
    if backends.spoils(world.nas, 0.25):
        world.log("a proxy answers 502 instead of %r", door)
        world.nas.answered(delivery, token, 502, None, None)
        return
    if world.faults and delivery.accepts and world.chance(world.cfg.p_garbled):
        kind = world.rng.choice(("a proxy answers 502", "a gateway answers 202", "it is lost"))
        world.cover("door", kind)
        world.log("%s instead of %r", kind, door)
        world.check.unheard = True
        if kind == "it is lost":
            return
        world.nas.answered(delivery, token, 502 if "502" in kind else 202, None, None)
        return
    world.nas.answered(delivery, token, status, retry_after, door, body)


def take(server: Server, delivery: Delivery, door: Task | None, body: dict | None) -> None:
    """A 2xx to a delivery whose token asked for the next wake: settle and arm, or call again."""
    world, job = server.world, delivery.job_id
    try:
        wake = next_wake(json.dumps(body).encode())
    except BadRequestError:
        world.cover("answer", "without next")
        world.check.without_next(job, door)
        server._failed(delivery, None)
        return
    if delivery in server.deliveries:
        server.deliveries.remove(delivery)
    if server.has(DROPS):
        if job not in server.slots:
            world.check.cleared(job, door)
        return
    server.has(ARMS)
    if wake is None or delivery.cancelled or wake.generation <= server.generations.get(job, -1):
        world.cover("answer", "keep" if wake is None else "settles and arms nothing")
        return
    server.generations[job] = wake.generation
    if wake.fire_at is None:
        world.cover("answer", "none")
        world.log("NAS drops %s of %s", server.slots.pop(job, None), job)
        world.check.slot_cancelled(job)
        return
    world.cover("answer", "arms")
    server.put(job, float(wake.fire_at), accepts=True, generation=wake.generation, tolerance=wake.tolerance)
    world.log("NAS holds %s for %s, by the answer", datetime.fromtimestamp(wake.fire_at, UTC), job)
    world.check.slot_set(job)


def begin(world: World) -> None:
    """Let half of the worlds begin where doors have served each job before, and NAS, where it does, was seen to arm."""
    if not claims(world.nas) or world.rng.random() < 0.3:
        return
    seen = world.rng.random() < 0.5 and ARMS in world.nas.char
    for key in list(world.store.list("cron/arms/")):
        found = world.store.read(key)
        document = json.loads(found.data) | {"door": CARRIES}
        world.store.replace(key, json.dumps(document).encode(), found.version)
        world.check.carrying.add(document["job_id"])
        slot = world.nas.slots.get(document["job_id"])
        if slot is not None:
            slot.accepts = True
    if seen:
        found = world.store.read(MEMORY_KEY)
        known = (
            {"portal_url": "https://nas", "audience": "agent:1", "delivered": 0}
            if found is None
            else json.loads(found.data)
        )
        at = datetime.fromtimestamp(world.now, UTC).isoformat()
        data = json.dumps({"since": at, **known, "answers": True, "answers_at": at}).encode()
        if found is None:
            world.store.create(MEMORY_KEY, data)
        else:
            world.store.replace(MEMORY_KEY, data, found.version)
