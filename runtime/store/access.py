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
        client = StoreClient(mesh)
        service.metrics.register(ClientCollector(client))
        return client
    store = await open_couchbase(url)
    service.on_close(store.close)
    service.spawn(store.tidy(), "tidy-index", loop=True)
    service.metrics.register(CouchbaseCollector(store.statistics))
    return store


class ClientCollector(Collector):
    """``projectk_store_client_…``: this process's writes to the store process, and the messages they went in."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client

    def collect(self) -> Iterable[Metric]:
        note, prefix = self._client.statistics, "projectk_store_client"
        yield CounterMetricFamily(f"{prefix}_writes", "Writes sent to the store process", note.writes)
        yield CounterMetricFamily(f"{prefix}_messages", "Messages they were sent in", note.messages)
        yield CounterMetricFamily(f"{prefix}_refused", "Writes not sent: too many waited already", note.refused)
        yield GaugeMetricFamily(f"{prefix}_largest_message", "Most writes of one message so far", note.largest)
        yield GaugeMetricFamily(
            f"{prefix}_unanswered", "Writes that wait for an answer", self._client.unanswered_writes
        )


class CouchbaseCollector(Collector):
    """``projectk_couchbase_…``: calls under way and waiting, what went wrong by code, the index."""

    def __init__(self, statistics: Callable[[], dict[str, float]]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        for name, value in self._statistics().items():
            family = GaugeMetricFamily if name in _GAUGES else CounterMetricFamily
            yield family(f"projectk_couchbase_{name}", f"Store on Couchbase: {name}", value=value)
