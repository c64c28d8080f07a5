"""Balance among living servers: a look every BALANCE_MS at the book and at what is here, and a few hand-offs.

What moves is decided by ``world.balance``. Nothing moves in the first seconds of a life, while draining, while the
store fails, while a deployment rolls the servers. With placement *spread* avatars are not pulled together: only load
moves them.
"""

import asyncio

from gameserver.documents import sleep_ms
from gameserver.handing import Handing
from gameserver.presence import Presence, Presences
from gameserver.state import StateSide
from gameserver.units import Owned, UnitTable
from runtime.mesh.api import Mesh
from runtime.service import Service
from world.balance import DEPLOYING, Avatar, Land, Move, plan, server_of
from world.grid import region_at, regions_in_sight, subcell_at
from world.ids import NodeId
from world.limits import BALANCE_AFTER_MS, BALANCE_MS, BALANCE_REFUSED_MS, HANDOFF_AGAIN_MS, SIGHT_M


class Balancing:
    """One per game server, beside its ``Handing``."""

    def __init__(
        self, service: Service, mesh: Mesh, table: UnitTable, presences: Presences, state: StateSide, handing: Handing
    ) -> None:
        self._service = service
        self._clock = service.clock
        self._log = service.log
        self._rng = service.rng
        self._mesh = mesh
        self._table = table
        self._presences = presences
        self._state = state
        self._handing = handing
        self._refused_until_ms: dict[NodeId, float] = {}  # by servers that did not take something in
        self.moved = 0

    async def keep(self) -> None:
        """For ever; not all servers at once."""
        await sleep_ms(BALANCE_AFTER_MS)
        while True:
            await sleep_ms(BALANCE_MS * self._rng.uniform(0.75, 1.25))
            if not self._service.draining.is_set() and not self._service.stopping.is_set() and not self._deploying():
                await self.look()

    def _deploying(self) -> bool:
        return any(member.load.get(DEPLOYING) for member in self._mesh.book.members("supervisor"))

    async def look(self) -> None:
        """Decide, and wait until what was begun is decided too: the next look counts it where it is."""
        moves = self._plan()
        if moves:
            self._log.info("rebalancing", units=len(moves), to=sorted({move.to for move in moves}))
        await asyncio.gather(*(self._move(move) for move in moves))

    async def _move(self, move: Move) -> None:
        """In the order of the plan as far as places among the hand-offs in flight allow."""
        owned, to = self._table.get(move.unit), NodeId(move.to)
        if owned is None or self._shunned(to):
            return
        if await self._handing.give(owned, to):
            self.moved += 1
        elif not owned.gone:
            self._refused_until_ms[to] = self._clock.monotonic_ms() + BALANCE_REFUSED_MS

    def _shunned(self, server: NodeId) -> bool:
        return self._clock.monotonic_ms() < self._refused_until_ms.get(server, 0.0)

    def _plan(self) -> list[Move]:
        others = [
            server_of(member.id, member.load)
            for member in self._handing.destinations.ready().values()
            if not self._shunned(NodeId(member.id))
        ]
        me = server_of(self._service.node_id, self._mesh.me.load)
        pull = self._service.settings.placement == "gather"
        return plan(me, others, [self._avatar(p) for p in self._presences], self._lands(), pull=pull)

    def _avatar(self, presence: Presence) -> Avatar:
        at = self._state.position(presence.avatar)
        sees = regions_in_sight(subcell_at(at.x, at.y), SIGHT_M)
        owned = presence.owned
        return Avatar(owned.key, at.x, at.y, region_at(at.x, at.y), sees, self._movable(owned))

    def _lands(self) -> list[Land]:
        placed = ((owned, *self._handing.place_of(owned)) for owned in self._table)
        return [Land(o.key, region, self._movable(o)) for o, region, is_avatar in placed if not is_avatar]

    def _movable(self, owned: Owned) -> bool:
        lately = self._clock.world_ms() - owned.handed_ms < HANDOFF_AGAIN_MS
        return not lately and self._handing.may_give(owned)
