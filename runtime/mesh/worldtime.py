"""World time from peers' answers to heartbeats: pure estimates; ``runtime.clock`` slews toward them.

Midpoint (Cristian 1989): a peer that said world time W, asked at s and heard at r by my clock, was at W when my clock
stood near (s + r) / 2; the error is at most half the round trip, so per peer the sample of the shortest one counts.
"""

from collections import deque
from statistics import median

from world.limits import BOOK_MEMBERS, CLOCK_SAMPLES


class WorldTimeEstimate:
    """Offsets = world time - my monotonic time, in ms, as each peer has it."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[float, float]]] = {}  # node: (round trip, offset)
        self._best: dict[str, float] = {}  # node: the offset of its shortest

    def measured(self, node: str, sent_ms: float, received_ms: float, world_ms: float) -> None:
        if node not in self._samples and len(self._samples) >= BOOK_MEMBERS:
            return
        kept = self._samples.setdefault(node, deque(maxlen=CLOCK_SAMPLES))
        kept.append((received_ms - sent_ms, world_ms - (sent_ms + received_ms) / 2))
        self._best[node] = min(kept)[1]

    def forget(self, node: str) -> None:
        self._samples.pop(node, None)
        self._best.pop(node, None)

    def forget_all(self) -> None:
        self._samples.clear()
        self._best.clear()

    def __len__(self) -> int:
        return len(self._samples)

    def joining(self) -> float | None:
        """Where a newcomer, whose own time counts for nothing, steps to. None: nobody was measured."""
        return median(self._best.values()) if self._best else None

    def agreed(self, own_offset_ms: float) -> float:
        """Where a member, whose own time counts like any other's, slews to: so that all meet."""
        return median([own_offset_ms, *self._best.values()])
