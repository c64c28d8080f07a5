"""Numbered events of one avatar (stream, n): what its own player is told, in order and without loss.

The owner keeps a ring of what the client has not confirmed: EVENT_RING_S, EVENT_RING_EVENTS, EVENT_RING_BYTES,
the oldest dropped. Who missed more than the ring holds gets the whole own state anew (``resync``). A new owner
starts a new stream, unless the ring was handed to it.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from world.limits import EVENT_RING_BYTES, EVENT_RING_EVENTS, EVENT_RING_S


class Event(NamedTuple):
    n: int
    body: bytes  # a JSON object
    at_ms: float


class EventRing:
    """One stream. ``next_n``: the number of the next event."""

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.next_n = 1
        self.dropped = 0  # unconfirmed events that had to go
        self._events: deque[Event] = deque(maxlen=EVENT_RING_EVENTS)
        self._bytes = 0

    def add(self, body: bytes, now_ms: float) -> int:
        """Number an event; its n."""
        while self._events and self._too_much(len(body), now_ms):
            self.dropped += 1
            self._bytes -= len(self._events.popleft().body)
        event = Event(self.next_n, body, now_ms)
        self.next_n += 1
        self._events.append(event)
        self._bytes += len(body)
        return event.n

    def _too_much(self, more: int, now_ms: float) -> bool:
        full = len(self._events) == EVENT_RING_EVENTS or self._bytes + more > EVENT_RING_BYTES
        return full or now_ms - self._events[0].at_ms > EVENT_RING_S * 1_000

    def handed(self, now_ms: float) -> list[tuple[int, bytes, float]]:
        """[(n, body, age)]: the ring as it goes to a new owner."""
        return [(event.n, event.body, now_ms - event.at_ms) for event in self._events]

    @staticmethod
    def arrived(stream: int, next_n: int, events: Sequence[tuple[int, bytes, float]], now_ms: float) -> "EventRing":
        """A ring handed over: the same stream goes on."""
        ring = EventRing(stream)
        for n, body, age_ms in events:
            ring._events.append(Event(n, body, now_ms - age_ms))
            ring._bytes += len(body)
        ring.next_n = next_n
        return ring

    def seen(self, n: int) -> None:
        """The client has everything up to ``n``."""
        while self._events and self._events[0].n <= n:
            self._bytes -= len(self._events.popleft().body)

    def after(self, n: int) -> list[tuple[int, bytes]] | None:
        """All events after ``n``; None where some of them are gone (or ``n`` is not of this stream)."""
        oldest = self._events[0].n if self._events else self.next_n
        if not oldest - 1 <= n < self.next_n:
            return None
        return [(event.n, event.body) for event in self._events if event.n > n]
