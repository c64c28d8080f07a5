"""The store process: composition root of the role ``store``. One per cluster; it owns the SQLite file."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from runtime.drain import drainable
from runtime.mesh import open_mesh
from runtime.mesh.api import Mesh
from runtime.mesh.handling import Handling
from runtime.mesh.node import MeshNode
from runtime.metrics import Distribution
from runtime.notes import Notes
from runtime.service import Service, StartRefused
from runtime.settings import Settings
from runtime.store.api import StoreOpenError
from runtime.store.listener import ListenerStatistics, StoreListener
from runtime.store.opening import SqliteUrl
from runtime.store.search_sqlite import SqliteSearch, serve_search
from runtime.store.server import Everywhere, StoreServer
from runtime.store.sqlite import SqliteStore

_COMMIT_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_GROUP_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_GAUGES = ("unanswered_writes", "unanswered_bytes", "unanswered_reads", "log_pages", "longest_commit_ms")
_STREAMS = ("opened", "refused", "malformed", "calls", "paused")
_COUNTERS = ("writes", "reads", "groups", "refused", "full", "checkpoints", "failed_checkpoints")


async def start(service: Service) -> None:
    """Open the file, join the mesh under the generation the file gave out, serve. Stopped in reverse: answers are
    finished, the mesh is left, and the file is closed last with everything committed. Raises StoreOpenError."""
    url = service.settings.store_url
    if not isinstance(url, SqliteUrl):
        raise StoreOpenError(f"The world is kept in {url}, which has no store process: nothing is to be started here.")
    groups = GroupMetrics(service.metrics)
    store = SqliteStore(url.path, on_group=groups.saw)
    service.on_stop(store.close)
    mesh = await open_mesh(
        service,
        role="store",
        node_id=service.node_id,
        generation=store.generation,
        publishes_state=False,
        subscribes_state=False,
    )
    listener = listen(service, mesh)
    build(service, mesh, store, listener)
    searching = SqliteSearch(url.path)
    serve_search(mesh, searching)
    service.on_stop(searching.close)
    drainable(service, mesh, Notes(mesh, service.clock))
    streams = await open_streams(service.settings, mesh, listener)
    mesh.update_me(status="ready", store=streams)
    service.log.info("serving", generation=mesh.me.generation, streams=streams)
    service.ready(command=mesh.me.command, store=streams)


def listen(service: Service, mesh: MeshNode) -> StoreListener:
    """What will take streams; closed after everything they asked was answered."""

    def report(what: str, error: BaseException) -> None:
        service.log.error("handler failed", message=what, exc_info=error)

    listener = StoreListener(mesh, Handling(mesh.statistics, service.spawn, report))
    service.on_stop(listener.close)
    return listener


async def open_streams(settings: Settings, mesh: Mesh, listener: StoreListener) -> str:
    """host:port that others are told: the host where they reach the command plane, unless the settings say otherwise.
    Raises StartRefused."""
    try:
        port = await listener.open(settings.bind_host, settings.store_port)
    except OSError as error:
        raise StartRefused(
            f"The store cannot listen on {settings.bind_host} (--store-port {settings.store_port}): {error.strerror}."
        ) from error
    host = mesh.me.command.removeprefix("tcp://").rpartition(":")[0]
    return settings.advertise_store or f"{host}:{port}"


def build(service: Service, mesh: Mesh, store: SqliteStore, listener: StoreListener) -> StoreServer:
    """Everything but the outside: handlers, metrics, and the watch that ends the service when the file fails."""
    server = StoreServer(Everywhere(mesh, listener), store, lambda: mesh.me.generation)

    def keep_generation() -> None:
        if mesh.me.generation > store.generation and not service.stopping.is_set():
            service.spawn(store.raise_generation(mesh.me.generation), "generation")

    mesh.book.on_change(keep_generation)
    service.metrics.register(StoreCollector(store, server, listener.statistics))
    service.spawn(store.failed(), "file", loop=True)
    service.on_stop(server.drain)
    return server


class GroupMetrics(Collector):
    """Distribution of group sizes and commit times. Noted after each commit, before its answers leave the loop: the
    client library's own histogram took 28 us of that."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._writes = Distribution("projectk_store_group_writes", "Writes per group commit", _GROUP_BUCKETS)
        self._seconds = Distribution("projectk_store_commit_seconds", "Time of one commit", _COMMIT_BUCKETS_S)
        registry.register(self)

    def saw(self, writes: int, commit_ms: float) -> None:
        self._writes.saw(writes)
        self._seconds.saw(commit_ms / 1_000)

    def collect(self) -> Iterable[Metric]:
        return (self._writes.family(), self._seconds.family())


class StoreCollector(Collector):
    """The store's statistics, read when /metrics is."""

    def __init__(self, store: SqliteStore, server: StoreServer, streams: ListenerStatistics) -> None:
        self._store = store
        self._server = server
        self._streams = streams

    def collect(self) -> Iterable[Metric]:
        figures = self._store.statistics()
        for name in _GAUGES:
            yield GaugeMetricFamily(f"projectk_store_{name}", f"Store: {name}", value=figures[name])
        for name in _COUNTERS:
            yield CounterMetricFamily(f"projectk_store_{name}", f"Store: {name}", value=figures[name])
        yield self._server.batches.family()
        yield GaugeMetricFamily("projectk_store_generation", "Openings of the file", value=self._store.generation)
        yield GaugeMetricFamily("projectk_store_streams", "Clients' streams open", value=self._streams.streams)
        for name in _STREAMS:
            value = getattr(self._streams, name)
            yield CounterMetricFamily(f"projectk_store_streams_{name}", f"Clients' streams: {name}", value=value)
        calls = CounterMetricFamily("projectk_store_calls", "Calls answered", labels=["message"])
        for message, times in list(self._server.calls.items()):
            calls.add_metric([message], times)
        yield calls
        refusals = CounterMetricFamily("projectk_store_refusals", "Calls refused", labels=["code"])
        for code, times in list(self._server.refusals.items()):
            refusals.add_metric([code], times)
        yield refusals
