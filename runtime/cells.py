"""Cell channels over a mesh: the I/O shells around ``world.channels``, used by gateways and game servers.

``CellSubscriber`` performs what its ``CellReceiver`` decides; ``CellPublishing`` serves snapshots and repairs of its
``CellPublisher`` and tells every new subscriber at once what a cell holds.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import assert_never

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.mesh.api import DeadlineExceeded, Mesh, Refused, Sender, Unreachable
from runtime.notes import RepairNotes
from runtime.service import Service
from world import frames
from world.channels import receiver as rx
from world.channels.publisher import CellPublisher, Summary
from world.ids import NodeId, node_number
from world.limits import JOIN_RETRY_MS, STALE_AFTER_MS, STATE_ASK_WORKERS, STATE_ASKS_QUEUED, STATE_TICK_MS
from world.messages import AskRepair, AskSnapshot, CellFrames, CellSnapshot

OnApply = Callable[[int, int, bytes, bool], None]  # publisher, cell, frame, whether its slices are snapshots
OnForget = Callable[[int, int], None]  # publisher, cell
Ask = rx.AskSnapshot | rx.AskRepair


def publisher_node(number: int) -> NodeId:
    return NodeId(f"gs{number}")


class StatisticsCollector(Collector):
    """Counters of a statistics dataclass, and gauges by label, as Prometheus metrics."""

    def __init__(
        self,
        prefix: str,
        counters: Callable[[], dict[str, int]],
        gauges: Callable[[], dict[str, dict[str, float]]] = dict,
    ) -> None:
        self._prefix, self._counters, self._gauges = prefix, counters, gauges

    def collect(self) -> Iterator[Metric]:
        for name, count in self._counters().items():
            yield CounterMetricFamily(f"{self._prefix}_{name}", name.replace("_", " "), value=count)
        for name, by_label in self._gauges().items():
            family = GaugeMetricFamily(f"{self._prefix}_{name}", name.replace("_", " "), labels=["publisher"])
            for label, value in by_label.items():
                family.add_metric([label], value)
            yield family


class CellSubscriber:
    """All cell channels of one service. ``on_apply`` and ``on_forget`` are called in order, on the loop.

    ``hashes(publisher, cell) -> (count, hash)`` of what was applied: given by game servers, which compare them.
    """

    def __init__(
        self,
        service: Service,
        mesh: Mesh,
        on_apply: OnApply,
        on_forget: OnForget,
        hashes: rx.Hashes | None = None,
    ) -> None:
        self._service, self._mesh, self._hashes = service, mesh, hashes
        self._on_apply, self._on_forget = on_apply, on_forget
        self._core = rx.CellReceiver(compare_hashes=hashes is not None)
        self._asks: dict[int, asyncio.Queue[Ask]] = {}  # per publisher, so that a silent one delays nobody else
        self._dropped = {"bad_frames": 0, "asks_dropped": 0, "asks_failed": 0}
        self._repairs = RepairNotes(mesh, service.clock)
        mesh.on_frame(self._framed)
        mesh.book.on_change(self._book_changed)
        mesh.book.on_dead(self._declared_dead)
        service.metrics.register(StatisticsCollector("projectk_cells", self.statistics, self._gauges))
        service.spawn(self._tick_loop(), "cell-channels", loop=True)
        self._book_changed()

    # -- for the service ----------------------------------------------------------------------------------------------
    def want(self, cells: Iterable[int]) -> None:
        """From now on these cells, of every game server; what is left out goes after CELL_LEAVE_MS."""
        self._perform(self._core.want(cells, self._now()))

    @property
    def cells(self) -> list[int]:
        """The cells subscribed to, those about to be left included."""
        return list(self._core.cells)

    def joined(self, cell: int) -> bool:
        """True when every living publisher's part of the cell was delivered, or is known to be empty."""
        return self._core.joined(cell)

    def staleness_ms(self, publisher: int) -> float:
        """Age of what this publisher says: own time since its last digest, plus half the round trip."""
        half = self._mesh.book.round_trip_ms(publisher_node(publisher)) / 2
        return self._core.staleness_ms(publisher, self._now()) + half

    def stale(self, publisher: int) -> bool:
        return self.staleness_ms(publisher) >= STALE_AFTER_MS

    def publishers(self) -> list[int]:
        """Those expected to speak."""
        return [number for number, p in self._core.publishers.items() if p.alive]

    def statistics(self) -> dict[str, int]:
        return asdict(self._core.statistics) | self._dropped

    def _gauges(self) -> dict[str, dict[str, float]]:
        ages = {str(publisher_node(n)): self.staleness_ms(n) / 1_000 for n in self.publishers()}
        return {"staleness_seconds": ages}

    # -- what the mesh tells ------------------------------------------------------------------------------------------
    def _now(self) -> float:
        return self._service.clock.monotonic_ms()

    def _book_changed(self) -> None:
        present = set()
        for member in self._mesh.book.members("gameserver"):
            if member.id == self._mesh.me.id or member.status == "dead":
                continue
            number = node_number(member.id)
            present.add(number)
            self._mesh.subscribe(NodeId(member.id), frames.DIGEST_TOPIC)
            self._perform(self._core.publisher_up(number, member.generation, self._now()))
        for number in self.publishers():
            if number not in present:
                self._perform(self._core.publisher_gone(number))

    def _declared_dead(self, node: NodeId, generation: int) -> None:
        if node.startswith("gs"):
            self._perform(self._core.publisher_dead(node_number(node), generation))

    def _framed(self, publisher: NodeId, topic: bytes, body: bytes) -> None:
        try:
            if topic == frames.DIGEST_TOPIC:
                self._perform(self._core.digest(body, self._now(), self._hashes))
            else:
                self._perform(self._core.frame(body, self._now()))
        except frames.BadFrame as error:
            self._bad(publisher, error)

    def _bad(self, publisher: NodeId, error: frames.BadFrame) -> None:
        self._dropped["bad_frames"] += 1
        self._service.log.warning("bad state frame", publisher=publisher, problem=str(error))

    # -- performing effects -------------------------------------------------------------------------------------------
    def _perform(self, effects: list[rx.Effect]) -> None:
        left: rx.Unsubscribe | None = None  # the channel left by the effect before: entered again, it is taken anew
        for effect in effects:
            if left is not None and isinstance(effect, rx.Subscribe) and tuple(left) == tuple(effect):
                self._repairs.repaired(publisher_node(effect.publisher), effect.cell)
            left = effect if isinstance(effect, rx.Unsubscribe) else None
            self._perform_one(effect)

    def _perform_one(self, effect: rx.Effect) -> None:
        match effect:
            case rx.Apply(publisher, cell, body, snapshot):
                self._on_apply(publisher, cell, body, snapshot)
            case rx.Forget(publisher, cell):
                self._on_forget(publisher, cell)
            case rx.Subscribe(publisher, cell):
                self._mesh.subscribe(publisher_node(publisher), frames.cell_topic(cell))
            case rx.Unsubscribe(publisher, cell):
                self._mesh.unsubscribe(publisher_node(publisher), frames.cell_topic(cell))
            case rx.AskSnapshot() | rx.AskRepair():
                self._queue_ask(effect)
            case rx.Reconnect(publisher):
                self._service.log.warning("state link silent, reconnecting", publisher=publisher_node(publisher))
                self._repairs.repaired(publisher_node(publisher), None)
                self._mesh.reconnect(publisher_node(publisher))
            case rx.Hide(publisher):
                self._service.log.warning("publisher silent, hiding", publisher=publisher_node(publisher))
            case _:
                assert_never(effect)

    def _queue_ask(self, ask: Ask) -> None:
        queue = self._asks.get(ask.publisher)
        if queue is None:
            queue = self._asks[ask.publisher] = asyncio.Queue(maxsize=STATE_ASKS_QUEUED)
            for n in range(STATE_ASK_WORKERS):
                name = f"cell-asks-{publisher_node(ask.publisher)}-{n}"
                self._service.spawn(self._ask_loop(queue), name, loop=True)
        try:
            queue.put_nowait(ask)
        except asyncio.QueueFull:
            self._dropped["asks_dropped"] += 1  # the core asks again after JOIN_RETRY_MS

    async def _ask_loop(self, queue: asyncio.Queue[Ask]) -> None:
        while True:
            ask = await queue.get()
            try:
                await self._ask(ask)
            except (Unreachable, DeadlineExceeded, Refused):
                self._dropped["asks_failed"] += 1  # the core asks again after JOIN_RETRY_MS
            except frames.BadFrame as error:
                self._bad(publisher_node(ask.publisher), error)

    async def _ask(self, ask: Ask) -> None:
        node = publisher_node(ask.publisher)
        if isinstance(ask, rx.AskSnapshot):
            answer = await self._mesh.call(node, AskSnapshot(ask.cell), deadline_ms=JOIN_RETRY_MS)
            if isinstance(answer, CellSnapshot):
                self._perform(
                    self._core.snapshot(
                        ask.publisher, ask.cell, answer.generation, answer.sequence, answer.body, self._now()
                    )
                )
            return
        answer = await self._mesh.call(node, AskRepair(ask.cell, ask.after), deadline_ms=JOIN_RETRY_MS)
        if isinstance(answer, CellFrames):
            self._perform(self._core.repaired(ask.publisher, ask.cell, answer.generation, answer.bodies, self._now()))

    async def _tick_loop(self) -> None:
        while True:
            await asyncio.sleep(STATE_TICK_MS / 1_000)
            self._perform(self._core.tick(self._now()))


class CellPublishing:
    """The publisher's side: serves AskSnapshot and AskRepair, answers subscriptions, sends frames and digests.

    ``snapshot_of(cell, world_ms)`` gives the snapshot slices at the cell's present sequence; ``summary()`` what is
    published now. Frames come from the tick, through ``publish``.
    """

    def __init__(
        self,
        service: Service,
        mesh: Mesh,
        core: CellPublisher,
        snapshot_of: Callable[[int, int], list[bytes]],
        summary: Callable[[], Summary],
    ) -> None:
        self._service, self._mesh, self.core = service, mesh, core
        self._snapshot_of, self._summary = snapshot_of, summary
        self._fresh: set[int] = set()  # cells subscribed to since the last answer: at most all cells
        mesh.serve(AskSnapshot, self._serve_snapshot)
        mesh.serve(AskRepair, self._serve_repair)
        mesh.on_subscription(self._subscription)
        service.metrics.register(StatisticsCollector("projectk_publisher", self.statistics))

    def publish(self, cell: int, body: bytes) -> bool:
        return self._mesh.publish(frames.cell_topic(cell), body)

    def digest(self) -> None:
        """The full digest: call it every DIGEST_MS, right after a tick's frames."""
        clock = self._service.clock
        body = self.core.full_digest(self._summary(), clock.world_ms(), clock.monotonic_ms())
        self._mesh.publish(frames.DIGEST_TOPIC, body)

    def statistics(self) -> dict[str, int]:
        return asdict(self.core.statistics)

    def _subscription(self, topic: bytes, subscribed: bool) -> None:
        if not topic.startswith(frames.CELL_TOPIC):
            return
        cell = frames.cell_of_topic(topic)
        self.core.subscription(cell, subscribed)
        if not subscribed or cell >= len(self.core.listeners):
            return
        if not self._fresh:  # one answer for all subscriptions of this turn of the loop
            asyncio.get_running_loop().call_soon(self._answer)
        self._fresh.add(cell)

    def _answer(self) -> None:
        body = self.core.answer_digest(sorted(self._fresh), self._summary(), self._service.clock.world_ms())
        self._fresh.clear()
        self._mesh.publish(frames.DIGEST_TOPIC, body)

    def _serve_snapshot(self, _sender: Sender, ask: AskSnapshot) -> CellSnapshot:
        if ask.cell >= len(self.core.sequences):
            raise Refused("no_such_cell", f"{ask.cell} is no cell")
        world_ms, sequence = self._service.clock.world_ms(), int(self.core.sequences[ask.cell])
        name = (self.core.publisher, self.core.generation)
        body = frames.frame_bytes(ask.cell, *name, sequence, world_ms, self._snapshot_of(ask.cell, world_ms))
        return CellSnapshot(ask.cell, self.core.generation, sequence, body)

    def _serve_repair(self, _sender: Sender, ask: AskRepair) -> CellFrames:
        if ask.cell >= len(self.core.sequences):
            raise Refused("no_such_cell", f"{ask.cell} is no cell")
        bodies = self.core.frames_after(ask.cell, ask.after, self._service.clock.monotonic_ms())
        return CellFrames(ask.cell, self.core.generation, bodies)
