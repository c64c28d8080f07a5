"""Prometheus metrics: one registry per service, and the small HTTP port of roles that have no HTTP of their own."""

from prometheus_client import CollectorRegistry, Gauge, Histogram, start_http_server
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


def process_registry() -> CollectorRegistry:
    """A registry with this process's memory, CPU and garbage collector in it."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


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


def serve_metrics(registry: CollectorRegistry, host: str = "127.0.0.1") -> str:
    """Serve ``/metrics`` from a thread of its own on a free port; its URL."""
    server, _thread = start_http_server(0, addr=host, registry=registry)
    return f"http://{host}:{server.server_address[1]}/metrics"
