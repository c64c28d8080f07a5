"""A game server: its parts, wired. Life of one::

    claim a generation by CAS ──> build ──> ready ──> … ──> stop: take nothing more, save and release all units,
    (before: reach the store)                              last motion document, ``srv:`` marked dead, lists cleaned

What depends on what: the table of units (persistence) ← ownership (takes, locations) ← routing (reach an owner) ←
invocations, transfers ← commands, attach. ``GameServer`` itself only passes on what happens to units.
"""

import asyncio
from collections import defaultdict

from gameserver.attach import Attaching
from gameserver.balance import Balancing
from gameserver.commands import Commands
from gameserver.death import DeathWatch, SelfDead, StoreLost
from gameserver.documents import Documents, sleep_ms
from gameserver.drain import Draining
from gameserver.handing import Handing
from gameserver.interest import REGION_PREFIX, Interests
from gameserver.invoking import Invoking, Routing
from gameserver.motion_document import MotionLog
from gameserver.observe import Observer, measure
from gameserver.owned_lists import OwnedLists
from gameserver.ownership import Contended, NoSuchUnit, Ownership
from gameserver.presence import Presences
from gameserver.receiving import Receiving
from gameserver.records import Claim, OwnerHead
from gameserver.rule_runtime import RuleRuntime
from gameserver.state import StateSide
from gameserver.sweep import Sweeper
from gameserver.trading import Trading
from gameserver.trading_sweep import IntentSweep
from gameserver.trading_talks import Talks
from gameserver.transfers import Transfers
from gameserver.units import Owned, StoreGone, UnitTable
from runtime.drain import drainable
from runtime.mesh.api import Mesh, Sender
from runtime.notes import Notes
from runtime.service import Service
from runtime.store.api import Ambiguous, Document, Unavailable
from world import frames, terrain
from world.fence import EpochFence
from world.grid import REGIONS
from world.ids import NodeId, avatar_unit
from world.limits import HANDOFF_STOP_MS, HEARTBEAT_MS, RELEASES_IN_FLIGHT, STOP_SAVE_MS, STORE_CALL_MS
from world.messages import (
    AskObserve,
    Attach,
    BargainTold,
    ClientCommand,
    Decided,
    Deliver,
    Detach,
    DoBargain,
    EndSession,
    EventsMissed,
    EventsSeen,
    GiveAway,
    HandOff,
    HandOffAhead,
    Interest,
    Invoke,
    Lock,
    MoveBatch,
    Reaped,
)
from world.unit import Property, Unit


class GameServer:
    """Made by ``gameserver.app.build``; its loops are spawned by ``run``."""

    def __init__(self, service: Service, mesh: Mesh, documents: Documents, claim: Claim) -> None:
        self.service = service
        self.mesh = mesh
        self.generation = claim.generation
        self._log = service.log
        self._clock = service.clock
        self._seed = service.settings.world_seed
        self.documents = documents
        cap = service.settings.avatars_per_server
        ground = terrain.terrain(self._seed)
        self.notes = Notes(mesh, service.clock)
        self.watch = DeathWatch(service, documents, mesh, claim, self.notes, self._died)
        self.lists = OwnedLists(service, documents, claim.generation)
        self.table = UnitTable(
            service, documents, claim.generation, self._landed, self._dropped, self._fenced, self._too_large
        )
        self.state = StateSide(service, mesh, ground.walkable, self._owner_hint)
        self.motion = MotionLog(service, documents, claim.generation, self.state.motion_rows)
        self.presences = Presences(service, mesh, self.watch.may_speak)
        self.attaching = Attaching(service, mesh, self.table, self.presences, self.state, self.motion, ground, cap)
        self.ownership = Ownership(
            service,
            documents,
            self.watch,
            self.lists,
            self.table,
            load=self._load,
            create=self._create,
            restore=self._restore,
            on_taken=self._taken,
            on_adopted=self._adopted,
        )
        routing = Routing(service, mesh, self.table, self.ownership)
        fence = EpochFence()
        self.invoking = Invoking(self.table, self.ownership, routing, fence)
        self.transfers = Transfers(service, self.table, self.ownership, routing, fence)
        runtime = RuleRuntime(self.table, self.state, self.invoking)
        self.trading = Trading(service, documents, self.table, self.ownership, routing, fence, self.watch)
        self.talks = Talks(
            service, self.table, self.ownership, routing, fence, self.presences, self.trading, runtime.actor
        )
        runtime.connect(self.trading, self.talks)
        self.intents = IntentSweep(service, mesh, documents, self.watch, self.trading)
        self.interests = Interests(service, mesh, self.table, self.ownership, self.presences, self.state)
        self.attaching.connect(self.ownership, self.interests.look)
        self.attaching.on_attached = self.talks.attached
        self._wire_hand_off(cap)
        self.commands = Commands(
            service,
            self.table,
            self.presences,
            self.ownership,
            runtime,
            self.interests.awake,
            documents.failing_ms,
            self.watch.may_speak,
            self.trading.settled,
        )
        self.sweeper = Sweeper(service, documents, self.watch, self.ownership, self._load, self._restore)
        self.observer = Observer(mesh, self.table, self.presences, self.state, lambda: self.watch.renewals, cap)
        self._measure()

    def _wire_hand_off(self, cap: int) -> None:
        self.handing = Handing(
            self.service,
            self.mesh,
            self.documents,
            self.table,
            self.ownership,
            self.lists,
            self.presences,
            self.attaching,
            self.state,
            self.notes,
            self.watch.may_speak,
            self.talks.carry,
        )
        self.draining = Draining(self.service, self.table, self.ownership, self.presences, self.state, self.handing)
        self.balancing = Balancing(self.service, self.mesh, self.table, self.presences, self.state, self.handing)
        self.receiving = Receiving(
            self.service,
            self.mesh,
            self.documents,
            self.table,
            self.ownership,
            self.lists,
            self.presences,
            self.state,
            self.interests,
            self._load,
            self.watch.may_speak,
            cap,
            self.talks.arrive,
        )

    # -- life --------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Serve and spawn the loops; everything ends with the service."""
        serve, spawn = self.mesh.serve, self.service.spawn
        serve(Attach, self.attaching.attach)
        serve(Detach, self.attaching.detach)
        serve(EndSession, self.attaching.end_session)
        serve(MoveBatch, self._moves)
        serve(ClientCommand, self.commands.serve)
        serve(EventsSeen, self.presences.seen)
        serve(EventsMissed, self.presences.missed)
        serve(Interest, self.interests.serve)
        serve(Invoke, self.invoking.serve)
        serve(Deliver, self.transfers.serve)
        serve(HandOffAhead, self.receiving.ahead)
        serve(Lock, self.trading.serve_lock)
        serve(Decided, self.trading.serve_decided)
        serve(DoBargain, self.talks.serve_deed)
        serve(BargainTold, self.talks.serve_told)
        serve(HandOff, self.receiving.serve)
        serve(GiveAway, self.handing.serve)
        serve(AskObserve, self.observer.observe)
        serve(Reaped, self.watch.reaped)
        for loop in (
            self.watch.watch,
            self.documents.follow_format,
            self.lists.keep_clean,
            self.table.write_behind,
            self.motion.keep,
            self.attaching.linger,
            self.interests.keep,
            self.interests.sleep,
            self.interests.elapse,
            self.sweeper.keep,
            self.trading.keepers.tidy,
            self.intents.keep,
            self.talks.keep,
            self._tell_load,
        ):
            spawn(loop(), loop.__qualname__, loop=True)
        if self.service.settings.balance == "on":
            spawn(self.balancing.keep(), "balance", loop=True)
        drainable(self.service, self.mesh, self.notes, self.draining.give_away)
        self.service.on_stop(self.stop)

    async def _tell_load(self) -> None:
        while True:
            self.observer.tell_load()
            await sleep_ms(HEARTBEAT_MS)

    async def stop(self) -> None:
        """Save and release everything, bounded; what could not be is left to the sweep of others."""
        if isinstance(self.service.failure, SelfDead | StoreLost):
            return  # nothing here is mine any more, or can be saved
        self.mesh.update_me(status="draining")
        try:
            async with asyncio.timeout(HANDOFF_STOP_MS / 1_000):
                await self.handing.quiet()
                await self.receiving.quiet()
        except TimeoutError:
            self._log.warning("stopping in the middle of hand-offs")
        for presence in self.presences:
            self.attaching.settle(presence)
            presence.owned.unit.save()
        try:
            async with asyncio.timeout(STOP_SAVE_MS / 1_000):
                await self._save_all()
        except (TimeoutError, Unavailable, Ambiguous, SelfDead) as problem:
            self._log.warning("not all was saved", reason=repr(problem), units=len(self.table))

    async def _save_all(self) -> None:
        slots = asyncio.Semaphore(RELEASES_IN_FLIGHT)

        async def release(owned: Owned) -> bool:
            async with slots:
                return await self.ownership.release(owned)

        released = await asyncio.gather(*(release(owned) for owned in self.table))
        if not all(released):
            await self.motion.write(STORE_CALL_MS)
        await self.lists.clean()
        await self.watch.retire(STORE_CALL_MS)
        self._log.info("saved", units=len(released), kept=released.count(False))

    # -- what happens to units ---------------------------------------------------------------------------------------
    def _load(self, key: str, document: Document) -> Unit:
        return Unit.load(key, document.value, document.cas, self._seed)

    def _create(self, key: str, newcomer: str) -> Unit:
        """What has no document yet. Raises NoSuchUnit."""
        if not key.startswith(REGION_PREFIX):
            return self.attaching.create(key, newcomer)
        x, y = (int(part) for part in key.removeprefix(REGION_PREFIX).split(","))
        if not (0 <= x < REGIONS and 0 <= y < REGIONS):
            raise NoSuchUnit(key)
        return Unit.new_region(x, y, self._seed)

    async def _restore(self, unit: Unit, head: OwnerHead) -> int:
        return 0 if unit.key.startswith(REGION_PREFIX) else await self.attaching.restore(unit, head)

    def _taken(self, owned: Owned) -> None:
        """Mine: a region's contents are shown at once, an avatar when somebody attaches."""
        unit = owned.unit
        unit.elapse(self._clock.world_ms())
        self.table.touch(owned)
        if owned.key.startswith(REGION_PREFIX):
            properties: defaultdict[int, list[tuple[int, int, bytes]]] = defaultdict(list)
            for p in unit.properties():
                properties[p.entity].append((p.group, p.version, p.body))
            for entity, real in unit.entities.items():
                self.state.add(entity, unit.epoch, real.x, real.y, moves=False, properties=properties[entity])
        self.transfers.drive(owned)
        self.trading.keepers.drive(owned)

    def _landed(self, owned: Owned, changes: list[Property]) -> None:
        """A commit: now everyone may see it."""
        for p in changes:
            self.state.set_properties(p.entity, p.group, p.version, p.body)
        if not owned.key.startswith(REGION_PREFIX):
            for avatar in owned.unit.entities:
                self.presences.tell_inventory(owned, avatar)
        self.commands.landed(owned)
        self.transfers.drive(owned)

    def _dropped(self, owned: Owned) -> None:
        """Released, fenced or handed off: nothing of it is shown or sent from here any more."""
        to = self.handing.to(owned)
        if to is not None:
            self.handing.handed(owned, to)
        if owned.key.startswith(REGION_PREFIX):
            for entity in owned.unit.entities:
                self.state.remove(entity)
        else:
            self.talks.dropped(owned, handed=to is not None)
            for avatar in owned.unit.entities:
                self.attaching.dropped(owned, avatar)
        self.commands.landed(owned)
        self.ownership.dropped(owned)

    def _fenced(self, owned: Owned) -> None:
        self.notes.note("fenced", unit=owned.key, node=self.service.node_id, epoch=owned.unit.epoch)

    def _too_large(self, owned: Owned) -> None:
        """Dropped for it: taken anew at once, as its document has it, for whoever needs it and what is under way."""
        self.notes.note("too_large", unit=owned.key, node=self.service.node_id, epoch=owned.unit.epoch)
        if not self.service.stopping.is_set():
            self.service.spawn(self._take_anew(owned.key), f"take {owned.key} anew")

    async def _take_anew(self, unit: str) -> None:
        try:
            await self.ownership.take(unit)
        except (StoreGone, NoSuchUnit, Contended) as problem:
            self._log.warning("not taken anew", unit=unit, reason=problem.code)

    def _adopted(self, unit: Unit, last: OwnerHead) -> None:
        """Taken; from a dead owner, where there was one."""
        if last.owner and last.owner != self.service.node_id:
            detail = {"unit": unit.key, "from": last.owner, "to": self.service.node_id, "epoch": unit.epoch}
            self.notes.note("adoption", **detail)

    # -- small things ------------------------------------------------------------------------------------------------
    def _died(self, server: NodeId, generation: int) -> None:
        """Gateways pull avatars, who sees a region pulls it, the sweeper comes later for the rest."""
        self._log.warning("server is dead", server=server, generation=generation)
        self.interests.look()

    def _moves(self, sender: Sender, message: MoveBatch) -> None:
        try:
            self.state.moves(sender.node, message.rows)
        except frames.BadFrame as error:
            self._log.warning("bad moves", sender=sender.node, reason=str(error))

    def _owner_hint(self, avatar: int) -> tuple[str, int, int] | None:
        location = self.ownership.hint(avatar_unit(avatar))
        return None if location is None else (location.server, location.generation, location.epoch)

    def _measure(self) -> None:
        table, transfers, documents, trading = self.table, self.transfers, self.documents, self.trading
        measure(
            self.service.metrics,
            {
                "units_owned": ("Units this server owns", lambda: len(table)),
                "avatars_present": ("Avatars in the world here", lambda: len(self.presences)),
                "unit_writes": ("Unit writes that landed", lambda: table.writes),
                "unit_fenced": ("Units lost to another owner", lambda: table.fenced),
                "unit_too_large": ("Units read anew, too large for the store", lambda: table.too_large),
                "units_full": ("Units that take nothing more", lambda: sum(o.unit.size.full for o in table)),
                "unit_takes": ("Units taken", lambda: self.ownership.takes),
                "store_ambiguous": ("Writes whose answer left their fate open", lambda: documents.ambiguous),
                "store_retries": ("Store calls tried again", lambda: documents.retries),
                "store_failing_ms": ("How long the store has not answered", documents.failing_ms),
                "outbox_depth": ("Transfers not yet acknowledged", lambda: transfers.depth),
                "transfers_delivered": ("Transfers acknowledged", lambda: transfers.delivered),
                "transfers_put_off": ("Deliveries to be tried again", lambda: transfers.failed),
                "handoffs_given": ("Units handed to other servers", lambda: self.handing.given),
                "handoffs_taken": ("Units handed over by other servers", lambda: self.receiving.taken),
                "handoffs_aborted": ("Hand-offs after which the unit stayed", lambda: self.handing.aborted),
                "handoffs_reclaimed": ("Of these, ended by a write", lambda: self.handing.reclaimed),
                "handoffs_refused": ("Offers of others not taken", lambda: self.receiving.refused),
                "handoffs_for_balance": ("Units moved to where they belong", lambda: self.balancing.moved),
                "trades_open": ("Avatars of this server in trades that are not over", lambda: self.talks.open),
                "transactions_committed": ("Transactions created here and committed", lambda: trading.committed),
                "transactions_aborted": ("Transactions created here and aborted", lambda: trading.aborted),
                "holds": ("Transactions that hold something of a unit here", lambda: len(trading.keepers)),
                "intents_rescued": ("Intents aborted in their creator's stead", lambda: trading.keepers.rescued),
                "units_swept": ("Units of dead servers settled here", lambda: self.sweeper.settled),
            },
        )
