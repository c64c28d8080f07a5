"""The byte mirror: what a newcomer to a sub-cell must be given, per (publisher, cell), as published, never decoded.

::

    CellMirror = snapshot {place: message} at sequence s
               + deltas   {place: [(sequence, message)…]}, all with sequence > s

A message is a slice with its WebSocket header, made once and shared by all who get it. Deltas are bounded: past
MIRROR_DELTA_BYTES a fresh snapshot is wanted (``wants_refresh``), past MIRROR_OVERFLOW_BYTES they are dropped and
newcomers wait for it.
"""

from collections.abc import Iterable

from world.frames import SNAPSHOT, Head, slice_bytes
from world.limits import MIRROR_DELTA_BYTES, MIRROR_OVERFLOW_BYTES

Placed = tuple[int, bytes]  # (place in the cell, slice or framed message)

_SHORT, _MEDIUM = 126, 1 << 16


def framed(payload: bytes) -> bytes:
    """A whole unmasked binary WebSocket message (RFC 6455 section 5.2), as servers send it."""
    length = len(payload)
    if length < _SHORT:
        return bytes((0x82, length)) + payload
    if length < _MEDIUM:
        return b"\x82\x7e" + length.to_bytes(2, "big") + payload
    return b"\x82\x7f" + length.to_bytes(8, "big") + payload


class CellMirror:
    """One publisher's part of one cell."""

    __slots__ = ("_deltas", "_dropped_to", "_snapshot", "delta_bytes", "head", "whole")

    def __init__(self, head: Head, slices: Iterable[Placed]) -> None:
        self._start(head, slices)

    def _start(self, head: Head, slices: Iterable[Placed]) -> None:
        self.head = head  # of the newest frame taken
        self.delta_bytes = 0
        self.whole = True  # False: deltas were dropped, newcomers wait for a fresh snapshot
        self._snapshot = {place: framed(piece) for place, piece in slices}
        self._deltas: dict[int, list[tuple[int, bytes]]] = {}
        self._dropped_to = head.sequence  # a fresh snapshot must be at least this new

    @property
    def wants_refresh(self) -> bool:
        return self.delta_bytes > MIRROR_DELTA_BYTES or not self.whole

    def places(self) -> set[int]:
        """Where in the cell this publisher has shown something since its snapshot."""
        return set(self._snapshot) | set(self._deltas)

    def add(self, head: Head, slices: Iterable[Placed]) -> list[Placed]:
        """A delta frame; the messages to forward."""
        self.head = head
        messages = []
        for place, piece in slices:
            message = framed(piece)
            messages.append((place, message))
            self._deltas.setdefault(place, []).append((head.sequence, message))
            self.delta_bytes += len(message)
        if self.delta_bytes > MIRROR_OVERFLOW_BYTES:
            self._drop()
        return messages

    def _drop(self) -> None:
        self.whole, self._dropped_to = False, self.head.sequence
        self._deltas = {place: [] for place in self._deltas}  # the places stay known: they must be cleared one day
        self.delta_bytes = 0

    def replace(self, head: Head, slices: Iterable[Placed]) -> list[Placed]:
        """A snapshot for everybody; the messages to forward: sub-cells it no longer names are said to be empty."""
        gone = self.places()
        self._start(head, slices)
        gone -= set(self._snapshot)
        return [*self._snapshot.items(), *self.empties(gone)]

    def rebase(self, head: Head, slices: Iterable[Placed]) -> bool:
        """A snapshot for newcomers: takes the place of the deltas up to it. False: too old, or another generation."""
        if head.generation != self.head.generation or head.sequence < self._dropped_to:
            return False
        seen = self.places()
        self._snapshot = {place: framed(piece) for place, piece in slices}
        for place in seen - set(self._snapshot):
            self._snapshot[place] = self.empties([place])[0][1]
        for place, rows in list(self._deltas.items()):
            self._deltas[place] = [row for row in rows if row[0] > head.sequence]
            if not self._deltas[place]:
                del self._deltas[place]
        self._dropped_to, self.whole = head.sequence, True
        self.delta_bytes = sum(len(message) for rows in self._deltas.values() for _n, message in rows)
        return True

    def serve(self, place: int) -> list[bytes]:
        """The messages that bring somebody who knows nothing up to date; none while deltas are missing."""
        if not self.whole:
            return []
        messages = [self._snapshot[place]] if place in self._snapshot else []
        if not messages and place in self._deltas:
            messages = [self.empties([place])[0][1]]  # a delta's base: nothing was here
        return messages + [message for _n, message in self._deltas.get(place, ())]

    def empties(self, places: Iterable[int]) -> list[Placed]:
        """Snapshots with nothing in them: all of this publisher is gone there."""
        head = self.head
        return [
            (
                place,
                framed(
                    slice_bytes(
                        SNAPSHOT, place, head.cell, head.publisher, head.generation, head.sequence, head.world_ms, []
                    )
                ),
            )
            for place in sorted(places)
        ]
