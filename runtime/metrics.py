"""Prometheus metrics: one registry per service, and the small HTTP port of roles that have no HTTP of their own."""

import time
from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, Histogram, start_http_server
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

STAGES = ("starting", "ready", "draining", "stopping")
_LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


def process_registry() -> CollectorRegistry:
    """A registry with this process's memory, CPU and garbage collector in it."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Distribution:
    """A histogram's counts at the price of a search in a short tuple (the client library's own costs 14 us), for what
    is noted thousands of times a second. A collector yields its ``family`` when /metrics is read."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        self._name, self._text, self._bounds = name, text, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def saw(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self) -> HistogramMetricFamily:
        upto = list(accumulate(self._counts))
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        return HistogramMetricFamily(
            self._name, self._text, buckets=list(zip(names, upto, strict=True)), sum_value=self._sum
        )


class LoopLag:
    """How late the event loop wakes a sleeper: the first sign that something blocks it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "projectk_loop_lag_seconds", "How late the event loop ran", registry=registry, buckets=_LAG_BUCKETS_S
        )
        self._worst = Gauge("projectk_loop_lag_worst_seconds", "The worst lag since the start", registry=registry)
        self._worst_s = 0.0

    def saw(self, lag_s: float) -> None:
        self._seconds.observe(lag_s)
        if lag_s > self._worst_s:
            self._worst_s = lag_s
            self._worst.set(lag_s)


class ProcessHealth:
    """What ``projectk healthcheck`` reads: where the process is in its life, and for how long its loop has not run. The
    metrics' own thread answers also while the loop hangs, so the age tells it."""

    def __init__(self, registry: CollectorRegistry, role: str, node_id: str, stage: Callable[[], str]) -> None:
        stages = Gauge("projectk_process_stage", "1 for the stage it is in", ["role", "id", "stage"], registry=registry)

        def is_in(name: str) -> Callable[[], float]:
            return lambda: float(stage() == name)

        for name in STAGES:
            stages.labels(role, node_id, name).set_function(is_in(name))
        self._ran_s = time.monotonic()
        silent = Gauge("projectk_loop_silent_seconds", "Time since the event loop last ran", registry=registry)
        silent.set_function(lambda: time.monotonic() - self._ran_s)

    def loop_ran(self) -> None:
        self._ran_s = time.monotonic()


def serve_metrics(registry: CollectorRegistry, host: str = "127.0.0.1", port: int = 0) -> str:
    """Serve ``/metrics`` from a thread of its own (port 0: a free one); its URL. Raises OSError."""
    server, _thread = start_http_server(port, addr=host, registry=registry)
    return f"http://{host}:{server.server_address[1]}/metrics"
