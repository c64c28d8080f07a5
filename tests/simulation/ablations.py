"""Safeguards taken out one by one, by patching the real code: the simulation must notice each.

``FOUND_WITHIN`` says in which seeds; a test holds the simulation to it.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import msgspec

from gameserver.documents import NOT_THERE, Documents
from gameserver.handing import Handing
from gameserver.trading import Run, Trading
from gameserver.units import Owned, UnitTable
from gateway.session import Effects, Session
from runtime.mesh.envelope import Envelope
from runtime.mesh.wire import Wire
from runtime.store.api import Document
from runtime.store.memory import Table
from world import frames
from world.channels.receiver import CellReceiver
from world.fence import EpochFence
from world.message_values import Hold
from world.messages import Decided, Events, Key, Lock, Message, Ok
from world.results import Origin, Outcome, Results
from world.trade import Event
from world.transaction_document import KIND
from world.transfer import Entry, Outbox
from world.unit import Unit

Patches = list[tuple[Any, str, Any]]  # object, attribute, what stands there instead


def digest() -> Patches:
    """Digests still tell that their publisher lives, but name no cell."""
    read = frames.read_digest

    def empty(body: bytes) -> frames.Digest:
        return read(body)._replace(full=False, rows=read(body).rows[:0])

    return [(frames, "read_digest", empty)]


def cas() -> Patches:
    """A replace overwrites whatever is there."""

    def match(self: Table, key: str, cas: int) -> None:
        self.get(key)

    return [(Table, "_match", match)]


def read_back() -> Patches:
    """After an ambiguous answer whatever is in the store is taken for the own write."""

    async def trust(self: Documents, key: str, cas: int, write_id: str, deadline: float) -> int | None:
        found: Document | None = await self.read(key, give_up_ms=5_000)
        return found.cas if found is not None else NOT_THERE

    return [(Documents, "_read_back", trust)]


def operation_keys() -> Patches:
    """Keys made anew at each arrival, not at the origin: a retry is another operation."""
    invoke, numbers = Unit.invoke, itertools.count(1 << 20)

    def renamed(self: Unit, entity: int, mutator: str, args: Any, key: Key, actor: Any = None) -> Any:
        return invoke(
            self, entity, mutator, args, msgspec.structs.replace(key, mutator=f"{key.mutator}{next(numbers)}"), actor
        )

    return [(Unit, "invoke", renamed)]


def key_retention() -> Patches:
    """Results of operations are not kept with the unit: the next owner knows none."""

    def forget(self: Results, rows: dict[str, Origin] | None = None) -> None:
        self.rows = {}

    return [(Results, "__init__", forget)]


def committed_view() -> Patches:
    """Answers and deliveries do not wait for the commit of what they rest on."""

    def deliverable(self: Outbox) -> list[Entry]:
        return list(self.entries.values())

    return [(Unit, "awaited", property(lambda self: self.committed)), (Outbox, "deliverable", deliverable)]


def dead_generations() -> Patches:
    """What a dead generation says is believed."""

    def fenced(self: CellReceiver, number: int, generation: int) -> bool:
        return number not in self.publishers

    def heeded(self: Wire, envelope: Envelope, message: Message) -> bool:
        return False

    return [(CellReceiver, "_fenced", fenced), (Wire, "_fenced", heeded)]


def results() -> Patches:
    """A repeated operation is run again."""

    def nothing(self: Results, key: Key, digest: str = "") -> Outcome | None:
        return None

    return [(Results, "find", nothing)]


def busy() -> Patches:
    """A unit under way to another server goes on serving, and its avatar goes on walking."""

    def serve(self: Handing, owned: Owned) -> None:
        return None

    return [(Handing, "_freeze", serve)]


def reclaiming() -> Patches:
    """Whose offer was not answered goes on as if nobody could have taken it."""

    async def resume(self: UnitTable, owned: Owned) -> None:
        return None

    return [(UnitTable, "reclaim", resume)]


def from_epoch() -> Patches:
    """What an older owner says is believed: calls, deliveries, a session's events and views, where an avatar is."""
    events, view, refused = Session.owner_events, Session.view, Session.move_refused

    def heeded_events(self: Session, message: Events) -> Effects:
        return events(self, msgspec.structs.replace(message, epoch=max(message.epoch, self.owner.epoch)))

    def heeded_view(self: Session, epoch: int, x: float, y: float, radius: float) -> Effects:
        return view(self, max(epoch, self.owner.epoch), x, y, radius)

    def heeded_refusal(
        self: Session, connection: int, code: str, server: str, epoch: int, said_by: str = ""
    ) -> Effects:
        code = "moved" if code == "handed" else code
        return refused(self, connection, code, server, epoch and max(epoch, self.owner.epoch))

    return [
        (EpochFence, "admit", lambda self, unit, from_epoch: True),
        (Session, "owner_events", heeded_events),
        (Session, "view", heeded_view),
        (Session, "move_refused", heeded_refusal),
    ]


def intents_cas() -> Patches:
    """A swap of an intent overwrites whatever is there: who commits does not see that it was aborted."""
    match = Table._match

    def overwrites(self: Table, key: str, cas: int) -> None:
        if key.startswith(f"{KIND}:"):
            self.get(key)
        else:
            match(self, key, cas)

    return [(Table, "_match", overwrites)]


def pending_check() -> Patches:
    """A unit applies whatever it is told is committed, also what it does not hold (any more)."""
    lock, decided, known = Unit.lock, Trading._decided, dict[tuple[str, str], Hold]()

    def locks(self: Unit, tx: str, hold: Hold) -> int:
        known[self.key, tx] = hold
        return lock(self, tx, hold)

    async def applies(self: Trading, owned: Owned, message: Decided) -> Ok:
        hold = known.get((owned.key, message.tx))
        if message.committed and hold is not None and message.tx not in owned.unit.locks.pending:
            owned.unit.locks.add(message.tx, hold, owned.unit.entities)
            owned.unit.apply(message.tx)
            self._table.touch(owned)
        return await decided(self, owned, message)

    return [(Unit, "lock", locks), (Trading, "_decided", applies)]


def flush() -> Patches:
    """A transaction is acknowledged while its commit is on the way to the store."""
    decide = Trading._decide

    async def early(self: Trading, run: Run, state: str) -> Event:
        self._service.spawn(decide(self, run, state), f"late {run.tx}")
        return Event.LANDED

    return [(Trading, "_decide", early)]


def origin_fence() -> Patches:
    """A former owner of the acting avatar may lock it for what it began."""

    async def heeded(self: Trading, owned: Owned, message: Lock, by: tuple[str, int]) -> Ok:
        return await locks(self, owned, msgspec.structs.replace(message, origin_epoch=owned.unit.epoch), by)

    locks = Trading._lock
    return [(Trading, "_lock", heeded)]


ABLATIONS: dict[str, Callable[[], Patches]] = {
    f.__name__: f
    for f in (
        digest,
        cas,
        read_back,
        operation_keys,
        key_retention,
        committed_view,
        dead_generations,
        results,
        busy,
        reclaiming,
        from_epoch,
        intents_cas,
        pending_check,
        flush,
        origin_fence,
    )
}


# Seeds (a number: so many from 0 on) among which at least one fails without the safeguard. ``reclaiming`` is not here:
# whoever went on with a unit that another could still take is refused by the CAS at its next write and acknowledges
# nothing, and for the late commit to land after that, offer, answer and both writes must all be late by more than a
# second at once.
FOUND_WITHIN: dict[str, int | range] = {
    "digest": 20,
    "cas": 20,
    "read_back": 20,
    "operation_keys": 30,
    "key_retention": 30,
    "committed_view": 30,
    "dead_generations": 60,
    "results": 20,
    "busy": 30,
    "from_epoch": 20,
    "flush": 20,
    "pending_check": range(20, 30),
    "intents_cas": range(20, 30),
}


@contextlib.contextmanager
def ablation(name: str) -> Iterator[None]:
    """ "": none. Raises KeyError for an unknown one."""
    with contextlib.ExitStack() as stack:
        for target, attribute, instead in ABLATIONS[name]() if name else ():
            stack.enter_context(mock.patch.object(target, attribute, instead))
        yield
