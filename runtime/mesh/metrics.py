"""A mesh's counters for /metrics, collected when somebody scrapes: nothing on the hot path."""

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.mesh.statistics import MeshStatistics

if TYPE_CHECKING:
    from runtime.mesh.node import MeshNode


class MeshCollector(Collector):
    """``projectk_mesh_{counter}_total``, and per peer: outbox depth, round trip, suspected."""

    def __init__(self, mesh: "MeshNode") -> None:
        self._mesh = mesh

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        mesh = self._mesh
        for counter in fields(MeshStatistics):
            name = f"projectk_mesh_{counter.name}"
            yield CounterMetricFamily(name, counter.name.replace("_", " "), getattr(mesh.statistics, counter.name))
        yield GaugeMetricFamily("projectk_mesh_calls_in_flight", "calls waiting for a reply", mesh.calls_in_flight)
        yield GaugeMetricFamily("projectk_mesh_replies_remembered", "replies kept", mesh.replies_remembered)
        depth = GaugeMetricFamily("projectk_mesh_outbox_messages", "waiting for the transport", labels=["peer"])
        for peer, waiting in mesh.outbox_depths().items():
            depth.add_metric([peer], waiting)
        yield depth
        round_trip = GaugeMetricFamily("projectk_mesh_round_trip_ms", "heartbeats' round trip", labels=["peer"])
        suspected = GaugeMetricFamily("projectk_mesh_suspected", "1: its heartbeats are missed", labels=["peer"])
        for member in mesh.book.members():
            if member.id != mesh.me.id:
                round_trip.add_metric([member.id], mesh.book.round_trip_ms(member.id))  # type: ignore[arg-type]
                suspected.add_metric([member.id], float(mesh.book.suspected(member.id)))  # type: ignore[arg-type]
        yield round_trip
        yield suspected
