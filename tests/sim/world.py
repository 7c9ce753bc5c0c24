"""One simulated world: a store, machines, NAS, clocks, and the real operations run against them, one step at a time."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from chronos_cli.core import edits
from chronos_cli.core.decision import Outcome
from chronos_cli.core.job import Home, OnCrash, Overlap, Policy, jitter_of
from chronos_cli.core.row import RunState
from chronos_cli.core.schedule import Cron, Interval, Once
from chronos_cli.errors import ChronosError, TemporaryError
from chronos_cli.operations import (
    arming,
    jobs,
    through,
)
from chronos_cli.operations import (
    fire as firing,
)
from chronos_cli.operations import (
    look as looking,
)
from chronos_cli.operations import (
    reconcile as reconciling,
)
from chronos_cli.operations import (
    run as running,
)
from chronos_cli.operations import (
    tick as ticking,
)
from chronos_cli.operations.context import Context, Retention, Wire
from chronos_cli.operations.starting import Inline
from chronos_cli.store.memory import MemoryStore
from chronos_cli.store.repository import STOP_KEY, Repository
from tests.sim.checks import Check, Violation, stamp
from tests.sim.documents import SimStore
from tests.sim.machines import SimProcesses
from tests.sim.nas import CHARACTERS, Server, SimNas
from tests.sim.tasks import Tasks

START = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC).timestamp()
ZONE = ZoneInfo("UTC")
HOUR = 3_600.0


@dataclass(slots=True)
class Config:
    """What kind of world this is; drawn from the seed."""

    nas: bool = True
    characters: frozenset = frozenset({"kind"})
    mode: str = "detached"
    machines: int = 1
    locks: bool = True
    jumps: bool = False
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
    p_orphan: float = 0.2
    p_unseen: float = 0.0
    keep: int = 50
    p_operation: float = 0.06


def draw(rng: random.Random) -> Config:
    """A world. Half of them have one NAS character, so that each is also met alone."""
    characters = {rng.choice(CHARACTERS)}
    if rng.random() < 0.3 and "kind" not in characters:
        characters |= {rng.choice(CHARACTERS[1:]) for _ in range(2)}
    if "clock ahead" in characters:
        # An instant that NAS takes for past and drops or refuses can be sent as often as one likes.
        # One that names no instant either is taken for a duplicate, and armed again, until the instant has come.
        characters -= {"past ignored", "past refused", "clock behind", "no fire_at"}
    if "redelivery retakes slot" in characters:
        # The wish that it displaced is sent again, which a NAS that remembers keys would not take.
        characters -= {"keys for ever"}
    if "2xx clears slot" in characters:
        # What cleared the slot is mended by sending the same instant again, which such a NAS would not take.
        characters -= {"keys for ever"}
    if "past ignored" in characters:
        characters -= {"clock behind"}
    if "no fire_at" in characters:
        # A fire that names nothing and comes before the instant by our clock reads as a duplicate of the last one.
        characters -= {"keys for ever"}
    characters = characters or {"kind"}
    mode = rng.choice(("detached", "detached", "sync", "waits"))
    if "2xx clears slot" in characters:
        mode = "detached"  # only a runner that outlives the answer can provision after it
    # NAS that says yes and drops what is past by its clock: only one whose clock is ours can be survived.
    machines = 1 if "past ignored" in characters else rng.choice((1, 1, 2))
    rough = rng.random() < 0.6

    def some(value: float) -> float:
        return value if rough and rng.random() < 0.6 else 0.0

    return Config(
        nas=rng.random() < 0.94,
        characters=frozenset(characters),
        mode=mode,
        machines=machines,
        locks=rng.random() < 0.5,
        jumps=machines == 1 and not characters & {"past ignored", "no fire_at"} and rng.random() < 0.3,
        p_crash=rng.choice((0.0, 0.01, 0.03)),
        p_conflict=some(0.1),
        p_write_fails=some(0.06),
        p_answer_lost=some(0.15),
        p_read_fails=some(0.02),
        p_nas_lost=some(0.15),
        p_nas_answer_lost=some(0.15),
        p_drop=some(0.2),
        p_orphan=0.3 if machines == 1 else 0.0,
        p_unseen=some(0.2),
        keep=rng.choice((1, 2, 50)),
        p_operation=rng.choice((0.03, 0.08)),
    )


class World:
    """A seeded run of one schedule. `run` raises Violation, or whatever fault the code under test raises."""

    def __init__(
        self, seed: int, *, steps: int = 60, trace: list[str] | None = None, cover: Counter | None = None, **forced: Any
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.cfg = replace(draw(self.rng), **forced)
        self.budget = steps
        self.trace = trace
        self.covered = Counter() if cover is None else cover
        self.now = START + self.rng.random() * 600
        self.faults = True
        self.held = False
        self.steps = 0
        self.serial = 0
        self.tokens = 0
        self.skews = [0.0] * self.cfg.machines
        if self.cfg.machines > 1:
            self.skews = [self.rng.uniform(-20, 20) for _ in self.skews]
        self.loose_time = self.cfg.jumps
        self.store = MemoryStore()
        self.locked_by = None
        self.runs: dict = {}
        self.live: list = []
        self.overlapping: set[str] = set()
        self.tasks = Tasks()
        self.check = Check(self)
        self.nas = Server(self, self.cfg.characters)
        self.home = Home(zone=ZONE, zone_name="UTC")
        self.made = 0

    # -- what the parts ask for --------------------------------------------------------------------------------------

    def chance(self, p: float) -> bool:
        return p > 0.0 and self.rng.random() < p

    def cover(self, family: str, name: str) -> None:
        self.covered[family, name] += 1

    def token(self) -> str:
        self.tokens += 1
        return f"{self.tokens:08x}{self.seed & 0xFFFFFFFF:08x}"

    def pause(self, task, label, **until) -> None:
        self.tasks.pause(task, label, **until)

    def text(self, moment: float | None) -> str:
        return "-" if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")

    def log(self, text: str, *args: object) -> None:
        if self.trace is not None:
            at = datetime.fromtimestamp(self.now, UTC)
            self.trace.append(f"{self.steps:4} {at:%d %H:%M:%S.%f} {text % args if args else text}")

    def clock_of(self, task) -> float:
        return self.now + self.skews[task.machine]

    def wrote(self, key: str, task) -> None:
        self.check.wrote(key, task)

    def deleting(self, key: str) -> None:
        self.check.deleting(key)

    def fate_of_run(self, run) -> tuple[float, RunState]:
        if not self.faults:
            return 0.2, RunState.OK
        rng = self.rng
        result = rng.choice((RunState.OK, RunState.OK, RunState.FAILED, RunState.FAILED, RunState.INTERRUPTED))
        return rng.choice((0.2, 0.2, 3.0, 20.0, 70.0, 400.0)), result

    def rhythm_of(self, record) -> tuple[float, float]:
        """Period and phase of a schedule's instants, worked out here and not by the code under test."""
        schedule, ours = record["schedule"], record["chronos"]
        offset = 0.0
        if jitter := ours.get("policy", {}).get("jitter"):
            offset = jitter_of(record["id"], Policy(jitter=jitter)).total_seconds()
        if schedule["kind"] == "once":
            return 0.0, stamp(schedule["run_at"])
        if schedule["kind"] == "interval":
            period = float(schedule.get("seconds") or schedule["minutes"] * 60)
            return period, (stamp(ours["anchor"]) + offset) % period
        period = {"*/5 * * * *": 300.0, "0 * * * *": HOUR, "30 2 * * *": 86_400.0}[schedule["expr"]]
        return period, (9_000.0 if period == 86_400.0 else 0.0) + offset

    def context(self, task, *, budget: float | None = None) -> Context:
        def clock() -> datetime:
            return datetime.fromtimestamp(self.now + self.skews[task.machine], UTC)

        def sleep(seconds: float) -> None:
            self.pause(task, "sleep", until=self.now + seconds)

        wire = Wire(
            portal_url="https://nas",
            callback_url="https://me",
            audience="agent:1",
            connect=lambda _: SimNas(self, task),
        )
        return Context(
            home=self.home,
            repository=Repository(SimStore(self, task), sleep=sleep, random=self.rng.random),
            processes=SimProcesses(self, task),
            clock=clock,
            token=self.token,
            wire=wire if self.cfg.nas else None,
            retention=Retention(keep=self.cfg.keep, days=30),
            budget_s=budget,
        )

    # -- processes ---------------------------------------------------------------------------------------------------

    def spawn(self, kind: str, job: str | None, body, machine: int | None = None):
        where = self.rng.randrange(self.cfg.machines) if machine is None else machine

        def guarded(task):
            try:
                return body(task, self.context(task))
            except ChronosError as error:
                task.failed = True
                self.log("%r: %s", task, error.line())
                self.cover("error", error.code)
                return None

        task = self.tasks.spawn(kind, where, job, guarded)
        self.log("%r begins", task)
        return task

    def start_door(self, delivery, token: int, named: float | None) -> None:
        """A callback arrives."""
        fire_at = None if named is None else datetime.fromtimestamp(named, UTC)
        job = delivery.job_id
        self.log(
            "NAS fires %s for %s, delivery %s, time %s%s",
            job,
            self.text(named),
            delivery.number,
            delivery.attempt,
            ", a ghost" if delivery.ghost else "",
        )

        def body(task, ctx):
            task.result = "ghost" if delivery.ghost else None
            launcher: Any = (
                Inline() if self.cfg.mode == "sync" else SimDetached(self, task, waits=self.cfg.mode == "waits")
            )
            retry_after = None
            try:
                report = firing.fire(ctx, job, fire_at=fire_at, delivery=str(delivery.number), launcher=launcher)
            except ChronosError as error:
                status, word = error.http_status, f"error {error.code}"
                task.failed = True
            else:
                status, retry_after = report.http_status, report.retry_after
                word = report.outcome.value
                self.cover("outcome", word)
                if report.reason and report.reason.startswith(("its wake", "no runner", "arm: refused")):
                    self.cover("outcome", " ".join(report.reason.split()[:2]))
                if self.faults and status == 202 and report.outcome is Outcome.CLAIMED:
                    self.cover("outcome", "claimed, detached")
                if report.runs and report.outcome is Outcome.CLAIMED:
                    self.cover("outcome", f"claimed, waited, exit {int(report.exit_code)}")
            self.pause(task, "answer")
            self.log("%r answers %s %s", task, status, word)
            self.nas.answered(delivery, token, status, retry_after, task)
            task.last = "answer"
            if not isinstance(launcher, Inline):
                launcher.answered = True
            self.pause(task, "answered")

        self.spawn("door", job, body)

    def notify(self, ctx: Context, job_id: str) -> None:
        """What a command tells the trigger provider after a change."""
        if ctx.wire is None:
            return
        if self.rng.random() < 0.3:
            self.tasks.current.job = None  # it now speaks about all jobs
            reconciling.reconcile(ctx)
            return
        wake = looking.present_wake(ctx, job_id)
        with ctx.wire.connect(10.0) as nas:
            arming.arm(ctx, nas, job_id, wake)

    def schedule(self):
        rng = self.rng
        slow = bool({"clock ahead", "clock behind"} & self.cfg.characters)
        kind = rng.random()
        if kind < 0.6:
            return Interval(seconds=rng.choice((60, 90, 300, 900, 3_600) if not slow else (900, 3_600)))
        if kind < 0.85:
            return Cron(expr=rng.choice(("*/5 * * * *", "0 * * * *", "30 2 * * *") if not slow else ("0 * * * *",)))
        return Once(at=datetime.fromtimestamp(int(self.now) + rng.choice((90, 400, 4_000)), UTC))

    def policy(self) -> Policy:
        rng = self.rng
        return Policy(
            overlap=rng.choice((Overlap.SKIP, Overlap.SKIP, Overlap.QUEUE, Overlap.ALLOW)),
            grace=rng.choice((86_400, 86_400, 86_400, 7_200, 120, 0)),
            timeout=rng.choice((50, 300)),
            retries=rng.choice((0, 0, 1, 2)),
            on_crash=rng.choice((OnCrash.SKIP, OnCrash.RERUN)),
            jitter=rng.choice((0, 0, 0, 40)),
            pause_after_failures=rng.choice((0, 0, 0, 2)),
        )

    def draft(self, job_id: str) -> edits.Draft:
        policy, schedule = self.policy(), self.schedule()
        if policy.overlap is Overlap.ALLOW:
            self.overlapping.add(job_id)
        return edits.Draft(
            job_id=job_id,
            name=job_id,
            schedule=schedule,
            zone=ZONE,
            zone_name="UTC",
            policy=policy,
            action={"shell": "true"},
            times=self.rng.choice((None, None, None, 2)),
        )

    # -- operations --------------------------------------------------------------------------------------------------

    def begin_operation(self) -> None:
        """Somebody does something."""
        rng = self.rng
        name = rng.choice(OPERATIONS)
        present = [job for job, trace in self.check.jobs.items() if not trace.removed]
        if not present and name != "add":
            return
        job = rng.choice(present) if present else ""
        self.cover("operation", name)
        getattr(self, "op_" + name)(job)

    def op_add(self, _: str) -> None:
        if self.made < 4:
            self.made += 1
            job = f"job{self.made}"
            draft = self.draft(job)

            def body(task, ctx):
                jobs.add(ctx, draft)
                self.notify(ctx, job)

            self.spawn("add", job, body)

    def op_pause(self, job: str) -> None:
        def body(task, ctx):
            jobs.pause(ctx, job, reason="test")
            self.notify(ctx, job)

        self.spawn("pause", job, body)

    def op_resume(self, job: str) -> None:
        def body(task, ctx):
            jobs.resume(ctx, job)
            self.notify(ctx, job)

        self.spawn("resume", job, body)

    def op_edit(self, job: str) -> None:
        policy = self.policy() if self.rng.random() < 0.5 else None
        schedule = self.schedule() if self.rng.random() < 0.7 else None
        if policy is not None:
            # Runs that were let overlap may still go when the policy changes.
            self.overlapping.add(job)

        def body(task, ctx):
            jobs.edit(ctx, job, edits.Edit(schedule=schedule, policy=policy, name="edited"))
            self.notify(ctx, job)

        self.spawn("edit", job, body)

    def op_remove(self, job: str) -> None:
        if self.rng.random() < 0.3:

            def body(task, ctx):
                jobs.remove(ctx, job)
                self.notify(ctx, job)

            self.spawn("remove", job, body)

    def op_manual(self, job: str) -> None:
        def body(task, ctx):
            looked = jobs.claim_manual(ctx, job)
            self.see_all(ctx, job, looked)

        self.spawn("manual", job, body)

    def see_all(self, ctx, job, looked) -> None:
        """Start what a look decided, wait for it, and arm: what `run` and `tick` do."""
        begun = firing.launch_all(ctx, looked, Inline())
        for run in begun:
            run.wait()
        if not begun and looked.job is not None:
            firing.rearm(ctx, job, looked.decision.wake)

    def op_tick(self, _: str) -> None:
        def body(task, ctx):
            ticked = ticking.tick(ctx, Inline(), max_parallel=self.rng.choice((0, 1)))
            task.failed = bool(ticked.failed or ticked.unarmed) or task.failed

        self.spawn("tick", None, body)

    def op_reconcile(self, _: str) -> None:
        if self.cfg.nas:
            self.spawn("reconcile", None, lambda task, ctx: reconciling.reconcile(ctx))

    def op_unlock(self, job: str) -> None:
        def body(task, ctx):
            jobs.unlock(ctx, job, who="test")
            self.notify(ctx, job)

        self.spawn("unlock", job, body)

    def op_hold(self, _: str) -> None:
        if not self.held:
            self.hold()
            self.loose_time = True
        else:
            self.lift()
            if self.cfg.nas:
                self.spawn("hold", None, lambda task, ctx: reconciling.reconcile(ctx))

    def hold(self) -> None:
        self.held = True
        self.store.create(STOP_KEY, b"test\n")
        self.log("hold")

    def lift(self) -> None:
        if self.held:
            self.held = False
            self.store.delete(STOP_KEY)
            self.log("hold lifted")

    def op_jump(self, _: str) -> None:
        if not self.cfg.jumps:
            return
        self.skews[0] = self.rng.choice((-3 * HOUR, -HOUR, -90.0, 0.0, 0.0, 90.0, 3 * HOUR))
        self.log("the clock jumps to %+.0f s", self.skews[0])
        self.cover("clock", "back" if self.skews[0] < 0 else "ahead" if self.skews[0] else "right again")

    def op_nas(self, _: str) -> None:
        if "refuses for a while" in self.nas.char and self.rng.random() < 0.5:
            self.nas.refusing = not self.nas.refusing
            self.log("NAS refuses: %s", self.nas.refusing)
            return
        self.nas.down = not self.nas.down
        self.log("NAS is down: %s", self.nas.down)

    # -- the driver --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The whole schedule, and then the quiet after it."""
        try:
            self._set_up()
            while self.steps < self.budget:
                self._step()
                self.check.chain()
            self._quiet()
        finally:
            self.tasks.kill_all()

    def _set_up(self) -> None:
        self.faults = False
        for _ in range(self.rng.choice((1, 2))):
            self.op_add("")
        self._drain()
        self.steps = 0
        self.faults = True

    def _step(self) -> None:
        self.steps += 1
        rng = self.rng
        ready = [task for task in self.tasks.all if task.ready(self.now)]
        if self.chance(self.cfg.p_operation) and len(self.tasks.all) < 7:
            self.begin_operation()
            return
        if self.chance(self.cfg.p_crash) and self.tasks.all:
            self._crash(rng.choice(self.tasks.all))
            return
        due = self.nas.next_due() if self.cfg.nas else None
        if due is not None and due <= self.now and rng.random() < 0.4:
            self.nas.turn()
            return
        if ready and rng.random() < 0.96:
            self._resume(rng.choice(ready))
            return
        self._advance(due)

    def _resume(self, task) -> None:
        if self.now_moves():
            self.now += self.rng.random() * 0.2
        self.tasks.resume(task)
        if task.done:
            self.log("%r is done", task)
            self.check.ended(task, crashed=False)

    def now_moves(self) -> bool:
        return self.rng.random() < 0.5

    def _crash(self, task) -> None:
        self.log("%r is killed before %s, after %s", task, task.label, task.last or "nothing")
        self.cover("crash before", task.label)
        self.cover("crash after", task.last)
        self.tasks.kill(task)
        self.check.ended(task, crashed=True)

    def _advance(self, due: float | None, limit: float | None = None) -> bool:
        """Let time pass to the next thing that is due (or, without one, a while)."""
        times = [task.until for task in self.tasks.all if task.until is not None and task.until > self.now]
        if due is not None and due > self.now:
            times.append(due)
        if any(task.label == "process start" for task in self.tasks.all):
            return False  # between the last look at the clock and the start of the process no time passes
        if limit is None and self.rng.random() < 0.12:
            self.now += self.rng.choice((1.0, 1.0, 10.0, 30.0, 600.0, 8_000.0))
            return True
        if not times:
            if limit is None and not self.cfg.nas:
                self.now += 60.0
            return False
        target = min(times)
        if limit is not None and target > limit:
            return False
        self.now = target
        return True

    # -- the quiet ---------------------------------------------------------------------------------------------------

    def _quiet(self) -> None:
        """Faults off, clocks right, NAS up; then until nothing is in hand any more."""
        self.log("---- quiet")
        self.faults = False
        self.skews = [0.0] * self.cfg.machines
        self.nas.down = self.nas.refusing = False
        self.lift()
        for entry in list(self.nas.delayed):
            entry[1]()
        self.nas.delayed.clear()
        for run in self.live:
            run.ends_at = min(run.ends_at, self.now + 1)
        for task in self.tasks.all:
            if task.until is not None:
                task.until = min(task.until, self.now + 1)
        self._drain()
        for _ in range(8):
            self._settle()
            if not self._in_hand() and not self.check.bare():
                break
            self.log("---- time passes")
            self.now = max(self.now + 400.0, self.check.last_need() + 1.0)
            self._drain()
        self.check.quiet()

    def _settle(self) -> None:
        if self.cfg.nas:
            everything_gone = all(trace.removed for trace in self.check.jobs.values())
            self.spawn("reconcile", None, lambda task, ctx: reconciling.reconcile(ctx, prune=everything_gone))
        self._drain()
        if not self.cfg.nas:
            self.op_tick("")
            self._drain()

    def _in_hand(self) -> bool:
        for trace in self.check.jobs.values():
            record = trace.record
            if trace.removed:
                continue
            if self.check.unsettled(trace) or (trace.live and stamp(record["next_run_at"]) <= self.now):
                return True
        return False

    def _drain(self) -> None:
        """Run all processes to their end, and let NAS do what it has to within the next seconds."""
        horizon = self.now + (310.0 if "clock behind" in self.nas.char else 8.0)
        for _ in range(4_000):
            self.check.chain()
            ready = [task for task in self.tasks.all if task.ready(self.now)]
            if ready:
                self._resume(ready[0] if len(ready) == 1 else self.rng.choice(ready))
                continue
            due = self.nas.next_due() if self.cfg.nas else None
            if due is not None and due <= self.now:
                self.nas.turn()
                continue
            if not self._advance(due, limit=horizon if not self.tasks.all else self.now + 1e9):
                return
        raise Violation("the world does not come to rest")


class SimDetached:
    """Starts a runner that outlives this process, as `operations.starting.Detached` does."""

    def __init__(self, world: World, task, *, waits: bool) -> None:
        self.world, self.task, self.waits = world, task, waits
        self.answered = False

    def launch(self, ctx, claim):
        world, task = self.world, self.task
        world.pause(task, "runner start")
        if world.faults and world.chance(world.cfg.p_runner_fails):
            world.cover("process", "no runner")
            raise TemporaryError("the runner did not start the job")
        payload = json.dumps(claim.to_json())
        said: list[Any] = []

        def body(me, mine):
            try:
                begun = running.begin(mine, running.Claim.from_json(json.loads(payload)))
            except ChronosError:
                said.append("failed")
                raise
            if begun is None:
                said.append("lost")
                return
            said.append("running")

            def ended(row) -> None:
                said.append(row)
                if not self.waits:
                    world.pause(me, "await answer", cond=lambda: self.answered or task.done)

            through.see_through(mine, begun, ended=ended)

        runner = world.spawn("runner", task.job, body, machine=task.machine)
        task.runners.append(runner)
        task.last = "runner start"
        world.pause(task, "await runner", until=world.now + 8.0, cond=lambda: said or runner.done)
        if not said or said[0] == "failed":
            raise TemporaryError("the runner did not start the job: it said nothing in time")
        return None if said[0] == "lost" else SimRunning(world, task, said, runner, waits=self.waits)


class SimRunning:
    """A run under a runner of its own."""

    def __init__(self, world, task, said, runner, *, waits) -> None:
        self.world, self.task, self.said, self.runner, self.waits = world, task, said, runner, waits

    def wait(self):
        if not self.waits:
            return None
        self.world.pause(self.task, "await end", until=self.world.now + 25.0, cond=lambda: self.runner.done)
        return self.said[1] if len(self.said) > 1 else None


OPERATIONS = (
    "add", "pause", "resume", "resume", "edit", "edit", "remove", "manual", "manual", "tick", "tick", "reconcile",
    "reconcile", "unlock", "hold", "jump", "jump", "nas", "nas",
)  # fmt: skip
