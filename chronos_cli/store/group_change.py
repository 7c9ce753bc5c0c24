"""Group commit of jobs.json: changes that meet in one process become one change of the file.

While one thread reads, changes and writes the jobs, others queue up behind it; the next one makes the changes of all
that wait, each by its own function and one after the other, and writes once. What each function returns, or raises,
is its caller's alone, and no result is returned before the write is done that it rests on.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from chronos_cli.errors import ChronosError, TemporaryError
from chronos_cli.store.interface import JOBS_KEY, VersionConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chronos_cli.store.jobsfile import JobsFile

T = TypeVar("T")


class PendingChange(Generic[T]):
    """One caller's change, and what became of it."""

    __slots__ = ("error", "fn", "over", "result", "tries")

    def __init__(self, fn: Callable[[JobsFile], T]) -> None:
        self.fn = fn
        self.tries = 0
        self.over = False
        self.result: T | None = None
        self.error: BaseException | None = None

    def done(self, result: T) -> None:
        """Note its result: what it rests on is stored."""
        self.result, self.over = result, True

    def fail(self, error: BaseException) -> None:
        """Note that nothing of it may count as stored."""
        self.error, self.over = error, True

    def outcome(self) -> T:
        """Return its result. Raises what it failed with."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value] # a result of type T has been noted


class GroupChange:
    """The changes of one document that a process makes. Safe to share between threads; each call waits for its own."""

    def __init__(
        self, *, once: Callable[[Sequence[PendingChange[object]]], None], pause: Callable[[int], None], attempts: int
    ) -> None:
        """`once` tries the changes of some members; one that is not over after it must look again, after `pause`."""
        self._once = once
        self._pause = pause
        self._attempts = attempts
        self._waiting: list[PendingChange[object]] = []
        self._guard = threading.Lock()
        self._turn = threading.Lock()

    def make(self, fn: Callable[[JobsFile], T]) -> T:
        """Make a change, alone or with those that wait. Raises what `fn` raises, and TemporaryError in the end."""
        member = PendingChange(fn)
        self._see_through([member])
        return member.outcome()

    def make_all(self, fns: Sequence[Callable[[JobsFile], T]]) -> list[T | ChronosError]:
        """Make several changes together; a ChronosError that one raises stands in the place of its result."""
        members = [PendingChange(fn) for fn in fns]
        self._see_through(members)
        return [member.error if isinstance(member.error, ChronosError) else member.outcome() for member in members]

    def _see_through(self, members: Sequence[PendingChange[T]]) -> None:
        """Return once these are over, made by this thread or another."""
        with self._guard:
            self._waiting += members  # type: ignore[arg-type] # each is given back only to its own caller
        while waiting := [member for member in members if not member.over]:
            with self._turn:
                if not all(member.over for member in waiting):
                    self._lead()
            tries = max((member.tries for member in waiting if not member.over), default=0)
            if tries:
                self._pause(tries)

    def _lead(self) -> None:
        """Try all that wait; those that must look again wait on, until the first of them tries again."""
        with self._guard:
            group, self._waiting = self._waiting, []
        try:
            self._once(group)
        except BaseException:
            for member in group:
                if not member.over:  # its thread would wait for ever
                    member.fail(TemporaryError("the change was given up: what made it with others was stopped"))
            raise
        again = [member for member in group if not member.over]
        for member in again:
            member.tries += 1
            if member.tries >= self._attempts:
                member.fail(TemporaryError(f"{JOBS_KEY} changed under every attempt"))
        with self._guard:
            self._waiting[:0] = [member for member in again if not member.over]


def apply_each(jobs: JobsFile, group: Sequence[PendingChange[object]]) -> list[tuple[PendingChange[object], object]]:
    """Run the changes of a group, one after the other, and return those whose results rest on a write of `jobs`.

    One that fails leaves `jobs` as it was before it, and the others go on. One that has seen what an earlier one
    changed waits for the write too: what it says is true only then.
    """
    resting = []
    for member in group:
        before = jobs.mark()
        try:
            result = member.fn(jobs)
        except VersionConflict:
            jobs.reset(before)  # what it has read beside the jobs has changed: it looks again
        except Exception as error:  # noqa: BLE001 - raised again in the thread whose change it is
            jobs.reset(before)
            member.fail(error)
        else:
            if jobs.changed:
                resting.append((member, result))
            else:
                member.done(result)
    return resting
