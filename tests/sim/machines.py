"""Processes of jobs on simulated machines: what holds their locks, how long they go, who can see them."""

from __future__ import annotations

from chronos_cli.core.decision import Liveness
from chronos_cli.core.row import RunState
from chronos_cli.running.interface import Attempt, AttemptEnd, Processes, RunHold

PLATFORM_S = 25.0
"""How long the platform lets a request take that it freezes afterwards."""


class SimRun:
    """One attempt: its lock, its supervisor, its process."""

    __slots__ = (
        "attempt",
        "began",
        "concluded",
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
        "started",
        "supervisor",
        "token",
    )

    def __init__(self, token, supervisor, task, machine, pdeath, began) -> None:
        self.token, self.supervisor, self.machine, self.pdeath = token, supervisor, machine, pdeath
        self.job_id, self.run_id, self.attempt = task.job_id, task.run_id, task.attempt
        self.started = self.noted = self.let_go = self.released = self.killed = False
        self.concluded, self.began = None, began
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
        alive = not run.supervisor.dead and not run.supervisor.done and not run.let_go
        seen = Liveness.ALIVE if alive else Liveness.UNSEEN if run.released else Liveness.DEAD
        if seen is Liveness.DEAD and not run.noted:
            seen = Liveness.UNSTARTED
        self.world.cover("liveness", seen.value)
        return seen

    def elapsed(self, owner):
        run = self.world.runs[owner["token"]]
        return self.world.now - run.began if run.machine == self.task.machine else None

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


class SimHeld(RunHold):
    def __init__(self, world, task, run) -> None:
        self.world, self.task, self.run = world, task, run
        self.owner = {"machine": run.machine, "token": run.token}

    def begin(self, *, lease_ends_at, timeout_s):
        world, run = self.world, self.run
        world.pause(self.task, "process start")
        if world.faults and world.chance(world.cfg.p_start_fails):
            world.cover("process", "cannot be started")
            raise OSError("no such program")
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
            raise OSError("no space left on device")
        self.run.concluded = result
        self.task.last = "conclude"

    def release(self, *, keep: bool = False) -> None:
        if not self.task.dead:
            self.run.let_go = True
            self.run.released = self.run.released or not keep


class SimAttempt(Attempt):
    output = None

    def __init__(self, world, task, run) -> None:
        self.world, self.task, self.run = world, task, run

    def wait(self):
        world, run = self.world, self.run
        world.pause(self.task, "wait", until=run.ends_at, cond=lambda: run.killed or world.now >= run.ends_at)
        run.killed = True  # whatever is left of its group
        world.cover("process", run.result.value)
        return AttemptEnd(state=run.result, exit_status=0 if run.result is RunState.OK else 1)
