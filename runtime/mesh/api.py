"""The mesh as services see it: a command plane, a state plane and the book of members.

``runtime.mesh.zmq_*`` is the real one, ``runtime.mesh.fake`` (virtual time, faults) the one of the simulation; both
pass ``tests/contract/test_mesh_contract.py``. One Mesh per service. Handlers and callbacks run on the service's loop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from world.ids import NodeId
from world.messages import Member, Message

M = TypeVar("M", bound=Message)


class MeshError(Exception):
    """Base; ``code`` is what a client may be told."""

    code = "mesh"


class Unreachable(MeshError):
    """No such member, its outbox is full, it is declared dead, or it was replaced by a newer generation meanwhile.
    ``sent``: an attempt may have reached it, so whether it was applied is uncertain; False: it certainly was not."""

    code = "unreachable"

    def __init__(self, text: str = "", *, sent: bool = False) -> None:
        super().__init__(text)
        self.sent = sent


class DeadlineExceeded(MeshError):
    """No reply in time; ``sent`` as in Unreachable (False: every attempt was still in the outbox)."""

    code = "deadline"

    def __init__(self, text: str = "", *, sent: bool = True) -> None:
        super().__init__(text)
        self.sent = sent


class Refused(MeshError):
    """The peer answered ``Problem``; ``code`` and ``detail`` are the peer's."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class ForeignProtocol(MeshError):
    """Somebody in the mesh speaks no protocol version of mine: joining is refused."""

    code = "foreign_protocol"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a message: vouched for by the envelope, already checked against the death verdicts."""

    node: NodeId
    generation: int


Handler = Callable[[Sender, Any], Message | None | Awaitable[Message | None]]


class CommandPlane(Protocol):
    def serve(self, kind: type[M], handler: Callable[[Sender, M], Message | None | Awaitable[Message | None]]) -> None:
        """One handler per message type. For calls its return value is the reply (None: ``Ok``); raising ``Refused``
        answers ``Problem(code, detail)``; any other exception answers ``Problem("internal")``, is logged and counted.
        A retry of a call (same origin, same call number) in flight is joined, one answered within RPC_DEADLINE_MS
        is answered from memory: handlers see a call once per origin call, unless this process restarted.

        Of an awaitable a task is made, of which HANDLERS_IN_FLIGHT run at once. A handler that returns a future has
        begun, and is answered for without a task: how many there are it must bound itself."""
        ...

    async def call(self, node: NodeId, message: Message, *, deadline_ms: float = ...) -> Message:
        """Send, retry every RPC_RETRY_MS until the reply or the deadline. A call is never carried over to a newer
        generation of its target (Unreachable with ``sent``). Raises Unreachable, DeadlineExceeded, Refused."""
        ...

    def ask(self, node: NodeId, message: Message, *, deadline_ms: float = ...) -> "asyncio.Future[Message]":
        """As ``call``, without a task: the future ends as ``call`` does. Raises at once what ends the call before
        anything was sent: Unreachable, Refused. To cancel the future gives the call up."""
        ...

    async def call_any(self, role: str, message: Message, *, deadline_ms: float = ...) -> Message:
        """Round robin over the live, ready members of a role; goes on to the next where one does not answer within its
        share of the deadline (the message must be safe to repeat). Raises as ``call``."""
        ...

    def send(self, node: NodeId, message: Message) -> bool:
        """One way, best effort, ordered per peer. False (and counted) where the outbox is full or no such peer."""
        ...


class StatePlane(Protocol):
    """Raw channels; sequences, digests, joins and repairs are ``world.channels`` on top of it."""

    def publish(self, topic: bytes, body: bytes) -> bool:
        """False where nobody listens (nothing was sent, counted). The newest is dropped where a queue is full."""
        ...

    def listeners(self, topic: bytes) -> int: ...

    def on_subscription(self, callback: Callable[[bytes, bool], None]) -> None:
        """``callback(topic, subscribed)`` at this publisher for every subscribe and unsubscribe (XPUB_VERBOSER)."""
        ...

    def subscribe(self, publisher: NodeId, topic: bytes) -> None:
        """One SUB socket per publisher; idempotent per (publisher, topic)."""
        ...

    def unsubscribe(self, publisher: NodeId, topic: bytes) -> None: ...

    def reconnect(self, publisher: NodeId) -> None:
        """Drop and remake the link to this publisher; subscriptions are made anew."""
        ...

    def on_frame(self, callback: Callable[[NodeId, bytes, bytes], None]) -> None:
        """``callback(publisher, topic, body)``."""
        ...


class Book(Protocol):
    """The known members. A member is live while its asyncio heartbeats come (SUSPECT_AFTER_MS)."""

    def members(self, role: str | None = None) -> list[Member]:
        """All known, highest generation each, dead generations excluded; includes me."""
        ...

    def get(self, node: NodeId) -> Member | None: ...

    def suspected(self, node: NodeId) -> bool:
        """True while its heartbeats are missed. Suspicion is not death: only the CAS on ``srv:`` is."""
        ...

    def highest_generation(self, node: NodeId) -> int: ...

    def declare_dead(self, node: NodeId, generation: int) -> None:
        """Spread the verdict: everyone drops this generation's traffic and answers it ``YouAreDead``."""
        ...

    def is_dead(self, node: NodeId, generation: int) -> bool: ...

    def silent_ms(self, node: NodeId) -> float:
        """How long since its last sign of life; infinite for who is not known."""
        ...

    def round_trip_ms(self, node: NodeId) -> float: ...

    def on_change(self, callback: Callable[[], None]) -> None: ...

    def on_dead(self, callback: Callable[[NodeId, int], None]) -> None: ...

    def on_self_dead(self, callback: Callable[[int], None]) -> None:
        """Somebody answered ``you are dead``, naming the highest generation known: a game server exits; other roles
        have rejoined above it already, by themselves."""
        ...


class Mesh(CommandPlane, StatePlane, Protocol):
    @property
    def book(self) -> Book: ...

    @property
    def me(self) -> Member: ...

    def update_me(self, **changes: Any) -> None:
        """Change my ``load``, ``status``, ``http``, ``store``; with the next heartbeat, at once if more than the load
        changed."""
        ...

    def on_late(self, callback: Callable[[float], None]) -> None:
        """``callback(ms)`` when this loop stood still for over LOOP_LATE_MS: what it holds for the others' silence may
        be its own. Heartbeats missed meanwhile count no more already."""
        ...

    def on_pause(self, callback: Callable[[float], None]) -> None:
        """``callback(ms)`` when this loop stood still for over LOOP_PAUSE_MS: before anything more is sent."""
        ...

    def hold(self, allow_roles: frozenset[str] = frozenset({"store"})) -> None:
        """Send nothing (calls are kept and retried, frames and one-way messages dropped) except to these roles, until
        ``release``. A game server calls it in ``on_pause`` until it has re-read its own record."""
        ...

    def release(self) -> None: ...

    def rise(self, generation: int) -> None:
        """Go on as this generation, not lower than the one I have: a game server has joined to reach the store, where
        it claimed its true one. Before it serves anything. From now on a verdict on it ends me, where before I rose
        above it as other roles do."""
        ...
