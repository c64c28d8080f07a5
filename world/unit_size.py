"""How long a unit's document may become, known before it is written.

The store takes no document over STORE_VALUE_BYTES, and an operation must not find that out after it has changed
something. So the length of the last frozen document is kept, and an upper bound of whatever joins the next one::

    0 ......... UNIT_FULL_BYTES ......... UNIT_BYTES ......... STORE_VALUE_BYTES
      operations and locks    deliveries, which       what cannot be refused: a transaction
      are let in              are on their way        that commits, a session, a change of owner

What has left the unit is seen when it is frozen again.
"""

from typing import Any, Final

import msgspec

from world.limits import UNIT_BYTES, UNIT_FULL_BYTES
from world.results import Refusal

FULL: Final = "unit_full"
_ROW_BYTES = 96  # what a saved result has beside what is measured: its origin's row, quotes, brackets


class Size:
    """An upper bound of how long the next document is, in bytes."""

    def __init__(self, length: int = 0) -> None:
        self._frozen = length
        self._joined = 0

    @property
    def bound(self) -> int:
        return self._frozen + self._joined

    @property
    def full(self) -> bool:
        """Nothing is let in that can be refused."""
        return self.bound > UNIT_FULL_BYTES

    def frozen(self, length: int) -> None:
        """All that has joined is in a document of this length."""
        self._frozen, self._joined = length, 0

    def add(self, *parts: Any) -> None:
        """These values join, once each."""
        self._joined += weight(parts)

    def reserve(self, *parts: Any, limit: int = UNIT_FULL_BYTES) -> None:
        """The same, where there is room for them. Raises Refusal ``unit_full``."""
        more = weight(parts)
        if self.bound + more > limit:
            raise Refusal(FULL, "too much is kept of it already")
        self._joined += more

    def reserve_delivery(self, *parts: Any) -> None:
        """As ``reserve``, of what another unit has given away already."""
        self.reserve(*parts, limit=UNIT_BYTES)


def weight(parts: Any) -> int:
    """At least what these values take in a document."""
    return len(msgspec.json.encode(parts)) + _ROW_BYTES
