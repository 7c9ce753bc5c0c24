"""Processes of jobs on simulated machines: what holds their locks, how long they go, who can see them."""

from __future__ import annotations

from chronos_cli.core.decision import Liveness
from chronos_cli.core.row import RunState
from chronos_cli.errors import TemporaryError
from chronos_cli.running.interface import Attempt, AttemptEnd, LockedRun, Processes
from tests.sim.troubles import disk_fails, run_lock_fails

PLATFORM_S = 25.0
"""How long the platform lets a request take that it freezes afterwards."""


class SimRun:
    """One attempt: its lock, its supervisor, its process."""

    __slots__ = (
        "asked",
        "attempt",
        "began",
        "boot",
        "concluded",
        "durable",
        "ends_at",
        "job_id",
        "killed",
        "let_go",
        "machine",
        "noted",
        "pdeath",
        "released",
        "result",
        "run_id",
        "said",
        "started",
        "supervisor",
        "token",
    )

    def __init__(self, token, supervisor, task, machine, pdeath, began) -> None:
        self.token, self.supervisor, self.machine, self.pdeath = token, supervisor, machine, pdeath
        self.job_id, self.run_id, self.attempt = task.job_id, task.run_id, task.attempt
        self.asked = self.started = self.noted = self.let_go = self.released = self.killed = self.said = False
        self.concluded, self.began, self.durable, self.boot = None, began, False, 0
        self.ends_at, self.result = 0.0, RunState.OK

    def goes(self, now: float) -> bool:
        """Whether the job's process is there."""
        if not self.started or self.killed or now >= self.ends_at:
            return False
        return not (self.supervisor.dead and self.pdeath)

    def is_held(self, world) -> bool:
        """Whether its lock is held."""
        gone = self.supervisor.dead or self.supervisor.done or self.let_go
        return not gone and self.boot == world.boots[self.machine]


class SimProcesses(Processes):
    """The machine's side, as one process sees it."""

    def __init__(self, world, task) -> None:
        self.world, self.task = world, task

    def lock(self, task):
        world = self.world
        world.pause(self.task, "lock run")
        token = world.token()
        pdeath = not world.chance(world.cfg.p_orphan)
        if world.faults and world.chance(world.cfg.p_write_fails / 4):
            self.task.failed = True
            raise run_lock_fails(world)
        run = SimRun(token, self.task, task, self.task.machine, pdeath, world.now)
        run.boot = world.boots[run.machine]
        world.runs[token] = run
        return SimLockedRun(world, self.task, run)

    def liveness(self, row):
        run = self.world.runs[row.owner["token"]]
        self.task.saw[run.token] = run.said
        if run.machine != self.task.machine or (self.world.faults and self.world.chance(self.world.cfg.p_unseen)):
            self.world.cover("liveness", "unseen")
            self.task.blind = True
            return Liveness.UNSEEN
        if run.boot != self.world.boots[run.machine]:
            self.world.cover("liveness", "rebooted since")
            return Liveness.DEAD if self.results_are_seen else Liveness.UNSEEN
        alive = not run.supervisor.dead and not run.supervisor.done and not run.let_go
        seen = Liveness.ALIVE if alive else Liveness.UNSEEN if run.released else Liveness.DEAD
        if seen is Liveness.DEAD and not run.noted:
            seen = Liveness.UNSTARTED
        self.world.cover("liveness", seen.value)
        return seen

    def elapsed(self, owner):
        run = self.world.runs[owner["token"]]
        here = run.machine == self.task.machine and run.boot == self.world.boots[run.machine]
        return self.world.now - run.began if here else None

    @property
    def results_are_seen(self):
        return self.world.cfg.machines == 1  # else the home is a bucket's, and the locks are each machine's own

    def found(self, job_id, run_id):
        here = [run for run in reversed(self.world.runs.values())
                if (run.job_id, run.run_id, run.machine) == (job_id, run_id, self.task.machine) and not run.released]  # fmt: skip
        locks = [({"machine": run.machine, "token": run.token}, run.is_held(self.world)) for run in here]
        found = next((lock for lock in locks if lock[1]), locks[0] if locks else None)
        if found is not None:
            self.task.saw[f"{job_id}/{run_id}"] = self.world.runs[found[0]["token"]].said
        return found

    def result(self, row):
        run = self.world.runs.get((row.owner or {}).get("token"))
        if run is None or run.machine != self.task.machine or run.released:
            return None
        if run.concluded is not None:
            self.world.cover("liveness", "result found")
        return run.concluded

    def forget(self, row):
        run = self.world.runs.get((row.owner or {}).get("token"))
        if run is not None and run.machine == self.task.machine:
            self.world.check.forgotten(run, self.task)
            run.released = True

    def end_leftovers(self, row):
        run = self.world.runs.get((row.owner or {}).get("token"))
        if run is None or run.machine != self.task.machine:
            return
        if run.goes(self.world.now):
            self.world.cover("liveness", "leftover killed")
        run.killed = True
        # Its supervisor sees the end of its job like any other.
        run.result = RunState.INTERRUPTED

    def ask_to_end(self, row):
        self.world.pause(self.task, "ask to end")
        run = self.world.runs.get((row.owner or {}).get("token"))
        if run is None or run.machine != self.task.machine or not run.is_held(self.world):
            self.world.cover("replace", "waits for it")
            return False
        if self.world.faults and self.world.chance(self.world.cfg.p_write_fails):
            return False  # no room for the word
        self.world.cover("replace", "is asked to end")
        run.asked = True
        return True


class SimLockedRun(LockedRun):
    def __init__(self, world, task, run) -> None:
        self.world, self.task, self.run = world, task, run
        self.owner = {"machine": run.machine, "token": run.token}

    def begin(self, *, lease_ends_at, timeout_s):
        world, run = self.world, self.run
        world.pause(self.task, "process start")
        if world.faults and world.chance(world.cfg.p_start_fails):
            world.cover("process", "cannot be started")
            raise OSError("no such program")
        if world.faults and world.chance(world.cfg.p_write_fails / 4):
            world.cover("process", "cannot be noted as begun")
            raise disk_fails(world.rng)
        run.noted = True
        duration, run.result = world.fate_of_run(run)
        if duration > timeout_s:
            if world.cfg.mode == "frozen" and timeout_s < PLATFORM_S:
                world.cover("process", "ended before the platform's deadline")
            duration, run.result = timeout_s, RunState.TIMEOUT
        run.ends_at = world.now + duration
        if lease_ends_at is not None:  # Its supervisor ends it at the end of its lease, by its own clock.
            run.ends_at = min(run.ends_at, lease_ends_at.timestamp() - world.skews[run.machine])
        world.check.starting(run)
        run.started = True
        world.live.append(run)
        self.task.last = self.task.label
        world.log("process of %s %s attempt %s starts, for %ss", run.job_id, run.run_id, run.attempt, round(duration))
        world.pause(self.task, "process started")
        return SimAttempt(world, self.task, run)

    def conclude(self, result, *, durable):
        self.world.pause(self.task, "conclude")
        if self.world.faults and self.world.chance(self.world.cfg.p_write_fails):
            self.world.cover("store", "result cannot be written beside the lock")
            self.task.failed = True
            raise disk_fails(self.world.rng)
        self.run.concluded, self.run.said = result, True
        self.run.durable = self.run.durable or durable
        self.task.last = "conclude"

    def release(self, *, keep: bool = False) -> None:
        if not self.task.dead:
            if not keep:
                self.world.check.forgotten(self.run, self.task)
            self.run.let_go = True
            self.run.released = self.run.released or not keep


class SimAttempt(Attempt):
    output = None

    def __init__(self, world, task, run) -> None:
        self.world, self.task, self.run = world, task, run

    def wait(self):
        world, run = self.world, self.run
        world.pause(
            self.task, "wait", until=run.ends_at, cond=lambda: run.asked or run.killed or world.now >= run.ends_at
        )
        if run.asked and not run.killed and world.now < run.ends_at:
            run.result = RunState.INTERRUPTED
        run.killed = True  # whatever is left of its group
        world.cover("process", run.result.value)
        return AttemptEnd(state=run.result, exit_status=0 if run.result is RunState.OK else 1)

    def keep_output(self):
        if self.world.faults and self.world.chance(self.world.cfg.p_write_fails):
            self.world.cover("process", "its output cannot be kept")
            raise self.world.rng.choice((disk_fails(self.world.rng), TemporaryError("the bucket answered 503")))
