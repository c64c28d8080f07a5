"""Fences: what keeps an old owner's messages from being believed.

A message's *from* epoch is the fence: below the highest seen for that unit, it is dropped. Its *to* epoch is only a
hint: who owns the unit at that epoch or a higher one serves it. A generation is a start of a server: a message of one
below the highest known, or of one declared dead, is answered ``you are dead``.
"""

from collections import OrderedDict
from enum import Enum

from world.limits import BOOK_MEMBERS, FENCED_UNITS


class EpochFence:
    """The highest epoch seen per unit. Bounded: beyond FENCED_UNITS the unit longest unheard is forgotten (the store's
    compare-and-swap still fences its writes) and counted in ``forgotten``."""

    def __init__(self, capacity: int = FENCED_UNITS) -> None:
        self._highest: OrderedDict[str, int] = OrderedDict()
        self._capacity = capacity
        self.forgotten = 0
        self.dropped = 0

    def admit(self, unit: str, from_epoch: int) -> bool:
        """Whether to believe a message that the owner at ``from_epoch`` sent; also remembers the epoch."""
        highest = self._highest.get(unit, -1)
        if from_epoch < highest:
            self.dropped += 1
            return False
        self._highest[unit] = from_epoch
        self._highest.move_to_end(unit)
        if len(self._highest) > self._capacity:
            self._highest.popitem(last=False)
            self.forgotten += 1
        return True

    def highest(self, unit: str) -> int | None:
        return self._highest.get(unit)


class Hint(Enum):
    SERVE = "serve"
    MOVED = "moved"  # not the owner: say who is, as far as known
    REREAD = "reread"  # somebody saw a higher epoch: read the store before acting


def heed(held_epoch: int | None, to_epoch: int) -> Hint:
    """What to do with a request for a unit held at ``held_epoch`` (None: not held)."""
    if held_epoch is None:
        return Hint.MOVED
    return Hint.REREAD if to_epoch > held_epoch else Hint.SERVE


class Standing(Enum):
    LIVE = "live"
    DEAD = "dead"  # a verdict names this generation or a higher one
    OLD = "old"  # a newer generation of the node is known


class Generations:
    """The highest generation known and the highest one dead, per node. Bounded by BOOK_MEMBERS nodes; beyond it the
    node longest unheard is forgotten."""

    def __init__(self, capacity: int = BOOK_MEMBERS) -> None:
        self._known: OrderedDict[str, tuple[int, int]] = OrderedDict()  # node -> highest, highest dead
        self._capacity = capacity

    def saw(self, node: str, generation: int) -> Standing:
        """Judge a message by its sender's generation, and remember that. LIVE is worth believing."""
        highest, dead = self._known.get(node, (0, 0))
        self._put(node, max(highest, generation), dead)
        return self.standing(node, generation)

    def verdict(self, node: str, generation: int) -> bool:
        """A death verdict arrived; False where it was known."""
        highest, dead = self._known.get(node, (0, 0))
        self._put(node, max(highest, generation), max(dead, generation))
        return generation > dead

    def standing(self, node: str, generation: int) -> Standing:
        highest, dead = self._known.get(node, (0, 0))
        if generation <= dead:
            return Standing.DEAD
        return Standing.OLD if generation < highest else Standing.LIVE

    def highest(self, node: str) -> int:
        """0: nothing known. What ``you are dead`` names."""
        return self._known.get(node, (0, 0))[0]

    def _put(self, node: str, highest: int, dead: int) -> None:
        self._known[node] = (highest, dead)
        self._known.move_to_end(node)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
