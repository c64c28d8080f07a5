"""Joining, heartbeats, verdicts, gossip, world time and the loop's own pauses. Nothing here waits on a broker.

A joiner asks endpoints it was told of (brokers, or any member) for their book, takes a generation, links to everyone
and heartbeats at once; whoever hears a new member answers with its own page, so that two joiners learn of each other
whichever members they asked. Every BOOK_GOSSIP_MS each member compares books with one other, and asks again at the
endpoints it joined by that do not answer.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec

from runtime.clock import LoopClock
from runtime.mesh.api import ForeignProtocol
from runtime.mesh.book import Heard, MemberBook
from runtime.mesh.envelope import CALL, ONE_WAY, REPLY, Envelope
from runtime.mesh.statistics import MeshStatistics
from runtime.mesh.wire import Wire
from runtime.mesh.worldtime import WorldTimeEstimate
from world.ids import NodeId
from world.limits import (
    BOOK_GOSSIP_MS,
    BROKER_FORGET_MS,
    HEARTBEAT_MS,
    JOIN_ANSWER_MS,
    JOIN_GRACE_MS,
    LOOP_LATE_MS,
    LOOP_PAUSE_MS,
    MEMBER_FORGET_MS,
    PAUSE_PROBE_MS,
    RPC_RETRY_MS,
    WORLD_TIME_WAIT_MS,
)
from world.messages import BookPage, Heartbeat, HeartbeatEcho, Join, Message, Verdict, YouAreDead, encode

ROLES_THAT_END = frozenset({"gameserver"})  # declared dead, once it has claimed its generation: the others rejoin


class Membership:
    def __init__(
        self,
        wire: Wire,
        book: MemberBook,
        clock: LoopClock,
        rng: random.Random,
        statistics: MeshStatistics,
        join: tuple[str, ...],
        heard_floor: Callable[[Envelope], None],
    ) -> None:
        self._wire, self._book, self._clock, self._rng, self._statistics = wire, book, clock, rng, statistics
        self._join = join
        self._heard_floor = heard_floor
        self._node_at: dict[str, str] = {}  # join endpoint: the node that answered there
        self._asked: dict[int, str] = {}  # number of a Join in flight: its endpoint; bounded by the endpoints
        self._number = 0
        self._answers: asyncio.Event = asyncio.Event()
        self._estimate = WorldTimeEstimate()
        self._settled = False  # my world time may count for others
        self._guessed = False  # it is only what this process's wall clock said
        self._measured = asyncio.Event()
        self._late_callbacks: list[Callable[[float], None]] = []
        self._pause_callbacks: list[Callable[[float], None]] = []
        self._probe_ms = 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False
        self.claimed = False  # my generation is what my record says; before that only a guess from the book
        self._handlers: dict[type[Message], Callable[[Envelope, Any], None]] = {
            Heartbeat: self._heard_heartbeat,
            HeartbeatEcho: self._heard_echo,
            Join: self._joined,
            BookPage: self._paged,
            Verdict: self._heard_verdict,
            YouAreDead: self._told_dead,
        }
        book.on_verdict = self._spread
        book.on_dead(lambda node, generation: self._estimate.forget(node))
        book.on_self_dead(self._rise)

    # -- joining ---------------------------------------------------------------------------------------------------
    async def join(self, generation: int | None) -> None:
        """Learn the book, take a generation (given, or one above what the book shows), appear, take world time.
        Raises ForeignProtocol."""
        self._probe_ms = self._clock.monotonic_ms()
        if self._join:
            await self._ask_for_book()
        self._refuse_foreign()
        self.claimed = generation is not None
        self.appear(generation if generation is not None else self._book.highest_generation(self._me()) + 1)
        self._every("heartbeat", HEARTBEAT_MS, self.heartbeat)
        self._every("gossip", BOOK_GOSSIP_MS, self._gossip)
        self._every("probe", PAUSE_PROBE_MS, self.notice_pause)
        await self._take_world_time()

    def _refuse_foreign(self) -> None:
        me, other = self._book.me, self._book.foreign
        if other is not None:
            raise ForeignProtocol(
                f"This {me.role} speaks versions {me.protocol_min} to {me.protocol_max} of the mesh's protocol, "
                f"{other.id} there only {other.protocol_min} to {other.protocol_max}: run releases with one in common."
            )

    def _me(self) -> NodeId:
        return NodeId(self._book.me.id)

    async def _ask_for_book(self) -> None:
        """Asks all join endpoints until one has answered, then waits a little for the others. Nobody: goes on alone."""
        now = self._clock.monotonic_ms()
        deadline, grace = now + JOIN_ANSWER_MS, None
        while True:
            for endpoint in self._join:
                if endpoint not in self._node_at:
                    self._ask(endpoint)
            until = min(self._clock.monotonic_ms() + RPC_RETRY_MS, deadline, grace or deadline)
            self._answers.clear()
            try:
                async with asyncio.timeout(max(0.0, until - self._clock.monotonic_ms()) / 1_000):
                    await self._answers.wait()
            except TimeoutError:
                pass
            now = self._clock.monotonic_ms()
            if self._node_at and grace is None:
                grace = now + JOIN_GRACE_MS
            if len(self._node_at) == len(self._join) or now >= deadline or (grace is not None and now >= grace):
                return

    def _ask(self, endpoint: str) -> None:
        if endpoint == self._book.me.command:
            self._node_at[endpoint] = self._book.me.id
            return
        self._number += 1
        for number in [n for n, at in self._asked.items() if at == endpoint]:
            del self._asked[number]
        self._asked[self._number] = endpoint
        self._wire.post_to(endpoint, Join(self._book.me), CALL, number=self._number, ttl_ms=JOIN_ANSWER_MS)

    def appear(self, generation: int) -> None:
        self._book.me = msgspec.structs.replace(self._book.me, generation=generation)
        self._wire.renew_links()
        self._book.tell_changed()
        self.heartbeat()
        for endpoint in self._join:
            self._ask(endpoint)

    def _rise(self, highest: int) -> None:
        """I am held for dead. A game server ends (its service listens to ``on_self_dead``), others come back above; so
        does a game server that has not claimed its generation yet: the verdict is on a former life, of which the book
        it joined by did not know, and nobody would carry its calls to the store."""
        if self._closed or (self.claimed and self._book.me.role in ROLES_THAT_END):
            return
        self._statistics.conflicts += 1
        self.appear(max(highest, self._book.me.generation) + 1)

    # -- messages of the membership itself -------------------------------------------------------------------------
    def arrived(self, envelope: Envelope, message: Message) -> bool:
        """True: it was one of ours."""
        handle = self._handlers.get(type(message))
        if handle is None:
            return False
        handle(envelope, message)
        return True

    def _heard_verdict(self, _envelope: Envelope, message: Verdict) -> None:
        self._book.verdict(NodeId(message.node), message.generation)

    def _told_dead(self, _envelope: Envelope, message: YouAreDead) -> None:
        if message.node == self._me() and message.highest >= self._book.me.generation > 0:
            self._book.self_dead(message.highest)

    def _heard_heartbeat(self, envelope: Envelope, message: Heartbeat) -> None:
        if (message.me.id, message.me.generation) != (envelope.origin, envelope.generation):
            self._statistics.malformed += 1
            return
        self._heard_floor(envelope)
        heard = self._book.heard(message.me, direct=True)
        if heard is Heard.DEAD:
            self._wire.tell_dead(NodeId(message.me.id), message.me.generation, message.me.command)
            return
        if heard is Heard.FULL or heard is Heard.FOREIGN:
            self._statistics.book_full += heard is Heard.FULL
            self._statistics.foreign += heard is Heard.FOREIGN
            return
        if heard is Heard.NEW:
            self._post(envelope.origin, self.page(), queue=True)
        if message.me.status != "dead":
            world = self._clock.world_ms() if self._settled else 0
            echo = HeartbeatEcho(message.sent_ms, max(0, world), self._book.me.generation)
            self._post(envelope.origin, echo, queue=True)  # the way back may be opening just now

    def _heard_echo(self, envelope: Envelope, message: HeartbeatEcho) -> None:
        now = self._clock.monotonic_ms()
        if not 0 <= now - message.sent_ms <= JOIN_ANSWER_MS * 60:
            self._statistics.malformed += 1
            return
        self._book.answered(envelope.origin, now - message.sent_ms)
        if message.world_ms:
            self._estimate.measured(envelope.origin, message.sent_ms, now, message.world_ms)
            self._measured.set()
            self._agree()

    def _joined(self, envelope: Envelope, message: Join) -> None:
        """Somebody asks for the book, and, once it has a generation, says that it is there."""
        if message.me.id != envelope.origin or message.me.generation != envelope.generation:
            self._statistics.malformed += 1
            return
        heard = self._book.heard(message.me, direct=True) if envelope.generation else Heard.SAME
        if heard is Heard.DEAD:
            self._wire.tell_dead(NodeId(message.me.id), message.me.generation, message.me.command)
            return
        self._statistics.foreign += heard is Heard.FOREIGN  # it learns from the page that it is not understood
        reply = self.page()
        if envelope.generation and self._wire.linked(envelope.origin):
            self._wire.post(envelope.origin, REPLY, encode(reply), number=envelope.number)
        else:
            self._wire.post_to(
                message.me.command, reply, REPLY, number=envelope.number, to=envelope.origin, to_generation=0
            )

    def _paged(self, envelope: Envelope, message: BookPage) -> None:
        self._book.merge(message.members, message.dead)
        endpoint = self._asked.pop(envelope.number, None) if envelope.kind == REPLY else None
        if endpoint is not None:
            self._node_at[endpoint] = envelope.origin
            self._answers.set()

    def page(self) -> BookPage:
        """My book as others are told it: who was heard of lately, and who is dead."""
        told = [m for m in self._book.members() if not self._silent(m.id)]
        return BookPage(told, self._book.verdicts())

    def _silent(self, node: str) -> bool:
        return node != self._me() and self._book.silent_ms(NodeId(node)) > BROKER_FORGET_MS

    def _my_heartbeat(self) -> Heartbeat:
        world = self._clock.world_ms() if self._settled else 0
        return Heartbeat(self._book.me, self._clock.monotonic_ms(), max(0, world))

    def _post(self, node: str, message: Message, *, queue: bool = False) -> None:
        """Most membership messages wait in no outbox: the next one says it better."""
        self._wire.post(node, ONE_WAY, encode(message), queue=queue)

    def broadcast(self, message: Message, *, queue: bool = False) -> None:
        body = encode(message)
        for member in self._book.members():
            if member.id != self._me():
                self._wire.post(member.id, ONE_WAY, body, queue=queue)

    def new_peer(self, node: str) -> None:
        """A link to it was just opened: it should know me before anything else I say."""
        self._wire.post(node, ONE_WAY, encode(self._my_heartbeat()))

    # -- regular work ----------------------------------------------------------------------------------------------
    def _every(self, name: str, every_ms: float, work: Callable[[], object]) -> None:
        """Free of drift; late turns are skipped, never made up for."""
        loop = asyncio.get_running_loop()
        every_s = every_ms / 1_000
        due = loop.time() + every_s

        def turn() -> None:
            nonlocal due
            if self._closed:
                return
            due = max(due + every_s, loop.time())
            self._timers[name] = loop.call_at(due, turn)
            work()

        self._timers[name] = loop.call_at(due, turn)

    def heartbeat(self) -> None:
        self.broadcast(self._my_heartbeat())

    def _gossip(self) -> None:
        """Compare books with one member, and knock again where nobody answers."""
        for gone in self._book.forget_silent(MEMBER_FORGET_MS):
            self._estimate.forget(gone)  # what it said of the time was true then
        others = [m for m in self._book.members() if m.id != self._me()]
        if others:
            self._post(self._rng.choice(others).id, Join(self._book.me))
        for endpoint in self._join:
            node = self._node_at.get(endpoint)
            if node != self._me() and (node is None or self._book.suspected(NodeId(node))):
                self._ask(endpoint)

    def _spread(self, node: NodeId, generation: int) -> None:
        """A verdict that is news goes to everyone, the dead one included."""
        self.broadcast(Verdict(node, generation), queue=True)
        self._wire.tell_dead(node, generation)

    # -- pauses ----------------------------------------------------------------------------------------------------
    def on_late(self, callback: Callable[[float], None]) -> None:
        self._late_callbacks.append(callback)

    def on_pause(self, callback: Callable[[float], None]) -> None:
        self._pause_callbacks.append(callback)

    def notice_pause(self) -> None:
        """Called by a timer and around every message: did this loop stand still since the last call?"""
        now = self._clock.monotonic_ms()
        gap = now - self._probe_ms
        if gap < PAUSE_PROBE_MS / 2:
            return
        self._probe_ms = now
        paused = gap - PAUSE_PROBE_MS
        if paused <= LOOP_LATE_MS or not self._book.me.generation:
            return
        self._book.pardon(paused)
        for callback in list(self._late_callbacks):
            callback(paused)
        if paused <= LOOP_PAUSE_MS:
            return
        self._statistics.pauses += 1
        for callback in list(self._pause_callbacks):
            callback(paused)

    # -- world time ------------------------------------------------------------------------------------------------
    async def _take_world_time(self) -> None:
        """Step to the cluster's time before anything of mine depends on it; the first one brings its wall clock's."""
        if len(self._book.members()) > 1:
            try:
                async with asyncio.timeout(WORLD_TIME_WAIT_MS / 1_000):
                    await self._measured.wait()
            except TimeoutError:
                pass
        offset = self._estimate.joining()
        self._guessed = offset is None and bool(self._join)  # else I am the first one: my time is the cluster's
        if offset is not None:
            self._clock.step(offset)
        self._settled = True

    def _agree(self) -> None:
        """Someone was measured. Who met nobody when it joined takes the time it finds: slewing in a wall clock that is
        an hour off would take a day."""
        if not self._settled:
            return
        if self._guessed and (offset := self._estimate.joining()) is not None:
            self._clock.step(offset)
        self._guessed = False
        self._clock.aim(self._estimate.agreed(self._clock.offset_ms()))

    def say_goodbye(self) -> None:
        """This generation is over."""
        if self._book.me.generation:
            self._book.me = msgspec.structs.replace(self._book.me, status="dead")
            self.broadcast(self._my_heartbeat())

    def close(self) -> None:
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
