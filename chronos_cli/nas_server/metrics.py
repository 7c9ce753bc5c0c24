"""Counters of this process, as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.nas_server.timers.model import DeliveryOutcome

LATENESS_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts requests, relays and how late they were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._wishes: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._late: Counter[float] = Counter()
        self._late_sum = 0.0
        self._late_count = 0
        self._relay_s = 0.0

    def request(self, route: str, status: int) -> None:
        """A request was answered."""
        with self._lock:
            self._requests[route, status] += 1

    def wish(self, kind: str) -> None:
        """A wish was carried out: provisioned, unchanged, cancelled, refused."""
        with self._lock:
            self._wishes[kind] += 1

    def relayed(self, outcome: DeliveryOutcome, *, lateness: float, seconds: float) -> None:
        """A delivery was attempted; `lateness` counts only for first attempts."""
        with self._lock:
            self._outcomes[outcome.fate.value] += 1
            self._statuses["none" if outcome.status is None else f"{outcome.status // 100}xx"] += 1
            self._relay_s += seconds
            if outcome.delivery.attempt == 1:
                self._late_count += 1
                self._late_sum += lateness
                for bound in LATENESS_BUCKETS_S:
                    if lateness <= bound:
                        self._late[bound] += 1
                        break

    def render(self, gauges: Mapping[str, tuple[str, float]], circuits: Mapping[str, str]) -> str:
        """The exposition. `gauges`: name to (help, value), read from the registry; `circuits`: host to its state."""
        lines: list[str] = []
        for name, (text, value) in gauges.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value:g}"]
        with self._lock:
            _counter(
                lines,
                "chronos_nas_requests_total",
                "Requests answered, by route and status.",
                {f'route="{route}",status="{status}"': count for (route, status), count in self._requests.items()},
            )
            _counter(
                lines,
                "chronos_nas_wishes_total",
                "Provisions and cancels, by what came of them.",
                {f'result="{kind}"': count for kind, count in self._wishes.items()},
            )
            _counter(
                lines,
                "chronos_nas_relays_total",
                "Delivery attempts, by outcome.",
                {f'outcome="{fate}"': count for fate, count in self._outcomes.items()},
            )
            _counter(
                lines,
                "chronos_nas_relay_answers_total",
                "Delivery attempts, by class of the answer.",
                {f'status="{status}"': count for status, count in self._statuses.items()},
            )
            _counter(lines, "chronos_nas_relay_seconds_total", "Time spent calling agents.", {"": self._relay_s})
            name = "chronos_nas_lateness_seconds"
            lines += [f"# HELP {name} From due to the start of the first attempt.", f"# TYPE {name} histogram"]
            total = 0
            for bound in LATENESS_BUCKETS_S:
                total += self._late[bound]
                lines.append(f'{name}_bucket{{le="{bound:g}"}} {total}')
            lines += [
                f'{name}_bucket{{le="+Inf"}} {self._late_count}',
                f"{name}_sum {self._late_sum:.6f}",
                f"{name}_count {self._late_count}",
            ]
        name = "chronos_nas_circuit_open"
        lines += [f"# HELP {name} Callback hosts whose breaker is not closed.", f"# TYPE {name} gauge"]
        lines += [f'{name}{{host="{host}",state="{state}"}} 1' for host, state in sorted(circuits.items())]
        return "\n".join(lines) + "\n"


def _counter(lines: list[str], name: str, text: str, values: Mapping[str, float]) -> None:
    lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
    lines += [f"{name}{{{labels}}} {value:g}" if labels else f"{name} {value:g}" for labels, value in values.items()]
