"""Simulated processes: each is a greenlet that hands control back to the driver before every effect it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable


class Crash(BaseException):
    """A process is killed here. No `except` of the code under test may catch it."""


class Task:
    """One process on one machine: a door serving a fire, a runner, a tick, a command."""

    __slots__ = (
        "after",
        "began",
        "blind",
        "cancelled",
        "cond",
        "dead",
        "done",
        "failed",
        "glet",
        "held",
        "job",
        "kind",
        "label",
        "last",
        "machine",
        "number",
        "over",
        "result",
        "runners",
        "saw",
        "settled",
        "touched",
        "until",
    )

    def __init__(self, number: int, kind: str, machine: int, job: str | None) -> None:
        self.number, self.kind, self.machine, self.job = number, kind, machine, job
        self.began = 0.0
        self.until: float | None = None
        self.cond: Callable[[], object] | None = None
        self.label = "begin"
        self.last = ""
        self.done = False
        self.dead = False
        self.failed = False
        self.after = False
        self.blind = False
        self.saw: dict[str, bool] = {}
        self.over: list[tuple[str, str]] = []
        self.held = False
        self.settled = False
        self.touched = False
        self.cancelled: set[str] = set()
        self.result: object = None
        self.runners: list[Task] = []
        self.glet: greenlet | None = None

    def __repr__(self) -> str:
        return f"{self.kind}#{self.number}@{self.machine}" + (f"({self.job})" if self.job else "")

    def ready(self, now: float) -> bool:
        """Whether it may go on: its moment has come, or what it waits for."""
        if self.cond is not None and self.cond():
            return True
        return (self.until is None and self.cond is None) or (self.until is not None and now >= self.until)


class Tasks:
    """All processes, and the switching between them and the driver."""

    def __init__(self) -> None:
        self.driver = getcurrent()
        self.all: list[Task] = []
        self.count = 0
        self.current: Task | None = None

    def spawn(self, kind: str, machine: int, job: str | None, body: Callable[[Task], object]) -> Task:
        """Make a process; it begins when the driver first resumes it."""
        self.count += 1
        task = Task(self.count, kind, machine, job)

        def main() -> None:
            try:
                task.result = body(task)
            except Crash:
                task.dead = True
            finally:
                task.done = True

        task.glet = greenlet(main, self.driver)
        self.all.append(task)
        return task

    def pause(
        self, task: Task, label: str, *, until: float | None = None, cond: Callable[[], object] | None = None
    ) -> None:
        """Called by a process before an effect: the driver decides when, and whether, it goes on."""
        if task.dead:
            raise Crash
        task.label, task.until, task.cond = label, until, cond
        self.driver.switch()
        if task.dead:
            raise Crash

    def resume(self, task: Task) -> None:
        """Let a process go on to its next pause. What it raises (a fault of the code under test) comes out here."""
        task.until = task.cond = None
        self.current = task
        try:
            task.glet.switch()
        finally:
            self.current = None
            if task.done:
                self.all.remove(task)
                task.glet = None

    def kill(self, task: Task) -> None:
        """Kill -9."""
        task.dead = True
        if task.glet:
            task.glet.throw(Crash)
        task.done = True
        if task in self.all:
            self.all.remove(task)

    def kill_all(self) -> None:
        """End what is left, so that no greenlet outlives its world."""
        for task in list(self.all):
            self.kill(task)
