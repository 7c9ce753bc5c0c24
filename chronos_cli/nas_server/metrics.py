"""Counters of this process, as Prometheus reads them: kept and written by its own client library."""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import Metric

    from chronos_cli.nas_server.timers.model import DeliveryOutcome

LATENESS_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

MAX_HOSTS: Final = 100
"""The most hosts that are named: agents choose them, and each is a series of its own in the database of metrics."""


class Metrics:
    """Counts requests, relays and how late they were."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests answered, by route and status.", "route", "status")
        self._wishes = self._counter("wishes", "Provisions and cancels, by what came of them.", "result")
        self._outcomes = self._counter("relays", "Delivery attempts, by outcome.", "outcome")
        self._answers = self._counter("relay_answers", "Delivery attempts, by class of the answer.", "status")
        self._seconds = self._counter("relay_seconds", "Time spent calling agents.")
        self._late = Histogram(
            "chronos_nas_lateness_seconds",
            "From due to the start of the first attempt.",
            buckets=LATENESS_BUCKETS_S,
            registry=self._registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"chronos_nas_{name}_total", text, labels, registry=self._registry)

    def request(self, route: str, status: int) -> None:
        """Count a request that was answered. `route`: one of ours, or `other`."""
        self._requests.labels(route, str(status)).inc()

    def wish(self, kind: str) -> None:
        """Count a wish that was carried out: provisioned, unchanged, cancelled, refused."""
        self._wishes.labels(kind).inc()

    def relayed(self, outcome: DeliveryOutcome, *, lateness: float, seconds: float) -> None:
        """Count an attempt to deliver; `lateness` counts only for first attempts."""
        self._outcomes.labels(outcome.fate.value).inc()
        self._answers.labels("none" if outcome.status is None else f"{outcome.status // 100}xx").inc()
        self._seconds.inc(max(0.0, seconds))
        if outcome.delivery.attempt == 1:
            self._late.observe(lateness)

    def render(self, gauges: Mapping[str, tuple[str, float]], circuits: Mapping[str, str]) -> bytes:
        """Return the exposition.

        `gauges`: name to (help, value), read from the registry; `circuits`: host to its state.
        """
        snapshot = CollectorRegistry()
        snapshot.register(_Snapshot(gauges, circuits))
        return generate_latest(self._registry) + generate_latest(snapshot)


class _Snapshot:
    """Values that are read when they are asked for."""

    def __init__(self, gauges: Mapping[str, tuple[str, float]], circuits: Mapping[str, str]) -> None:
        self._gauges, self._circuits = gauges, circuits

    def collect(self) -> Iterator[Metric]:
        """Yield them as Prometheus' client has them."""
        for name, (text, value) in self._gauges.items():
            yield GaugeMetricFamily(name, text, value=value)
        hosts = GaugeMetricFamily(
            "chronos_nas_circuit_open",
            f"Callback hosts whose breaker is not closed, {MAX_HOSTS} at most.",
            labels=["host", "state"],
        )
        for host, state in sorted(self._circuits.items())[:MAX_HOSTS]:
            hosts.add_metric([host, state], 1)
        yield hosts
        states = GaugeMetricFamily("chronos_nas_circuits", "How many such hosts there are, by state.", labels=["state"])
        for state, count in sorted(Tally(self._circuits.values()).items()):
            states.add_metric([state], count)
        yield states
