"""Giving a unit to another living server: the shell around the source's half of ``world.handoff``.

From the freeze until it is decided the unit is busy: its callers keep what they want and ask again, its avatar's inputs
are answered busy and kept by the gateway, a client's close is kept here for whoever has the avatar in the end.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gameserver.attach import Attaching
from gameserver.documents import Documents, Overtaken
from gameserver.interest import REGION_PREFIX
from gameserver.invoking import serve_unit
from gameserver.owned_lists import OwnedLists
from gameserver.ownership import Location, Ownership
from gameserver.placing import Destinations
from gameserver.presence import Presence, Presences
from gameserver.records import OwnerHead, parse
from gameserver.state import StateSide
from gameserver.units import Fenced, Owned, StoreGone, UnitFull, UnitTable
from runtime.mesh.api import DeadlineExceeded, Mesh, Refused, Sender, Unreachable
from runtime.notes import Notes
from runtime.service import Service
from world.handoff import Effect, Event, Owner, Role, source
from world.ids import NodeId, node_number
from world.limits import HANDOFF_AHEAD_MS, HANDOFF_OFFER_MS, HANDOFF_SETTLE_MS, HANDOFFS_IN_FLIGHT
from world.messages import GiveAway, HandedAvatar, HandedOver, HandOff, HandOffAhead, Json, Message, MoveAnswers
from world.unit import BadDocument

NOT_TAKEN = ("full", "draining", "busy", StoreGone.code)  # what a destination says that would refuse the offer as well


@dataclass(slots=True, eq=False)
class Giving:
    """One unit on its way to ``to``."""

    owned: Owned
    to: NodeId
    frozen_ms: int  # world time
    role: Role = field(default_factory=source)
    problem: str = ""  # why it was not taken: the destination's code, or what became of the way there


class Handing:
    """``may_speak()``: False while I may have been declared dead without knowing it."""

    def __init__(
        self,
        service: Service,
        mesh: Mesh,
        documents: Documents,
        table: UnitTable,
        ownership: Ownership,
        lists: OwnedLists,
        presences: Presences,
        attaching: Attaching,
        state: StateSide,
        notes: Notes,
        may_speak: Callable[[], bool],
        carry_trade: Callable[[int], Json],
    ) -> None:
        self._service = service
        self._clock = service.clock
        self._log = service.log
        self._mesh = mesh
        self._documents = documents
        self._table = table
        self._ownership = ownership
        self._lists = lists
        self._presences = presences
        self._attaching = attaching
        self._state = state
        self._notes = notes
        self._may_speak = may_speak
        self._carry_trade = carry_trade
        self._slots = asyncio.Semaphore(HANDOFFS_IN_FLIGHT)
        self._giving: dict[str, Giving] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.destinations = Destinations(mesh, service.clock)
        self.given = 0
        self.aborted = 0  # ended with the unit still mine
        self.reclaimed = 0  # of these: by a write of my own

    # -- what others ask ---------------------------------------------------------------------------------------------
    def may_give(self, owned: Owned) -> bool:
        """Whether a hand-off of this unit may begin now: it is served, and the store answers."""
        return owned.serving and self._may_speak() and self._documents.failing_ms() == 0

    async def give(self, owned: Owned, to: NodeId) -> bool:
        """Hand the unit to that server; False: it stays mine, or was lost to somebody else. Waits for a place among
        HANDOFFS_IN_FLIGHT, then for at most about HANDOFF_SETTLE_MS and HANDOFF_OFFER_MS, and, where the answer is
        lost, for the store."""
        giving = await self._give(owned, to)
        return giving.role.owner is not None and giving.role.owner.server == to

    async def _give(self, owned: Owned, to: NodeId) -> Giving:
        async with self._slots:
            giving = Giving(owned, to, self._clock.world_ms())
            if self.may_give(owned):
                ahead = await asyncio.gather(self._announce(giving), self._settle_ahead(owned))
                giving.problem = ahead[0] or ahead[1]
            if giving.problem or not self.may_give(owned):
                giving.problem = giving.problem or ("busy" if self._documents.failing_ms() == 0 else StoreGone.code)
                return giving
            giving.frozen_ms = self._clock.world_ms()
            run = self._service.spawn(self._run(giving), f"hand off {owned.key}")
            owned.closing = True  # from now on, not from the first turn of that task: nobody else may begin meanwhile
            self._giving[owned.key] = giving
            self._idle.clear()
            await asyncio.shield(run)  # whoever waits may be cancelled; a frozen unit is not left so
            return giving

    async def serve(self, _: Sender, message: GiveAway) -> Message:
        """An operator's wish. Answers HandedOver, Moved, Busy; raises Refused: no_destination, not_taken,
        store_unavailable."""

        async def here(owned: Owned) -> Message:
            to = self._named(message.to) if message.to else self.destinations.choose(*self.place_of(owned))
            if to is None:
                raise Refused("no_destination", message.to)
            giving = await self._give(owned, to)
            if giving.role.owner is None or giving.role.owner.server != to:
                code = StoreGone.code if giving.problem == StoreGone.code else "not_taken"
                raise Refused(code, f"{to}: {giving.problem}")
            return HandedOver(owned.key, *giving.role.owner)

        return await serve_unit(self._table, self._ownership, message.unit, 0, here)

    def _named(self, to: str) -> NodeId | None:
        return NodeId(to) if to in self.destinations.ready() else None

    def place_of(self, owned: Owned) -> tuple[tuple[int, int], bool]:
        """(the region it is, or stands in; whether it is an avatar)."""
        if owned.key.startswith(REGION_PREFIX):
            x, y = owned.key.removeprefix(REGION_PREFIX).split(",")
            return (int(x), int(y)), False
        return self._attaching.region_of(owned), True

    def to(self, owned: Owned) -> NodeId | None:
        """Where this unit, which is being dropped, has been offered to."""
        giving = self._giving.get(owned.key)
        return giving.to if giving is not None and giving.owned is owned and owned.offered else None

    async def quiet(self) -> None:
        """Return once nothing is being given away."""
        await self._idle.wait()

    async def _announce(self, giving: Giving) -> str:
        """Let the destination prepare while the unit still serves; why it will not take it, "" where it may. Its answer
        says that the store has just taken a write of it: without, a frozen unit might stay so for as long as the store
        is silent."""
        at = [self._state.position(presence.avatar) for presence in self._present(giving.owned)]
        ahead = HandOffAhead(giving.owned.key, (int(at[0].x), int(at[0].y)) if at else None)
        try:
            await self._mesh.call(giving.to, ahead, deadline_ms=HANDOFF_AHEAD_MS)
        except Refused as refused:
            return refused.code if refused.code in NOT_TAKEN else ""
        except (Unreachable, DeadlineExceeded) as lost:
            return lost.code
        return ""

    async def _settle_ahead(self, owned: Owned) -> str:
        """Wait for the write in flight while the unit still serves; what comes after it is settled in the freeze. Why
        it must not be frozen, "" where it may."""
        try:
            await self._table.settle(owned, HANDOFF_SETTLE_MS)
        except StoreGone as gone:
            return gone.code
        except Fenced:
            pass  # the freeze finds out
        return ""

    # -- one hand-off ------------------------------------------------------------------------------------------------
    async def _run(self, giving: Giving) -> None:
        event: tuple[Event, Owner | None] | None = (Event.BEGIN, None)
        try:
            while event is not None:
                effects = giving.role.step(*event)
                self._entered(giving)
                event = None
                for effect in effects:
                    event = await self._perform(effect, giving)
        finally:
            del self._giving[giving.owned.key]
            if not self._giving:
                self._idle.set()

    def _entered(self, giving: Giving) -> None:
        """A new state was reached."""
        self._log.debug("handing off", unit=giving.owned.key, to=giving.to, state=giving.role.state.value)

    async def _perform(self, effect: Effect, giving: Giving) -> tuple[Event, Owner | None] | None:
        """The event that follows, if one does."""
        match effect:
            case Effect.FREEZE:
                self._freeze(giving.owned)
            case Effect.SETTLE:
                return await self._settle(giving)
            case Effect.OFFER:
                return await self._offer(giving)
            case Effect.RECLAIM:
                return await self._reclaim(giving)
            case Effect.RESUME:
                self._resume(giving)
            case Effect.GIVE:
                self._gave(giving)
            case _:
                raise AssertionError(effect)
        return None

    def _freeze(self, owned: Owned) -> None:
        owned.closing = True
        for presence in self._present(owned):
            self._state.freeze(presence.avatar, True)

    def _present(self, owned: Owned) -> list[Presence]:
        """The avatar that is in the world by this unit."""
        if owned.key.startswith(REGION_PREFIX):
            return []
        return [p for p in map(self._presences.get, owned.unit.entities) if p is not None]

    async def _settle(self, giving: Giving) -> tuple[Event, None]:
        try:
            await self._table.settle(giving.owned, HANDOFF_SETTLE_MS)
        except (Fenced, UnitFull):
            return Event.LOST, None
        except StoreGone as gone:
            giving.problem = gone.code
            return Event.UNSETTLED, None
        giving.owned.offered = True
        return Event.SETTLED, None

    async def _offer(self, giving: Giving) -> tuple[Event, Owner | None]:
        offer = self._offer_of(giving)
        try:
            answer = await self._mesh.call(giving.to, offer, deadline_ms=HANDOFF_OFFER_MS)
        except Refused as refused:
            giving.problem = refused.code
        except (Unreachable, DeadlineExceeded) as lost:
            giving.problem = lost.code
            if not lost.sent:
                return Event.NOT_SENT, None
        else:
            if isinstance(answer, HandedOver) and answer.epoch == offer.epoch + 1:
                return Event.ACCEPTED, Owner(answer.server, answer.generation, answer.epoch)
            giving.problem = "not_understood"
        return Event.UNANSWERED, None

    def _offer_of(self, giving: Giving) -> HandOff:
        """All of the unit, composed in one go."""
        owned = giving.owned
        avatar: HandedAvatar | None = None
        for presence in self._present(owned):
            self._attaching.settle(presence)
            avatar = self._carried(presence, giving.frozen_ms)
        document = owned.unit.handed(self._service.node_id, self._mesh.me.generation, self._documents.format)
        return HandOff(owned.key, owned.unit.epoch, owned.unit.cas, document, avatar)

    def _carried(self, presence: Presence, frozen_ms: int) -> HandedAvatar:
        now, ring = self._clock.monotonic_ms(), presence.ring
        return HandedAvatar(
            session=presence.number.session,
            connection=presence.number.connection,
            gateway=presence.number.gateway,
            gateway_generation=presence.gateway_generation,
            alone_ms=now - presence.alone_since_ms,
            stream=ring.stream,
            next_event=ring.next_n,
            events=ring.handed(now),
            told=presence.told,
            handed_ms=presence.owned.handed_ms,
            frozen_ms=frozen_ms,
            trade=self._carry_trade(presence.avatar),
            **self._state.carry(presence.avatar),
        )

    async def _reclaim(self, giving: Giving) -> tuple[Event, Owner | None]:
        self._log.info("offer not taken", unit=giving.owned.key, to=giving.to, reason=giving.problem)
        try:
            await self._table.reclaim(giving.owned)
        except Overtaken as overtaken:
            return Event.OVERTAKEN, self._owner_found(overtaken)
        self.reclaimed += 1
        return Event.RECLAIMED, None

    def _owner_found(self, overtaken: Overtaken) -> Owner:
        """Whose it is by the document that stands there; "": nobody's, or it cannot be read."""
        try:
            head = parse(OwnerHead, overtaken.key, overtaken.found) if overtaken.found is not None else OwnerHead()
        except BadDocument as error:
            self._log.error("unreadable document", problem=str(error))
            head = OwnerHead()
        return Owner(head.owner, head.generation, head.epoch)

    def _resume(self, giving: Giving) -> None:
        owned = giving.owned
        self.aborted += 1
        owned.closing = owned.offered = False
        for presence in self._present(owned):
            self._state.freeze(presence.avatar, False)
            self._presences.resume(presence)
            closed, presence.closed = presence.closed, None
            if closed is not None:
                self._attaching.closed(presence, closed)
        self._table.touch(owned)

    def _gave(self, giving: Giving) -> None:
        """Another has it: tell who has to know, and forget it."""
        owned, owner = giving.owned, giving.role.owner
        assert owner is not None
        presences = self._present(owned)
        self.given += 1
        self._table.drop(owned)  # its entities go with ``handed`` (GameServer._dropped)
        self._lists.discard(owned.key)
        if owner.server:
            self._ownership.locations.learn(owned.key, Location(NodeId(owner.server), owner.generation, owner.epoch))
        for presence in presences:
            number = presence.number
            if presence.attached:
                row = (presence.avatar, number.session, number.connection, "moved", *owner)
                self._mesh.send(presence.gateway, MoveAnswers([row]))
            if presence.closed is not None:
                self._mesh.send(NodeId(owner.server), presence.closed)
        if owner.server != giving.to:
            return
        detail = {"unit": owned.key, "from": self._service.node_id, "to": owner.server, "epoch": owner.epoch}
        self._notes.note("handoff", **detail)

    def handed(self, owned: Owned, to: NodeId) -> None:
        """Its observers keep what they see of it until they hear of it from there."""
        for entity in owned.unit.entities:
            self._state.hand_over(entity, owned.unit.epoch + 1, node_number(to))
