"""The store process's end of its clients' streams: who may open one, how much of each is taken, what is answered.

A stream is served as long as both ends are in the book as they were at its hello: who is declared dead is cut off, as
by the mesh, and a store that rose to another generation ends its streams, whose calls were meant for its predecessor.
A client that does not read its answers, or asks more than STORE_STREAM_CALLS at once, is read from no more until it
has: its calls wait in its own process.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from runtime.mesh.api import Book, Sender
from runtime.mesh.handling import Handling
from runtime.store.stream import HELLO, Stream
from world.ids import NodeId
from world.limits import (
    COMMAND_MESSAGE_BYTES,
    STORE_STREAM_BYTES,
    STORE_STREAM_CALLS,
    STORE_STREAM_OPEN_MS,
    STORE_STREAMS,
)
from world.messages import Member, Message, Ok, Problem, StoreHello, encode

M = TypeVar("M", bound=Message)


class Around(Protocol):
    """The part of a Mesh that the listener needs."""

    @property
    def book(self) -> Book: ...

    @property
    def me(self) -> Member: ...


@dataclass(slots=True)
class ListenerStatistics:
    """Totals since the process started."""

    streams: int = 0  # open now
    opened: int = 0
    refused: int = 0  # no hello in time, of nobody in the book, meant for another, or one too many
    malformed: int = 0
    calls: int = 0
    paused: int = 0  # a client was read from no more for a while


class StoreListener:
    """Streams to this process. ``serve`` handlers before ``open``."""

    def __init__(self, mesh: Around, handling: Handling) -> None:
        self.statistics = ListenerStatistics()
        self.mesh, self.handling = mesh, handling
        self._streams: set[ServedStream] = set()
        self._server: asyncio.Server | None = None
        mesh.book.on_change(self._cut_off)
        mesh.book.on_dead(lambda node, generation: self._cut_off())

    def serve(self, kind: type[M], handler: Callable[[Sender, M], Message | None | Awaitable[Message | None]]) -> None:
        self.handling.serve(kind, handler)

    async def open(self, host: str, port: int) -> int:
        """The port where it listens from now on (0: a free one). Raises OSError."""
        self._server = await asyncio.get_running_loop().create_server(partial(ServedStream, self), host, port)
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def close(self) -> None:
        """What was answered still leaves."""
        if self._server is not None:
            self._server.close()
        for stream in list(self._streams):
            stream.transport.close()

    # -- of the streams ----------------------------------------------------------------------------------------------
    def begin(self, stream: "ServedStream") -> bool:
        """False: one too many."""
        if len(self._streams) >= STORE_STREAMS:
            self.statistics.refused += 1
            return False
        self._streams.add(stream)
        self.statistics.streams = len(self._streams)
        return True

    def ended(self, stream: "ServedStream") -> None:
        self._streams.discard(stream)
        self.statistics.streams = len(self._streams)

    def why_not(self, hello: StoreHello) -> Problem | None:
        me = self.mesh.me
        if (hello.to, hello.to_generation) != (me.id, me.generation):
            return Problem("misdirected", f"this is {me.id}, generation {me.generation}")
        known = self.mesh.book.get(NodeId(hello.node))
        if known is None or known.generation != hello.generation:
            return Problem("stranger", f"{hello.node}, generation {hello.generation}, is not in the book")
        return None

    def _cut_off(self) -> None:
        for stream in list(self._streams):
            if stream.hello is not None and self.why_not(stream.hello) is not None:
                stream.transport.abort()


class ServedStream(Stream):
    """One client's."""

    def __init__(self, listener: StoreListener) -> None:
        super().__init__()
        self.hello: StoreHello | None = None
        self._listener = listener
        self._sender = Sender(NodeId(""), 0)
        self._running = 0
        self._full = False  # of answers that the client does not read
        self._patience: asyncio.TimerHandle | None = None

    # -- of asyncio --------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._listener.begin(self):
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(STORE_STREAM_BYTES)
        self._patience = asyncio.get_running_loop().call_later(STORE_STREAM_OPEN_MS / 1_000, self._refuse)

    def connection_lost(self, error: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._listener.ended(self)

    def pause_writing(self) -> None:
        self._full = True
        self._adjust()

    def resume_writing(self) -> None:
        self._full = False
        self._adjust()

    def spoilt(self) -> None:
        self._listener.statistics.malformed += 1

    def arrived(self, number: int, message: Message) -> None:
        if self.hello is None:
            self._greeted(message)
            return
        self._listener.statistics.calls += 1
        self._running += 1
        self._adjust()
        if not self._listener.handling.run(self._sender, message, partial(self._answer, number)):
            self._answer(number, Problem("temporary", "the store has too much to do"))

    # ----------------------------------------------------------------------------------------------------------------
    def _greeted(self, message: Message) -> None:
        problem = (
            self._listener.why_not(message) if isinstance(message, StoreHello) else Problem("stranger", "no hello")
        )
        if problem is None and isinstance(message, StoreHello):
            self.hello = message
            self._sender = Sender(NodeId(message.node), message.generation)
            self._listener.statistics.opened += 1
            if self._patience is not None:
                self._patience.cancel()
        self.write(HELLO, encode(problem or Ok()))
        if problem is not None:
            self._refuse()

    def _refuse(self) -> None:
        self._listener.statistics.refused += 1
        self.transport.close()

    def _answer(self, number: int, reply: Message) -> None:
        self._running -= 1
        body = encode(reply)
        if len(body) > COMMAND_MESSAGE_BYTES:
            body = encode(Problem("reply_too_big", f"{len(body)} bytes"))
        self.write(number, body)
        self._adjust()

    def _adjust(self) -> None:
        """Take calls, or no more for now."""
        wait = self._full or self._running >= STORE_STREAM_CALLS
        if wait != self.paused:
            self._listener.statistics.paused += wait
            self.pause(wait)
