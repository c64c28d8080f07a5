"""Draining a game server: everything that somebody needs goes to other servers, the rest is saved and released.

Avatars first, region by region, so that those who see each other stay together; then regions, to where their seers now
are. A unit that is refused is offered elsewhere. Where nobody takes it in, or the time is over, it is left to the stop,
which saves and releases; gateways hold the sessions meanwhile and attach anew.
"""

import asyncio
from collections import Counter
from collections.abc import Collection

from gameserver.documents import sleep_ms
from gameserver.handing import Handing
from gameserver.ownership import Ownership
from gameserver.presence import Presences
from gameserver.state import StateSide
from gameserver.units import Owned, UnitTable
from runtime.service import Service
from world.grid import regions_in_sight, subcell_at
from world.ids import NodeId
from world.limits import DRAIN_GIVE_MS, DRAIN_ROUND_MS, DRAIN_TRIES, HANDOFFS_IN_FLIGHT, SIGHT_M


class Draining:
    """``give_away`` is the game server's part of ``runtime.drain``."""

    def __init__(
        self,
        service: Service,
        table: UnitTable,
        ownership: Ownership,
        presences: Presences,
        state: StateSide,
        handing: Handing,
    ) -> None:
        self._service = service
        self._clock = service.clock
        self._log = service.log
        self._table = table
        self._ownership = ownership
        self._presences = presences
        self._state = state
        self._handing = handing
        self._slots = asyncio.Semaphore(HANDOFFS_IN_FLIGHT)
        self._refusals: Counter[str] = Counter()  # unit -> how often it was not taken
        self._refused_by: dict[str, NodeId] = {}  # unit -> who did not take it last

    async def give_away(self) -> int:
        """How many units were handed to others. Ends by itself within DRAIN_GIVE_MS and one hand-off."""
        end = self._clock.monotonic_ms() + DRAIN_GIVE_MS
        given = 0
        while self._clock.monotonic_ms() < end and not self._service.stopping.is_set():
            left = [owned for owned in self._table if self._refusals[owned.key] < DRAIN_TRIES]
            if not left or not self._handing.destinations.ready():
                break
            for units in self._in_order(left):
                given += sum(await asyncio.gather(*(self._send(owned) for owned in units)))
            await sleep_ms(DRAIN_ROUND_MS)
        self._log.info("drained", given=given, left=len(self._table))
        return given

    def _in_order(self, left: list[Owned]) -> tuple[list[Owned], list[Owned]]:
        """Avatars, neighbours next to each other; regions."""
        placed = [(*self._handing.place_of(owned), owned) for owned in left]
        avatars = sorted(((region, o.key, o) for region, is_avatar, o in placed if is_avatar), key=lambda row: row[:2])
        return [o for _, _, o in avatars], [o for _, is_avatar, o in placed if not is_avatar]

    async def _send(self, owned: Owned) -> bool:
        """Hand it over, or let it go where nobody needs it; False: it is still here, or was released."""
        async with self._slots:
            region, is_avatar = self._handing.place_of(owned)
            if not self._handing.may_give(owned):
                return False
            if not self._needed(owned, region, is_avatar):
                await self._ownership.release(owned)
                return False
            last = self._refused_by.pop(owned.key, None)
            to = self._handing.destinations.choose(region, is_avatar, without=() if last is None else (last,))
            seen = self._sees(owned) if is_avatar else ()
            if to is not None and await self._handing.give(owned, to):
                self._handing.destinations.went(to, seen)
                return True
            self._refusals[owned.key] += 1
            if to is not None:
                self._refused_by[owned.key] = to
            return False

    def _sees(self, owned: Owned) -> Collection[tuple[int, int]]:
        """The regions that its avatar sees, where it is in the world."""
        present = [avatar for avatar in owned.unit.entities if self._presences.get(avatar) is not None]
        places = [self._state.position(avatar) for avatar in present]
        return [region for at in places for region in regions_in_sight(subcell_at(at.x, at.y), SIGHT_M)]

    def _needed(self, owned: Owned, region: tuple[int, int], is_avatar: bool) -> bool:
        """An avatar in the world, a region that is seen, anything with a transfer under way."""
        if not owned.unit.may_sleep:
            return True
        if is_avatar:
            return any(self._presences.get(avatar) is not None for avatar in owned.unit.entities)
        return region in self._state.seers() or self._handing.destinations.seen(region)
