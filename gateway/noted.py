"""The cluster's news as this gateway heard it: a bounded ring, for the operators' event stream and the observe page.

Each gateway numbers what it hears by itself, from 1; who reads on at another gateway starts with that one's ring.
"""

import asyncio
from collections import deque
from collections.abc import Container
from itertools import islice
from typing import NamedTuple

from runtime.mesh.api import Sender
from world.limits import OPS_EVENTS_KEPT
from world.messages import Json, Noted


class Note(NamedTuple):
    number: int  # of this gateway
    kind: str  # runtime.notes.KINDS, or a newer one
    world_ms: int
    by: str  # the node that said it
    detail: Json

    def view(self) -> Json:
        """As told to operators and observers."""
        return {"n": self.number, "kind": self.kind, "world_ms": self.world_ms, "by": self.by, "detail": self.detail}


class NoteRing:
    """Keeps the newest OPS_EVENTS_KEPT; the oldest makes room, and is counted as forgotten."""

    def __init__(self) -> None:
        self._ring: deque[Note] = deque(maxlen=OPS_EVENTS_KEPT)
        self._news = asyncio.Event()
        self.last = 0  # the newest note's number
        self.closed = False  # this gateway stops: nobody waits any more

    @property
    def forgotten(self) -> int:
        return self.last - len(self._ring)

    def hear(self, sender: Sender, message: Noted) -> None:
        """The mesh's handler."""
        self.last += 1
        self._ring.append(Note(self.last, message.kind, message.world_ms, sender.node, message.detail))
        self._news.set()
        self._news = asyncio.Event()  # whoever waits holds the one that was set

    def since(self, number: int) -> list[Note]:
        """Those after ``number`` that are still kept, in order."""
        newer = min(len(self._ring), max(0, self.last - number))
        return [self._ring[at] for at in range(len(self._ring) - newer, len(self._ring))]

    def next(self, number: int) -> Note | None:
        """The oldest one after ``number`` that is still kept."""
        at = max(0, number - self.forgotten)
        return self._ring[at] if at < len(self._ring) else None

    def newest(self, count: int, without: Container[str] = ()) -> list[Note]:
        """The last ``count`` that are not of these kinds, in order."""
        kept = (note for note in reversed(self._ring) if note.kind not in without)
        return list(islice(kept, count))[::-1]

    async def wait(self, number: int) -> None:
        """Until there is one after ``number``, or the ring is closed."""
        while self.last <= number and not self.closed:
            await self._news.wait()

    def close(self) -> None:
        """Whoever waits goes."""
        self.closed = True
        self._news.set()
