"""The publishing half of cell channels: sequences, the repair ring, digest rows. Sans-IO, one per game server.

Every change of a cell has a sequence number, whether or not it was sent: a frame goes out only while somebody listens,
yet a subscriber whose subscription was lost still sees from the digest that it is behind. The ring holds what was sent
within REPAIR_RING_MS; a gap in it (suppressed frames) cannot be repaired and is answered by a snapshot.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from world import frames, runs
from world.grid import CELLS
from world.limits import DIGEST_RECENT_MS, REPAIR_RING_FRAMES, REPAIR_RING_MS

ALL_CELLS = CELLS * CELLS


@dataclass(slots=True)
class PublisherStatistics:
    """Counters since the start."""

    published: int = 0  # frames sent
    suppressed: int = 0  # frames not even built: nobody listened
    repairs_served: int = 0
    repairs_missed: int = 0  # the ring no longer (or never) held what was asked
    digests: int = 0
    answers: int = 0


@dataclass(slots=True)
class Ring:
    """What was sent of one cell, oldest first; beyond REPAIR_RING_FRAMES the oldest falls out."""

    sent: deque[tuple[float, int, bytes]] = field(default_factory=lambda: deque(maxlen=REPAIR_RING_FRAMES))


@dataclass(frozen=True, slots=True)
class Summary:
    """What a publisher has, per non-empty cell: int64[n] cells, int64[n] counts, uint64[n] hashes."""

    cells: NDArray[np.int64]
    counts: NDArray[np.int64]
    hashes: NDArray[np.uint64]


def summary_of(cells: frames.Records, hashes: frames.Records) -> Summary:
    """Per-entity cell int64[n] and hash uint64[n] -> one row per cell; hashes add up mod 2**64."""
    if not len(cells):
        return Summary(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64))
    order = np.argsort(cells, kind="stable")
    ordered = cells[order]
    starts = runs.starts(ordered)
    counts = runs.sizes(starts, len(ordered))
    with np.errstate(over="ignore"):
        sums = np.add.reduceat(hashes[order], starts)
    return Summary(ordered[starts].astype(np.int64), counts.astype(np.int64), sums.astype(np.uint64))


class CellPublisher:
    """All cells of one publisher in one generation."""

    def __init__(self, publisher: int, generation: int) -> None:
        self.publisher = publisher
        self.generation = generation
        self.statistics = PublisherStatistics()
        # Subscribers per cell, as the XPUB socket reports them.
        self.listeners = np.zeros(ALL_CELLS, np.int32)
        # The last sequence of each cell; 0 = nothing ever happened there.
        self.sequences = np.zeros(ALL_CELLS, np.uint32)
        # When each cell was last seen to hold something or to change; -inf = never.
        self._recent = np.full(ALL_CELLS, -np.inf)
        self._rings: dict[int, Ring] = {}

    def subscription(self, cell: int, subscribed: bool) -> None:
        """One subscriber came or went. Cells out of range are ignored (a topic is a peer's choice)."""
        if 0 <= cell < ALL_CELLS:
            self.listeners[cell] = max(int(self.listeners[cell]) + (1 if subscribed else -1), 0)

    def listened(self, cell: int) -> bool:
        return bool(self.listeners[cell] > 0)

    def advance(self, cells: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Unique cells that change now -> their new sequences; suppressed ones are counted here."""
        self.sequences[cells] += np.uint32(1)
        self.statistics.suppressed += int(np.count_nonzero(self.listeners[cells] == 0))
        taken: NDArray[np.uint32] = self.sequences[cells]
        return taken

    def touched(self, cells: NDArray[np.int64], now_ms: float) -> None:
        """These cells hold something, or changed, at this time: digests name them for DIGEST_RECENT_MS."""
        self._recent[cells] = now_ms

    def sent(self, cell: int, body: bytes, now_ms: float) -> None:
        """The frame with the cell's newest sequence went out: keep it for repairs."""
        ring = self._rings.get(cell)
        if ring is None:
            ring = self._rings[cell] = Ring()
        ring.sent.append((now_ms, int(self.sequences[cell]), body))
        self.statistics.published += 1

    def frames_after(self, cell: int, after: int, now_ms: float) -> list[bytes]:
        """Every frame from ``after`` + 1 to the newest; empty where the ring lacks one of them."""
        ring = self._rings.get(cell)
        wanted = int(self.sequences[cell]) - after if 0 <= cell < ALL_CELLS else 0
        rows = [] if ring is None else [r for r in ring.sent if r[1] > after and r[0] >= now_ms - REPAIR_RING_MS]
        if not 0 < wanted == len(rows):
            self.statistics.repairs_missed += 1
            return []
        self.statistics.repairs_served += 1
        return [body for _at, _sequence, body in rows]

    def prune(self, now_ms: float) -> None:
        """Forget frames too old to repair with."""
        for cell, ring in list(self._rings.items()):
            while ring.sent and ring.sent[0][0] < now_ms - REPAIR_RING_MS:
                ring.sent.popleft()
            if not ring.sent:
                del self._rings[cell]

    def full_digest(self, summary: Summary, world_ms: int, now_ms: float) -> bytes:
        """Rows of all cells non-empty, or changed, within DIGEST_RECENT_MS."""
        self.touched(summary.cells, now_ms)
        self.prune(now_ms)
        self.statistics.digests += 1
        cells = (self._recent >= now_ms - DIGEST_RECENT_MS).nonzero()[0]
        return self._digest(True, cells, summary, world_ms)

    def answer_digest(self, cells: list[int], summary: Summary, world_ms: int) -> bytes:
        """Rows of just these cells, also empty ones: the answer to new subscriptions."""
        self.statistics.answers += len(cells)
        return self._digest(False, np.array(sorted(cells), np.int64), summary, world_ms)

    def _digest(self, full: bool, cells: NDArray[np.int64], summary: Summary, world_ms: int) -> bytes:
        rows = np.zeros(len(cells), frames.DIGEST_ROW)
        rows["cell"], rows["sequence"] = cells, self.sequences[cells]
        if len(summary.cells) and len(cells):
            at = np.minimum(np.searchsorted(summary.cells, cells), len(summary.cells) - 1)
            found = summary.cells[at] == cells
            rows["count"] = np.where(found, summary.counts[at], 0)
            rows["hash"] = np.where(found, summary.hashes[at], np.uint64(0))
        return frames.digest_bytes(full, self.publisher, self.generation, world_ms, rows)
