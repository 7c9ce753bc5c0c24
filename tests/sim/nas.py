"""NAS as the contract leaves room for it: kind, or with any of the characters that the protocol has to survive."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from zlib import crc32

from chronos_cli.contract import FEATURE_BATCH, FEATURE_GENERATION, FEATURE_KEEPS_SLOT, FEATURE_SPREAD, parse_fire_at
from chronos_cli.errors import ChronosError, NasRejectedError, NasUnavailableError, RefusedError
from chronos_cli.nas_client.interface import Arm, ArmAnswer, ArmList, ArmRequest, CallResult, Nas
from tests.sim import answers, backends

SPREADS = "spreads"
"""Fires within the tolerance of a wish, later than its instant."""

TOLERANCE = 45
"""The tolerance of all jobs at such a NAS, in seconds: below the shortest gap of a schedule here."""

CHARACTERS = (
    "kind",
    "upsert cancels redelivery",
    "redelivery retakes slot",
    "2xx clears slot",
    "keys for ever",
    "past refused",
    "past ignored",
    "other zone",
    "list hides in flight",
    "clock ahead",
    "clock behind",
    "no fire_at",
    "duplicates",
    "late and reordered calls",
    "gives up",
    "refuses for a while",
    *backends.CHARACTERS,
    *answers.CHARACTERS,
    SPREADS,
)
KIND_FEATURES = frozenset({FEATURE_BATCH, FEATURE_GENERATION, FEATURE_KEEPS_SLOT})
NEPAL = timezone(timedelta(hours=5, minutes=45))


@dataclass(slots=True)
class Slot:
    fire_at: float
    due: float
    name: str
    attempt: int = 0
    accepts: bool = False
    generation: int | None = None


@dataclass(slots=True)
class Delivery:
    """One callback: under way, waiting to be tried again, or a ghost (a second copy that NAS knows nothing of)."""

    number: int
    job_id: str
    fire_at: float
    due: float
    attempt: int = 0
    token: int = 0
    handling: bool = False
    deadline: float = 0.0
    cancelled: bool = False
    ghost: bool = False
    accepts: bool = False
    generation: int | None = None


@dataclass(slots=True)
class Server:
    """The server's state and its rules. `char`: the set of characters in play."""

    world: object
    char: frozenset
    slots: dict = field(default_factory=dict)
    deliveries: list = field(default_factory=list)
    keys: set = field(default_factory=set)
    generations: dict = field(default_factory=dict)
    delayed: list = field(default_factory=list)
    beside: dict = field(default_factory=dict)
    """The timers that were never replaced, by job."""
    clears: list = field(default_factory=list)
    """Slots that a 2xx is going to clear: when, whose, and by whose answer."""
    past: list = field(default_factory=list)
    """What a list said until when, newest last; kept where lists are late."""
    served: Counter = field(default_factory=Counter)
    """What it was asked and what it called, for the price of each character."""
    sent_at: dict = field(default_factory=dict)
    """How often a job's arm document had been written when a process sent its wake last, by job and process."""
    skew: float = 0.0
    down: bool = False
    refusing: bool = False
    serial: int = 0
    kind: bool = False
    patient: bool = False
    """Whether it heeds Retry-After; the contract asks for it, and the simulation does not count on it."""
    features: frozenset = frozenset()

    def __post_init__(self) -> None:
        self.kind = "kind" in self.char or answers.claims(self)
        self.features = (KIND_FEATURES if self.kind else frozenset()) | answers.features(self)
        self.features |= {FEATURE_SPREAD} if SPREADS in self.char else frozenset()
        self.skew = 300.0 if "clock ahead" in self.char else -300.0 if "clock behind" in self.char else 0.0

    def has(self, name: str) -> bool:
        if name in self.char:
            self.world.cover("nas", name)
            return True
        return False

    # -- calls ---------------------------------------------------------------------------------------------------

    def provision(self, request: ArmRequest) -> ArmAnswer:
        job, at = request.job_id, request.fire_at.timestamp()
        backends.remember(self)
        backends.count(self, job)
        self._generation(request)
        self.serial += 1
        answer = ArmAnswer(schedule_id=f"s{self.serial}", features=self.features)
        slot = self.slots.get(job)
        if slot is not None and slot.fire_at == at and not slot.attempt:
            slot.accepts, slot.generation = answers.accepts(self, request), request.generation
            slot.due = self._due(job, at, request.tolerance)
            return answer
        if slot is not None and slot.fire_at <= self.world.now < slot.due:
            self.world.check.moves(job, slot)
        if backends.holds(self, job, at):
            return answer
        if "keys for ever" in self.char:
            if (job, at) in self.keys:
                self.has("keys for ever")
                self.world.log("NAS knows the key %s of %s already", self.world.text(at), job)
                return answer
            self.keys.add((job, at))
        now = self.world.now + self.skew
        if at <= now:
            if self.has("past refused"):
                raise NasRejectedError("fire_at is past", status=422, reason="past")
            if self.has("past ignored"):
                self.world.log("NAS ignores %s of %s, which is past", self.world.text(at), job)
                return answer
            self.world.cover("nas", "past fires at once")
        if self.skew:
            self.has("clock ahead" if self.skew > 0 else "clock behind")
        if "upsert cancels redelivery" in self.char:
            for delivery in self.deliveries:
                if delivery.job_id == job and not delivery.ghost:
                    self.has("upsert cancels redelivery")
                    delivery.cancelled = True
            self.deliveries = [d for d in self.deliveries if not (d.cancelled and not d.handling)]
        backends.leave(self, job)
        self.put(
            job,
            at,
            name=answer.schedule_id,
            accepts=answers.accepts(self, request),
            generation=request.generation,
            tolerance=request.tolerance,
        )
        self.world.log("NAS holds %s for %s", self.world.text(at), job)
        if self.kind:
            self.world.cover("nas", "kind")
        self.world.check.slot_set(job)
        return answer

    def put(
        self, job: str, at: float, *, name: str = "answered", accepts: bool, generation: int | None, tolerance: int = 0
    ) -> None:
        self.slots[job] = Slot(at, self._due(job, at, tolerance), name, accepts=accepts, generation=generation)

    def _due(self, job: str, at: float, tolerance: int) -> float:
        """When it is fired: at its instant, or where NAS spreads, later by what is the job's own."""
        if not tolerance or not self.has(SPREADS):
            return at - self.skew
        return at - self.skew + crc32(job.encode()) % (tolerance + 1)

    def cancel(self, job: str, generation: int | None) -> None:
        if generation is not None and self.kind and generation < self.generations.get(job, 0):
            raise self._stale(job)
        if generation is not None and self.kind:
            self.generations[job] = generation
        backends.remember(self)
        self.beside.pop(job, None)
        self.world.log("NAS drops %s of %s", self.slots.pop(job, None), job)
        for delivery in self.deliveries:
            if delivery.job_id == job and not delivery.ghost and "upsert cancels redelivery" in self.char:
                delivery.cancelled = True
        self.deliveries = [d for d in self.deliveries if not (d.cancelled and not d.handling)]
        self.world.check.slot_cancelled(job)

    def _generation(self, request) -> None:
        if request.generation is None or not self.kind:
            return
        if request.generation < self.generations.get(request.job_id, 0):
            self.world.cover("nas", "older generation refused")
            raise self._stale(request.job_id)
        self.generations[request.job_id] = request.generation

    def _stale(self, job) -> NasRejectedError:
        return NasRejectedError("stale", status=409, reason="stale_generation", generation=self.generations[job])

    def list(self) -> ArmList:
        clock = datetime.fromtimestamp(self.world.now + self.skew, UTC)
        return ArmList(arms=backends.late_list(self), features=self.features, server_time=clock)

    def arms(self) -> tuple[Arm, ...]:
        """All that it holds, and tells of, just now."""
        arms = [self._arm(job, slot.fire_at, slot.name) for job, slot in self.slots.items()]
        arms += [self._arm(job, slot.fire_at, slot.name) for job, slots in self.beside.items() for slot in slots]
        flying = [d for d in self.deliveries if not d.ghost and not d.cancelled and d.job_id not in self.slots]
        if flying and self.has("list hides in flight"):
            flying = []
        arms += [
            self._arm(d.job_id, d.fire_at, f"d{d.number}", "in_flight") for d in {d.job_id: d for d in flying}.values()
        ]
        return tuple(arms)

    def _arm(self, job, at, name, state="armed") -> Arm:
        moment = datetime.fromtimestamp(at, UTC)
        text = (
            moment.astimezone(NEPAL).isoformat(timespec="milliseconds")
            if self.has("other zone")
            else moment.isoformat()
        )
        return Arm(job_id=job, fire_at=parse_fire_at(text), fire_at_text=text, schedule_id=name, state=state)

    # -- time ----------------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        if self.down:
            return min((at for at, _ in self.delayed), default=None)
        times = [slot.due for slot in self.slots.values()]
        times += [slot.due for slots in self.beside.values() for slot in slots]
        times += [d.deadline if d.handling else d.due for d in self.deliveries]
        times += [at for at, _, _ in self.clears]
        times += [at for at, _ in self.delayed]
        return min(times) if times else None

    def turn(self) -> None:
        """Do one thing that is due, if any."""
        world, now = self.world, self.world.now
        for entry in self.delayed:
            if entry[0] <= now:
                self.delayed.remove(entry)
                entry[1]()
                return
        if self.down or backends.clear_due(self):
            return
        slot = next(((job, slot) for job, slot in self.slots.items() if slot.due <= now), None)
        if slot is not None:
            backends.remember(self)
            del self.slots[slot[0]]
        else:
            slot = backends.pop_due(self)
        if slot is not None:
            self._fire(*slot)
            return
        for delivery in self.deliveries:
            if delivery.handling and delivery.deadline <= now:
                world.cover("nas", "waits no longer")
                world.check.unheard = True
                self._failed(delivery, None)
                return
            if not delivery.handling and delivery.due <= now:
                self._deliver(delivery)
                return

    def _fire(self, job: str, slot: Slot) -> None:
        """A timer is due: it becomes a delivery."""
        self.world.serial += 1
        delivery = Delivery(self.world.serial, job, slot.fire_at, self.world.now, slot.attempt)
        delivery.accepts, delivery.generation = slot.accepts, slot.generation
        self.deliveries.append(delivery)
        self._deliver(delivery)

    def _deliver(self, delivery: Delivery) -> None:
        world = self.world
        delivery.attempt += 1
        delivery.token += 1
        delivery.handling = True
        delivery.deadline = world.now + 30.0
        if delivery.ghost:
            self.deliveries.remove(delivery)
        elif world.faults and world.chance(world.cfg.p_drop):
            world.cover("nas", "drops")
            world.log("fire of %s is lost on its way", delivery.job_id)
            return
        if delivery.attempt > 1:
            world.cover("nas", "delivers again")
        if not delivery.ghost and world.faults and "duplicates" in self.char and world.chance(0.5):
            self.has("duplicates")
            world.serial += 1
            later = world.rng.choice((0.0, 1.0, 40.0, 4_000.0))
            ghost = Delivery(world.serial, delivery.job_id, delivery.fire_at, world.now + later, ghost=True)
            ghost.accepts, ghost.generation = delivery.accepts, delivery.generation
            self.deliveries.append(ghost)
        named = None if self.has("no fire_at") else delivery.fire_at
        self.served["fire"] += 1
        world.start_door(delivery, delivery.token, named)

    def answered(self, delivery: Delivery, token: int, status: int, retry_after: int | None, door, body=None) -> None:
        """What the door said. An answer that comes when NAS no longer waits is not heard."""
        if delivery.ghost or delivery.token != token or not delivery.handling:
            self.world.check.unheard = True
            return
        if door is not None:
            self.world.check.answered(delivery.job_id, status, door)
        if 200 <= status < 300 and delivery.accepts:
            answers.take(self, delivery, door, body)
            return
        if 200 <= status < 300:
            backends.remember(self)
            if delivery in self.deliveries:
                self.deliveries.remove(delivery)
            backends.clear_later(self, delivery.job_id, door)
            if "2xx clears slot" in self.char and self.slots.pop(delivery.job_id, None) is not None:
                self.has("2xx clears slot")
                self.world.check.cleared(delivery.job_id, door)
            return
        self._failed(delivery, retry_after)

    def _failed(self, delivery: Delivery, retry_after: int | None) -> None:
        world = self.world
        delivery.handling = False
        if delivery.cancelled:
            self.deliveries.remove(delivery)
            return
        if world.faults and delivery.attempt >= 3 and self.has("gives up"):
            self.deliveries.remove(delivery)
            world.check.excuse(delivery.job_id, "NAS gave up")
            return
        wait = world.rng.choice((1.0, 5.0, 30.0)) * min(delivery.attempt, 8)
        if (self.kind or self.patient) and retry_after:
            wait = max(wait, float(retry_after))
        delivery.due = world.now + wait
        if self.has("redelivery retakes slot"):
            self.deliveries.remove(delivery)
            self.slots[delivery.job_id] = Slot(delivery.fire_at, delivery.due, "again", delivery.attempt)

    def owed(self, job: str) -> bool:
        """Whether NAS will still call about a job."""
        return (
            job in self.slots
            or bool(self.beside.get(job))
            or any(d.job_id == job and not d.ghost and not d.cancelled for d in self.deliveries)
        )


class SimNas(Nas):
    """The client in one process; each call may be lost, come late, or lose its answer."""

    def __init__(self, world, task, budget_s: float = 10.0) -> None:
        self.world, self.task, self.until = world, task, world.now + budget_s
        self.answered = False

    def provision(self, request):
        return self._call("nas provision", lambda: self.world.nas.provision(request), request.job_id)

    def cancel(self, job_id, generation=None):
        self.task.cancelled.add(job_id)
        self._call("nas cancel", lambda: self.world.nas.cancel(job_id, generation), job_id)

    def list(self):
        return self._call("nas list", self.world.nas.list, None)

    @property
    def server_time(self):
        """The clock in its last answer, and the time since."""
        clock = self.world.now + self.world.nas.skew
        return datetime.fromtimestamp(clock, UTC) if self.answered else None

    def _call(self, label, effect, job):
        world, task = self.world, self.task
        world.pause(task, label)
        server, cfg = world.nas, world.cfg
        roll = world.rng.random() if world.faults else 1.0
        if server.down or roll < cfg.p_nas_lost:
            world.cover("nas", "down" if server.down else "call lost")
            self._fails(job)
            raise NasUnavailableError("NAS does not answer")
        if server.refusing:
            world.cover("nas", "refuses for a while")
            world.check.excuse(job, "NAS refuses")
            raise RefusedError("invalid_client")
        if "late and reordered calls" in server.char and roll < 0.3 and job is not None:
            world.cover("nas", "late and reordered calls")
            server.delayed.append(
                (world.now + world.rng.choice((2.0, 20.0, 200.0)), lambda: _late(world, effect, label, job))
            )
            self._fails(job)
            raise NasUnavailableError("NAS does not answer")
        backends.catch_up(server)
        try:
            backends.stand_between(server)
            answer = effect()
        except ChronosError:
            self._fails(job)
            raise
        task.last, self.answered = label, True
        try:
            backends.come_back(server, task, self.until)
        except ChronosError:
            self._fails(job)
            raise
        if world.faults and roll > 1 - cfg.p_nas_answer_lost:
            world.cover("nas", "answer lost")
            self._fails(job)
            raise NasUnavailableError("NAS broke off")
        world.pause(task, "nas answered")
        return answer

    def _fails(self, job) -> None:
        self.task.failed = True
        self.world.log("NAS fails %r about %s", self.task, job)

    def apply(self, requests, *, progress=None):
        for request in requests:
            try:
                if isinstance(request, ArmRequest):
                    yield CallResult(request=request, answer=self.provision(request))
                else:
                    self.cancel(request.job_id, request.generation)
                    yield CallResult(request=request)
            except ChronosError as error:
                yield CallResult(request=request, error=error)

    def close(self) -> None:
        pass


def _late(world, effect, label, job) -> None:
    world.log("late: %s of %s", label, job)
    try:
        effect()
    except ChronosError:
        return  # nobody waits for the answer any more
    world.check.late(job, label)
