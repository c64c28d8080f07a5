"""The cluster's news as server-sent events: what the ring holds, then what comes.

A reader has no queue of its own: it reads on in the ring. One that is too slow finds that the ring has moved on; it is
told how many it missed, and they are counted.
"""

import asyncio
from collections.abc import AsyncIterator

import orjson
from prometheus_client import Counter, Gauge
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gateway.gateway import Gateway
from gateway.noted import Note
from gateway.ops.problems import problem
from gateway.ops.requests import flag
from world.limits import OPS_KEEP_ALIVE_MS, OPS_READERS


class EventStream:
    """The route ``/v1/ops/events``."""

    def __init__(self, gateway: Gateway) -> None:
        self._ring = gateway.noted
        self._mesh = gateway.mesh
        registry = gateway.service.metrics
        self._readers = Gauge("projectk_gateway_ops_readers", "Readers of the event stream", registry=registry)
        self._missed = Counter("projectk_gateway_ops_events_missed", "Events slow readers missed", registry=registry)
        self._count = 0

    def _me(self) -> str:
        return f"{self._mesh.me.id}.{self._mesh.me.generation}"

    def routes(self) -> list[Route]:
        return [Route("/v1/ops/events", self.read)]

    async def read(self, request: Request) -> Response:
        follow = flag(request, "follow", default=True)
        last = self._resume(request.headers.get("last-event-id", ""))
        if self._count >= OPS_READERS:
            raise problem("too_many_readers", retry_after_s=10)
        return StreamingResponse(
            self._stream(last, follow), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    def _resume(self, said: str) -> int:
        """The number to go on after; an id of another gateway, or of an earlier start of this one: from the oldest."""
        who, _, number = said.rpartition(".")
        known = who == self._me() and number.isascii() and number[:16].isdecimal()
        return min(int(number[:16]), self._ring.last) if known else 0

    async def _stream(self, last: int, follow: bool) -> AsyncIterator[bytes]:
        """One note after the other; ``last`` is the one told last, 0 at the beginning of the history."""
        self._count += 1
        self._readers.set(self._count)
        try:
            while not self._ring.closed:
                note = self._ring.next(last)
                if note is not None:
                    missed = note.number - last - 1 if last else 0
                    self._missed.inc(missed)
                    last = note.number
                    yield (b'event: missed\ndata: {"missed":%d}\n\n' % missed if missed else b"") + self._event(note)
                elif not follow:
                    return
                elif not await self._news(last):
                    yield b": nothing new\n\n"
        finally:
            self._count -= 1
            self._readers.set(self._count)

    async def _news(self, last: int) -> bool:
        """False: none came for OPS_KEEP_ALIVE_MS."""
        try:
            async with asyncio.timeout(OPS_KEEP_ALIVE_MS / 1_000):
                await self._ring.wait(last)
        except TimeoutError:
            return False
        return True

    def _event(self, note: Note) -> bytes:
        name = note.kind.encode().replace(b"\n", b"").replace(b"\r", b"")
        return b"id: %b.%d\nevent: %b\ndata: %b\n\n" % (
            self._me().encode(),
            note.number,
            name,
            orjson.dumps(note.view()),
        )
