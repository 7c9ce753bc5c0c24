"""The detached runner: handed one ticket on its stdin, it starts the job, says so, and sees it through.

Messages to its starter, JSON lines on a pipe: `running`, `lost` (another process started the run), `failed`
(nothing could be started), `ended` with the row, `done` when nothing is left to do. It imports nothing that a run does
not need, and NAS only at the end.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from chronos_cli.config import load_config
from chronos_cli.errors import ChronosError, ExitCode
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.firing.run import RunTicket, begin
from chronos_cli.running.runner_channel import begin_runner
from chronos_cli.running.signals import Interrupts

if TYPE_CHECKING:
    from chronos_cli.running.runner_channel import Reporter

ANSWERED_WITHIN_S: Final = 15.0
"""Time for the answer to our fire to leave once the run is over; arming, within 10 s, comes before it."""


def main(wrapper: tuple[str, ...] = ()) -> int:
    """Run the ticket on stdin; the exit code is that of the run. `wrapper`: what `spawn.death_wrapper` has found."""
    given, secrets, reporter = begin_runner(os.environ)
    try:
        with Interrupts() as interrupts:
            return _run(given, secrets, reporter, interrupts, wrapper)
    except ChronosError as error:
        reporter.send({"event": "failed", "detail": error.line()})
        return int(error.exit_code)


def _run(
    given: bytes, secrets: dict[str, str], reporter: Reporter, interrupts: Interrupts, wrapper: tuple[str, ...]
) -> int:
    payload = json.loads(given)
    launching = payload["launching"]
    environ = dict(os.environ)  # each look into os.environ decodes
    config = load_config(environ=environ, home=launching["home"], flags=launching.get("flags"))
    outside = ProcessEnvironment(
        environ=environ,
        secrets=secrets,
        interrupts=interrupts,
        budget_s=launching.get("budget_s"),
        wrapper=wrapper,
    )
    ctx = open_home(config, outside, armed=launching.get("armed", True))
    begun = begin(ctx, RunTicket.from_json(payload["claim"]))
    if begun is None:
        reporter.send({"event": "lost"})
        return ExitCode.OK
    reporter.send({"event": "running", "run": begun.row.run_id})
    # What the end needs; the starter has its message by now.
    from chronos_cli.operations.firing.run_end import wait_and_follow_up
    from chronos_cli.operations.firing.shared_end import EndRequest, EndResult
    from chronos_cli.running.end_channel import END_FD, ask_server

    def ask(request: EndRequest) -> EndResult | None:
        if begun.policy.on_failure:  # it is told by this runner, which goes on whatever becomes of the server
            return None
        answer = ask_server(END_FD, {**request.to_json(), "home": launching["home"]})
        try:
            return None if answer is None else EndResult.from_json(answer)
        except (KeyError, TypeError, ValueError):
            return None

    def settled() -> None:
        reporter.send({"event": "done"})
        reporter.wait_until_unread(ANSWERED_WITHIN_S)

    row = wait_and_follow_up(
        ctx,
        begun,
        ended=lambda row: reporter.send({"event": "ended", "row": row.to_json()}),
        settled=settled,
        waited_for=bool(launching.get("waited_for")),
        looks=bool(launching.get("looks")),
        server=ask if launching.get("shares_end") else None,
    )
    return ExitCode.OK if row.state.value == "ok" else ExitCode.JOB_FAILED
