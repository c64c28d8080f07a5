"""The ring of numbered events."""

from gameserver.events import EventRing
from world.limits import EVENT_RING_BYTES, EVENT_RING_EVENTS, EVENT_RING_S


def test_events_are_numbered_and_trimmed_by_what_was_seen() -> None:
    ring = EventRing(stream=9)
    assert [ring.add(b"{}", 0.0) for _ in range(3)] == [1, 2, 3]
    assert ring.after(1) == [(2, b"{}"), (3, b"{}")]
    assert ring.after(3) == []
    assert ring.after(4) is None, "of another stream"
    ring.seen(2)
    assert ring.after(2) == [(3, b"{}")]
    assert ring.after(1) is None, "gone"


def test_the_ring_is_bounded_in_events_bytes_and_time() -> None:
    ring = EventRing(1)
    for _ in range(EVENT_RING_EVENTS + 5):
        ring.add(b"{}", 0.0)
    assert ring.dropped == 5
    assert ring.after(4) is None
    assert ring.after(5) is not None
    ring = EventRing(1)
    for _ in range(5):
        ring.add(b"x" * (EVENT_RING_BYTES // 4), 0.0)
    assert ring.dropped == 1
    ring = EventRing(1)
    ring.add(b"old", 0.0)
    ring.add(b"new", EVENT_RING_S * 1_000 + 1.0)
    assert ring.after(0) is None
    assert ring.after(1) == [(2, b"new")]
