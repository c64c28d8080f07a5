"""The client's end of a stream to the store: what a ``StoreClient`` asks, and by which way it goes.

Where a stream to the store that the book shows is open, a call goes by it; else by the mesh, which also tells what is
wrong: so nothing waits for a stream, and a store of a release without streams is served as before. A call goes one way
only and is never repeated on the other:

    the stream breaks, or the store's generation is declared dead     Unreachable, sent: whether it ran is uncertain
    no answer in time                                                 DeadlineExceeded, sent; the stream is given up
                                                                      where nothing at all came meanwhile
    STORE_STREAM_CALLS or STORE_STREAM_BYTES wait                     by the mesh, which refuses what it cannot take
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from runtime.mesh.api import Book, DeadlineExceeded, MeshError, Refused, Unreachable
from runtime.store.batching import Asking
from runtime.store.stream import HELLO, Stream
from world.ids import NodeId
from world.limits import (
    COMMAND_MESSAGE_BYTES,
    RPC_DEADLINE_MS,
    RPC_SWEEP_MS,
    STORE_STREAM_AGAIN_MS,
    STORE_STREAM_BYTES,
    STORE_STREAM_CALLS,
    STORE_STREAM_OPEN_MS,
)
from world.messages import Member, Message, Ok, Problem, StoreHello, encode


class Around(Asking, Protocol):
    """The part of a Mesh that the link needs."""

    @property
    def book(self) -> Book: ...

    @property
    def me(self) -> Member: ...


@dataclass(slots=True)
class LinkStatistics:
    """Totals since the link was made."""

    streamed: int = 0  # calls by a stream
    meshed: int = 0  # calls by the mesh
    opened: int = 0
    failed: int = 0  # streams that did not come to be: nobody there, no answer, refused
    broken: int = 0  # streams that ended while this end still wanted them
    deadlines: int = 0
    late: int = 0  # answers to calls that were given up


class StoreLink:
    """``ask`` and ``call`` as of a Mesh, for calls to the store. Made on the running loop, closed by its owner."""

    def __init__(self, mesh: Around) -> None:
        self.statistics = LinkStatistics()
        self._mesh = mesh
        self._loop = asyncio.get_running_loop()
        self._stream: ClientStream | None = None
        self._opening: asyncio.Task[None] | None = None
        self._again_s = 0.0  # of the loop's clock: no stream is tried before
        self._closed = False
        mesh.book.on_dead(self._died)

    @property
    def book(self) -> Book:
        return self._mesh.book

    async def call(self, node: NodeId, message: Message, *, deadline_ms: float = RPC_DEADLINE_MS) -> Message:
        """Raises as ``ask``, and what its future is ended with."""
        return await self.ask(node, message, deadline_ms=deadline_ms)

    def ask(self, node: NodeId, message: Message, *, deadline_ms: float = RPC_DEADLINE_MS) -> "asyncio.Future[Message]":
        """As a mesh's. Raises Unreachable, Refused."""
        stream = self._stream_to(node)
        if stream is None or not stream.has_room:
            self.statistics.meshed += 1
            return self._mesh.ask(node, message, deadline_ms=deadline_ms)
        self.statistics.streamed += 1
        return stream.ask(message, deadline_ms)

    async def close(self) -> None:
        """End the stream; calls that wait in it are uncertain. Later ones go by the mesh."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        self._drop()

    def _stream_to(self, node: NodeId) -> "ClientStream | None":
        """The open stream to that store as the book shows it now; else one is begun, for calls to come."""
        member = self._mesh.book.get(node)
        if member is None or not member.store:
            return None
        hello = StoreHello(self._mesh.me.id, self._mesh.me.generation, member.id, member.generation)
        stream = self._stream
        if stream is not None and stream.is_open and stream.hello == hello:
            return stream
        if self._opening is None and not self._closed and self._loop.time() >= self._again_s:
            self._opening = self._loop.create_task(self._open(member.store, hello), name="store-stream")
        return None

    async def _open(self, endpoint: str, hello: StoreHello) -> None:
        """One attempt. Whoever calls next begins another, STORE_STREAM_AGAIN_MS after this one."""
        self._again_s = self._loop.time() + STORE_STREAM_AGAIN_MS / 1_000
        self._drop()
        host, _, port = endpoint.rpartition(":")
        stream = ClientStream(hello, self.statistics)
        try:
            async with asyncio.timeout(STORE_STREAM_OPEN_MS / 1_000):
                await self._loop.create_connection(lambda: stream, host, int(port))
                await stream.welcomed
        except (OSError, ValueError, OverflowError, MeshError):  # nobody there, no such address, refused; no answer
            self.statistics.failed += 1
            stream.end()
        except asyncio.CancelledError:
            stream.end()
            raise
        else:
            self.statistics.opened += 1
            self._stream = stream
        finally:
            self._opening = None

    def _died(self, node: NodeId, generation: int) -> None:
        stream = self._stream
        if stream is not None and stream.hello.to == node and stream.hello.to_generation <= generation:
            self._drop()

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.end()
            self._stream = None


@dataclass(slots=True)
class _Waiting:
    answer: "asyncio.Future[Message]"
    asked_s: float
    until_s: float


class ClientStream(Stream):
    """``welcomed`` ends when the store has taken the hello, or with what it said instead."""

    def __init__(self, hello: StoreHello, statistics: LinkStatistics) -> None:
        super().__init__()
        self.hello = hello
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._statistics = statistics
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, _Waiting] = {}  # by number, so the oldest first
        self._number = HELLO
        self._heard_s = 0.0
        self._connected = False
        self._ended = False
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return not self._ended

    @property
    def has_room(self) -> bool:
        waits = self.transport.get_write_buffer_size()
        return len(self._waiting) < STORE_STREAM_CALLS and waits < STORE_STREAM_BYTES

    def ask(self, message: Message, deadline_ms: float) -> "asyncio.Future[Message]":
        """Raises Refused where the message is too big to be sent."""
        body = encode(message)
        if len(body) > COMMAND_MESSAGE_BYTES:
            raise Refused("too_big", f"{len(body)} bytes")
        now, answer = self._loop.time(), self._loop.create_future()
        self._number += 1
        self._waiting[self._number] = _Waiting(answer, now, now + deadline_ms / 1_000)
        self.write(self._number, body)
        self._arm()
        return answer

    def end(self) -> None:
        """Calls that wait are uncertain from now on."""
        if self._ended:
            return
        self._ended = True
        if self._connected:
            self.transport.abort()
        if self._sweep is not None:
            self._sweep.cancel()
        broken = Unreachable("the stream to the store broke", sent=True)
        if not self.welcomed.done():
            self.welcomed.set_exception(broken)
            self.welcomed.exception()  # looked at: nobody has to wait for it
        waiting, self._waiting = self._waiting, {}
        for call in waiting.values():
            if not call.answer.done():
                call.answer.set_exception(Unreachable(str(broken), sent=True))

    # -- of asyncio --------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connected = True
        self.write(HELLO, encode(self.hello))

    def connection_lost(self, error: Exception | None) -> None:
        self._statistics.broken += not self._ended
        self.end()

    def arrived(self, number: int, message: Message) -> None:
        self._heard_s = self._loop.time()
        if number == HELLO:
            self._answered_hello(message)
            return
        call = self._waiting.pop(number, None)
        if call is None or call.answer.done():
            self._statistics.late += 1
        elif isinstance(message, Problem):
            call.answer.set_exception(Refused(message.code, message.detail))
        else:
            call.answer.set_result(message)

    def _answered_hello(self, message: Message) -> None:
        if self.welcomed.done():
            return
        if isinstance(message, Ok):
            self.welcomed.set_result(None)
        else:
            self.welcomed.set_exception(Unreachable(f"the store answered {message!r}"))

    # -- deadlines ---------------------------------------------------------------------------------------------------
    def _arm(self) -> None:
        if self._sweep is None:
            self._sweep = self._loop.call_later(RPC_SWEEP_MS / 1_000, self._on_sweep)

    def _on_sweep(self) -> None:
        """All calls of a store's client have one deadline, so the oldest is due first."""
        self._sweep = None
        now = self._loop.time()
        while self._waiting:
            number, call = next(iter(self._waiting.items()))
            if call.until_s > now:
                self._arm()
                return
            del self._waiting[number]
            self._expire(call)

    def _expire(self, call: _Waiting) -> None:
        if call.answer.done():
            return
        self._statistics.deadlines += 1
        call.answer.set_exception(DeadlineExceeded("the store did not answer in time", sent=True))
        if self._heard_s < call.asked_s:
            self.end()
