"""The table of units this server owns, and their persistence.

One write per unit is in flight; what is changed meanwhile joins the next. COMMIT changes are written at once, to the
disks of a majority of the store's nodes; the rest in a group every WRITE_BEHIND_MS, to their memory. Whoever depends on
a version awaits it::

    owned = table.get(key)
    pending = owned.unit.invoke(...)                    synchronous, on the working copy
    table.touch(owned)                                  starts the write, or lets it join the next
    await table.committed(owned, pending.version)       Fenced, StoreGone

A caller's wait is bounded by STORE_GIVE_UP_MS; the change stays joined all the same, and has its effect once when its
write lands. A write that finds the unit taken by somebody else drops the unit: nothing is sent of it any more. So does
one that the store refuses as too large, which ``world.unit_size`` is there to prevent: what was not acknowledged is
undone by reading the unit anew, and no other unit is harmed.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from gameserver.documents import Documents, Overtaken, sleep_ms
from gameserver.overdue import Overdue
from runtime.service import Service
from runtime.store.api import Ambiguous, Durability, TooLarge, Unavailable
from world.entity import COMMIT
from world.limits import STORE_GIVE_UP_MS, WRITE_BEHIND_MS
from world.unit import Property, Unit
from world.unit_size import FULL


class Fenced(Exception):
    """The unit is not mine any more; what was asked of it is to be asked of its owner."""


class StoreGone(Exception):
    """The store did not answer in time. What was begun may still land, once."""

    code = "store_unavailable"


class UnitFull(StoreGone):
    """The store takes no document as large as the unit would be. What was begun has not happened."""

    code = FULL


class Wait(NamedTuple):
    """Who waits for a commit, and until when (own time)."""

    version: int
    future: asyncio.Future[None]
    give_up_ms: float


@dataclass(slots=True, eq=False)
class Owned:
    """One unit of mine."""

    unit: Unit
    taken_ms: float
    wanted_ms: float  # when somebody last needed it: interest, an attachment, an operation
    closing: bool = False  # being released or handed off: serves nobody
    offered: bool = False  # to another server, under the present token: no write starts
    offer_cas: int = 0  # the token under which it was handed to me; 0: taken otherwise
    handed_ms: int = 0  # world time at which it was handed to me
    gone: bool = False  # released or fenced
    too_large: bool = False  # for the store: dropped, to be taken anew as it was last written
    writing: bool = False
    rings: int = 0  # event streams begun under this epoch
    motion_version: int = 0  # an avatar's, when it was last present under this epoch
    last_input: int = 0
    waiters: list[Wait] = field(default_factory=list)  # one per waiting operation

    @property
    def key(self) -> str:
        return self.unit.key

    @property
    def serving(self) -> bool:
        return not self.closing and not self.gone


class UnitTable:
    """All units of this server. ``on_landed(owned, changes)`` follows a commit, ``on_dropped(owned)`` a loss;
    ``on_fenced(owned)`` precedes one by a write that came too late; ``on_too_large(owned)`` follows one by a write that
    the store does not take."""

    def __init__(
        self,
        service: Service,
        documents: Documents,
        generation: int,
        on_landed: Callable[[Owned, list[Property]], None],
        on_dropped: Callable[[Owned], None],
        on_fenced: Callable[[Owned], None] = lambda owned: None,
        on_too_large: Callable[[Owned], None] = lambda owned: None,
    ) -> None:
        self._service = service
        self._clock = service.clock
        self._log = service.log
        self._documents = documents
        self._generation = generation
        self._on_landed = on_landed
        self._on_dropped = on_dropped
        self._on_fenced = on_fenced
        self._on_too_large = on_too_large
        self._units: dict[str, Owned] = {}
        self._behind: set[Owned] = set()  # to be written with the next group
        self._awaited: dict[Owned, None] = {}  # those with waiters, at the last look
        self._overdue = Overdue(self._give_up)
        self.writes = 0
        self.fenced = 0
        self.too_large = 0

    # -- the table ---------------------------------------------------------------------------------------------------
    def get(self, key: str) -> Owned | None:
        return self._units.get(key)

    def __iter__(self) -> Iterator[Owned]:
        return iter(list(self._units.values()))

    def __len__(self) -> int:
        return len(self._units)

    def install(self, unit: Unit) -> Owned:
        """A unit whose document names me with this epoch and token."""
        assert unit.key not in self._units, f"{unit.key} installed twice"
        now = self._clock.monotonic_ms()
        owned = Owned(unit, taken_ms=now, wanted_ms=now)
        self._units[unit.key] = owned
        return owned

    def drop(self, owned: Owned) -> None:
        """Forget a unit that was released or fenced; who waits for it learns that it is not mine."""
        if owned.gone:
            return
        owned.gone = True
        self._units.pop(owned.key, None)
        self._behind.discard(owned)
        self._on_dropped(owned)
        for wait in owned.waiters:
            if not wait.future.done():
                wait.future.set_exception((UnitFull if owned.too_large else Fenced)(owned.key))
        owned.waiters.clear()

    # -- persistence -------------------------------------------------------------------------------------------------
    def touch(self, owned: Owned) -> None:
        """After any change of the unit: see that it is written in time."""
        if owned.gone or owned.writing or owned.offered or owned.unit.dirty is None:
            return
        if owned.unit.dirty is COMMIT or owned.waiters:
            self._start_write(owned)
        else:
            self._behind.add(owned)

    async def committed(self, owned: Owned, version: int, give_up_ms: float = STORE_GIVE_UP_MS) -> None:
        """Return once the store holds ``version`` of the unit. Raises Fenced; StoreGone, up to OVERDUE_LOOK_MS late."""
        if owned.unit.committed >= version:
            return
        if owned.gone:
            raise Fenced(owned.key)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        owned.waiters.append(Wait(version, future, self._clock.monotonic_ms() + give_up_ms))
        self._awaited[owned] = None
        self._overdue.begin()
        self.touch(owned)
        await future

    def _give_up(self) -> bool:
        """End the waits whose time is over; whether there are others."""
        now = self._clock.monotonic_ms()
        for owned in list(self._awaited):
            for wait in owned.waiters:
                if wait.give_up_ms <= now and not wait.future.done():
                    wait.future.set_exception(StoreGone(owned.key))
            owned.waiters = [wait for wait in owned.waiters if not wait.future.done()]
            if not owned.waiters:
                del self._awaited[owned]
        return bool(self._awaited)

    async def write_behind(self) -> None:
        """For ever: every WRITE_BEHIND_MS all that waits is written, as one group of the store."""
        while True:
            await sleep_ms(WRITE_BEHIND_MS)
            self._start_group(self._behind)

    def _start_group(self, group: Iterable[Owned]) -> None:
        for owned in list(group):
            self._start_write(owned)

    def _start_write(self, owned: Owned) -> None:
        self._behind.discard(owned)
        if not owned.writing and not owned.gone and not owned.offered:
            owned.writing = True
            self._service.spawn(self._write(owned), f"write {owned.key}")

    async def _write(self, owned: Owned) -> None:
        """Write until nothing urgent is left. The only place that writes a unit while it is in the table."""
        try:
            while await self._write_once(owned):
                pass
        except Overtaken:
            self._fence(owned)
            self.drop(owned)
        except TooLarge as error:
            self._undo(owned, error)
        finally:
            owned.writing = False

    def _undo(self, owned: Owned, error: TooLarge) -> None:
        """Nothing of the write has landed, or ever will: the unit goes on from what the store holds."""
        self.too_large += 1
        self._log.error("unit too large, read anew", unit=owned.key, epoch=owned.unit.epoch, problem=str(error))
        if owned.gone:
            return
        owned.too_large = True
        self.drop(owned)
        self._on_too_large(owned)

    def _fence(self, owned: Owned) -> None:
        """A write came too late: somebody else owns the unit."""
        self.fenced += 1
        self._log.warning("fenced", unit=owned.key, epoch=owned.unit.epoch)
        self._on_fenced(owned)

    async def _write_once(self, owned: Owned) -> bool:
        """One write to its end; True where another has to follow at once. Raises Overtaken."""
        unit = owned.unit
        write_id = self._documents.new_write_id()
        version = unit.begin_write()
        value = unit.document(self._service.node_id, self._generation, write_id, self._documents.format)
        level = Durability.PERSIST_TO_MAJORITY if unit.write_urgency is COMMIT else Durability.MAJORITY
        cas = await self._documents.write(owned.key, value, unit.cas, write_id, durability=level)
        self.writes += 1
        changes = unit.landed(version, cas)
        if owned.gone:
            return False
        self._answer(owned)
        self._on_landed(owned, changes)
        if unit.dirty is not None and (unit.dirty is COMMIT or owned.waiters):
            return True
        if unit.dirty is not None:
            self._behind.add(owned)
        return False

    def _answer(self, owned: Owned) -> None:
        waiting, owned.waiters = owned.waiters, []
        for wait in waiting:
            if wait.version > owned.unit.committed:
                owned.waiters.append(wait)
            elif not wait.future.done():
                wait.future.set_result(None)

    # -- handing one off ---------------------------------------------------------------------------------------------
    async def settle(self, owned: Owned, give_up_ms: float) -> None:
        """Return once the store holds all of the unit and no write is in flight. Raises Fenced, StoreGone."""
        end = self._clock.monotonic_ms() + give_up_ms
        while owned.writing or owned.unit.dirty is not None:
            await self.committed(owned, owned.unit.committed + 1, max(end - self._clock.monotonic_ms(), 0.0))
        if owned.gone:
            raise Fenced(owned.key)

    async def reclaim(self, owned: Owned) -> None:
        """Change the token of an offered unit by a write of its own, however long the store takes. Raises Overtaken,
        also where the store does not take the unit any more."""
        write_id = self._documents.new_write_id()
        owned.writing = True
        version = owned.unit.begin_write()
        value = owned.unit.document(self._service.node_id, self._generation, write_id, self._documents.format)
        try:
            cas = await self._documents.write(owned.key, value, owned.unit.cas, write_id)
        except TooLarge as error:
            owned.too_large = True
            raise Overtaken(owned.key, None) from error
        finally:
            owned.writing = False
        self.writes += 1
        changes = owned.unit.landed(version, cas)
        self._answer(owned)
        self._on_landed(owned, changes)

    # -- giving one up -----------------------------------------------------------------------------------------------
    async def release(self, owned: Owned, give_up_ms: float = STORE_GIVE_UP_MS) -> bool:
        """Write the unit, all of it, with no owner and drop it; False where it stays mine: the store does not answer.
        Nobody is served meanwhile."""
        if not owned.serving:
            return False
        owned.closing = True
        try:
            while owned.writing:
                await self.committed(owned, owned.unit.committed + 1, give_up_ms)
            await self._write_ownerless(owned, give_up_ms)
        except (Fenced, UnitFull):
            return True
        except (StoreGone, Unavailable):
            owned.closing = False
            self.touch(owned)
            return False
        except TooLarge as error:
            self._undo(owned, error)
        except Overtaken:
            self._fence(owned)
        except Ambiguous:
            self._log.warning("released without an answer", unit=owned.key)  # the next taker raises the epoch anyway
        self.drop(owned)
        return True

    async def _write_ownerless(self, owned: Owned, give_up_ms: float) -> None:
        write_id = self._documents.new_write_id()
        owned.writing = True  # nothing else writes it while this is in flight
        version = owned.unit.begin_write()
        value = owned.unit.document("", 0, write_id, self._documents.format)
        try:
            cas = await self._documents.write(owned.key, value, owned.unit.cas, write_id, give_up_ms=give_up_ms)
        except Unavailable:
            owned.unit.write_failed()
            raise
        finally:
            owned.writing = False
        owned.unit.landed(version, cas)
        self._answer(owned)
