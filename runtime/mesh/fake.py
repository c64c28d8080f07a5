"""The simulation's network: many meshes on one loop, in virtual time, with faults drawn from a seeded ``rng``.

Like ZeroMQ: what one sends another arrives in order, other pairs overtake each other; a link to nobody takes nothing;
a full queue refuses commands and drops state frames; subscriptions travel to the publisher, and only what somebody
subscribed to travels back. What arrives runs in the context in which its receiver joined: what arrives at a member
that stands still is held, as in its kernel, if the loop knows how to let a context stand still.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from runtime.clock import LoopClock
from runtime.mesh import envelope as envelopes
from runtime.mesh.envelope import ONE_WAY, BadEnvelope
from runtime.mesh.handling import Spawn
from runtime.mesh.metrics import MeshCollector
from runtime.mesh.node import MeshNode
from runtime.mesh.transport import Inlets
from runtime.service import Service
from world.limits import COMMAND_SEND_HWM_MESSAGES, STATE_SEND_HWM_FRAMES
from world.messages import Member


@dataclass(slots=True)
class Faults:
    """Chances are per message, 0..1. Change them while the network runs."""

    delay_ms: tuple[float, float] = (0.2, 2.0)
    call_loss: float = 0.0  # attempts and replies of calls
    call_duplicate: float = 0.0  # a second copy, up to ``late_ms`` later, out of order
    late_ms: float = 2_000.0
    one_way_loss: float = 0.0  # heartbeats included
    reorder: float = 0.0  # a message does not keep its place behind earlier ones of the same pair
    frame_loss: float = 0.0
    subscription_loss: float = 0.0  # the publisher never hears of it
    state_hwm_frames: int = STATE_SEND_HWM_FRAMES
    command_hwm_messages: int = COMMAND_SEND_HWM_MESSAGES


@dataclass(slots=True)
class NetworkStatistics:
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    cut: int = 0  # vanished in a partition or a crash
    frames: int = 0
    frames_lost: int = 0
    frames_dropped: int = 0  # queue full
    subscriptions_lost: int = 0


PIPE_MESSAGES: Final = 4 * STATE_SEND_HWM_FRAMES  # above every queue's own bound: reaching it is a mistake


@dataclass(slots=True)
class _Pipe:
    """One direction between two members: in order, bounded by its user."""

    waiting: deque[Callable[[], None]] = field(default_factory=lambda: deque(maxlen=PIPE_MESSAGES))
    last_s: float = 0.0


class FakeLink:
    def __init__(self, network: "FakeNetwork", owner: str, endpoint: str, on_writable: Callable[[], None]) -> None:
        self._network, self._owner, self.endpoint, self._on_writable = network, owner, endpoint, on_writable
        self.context = copy_context()
        self._pipe = _Pipe()
        self._blocked = False
        self._open = True

    def send(self, data: bytes) -> bool:
        target = self._network.commands.get(self.endpoint)
        if not self._open or target is None or not self._network.takes(self._pipe, self._owner, target):
            self._blocked = True
            return False
        self._network.carry(self._pipe, self._owner, target, data, self._delivered)
        return True

    def _delivered(self) -> None:
        if self._blocked:
            asyncio.get_running_loop().call_soon(self.writable, context=self.context)

    def writable(self) -> None:
        if self._open:
            self._blocked = False
            self._on_writable()

    def close(self, linger_ms: int = 0) -> None:
        self._open = False
        self._network.links.pop(self, None)


class FakeListening:
    def __init__(self, network: "FakeNetwork", owner: "FakeTransport", endpoint: str, publisher: str) -> None:
        self._network, self.owner, self.endpoint, self.publisher = network, owner, endpoint, publisher
        self.topics: set[bytes] = set()
        self.pipe = _Pipe()  # frames to me
        self._upward = _Pipe()  # my subscriptions
        self.open = True

    def subscribe(self, topic: bytes) -> None:
        self.topics.add(topic)
        self._tell(topic, True)

    def unsubscribe(self, topic: bytes) -> None:
        self.topics.discard(topic)
        self._tell(topic, False)

    def again(self) -> None:
        """The publisher's endpoint is (back) there."""
        for topic in sorted(self.topics):
            self._tell(topic, True)

    def _tell(self, topic: bytes, on: bool) -> None:
        network, target = self._network, self._network.states.get(self.endpoint)
        if target is None:
            return
        if on and network.rng.random() < network.faults.subscription_loss:
            network.statistics.subscriptions_lost += 1
            return
        network.later(self._upward, target, lambda: network.hear(self.owner, target, self, topic, on))

    def close(self) -> None:
        self.open = False
        self._network.listenings.pop(self, None)
        target = self._network.states.get(self.endpoint)
        if target is not None:
            target.forget(self)


class FakeTransport:
    """Implements ``runtime.mesh.transport.Transport``."""

    def __init__(self, network: "FakeNetwork", node: str, command: str, state: str) -> None:
        self.inlets = Inlets()
        self.node, self.command, self.state = node, command, state
        self.context = copy_context()
        self.gone = False
        self._network = network
        self._subscribers: dict[bytes, dict[FakeListening, None]] = {}  # ordered, so that runs repeat

    def link(self, endpoint: str, name: str, on_writable: Callable[[], None]) -> FakeLink:
        if not endpoint.startswith("fake://"):
            raise ValueError(f"{endpoint!r} is no endpoint of this network")
        link = FakeLink(self._network, self.node, endpoint, on_writable)
        self._network.links[link] = None
        return link

    def listen(self, endpoint: str, publisher: str) -> FakeListening:
        if not endpoint.startswith("fake://"):
            raise ValueError(f"{endpoint!r} is no endpoint of this network")
        listening = FakeListening(self._network, self, endpoint, publisher)
        self._network.listenings[listening] = None
        return listening

    def publish(self, topic: bytes, body: bytes) -> None:
        if not self.gone:
            for listening in list(self._subscribers.get(topic, ())):
                self._network.carry_frame(self, listening, topic, body)

    def hear(self, listening: FakeListening, topic: bytes, on: bool) -> None:
        known = self._subscribers.setdefault(topic, {})
        if on == (listening in known):
            return
        if on:
            known[listening] = None
        else:
            del known[listening]
            if not known:
                del self._subscribers[topic]
        self.inlets.subscription(topic, on)

    def forget(self, listening: FakeListening) -> None:
        """That subscriber's connection ended."""
        for topic in [t for t, known in self._subscribers.items() if listening in known]:
            self.hear(listening, topic, False)

    async def close(self, linger_ms: int = 0) -> None:
        self._network.remove(self)


class FakeNetwork:
    """``async with FakeNetwork(rng) as network: a = await network.mesh("gameserver", "gs1", 1)``.

    Or give each mesh a ``Service``: its clock, tasks and stop are then used, and no ``async with`` is needed."""

    def __init__(self, rng: random.Random, clock: LoopClock | None = None, faults: Faults | None = None) -> None:
        """``clock``: shared by meshes that bring no service of their own."""
        self.rng = rng
        self.faults = faults or Faults()
        self.statistics = NetworkStatistics()
        self.commands: dict[str, FakeTransport] = {}  # by endpoint
        self.states: dict[str, FakeTransport] = {}
        self.links: dict[FakeLink, None] = {}  # ordered, so that runs repeat
        self.listenings: dict[FakeListening, None] = {}
        self._clock = clock
        self._meshes: dict[str, MeshNode] = {}
        self._transports: dict[str, FakeTransport] = {}
        self._cut: set[tuple[str, str]] = set()
        self._unconnected: set[tuple[str, str]] = set()
        self._serial = 0
        self._group = asyncio.TaskGroup()
        self._tasks: dict[str, dict[asyncio.Task[Any], None]] = {}

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for mesh in list(self._meshes.values()):
            await mesh.close()
        for task in [t for tasks in self._tasks.values() for t in tasks]:
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    # -- members --------------------------------------------------------------------------------------------------
    async def mesh(
        self,
        role: str,
        node_id: str,
        generation: int | None = None,
        *,
        service: Service | None = None,
        clock: LoopClock | None = None,
        join: tuple[str, ...] | None = None,
        endpoint: str = "",
        load: dict[str, Any] | None = None,
    ) -> MeshNode:
        """A member, joined. ``join`` None: by everyone already there. ``endpoint``: a fixed one, like a broker's;
        by default each start has a new one. Publishers and others alike have a state endpoint."""
        self._serial += 1
        command = endpoint or f"fake://{node_id}/{self._serial}"
        if join is None:
            join = tuple(m.me.command for m in self._meshes.values())
        transport = FakeTransport(self, node_id, command, command + "/state")
        mesh = MeshNode(
            transport,
            Member(role, node_id, 0, "", load=load or {}),
            clock=clock or (service.clock if service else self._clock) or LoopClock(1_000_000.0),
            rng=random.Random(self.rng.getrandbits(64)),
            spawn=service.spawn if service else self._spawner(node_id),
            report=lambda what, error: self._report(node_id, what, error, service),
            join=join,
        )
        if service is not None:
            service.metrics.register(MeshCollector(mesh))
            service.on_close(mesh.close)
        self._meshes[node_id] = mesh
        self._transports[node_id] = transport
        self._appear(transport)
        await mesh.join(generation)
        return mesh

    def _spawner(self, node: str) -> Spawn:
        tasks = self._tasks.setdefault(node, {})

        def spawn(coro: Coroutine[Any, Any, Any], name: str) -> object:
            task = self._group.create_task(coro, name=f"{node}:{name}")
            tasks[task] = None
            task.add_done_callback(lambda done: tasks.pop(done, None))
            return task

        return spawn

    def _report(self, node: str, what: str, error: BaseException, service: Service | None) -> None:
        if service is not None:
            service.log.error("handler failed", message=what, exc_info=error)

    def _appear(self, transport: FakeTransport) -> None:
        self.commands[transport.command] = transport
        self.states[transport.state] = transport
        for link in [k for k in self.links if k.endpoint == transport.command]:
            asyncio.get_running_loop().call_soon(link.writable, context=link.context)
        for listening in [k for k in self.listenings if k.endpoint == transport.state]:
            listening.again()

    def remove(self, transport: FakeTransport) -> None:
        """It no longer listens; what it had subscribed to is unsubscribed, as a closed connection does."""
        if self.commands.get(transport.command) is transport:
            del self.commands[transport.command]
            del self.states[transport.state]
        for listening in [k for k in self.listenings if k.owner is transport]:
            listening.close()
        if self._transports.get(transport.node) is transport:
            del self._transports[transport.node]
            del self._meshes[transport.node]

    # -- faults ---------------------------------------------------------------------------------------------------
    def crash(self, node: str) -> None:
        """Killed: nothing it says or would hear travels any more, not even what was under way to it. Its own tasks
        are ended here where it brought no service; else call ``service.crash()`` too."""
        transport = self._transports.get(node)
        if transport is None:
            return
        transport.gone = True
        self._meshes[node].abort()
        self.remove(transport)
        for task in list(self._tasks.get(node, ())):
            task.cancel()

    def partition(self, source: str, target: str) -> None:
        """What ``source`` says no longer reaches ``target`` (one way only)."""
        self._cut.add((source, target))

    def disconnect(self, source: str, target: str) -> None:
        """The links of ``source`` to ``target`` take nothing: a connection was given up, and there is no other yet."""
        self._unconnected.add((source, target))

    def heal(self, source: str = "", target: str = "") -> None:
        """Both empty: every partition; and every connection is there again."""
        self._cut = {c for c in self._cut if (source and c[0] != source) or (target and c[1] != target)}
        if self._unconnected:
            self._unconnected.clear()
            for link in list(self.links):
                asyncio.get_running_loop().call_soon(link.writable, context=link.context)

    def isolate(self, node: str) -> None:
        """Partition from everyone there now, both ways."""
        for other in self._transports:
            if other != node:
                self._cut |= {(node, other), (other, node)}

    # -- carrying -------------------------------------------------------------------------------------------------
    def takes(self, pipe: _Pipe, source: str, target: FakeTransport) -> bool:
        """Whether a link has a connection, and room."""
        return len(pipe.waiting) < self.faults.command_hwm_messages and (source, target.node) not in self._unconnected

    def later(self, pipe: _Pipe, target: FakeTransport, act: Callable[[], None]) -> None:
        """Run ``act`` at ``target`` after a delay, behind what was put into the pipe before."""
        loop = asyncio.get_running_loop()
        low, high = self.faults.delay_ms
        at_s = max(pipe.last_s, loop.time() + self.rng.uniform(low, high) / 1_000)
        pipe.last_s = at_s
        assert len(pipe.waiting) < PIPE_MESSAGES
        pipe.waiting.append(act)
        loop.call_at(at_s, lambda: pipe.waiting.popleft()(), context=target.context)

    def carry(self, pipe: _Pipe, source: str, target: FakeTransport, data: bytes, done: Callable[[], None]) -> None:
        def arrive() -> None:
            self._arrive(source, target, data)
            done()

        sender = self._transports.get(source)
        if sender is None or sender.gone:
            self.statistics.cut += 1
            return
        try:
            one_way = envelopes.decode(data).kind == ONE_WAY
        except BadEnvelope:
            one_way = True
        loss = self.faults.one_way_loss if one_way else self.faults.call_loss
        if self.rng.random() < loss:
            self.statistics.lost += 1
            return
        if not one_way and self.rng.random() < self.faults.call_duplicate:
            self.statistics.duplicated += 1
            self._astray(target, lambda: self._arrive(source, target, data))
        if self.rng.random() < self.faults.reorder:
            self._astray(target, lambda: self._arrive(source, target, data))
        else:
            self.later(pipe, target, arrive)

    def _astray(self, target: FakeTransport, act: Callable[[], None]) -> None:
        late_s = self.rng.uniform(0, self.faults.late_ms) / 1_000
        asyncio.get_running_loop().call_later(late_s, act, context=target.context)

    def _arrive(self, source: str, target: FakeTransport, data: bytes) -> None:
        if target.gone or (source, target.node) in self._cut or self.commands.get(target.command) is not target:
            self.statistics.cut += 1
            return
        self.statistics.delivered += 1
        target.inlets.message(data)

    def hear(
        self, source: FakeTransport, target: FakeTransport, listening: FakeListening, topic: bytes, on: bool
    ) -> None:
        """A subscription arrives at its publisher."""
        if not listening.open or source.gone or target.gone or (source.node, target.node) in self._cut:
            self.statistics.cut += 1
            return
        target.hear(listening, topic, on)

    def carry_frame(self, source: FakeTransport, listening: FakeListening, topic: bytes, body: bytes) -> None:
        if self.rng.random() < self.faults.frame_loss:
            self.statistics.frames_lost += 1
        elif len(listening.pipe.waiting) >= self.faults.state_hwm_frames:
            self.statistics.frames_dropped += 1
        else:
            self.later(listening.pipe, listening.owner, lambda: self._arrive_frame(source, listening, topic, body))

    def _arrive_frame(self, source: FakeTransport, listening: FakeListening, topic: bytes, body: bytes) -> None:
        reader = listening.owner
        if source.gone or reader.gone or not listening.open or (source.node, reader.node) in self._cut:
            self.statistics.cut += 1
            return
        if topic in listening.topics:
            self.statistics.frames += 1
            reader.inlets.frame(listening.publisher, topic, body)
