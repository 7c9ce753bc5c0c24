"""The two ways to start a run: in this process, which then sees it through, or in a runner that outlives it."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import TemporaryError
from chronos_cli.frozen import frozen, replace
from chronos_cli.operations.firing.run import BegunRun, RunTicket, begin
from chronos_cli.operations.firing.run_end import wait_and_follow_up

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.fire import Running
    from chronos_cli.running.detach import Runner, Runners

_FOREVER_S: Final = 10.0 * 365 * 86_400
STARTED_WITHIN_S: Final = 8.0
"""Time that a runner may take until it reports its run as running."""
WARM_WITHIN_S: Final = 4.0
"""Time that one of a warm runner may take until another is started in its place."""


class InlineLauncher:
    """Runs the job under this process."""

    def launch(self, ctx: Context, claim: RunTicket) -> InlineRun | None:
        """Begin the run here; None when somebody else has started it."""
        begun = begin(ctx, claim)
        return None if begun is None else InlineRun(ctx=ctx, begun=begun)


@frozen
class InlineRun:
    """A run under this process."""

    ctx: Context
    begun: BegunRun

    def wait(self) -> Row:
        """See it through."""
        return wait_and_follow_up(self.ctx, self.begun)

    def first_of(self, others: Sequence[Running]) -> Running:
        """Wait until one of these, itself among them, is over, and return it."""
        if self.begun.attempt is None:
            return self
        going = {run.begun.attempt: run for run in others if isinstance(run, InlineRun) and run.begun.attempt}
        return going[self.begun.attempt.first_of(tuple(going))]


class DetachedLauncher:
    """Runs the job under a runner of its own, `chronos fire --claimed RUN`.

    `launching` is what the runner is told beside its claim (home, overrides), never a secret; `secrets` reach it
    through a nameless file. `wait_s`: how long, from now, `wait` waits for the end (0: not at all, None: as long as it
    takes). One instance serves one fire.
    """

    def __init__(
        self,
        runners: Runners,
        *,
        launching: Mapping[str, object],
        environment: Mapping[str, str],
        secrets: Mapping[str, str],
        wait_s: float | None = 0.0,
    ) -> None:
        self._runners = runners
        self._launching = {**launching, "waited_for": wait_s != 0.0}
        self._environment = environment
        self._secrets = secrets
        self._until = None if wait_s is None else time.monotonic() + wait_s
        self._launched: list[DetachedRun] = []

    def answered(self) -> None:
        """The answer to the fire has left: its runners may go on to what they do after that."""
        for run in self._launched:
            run.close()

    def launch(self, ctx: Context, claim: RunTicket) -> DetachedRun | None:
        """Start the runner and wait until it says `running`. Raises TemporaryError when it does not in time.

        A warm runner that says nothing in time has its claim taken over by one that is started: under another token,
        so whichever of the two writes the row first has won it, and the other starts nothing.
        """
        handed = self._runners.hand_over(self._payload(claim), environment=self._environment, secrets=self._secrets)
        if handed is None:
            return self._heard(self._spawned(claim))
        if handed.message_comes(WARM_WITHIN_S):
            return self._heard(handed)
        handed.give_up()
        try:
            run = self._heard(self._spawned(replace(claim, starter=ctx.token())))
            if run is None and handed.message_comes(0.0):
                run, handed = self._heard(handed), None
        finally:
            if handed is not None:
                handed.close()
        return run

    def _payload(self, claim: RunTicket) -> bytes:
        return json.dumps({"claim": claim.to_json(), "launching": self._launching}).encode()

    def _spawned(self, claim: RunTicket) -> Runner:
        # -P: the worker's folder is not a place to import from.
        argv = (sys.executable, "-P", "-m", "chronos_cli", "fire", "--claimed", claim.entry.run)
        return self._runners.start(argv, self._payload(claim), environment=self._environment, secrets=self._secrets)

    def _heard(self, runner: Runner) -> DetachedRun | None:
        """The run, as its runner says first; None when somebody else has started it. Raises TemporaryError."""
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

    def wait(self) -> Row | None:
        """Its row, if it ends, and all that follows its end is done, within the time this waits; it goes on anyway."""
        from chronos_cli.core.row import Row

        until = time.monotonic() + _FOREVER_S if self._until is None else self._until
        row = None
        while (left := until - time.monotonic()) > 0:
            message = self._runner.next_message(left)
            if message is None:
                break  # no time is left, or the runner is over and the ledger tells the rest
            if message.get("event") == "ended":
                row = Row.from_json(message["row"])
            elif message.get("event") == "done":
                break
        return row

    def first_of(self, others: Sequence[Running]) -> Running:
        """Return itself: its runner sees it through, whether anybody waits or not."""
        del others
        return self

    def close(self) -> None:
        """The answer has left: the runner may go on to what it does after that."""
        self._runner.close()
