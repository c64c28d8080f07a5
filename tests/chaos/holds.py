"""For how long anything was on its way: pure, from one picture of the store's documents after the other.

::

    locked      a unit holds something of a transaction: items that are locked, room that is reserved
    intent      a transaction's intent is there, pending or committed
    transfer    an entry stands in its giver's outbox

Pictures are apart, so a time has two bounds: *least*, from the first picture that shows it to the last one, and *most*,
from the picture before the first to the one after the last. What begins and ends between two pictures is not seen.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from world.transaction_document import ABORTED, KIND

Hold = tuple[str, str, str]  # of which kind, where, what


class Lasted(NamedTuple):
    """``least_s``, ``most_s``: see the module's text."""

    hold: Hold
    least_s: float
    most_s: float


class _Entry(msgspec.Struct, array_like=True):
    n: int


class _Outbox(msgspec.Struct):
    entries: list[_Entry] = []


class _Unit(msgspec.Struct):
    pending: dict[str, msgspec.Raw] = {}
    outbox: _Outbox = msgspec.field(default_factory=_Outbox)


class _State(msgspec.Struct):
    state: str


def held(documents: Mapping[str, bytes]) -> Iterator[Hold]:
    """All that is on its way in this picture."""
    for key, value in documents.items():
        if key.startswith(f"{KIND}:"):
            state = msgspec.json.decode(value, type=_State).state
            if state != ABORTED:
                yield "intent", key.partition(":")[2], state
            continue
        unit = msgspec.json.decode(value, type=_Unit)
        for tx in unit.pending:
            yield "locked", key, tx
        for entry in unit.outbox.entries:
            yield "transfer", key, str(entry.n)


class Holds:
    """What was seen held, and since when. Times are of one clock, in s."""

    def __init__(self) -> None:
        self._since: dict[Hold, tuple[float, float]] = {}  # begin of: the picture before, the first that shows it
        self._last = (0.0, 0.0)  # the last picture's begin and end

    def look(self, documents: Mapping[str, bytes], began_s: float, ended_s: float) -> list[Lasted]:
        """A picture that was taken in this time; what has gone since the last one."""
        before_s = self._last[0] or began_s
        now = set(held(documents))
        gone = [self._lasted(hold, ended_s) for hold in self._since.keys() - now]
        for lasted in gone:
            del self._since[lasted.hold]
        for hold in now - self._since.keys():
            self._since[hold] = (before_s, ended_s)
        self._last = (began_s, ended_s)
        return gone

    def left(self, now_s: float) -> list[Lasted]:
        """What the last picture has shown."""
        return [self._lasted(hold, now_s) for hold in self._since]

    def _lasted(self, hold: Hold, until_s: float) -> Lasted:
        before_s, first_s = self._since[hold]
        return Lasted(hold, max(0.0, self._last[0] - first_s), until_s - before_s)
