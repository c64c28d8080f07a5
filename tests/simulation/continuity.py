"""What a player must not notice while its avatar goes from owner to owner; each broken promise is a sentence.

``Attachments`` judges what the gateway says of owners, ``Rollback`` what the world says of the own avatar.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

REMEMBERED = 64  # own records: more than any owner says within the bounds here
Handed = Callable[[int], bool]  # whether a living owner gave the avatar to the one at this epoch


class Attachments:
    """Of one client: ``connected`` with each socket, then what it is told on it."""

    def __init__(self, handed: Handed) -> None:
        self._handed = handed
        self._epoch = 0  # of the owner last named
        self._on_this_socket = False
        self._moved = False  # the last word was ``detached``, as moved

    def connected(self) -> None:
        self._on_this_socket = self._moved = False

    def detached(self, reason: str) -> None:
        self._moved = reason == "moved"

    def attached(self, epoch: int, resync: bool) -> Iterator[str]:
        last, moved, stayed = self._epoch, self._moved, self._on_this_socket
        self._epoch, self._moved, self._on_this_socket = epoch, False, True
        if epoch < last:
            yield f"attached to the owner at epoch {epoch} after that at {last}"
        if moved and epoch == last:
            yield f"detached as moved, and attached to the same owner at epoch {epoch} again"
        if resync and stayed and epoch == last + 1 and self._handed(epoch):
            yield f"given to the owner at epoch {epoch} by a living one, and made to start anew"


class Record(NamedTuple):
    """What the world says of one's own avatar."""

    epoch: int
    last_input: int
    at_ms: float  # world time


class Rollback:
    """How far an avatar was put back in time when the next owner took it."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=REMEMBERED)

    def forget(self) -> None:
        """What comes now is not compared with what was."""
        self._records.clear()

    def seen(self, record: Record) -> None:
        """In order."""
        self._records.append(record)

    def taken(self, epoch: int, last_input: int) -> float:
        """The owner at ``epoch`` says with what it begins. ms, from when its predecessor, by then gone, first told of
        an input that it does not know, to the last that was heard of the predecessor; 0 where nothing is lost."""
        before = [r for r in self._records if r.epoch < epoch]
        lost = [r for r in before if r.last_input > last_input]
        return before[-1].at_ms - lost[0].at_ms if lost else 0.0
