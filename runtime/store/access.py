"""How a member of the mesh reaches the store its settings name: by the store process or, for Couchbase, by itself."""

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from runtime.mesh.api import Mesh
from runtime.service import Service
from runtime.settings import Settings
from runtime.store.api import Store
from runtime.store.client import StoreClient
from runtime.store.opening import CouchbaseUrl, SqliteUrl, open_couchbase

_GAUGES = frozenset({"in_flight", "waiting", "longest_wait_ms", "index_suspects"})


async def reach_store(settings: Settings, mesh: Mesh) -> Store:
    """The caller closes it. The store process may still be starting: its calls say so. Raises StoreOpenError where
    Couchbase cannot be used."""
    if isinstance(settings.store_url, SqliteUrl):
        return StoreClient(mesh)
    return await open_couchbase(settings.store_url)


async def serve_store(service: Service, mesh: Mesh) -> Store:
    """The same for all of a service's life: closed at its very end, when nothing saves any more, its figures on
    /metrics, its index tidied. Raises StoreOpenError."""
    url = service.settings.store_url
    if not isinstance(url, CouchbaseUrl):
        return StoreClient(mesh)
    store = await open_couchbase(url)
    service.on_close(store.close)
    service.spawn(store.tidy(), "tidy-index", loop=True)
    service.metrics.register(CouchbaseCollector(store.statistics))
    return store


class CouchbaseCollector(Collector):
    """``projectk_couchbase_…``: calls under way and waiting, what went wrong by code, the index."""

    def __init__(self, statistics: Callable[[], dict[str, float]]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        for name, value in self._statistics().items():
            family = GaugeMetricFamily if name in _GAUGES else CounterMetricFamily
            yield family(f"projectk_couchbase_{name}", f"Store on Couchbase: {name}", value=value)
