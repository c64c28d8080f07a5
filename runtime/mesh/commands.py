"""The command plane: calls with retries and deadlines at the origin, handlers with reply memory at the server."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from runtime.mesh.api import DeadlineExceeded, MeshError, Refused, Sender, Unreachable
from runtime.mesh.book import MemberBook
from runtime.mesh.calls import NEW, Call, CallTable, ReplyMemory, TableFull
from runtime.mesh.envelope import CALL, ONE_WAY, REPLY, Envelope
from runtime.mesh.handling import Handling, Spawn
from runtime.mesh.statistics import MeshStatistics
from runtime.mesh.wire import Wire
from world.clock import Clock
from world.ids import NodeId
from world.limits import COMMAND_MESSAGE_BYTES, RPC_DEADLINE_MS, RPC_RETRY_MS, RPC_SWEEP_MS
from world.messages import Message, Problem, encode

M = TypeVar("M", bound=Message)


class Commands:
    def __init__(
        self,
        wire: Wire,
        book: MemberBook,
        clock: Clock,
        statistics: MeshStatistics,
        spawn: Spawn,
        report: Callable[[str, BaseException], None],
    ) -> None:
        """``report(what, error)`` logs a handler's failure."""
        self._wire, self._book, self._clock, self._statistics = wire, book, clock, statistics
        self._handling = Handling(statistics, spawn, report)
        self._table = CallTable()
        self._waiters: dict[int, asyncio.Future[Message]] = {}
        self._memory = ReplyMemory()
        self._turn: dict[str, int] = {}  # round robin per role
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        wire.floor_of = self._table.floor
        wire.on_taken = self._taken
        wire.is_awaited = self._is_awaited
        book.on_dead(lambda node, generation: self._gave_up_on(node, generation))

    @property
    def in_flight(self) -> int:
        return len(self._table)

    @property
    def remembered(self) -> int:
        return len(self._memory)

    # -- the origin's side -----------------------------------------------------------------------------------------
    async def call(self, node: NodeId, message: Message, *, deadline_ms: float = RPC_DEADLINE_MS) -> Message:
        return await self.ask(node, message, deadline_ms=deadline_ms)

    def ask(self, node: NodeId, message: Message, *, deadline_ms: float = RPC_DEADLINE_MS) -> "asyncio.Future[Message]":
        """``call`` for who needs no task of his own. Raises Unreachable, Refused where it ends before it began."""
        member = self._book.get(node)
        if self._closed or member is None:
            raise Unreachable(f"{node} is not in the book")
        now, body = self._clock.monotonic_ms(), encode(message)
        if len(body) > COMMAND_MESSAGE_BYTES:
            raise Refused("too_big", f"{len(body)} bytes")
        try:
            call = self._table.begin(node, member.generation, body, now, now + deadline_ms)
        except TableFull:
            raise Unreachable("too many calls in flight") from None
        waiter: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiters[call.number] = waiter
        waiter.add_done_callback(partial(self._settle, call.number))
        self._statistics.calls += 1
        self._attempt(call)
        self._arm()
        return waiter

    def _settle(self, number: int, _waiter: "asyncio.Future[Message]") -> None:
        """Answered, failed or given up (cancelled)."""
        self._table.settle(number)
        self._waiters.pop(number, None)

    async def call_any(self, role: str, message: Message, *, deadline_ms: float = RPC_DEADLINE_MS) -> Message:
        nodes = self._in_turn(role)
        failure: MeshError = Unreachable(f"no {role} is in the book")
        sent = False
        deadline = self._clock.monotonic_ms() + deadline_ms
        for tried, node in enumerate(nodes):
            left = deadline - self._clock.monotonic_ms()
            share = min(left, max(left / (len(nodes) - tried), RPC_RETRY_MS))
            if share <= 0:
                break
            try:
                return await self.call(node, message, deadline_ms=share)
            except (Unreachable, DeadlineExceeded) as error:
                failure = error
                sent = error.sent = sent or error.sent
        raise failure

    def _in_turn(self, role: str) -> list[NodeId]:
        """Live, ready members first, each time beginning with the next; then ready ones that are suspected."""
        ready = [NodeId(m.id) for m in self._book.members(role) if m.status == "ready"]
        live = [n for n in ready if not self._book.suspected(n)]
        turn = self._turn[role] = self._turn.get(role, -1) + 1
        if live:
            at = turn % len(live)
            live = live[at:] + live[:at]
        return live + [n for n in ready if n not in live]

    def send(self, node: NodeId, message: Message) -> bool:
        return not self._closed and self._wire.post(node, ONE_WAY, encode(message)) is not False

    def _attempt(self, call: Call) -> None:
        """Send once more. Only a first attempt that is refused ends the call: later ones may still be answered."""
        call.attempts += 1
        left = call.deadline_ms - self._clock.monotonic_ms()
        posted = self._wire.post(call.node, CALL, call.body, number=call.number, ttl_ms=left)
        if posted:
            call.sent = True
        elif posted is False and call.attempts == 1 and self._wire.held is None and self._wire.linked(call.node):
            self._fail(call, Unreachable(f"{call.node}: outbox full"))

    def _taken(self, number: int) -> None:
        call = self._table.get(number)
        if call is not None:
            call.sent = True

    def _is_awaited(self, number: int) -> bool:
        waiter = self._waiters.get(number)
        return waiter is not None and not waiter.done()

    def _fail(self, call: Call, error: MeshError) -> None:
        waiter = self._waiters.get(call.number)
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def _gave_up_on(self, node: str, generation: int) -> None:
        for call in self._table.waiting_for(node):
            if call.generation <= generation:
                self._fail(call, Unreachable(f"{node} generation {call.generation} is dead", sent=call.sent))
        self._memory.forget(node, generation)  # its own calls need no answers any more

    def _arm(self) -> None:
        if self._sweep is None and not self._closed:
            self._sweep = asyncio.get_running_loop().call_later(RPC_SWEEP_MS / 1_000, self._on_sweep)

    def _on_sweep(self) -> None:
        self._sweep = None
        again, expired = self._table.due(self._clock.monotonic_ms())
        for call in expired:
            self._statistics.deadlines += 1
            self._fail(call, DeadlineExceeded(f"{call.node} did not answer in time", sent=call.sent))
        for call in again:
            self._statistics.retries += 1
            self._attempt(call)
        if len(self._table):
            self._arm()

    # -- the server's side -----------------------------------------------------------------------------------------
    def serve(self, kind: type[M], handler: Callable[[Sender, M], Message | None | Awaitable[Message | None]]) -> None:
        self._handling.serve(kind, handler)

    def arrived(self, envelope: Envelope, message: Message) -> None:
        """A message that passed the fences and is none of the membership's own. Who is not in the book yet, at this
        generation, is not served: its heartbeat is on the way, and it will call again."""
        now = self._clock.monotonic_ms()
        member = self._book.get(NodeId(envelope.origin))
        if member is None or member.generation != envelope.generation:
            self._statistics.strangers += 1
            return
        self._memory.heard_floor(envelope.origin, envelope.generation, envelope.floor, now)
        if envelope.kind == REPLY:
            self._answered(envelope, message)
        elif envelope.kind == CALL:
            self._called(envelope, message, now)
        else:
            self._run(envelope, message)

    def heard_floor(self, envelope: Envelope) -> None:
        """The membership's messages carry floors too: an origin that calls no more is pruned by its heartbeats."""
        now = self._clock.monotonic_ms()
        self._memory.heard_floor(envelope.origin, envelope.generation, envelope.floor, now)

    def _answered(self, envelope: Envelope, message: Message) -> None:
        call = self._table.get(envelope.number)
        waiter = self._waiters.get(envelope.number)
        if call is None or waiter is None or waiter.done() or call.node != envelope.origin:
            self._statistics.late_replies += 1
        elif isinstance(message, Problem):
            waiter.set_exception(Refused(message.code, message.detail))
        else:
            waiter.set_result(message)

    def _called(self, envelope: Envelope, message: Message, now: float) -> None:
        forget_ms = now + max(envelope.ttl_ms, RPC_DEADLINE_MS)
        state = self._memory.arrived(envelope.origin, envelope.generation, envelope.number, forget_ms)
        if state == NEW:
            self._run(envelope, message)
            return
        self._statistics.repeated += 1
        if isinstance(state, bytes):
            self._reply_bytes(envelope, state)

    def _run(self, envelope: Envelope, message: Message) -> None:
        sender = Sender(NodeId(envelope.origin), envelope.generation)
        if not self._handling.run(sender, message, partial(self._reply, envelope)):
            self._memory.withdraw(envelope.origin, envelope.generation, envelope.number)

    def _reply(self, envelope: Envelope, reply: Message) -> None:
        if envelope.kind != CALL:
            return
        body = encode(reply)
        if len(body) > COMMAND_MESSAGE_BYTES:
            body = encode(Problem("reply_too_big", f"{len(body)} bytes"))
        self._memory.answered(envelope.origin, envelope.generation, envelope.number, body)
        self._reply_bytes(envelope, body)

    def _reply_bytes(self, envelope: Envelope, body: bytes) -> None:
        if self._book.highest_generation(NodeId(envelope.origin)) == envelope.generation:  # not replaced meanwhile
            self._wire.post(envelope.origin, REPLY, body, number=envelope.number)

    def stop(self) -> None:
        self._closed = True
        self._handling.close()
        if self._sweep is not None:
            self._sweep.cancel()

    def close(self) -> None:
        """Stop, and end what waits."""
        self.stop()
        for number, waiter in list(self._waiters.items()):
            call = self._table.get(number)
            if not waiter.done():
                waiter.set_exception(Unreachable("this mesh is closed", sent=bool(call and call.sent)))
