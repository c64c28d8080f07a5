"""Where a unit goes when its owner gives it away: by what the book says of the others, and what was just sent there."""

from collections.abc import Collection

from runtime.mesh.api import Mesh
from world.clock import Clock
from world.ids import NodeId
from world.limits import AVATARS_PER_SERVER, REGIONS_PER_SERVER
from world.messages import Member
from world.placement import Candidate, RecentPlacements, Region, candidate_of, place


class Destinations:
    """The other servers that take something in."""

    def __init__(self, mesh: Mesh, clock: Clock) -> None:
        self._mesh = mesh
        self._clock = clock
        self._recent = RecentPlacements()

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
            self._candidate(server, member, region, is_avatar)
            for server, member in self.ready().items()
            if server not in without
        ]
        if is_avatar:
            candidates = self._recent.counted(candidates, region, now)
        chosen = place(candidates)
        if chosen is None:
            return None
        if is_avatar:
            self._recent.add(chosen, region, now)
        return NodeId(chosen)

    def _candidate(self, server: str, member: Member, region: Region, is_avatar: bool) -> Candidate:
        candidate = candidate_of(server, member.load, region, AVATARS_PER_SERVER)
        if is_avatar:
            return candidate
        regions = member.load.get("regions", 0)
        return candidate._replace(avatars=regions if isinstance(regions, int) else 0, cap=REGIONS_PER_SERVER)
