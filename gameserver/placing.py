"""Where a unit goes when its owner gives it away: by what the book says of the others, and what was just sent there."""

from collections.abc import Collection, Iterable

from runtime.mesh.api import Mesh
from world.clock import Clock
from world.ids import NodeId
from world.limits import AVATARS_PER_SERVER, REGIONS_PER_SERVER
from world.messages import Json, Member
from world.placement import Candidate, RecentPlacements, Region, candidate_of, place


class Destinations:
    """The other servers that take something in."""

    def __init__(self, mesh: Mesh, clock: Clock) -> None:
        self._mesh = mesh
        self._clock = clock
        self._recent = RecentPlacements()  # of avatars, by the region they stand in
        self._seers = RecentPlacements()  # of avatars, by each region they see

    def ready(self) -> dict[str, Member]:
        """Ready, heard of, not me."""
        book = self._mesh.book
        return {
            m.id: m
            for m in book.members("gameserver")
            if m.id != self._mesh.me.id and m.status == "ready" and not book.suspected(NodeId(m.id))
        }

    def choose(self, region: Region, is_avatar: bool, without: Collection[str] = ()) -> NodeId | None:
        """An avatar goes where most of its region's seers are, below the cap; a region likewise. None: nowhere."""
        now = self._clock.monotonic_ms()
        candidates = [
            candidate_of(server, member.load, region, AVATARS_PER_SERVER)
            for server, member in self.ready().items()
            if server not in without
        ]
        if is_avatar:
            candidates = self._recent.counted(candidates, region, now)
        else:
            candidates = [self._by_regions(c) for c in self._seers.counted(candidates, region, now)]
        chosen = place(candidates, even=is_avatar)
        if chosen is None:
            return None
        if is_avatar:
            self._recent.add(chosen, region, now)
        return NodeId(chosen)

    def _by_regions(self, candidate: Candidate) -> Candidate:
        regions = self._load(candidate.server).get("regions", 0)
        return candidate._replace(avatars=regions if isinstance(regions, int) else 0, cap=REGIONS_PER_SERVER)

    def _load(self, server: str) -> Json:
        member = self._mesh.book.get(NodeId(server))
        return member.load if member is not None else {}

    def went(self, to: NodeId, seen: Iterable[Region]) -> None:
        """An avatar that sees these regions was handed there: the book will say so a little later."""
        for region in seen:
            self._seers.add(to, region, self._clock.monotonic_ms())

    def seen(self, region: Region) -> bool:
        """Whether any of the others has an avatar that sees the region."""
        known = (candidate_of(m.id, m.load, region, 0) for m in self.ready().values())
        return any(c.seers for c in self._seers.counted(known, region, self._clock.monotonic_ms()))
