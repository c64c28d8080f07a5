"""One member of the mesh: the command plane, the state plane and the book over some transport.

``ZmqMesh`` and the simulation's mesh are this class over another transport, so that both behave the same.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from runtime.clock import LoopClock
from runtime.mesh.api import Sender
from runtime.mesh.book import MemberBook
from runtime.mesh.channels import Channels
from runtime.mesh.commands import Commands
from runtime.mesh.envelope import Envelope
from runtime.mesh.handling import Spawn
from runtime.mesh.membership import Membership
from runtime.mesh.statistics import MeshStatistics
from runtime.mesh.transport import Transport
from runtime.mesh.wire import Wire
from world.ids import NodeId
from world.limits import MESH_LINGER_MS, RPC_DEADLINE_MS
from world.messages import BookPage, Member, Message

M = TypeVar("M", bound=Message)

_CHANGEABLE = frozenset({"load", "status", "http", "store"})


class MeshNode:
    """Implements ``runtime.mesh.api.Mesh``. Made by ``open_mesh`` or ``FakeNetwork.mesh``; ``join`` puts it in."""

    def __init__(
        self,
        transport: Transport,
        me: Member,
        *,
        clock: LoopClock,
        rng: random.Random,
        spawn: Spawn,
        report: Callable[[str, BaseException], None],
        join: tuple[str, ...] = (),
        subscribes: bool = True,
    ) -> None:
        """``me`` without generation and addresses. ``join``: command endpoints to ask for the book.
        ``subscribes`` False: this role has no business on the state plane, ``subscribe`` raises RuntimeError."""
        me = msgspec.structs.replace(
            me, generation=0, command=transport.command, state=transport.state, nonce=rng.getrandbits(52) | 1
        )
        self.statistics = MeshStatistics()
        self.book = MemberBook(me, clock.monotonic_ms)
        self.clock = clock
        self._transport = transport
        self._wire = Wire(transport, self.book, clock, self.statistics)
        self._commands = Commands(self._wire, self.book, clock, self.statistics, spawn, report)
        self._membership = Membership(
            self._wire, self.book, clock, rng, self.statistics, join, self._commands.heard_floor
        )
        self._channels = Channels(transport, self.book, self.statistics, self._may_speak)
        self._subscribes = subscribes
        self._closed = False
        self._wire.deliver = self._deliver
        self._wire.notice_pause = self._membership.notice_pause
        self._wire.on_link = self._membership.new_peer
        self.book.on_change(self._wire.follow_book)
        self.book.on_change(self._channels.follow_book)

    # -- life ------------------------------------------------------------------------------------------------------
    @property
    def me(self) -> Member:
        return self.book.me

    async def join(self, generation: int | None) -> None:
        """Appear in the mesh. ``generation`` None: one above what the book shows."""
        await self._membership.join(generation)

    async def close(self) -> None:
        """Say goodbye, fail the calls in flight, close the sockets."""
        if not self._closed:
            self._closed = True
            self._membership.say_goodbye()
            self._commands.close()
            self._stop(MESH_LINGER_MS)
        await self._transport.close(MESH_LINGER_MS)

    def abort(self) -> None:
        """As if killed: no goodbye, nothing lingers, calls in flight never end. ``close`` still frees the sockets."""
        if not self._closed:
            self._closed = True
            self._stop(0)

    def _stop(self, linger_ms: int) -> None:
        self._membership.close()
        self._commands.stop()
        self._wire.close(linger_ms)
        self._channels.close()

    def update_me(self, **changes: Any) -> None:
        """Raises TypeError for another field than load, status, http, store."""
        if not _CHANGEABLE.issuperset(changes):
            raise TypeError(f"cannot change {sorted(set(changes) - _CHANGEABLE)}")
        if changes.get("status") == "ready" and not self.me.ready_ms:
            changes["ready_ms"] = self.clock.world_ms()
        self.book.me = msgspec.structs.replace(self.book.me, **changes)
        if set(changes) != {"load"}:
            self.book.tell_changed()
            if self.me.generation:
                self._membership.heartbeat()

    def on_late(self, callback: Callable[[float], None]) -> None:
        self._membership.on_late(callback)

    def on_pause(self, callback: Callable[[float], None]) -> None:
        self._membership.on_pause(callback)

    def hold(self, allow_roles: frozenset[str] = frozenset({"store"})) -> None:
        self._wire.held = allow_roles

    def release(self) -> None:
        self._wire.held = None

    def rise(self, generation: int) -> None:
        self._membership.claimed = True
        if generation > self.me.generation:
            self._membership.appear(generation)

    def _may_speak(self) -> bool:
        self._membership.notice_pause()
        return self._wire.held is None

    def page(self) -> BookPage:
        """My book as others are told it."""
        return self._membership.page()

    def tell_all(self, message: Message) -> None:
        """One way to every other member, never queued."""
        self._membership.broadcast(message)

    # -- command plane ---------------------------------------------------------------------------------------------
    def serve(self, kind: type[M], handler: Callable[[Sender, M], Message | None | Awaitable[Message | None]]) -> None:
        self._commands.serve(kind, handler)

    async def call(self, node: NodeId, message: Message, *, deadline_ms: float = RPC_DEADLINE_MS) -> Message:
        return await self._commands.call(node, message, deadline_ms=deadline_ms)

    def ask(self, node: NodeId, message: Message, *, deadline_ms: float = RPC_DEADLINE_MS) -> "asyncio.Future[Message]":
        return self._commands.ask(node, message, deadline_ms=deadline_ms)

    async def call_any(self, role: str, message: Message, *, deadline_ms: float = RPC_DEADLINE_MS) -> Message:
        return await self._commands.call_any(role, message, deadline_ms=deadline_ms)

    def send(self, node: NodeId, message: Message) -> bool:
        return self._commands.send(node, message)

    def _deliver(self, envelope: Envelope, message: Message) -> None:
        if not self._membership.arrived(envelope, message):
            self._commands.arrived(envelope, message)

    def outbox_depths(self) -> dict[str, int]:
        return self._wire.depths()

    @property
    def calls_in_flight(self) -> int:
        return self._commands.in_flight

    @property
    def replies_remembered(self) -> int:
        return self._commands.remembered

    # -- state plane -----------------------------------------------------------------------------------------------
    def publish(self, topic: bytes, body: bytes) -> bool:
        return self._channels.publish(topic, body)

    def listeners(self, topic: bytes) -> int:
        return self._channels.listeners(topic)

    def on_subscription(self, callback: Callable[[bytes, bool], None]) -> None:
        self._channels.on_subscription(callback)

    def subscribe(self, publisher: NodeId, topic: bytes) -> None:
        if not self._subscribes:
            raise RuntimeError(f"{self.me.id} was opened without subscribes_state")
        self._channels.subscribe(publisher, topic)

    def unsubscribe(self, publisher: NodeId, topic: bytes) -> None:
        self._channels.unsubscribe(publisher, topic)

    def reconnect(self, publisher: NodeId) -> None:
        self._channels.reconnect(publisher)

    def on_frame(self, callback: Callable[[NodeId, bytes, bytes], None]) -> None:
        self._channels.on_frame(callback)
