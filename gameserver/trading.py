"""Transactions over units of any servers: the shell around the creator's half of ``world.trade``, and owners' answers.

The creator is whoever runs the command: the owner of the acting avatar. A run goes on when the command's own wait is
over; a repeat of the command joins it (``settled``), or finds what it left in the avatar's unit.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from gameserver.death import DeathWatch
from gameserver.documents import NOT_THERE, Documents, Overtaken
from gameserver.invoking import Routing, serve_unit
from gameserver.ownership import Ownership
from gameserver.trading_keepers import Keepers
from gameserver.units import Fenced, Owned, StoreGone, UnitTable
from runtime.mesh.api import Refused, Sender
from runtime.service import Service
from runtime.store.api import Ambiguous, Unavailable
from world.fence import EpochFence
from world.limits import RPC_DEADLINE_MS, STORE_GIVE_UP_MS, TX_LOCK_MS, TX_TOLD_MS, UNIT_FULL_BYTES
from world.message_values import Change, Hold
from world.messages import Decided, Json, Key, Lock, Message, Ok
from world.results import Refusal
from world.trade import Effect, Event, Role, State, creator
from world.transaction_document import (
    ABORTED,
    COMMITTED,
    PENDING,
    Intent,
    document_key,
    holds_of,
    is_of,
    transaction_id,
)
from world.unit_size import FULL, weight

FENCED = "fenced"  # the acting avatar has another owner by now


@dataclass(slots=True, eq=False)
class Run:
    """One transaction that I create."""

    tx: str
    origin: str
    epoch: int  # of the acting avatar's unit
    holds: dict[str, Hold]  # by unit, in the order of locking
    intent: Intent
    ended: asyncio.Future[Refusal | None]
    role: Role = field(default_factory=creator)
    cas: int = NOT_THERE
    locked: int = 0  # units
    problem: Refusal | None = None


class Trading:
    """``transact`` for rules; both ends of ``Lock`` and ``Decided``."""

    def __init__(
        self,
        service: Service,
        documents: Documents,
        table: UnitTable,
        ownership: Ownership,
        routing: Routing,
        fence: EpochFence,
        watch: DeathWatch,
    ) -> None:
        self._service = service
        self._clock = service.clock
        self._log = service.log
        self._documents = documents
        self._table = table
        self._ownership = ownership
        self._routing = routing
        self._fence = fence
        self._watch = watch
        self._runs: dict[str, Run] = {}
        self.keepers = Keepers(service, documents, table, watch)
        self.committed = 0
        self.aborted = 0

    # -- what rules and commands ask -----------------------------------------------------------------------------------
    async def transact(self, owned: Owned, changes: Iterable[Change], key: Key, result: Json | None) -> None:
        """Return once it is committed, now or by an earlier run. ``owned``: the acting avatar's unit; ``key``: the
        transaction's, made from the command's. Raises Refusal: a unit's (not_enough, no_room, …), ``busy``,
        ``unit_full``, ``unreachable``, ``store_unavailable``; Fenced, StoreGone where only the wait is over."""
        if owned.unit.results.find(key) is not None:
            await self._table.committed(owned, owned.unit.awaited)
            return
        run = self._runs.get(transaction_id(key))
        if run is None:
            holds = holds_of(changes, key, result)
            if weight(holds) > UNIT_FULL_BYTES:  # no unit would take it, nor the store the intent
                raise Refusal(FULL, "more than one transaction may move")
            run = self._begin(owned, holds, transaction_id(key))
        problem = await asyncio.shield(run.ended)
        if problem is not None:
            raise Refusal(problem.code, problem.detail)

    async def settled(self, owned: Owned, command: Key) -> None:
        """Return once no transaction of this command is under way, so that its repeat may be run."""
        for run in [run for tx, run in self._runs.items() if is_of(tx, command)]:
            await asyncio.shield(run.ended)
        for tx in [tx for tx in owned.unit.locks.pending if is_of(tx, command)]:
            keeping = self.keepers.keep(owned, tx, found=True)
            keeping.hasten()  # its creator was this avatar's owner before, or a run that is over
            await keeping.settled.wait()

    async def outcome(self, owned: Owned, tx: str) -> bool:
        """Whether a transaction that was to hold something of this unit is committed, for good: where nothing was
        decided, it is aborted. To be asked while it is remembered (TX_FORGET_MS)."""
        keeping = self.keepers.get(owned, tx)
        if keeping is None and tx not in owned.unit.locks.done:
            await self._deny(tx)
        elif keeping is not None:
            keeping.hasten()
            await keeping.settled.wait()
        await self._table.committed(owned, owned.unit.awaited)
        if owned.gone:
            raise Fenced(owned.key)
        return tx in owned.unit.locks.done

    async def _deny(self, tx: str) -> None:
        """Not held here: it is over, and remembered here if it was committed; or it must never be."""
        key, write_id = document_key(tx), self._documents.new_write_id()
        found = await self._documents.read(key)
        intent = Intent.parse(found.value) if found is not None else Intent(PENDING)
        if intent.state != PENDING:
            return
        aborted = intent.become(ABORTED, self._clock.world_ms())
        try:
            cas = found.cas if found is not None else NOT_THERE
            await self._documents.write(key, aborted.encode(write_id), cas, write_id)
        except Overtaken:
            await self._deny(tx)

    # -- creating ------------------------------------------------------------------------------------------------------
    def _begin(self, owned: Owned, holds: dict[str, Hold], tx: str) -> Run:
        parts = {unit: hold.changes for unit, hold in holds.items()}
        intent = Intent(PENDING, parts, self._watch.node, self._watch.generation, at_ms=self._clock.world_ms())
        ended = asyncio.get_running_loop().create_future()
        run = self._runs[tx] = Run(tx, owned.key, owned.unit.epoch, holds, intent, ended)
        self._service.spawn(self._run(run), f"transaction {tx}")
        return run

    async def _run(self, run: Run) -> None:
        event: Event | None = Event.BEGIN
        try:
            while event is not None:
                effects = run.role.step(event)
                self._entered(run)
                event = None
                for effect in effects:
                    event = await self._perform(effect, run)
            if run.role.state is State.ABORTED:
                self.aborted += 1
                run.ended.set_result(run.problem or Refusal("busy", "another has aborted it"))
        finally:
            run.ended.cancel()  # no-op where it has a result
            del self._runs[run.tx]

    def _entered(self, run: Run) -> None:
        """A new state was reached."""
        self._log.debug("transaction", tx=run.tx, state=run.role.state.value)

    async def _perform(self, effect: Effect, run: Run) -> Event | None:
        """The event that follows, if one does."""
        match effect:
            case Effect.INSERT:
                return await self._insert(run)
            case Effect.LOCK:
                return await self._lock_next(run)
            case Effect.COMMIT:
                return await self._decide(run, COMMITTED)
            case Effect.ABORT:
                return await self._decide(run, ABORTED)
            case Effect.TELL_COMMITTED:
                await self._tell(run, committed=True)
            case Effect.TELL_ABORTED:
                await self._tell(run, committed=False)
            case Effect.ANSWER:
                self.committed += 1
                run.ended.set_result(None)
            case _:
                raise AssertionError(effect)
        return None

    async def _insert(self, run: Run) -> Event:
        write_id = self._documents.new_write_id()
        value = run.intent.encode(write_id)
        try:
            run.cas = await self._documents.write(
                document_key(run.tx), value, NOT_THERE, write_id, give_up_ms=STORE_GIVE_UP_MS
            )
        except Overtaken:
            return Event.OVERTAKEN
        except (Unavailable, Ambiguous):
            run.problem = Refusal(StoreGone.code)
            return Event.SILENT
        return Event.LANDED

    async def _lock_next(self, run: Run) -> Event:
        unit, hold = list(run.holds.items())[run.locked]

        def ask(to_epoch: int) -> Lock:
            return Lock(run.tx, unit, to_epoch, run.origin, run.epoch, hold)

        async def here(owned: Owned) -> Ok:
            return await self._lock(owned, ask(owned.unit.epoch), (self._watch.node, self._watch.generation))

        try:
            await self._routing.reach(unit, here, ask, TX_LOCK_MS)
        except Refusal as refusal:
            run.problem = Refusal("busy", unit) if refusal.code == FENCED else refusal
            return Event.REFUSED
        run.locked += 1
        return Event.ALL_LOCKED if run.locked == len(run.holds) else Event.LOCKED

    async def _decide(self, run: Run, state: str) -> Event:
        """The one swap, however long the store takes."""
        write_id = self._documents.new_write_id()
        value = run.intent.become(state, self._clock.world_ms()).encode(write_id)
        try:
            await self._documents.write(document_key(run.tx), value, run.cas, write_id)
        except Overtaken:
            return Event.OVERTAKEN
        return Event.LANDED

    async def _tell(self, run: Run, *, committed: bool) -> None:
        """All units at once; who is not reached in time finds out by itself."""
        told = [
            self._service.spawn(self._tell_one(run, unit, committed), f"tell {unit} of {run.tx}") for unit in run.holds
        ]
        await asyncio.wait(told, timeout=TX_TOLD_MS / 1_000)

    async def _tell_one(self, run: Run, unit: str, committed: bool) -> None:
        try:
            await self.tell(run.tx, unit, committed=committed)
        except Refusal as refusal:
            self._log.info("not told", unit=unit, tx=run.tx, code=refusal.code)

    async def tell(self, tx: str, unit: str, *, committed: bool) -> None:
        """Return once the unit, as committed, is done with it. Raises Refusal."""

        def ask(to_epoch: int) -> Decided:
            return Decided(tx, unit, to_epoch, committed)

        async def here(owned: Owned) -> Ok:
            return await self._decided(owned, ask(owned.unit.epoch))

        await self._routing.reach(unit, here, ask, RPC_DEADLINE_MS)

    # -- being asked ---------------------------------------------------------------------------------------------------
    async def serve_lock(self, sender: Sender, message: Lock) -> Message:
        """Another server's. A creator that has lost the acting avatar is not heard. Raises Refused."""
        if not self._fence.admit(message.origin, message.origin_epoch):
            raise Refused(FENCED, message.origin)

        async def here(owned: Owned) -> Ok:
            return await self._lock(owned, message, (sender.node, sender.generation))

        return await serve_unit(self._table, self._ownership, message.unit, message.to_epoch, here)

    async def serve_decided(self, _: Sender, message: Decided) -> Message:
        """Raises Refused."""

        async def here(owned: Owned) -> Ok:
            return await self._decided(owned, message)

        return await serve_unit(self._table, self._ownership, message.unit, message.to_epoch, here)

    async def _lock(self, owned: Owned, message: Lock, by: tuple[str, int]) -> Ok:
        """Raises Refusal, Fenced, StoreGone."""
        if message.unit == message.origin and owned.unit.epoch != message.origin_epoch:
            raise Refusal(FENCED, message.origin)
        try:
            version = owned.unit.lock(message.tx, message.hold)
        except Refusal as refusal:
            await self._table.committed(owned, refusal.version)
            raise
        self.keepers.keep(owned, message.tx, creator=by)
        self._table.touch(owned)
        await self._table.committed(owned, version)
        return Ok()

    async def _decided(self, owned: Owned, message: Decided) -> Ok:
        """Raises Refusal ``unknown``: only who remembers it can say that it is done; Fenced, StoreGone."""
        keeping = self.keepers.get(owned, message.tx)
        if keeping is not None:
            keeping.tell(message.committed)
            await keeping.settled.wait()
        if owned.gone:
            raise Fenced(owned.key)
        if message.committed and message.tx not in owned.unit.locks.done:
            raise Refusal("unknown", message.tx)
        await self._table.committed(owned, owned.unit.awaited)
        return Ok()
