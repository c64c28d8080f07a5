"""Whose is a unit: find the owner, take what nobody living owns, give back what nobody needs.

A take is one CAS that names me with epoch + 1 (an insert with epoch 1 where there is no document yet), after the unit
was written into my ``owned:`` list. Who loses the race reads again and learns the winner. A unit whose document names
this very generation, though it does not hold it (an ambiguous take given up), is adopted by the same CAS.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from gameserver.death import DeathWatch
from gameserver.documents import NOT_THERE, Documents, Overtaken
from gameserver.owned_lists import OwnedLists
from gameserver.records import OwnerHead, parse
from gameserver.units import Owned, StoreGone, UnitFull, UnitTable
from runtime.service import Service
from runtime.store.api import Ambiguous, Document, TooLarge, Unavailable
from world.ids import NodeId
from world.limits import LOCATIONS, STORE_GIVE_UP_MS, TAKE_TRIES, TAKES_IN_FLIGHT
from world.messages import Moved
from world.unit import BadDocument, Unit

T = TypeVar("T")


class NoSuchUnit(Exception):
    """An avatar that nobody has created."""

    code = "no_such_avatar"


class Contended(Exception):
    """The race for a unit was lost too often: ask again a little later."""

    code = "busy"


@dataclass(frozen=True, slots=True)
class Location:
    """Who owns a unit, as far as it is known here; ``server`` "": nobody living. "Newer" is by epoch."""

    server: NodeId
    generation: int
    epoch: int

    @property
    def is_nobody(self) -> bool:
        return not self.server

    def moved(self, unit: str) -> Moved:
        return Moved(unit, self.server, self.generation, self.epoch)


NOBODY = Location(NodeId(""), 0, 0)
Taken: TypeAlias = "Owned | Location | Exception"


class Locations:
    """Owners of other servers' units: bounded, the longest unused forgotten, never trusted beyond a hint."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Location] = OrderedDict()

    def get(self, unit: str) -> Location | None:
        found = self._known.get(unit)
        if found is not None:
            self._known.move_to_end(unit)
        return found

    def learn(self, unit: str, location: Location) -> None:
        """Unless something newer is known."""
        known = self._known.get(unit)
        if known is not None and known.epoch > location.epoch:
            return
        self._known[unit] = location
        self._known.move_to_end(unit)
        if len(self._known) > LOCATIONS:
            self._known.popitem(last=False)

    def forget(self, unit: str) -> None:
        self._known.pop(unit, None)


class Ownership:
    """``create(unit, newcomer)`` makes what has no document (NoSuchUnit), ``restore(unit, head)`` brings back what the
    document does not hold (motion; answers the last input) before a take is written, ``on_taken(owned)`` follows it,
    and ``on_adopted(unit, last)``, with what its document said before."""

    def __init__(
        self,
        service: Service,
        documents: Documents,
        watch: DeathWatch,
        lists: OwnedLists,
        table: UnitTable,
        *,
        load: Callable[[str, Document], Unit],
        create: Callable[[str, str], Unit],
        restore: Callable[[Unit, OwnerHead], Awaitable[int]],
        on_taken: Callable[[Owned], None],
        on_adopted: Callable[[Unit, OwnerHead], None],
    ) -> None:
        self._service = service
        self._documents = documents
        self._watch = watch
        self._lists = lists
        self._table = table
        self._load = load
        self._create = create
        self._restore = restore
        self._on_taken = on_taken
        self._on_adopted = on_adopted
        self._taking: dict[str, asyncio.Future[Taken]] = {}  # at most one take per unit
        self._slots = asyncio.Semaphore(TAKES_IN_FLIGHT)
        self.locations = Locations()
        self.takes = 0

    # -- finding -----------------------------------------------------------------------------------------------------
    def hint(self, unit: str) -> Location | None:
        """Without asking anybody: me, or the remembered owner unless known dead."""
        if self._table.get(unit) is not None:
            return self.here(unit)
        known = self.locations.get(unit)
        if known is not None and self._watch.is_known_dead(known.server, known.generation):
            self.locations.forget(unit)
            return None
        return known

    def here(self, unit: str) -> Location:
        owned = self._table.get(unit)
        return Location(self._watch.node, self._watch.generation, owned.unit.epoch if owned is not None else 0)

    async def locate(self, unit: str) -> Location:
        """The living owner by the unit's document. Raises StoreGone."""
        if self._table.get(unit) is not None:
            return self.here(unit)
        return await self._guard(self._owner_in_store(unit))

    async def _owner_in_store(self, unit: str) -> Location:
        found = await self._documents.read(unit, give_up_ms=STORE_GIVE_UP_MS)
        self.locations.forget(unit)
        return NOBODY if found is None else await self._living_owner(unit, found)

    async def _living_owner(self, unit: str, found: Document) -> Location:
        """Nobody also for a dead owner, and for myself not holding it."""
        head = parse(OwnerHead, unit, found)
        mine = head.owner == self._watch.node and head.generation <= self._watch.generation
        if not head.owner or mine:
            return Location(NOBODY.server, 0, head.epoch)
        if not await self._watch.is_alive(head.owner, head.generation):
            return Location(NOBODY.server, 0, head.epoch)
        location = Location(NodeId(head.owner), head.generation, head.epoch)
        self.locations.learn(unit, location)
        return location

    # -- taking ------------------------------------------------------------------------------------------------------
    async def take(self, unit: str, newcomer: str = "") -> Owned | Location:
        """Mine, or whose it is. ``newcomer``: the name under which an avatar without a document is created.
        Raises StoreGone, NoSuchUnit, Contended."""
        owned = self._table.get(unit)
        if owned is not None:
            return owned
        outcome = self._taking.get(unit)
        if outcome is None:
            outcome = asyncio.get_running_loop().create_future()
            self._taking[unit] = outcome
            self._service.spawn(self._take_into(outcome, unit, newcomer), f"take {unit}")
        taken = await asyncio.shield(outcome)
        if isinstance(taken, Exception):
            raise taken
        return taken

    async def adopt(self, unit: str) -> Owned | Location:
        """For a message that came to me as the owner: mine if the document names me (though I do not hold it), else
        whose it is: nobody's unit the asker may take. Raises as ``take``."""
        owner = await self._guard(self._named_owner(unit))
        return await self.take(unit) if owner is None else owner

    async def _named_owner(self, unit: str) -> Location | None:
        """By the unit's document; None: this very generation."""
        found = await self._documents.read(unit, give_up_ms=STORE_GIVE_UP_MS)
        if found is None:
            return NOBODY
        head = parse(OwnerHead, unit, found)
        if head.owner == self._watch.node and head.generation == self._watch.generation:
            return None
        return await self._living_owner(unit, found)

    async def _take_into(self, outcome: asyncio.Future[Taken], unit: str, newcomer: str) -> None:
        """Run one take; its end, good or bad, is handed to everyone who waits for it."""
        try:
            async with self._slots:
                outcome.set_result(await self._guard(self._take(unit, newcomer)))
        except (StoreGone, NoSuchUnit, Contended) as problem:
            outcome.set_result(problem)
        finally:
            self._taking.pop(unit, None)
            outcome.cancel()

    async def _take(self, unit: str, newcomer: str) -> Owned | Location:
        for _ in range(TAKE_TRIES):
            found = await self._documents.read(unit, give_up_ms=STORE_GIVE_UP_MS)
            if found is not None:
                owner = await self._living_owner(unit, found)
                if not owner.is_nobody:
                    return owner
            await self._lists.hold(unit, STORE_GIVE_UP_MS)
            try:
                return await self._claim(unit, found, newcomer)
            except Overtaken:
                self._lists.discard(unit)
            except NoSuchUnit:
                self._lists.discard(unit)
                raise
        raise Contended(unit)

    async def _claim(self, unit: str, found: Document | None, newcomer: str) -> Owned:
        """The CAS. Listed it stays also where the fate of the write is open. Raises Overtaken, NoSuchUnit."""
        last_input = 0
        if found is None:
            claimed = self._create(unit, newcomer)
        else:
            claimed = self._load(unit, found)
            last_input = await self._restore(claimed, parse(OwnerHead, unit, found))
            claimed.take()
        write_id = self._documents.new_write_id()
        version = claimed.begin_write()
        value = claimed.document(self._watch.node, self._watch.generation, write_id, self._documents.format)
        cas = await self._documents.write(
            unit, value, NOT_THERE if found is None else found.cas, write_id, give_up_ms=STORE_GIVE_UP_MS
        )
        claimed.landed(version, cas)
        self.takes += 1
        self._on_adopted(claimed, parse(OwnerHead, unit, found) if found is not None else OwnerHead())
        return self.install(claimed, last_input)

    def install(self, claimed: Unit, last_input: int = 0) -> Owned:
        """Its document names me at its epoch: from now on it is served here."""
        self.locations.forget(claimed.key)
        owned = self._table.install(claimed)
        owned.last_input = last_input
        self._on_taken(owned)
        return owned

    @contextmanager
    def reserved(self, unit: str) -> Iterator[Callable[[Owned], None]]:
        """In the block the unit is being handed to me: whoever would take it waits for ``have(owned)``, or for the
        end, and then finds it contended. Raises Contended: it is mine, or being taken."""
        if unit in self._taking or self._table.get(unit) is not None:
            raise Contended(unit)
        outcome = self._taking[unit] = asyncio.get_running_loop().create_future()
        try:
            yield outcome.set_result
        finally:
            self._taking.pop(unit, None)
            if not outcome.done():
                outcome.set_result(Contended(unit))

    # -- giving back -------------------------------------------------------------------------------------------------
    async def release(self, owned: Owned, give_up_ms: float = STORE_GIVE_UP_MS) -> bool:
        """Save and give up; False where it stays mine."""
        return await self._table.release(owned, give_up_ms)

    def dropped(self, owned: Owned) -> None:
        """It is not mine any more. What left with open intents stays listed, for a sweep; so does one that is too
        large to be written, whose document still names me."""
        if not owned.unit.has_intents and not owned.too_large:
            self._lists.discard(owned.key)

    async def check(self, owned: Owned, epoch: int) -> bool:
        """Somebody knows a higher epoch than mine: read the store before acting. False: it is not mine any more.
        Raises StoreGone."""
        if epoch <= owned.unit.epoch or not owned.serving:  # a hand-off finds out by itself what became of it
            return owned.serving
        found = await self._guard(self._documents.read(owned.key, give_up_ms=STORE_GIVE_UP_MS))
        head = parse(OwnerHead, owned.key, found) if found is not None else OwnerHead()
        if head.epoch > owned.unit.epoch:
            self._table.drop(owned)
        return owned.serving

    async def _guard(self, work: Awaitable[T]) -> T:
        """The store's silence as StoreGone; so is a document that cannot be read, or is too large to be written: its
        unit is out of reach until somebody mends it, and nothing else is."""
        try:
            return await work
        except BadDocument as error:
            self._service.log.error("unreadable document", problem=str(error))
            raise StoreGone(str(error)) from error
        except TooLarge as error:
            self._service.log.error("document too large", problem=str(error))
            raise UnitFull(str(error)) from error
        except (Unavailable, Ambiguous) as error:
            raise StoreGone(str(error)) from error
