"""A unit: what is owned, fenced, saved and moved whole. Pure; its owner (a game server) does the I/O.

Theory of operation
-------------------
The unit's own mutators work on the *working copy*. Everything else reads the *committed view*. Between them lies the
version: an integer that counts the unit's writes. At any time there is at most one write in flight::

    committed ----(begin_write)----> in flight ----(landed)----> committed
        ^ what everyone sees             |
        |                          (write_failed: certainly not applied; its content joins the next write)
    working: what later operations change meanwhile; it joins the next write

Every output of an operation, a refusal too, names the version it must wait for: the write that will hold all that the
operation has seen or done. An ambiguous write stays in flight: ``document`` gives the same content again, with a new
write id, until it has landed or the unit is dropped as fenced.

The document (JSON)::

    format, owner, generation, epoch, version, write_id,
    data     {entities: {id: {field: value}}, attach?: [session, connection, gateway], grown?: step,
              given: {item: total}, gained: {item: total}}        only what differs from the seed's natural content
    outbox   {last: n, entries: [[n, to, items, cause, result]]}
    pending  {transaction: [[[entity, out, into]], [[key, value]]]}       what they hold of the unit
    done     {transaction: epoch}                                         those applied
    results  {origin: [session, floor, seen_ms, {slot: [digest, [ok, value, code, detail]]}]}
    received {giver: [floor, [n above it]]}
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from world.entity import COMMIT, WRITE_BEHIND, Act, Container, DurabilityClass, Entity, table_of
from world.ids import avatar_unit, region_unit
from world.limits import FORMAT, REGROW_MS, REGROW_STEPS
from world.message_values import Change, Hold
from world.messages import Actor, Deliver, Json, Key
from world.results import Outcome, Refusal, Results, fingerprint
from world.transaction_document import sums
from world.transaction_locks import Locks
from world.transfer import Entry, Outbox, Received
from world.unit_document import (
    BadDocument,
    Data,
    Head,
    OutboxData,
    UnitDocument,
    compose,
    entities_of,
    freeze,
    natural_entities,
)
from world.unit_size import FULL, Size

__all__ = ["AttachNumber", "BadDocument", "Head", "Pending", "Property", "Unit", "View"]


class Pending(NamedTuple):
    """An output, which may leave once ``version`` is committed."""

    value: Json
    version: int


class Property(NamedTuple):
    """One public property group of one entity, as published: ``body`` is the JSON array of its fields."""

    entity: int
    group: int
    version: int
    body: bytes


class AttachNumber(NamedTuple):
    """Whose connection an avatar serves; ordered by (session, connection)."""

    session: int = 0
    connection: int = 0
    gateway: str = ""


class View(NamedTuple):
    """An entity as everyone may read it: committed values; of a ghost the public ones. ``stale``: a ghost older than
    its bound."""

    entity: int
    epoch: int
    x: float
    y: float
    values: Mapping[str, Any]
    stale: bool = False


class _Write(NamedTuple):
    version: int
    body: bytes  # the document without its head's changeable part
    urgency: DurabilityClass | None
    touched: Mapping[int, Mapping[str, Any]]  # entity -> its values in this write
    outbox_last: int


class Unit:
    """See the module's text. Not thread-safe; nothing here suspends."""

    def __init__(self, key: str, seed: int, entities: Mapping[int, Entity]) -> None:
        self.key = key
        self.seed = seed
        self.cas = 0  # the store's token of the last committed write; 0: not stored yet
        self.epoch = 0
        self.committed = 0  # the newest committed version
        self.entities = entities
        self.outbox = Outbox()
        self.received = Received()
        self.results = Results()
        self.size = Size()
        self.given: dict[str, int] = {}
        self.gained: dict[str, int] = {}
        self.dirty: DurabilityClass | None = None  # urgency of what waits for the next write
        self._attach = AttachNumber()
        self._grown = 0
        self._strays: dict[str, Any] = {}
        self.locks = Locks()
        self._views: dict[int, Mapping[str, Any]] = {i: e.values for i, e in entities.items()}
        self._property_versions: dict[tuple[int, int], int] = {}
        self._base_version = 0
        self._touched: set[int] = set()
        self._write: _Write | None = None

    # -- making ------------------------------------------------------------------------------------------------------
    @staticmethod
    def new_avatar(avatar: int, name: str, x: float, y: float, seed: int = 0) -> "Unit":
        """A newcomer's unit, to be inserted: epoch 1, dirty."""
        entity = table_of(avatar).cls(avatar, x, y, {"name": name})
        return _fresh(Unit(avatar_unit(avatar), seed, {avatar: entity}))

    @staticmethod
    def new_region(x: int, y: int, seed: int) -> "Unit":
        """A region as the seed made it, to be inserted: epoch 1, dirty."""
        return _fresh(Unit(region_unit(x, y), seed, natural_entities(seed, x, y, {})))

    @staticmethod
    def load(key: str, value: bytes, cas: int, seed: int) -> "Unit":
        """From a document of any format, at the epoch it has (see ``take``). Raises BadDocument."""
        document = UnitDocument.parse(value)
        stored = document.data.entities
        unit = Unit(key, seed, entities_of(key, seed, stored))
        unit._strays = {i: v for i, v in stored.items() if int(i) not in unit.entities}
        unit.cas = cas
        unit.size = Size(len(value))
        unit.epoch = document.epoch
        unit.committed = unit._base_version = document.version
        unit.outbox = Outbox(document.outbox.last, {e.n: e for e in document.outbox.entries})
        unit.received = Received(document.received)
        unit.results = Results(document.results)
        unit.given, unit.gained = document.data.given, document.data.gained
        unit._attach = AttachNumber(*document.data.attach)
        unit._grown = document.data.grown
        unit.locks = Locks(document.pending, document.done)
        unit.locks.show(unit.entities)
        return unit

    def take(self, epoch: int | None = None) -> int:
        """Change the owner: the next write (with the token as loaded) claims ``epoch``, by default one higher."""
        assert self._write is None, "a unit is taken before it serves"
        self.epoch = self.epoch + 1 if epoch is None else epoch
        self._mark(COMMIT)
        return self.epoch

    # -- operations --------------------------------------------------------------------------------------------------
    def invoke(self, entity: int, mutator: str, args: Json, key: Key, actor: Actor | None = None) -> Pending:
        """Run a mutator once, whatever repeats. Raises Refusal (with the version it waits for): the rule's codes,
        ``no_such_target``, ``no_such_mutator``, ``busy``, ``unit_full``, ``settled``, ``key_reused``."""
        try:
            return self._invoke(entity, mutator, args, key, actor)
        except Refusal as refusal:
            refusal.version = self.awaited
            raise

    def _invoke(self, entity: int, mutator: str, args: Json, key: Key, actor: Actor | None) -> Pending:
        digest = fingerprint(entity, mutator, args)
        saved = self.results.find(key, digest)
        if saved is not None:
            return self._again(saved)
        real = self.entities.get(entity)
        if real is None:
            raise Refusal("no_such_target", f"{self.key} has no {entity}")
        if mutator not in real.TABLE.mutators:
            raise Refusal("no_such_mutator", f"{real.TABLE.name} has no {mutator}")
        self._reserve(key)
        act = Act(args, key, actor)
        try:
            value = self._run(real, mutator, act)
        except Refusal as refusal:
            if refusal.code not in ("busy", FULL):  # remembered while the unit is held; joins the next write
                self._save(key, digest, Outcome.refused(refusal))
            raise
        self._save(key, digest, Outcome(True, value))
        return Pending(value, self.awaited)

    def _reserve(self, key: Key) -> None:
        """Room for one more result. Raises Refusal ``busy``, ``unit_full``."""
        self.results.reserve(key)
        if self.size.full:
            self._mark(WRITE_BEHIND)  # the next write shows what is settled by now
            raise Refusal(FULL, f"too much is kept of {self.key} already")

    def _save(self, key: Key, digest: str, outcome: Outcome) -> None:
        self.size.add(key.origin, key.mutator, digest, outcome)
        self.results.save(key, digest, outcome)

    def _run(self, real: Entity, mutator: str, act: Act) -> Json:
        before = real.open()
        done = False
        try:
            value = real.TABLE.mutators[mutator](real, act)
            self.outbox.reserve(len(act.gifts))
            if isinstance(real, Container) and not real.keeps_what_is_locked:
                raise Refusal("busy", "some of these items are in a trade that is being committed")
            self.size.reserve(value, real.stored(), *((g.to, g.items, act.cause, g.result) for g in act.gifts))
            done = True
        finally:
            urgency = real.close(before, keep=done)
        if urgency is not None:
            self._touched.add(real.id)
            self._mark(urgency)
        for gift in act.gifts:
            self.outbox.add(gift.to, gift.items, act.cause, gift.result)
            _count(self.given, gift.items)
            self._mark(COMMIT)
        return value

    def _again(self, saved: Outcome) -> Pending:
        if not saved.ok:
            raise Refusal(saved.code, saved.detail)
        return Pending(saved.value, self.awaited)

    def deliver(self, delivery: Deliver) -> int:
        """Apply a transfer once; the version to await before it is acknowledged. Not refused for room
        in an inventory. Raises Refusal ``unit_full``: to be tried again; ``not_a_receiver``: a giver's bug."""
        giver, n = delivery.giver, delivery.n
        if not self.received.applied(giver, n):
            self.size.reserve_delivery(delivery, delivery.items)
            self._receive(delivery.items)
            self.received.add(giver, n)
            _count(self.gained, delivery.items)
            if delivery.cause is not None:
                self.results.save(delivery.cause, delivery.cause.digest, Outcome(True, delivery.result))
            self._mark(COMMIT)
        self.received.raise_floor(giver, delivery.floor)
        return self.awaited

    def _receive(self, items: Mapping[str, int]) -> None:
        receiver = next(iter(self.entities), None)
        if receiver is None:
            raise Refusal("not_a_receiver", self.key)
        self._change(receiver, lambda real: real.receive(items))

    def _change(self, entity: int, change: Callable[[Entity], None]) -> None:
        """All of it or nothing, as the world's own doing. Raises what ``change`` raises."""
        real = self.entities[entity]
        before = real.open()
        done = False
        try:
            change(real)
            done = True
        finally:
            real.close(before, keep=done)
        self._touched.add(entity)

    def outbox_entries(self) -> list[Entry]:
        """Committed transfers to deliver (again), oldest first; ``floor`` travels with each."""
        return self.outbox.deliverable()

    @property
    def floor(self) -> int:
        return self.outbox.floor

    def delivered(self, n: int) -> None:
        """The receiver acknowledged entry ``n``."""
        if self.outbox.delivered(n):
            self._mark(WRITE_BEHIND)

    # -- transactions ------------------------------------------------------------------------------------------------
    def lock(self, tx: str, hold: Hold) -> int:
        """Lock what goes out and reserve room for what comes in, also if repeated; the version to await. Raises Refusal
        (with the version it waits for) as ``Locks.check``, ``unit_full``."""
        try:
            if tx not in self.locks.pending:
                self.locks.check(tx, hold, self.entities)
                for key, _ in hold.saves:
                    self.results.reserve(key)
                self.size.reserve(tx, hold, hold, hold)  # held, then applied: stock, totals, results
                self.locks.add(tx, hold, self.entities)
                self._mark(COMMIT)
        except Refusal as refusal:
            refusal.version = self.awaited
            raise
        return self.awaited

    def apply(self, tx: str) -> int:
        """The transaction is committed: do its part here, if it is held; the version to await."""
        hold = self.locks.pending.get(tx)
        if hold is not None:
            for change in hold.changes:
                self._change(change.entity, partial(_exchange, change=change))
            _count(self.given, sums(hold.changes, incoming=False))
            _count(self.gained, sums(hold.changes, incoming=True))
            for key, value in hold.saves:
                self.results.save(key, key.digest if not key.mutator else "", Outcome(True, value))
            self.locks.finish(tx, self.entities, done_at=self.epoch)
            self._mark(COMMIT)
        return self.awaited

    def unlock(self, tx: str) -> int:
        """The transaction is aborted: as if it had never been; the version to await."""
        if tx in self.locks.pending:
            self.locks.finish(tx, self.entities, done_at=None)
            self._mark(COMMIT)
        return self.awaited

    def record_result(self, key: Key, outcome: Outcome, *, durable: bool = True) -> int:
        """Save how a command ended; the version to await. Not durable: kept in memory and in whatever is written
        next. Raises Refusal ``busy``, ``unit_full``."""
        self._reserve(key)
        self._save(key, key.digest, outcome)
        if durable:
            self._mark(COMMIT)
        return self.awaited

    def result(self, key: Key) -> tuple[Outcome, int] | None:
        """How a command ended and the version to await; None: it is new or still under way.
        Raises Refusal ``settled``, ``key_reused``."""
        outcome = self.results.find(key, key.digest)
        return None if outcome is None else (outcome, self.awaited)

    @property
    def attach_number(self) -> AttachNumber:
        return self._attach

    @attach_number.setter
    def attach_number(self, number: AttachNumber) -> None:
        """A newer session settles all commands of older ones."""
        self._attach = number
        self.results.settle(self.key, number.session, 0)
        self._mark(COMMIT)

    def place(self, entity: int, x: float, y: float) -> None:
        """Where a moving entity stands: volatile, in the document as of its last write."""
        real = self.entities[entity]
        real.x, real.y = x, y

    def save(self, urgency: DurabilityClass = COMMIT) -> None:
        """Ask for a write though nothing durable changed (an avatar leaves: its position)."""
        self._mark(urgency)

    def elapse(self, world_ms: int) -> None:
        """World time passes (once a minute or so): nodes grow back, silent origins are forgotten."""
        step = world_ms // REGROW_MS
        steps = min(step - self._grown, REGROW_STEPS) if self._grown and step >= self._grown else 0
        self._grown = step
        for real in self.entities.values() if steps else ():
            before = real.open()
            real.elapse(steps)
            if real.close(before, keep=True) is not None:
                self._touched.add(real.id)
                self._mark(WRITE_BEHIND)
        if self.results.expire(world_ms, keep=self.key):
            self._mark(WRITE_BEHIND)

    # -- reading -----------------------------------------------------------------------------------------------------
    def view(self, entity: int) -> View:
        """Committed COMMIT fields, current others. Raises KeyError."""
        real = self.entities[entity]
        committed = self._views[entity]
        if committed is not real.values:
            fields = real.TABLE.fields
            committed = {n: committed[n] if f.durability is COMMIT else real.values[n] for n, f in fields.items()}
        return View(entity, self.epoch, real.x, real.y, MappingProxyType(committed))

    def properties(self) -> Iterator[Property]:
        """Every public property group, committed: what a new owner publishes."""
        for entity, real in self.entities.items():
            for group in real.TABLE.groups:
                version = self._property_versions.get((entity, group), self._base_version)
                yield Property(entity, group, version, real.TABLE.encode_group(group, self._views[entity]))

    @property
    def may_sleep(self) -> bool:
        """Nothing is under way: no write, nothing unsaved, no transfer, no trade."""
        return self.dirty is None and self._write is None and not self.has_intents

    @property
    def has_intents(self) -> bool:
        """Something of it is under way to or with other units: whoever has it drives that on."""
        return bool(self.outbox.entries or self.locks.pending)

    @property
    def awaited(self) -> int:
        """The version that will hold every COMMIT-class change made so far."""
        if self.dirty is COMMIT:
            return self.committed + (2 if self._write is not None else 1)
        if self._write is not None and self._write.urgency is COMMIT:
            return self._write.version
        return self.committed

    # -- writing -----------------------------------------------------------------------------------------------------
    @property
    def writing(self) -> int | None:
        """The version in flight."""
        return None if self._write is None else self._write.version

    @property
    def write_urgency(self) -> DurabilityClass | None:
        """The most urgent class of what the write in flight holds; None: of nothing but what is volatile."""
        return None if self._write is None else self._write.urgency

    def begin_write(self) -> int:
        """Freeze all of the working copy as the next version; one at a time."""
        assert self._write is None, "one write in flight"
        version = self.committed + 1
        touched = {i: self.entities[i].values for i in self._touched}
        body = self._freeze()
        self.size.frozen(len(body))
        self._write = _Write(version, body, self.dirty, touched, self.outbox.last)
        self.dirty = None
        self._touched = set()
        return version

    def document(self, owner: str, generation: int, write_id: str, at: int = FORMAT) -> bytes:
        """The write in flight as a document of format ``at``; the same content however often asked. ``owner`` "":
        released."""
        assert self._write is not None, "begin_write first"
        head = Head(at, owner, generation, self.epoch, self._write.version, write_id)
        return compose(head, self._write.body)

    def handed(self, owner: str, generation: int, at: int = FORMAT) -> bytes:
        """The committed unit as a document of format ``at``, with the results that are kept in memory only: what a
        hand-off sends."""
        assert self._write is None, f"{self.key} has a write in flight"
        assert self.dirty is None, f"{self.key} has changes to write"
        return compose(Head(at, owner, generation, self.epoch, self.committed, ""), self._freeze())

    def landed(self, version: int, cas: int) -> list[Property]:
        """The write is committed under the store's token ``cas``: the public properties it changed."""
        write, self._write = self._write, None
        assert write is not None, "no write in flight"
        assert write.version == version, f"{version} landed, {write.version} was in flight"
        self.committed, self.cas = version, cas
        self.outbox.landed = write.outbox_last
        return [p for entity, values in write.touched.items() for p in self._show(entity, values, version)]

    def _show(self, entity: int, values: Mapping[str, Any], version: int) -> Iterator[Property]:
        before, self._views[entity] = self._views[entity], values
        kind = self.entities[entity].TABLE
        for group, names in kind.groups.items():
            if any(before[name] != values[name] for name in names):
                self._property_versions[entity, group] = version
                yield Property(entity, group, version, kind.encode_group(group, values))

    def write_failed(self) -> None:
        """The write was *certainly* not applied: its content joins the next one."""
        write, self._write = self._write, None
        assert write is not None, "no write in flight"
        self._touched |= set(write.touched)
        if write.urgency is not None:
            self._mark(write.urgency)

    def _mark(self, urgency: DurabilityClass) -> None:
        if urgency:  # VOLATILE changes need no write of their own
            self.dirty = urgency if self.dirty is None else max(self.dirty, urgency)

    def _freeze(self) -> bytes:
        stored = {str(i): s for i, e in self.entities.items() if (s := e.stored())}
        data = Data({**stored, **self._strays}, (*self._attach,), self._grown, self.given, self.gained)
        outbox = OutboxData(self.outbox.last, list(self.outbox.entries.values()))
        return freeze(data, outbox, self.locks, self.results.rows, self.received.rows())


def _fresh(unit: Unit) -> Unit:
    unit.take(1)
    return unit


def _exchange(real: Entity, change: Change) -> None:
    assert isinstance(real, Container), f"{real.TABLE.name} was locked, and holds nothing"
    real.exchange(change.out, change.into)


def _count(totals: dict[str, int], items: Mapping[str, int]) -> None:
    for name, count in items.items():
        totals[name] = totals.get(name, 0) + count
