"""One simulated world: a store, machines, NAS, clocks, and the real operations run against them, one step at a time."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from chronos_cli.core import edits
from chronos_cli.core.clock import Trust
from chronos_cli.core.job import HomeDefaults, jitter_of
from chronos_cli.core.plan import Removals
from chronos_cli.core.policy import OnCrash, Overlap, Policy
from chronos_cli.core.row import RunState
from chronos_cli.core.schedule import Cron, Interval, Once
from chronos_cli.errors import ChronosError
from chronos_cli.nas_client.interface import ArmRequest
from chronos_cli.operations import evaluate as looking
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.arming import reconcile as reconciling
from chronos_cli.operations.arming.slot_memory import MEMORY_KEY, SlotMemory
from chronos_cli.operations.context import Context, NasTarget, Retention
from chronos_cli.operations.firing import launchers, probe, run_end
from chronos_cli.operations.firing import tick as ticking
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.operations.jobs import edit as jobs
from chronos_cli.operations.jobs.unlock import unlock
from chronos_cli.store.arms import pack
from chronos_cli.store.documents import ASIDE
from chronos_cli.store.interface import JOB_PREFIX, JOBS_KEY
from chronos_cli.store.repository import STOP_KEY
from tests.sim import answers, rhythm, views
from tests.sim.checks import Check, Violation, read_object, stamp
from tests.sim.config import draw
from tests.sim.disk import GARBAGE, Disk
from tests.sim.documents import SimRepository, SimStore, place_of
from tests.sim.doors import start_door
from tests.sim.machines import SimProcesses
from tests.sim.nas import SPREADS, TOLERANCE, Server, SimNas
from tests.sim.tasks import Tasks

STEPS = (20, 21)
"""A schedule has so many steps, drawn from its seed, before the quiet that ends it."""

OFFSETS = (timedelta(hours=-3), timedelta(hours=3), timedelta(hours=5, minutes=45))
"""By so much may the offset of another zone differ."""

HOUR, DAY, YEAR = 3_600.0, 86_400.0, 365 * 86_400.0
RARE = {
    "take back row": 400,  # one that was made too late: once in some thousand schedules
    **dict.fromkeys(("conclude", "create pack", "replace pack", "delete pack", "lock"), 10),
    **dict.fromkeys(("create arm", "nas cancel"), 20),
    **dict.fromkeys(("nas list", "nas provision", "create row", "replace row", "answer"), 4),
}
"""Effects that a process seldom stands at: so many times as often it is killed there."""


class World:
    """A seeded run of one schedule. `run` raises Violation, or whatever fault the code under test raises."""

    def __init__(
        self,
        seed: int,
        *,
        steps: int | None = None,
        trace: list[str] | None = None,
        cover: Counter | None = None,
        left_out: frozenset[int] = frozenset(),
        **forced: Any,
    ) -> None:
        self.seed = seed
        self.packed = 0
        self.rng = random.Random(seed)
        self.cfg = replace(draw(self.rng), **forced)
        drawn = self.rng.randint(*STEPS)
        self.budget = steps or drawn
        self.left_out = left_out
        self.trace = trace
        self.covered = Counter() if cover is None else cover
        self.now = self.cfg.start + self.rng.random() * 600
        self.faults = True
        self.held = self.full = False
        self.steps = 0
        self.serial = 0
        self.tokens = 0
        self.skews = [0.0] * self.cfg.machines
        if self.cfg.machines > 1:
            self.skews = [self.rng.uniform(-20, 20) for _ in self.skews]
        self.leapt = [0.0] * self.cfg.machines
        # A clock may be put between a look and its write: then neither tells what was early, nor what is in time.
        self.loose_time = self.cfg.jumps or self.cfg.leaps
        self.store = Disk()
        self.layouts: list = [""]
        self.boots = [0] * self.cfg.machines
        self.broken: dict[str, dict] = {}
        self.parsed: dict = {}
        self.locked_by = None
        self.runs: dict = {}
        self.live: list = []
        self.overlapping: set[str] = set()
        self.tasks = Tasks()
        self.check = Check(self)
        self.nas = Server(self, self.cfg.characters)
        self.zone = ZoneInfo(self.cfg.zone)
        self.home = HomeDefaults(zone=self.zone, zone_name=self.cfg.zone)
        self.made = 0
        if self.cfg.knows:
            known = SlotMemory(portal_url="https://nas", audience="agent:1", delivered=self.cfg.knows,
                               since=datetime.fromtimestamp(self.now, UTC))  # fmt: skip
            self.store.create(MEMORY_KEY, json.dumps(known.to_json()).encode())

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
        return self.now + self.skews[task.machine] + self.leapt[task.machine]

    def wrote(self, key: str, task) -> None:
        self.check.wrote(key, task)

    def deleting(self, key: str) -> None:
        self.check.deleting(key)

    def fate_of_run(self, run) -> tuple[float, RunState]:
        if not self.faults:
            return 0.2, RunState.OK
        rng = self.rng
        if self.cfg.busy:
            return rng.choice((0.2, 70.0, 200.0, 400.0)), rng.choice((RunState.OK, RunState.OK, RunState.FAILED))
        result = rng.choice((RunState.OK, RunState.OK, RunState.FAILED, RunState.FAILED, RunState.INTERRUPTED))
        return rng.choice((0.2, 0.2, 3.0, 20.0, 70.0, 400.0)), result

    def rhythm_of(self, record):
        """The instants of a record's schedule, worked out here and not by the code under test."""
        schedule, ours = record["schedule"], record["chronos"]
        offset = 0.0
        if jitter := ours.get("policy", {}).get("jitter"):
            offset = jitter_of(record["id"], Policy(jitter=jitter)).total_seconds()
        if schedule["kind"] == "once":
            return rhythm.Single(stamp(schedule["run_at"]))
        if schedule["kind"] == "interval":
            period = float(schedule.get("seconds") or schedule["minutes"] * 60)
            return rhythm.Periodic(period, stamp(ours["anchor"]) + offset)
        return rhythm.cron(schedule["expr"], self.cfg.zone, self.cfg.put_at, offset)

    def context(self, task, *, budget: float | None = None) -> Context:
        def clock() -> datetime:
            return datetime.fromtimestamp(self.clock_of(task), UTC)

        def sleep(seconds: float) -> None:
            self.pause(task, "sleep", until=self.now + seconds)

        wire = NasTarget(
            portal_url="https://nas",
            callback_url="https://me",
            audience="agent:1",
            connect=lambda budget_s: SimNas(self, task, budget_s),
        )
        return Context(
            home=self.home,
            repository=SimRepository(self, SimStore(self, task), sleep),
            processes=SimProcesses(self, task),
            clock=clock,
            token=self.token,
            wire=wire if self.cfg.nas else None,
            steady=lambda: self.now,
            trust=Trust.UNHEARD if self.cfg.nas else Trust.ALONE,
            retention=Retention(keep=self.cfg.keep, days=30),
            budget_s=budget,
        )

    # -- processes ---------------------------------------------------------------------------------------------------

    def start_door(self, delivery, token: int, named: float | None) -> None:
        """A callback arrives."""
        start_door(self, delivery, token, named)

    def spawn(self, kind: str, job: str | None, body, machine: int | None = None, budget: float | None = None):
        where = self.rng.randrange(self.cfg.machines) if machine is None else machine

        def guarded(task):
            task.over = self.check.over_now(task)
            try:
                return body(task, self.context(task, budget=budget))
            except ChronosError as error:
                self.check.refused(task, error)
                task.failed = True
                self.log("%r: %s", task, error.line())
                self.cover("error", error.code)
                return None

        task = self.tasks.spawn(kind, where, job, guarded)
        task.began = self.now
        self.log("%r begins", task)
        return task

    def reconcile(self, ctx: Context, *, prune: bool = False) -> None:
        """In every other schedule arm documents are written in packs, whatever the number of jobs.

        Jobs get a document of their own at their first fire, so these are put into a pack first: packs play throughout.
        """
        if self.seed % 2 and len(self.tasks.all) == 1:  # nobody has just read one of them
            lines = {}
            for key in self.store.list("cron/arms/"):
                line = read_object(self.store.read(key).data)
                if line is not None:
                    lines[key.removeprefix("cron/arms/").removesuffix(".json")] = line
                    self.store.delete(key)
            if lines:
                self.packed += 1
                self.store.create(pack.pack_key(f"moved-{self.packed}"), pack.render(lines))
        reconciling.reconcile(ctx, removals=Removals(prune=prune), pack_from=1 if self.seed % 2 else 1_000)

    def notify(self, ctx: Context, job_id: str) -> None:
        """What a command tells the trigger provider after a change."""
        if ctx.wire is None:
            return
        if self.rng.random() < 0.3:
            self.tasks.current.job = None  # it now speaks about all jobs
            self.reconcile(ctx)
            return
        wake = looking.present_wake(ctx, job_id)
        with ctx.wire.connect(10.0) as nas:
            arming.arm(ctx, nas, job_id, wake)

    def schedule(self):
        rng = self.rng
        slow = self.cfg.slow or "clock behind" in self.cfg.characters
        kind = rng.random()
        if self.cfg.busy and not slow:
            return Interval(seconds=rng.choice((60, 60, 90, 300)))
        if self.cfg.put_at is not None and kind < 0.7:
            return Cron(expr=rng.choice((self.cfg.daily, self.cfg.daily, "0 * * * *", "*/30 * * * *")))
        if kind < 0.6:
            return Interval(seconds=rng.choice((60, 90, 300, 900, 3_600) if not slow else (900, 3_600)))
        if kind < 0.85:
            return Cron(expr=rng.choice(("*/5 * * * *", "0 * * * *", "30 2 * * *") if not slow else ("0 * * * *",)))
        return Once(at=datetime.fromtimestamp(int(self.now) + rng.choice((90, 400, 4_000)), UTC))

    def policy(self) -> Policy:
        rng = self.rng
        drawn = {
            "overlap": rng.choice(
                (Overlap.SKIP, Overlap.SKIP, Overlap.QUEUE, Overlap.QUEUE if self.cfg.busy else Overlap.ALLOW)
            ),
            "grace": rng.choice((86_400, 86_400, 86_400, 7_200, 120, 0)),
            "timeout": rng.choice((50, 300)),
            "retries": rng.choice((0, 0, 1, 2)),
            "on_crash": rng.choice((OnCrash.SKIP, OnCrash.RERUN)),
            "jitter": rng.choice((0, 0, 0, 40)),
            "pause_after_failures": rng.choice((0, 0, 0, 2)),
            "tolerance": TOLERANCE if SPREADS in self.nas.char else 0,
        }
        return Policy(**{**drawn, **self.cfg.policy})

    def draft(self, job_id: str) -> edits.JobDraft:
        policy, schedule = self.policy(), self.schedule()
        if policy.overlap is Overlap.ALLOW:
            self.overlapping.add(job_id)
        return edits.JobDraft(
            job_id=job_id,
            name=job_id,
            schedule=schedule,
            zone=self.zone,
            zone_name=self.cfg.zone,
            policy=policy,
            action={"shell": "true"},
            times=self.rng.choice((None, None, None, 2)),
        )

    # -- operations --------------------------------------------------------------------------------------------------

    def begin_operation(self) -> None:
        """Somebody does something."""
        rng = self.rng
        name = rng.choice(self.cfg.operations)
        whole = name in ("remove", "rot")
        present = [
            job for job, trace in self.check.jobs.items() if not trace.removed and (whole or job not in self.broken)
        ]
        if not present and name != "add":
            return
        if any(self.leapt) and name in ("add", "edit", "resume"):
            return  # a person looks at the clock, and what one asks for is carried out
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
        if policy is not None and policy.overlap is Overlap.ALLOW:
            self.overlapping.add(job)  # runs that were let overlap may still go when the policy changes again

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
        begun: list[launchers.Running] = []
        try:
            begun.extend(launchers.launch_each(ctx, looked, InlineLauncher()))
        finally:
            launchers.wait_for(begun)
        if not begun and looked.job is not None:
            run_end.rearm(ctx, job, looked.decision.wake)

    def op_tick(self, _: str) -> None:
        def body(task, ctx):
            ticked = ticking.tick(ctx, InlineLauncher(), max_parallel=self.rng.choice((0, 1)))
            task.failed = bool(ticked.failed or ticked.unarmed) or task.failed

        self.spawn("tick", None, body)

    def op_reconcile(self, _: str) -> None:
        if self.cfg.nas:
            self.spawn("reconcile", None, self._reconcile)

    def _reconcile(self, task, ctx) -> None:
        """From wherever: it may stand on another machine than the runs."""
        if any(run.machine != task.machine and run.goes(self.now) for run in self.live):
            self.cover("reconcile", "from another machine than a run's")
        self.reconcile(ctx)

    def op_hermes(self, job: str) -> None:
        """A hermes on the same home takes its own claim on a job, or gives it up."""
        name = self.rng.choice(("fire_claim", "run_claim"))

        def body(task, ctx):
            def claim(stored):
                record = stored.get(job)
                if record is None or str((record.get(name) or {}).get("by", "")).startswith("chronos:"):
                    return
                mine = None if record.get(name) else {"at": ctx.clock().isoformat(), "by": "elsewhere:77"}
                stored.put(job, {**record, name: mine})
                self.cover("hermes", f"{'takes' if mine else 'gives up'} its {name}")

            ctx.repository.change(claim)

        self.spawn("hermes", job, body)

    def _met(self, record) -> bool:
        going = any(task.kind == "hermes" for task in self.tasks.all)
        return going or any(self.check.foreign(record, name) for name in ("fire_claim", "run_claim"))

    def _hermes_ends(self, ctx, job: str) -> None:
        def clear(stored):
            record = stored.get(job)
            claims = [name for name in ("fire_claim", "run_claim") if self.check.foreign(record or {}, name)]
            if claims:
                stored.put(job, {**record, **dict.fromkeys(claims)})

        ctx.repository.change(clear)

    def op_probe(self, _: str) -> None:
        """`doctor --probe` has NAS call about the job that is none."""

        def body(task, ctx):
            if ctx.wire is None:
                return
            at = ctx.clock().replace(microsecond=0) + timedelta(seconds=3)
            probe.expect(ctx, probe.Probe(fire_at=at, sent_at=ctx.clock(), callback_url="https://me"))
            with ctx.wire.connect(10.0) as nas:
                nas.provision(ArmRequest(job_id=probe.PROBE_ID, fire_at=at, callback_url="https://me"))

        self.spawn("probe", probe.PROBE_ID, body)

    def op_move(self, _: str) -> None:
        """A person moves the jobs of a bucket from one layout to the other."""
        if self.cfg.apart:
            apart = self.rng.random() < 0.5

            def body(task, ctx):
                layout = ctx.repository.layout
                if layout.keep_apart() if apart else layout.keep_together():
                    self.cover("move", "apart" if apart else "together")

            self.spawn("move", None, body)

    def op_unlock(self, job: str) -> None:
        def body(task, ctx):
            unlock(ctx, job, who="test")
            self.notify(ctx, job)

        self.spawn("unlock", job, body)

    def op_hold(self, _: str) -> None:
        if not self.held:
            self.hold()
            self.loose_time = (
                True  # what is armed meanwhile stands 15 minutes ahead, and stays so until somebody arms again
            )
        else:
            self.lift()
            if self.cfg.nas:
                self.spawn("hold", None, lambda task, ctx: self.reconcile(ctx))

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
        before = self.now + self.skews[0]
        self.skews[0] = self.rng.choice((-3 * HOUR, -HOUR, -90.0, 0.0, 0.0, 90.0, 3 * HOUR))
        put = self.cfg.put_at
        if put is not None and self.rng.random() < 0.5:
            self.skews[0] = put - self.now + self.rng.choice((-2_000.0, 2_000.0))
        if put is not None and (before < put) != (self.now + self.skews[0] < put):
            self.cover("clock", f"jumps {'back' if self.skews[0] + self.now < put else 'ahead'} over a transition")
        self.log("the clock jumps to %+.0f s", self.skews[0])
        self.cover("clock", "back" if self.skews[0] < 0 else "ahead" if self.skews[0] else "right again")

    def op_leap(self, _: str) -> None:
        """A machine's clock jumps years, as after an empty battery, and is set right some time later."""
        machine = self.rng.randrange(self.cfg.machines)
        if not self.cfg.leaps or any(task.machine == machine for task in self.tasks.all):
            return
        if self.leapt[machine]:
            self.leapt[machine] = 0.0
        else:
            self.leapt[machine] = self.rng.choice(self.cfg.leap_by)
        self.log("the clock of machine %s leaps by %+.1f days", machine, self.leapt[machine] / DAY)
        self.cover(
            "clock",
            "leaps back" if self.leapt[machine] < 0 else "leaps ahead" if self.leapt[machine] else "back from a leap",
        )

    def op_reboot(self, _: str) -> None:
        """A machine goes down and comes up again: in order, or since its power was cut."""
        machine, cut = self.rng.randrange(self.cfg.machines), self.rng.random() < 0.7
        self.log("machine %s %s", machine, "loses its power" if cut else "is rebooted")
        for task in [task for task in self.tasks.all if task.machine == machine]:
            self._crash(task)
        self.boots[machine] += 1
        for run in self.runs.values():
            if run.machine == machine:
                run.killed = True
                if cut and not run.durable and self.rng.random() < 0.5:
                    run.concluded, run.said = None, False
        if cut and self.cfg.machines == 1:  # else the home is a bucket's
            self.check.cut(self.store.cut(self.rng))
        self.cover("reboot", "the power was cut" if cut else "in order")

    def op_disk(self, _: str) -> None:
        """The disk is full, or the bucket away, for a while: no document can be written."""
        self.full = not self.full
        self.log("no document can be written: %s", self.full)
        self.cover("disk", "takes no write" if self.full else "takes writes again")

    def op_rot(self, job: str) -> None:
        """A document is cut, emptied or garbled; the record of a job that was is put right by a person later."""
        kind = self.rng.choice(("row", "row", "arm", "record", "other"))
        if job in self.broken:
            self.put_right(job)
        elif kind == "record":
            if not any(task.job in (job, None) for task in self.tasks.all):
                self._rot_record(job)
        else:
            prefix = {"row": f"cron/runs/{job}/", "arm": f"cron/arms/{job}.json", "other": "cron/"}[kind]
            safe = (JOBS_KEY, JOB_PREFIX, ASIDE) + (() if kind != "other" else ("cron/runs/", "cron/arms/"))
            keys = [key for key in self.store.list(prefix) if not key.startswith(safe)]
            if not keys:
                return
            key = self.rng.choice(keys[-3:])
            data = self.store.read(key).data
            cut = data[: self.rng.randrange(len(data) or 1)]
            self.store.rot(key, self.rng.choice((*GARBAGE, cut, cut)))
            self.log("%s rots", key)
            self.check.rotted(key)
        self.cover("rot", kind)

    def op_offset(self, job: str) -> None:
        """The next time of a daily job is stored under another UTC offset, as by a program in another zone."""
        key = place_of(self.store, job)
        found = self.store.read(key)
        document = {"jobs": []} if found is None else json.loads(found.data)
        record = next((record for record in document["jobs"] if record["id"] == job), None)
        daily = record is not None and record["schedule"].get("expr", "* *").split()[1] != "*" and record["next_run_at"]
        if not daily or job in self.broken or any(task.job in (job, None) for task in self.tasks.all):
            return
        text = record["next_run_at"]
        at = datetime.fromisoformat(text)
        record["next_run_at"] = at.replace(tzinfo=timezone(at.utcoffset() + self.rng.choice(OFFSETS))).isoformat()
        self.check.meant[job, record["next_run_at"]] = self.check.meant.get((job, text), text)  # it may be moved twice
        self.store.rot(key, json.dumps(document).encode())
        self.log("the next time of %s is stored as %s", job, record["next_run_at"])
        self.cover("clock", "another offset")

    def _rot_record(self, job: str) -> None:
        key = place_of(self.store, job)
        document = json.loads(self.store.read(key).data)
        record = next(record for record in document["jobs"] if record["id"] == job)
        self.broken[job] = dict(record)
        deep: object = 1
        for _ in range(900):
            deep = [deep]
        record |= self.rng.choice(({"schedule": 5}, {"schedule": {"kind": "cron", "expr": "*/" + "9" * 5_000 + " * * * *"}},
                                   {"schedule": {"kind": "interval", "seconds": -5}}, {"deep": deep, "schedule": None}))  # fmt: skip
        self.store.rot(key, json.dumps(document).encode())
        self.log("the record of %s rots", job)
        self.check.excuse(job, "its record rotted")
        self.broken[job] = {"before": self.broken[job], "now": record}

    def put_right(self, job: str) -> None:
        """A person puts the record of a job right."""
        before = self.broken.pop(job)["before"]
        for task in self.tasks.all:
            task.blind = True  # it may have looked before
        key = place_of(self.store, job)
        found = self.store.read(key)
        document = {"jobs": []} if found is None else json.loads(found.data)
        if any(record["id"] == job for record in document["jobs"]):
            document["jobs"] = [before if record["id"] == job else record for record in document["jobs"]]
            self.store.rot(key, json.dumps(document).encode())
            self.log("the record of %s is put right", job)
            self.check.excuse(job, "its record was put right")

    def op_cancel(self, job: str) -> None:
        """A person drops a job's timer at NAS, whatever the job wants; the next reconcile arms it again."""

        def body(task, ctx):
            for done in reconciling.cancel(ctx, [job]):
                self.check.told_of_cancel(task, done.error)

        if self.cfg.nas:
            self.spawn("cancel", job, body)

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
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            self.op_add("")
        self._drain()
        answers.begin(self)
        self.steps = 0
        self.faults = True

    def _step(self) -> None:
        self.steps += 1
        rng = self.rng
        rng.seed(self.seed * 1_000_003 + self.steps)  # so that a step draws the same when another is left out
        if self.steps in self.left_out:
            return
        ready = [task for task in self.tasks.all if task.ready(self.now)]
        if self.chance(self.cfg.p_operation) and len(self.tasks.all) < 7:
            self.begin_operation()
            return
        if self.cfg.p_crash and self.tasks.all:
            often = max(max(RARE.get(task.label, 1), RARE.get(task.last, 1)) for task in self.tasks.all)
            if self.chance(self.cfg.p_crash * often):
                there = [task for task in self.tasks.all if often in (RARE.get(task.label, 1), RARE.get(task.last, 1))]
                self._crash(rng.choice(there))
                return
        if rng.random() < self.cfg.p_look:
            views.look(self)
        if ready and self.chance(self.cfg.p_stall):
            at = self.cfg.stall_at
            still = [t for t in ready if (t.label in at if at else t.label not in ("process start", "begin"))]
            if still:
                self._stall(rng.choice(still))
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

    def _stall(self, task) -> None:
        """A process stands still, and others go on."""
        task.until, task.cond = self.now + self.rng.choice((3.0, 40.0, 400.0, 4_000.0)), None
        self.log("%r stands still before %s", task, task.label)
        self.check.unheard = True  # NAS may not wait for it
        self.cover("process", "stands still")

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
        self.rng.seed(-self.seed - 1)
        self.faults = False
        self.skews, self.leapt = [0.0] * self.cfg.machines, [0.0] * self.cfg.machines
        for name in [name for name, trace in self.check.jobs.items() if not trace.removed and self._met(trace.record)]:
            self.spawn("hermes", name, lambda task, ctx, name=name: self._hermes_ends(ctx, name))
        self.nas.down = self.nas.refusing = self.full = False
        self.lift()
        for job in list(self.broken):
            self.put_right(job)
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
            if not self._in_hand() and not self.check.bare() and not self.check.stray():
                break
            self.log("---- time passes")
            self.now = max(self.now + 400.0, self.check.last_need() + 1.0)
            self._drain()
        self.check.quiet()
        views.look(self, over=True)
        if self.cfg.put_at is not None and self.cfg.start < self.cfg.put_at < self.now:
            self.cover("transition", f"{self.cfg.zone} {datetime.fromtimestamp(self.cfg.put_at, UTC):%Y-%m}")

    def _settle(self) -> None:
        if self.cfg.nas:
            everything_gone = all(trace.removed for trace in self.check.jobs.values())
            self.spawn("reconcile", None, lambda task, ctx: self.reconcile(ctx, prune=everything_gone))
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
