"""What `/metrics` shows: measured values only, in a registry of our own.

Counters are fed where things happen; gauges are functions asked at scrape time, so nobody has to keep them up to date.
Labels are route templates and methods we know, never what a client sent: a scanner must not grow our memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# Each counter would bring a second series with its birthday, which nobody reads.
disable_created_metrics()  # type: ignore[no-untyped-call]

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Asked(Collector):
    """Metrics whose values are asked for when somebody looks."""

    def __init__(self) -> None:
        self.all: dict[
            str, tuple[type[CounterMetricFamily] | type[GaugeMetricFamily], str, Callable[[], float]]
        ] = {}

    def collect(self) -> Iterator[Metric]:
        for name, (family, text, ask) in self.all.items():
            metric = family(name, text)
            metric.add_metric((), ask())
            yield metric

    def describe(self) -> list[Metric]:
        return []


class Metrics:
    """The program's metrics, all named `veza_…`, besides those of the process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests = Counter(
            "veza_http_requests",
            "REST requests answered",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "veza_http_request_seconds",
            "Time to answer a REST request",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._asked = _Asked()
        self.registry.register(self._asked)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def gauge(self, name: str, text: str, ask: Callable[[], float]) -> None:
        """Show what `ask()` returns under `name`; registering a name again replaces it."""
        self._asked.all[name] = (GaugeMetricFamily, text, ask)

    def counter(self, name: str, text: str, ask: Callable[[], float]) -> None:
        """The same for a count that only grows; shown as `name_total`."""
        self._asked.all[name] = (CounterMetricFamily, text, ask)

    def text(self) -> bytes:
        """The whole page, in Prometheus' text format."""
        return generate_latest(self.registry)
