"""A small world of units under every kind of interleaving: the model that the unit's tests drive and ablate.

One region, two avatars, a store with compare-and-swap, a client per avatar, and everything that may go wrong: writes
that fail, that are ambiguous, that land late; owners that die, or live on as zombies; messages sent again at any time.
``step`` does one thing chosen by numbers, so that a random generator and hypothesis can both drive it.
"""

from collections import defaultdict
from typing import NamedTuple

from world.audit import audit
from world.ids import avatar_unit, entity_id, region_unit
from world.limits import REGION_M
from world.messages import Actor, Deliver, Key
from world.results import Refusal, call_key, command_key
from world.terrain import spawn
from world.unit import AttachNumber, Head, Unit

SEED = 1
REGION = region_unit(*(int(v) // REGION_M for v in spawn(SEED)))
VERBS = {"tree": "chop", "rock": "mine", "bush": "pick"}


class Sent(NamedTuple):
    """An invocation as it travels, perhaps many times."""

    entity: int
    mutator: str
    key: Key
    actor: Actor


class Copy:
    """An owner's copy of a unit, and its write in flight: (write id, bytes)."""

    def __init__(self, unit: Unit, name: str) -> None:
        self.unit = unit
        self.name = name
        self.flight: tuple[str, bytes] | None = None
        self.gone = False


class Client:
    def __init__(self, avatar: int) -> None:
        self.avatar = avatar
        self.session = 1
        self.number = 0
        self.seen: set[int] = set()

    @property
    def floor(self) -> int:
        n = 0
        while n + 1 in self.seen:
            n += 1
        return n


class UnitWorld:
    def __init__(self, *, cas: bool = True) -> None:
        self.cas = cas
        self.store: dict[str, tuple[bytes, int]] = {}
        self.token = 0
        self.names = 0
        self.world_ms = 0
        self.clients = [Client(entity_id(1, n)) for n in (1, 2)]
        self.owners: dict[str, Copy] = {}
        self.zombies: list[Copy] = []
        self.invocations: list[Sent] = []
        self.deliveries: list[Deliver] = []
        self.receipts: list[tuple[Copy, int, str, int]] = []  # receiver, version, giver, n
        self.outputs: list[tuple[Copy, int, tuple[str, int, int]]] = []  # who, version, command
        self.acknowledged: set[tuple[str, int, int]] = set()
        self.committed: dict[tuple[str, int, int], set[int]] = defaultdict(set)  # command -> its transfers' n
        x, y = (int(v) for v in REGION.removeprefix("region:").split(","))
        self._create(Unit.new_region(x, y, SEED))
        for client in self.clients:
            self._create(Unit.new_avatar(client.avatar, "Someone", 1.0, 1.0))
        nodes = list(self.owners[REGION].unit.entities.values())
        self.nodes = [next(n for n in nodes if n.TABLE.name == kind) for kind in VERBS]
        self.steps = (
            self.gather, self.resend, self.begin, self.finish, self.send, self.receive, self.receipt, self.look,
            self.crash, self.new_session, self.begin, self.finish, self.send, self.receive, self.elapse,
        )  # fmt: skip

    def _create(self, unit: Unit) -> None:
        copy = Copy(unit, "first")
        self.owners[unit.key] = copy
        self.begin_write(copy)
        self.finish_write(copy, 0)

    def step(self, what: int, a: int, b: int) -> None:
        self.steps[what % len(self.steps)](a, b)
        self._output()

    # -- what may happen ---------------------------------------------------------------------------------------------
    def gather(self, a: int, b: int) -> None:
        client, node = self.clients[a % 2], self.nodes[b % 3]
        client.number += 1
        command = command_key(avatar_unit(client.avatar), client.session, client.number, client.floor)
        verb = VERBS[node.TABLE.name]
        actor = Actor(client.avatar, 1, "Someone", node.x, node.y, 4.0)
        self.invocations.append(Sent(node.id, verb, call_key(command, REGION, verb, 0), actor))
        self._invoke(self.owners[REGION], self.invocations[-1])

    def resend(self, a: int, b: int) -> None:
        holders = [self.owners[REGION], *(z for z in self.zombies if z.unit.key == REGION)]
        if self.invocations:
            self._invoke(holders[b % len(holders)], self.invocations[a % len(self.invocations)])

    def _invoke(self, copy: Copy, sent: Sent) -> None:
        command = (sent.key.origin, sent.key.session, sent.key.number)
        try:
            pending = copy.unit.invoke(sent.entity, sent.mutator, {}, sent.key, sent.actor)
        except Refusal:
            return
        self.outputs.append((copy, pending.version, command))

    def begin(self, a: int, b: int) -> None:
        self.begin_write(self._copy(a))

    def begin_write(self, copy: Copy) -> None:
        if copy.flight is None and not copy.gone and copy.unit.dirty is not None:
            copy.unit.begin_write()
            self._attempt(copy)

    def _attempt(self, copy: Copy) -> None:
        self.names += 1
        write_id = f"w{self.names}"
        copy.flight = (write_id, copy.unit.document(copy.name, 1, write_id))

    def finish(self, a: int, b: int) -> None:
        self.finish_write(self._copy(a), b)

    def finish_write(self, copy: Copy, fate: int) -> None:
        """fate % 5: 0, 1 answered, 2 certainly not applied, 3 ambiguous and applied, 4 ambiguous and not applied."""
        if copy.flight is None:
            return
        if fate % 5 == 2:
            copy.flight = None
            copy.unit.write_failed()
        elif fate % 5 == 4:
            self._attempt(copy)  # read back: neither there nor overtaken; the same content once more
        else:
            self._land(copy)

    def _land(self, copy: Copy) -> None:
        assert copy.flight is not None
        (_, value), copy.flight = copy.flight, None
        stored = self.store.get(copy.unit.key, (b"", 0))
        if self.cas and stored[1] != copy.unit.cas:
            copy.gone = True  # fenced: what it knows is void
            return
        self.token += 1
        self.store[copy.unit.key] = (value, self.token)
        version = copy.unit.writing
        assert version == Head.parse(value).version
        copy.unit.landed(version, self.token)
        for entry in copy.unit.outbox_entries():
            assert entry.cause is not None
            self.committed[entry.cause.origin, entry.cause.session, entry.cause.number].add(entry.n)

    def send(self, a: int, b: int) -> None:
        entries = self.owners[REGION].unit.outbox_entries()
        if entries:
            self.deliveries.append(self.delivery(self.owners[REGION].unit, b % len(entries)))

    @staticmethod
    def delivery(unit: Unit, index: int) -> Deliver:
        e = unit.outbox_entries()[index]
        return Deliver(unit.key, unit.epoch, e.n, unit.floor, e.to, 0, e.items, e.cause, e.result)

    def receive(self, a: int, b: int) -> None:
        if self.deliveries:
            self._receive(self.deliveries[-1 - a % min(len(self.deliveries), 12)])

    def _receive(self, delivery: Deliver) -> None:
        receiver = self.owners[delivery.unit]
        self.receipts.append((receiver, receiver.unit.deliver(delivery), delivery.giver, delivery.n))

    def receipt(self, a: int, b: int) -> None:
        """Committed receipts reach the giver."""
        for row in list(self.receipts):
            receiver, version, giver, n = row
            if receiver.unit.committed >= version and not receiver.gone:
                self.owners[giver].unit.delivered(n)
            if receiver.gone or receiver.unit.committed >= version:
                self.receipts.remove(row)

    def look(self, a: int, b: int) -> None:
        """The player hears how a command ended, once that is committed."""
        client = self.clients[a % 2]
        copy = self.owners[avatar_unit(client.avatar)]
        number = max(client.number - b % 4, 1)
        try:
            found = copy.unit.result(command_key(copy.unit.key, client.session, number))
        except Refusal:
            return
        if found is not None and found[1] <= copy.unit.committed:
            client.seen.add(number)
            self.acknowledged.add((copy.unit.key, client.session, number))

    def crash(self, a: int, b: int) -> None:
        """The owner is declared dead and another takes the unit; the old one may not know it."""
        old = self.owners[list(self.owners)[a % len(self.owners)]]
        if b % 2 and len(self.zombies) < 4:
            self.zombies.append(old)
        else:
            old.gone = True
        value, cas = self.store[old.unit.key]
        self.names += 1
        copy = self.owners[old.unit.key] = Copy(Unit.load(old.unit.key, value, cas, SEED), f"taker{self.names}")
        copy.unit.take()
        self.begin_write(copy)
        self._land(copy)

    def new_session(self, a: int, b: int) -> None:
        client = self.clients[a % 2]
        client.session, client.number, client.seen = client.session + 1, 0, set()
        self.owners[avatar_unit(client.avatar)].unit.attach_number = AttachNumber(client.session, 1, "gw1")

    def elapse(self, a: int, b: int) -> None:
        self.world_ms += 20_000
        self.owners[REGION].unit.elapse(self.world_ms)

    def _copy(self, a: int) -> Copy:
        copies = [*self.owners.values(), *(z for z in self.zombies if not z.gone)]
        return copies[a % len(copies)]

    def _output(self) -> None:
        """Answers whose version is committed leave: their effect has to be durable now."""
        waiting, self.outputs = self.outputs, []
        for copy, version, command in waiting:
            if copy.gone:
                continue
            if copy.unit.committed < version:
                self.outputs.append((copy, version, command))
            else:
                self.acknowledged.add(command)
                assert self.committed[command], f"{command} was acknowledged before it was durable"

    # -- judging -----------------------------------------------------------------------------------------------------
    def check(self) -> None:
        """At any time. AssertionError with what is wrong."""
        problems = audit({key: value for key, (value, _) in self.store.items()})
        assert not problems, problems
        for command, transfers in self.committed.items():
            assert len(transfers) <= 1, f"{command} was applied {len(transfers)} times: {transfers}"

    def settle(self) -> None:
        """No more faults: all is written and delivered. Then nothing is under way and all that was acknowledged is
        there. AssertionError."""
        self._flush()
        region = self.owners[REGION].unit
        for index in range(len(region.outbox_entries())):
            self._receive(self.delivery(region, index))
        self._flush()
        self.receipt(0, 0)
        self._flush()
        self.check()
        assert not region.outbox.entries, "transfers are stuck"
        held = sum(sum(self._items(c).values()) for c in self.clients)
        applied = sum(len(transfers) for transfers in self.committed.values())
        assert held == applied, f"{held} items held, {applied} given"
        for command in self.acknowledged:
            assert self.committed[command], f"{command} was acknowledged and is lost"

    def _items(self, client: Client) -> dict[str, int]:
        return dict(self.owners[avatar_unit(client.avatar)].unit.view(client.avatar).values["items"])

    def _flush(self) -> None:
        for copy in self.owners.values():
            while copy.unit.dirty is not None or copy.flight is not None:
                self.begin_write(copy)
                self.finish_write(copy, 0)
