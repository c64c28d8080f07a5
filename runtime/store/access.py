"""How a member of the mesh reaches the store its settings name: by the store process or, for Couchbase, by itself."""

from collections.abc import Callable, Iterable
from dataclasses import fields

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from runtime.mesh.api import Mesh
from runtime.service import Service
from runtime.settings import Settings
from runtime.store.api import Store
from runtime.store.client import StoreClient
from runtime.store.link import LinkStatistics, StoreLink
from runtime.store.opening import CouchbaseUrl, SqliteUrl, open_couchbase

_GAUGES = frozenset({"in_flight", "waiting", "longest_wait_ms", "index_suspects"})


async def reach_store(settings: Settings, mesh: Mesh) -> Store:
    """For a few calls; the caller closes it. The store process may still be starting: its calls say so. Raises
    StoreOpenError where Couchbase cannot be used."""
    if isinstance(settings.store_url, SqliteUrl):
        return StoreClient(mesh)
    return await open_couchbase(settings.store_url)


async def serve_store(service: Service, mesh: Mesh) -> Store:
    """The same for all of a service's life, by a stream of its own where it is the store process: closed at its very
    end, when nothing saves any more, its figures on /metrics, its index tidied. Raises StoreOpenError."""
    url = service.settings.store_url
    if not isinstance(url, CouchbaseUrl):
        link = StoreLink(mesh)
        client = StoreClient(link, at_close=link.close)
        service.on_close(client.close)
        service.metrics.register(ClientCollector(client, link.statistics))
        return client
    store = await open_couchbase(url)
    service.on_close(store.close)
    service.spawn(store.tidy(), "tidy-index", loop=True)
    service.metrics.register(CouchbaseCollector(store.statistics))
    return store


class ClientCollector(Collector):
    """``projectk_store_client_…``: this process's writes to the store process, the messages they went in, and which
    way its calls went."""

    def __init__(self, client: StoreClient, link: LinkStatistics) -> None:
        self._client = client
        self._link = link

    def collect(self) -> Iterable[Metric]:
        note, prefix = self._client.statistics, "projectk_store_client"
        yield CounterMetricFamily(f"{prefix}_writes", "Writes sent to the store process", note.writes)
        yield CounterMetricFamily(f"{prefix}_messages", "Messages they were sent in", note.messages)
        yield CounterMetricFamily(f"{prefix}_refused", "Writes not sent: too many waited already", note.refused)
        yield GaugeMetricFamily(f"{prefix}_largest_message", "Most writes of one message so far", note.largest)
        yield GaugeMetricFamily(
            f"{prefix}_unanswered", "Writes that wait for an answer", self._client.unanswered_writes
        )
        for counter in fields(LinkStatistics):
            name = f"{prefix}_stream_{counter.name}"
            yield CounterMetricFamily(name, f"Stream to the store: {counter.name}", getattr(self._link, counter.name))


class CouchbaseCollector(Collector):
    """``projectk_couchbase_…``: calls under way and waiting, what went wrong by code, the index."""

    def __init__(self, statistics: Callable[[], dict[str, float]]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        for name, value in self._statistics().items():
            family = GaugeMetricFamily if name in _GAUGES else CounterMetricFamily
            yield family(f"projectk_couchbase_{name}", f"Store on Couchbase: {name}", value=value)
