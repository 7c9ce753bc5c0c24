"""Start runs and wait for them: in this process, which then sees them through, or each in a runner that outlives it."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Final, Protocol

from chronos_cli.errors import ChronosError, TemporaryError
from chronos_cli.frozen import replace
from chronos_cli.operations.firing.run import BegunRun, RunTicket, begin
from chronos_cli.operations.firing.run_end import end_and_begin, end_what_followed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.evaluate import Evaluation
    from chronos_cli.running.detach import Runner, Runners

_FOREVER_S: Final = 10.0 * 365 * 86_400
STARTED_WITHIN_S: Final = 8.0
"""Time that a runner may take until it reports its run as running."""
WARM_WITHIN_S: Final = 4.0
"""Time that one of a warm runner may take until another is started in its place."""


class Running(Protocol):
    """A run that was started, here or in a process of its own."""

    def wait(self) -> Row | None:
        """Return its row at the end, or None where this does not wait for it."""

    def first_of(self, others: Sequence[Running]) -> Running:
        """Wait until one of these, itself among them, may be waited for without keeping others; return it."""


class Launcher(Protocol):
    """Way of starting runs: in this process, or each in one that outlives it."""

    def launch(self, ctx: Context, ticket: RunTicket) -> Running | None:
        """Start a run, and return once its row says running; None when another process has started it.

        Raises ChronosError or OSError when it cannot be started.
        """


class InlineLauncher:
    """Runs jobs under this process, side by side: what one is followed by keeps no other from being recorded."""

    def __init__(self) -> None:
        self._runs: list[InlineRun] = []

    def launch(self, ctx: Context, ticket: RunTicket) -> InlineRun | None:
        """Begin the run here; None when another process has started it."""
        begun = begin(ctx, ticket)
        if begun is None:
            return None
        self._runs.append(InlineRun(self, ctx, begun))
        return self._runs[-1]

    def see_to_the_next(self) -> None:
        """Wait for the first end among all that goes here, record it, and begin what waited behind it."""
        going = [(run, begun) for run in self._runs for begun in run.going]
        ended = next((pair for pair in going if pair[1].attempt is None), None)
        if ended is None:
            attempts = {begun.attempt: (run, begun) for run, begun in going if begun.attempt is not None}
            ended = attempts[next(iter(attempts)).first_of(tuple(attempts))]
        ended[0].follow(ended[1])


class InlineRun:
    """A run under this process. `going`: itself, and what its end has begun, as far as that goes."""

    def __init__(self, launcher: InlineLauncher, ctx: Context, begun: BegunRun) -> None:
        self.going = [begun]
        self._launcher, self._ctx, self._begun = launcher, ctx, begun
        self._row: Row | None = None
        self._trouble: Exception | None = None

    def follow(self, ended: BegunRun) -> None:
        """Record one that is over, and begin what follows."""
        self.going.remove(ended)
        if ended is not self._begun:
            end_what_followed(self._ctx, ended, self.going)
            return
        try:
            self._row = end_and_begin(self._ctx, ended, self.going)
        except Exception as error:  # noqa: BLE001 - raised in `wait`: the others go on
            self._trouble = error

    def wait(self) -> Row | None:
        """See it through, and what its end begins. Raises TemporaryError where its end could not be recorded."""
        while self.going:
            self._launcher.see_to_the_next()
        if self._trouble is not None:
            raise self._trouble
        return self._row

    def first_of(self, others: Sequence[Running]) -> Running:
        """Wait until one of these, itself among them, is over with all that it began, and return it."""
        while True:
            over = next((run for run in others if isinstance(run, InlineRun) and not run.going), None)
            if over is not None:
                return over
            self._launcher.see_to_the_next()


class DetachedLauncher:
    """Runs the job under a runner of its own, `chronos fire --claimed RUN`, or a fork of this process.

    `launching` is what the runner is told beside its ticket (home, overrides), never a secret; `secrets` reach it
    through a nameless file. `wait_s`: how long, from now, `wait` waits for the end (0: not at all, None: as long as it
    takes). `forks`: this process ends soon, and is forked for a runner where it has one thread. One instance serves one
    fire.
    """

    def __init__(
        self,
        runners: Runners,
        *,
        launching: Mapping[str, object],
        environment: Mapping[str, str],
        secrets: Mapping[str, str],
        wait_s: float | None = 0.0,
        forks: bool = False,
    ) -> None:
        self._runners = runners
        self._forks = forks
        self._launching = {**launching, "waited_for": wait_s != 0.0}
        self._environment = environment
        self._secrets = secrets
        self._until = None if wait_s is None else time.monotonic() + wait_s
        self._launched: list[DetachedRun] = []

    def answered(self) -> None:
        """Let the runners go on to what they do after the answer to the fire, which has left."""
        for run in self._launched:
            run.close()

    def launch(self, ctx: Context, ticket: RunTicket) -> DetachedRun | None:
        """Start the runner and wait until it says `running`. Raises TemporaryError when it does not in time.

        A warm runner that says nothing in time has its ticket taken over by one that is started: under another token,
        so whichever of the two writes the row first has won it, and the other starts nothing.
        """
        shares_end = self._runners.end_fd >= 0 and not self._launching["waited_for"]
        payload = self._payload(ticket, shares_end=shares_end)
        handed = self._runners.hand_over(payload, environment=self._environment, secrets=self._secrets)
        if handed is None:
            return self._heard(self._spawned(ticket))
        if handed.message_comes(WARM_WITHIN_S):
            return self._heard(handed)
        handed.give_up()
        try:
            run = self._heard(self._spawned(replace(ticket, starter=ctx.token())))
            if run is None and handed.message_comes(0.0):
                run, handed = self._heard(handed), None
        finally:
            if handed is not None:
                handed.close()
        return run

    def _payload(self, ticket: RunTicket, *, shares_end: bool = False) -> bytes:
        launching = {**self._launching, "shares_end": shares_end}
        return json.dumps({"claim": ticket.to_json(), "launching": launching}).encode()

    def _spawned(self, ticket: RunTicket) -> Runner:
        payload = self._payload(ticket)
        if self._forks:
            from chronos_cli.operations.firing.forked import be_runner

            forked = self._runners.fork(payload, be_runner, environment=self._environment, secrets=self._secrets)
            if forked is not None:
                return forked
        # -P: the worker's folder is not a place to import from.
        argv = (sys.executable, "-P", "-m", "chronos_cli", "fire", "--claimed", ticket.entry.run)
        return self._runners.start(argv, payload, environment=self._environment, secrets=self._secrets)

    def _heard(self, runner: Runner) -> DetachedRun | None:
        """Return the run, as its runner says first; None when another process has started it. Raises TemporaryError."""
        message = runner.next_message(STARTED_WITHIN_S)
        if message is None or message.get("event") == "failed":
            detail = message.get("detail") if message else runner.stray.strip().rpartition("\n")[2]
            runner.close()
            raise TemporaryError(f"the runner did not start the job: {detail or 'it said nothing in time'}")
        if message.get("event") == "lost":
            runner.close()
            return None
        run = DetachedRun(runner, self._until)
        self._launched.append(run)
        return run


class DetachedRun:
    """A run under a runner of its own."""

    def __init__(self, runner: Runner, until: float | None) -> None:
        self._runner = runner
        self._until = until
        self._row: Row | None = None
        self._over = False

    def wait(self) -> Row | None:
        """Return its row, if it ends, and all that follows its end is done, within the time this waits.

        It goes on anyway.
        """
        until = time.monotonic() + _FOREVER_S if self._until is None else self._until
        while not self._over and (left := until - time.monotonic()) > 0:
            self._hear(left)
        return self._row

    def _hear(self, timeout_s: float) -> bool:
        """Take in what the runner says next, within that time; whether it said something."""
        from chronos_cli.core.row import Row

        message = self._runner.next_message(timeout_s)
        if message is None:
            self._over = self._runner.closed  # the ledger tells the rest
        elif message.get("event") == "ended":
            self._row = Row.from_json(message["row"])
        elif message.get("event") == "done":
            self._over = True
        return message is not None

    def first_of(self, others: Sequence[Running]) -> Running:
        """Wait until one of these, itself among them, is over, and return it; itself where it is not waited for.

        Their runners see them through, whether anybody waits or not.
        """
        from chronos_cli.running.detach import wait_for_words

        going = [run for run in others if isinstance(run, DetachedRun)]
        while self._until is None:
            for run in going:
                while not run._over and run._hear(0.0):  # noqa: SLF001 - its own kind
                    pass
                if run._over:  # noqa: SLF001
                    return run
            wait_for_words([run._runner for run in going])  # noqa: SLF001
        return self

    def close(self) -> None:
        """Let the runner go on to what it does after the answer, which has left."""
        self._runner.close()


def launch_each(ctx: Context, looked: Evaluation, launcher: Launcher) -> Iterator[Running]:
    """Start the runs a look decided on, one after the other. Raises what the launcher raises."""
    if looked.job is None:
        return
    for start in looked.decision.starts:
        running = launcher.launch(ctx, RunTicket.of(looked.job, start, ctx.token()))
        if running is not None:
            yield running


def wait_for(running: Iterable[Running]) -> tuple[tuple[Row, ...], list[ChronosError]]:
    """Wait for all these runs, also after one fails; return the rows of those that ended, and the errors.

    Runs under this process are followed up as they end. A run that is not waited for would die with the process.
    """
    rows: list[Row] = []
    trouble: list[ChronosError] = []
    faults: list[Exception] = []
    going = list(running)
    while going:
        run = going[0].first_of(going)
        going.remove(run)
        try:
            row = run.wait()
        except ChronosError as error:
            trouble.append(error)
        except Exception as error:  # noqa: BLE001 - raised when nothing goes any more
            faults.append(error)
        else:
            rows += [] if row is None else [row]
    if faults:
        raise faults[0]
    return tuple(rows), trouble
