"""What the store and its clients say on /metrics."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from runtime.metrics import Distribution
from runtime.store.access import ClientCollector
from runtime.store.app import GroupMetrics, StoreCollector
from runtime.store.client import StoreClient
from runtime.store.link import LinkStatistics
from runtime.store.listener import ListenerStatistics
from runtime.store.server import StoreServer
from runtime.store.sqlite import SqliteStore
from tests.support.aio import run
from tests.support.store_plane import Plane


class Shown(Collector):
    def __init__(self, distribution: Distribution) -> None:
        self._distribution = distribution

    def collect(self) -> Iterator[Metric]:
        yield self._distribution.family()


def test_a_distribution_reads_as_the_client_librarys_own_histogram() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    distribution = Distribution("sizes", "Some sizes", (1, 2.5, 10))
    ours.register(Shown(distribution))
    histogram = Histogram("sizes", "Some sizes", registry=theirs, buckets=(1, 2.5, 10))
    for value in (0, 1, 1.5, 2.5, 9, 10, 11, 1_000):
        distribution.saw(value)
        histogram.observe(value)
    wanted = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == wanted


def test_writes_their_messages_and_their_commits_are_told_by_both_ends(tmp_path: Path) -> None:
    async def body() -> None:
        registry = CollectorRegistry()
        store = SqliteStore(tmp_path / "world.sqlite", on_group=GroupMetrics(registry).saw)
        plane = Plane()
        server = StoreServer(plane, store, lambda: 1)
        plane.joined(1)
        client = StoreClient(plane)
        registry.register(StoreCollector(store, server, ListenerStatistics()))
        registry.register(ClientCollector(client, LinkStatistics(streamed=3)))
        await asyncio.gather(*(client.insert(f"a:{n}", b"") for n in range(3)))
        await client.insert("a:3", b"")
        sample = registry.get_sample_value
        assert sample("projectk_store_client_writes_total") == 4
        assert sample("projectk_store_client_messages_total") == 2
        assert sample("projectk_store_client_largest_message") == 3
        assert sample("projectk_store_client_stream_streamed_total") == 3
        assert sample("projectk_store_streams") == sample("projectk_store_streams_opened_total") == 0
        assert sample("projectk_store_client_unanswered") == sample("projectk_store_client_refused_total") == 0
        assert (sample("projectk_store_batch_writes_count"), sample("projectk_store_batch_writes_sum")) == (2, 4)
        assert (sample("projectk_store_group_writes_count"), sample("projectk_store_group_writes_sum")) == (2, 4)
        assert sample("projectk_store_commit_seconds_count") == 2
        assert sample("projectk_store_writes_total") == 4
        await store.close()

    run(body())
