"""Processes of jobs on simulated machines: what holds their locks, how long they go, who can see them."""

from __future__ import annotations

from chronos_cli.core.decision import Liveness
from chronos_cli.core.row import RunState
from chronos_cli.running.interface import Attempt, Ended, Held, Processes

PLATFORM_S = 25.0
"""How long the platform lets a request take that it freezes afterwards."""


class SimRun:
    """One attempt: its lock, its supervisor, its process."""

    __slots__ = (
        "attempt",
        "began",
        "ends_at",
        "job_id",
        "killed",
        "machine",
        "pdeath",
        "released",
        "result",
        "run_id",
        "started",
        "supervisor",
        "token",
    )

    def __init__(self, token, supervisor, task, machine, pdeath, began) -> None:
        self.token, self.supervisor, self.machine, self.pdeath = token, supervisor, machine, pdeath
        self.job_id, self.run_id, self.attempt = task.job_id, task.run_id, task.attempt
        self.started = self.released = self.killed = False
        self.began = began
        self.ends_at, self.result = 0.0, RunState.OK

    def goes(self, now: float) -> bool:
        """Whether the job's process is there."""
        if not self.started or self.killed or now >= self.ends_at:
            return False
        return not (self.supervisor.dead and self.pdeath)


class SimProcesses(Processes):
    """The machine's side, as one process sees it."""

    def __init__(self, world, task) -> None:
        self.world, self.task = world, task

    def hold(self, task):
        world = self.world
        world.pause(self.task, "hold")
        token = world.token()
        pdeath = not world.chance(world.cfg.p_orphan)
        run = SimRun(token, self.task, task, self.task.machine, pdeath, world.now)
        world.runs[token] = run
        return SimHeld(world, self.task, run)

    def liveness(self, row):
        run = self.world.runs[row.owner["token"]]
        if run.machine != self.task.machine or (self.world.faults and self.world.chance(self.world.cfg.p_unseen)):
            self.world.cover("liveness", "unseen")
            return Liveness.UNSEEN
        alive = not run.supervisor.dead and not run.supervisor.done
        seen = Liveness.ALIVE if alive else Liveness.UNSEEN if run.released else Liveness.DEAD
        self.world.cover("liveness", seen.value)
        return seen

    def elapsed(self, owner):
        run = self.world.runs[owner["token"]]
        return self.world.now - run.began if run.machine == self.task.machine else None

    def end_leftovers(self, row):
        run = self.world.runs.get((row.owner or {}).get("token"))
        if run is None or run.machine != self.task.machine:
            return
        if run.goes(self.world.now):
            self.world.cover("liveness", "leftover killed")
        run.killed = True
        # Its supervisor sees the end of its job like any other.
        run.result = RunState.INTERRUPTED


class SimHeld(Held):
    def __init__(self, world, task, run) -> None:
        self.world, self.task, self.run = world, task, run
        self.owner = {"machine": run.machine, "token": run.token}

    def begin(self, *, lease_ends_at, timeout_s):
        world, run = self.world, self.run
        world.pause(self.task, "process start")
        if world.faults and world.chance(world.cfg.p_start_fails):
            world.cover("process", "cannot be started")
            raise OSError("no such program")
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

    def release(self) -> None:
        if not self.task.dead:
            self.run.released = True


class SimAttempt(Attempt):
    output = None

    def __init__(self, world, task, run) -> None:
        self.world, self.task, self.run = world, task, run

    def wait(self):
        world, run = self.world, self.run
        world.pause(self.task, "wait", until=run.ends_at, cond=lambda: run.killed or world.now >= run.ends_at)
        run.killed = True  # whatever is left of its group
        world.cover("process", run.result.value)
        return Ended(state=run.result, exit_status=0 if run.result is RunState.OK else 1)
