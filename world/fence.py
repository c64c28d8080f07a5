"""The fence on epochs: what keeps an old owner's messages from being believed.

A message's *from* epoch is the fence: below the highest seen for that unit, it is dropped. (Generations are fenced by
the mesh's book.)
"""

from collections import OrderedDict

from world.limits import FENCED_UNITS


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
