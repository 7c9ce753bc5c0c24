"""One client of NAS for all fires that a process serves, so that its connections are kept alive between them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from chronos_cli.nas_client.interface import Nas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chronos_cli.nas_client.interface import ArmAnswer, ArmList, ArmRequest, CallResult, CancelRequest


class NasPool:
    """Hands out one shared client per budget; `connect` takes the place of `Wire.connect`. Safe between threads."""

    def __init__(self, connect: Callable[[float], Nas]) -> None:
        self._connect = connect
        self._guard = threading.Lock()
        self._clients: dict[float, Nas] = {}

    def connect(self, budget_s: float) -> Nas:
        """The client for this budget; closing what is returned leaves its connections open. Raises ConfigError."""
        with self._guard:
            if budget_s not in self._clients:
                self._clients[budget_s] = self._connect(budget_s)
            return PooledNas(self._clients[budget_s])

    def close(self) -> None:
        """Let go of all connections."""
        with self._guard:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()


class PooledNas(Nas):
    """A client that others use too."""

    def __init__(self, client: Nas) -> None:
        self._client = client

    def provision(self, request: ArmRequest) -> ArmAnswer:
        """Arm one job."""
        return self._client.provision(request)

    def cancel(self, job_id: str, generation: int | None = None) -> None:
        """Drop a job's one-shot."""
        self._client.cancel(job_id, generation)

    def list(self) -> ArmList:
        """All that NAS holds for this agent."""
        return self._client.list()

    def apply(
        self,
        requests: Sequence[ArmRequest | CancelRequest],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[CallResult]:
        """Carry out many requests."""
        return self._client.apply(requests, progress=progress)

    def close(self) -> None:
        """Leave the connections to the others."""
