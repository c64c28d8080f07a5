"""At which game server a session begins: where its avatar is held already, else by placement."""

import math

from runtime.mesh.api import Book
from runtime.settings import Settings
from runtime.store.api import NotFound, Store, StoreError
from world.clock import Clock
from world.grid import region_at
from world.ids import NodeId, avatar_unit
from world.placement import RecentPlacements, Region, candidate_of, place
from world.terrain import spawn
from world.unit_document import BadDocument, UnitDocument


class Placer:
    """One login's placements, which it counts itself until the book's figures have caught up."""

    def __init__(self, store: Store, book: Book, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._book = book
        self._settings = settings
        self._clock = clock
        self._recent = RecentPlacements()
        self._spawn = spawn(settings.world_seed)

    async def server_for(self, avatar: int) -> str:
        """A hint only: the attach finds the owner wherever it starts. "" where no game server is ready."""
        document = await self._document(avatar)
        if document is not None and self._alive(document.owner, document.generation):
            return document.owner
        region = region_at(*(self._position(document, avatar) or self._spawn))
        return self._place(region)

    async def _document(self, avatar: int) -> UnitDocument | None:
        """None for a newcomer, and where the store cannot say."""
        try:
            return UnitDocument.parse((await self._store.get(avatar_unit(avatar))).value)
        except (NotFound, StoreError, BadDocument):
            return None

    def _alive(self, owner: str, generation: int) -> bool:
        member = self._book.get(NodeId(owner)) if owner else None
        return member is not None and member.generation == generation and member.status == "ready"

    def _position(self, document: UnitDocument | None, avatar: int) -> tuple[float, float] | None:
        fields = document.data.entities.get(str(avatar), {}) if document is not None else {}
        x, y = fields.get("x"), fields.get("y")
        if isinstance(x, int | float) and isinstance(y, int | float) and math.isfinite(x + y):
            return float(x), float(y)
        return None

    def _place(self, region: Region) -> str:
        ready = [m for m in self._book.members("gameserver") if m.status == "ready"]
        alive = [m for m in ready if not self._book.suspected(NodeId(m.id))] or ready
        now = self._clock.monotonic_ms()
        candidates = [candidate_of(m.id, m.load, region, self._settings.avatars_per_server) for m in alive]
        server = place(self._recent.counted(candidates, region, now), self._settings.placement, even=True) or ""
        if server:
            self._recent.add(server, region, now)
        return server
