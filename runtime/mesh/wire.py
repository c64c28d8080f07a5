"""Envelopes in and out: links to all peers, and the fences every message passes before anybody sees it."""

import asyncio
from collections import deque
from collections.abc import Callable

from runtime.mesh import envelope as envelopes
from runtime.mesh.book import MemberBook
from runtime.mesh.envelope import CALL, ONE_WAY, REPLY, BadEnvelope, Envelope
from runtime.mesh.peer import Peer
from runtime.mesh.statistics import MeshStatistics
from runtime.mesh.transport import Transport
from world.clock import Clock
from world.ids import NodeId
from world.limits import COMMAND_MESSAGE_BYTES, DEAD_ANSWER_MS, PEER_OUTBOX_MESSAGES, STRAY_LINK_MS, STRAY_LINKS
from world.messages import BadMessage, BookPage, Heartbeat, Join, Member, Message, YouAreDead, decode, encode

ALWAYS_ALLOWED = frozenset({"broker"})


class Wire:
    """Owns the links. Everything goes out through ``post`` or ``post_to``; what arrives and passes the fences goes to
    ``deliver(envelope, message)``."""

    def __init__(self, transport: Transport, book: MemberBook, clock: Clock, statistics: MeshStatistics) -> None:
        self.book, self.clock, self.statistics = book, clock, statistics
        self.deliver: Callable[[Envelope, Message], None] = lambda envelope, message: None
        self.floor_of: Callable[[str], int] = lambda node: 0
        self.on_taken: Callable[[int], None] = lambda call: None
        self.is_awaited: Callable[[int], bool] = lambda call: True
        self.on_link: Callable[[str], None] = lambda node: None  # a new peer: introduce ourselves first
        self.notice_pause: Callable[[], None] = lambda: None  # before anything is said or heard
        self.held: frozenset[str] | None = None  # roles that may be spoken to while held
        self._transport = transport
        self._peers: dict[str, Peer] = {}
        self._strays: dict[str, Peer] = {}  # by endpoint
        self._told_dead_ms: dict[str, float] = {}
        self._loopback: deque[bytes] = deque(maxlen=PEER_OUTBOX_MESSAGES)
        self._closed = False
        transport.inlets.message = self._arrived

    # -- links -----------------------------------------------------------------------------------------------------
    def follow_book(self) -> None:
        """Link to every member (full mesh); replace links whose member came back at another generation or endpoint."""
        if self._closed or not self.book.me.generation:
            return
        known = {m.id: m for m in self.book.members() if m.id != self.book.me.id}
        for node in [n for n in self._peers if n not in known and not self._may_be_told(n)]:
            self._peers.pop(node).close()
        for node, member in known.items():
            peer = self._peers.get(node)
            if peer is not None and (peer.endpoint, peer.generation) == (member.command, member.generation):
                continue
            if peer is not None:
                peer.close()
                del self._peers[node]
            self._open(member)
            if node in self._peers:
                self.on_link(node)

    def _may_be_told(self, node: str) -> bool:
        """A peer declared dead keeps its link as long as it is in the book, so that a zombie can be told."""
        return self.book.knows(node, self._peers[node].generation)

    def _open(self, member: Member) -> None:
        try:
            self._peers[member.id] = self._peer(member.command, member.id, member.generation, member.role)
        except ValueError:
            self.statistics.bad_endpoints += 1

    def _peer(self, endpoint: str, node: str, generation: int, role: str) -> Peer:
        name = f"{self.book.me.id}:{self.book.me.generation}"
        return Peer(
            self._transport,
            endpoint,
            name,
            node,
            generation,
            role,
            self.clock.monotonic_ms,
            self.statistics,
            lambda call: self.on_taken(call),
            lambda call: self.is_awaited(call),
        )

    def renew_links(self) -> None:
        """My generation changed: links are made anew under the new identity."""
        for peer in [*self._peers.values(), *self._strays.values()]:
            peer.close()
        self._peers.clear()
        self._strays.clear()
        self.follow_book()

    def depths(self) -> dict[str, int]:
        return {node: peer.depth for node, peer in self._peers.items()}

    def linked(self, node: str) -> bool:
        return node in self._peers

    # -- out -------------------------------------------------------------------------------------------------------
    def post(
        self, node: str, kind: int, body: bytes, *, number: int = 0, ttl_ms: float = 0, queue: bool = True
    ) -> bool | None:
        """True: taken by the transport; None: waits in the outbox; False: refused, or nobody by that id is known."""
        self.notice_pause()
        me = self.book.me
        if node == me.id:
            return self._to_myself(self._seal(node, me.generation, kind, body, number, ttl_ms))
        peer = self._peers.get(node)
        if peer is None or self.book.is_dead(NodeId(node), peer.generation) or len(body) > COMMAND_MESSAGE_BYTES:
            return False
        if self.held is not None and peer.role not in self.held and peer.role not in ALWAYS_ALLOWED:
            self.statistics.held += 1
            return False
        data = self._seal(node, peer.generation, kind, body, number, ttl_ms)
        return peer.send(data, call=number if kind == CALL else 0, queue=queue)

    def post_to(self, endpoint: str, message: Message, kind: int = ONE_WAY, *, number: int = 0, ttl_ms: float = 0,
                to: str = "", to_generation: int = 0) -> bool:  # fmt: skip
        """To whoever listens at an endpoint, in the book or not."""
        if self._closed:
            return False
        peer = self._stray(endpoint)
        if peer is None:
            return False
        return peer.send(self._seal(to, to_generation, kind, encode(message), number, ttl_ms)) is not False

    def _stray(self, endpoint: str) -> Peer | None:
        self._close_old_strays()
        peer = self._strays.get(endpoint)
        if peer is not None:
            return peer
        if len(self._strays) >= STRAY_LINKS:
            self._strays.pop(next(iter(self._strays))).close()
        try:
            peer = self._strays[endpoint] = self._peer(endpoint, "", 0, "")
        except ValueError:
            self.statistics.bad_endpoints += 1
        return peer

    def _close_old_strays(self) -> None:
        oldest_ms = self.clock.monotonic_ms() - STRAY_LINK_MS
        for endpoint in [e for e, p in self._strays.items() if p.opened_ms < oldest_ms]:
            self._strays.pop(endpoint).close()

    def _seal(self, to: str, generation: int, kind: int, body: bytes, number: int, ttl_ms: float) -> bytes:
        me = self.book.me
        floor = self.floor_of(to) if to and kind != REPLY else 0
        return envelopes.encode(
            Envelope(me.id, me.generation, to, generation, kind, number, floor, max(0, int(ttl_ms)), body)
        )

    def _to_myself(self, data: bytes) -> bool:
        if len(self._loopback) >= PEER_OUTBOX_MESSAGES:
            self.statistics.outbox_refused += 1
            return False
        self._loopback.append(data)
        asyncio.get_running_loop().call_soon(lambda: self._arrived(self._loopback.popleft()))
        return True

    # -- in --------------------------------------------------------------------------------------------------------
    def _arrived(self, data: bytes) -> None:
        if self._closed:
            return
        self.notice_pause()
        self.statistics.messages_in += 1
        self.statistics.bytes_in += len(data)
        try:
            envelope = envelopes.decode(data)
            message = decode(envelope.body)
        except (BadEnvelope, BadMessage):
            self.statistics.malformed += 1
            return
        me = self.book.me
        if envelope.to and (envelope.to != me.id or envelope.to_generation != me.generation):
            self.statistics.misdirected += 1
            self._misdirected(envelope, message)
            return
        if envelope.generation == 0 and not isinstance(message, Join | BookPage):
            self.statistics.misdirected += 1
            return
        if self._fenced(envelope, message):
            return
        self.book.alive(envelope.origin, envelope.generation)
        self.deliver(envelope, message)

    def _misdirected(self, envelope: Envelope, message: Message) -> None:
        """A heartbeat meant for an earlier incarnation of mine tells that one's generation, and who is there."""
        if envelope.to != self.book.me.id or not isinstance(message, Heartbeat):
            return
        if (message.me.id, message.me.generation) != (envelope.origin, envelope.generation):
            return
        self.book.saw_mine(envelope.to_generation)
        self.book.heard(message.me, direct=True)

    def _fenced(self, envelope: Envelope, message: Message) -> bool:
        """Drop what comes from a dead generation, and tell it. Only ``you are dead`` itself passes."""
        node, generation = NodeId(envelope.origin), envelope.generation
        if generation == 0 or isinstance(message, YouAreDead) or not self.book.is_dead(node, generation):
            return False
        self.statistics.of_dead += 1
        said = message.me if isinstance(message, Heartbeat | Join) else None
        if not (said is not None and said.status == "dead"):  # it says so itself: no answer needed
            self.tell_dead(node, generation, said.command if said is not None else "")
        return True

    def tell_dead(self, node: NodeId, generation: int, endpoint: str = "") -> None:
        """Answer ``you are dead`` to that generation: over its link where there is one, else to where it says it is."""
        now = self.clock.monotonic_ms()
        if now - self._told_dead_ms.get(node, -DEAD_ANSWER_MS) < DEAD_ANSWER_MS:
            return
        if len(self._told_dead_ms) > 2 * STRAY_LINKS:
            self._told_dead_ms.clear()
        self._told_dead_ms[node] = now
        self.statistics.conflicts += 1
        answer = YouAreDead(node, max(self.book.highest_generation(node), generation))
        peer = self._peers.get(node)
        if endpoint:
            self.post_to(endpoint, answer, to=node, to_generation=generation)
        elif peer is not None and peer.generation == generation:
            peer.send(self._seal(node, generation, ONE_WAY, encode(answer), 0, 0))

    def close(self, linger_ms: int) -> None:
        self._closed = True
        for peer in [*self._peers.values(), *self._strays.values()]:
            peer.close(linger_ms)
        self._peers.clear()
        self._strays.clear()
