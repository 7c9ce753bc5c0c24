"""One client of NAS for all fires that a process serves, so that its connections are kept alive between them."""

from __future__ import annotations

import threading
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from chronos_cli.nas_client.interface import Nas


class NasPool:
    """One shared client per budget; `connect` takes the place of `NasTarget.connect`. Safe between threads."""

    def __init__(self, connect: Callable[[float], AbstractContextManager[Nas]]) -> None:
        self._connect = connect
        self._guard = threading.Lock()
        self._open = ExitStack()
        self._clients: dict[float, Nas] = {}

    def connect(self, budget_s: float) -> AbstractContextManager[Nas]:
        """Return the client for this budget; leaving what is returned leaves its connections open.

        Raises ConfigError.
        """
        with self._guard:
            if budget_s not in self._clients:
                self._clients[budget_s] = self._open.enter_context(self._connect(budget_s))
            return nullcontext(self._clients[budget_s])

    def close(self) -> None:
        """Let go of all connections."""
        with self._guard:
            self._clients.clear()
            self._open.close()
