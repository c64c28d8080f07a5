"""Taking over a unit that its living owner gives away: the shell around the destination's half of ``world.handoff``.

Refused at once where there is no room, while draining or stopping, while I may not speak, while the store is silent.
Else the unit is listed, committed with exactly the token of the offer, and installed with what its last owner kept in
memory: motion, the attached client, the ring of numbered events.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import Histogram

from gameserver.death import SelfDead
from gameserver.documents import Documents, Overtaken
from gameserver.interest import REGION_PREFIX, Interests
from gameserver.owned_lists import OwnedLists
from gameserver.ownership import Contended, Ownership
from gameserver.presence import Presences
from gameserver.state import StateSide
from gameserver.units import Owned, UnitTable
from runtime.mesh.api import Mesh, Refused, Sender
from runtime.service import Service
from runtime.store.api import Ambiguous, Document, TooLarge, Unavailable
from world.handoff import Effect, Event, Role, destination
from world.limits import HANDOFF_AHEAD_MS, HANDOFF_COMMIT_MS, HANDOFF_OFFER_MS, HANDOFFS_AHEAD, HANDOFFS_COMING
from world.messages import HandedAvatar, HandedOver, HandOff, HandOffAhead, Json, MoveAnswers, Ok
from world.unit import BadDocument, Unit
from world.unit_size import FULL

PAUSES_S = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 1.0, 2.0, 5.0)


@dataclass(slots=True, eq=False)
class Offer:
    """One unit on its way to me."""

    message: HandOff
    unit: Unit
    have: Callable[[Owned], None]  # tells who waits for the unit
    role: Role = field(default_factory=destination)
    problem: str = ""


class Receiving:
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
        state: StateSide,
        interests: Interests,
        load: Callable[[str, Document], Unit],
        may_speak: Callable[[], bool],
        cap: int,
        arrive_trade: Callable[[int, Json], None],
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
        self._state = state
        self._interests = interests
        self._load = load
        self._may_speak = may_speak
        self._cap = cap
        self._arrive_trade = arrive_trade
        self._offers: dict[str, Offer] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._ahead: dict[str, float] = {}  # announced and listed, not offered yet -> until when it is waited for
        self.taken = 0
        self.refused = 0
        self._pause = Histogram(
            "projectk_handoff_pause_seconds",
            "From an avatar's freeze at its last owner until its client is attached here, or an input of it is applied",
            ["until"],
            buckets=PAUSES_S,
            registry=service.metrics,
        )

    async def ahead(self, _: Sender, message: HandOffAhead) -> Ok:
        """List it and listen to what is seen from there, before the unit is frozen. Raises Refused: full, draining,
        busy, store_unavailable."""
        self._forget_announced()
        problem = self._unready() or ("busy" if len(self._ahead) >= HANDOFFS_AHEAD else "")
        if not problem and not self._has_room(message.unit, message.place is not None):
            problem = "full"
        problem = problem or await self._hold(message.unit)
        if problem:
            raise Refused(problem)
        self._ahead[message.unit] = self._clock.monotonic_ms() + HANDOFF_AHEAD_MS + HANDOFF_OFFER_MS
        if message.place is not None:
            self._state.expect(*message.place)
        return Ok()

    def _forget_announced(self) -> None:
        """Those never offered leave the list again, unless they have become mine or are being taken."""
        now = self._clock.monotonic_ms()
        for unit in [unit for unit, until_ms in self._ahead.items() if until_ms < now]:
            del self._ahead[unit]
            with suppress(Contended), self._ownership.reserved(unit):
                self._lists.discard(unit)

    async def serve(self, sender: Sender, message: HandOff) -> HandedOver:
        """Raises Refused: full, draining, busy, store_unavailable, overtaken, bad_document."""
        owned = self._table.get(message.unit)
        if owned is not None and owned.offer_cas == message.cas and owned.unit.epoch == message.epoch + 1:
            return self._answer(owned.unit)
        try:
            unit = self._load(message.unit, Document(message.document, message.cas))
        except BadDocument as error:
            raise Refused("bad_document", str(error)) from error
        try:
            with self._ownership.reserved(message.unit) as have:
                offer = Offer(message, unit, have)
                await self._serve(offer)
        except Contended as contended:
            raise Refused(contended.code) from contended
        if offer.problem:
            self.refused += 1
            self._log.info("offer refused", unit=message.unit, sender=sender.node, reason=offer.problem)
            raise Refused(offer.problem)
        return self._answer(offer.unit)

    async def _serve(self, offer: Offer) -> None:
        self._offers[offer.message.unit] = offer
        self._idle.clear()
        try:
            await self._run(offer)
        finally:
            del self._offers[offer.message.unit]
            if not self._offers:
                self._idle.set()

    def _answer(self, unit: Unit) -> HandedOver:
        return HandedOver(unit.key, self._service.node_id, self._mesh.me.generation, unit.epoch)

    async def quiet(self) -> None:
        """Return once nothing is being taken."""
        await self._idle.wait()

    # -- may it come -------------------------------------------------------------------------------------------------
    def _unfit(self, offer: Offer) -> str:
        """Why it cannot be taken, "" where it can."""
        if problem := self._unready():
            return problem
        if offer.unit.epoch != offer.message.epoch:
            return "bad_document"
        return "" if self._has_room(offer.message.unit, offer.message.avatar is not None) else "full"

    def _unready(self) -> str:
        if self._service.stopping.is_set() or self._service.draining.is_set():
            return "draining"
        if not self._may_speak() or len(self._offers) > HANDOFFS_COMING:
            return "busy"
        return "store_unavailable" if self._documents.failing_ms() > 0 else ""

    def _has_room(self, unit: str, in_the_world: bool) -> bool:
        """With what is on its way counted."""
        others = [o for key, o in self._offers.items() if key != unit]
        if unit.startswith(REGION_PREFIX):
            return self._interests.has_room(sum(o.message.unit.startswith(REGION_PREFIX) for o in others))
        coming = sum(o.message.avatar is not None for o in others) + in_the_world
        return len(self._presences) + coming <= self._cap

    # -- one offer ---------------------------------------------------------------------------------------------------
    async def _run(self, offer: Offer) -> None:
        offer.problem = self._unfit(offer)
        event: Event | None = Event.UNFIT if offer.problem else Event.OFFERED
        while event is not None:
            effects = offer.role.step(event)
            self._entered(offer)
            event = None
            for effect in effects:
                event = await self._perform(effect, offer)

    def _entered(self, offer: Offer) -> None:
        """A new state was reached."""
        self._log.debug("taking over", unit=offer.message.unit, state=offer.role.state.value)

    async def _perform(self, effect: Effect, offer: Offer) -> Event | None:
        """The event that follows, if one does. To answer or refuse is the caller's part."""
        match effect:
            case Effect.PREPARE:
                self._prepare(offer.message.avatar)
            case Effect.LIST:
                return await self._list(offer)
            case Effect.UNLIST:
                self._lists.discard(offer.message.unit)
            case Effect.COMMIT:
                return await self._commit(offer)
            case Effect.INSTALL:
                self._install(offer)
            case _:
                assert effect in (Effect.ANSWER, Effect.REFUSE), effect
        return None

    def _prepare(self, avatar: HandedAvatar | None) -> None:
        if avatar is not None:
            self._state.expect(avatar.at_x, avatar.at_y)

    async def _list(self, offer: Offer) -> Event:
        """At once, where it was announced."""
        self._ahead.pop(offer.message.unit, None)
        offer.problem = await self._hold(offer.message.unit)
        return Event.SILENT if offer.problem else Event.LISTED

    async def _hold(self, unit: str) -> str:
        """See that my list in the store names it; why it does not, "" once it does."""
        try:
            await self._lists.hold(unit, HANDOFF_COMMIT_MS)
        except (Unavailable, Ambiguous) as silent:
            return silent.code
        except SelfDead as dead:  # my list is closed: this process must end
            self._service.fail(dead)
            return "draining"
        return ""

    async def _commit(self, offer: Offer) -> Event:
        """Exactly that token, my name, epoch + 1."""
        unit, write_id = offer.unit, self._documents.new_write_id()
        unit.take()
        version = unit.begin_write()
        value = unit.document(self._service.node_id, self._mesh.me.generation, write_id, self._documents.format)
        try:
            cas = await self._documents.write(
                unit.key, value, offer.message.cas, write_id, give_up_ms=HANDOFF_COMMIT_MS
            )
        except Overtaken:
            offer.problem = "overtaken"
            return Event.OVERTAKEN
        except (Unavailable, Ambiguous):
            offer.problem = "store_unavailable"
            return Event.SILENT
        except TooLarge:
            offer.problem = FULL
            return Event.SILENT
        unit.landed(version, cas)
        return Event.COMMITTED

    def _install(self, offer: Offer) -> None:
        owned = self._ownership.install(offer.unit)
        owned.offer_cas, owned.handed_ms = offer.message.cas, self._clock.world_ms()
        self.taken += 1
        if offer.message.avatar is not None:
            self._arrive(owned, offer.message.avatar)
        offer.have(owned)

    def _arrive(self, owned: Owned, handed: HandedAvatar) -> None:
        """The avatar is in the world here, its client attached; its gateway is told at once, in case the last owner
        does not live to tell it."""
        avatar = next(iter(owned.unit.entities))
        properties = [(p.group, p.version, p.body) for p in owned.unit.properties()]
        self._state.arrive(avatar, owned.unit.epoch, handed, properties)
        presence = self._presences.arrive(avatar, owned, handed)
        self._arrive_trade(avatar, handed.trade)
        self._interests.look()
        if not presence.attached:
            return
        number = presence.number
        self._state.attach(avatar, presence.gateway, number.session, number.connection)
        presence.on_attached = partial(self._paused, "attached", handed.frozen_ms)
        self._state.on_first_input(avatar, partial(self._paused, "input", handed.frozen_ms))
        me = (self._service.node_id, self._mesh.me.generation, owned.unit.epoch)
        row = (avatar, number.session, number.connection, "handed", *me)  # to older gateways any code is ``moved``
        self._mesh.send(presence.gateway, MoveAnswers([row]))

    def _paused(self, until: str, frozen_ms: int) -> None:
        self._pause.labels(until).observe(max(self._clock.world_ms() - frozen_ms, 0) / 1_000)
