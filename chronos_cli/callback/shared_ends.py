"""Serves the runners of this callback at their runs' ends, in a thread: those that come together share one write."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from chronos_cli.callback.after_response import alert_afterwards
from chronos_cli.frozen import replace
from chronos_cli.operations.firing.shared_end import EndRequest, look_together
from chronos_cli.running.end_channel import EndTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.shared_end import EndResult
    from chronos_cli.running.detach import Runners
    from chronos_cli.running.end_channel import RunnerRequest


class EndResponder:
    """Answers runners whose runs are over. Safe to share between threads."""

    def __init__(self, runners: Runners, log: Callable[[str], None]) -> None:
        """`runners`: what hands claims over, and from then on the way back to here with them."""
        self._runners = runners
        self._log = log
        self._contexts: Mapping[str, Context] = {}
        self._guard = threading.Lock()
        self._host = 0
        """The process whose thread answers: a copy of it needs one of its own."""

    def serve(self, home: str, ctx: Context) -> None:
        """Serve the runners of a home from now on."""
        with self._guard:
            if home not in self._contexts:
                self._contexts = {**self._contexts, home: ctx}
            if self._host == os.getpid():
                return
            self._host = os.getpid()
            try:
                channel = EndTransport()
                threading.Thread(target=self._go_on, args=(channel,), name="chronos-ends", daemon=True).start()
            except (OSError, RuntimeError):
                self._runners.end_fd = -1
                return  # runners then write themselves, as ever
            self._runners.end_fd = channel.far

    def _go_on(self, channel: EndTransport) -> None:
        while True:
            self.answer(channel.questions())

    def answer(self, questions: Sequence[RunnerRequest]) -> None:
        """Answer questions that came together, those about one home by one write."""
        homes: dict[str, list[tuple[RunnerRequest, EndRequest]]] = {}
        for question in questions:
            try:
                request = EndRequest.from_json(question.document)
                homes.setdefault(str(question.document["home"]), []).append((question, request))
            except (KeyError, ValueError):
                question.answer(None)
        for home, asked in homes.items():
            found: list[EndResult | None] = [None] * len(asked)
            try:
                if home in self._contexts:
                    found = self._look(self._contexts[home], [request for _, request in asked])
            except Exception as error:  # noqa: BLE001 - a fault of ours, said; the runners look themselves
                self._log(f"a fault: the ends of {len(asked)} runs could not be shared: {type(error).__name__}")
            for (question, _), follow_up in zip(asked, found, strict=True):
                question.answer(None if follow_up is None else follow_up.to_json())

    def _look(self, served: Context, requests: Sequence[EndRequest]) -> list[EndResult | None]:
        context = replace(served, outbox=[])
        try:
            return look_together(context, requests)
        finally:
            alert_afterwards(context)
