"""Keepers: each transaction that holds something of a unit of mine is brought to its end (``world.trade``, the keeper's
half), whoever began it and whatever became of him.

One task per hold, from the lock, or from the take of a unit in whose document it lies. What it knows is lost with the
process or the unit; the hold is not, and the next owner's keeper begins anew.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gameserver.death import DeathWatch
from gameserver.documents import NOT_THERE, Documents, Overtaken, sleep_ms
from gameserver.units import Fenced, Owned, StoreGone, UnitTable
from runtime.service import Service
from runtime.store.api import Document
from world.limits import REDRIVE_CAP_MS, RETRY_AFTER_MS, TX_FORGET_MS, TX_LOOK_MS, TX_TERM_MS
from world.trade import Effect, Event, Role, keeper
from world.transaction_document import ABORTED, COMMITTED, PENDING, Intent, document_key
from world.unit_document import BadDocument


@dataclass(slots=True, eq=False)
class Keeping:
    """One hold of one unit."""

    owned: Owned
    tx: str
    due_ms: float  # own clock: from then on a pending intent is aborted
    role: Role
    creator: tuple[str, int] = ("", 0)
    word: bool | None = None  # what was decided, as told
    called: asyncio.Event = field(default_factory=asyncio.Event)  # there is a word, or no time
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # the unit's document is done with it; or is lost
    read: Intent | None = None  # the intent as last read, and its token
    cas: int = NOT_THERE

    def tell(self, committed: bool) -> None:
        self.word = committed
        self.called.set()

    def hasten(self) -> None:
        """Nobody can commit it any more, unless that is done already."""
        self.due_ms = 0.0
        self.called.set()


class Keepers:
    """All holds of my units."""

    def __init__(self, service: Service, documents: Documents, table: UnitTable, watch: DeathWatch) -> None:
        self._service = service
        self._clock = service.clock
        self._log = service.log
        self._documents = documents
        self._table = table
        self._watch = watch
        self._kept: dict[tuple[Owned, str], Keeping] = {}
        self.applied = 0  # holds that ended so
        self.undone = 0
        self.rescued = 0  # intents that a keeper had to abort

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, owned: Owned, tx: str) -> Keeping | None:
        return self._kept.get((owned, tx))

    def drive(self, owned: Owned) -> None:
        """The unit was taken: go on with what lies in it."""
        for tx in owned.unit.locks.pending:
            self.keep(owned, tx, found=True)

    def keep(self, owned: Owned, tx: str, *, found: bool = False, creator: tuple[str, int] = ("", 0)) -> Keeping:
        """See to the end of this hold, unless that is being done."""
        keeping = self._kept.get((owned, tx))
        if keeping is None:
            due_ms = self._clock.monotonic_ms() + TX_TERM_MS
            keeping = self._kept[owned, tx] = Keeping(owned, tx, due_ms, keeper(found=found), creator)
            self._service.spawn(self._run(keeping, Effect.READ if found else Effect.WAIT), f"keep {owned.key} {tx}")
        return keeping

    # -- one of them ---------------------------------------------------------------------------------------------------
    async def _run(self, keeping: Keeping, effect: Effect) -> None:
        effects: tuple[Effect, ...] = (effect,)
        try:
            while effects:
                self._entered(keeping)
                event = await self._perform(effects[-1], keeping)
                if event in (Event.WRITTEN, Event.LOST):
                    keeping.settled.set()
                effects = keeping.role.step(event)
            self._entered(keeping)
        finally:
            keeping.settled.set()
            del self._kept[keeping.owned, keeping.tx]

    def _entered(self, keeping: Keeping) -> None:
        """A new state was reached."""
        self._log.debug("keeping", unit=keeping.owned.key, tx=keeping.tx, state=keeping.role.state.value)

    async def _perform(self, effect: Effect, keeping: Keeping) -> Event:
        """The event that follows."""
        match effect:
            case Effect.WAIT:
                return await self._wait(keeping)
            case Effect.READ:
                return await self._look(keeping)
            case Effect.ABORT:
                self.rescued += 1
                return await self._put(keeping, self._aborted(keeping.read), keeping.cas)
            case Effect.DENY:
                return await self._put(keeping, self._aborted(None), NOT_THERE)
            case Effect.APPLY:
                self.applied += 1
                return await self._change(keeping, keeping.owned.unit.apply)
            case Effect.UNLOCK:
                self.undone += 1
                return await self._change(keeping, keeping.owned.unit.unlock)
            case Effect.MARK:
                return await self._mark(keeping)
            case Effect.REMOVE:
                gone = await self._documents.remove(document_key(keeping.tx), keeping.cas)
                return Event.LANDED if gone else Event.OVERTAKEN
            case _:
                raise AssertionError(effect)

    async def _wait(self, keeping: Keeping) -> Event:
        while not keeping.owned.gone:
            if keeping.word is not None:
                return Event.TOLD_COMMITTED if keeping.word else Event.TOLD_ABORTED
            if self._is_overdue(keeping):
                return Event.OVERDUE
            left_ms = keeping.due_ms - self._clock.monotonic_ms()
            keeping.called.clear()
            try:
                async with asyncio.timeout(min(left_ms, TX_LOOK_MS) / 1_000):
                    await keeping.called.wait()
            except TimeoutError:
                continue
        return Event.LOST

    def _is_overdue(self, keeping: Keeping) -> bool:
        creator = keeping.creator
        return self._clock.monotonic_ms() >= keeping.due_ms or (
            bool(creator[0]) and self._watch.is_known_dead(*creator)
        )

    async def _look(self, keeping: Keeping) -> Event:
        found = await self._read(keeping)
        if keeping.owned.gone:
            return Event.LOST
        if found is None:
            return Event.SAW_NONE
        keeping.creator = (found.creator, found.generation)
        if found.state == PENDING:
            return Event.SAW_OVERDUE if self._is_overdue(keeping) else Event.SAW_PENDING
        return Event.SAW_COMMITTED if found.state == COMMITTED else Event.SAW_ABORTED

    async def _read(self, keeping: Keeping) -> Intent | None:
        """A damaged intent holds up its own units, until somebody mends it, and nothing else."""
        while True:
            found: Document | None = await self._documents.read(document_key(keeping.tx))
            try:
                keeping.read = Intent.parse(found.value) if found is not None else None
            except BadDocument as error:
                self._log.error("unreadable document", tx=keeping.tx, problem=str(error))
                await sleep_ms(REDRIVE_CAP_MS)
                continue
            keeping.cas = found.cas if found is not None else NOT_THERE
            return keeping.read

    def _aborted(self, found: Intent | None) -> Intent:
        return (found or Intent(ABORTED)).become(ABORTED, self._clock.world_ms())

    async def _put(self, keeping: Keeping, intent: Intent, cas: int) -> Event:
        write_id = self._documents.new_write_id()
        try:
            await self._documents.write(document_key(keeping.tx), intent.encode(write_id), cas, write_id)
        except Overtaken:
            return Event.OVERTAKEN
        return Event.LANDED

    async def _change(self, keeping: Keeping, change: Callable[[str], int]) -> Event:
        """Of the unit, however long the store takes; a unit that is being handed off is left as it is."""
        owned = keeping.owned
        while not owned.gone:
            if not owned.serving:
                await sleep_ms(RETRY_AFTER_MS)
                continue
            version = change(keeping.tx)
            self._table.touch(owned)
            try:
                await self._table.committed(owned, version)
            except StoreGone:
                continue
            except Fenced:
                return Event.LOST
            return Event.WRITTEN
        return Event.LOST

    async def _mark(self, keeping: Keeping) -> Event:
        found = await self._read(keeping)
        if found is None:
            return Event.SAW_NONE
        marked = found.applied_by(keeping.owned.key)
        return Event.LAST if marked.is_over else await self._put(keeping, marked, keeping.cas)

    # -- forgetting ----------------------------------------------------------------------------------------------------
    async def tidy(self) -> None:
        """For ever: what units remember to have applied is forgotten once its intent is gone. No write of its own."""
        while True:
            await sleep_ms(TX_FORGET_MS)
            for owned in self._table:
                old = owned.unit.locks.old()
                if old:
                    there = await self._documents.read_many([document_key(tx) for tx in old])
                    owned.unit.locks.forget(tx for tx in old if document_key(tx) not in there)
