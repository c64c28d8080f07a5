"""Transfers: items leave one unit and reach another exactly once, whatever crashes or repeats in between.

1. The giver commits, in one write, the removal and an outbox entry (n counts up for ever, over all epochs).
2. Only *committed* entries are delivered, again and again until answered. A delivery carries ``floor``: every n at or
   below it has left the outbox for good.
3. The receiver applies, remembers (giver, n), and commits; a repeat is answered as applied.
4. The giver forgets the entry, in no hurry: delivering it once more does no harm.

The receiver keeps one floor per giver and only the ids above it.
"""

from collections.abc import Mapping

import msgspec

from world.limits import UNIT_OUTBOX_ENTRIES
from world.messages import Json, Key
from world.results import Refusal


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One outgoing transfer. ``cause``: the command that caused it, whose ``result`` the receiver saves."""

    n: int
    to: str  # the receiving unit
    items: dict[str, int]
    cause: Key | None = None
    result: Json = {}


class Outbox:
    """What a unit has given and nobody has yet acknowledged. ``landed``: entries with n <= it are committed."""

    def __init__(self, last: int = 0, entries: Mapping[int, Entry] | None = None) -> None:
        self.last = last
        self.landed = last
        self.entries: dict[int, Entry] = dict(entries or {})

    @property
    def floor(self) -> int:
        """All n <= it have left for good."""
        return min(self.entries, default=self.last + 1) - 1

    def reserve(self, count: int = 1) -> None:
        """Raises Refusal ``busy`` where ``count`` more entries would not fit."""
        if len(self.entries) + count > UNIT_OUTBOX_ENTRIES:
            raise Refusal("busy", "too many transfers are under way")

    def add(self, to: str, items: Mapping[str, int], cause: Key | None, result: Json) -> Entry:
        self.last += 1
        entry = self.entries[self.last] = Entry(self.last, to, dict(items), cause, result)
        return entry

    def deliverable(self) -> list[Entry]:
        """The committed entries, oldest first."""
        return [e for n, e in self.entries.items() if n <= self.landed]

    def delivered(self, n: int) -> bool:
        """The receiver has committed entry ``n``. False: it was gone already."""
        return self.entries.pop(n, None) is not None


class Received:
    """Which transfers a unit has applied: per giver a floor and the ids above it."""

    def __init__(self, rows: Mapping[str, tuple[int, list[int]]] | None = None) -> None:
        self._floors: dict[str, int] = {}
        self._above: dict[str, set[int]] = {}
        for giver, (floor, above) in (rows or {}).items():
            self._floors[giver] = floor
            if above:
                self._above[giver] = set(above)

    def applied(self, giver: str, n: int) -> bool:
        return n <= self._floors.get(giver, 0) or n in self._above.get(giver, ())

    def add(self, giver: str, n: int) -> None:
        self._above.setdefault(giver, set()).add(n)
        self._floors.setdefault(giver, 0)

    def raise_floor(self, giver: str, floor: int) -> None:
        """From a delivery: everything <= ``floor`` is over. A lower one, of a late message, changes nothing."""
        if floor <= self._floors.get(giver, 0):
            return
        self._floors[giver] = floor
        above = {n for n in self._above.get(giver, ()) if n > floor}
        if above:
            self._above[giver] = above
        else:
            self._above.pop(giver, None)

    def rows(self) -> dict[str, tuple[int, list[int]]]:
        return {giver: (floor, sorted(self._above.get(giver, ()))) for giver, floor in self._floors.items()}
