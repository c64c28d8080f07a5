"""Regions wake and sleep: who owns a seer of a region says so every INTEREST_MS to the region's owner.

An answer means awake. Nobody living owns it: taken here, or passed to a server with room. A region that nobody has
wanted for REGION_IDLE_S is released; so is an avatar's unit that nobody is attached to and nothing is open in.
"""

from gameserver.documents import sleep_ms
from gameserver.invoking import serve_unit
from gameserver.ownership import Contended, Location, Ownership
from gameserver.presence import Presences
from gameserver.state import StateSide
from gameserver.units import Owned, StoreGone, UnitTable
from runtime.mesh.api import DeadlineExceeded, Mesh, MeshError, Refused, Sender, Unreachable
from runtime.service import Service
from world.ids import NodeId, region_unit, unit_of
from world.limits import (
    ELAPSE_MS,
    INTEREST_MS,
    LINGER_LOOK_MS,
    REGION_IDLE_S,
    REGIONS_PER_SERVER,
    RETRY_AFTER_MS,
    UNIT_IDLE_MS,
    WAKE_WAIT_MS,
)
from world.messages import Awake, Interest, Message, Moved

REGION_PREFIX = "region:"
NOBODY_HAS_ROOM = 0  # Interest.epoch: the asker knows no owner and has no room


class Interests:
    """Both ends of ``Interest``, and the sleep of what is not wanted."""

    def __init__(
        self,
        service: Service,
        mesh: Mesh,
        table: UnitTable,
        ownership: Ownership,
        presences: Presences,
        state: StateSide,
    ) -> None:
        self._service = service
        self._clock = service.clock
        self._log = service.log
        self._mesh = mesh
        self._table = table
        self._ownership = ownership
        self._presences = presences
        self._state = state
        self._asking: set[str] = set()  # at most one question per region
        self._waking = 0  # regions being taken: they count as mine
        self._heard_ms: dict[str, float] = {}  # regions in sight: when their owner last said that they are awake

    @property
    def regions(self) -> int:
        return sum(1 for owned in self._table if owned.key.startswith(REGION_PREFIX))

    # -- asking ------------------------------------------------------------------------------------------------------
    async def keep(self) -> None:
        """For ever."""
        while True:
            self.look()
            await sleep_ms(INTEREST_MS)

    def look(self) -> None:
        """Say for every region that my avatars see that it is wanted."""
        if self._service.stopping.is_set():
            return
        now = self._clock.monotonic_ms()
        in_sight = [region_unit(x, y) for x, y in self._state.seers()]
        self._heard_ms = {unit: self._heard_ms[unit] for unit in in_sight if unit in self._heard_ms}
        for unit in in_sight:
            owned = self._table.get(unit)
            if owned is not None:
                owned.wanted_ms = now
            elif unit not in self._asking:
                self._asking.add(unit)
                self._service.spawn(self._want(unit), f"want {unit}")

    async def awake(self, entity: int) -> bool:
        """Wait a moment, at most WAKE_WAIT_MS, for an entity that is not known here, if it may be of a region that my
        avatars see and that is just being woken (by me or elsewhere). False: that region's owner was not heard
        meanwhile, so nobody can say whether there is such an entity."""
        unit = unit_of(entity)
        begin = self._clock.monotonic_ms()
        while not self._state.knows(entity) and self._may_wake(unit):
            if self._clock.monotonic_ms() >= begin + WAKE_WAIT_MS:
                return self._heard_ms.get(unit, -1.0) >= begin
            self.look()
            await sleep_ms(RETRY_AFTER_MS)
        return True

    def _may_wake(self, unit: str) -> bool:
        seen = any(region_unit(x, y) == unit for x, y in self._state.seers())
        return seen and self._table.get(unit) is None

    async def _want(self, unit: str) -> None:
        try:
            location = self._ownership.hint(unit) or await self._ownership.locate(unit)
            if location.is_nobody:
                await self._wake(unit)
            elif location.server != self._service.node_id:
                await self._ask(unit, location)
        except (StoreGone, Contended) as problem:
            self._log.info("region not awake", unit=unit, reason=problem.code)
        except (Unreachable, DeadlineExceeded, Refused) as problem:
            self._ownership.locations.forget(unit)
            self._log.info("region not awake", unit=unit, reason=problem.code)
        finally:
            self._asking.discard(unit)

    async def _ask(self, unit: str, location: Location) -> None:
        answer = await self._mesh.call(location.server, Interest(unit, location.epoch), deadline_ms=INTEREST_MS)
        if isinstance(answer, Awake):
            self._ownership.locations.learn(unit, Location(location.server, location.generation, answer.epoch))
            self._heard_ms[unit] = self._clock.monotonic_ms()
        elif isinstance(answer, Moved):
            self._ownership.locations.forget(unit)

    async def _wake(self, unit: str) -> None:
        """At the cap somebody with room is asked first; where nobody has any, the one in need takes it."""
        if not self.has_room() and await self._pass_on(unit):
            return
        await self._take(unit)

    def has_room(self, coming: int = 0) -> bool:
        """For one more region, beyond those ``coming``."""
        return self.regions + self._waking + coming < REGIONS_PER_SERVER and not self._service.draining.is_set()

    async def _take(self, unit: str) -> None:
        self._waking += 1
        try:
            await self._ownership.take(unit)
        finally:
            self._waking -= 1

    async def _pass_on(self, unit: str) -> bool:
        book = self._mesh.book
        roomy = [
            (member.load.get("regions", REGIONS_PER_SERVER), member.id)
            for member in book.members("gameserver")
            if member.id != self._service.node_id and member.status == "ready" and not book.suspected(NodeId(member.id))
        ]
        if not roomy or min(roomy)[0] >= REGIONS_PER_SERVER:
            return False
        try:
            await self._mesh.call(NodeId(min(roomy)[1]), Interest(unit, NOBODY_HAS_ROOM), deadline_ms=INTEREST_MS)
        except MeshError:
            return False
        return True

    # -- being asked -------------------------------------------------------------------------------------------------
    async def serve(self, _: Sender, message: Interest) -> Message:
        """Awake, Moved or Busy. Raises Refused ``store_unavailable``, ``no_such_target``."""

        async def here(owned: Owned) -> Awake:
            owned.wanted_ms = self._clock.monotonic_ms()
            return Awake(owned.unit.epoch)

        if not message.unit.startswith(REGION_PREFIX):
            raise Refused("no_such_target", message.unit)
        if message.epoch == NOBODY_HAS_ROOM and self.has_room():
            try:
                await self._take(message.unit)
            except StoreGone as gone:
                raise Refused(gone.code) from gone
            except Contended:
                pass
        return await serve_unit(self._table, self._ownership, message.unit, message.epoch, here)

    # -- sleep -------------------------------------------------------------------------------------------------------
    async def sleep(self) -> None:
        """For ever: release what nobody wants."""
        while True:
            await sleep_ms(LINGER_LOOK_MS)
            for owned in self._table:
                if self._idle(owned):
                    self._service.spawn(self._ownership.release(owned), f"release {owned.key}")

    def _idle(self, owned: Owned) -> bool:
        idle_ms = REGION_IDLE_S * 1_000 if owned.key.startswith(REGION_PREFIX) else UNIT_IDLE_MS
        if self._clock.monotonic_ms() - owned.wanted_ms <= idle_ms or not owned.unit.may_sleep or owned.waiters:
            return False
        return owned.serving and not any(self._presences.get(entity) for entity in self._only_avatar(owned))

    def _only_avatar(self, owned: Owned) -> list[int]:
        return [] if owned.key.startswith(REGION_PREFIX) else list(owned.unit.entities)

    async def elapse(self) -> None:
        """For ever: each unit hears about every ELAPSE_MS that world time passed; spread, so that no tick waits."""
        while True:
            pause_ms = ELAPSE_MS / max(len(self._table), 1)
            for owned in self._table:
                if owned.serving:
                    owned.unit.elapse(self._clock.world_ms())
                    self._table.touch(owned)
                await sleep_ms(pause_ms)
            if not len(self._table):
                await sleep_ms(pause_ms)
