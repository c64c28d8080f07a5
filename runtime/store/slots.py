"""A bounded number of places, and a bounded queue before them: how many calls are under way at once."""

import asyncio
from collections import deque

from runtime.store.api import Temporary


class Slots:
    """``bound`` places. Who finds none waits, first come first served, at most ``wait_ms``, and at most ``queue`` wait
    at once; the others are told Temporary. ``statistics()`` says how it went."""

    def __init__(self, bound: int, *, queue: int, wait_ms: float) -> None:
        self.free = bound  # a caller on its fast path takes one by itself where there is one
        self._bound = bound
        self._wait_s = wait_ms / 1_000
        self._waiting: deque[asyncio.Future[None]] = deque(maxlen=queue)
        self._waits = 0
        self._refused = 0
        self._longest_s = 0.0
        self._empty: asyncio.Future[None] | None = None  # for who waits until no place is taken

    async def take(self) -> None:
        """Raises Temporary: the queue is full, or the wait was too long."""
        if self.free:
            self.free -= 1
            return
        if len(self._waiting) == self._waiting.maxlen:
            self._refused += 1
            raise Temporary(f"{self._bound} calls are under way and {len(self._waiting)} wait")
        loop = asyncio.get_running_loop()
        place, since_s, granted = loop.create_future(), loop.time(), False
        self._waiting.append(place)
        self._waits += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await place
            granted = True
        except TimeoutError:
            self._refused += 1
            raise Temporary(f"waited {self._wait_s:.1f} s for one of {self._bound} places") from None
        finally:
            self._longest_s = max(self._longest_s, loop.time() - since_s)
            if not granted:
                self._leave(place)

    def _leave(self, place: "asyncio.Future[None]") -> None:
        """Its caller has gone: out of the queue, or, where it was called in that moment, the place goes on."""
        if place.done() and not place.cancelled():
            self.give()
        elif place in self._waiting:  # else a place that was given since has gone past it, and on
            self._waiting.remove(place)

    def give(self, _done: object = None) -> None:
        """Back, or straight on to who has waited longest."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.free += 1
        if self._empty is not None and self.free == self._bound and not self._empty.done():
            self._empty.set_result(None)

    async def emptied(self, at_most_ms: float) -> None:
        """Until no place is taken, or that time has passed."""
        if self.free == self._bound:
            return
        self._empty = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._empty], timeout=at_most_ms / 1_000)

    @property
    def taken(self) -> int:
        return self._bound - self.free

    def statistics(self) -> dict[str, float]:
        return {
            "in_flight": self.taken,
            "waiting": len(self._waiting),
            "waits": self._waits,
            "refused": self._refused,
            "longest_wait_ms": self._longest_s * 1_000,
        }
