"""The live picture for the observe page: asked of all game servers twice a second, only while somebody watches.

Besides what game servers answer it holds what this gateway knows by itself: the processes in its book, and the newest
notes. So it still comes when a server does not answer, and says of that server what is known.
"""

import asyncio
from collections.abc import AsyncIterator

import orjson

from gateway.noted import NoteRing
from runtime.mesh.api import Mesh, MeshError
from world.clock import Clock
from world.ids import NodeId
from world.limits import OBSERVE_EVENTS, OBSERVE_MS, OBSERVER_PICTURES, OBSERVERS_PER_GATEWAY
from world.messages import AskObserve, Json, Observed

_UNTOLD = ("repair",)  # too many and too small for a map


class TooManyObservers(Exception):
    """OBSERVERS_PER_GATEWAY watch already."""


class ObserveHub:
    """One question per tick, whatever the number of observers; a slow observer misses pictures, never delays them."""

    def __init__(self, mesh: Mesh, clock: Clock, noted: NoteRing) -> None:
        self._mesh = mesh
        self._clock = clock
        self._noted = noted
        self._observers: set[asyncio.Queue[bytes]] = set()
        self._watched = asyncio.Event()

    def __len__(self) -> int:
        return len(self._observers)

    def watch(self) -> AsyncIterator[bytes]:
        """Server-sent events from now on; b"" never comes, the end of the stream is the gateway's. Raises
        TooManyObservers."""
        if len(self._observers) >= OBSERVERS_PER_GATEWAY:
            raise TooManyObservers
        queue: asyncio.Queue[bytes] = asyncio.Queue(OBSERVER_PICTURES)  # full: the older picture is replaced
        self._observers.add(queue)
        self._watched.set()
        return self._follow(queue)

    async def _follow(self, queue: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
        try:
            while piece := await queue.get():
                yield piece
        finally:
            self._observers.discard(queue)
            if not self._observers:
                self._watched.clear()

    async def loop(self) -> None:
        """Spawned by the composition root."""
        while True:
            await self._watched.wait()
            began_ms = self._clock.monotonic_ms()
            self._tell(b"data: " + orjson.dumps(await self.picture()) + b"\n\n")
            took_ms = self._clock.monotonic_ms() - began_ms  # all of it, where a server does not answer
            await asyncio.sleep(max(0.0, OBSERVE_MS - took_ms) / 1_000)

    async def stop(self) -> None:
        """End every stream."""
        self._tell(b"")

    def _tell(self, piece: bytes) -> None:
        for queue in self._observers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(piece)

    async def picture(self) -> Json:
        """{servers: [Observed.view…], nodes, events, gateway, world_ms}, as in docs/protocol/02; a server that does
        not answer in time is left out of ``servers``."""
        servers = sorted(m.id for m in self._mesh.book.members("gameserver"))
        views = await asyncio.gather(*[self._ask(NodeId(server)) for server in servers])
        return {
            "servers": [view for view in views if view is not None],
            "nodes": self._nodes(),
            "events": [note.view() for note in self._noted.newest(OBSERVE_EVENTS, without=_UNTOLD)],
            "gateway": self._mesh.me.id,
            "world_ms": self._clock.world_ms(),
        }

    def _nodes(self) -> list[Json]:
        """Who is in this gateway's book; the dead are not."""
        book = self._mesh.book
        return [
            {
                "id": m.id,
                "role": m.role,
                "generation": m.generation,
                "status": m.status,
                "suspected": book.suspected(NodeId(m.id)),
            }
            for m in book.members()
        ]

    async def _ask(self, server: NodeId) -> Json | None:
        try:
            answer = await self._mesh.call(server, AskObserve(), deadline_ms=OBSERVE_MS)
        except MeshError:
            return None
        return answer.view if isinstance(answer, Observed) else None
