"""Which game server takes an avatar: pure, on what the book says of each server and one's own recent placements.

*gather* (the default) keeps server sights small: the server with most seers of the avatar's region, below its cap, and
(``even``) not so much fuller than the lightest that ``world.balance`` would send the avatar away again. *spread* fills
servers evenly. The book is up to a heartbeat old, so a placer counts what it placed itself meanwhile.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from world.ids import node_number
from world.limits import (
    BALANCE_MARGIN_AVATARS,
    BALANCE_MARGIN_PARTS,
    PLACEMENT_MEMORY_MS,
    PLACEMENTS_REMEMBERED,
)

Mode = Literal["gather", "spread"]
Region = tuple[int, int]


class Candidate(NamedTuple):
    """A ready game server. ``seers``: its avatars that see the region in question."""

    server: str
    avatars: int
    cap: int
    seers: int


class _Placed(NamedTuple):
    at_ms: float
    server: str
    region: Region


class RecentPlacements:
    """One's own placements of the last PLACEMENT_MEMORY_MS; the oldest is forgotten beyond PLACEMENTS_REMEMBERED."""

    def __init__(self) -> None:
        self._placed: deque[_Placed] = deque(maxlen=PLACEMENTS_REMEMBERED)

    def add(self, server: str, region: Region, now_ms: float) -> None:
        self._placed.append(_Placed(now_ms, server, region))

    def counted(self, candidates: Iterable[Candidate], region: Region, now_ms: float) -> list[Candidate]:
        """The candidates with what was just sent to them added."""
        while self._placed and now_ms - self._placed[0].at_ms > PLACEMENT_MEMORY_MS:
            self._placed.popleft()
        return [self._with_recent(c, region) for c in candidates]

    def _with_recent(self, candidate: Candidate, region: Region) -> Candidate:
        mine = [p for p in self._placed if p.server == candidate.server]
        near = sum(p.region == region for p in mine)
        return candidate._replace(avatars=candidate.avatars + len(mine), seers=candidate.seers + near)


def candidate_of(server: str, load: Mapping[str, object], region: Region, default_cap: int) -> Candidate:
    """From a member's ``load``: {avatars, cap, seers: {"x,y": n}}; what is missing or malformed counts as none."""
    seers = load.get("seers")
    here = seers.get(f"{region[0]},{region[1]}", 0) if isinstance(seers, Mapping) else 0
    return Candidate(server, _whole(load.get("avatars"), 0), _whole(load.get("cap"), default_cap), _whole(here, 0))


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) and value >= 0 else default


def margin(avatars: Sequence[int]) -> int:
    """How many more avatars than the lightest a server may have, given everybody's."""
    return max(BALANCE_MARGIN_AVATARS, int(sum(avatars) / len(avatars) / BALANCE_MARGIN_PARTS))


def place(
    candidates: Iterable[Candidate], mode: Mode = "gather", *, adopt: bool = False, even: bool = False
) -> str | None:
    """The server, or None where all are at their cap. ``adopt``: at the cap everywhere, the least loaded takes it all
    the same (fail-over: no avatar stays ownerless)."""
    everyone = list(candidates)
    below = [c for c in everyone if c.avatars < c.cap]
    if not below:
        return min(everyone, key=_least_loaded).server if adopt and everyone else None
    if mode == "spread":
        return min(below, key=_least_loaded).server
    if even:
        most = min(c.avatars for c in below) + margin([c.avatars for c in everyone])
        below = [c for c in below if c.avatars < most]
    return min(below, key=lambda c: (-c.seers, *_least_loaded(c))).server


def _least_loaded(candidate: Candidate) -> tuple[int, int]:
    return candidate.avatars, node_number(candidate.server)
