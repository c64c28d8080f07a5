"""Checkers that watch while it happens: every write of the store, every digest."""

import asyncio
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from unittest import mock

import msgspec

from gameserver.invoking import Invoking
from gameserver.records import ALIVE, ServerRecord
from gameserver.transfers import Transfers
from gateway.effects import Say
from gateway.session import Effects, Session
from runtime.mesh.commands import Commands
from runtime.mesh.envelope import Envelope
from runtime.mesh.node import MeshNode
from runtime.store.memory import Table
from tests.simulation.trace import Trace
from tests.simulation.trades import TradeWatch
from world.channels.effects import Apply
from world.channels.receiver import CellReceiver
from world.frames import DIGEST_TOPIC, read_head
from world.ids import NodeId, avatar_unit
from world.messages import Deliver, Events, Invoke, Message
from world.transaction_document import KIND
from world.unit_document import Head, UnitDocument

UNITS = ("avatar:", "region:")
OURS = frozenset({"gameserver", "gateway", "login", "runtime", "world", "cluster"})


class Command(NamedTuple):
    """A client's command as operation keys name it."""

    unit: str
    session: int
    number: int


class StoreWatch:
    """Every write that lands. Invariants 1 (one committed writer per unit and epoch), 2 and 4 (one transfer per
    command, and it never changes)."""

    def __init__(self, table: Table, trace: Trace, is_up: Callable[[str, int], bool]) -> None:
        self.broken: list[str] = []
        self.heads: dict[str, Head] = {}
        self.caused: defaultdict[Command, set[tuple[str, int]]] = defaultdict(set)  # -> transfers (giver, n)
        self.saved: set[Command] = set()  # whose result the avatar's unit holds, or held
        self.writes = 0
        self.ambushes: list[asyncio.Future[tuple[str, str]]] = []  # told of the next transfer: (giver, receiver)
        self.moves: defaultdict[str, list[asyncio.Future[str]]] = defaultdict(list)  # unit -> told of its next owner
        self.owners: dict[tuple[str, int], tuple[str, int]] = {}  # (unit, epoch) -> the last (server, generation)
        self.handed: set[tuple[str, int]] = set()  # units, and the epochs that a living owner gave them to
        self.trades = TradeWatch(self._break)
        self._trace = trace
        self._table = table
        self._is_up = is_up
        self._put = table.put
        table.put = self.put  # type: ignore[method-assign]

    def put(self, key: str, value: bytes) -> int:
        self.writes += 1
        self._trace.mix(value)
        if key.startswith(UNITS):
            head = Head.parse(value)
            self._trace.note("store", f"{key} {head.owner}:{head.generation} e{head.epoch} v{head.version}")
            self._check(key, head)
            self._note_transfers(key, value)
        elif key.startswith(f"{KIND}:"):
            self._trace.note("store", f"{key} {value.decode()}")
            self.trades.intent(key, value)
        elif key.startswith("srv:"):
            self._trace.note("store", f"{key} {value.decode()}")
        return self._put(key, value)

    def _break(self, text: str) -> None:
        self.broken.append(text)
        self._trace.note("store", f"PROBLEM {text}")

    def _check(self, key: str, head: Head) -> None:
        last = self.heads.get(key)
        self.heads[key] = head
        self.owners[key, head.epoch] = (head.owner, head.generation)  # none: it was saved whole, and released
        if last is None:
            return
        if head.version != last.version + 1:
            self._break(f"{key}: version {last.version} followed by {head.version}")
        released = not head.owner and head.epoch == last.epoch
        same = (head.owner, head.generation, head.epoch) == (last.owner, last.generation, last.epoch)
        if head.epoch == last.epoch + 1:
            if last.owner and self._lives(last):
                self.handed.add((key, head.epoch))
            for waiting in self.moves.pop(key, ()):
                if not waiting.done():
                    waiting.set_result(head.owner)
        if not (same or released or head.epoch == last.epoch + 1):
            self._break(f"{key}: {last.owner}:{last.generation} at {last.epoch} followed by {head}")

    def _lives(self, owner: Head) -> bool:
        """It is up, and nobody has declared it dead."""
        stored = self._table.documents.get(f"srv:{owner.owner}")
        record = msgspec.json.decode(stored.value, type=ServerRecord) if stored is not None else None
        said = record is not None and record.state == ALIVE and record.generation == owner.generation
        return said and self._is_up(owner.owner, owner.generation)

    def _spring(self, giver: str, receiver: str) -> None:
        for waiting in self.ambushes:
            if not waiting.done():
                waiting.set_result((giver, receiver))
        self.ambushes.clear()

    def _note_transfers(self, key: str, value: bytes) -> None:
        document = UnitDocument.parse(value)
        self.trades.unit(key, document)
        own = document.results.get(key)
        if own is not None:
            self.saved |= {Command(key, own.session, int(slot)) for slot in own.saved if slot.isdecimal()}
        for entry in document.outbox.entries:
            if entry.cause is None:
                continue
            transfers = self.caused[Command(entry.cause.origin, entry.cause.session, entry.cause.number)]
            if (key, entry.n) not in transfers:
                self._spring(key, entry.to)
            transfers.add((key, entry.n))
            if len(transfers) > 1:
                self._break(f"one command, several transfers: {entry.cause} {sorted(transfers)}")


class DigestWatch:
    """When each game server last got a digest of each other one: what its own idea of staleness is compared with."""

    def __init__(self) -> None:
        self._heard_s: dict[tuple[str, str], float] = {}

    def follow(self, server: str, mesh: MeshNode) -> None:
        began_s = asyncio.get_running_loop().time()

        def frame(publisher: NodeId, topic: bytes, _body: bytes) -> None:
            if topic == DIGEST_TOPIC:
                self._heard_s[server, publisher] = asyncio.get_running_loop().time()

        for pair in [p for p in self._heard_s if p[0] == server]:
            self._heard_s[pair] = began_s
        mesh.on_frame(frame)

    def silent_s(self, server: str, publisher: str) -> float:
        """Since the last digest; 0 where there was none yet."""
        now = asyncio.get_running_loop().time()
        return now - self._heard_s.get((server, publisher), now)


@contextmanager
def generation_watch(broken: list[str]) -> Iterator[None]:
    """Whatever acts on the word of a generation that it knows to be dead is written down in ``broken``: calls and
    one-way messages that reach handlers, frames that are applied."""
    arrived, apply = Commands.arrived, CellReceiver._apply

    def watched_arrived(self: Commands, envelope: Envelope, message: Message) -> None:
        if 0 < envelope.generation <= dict(self._book.verdicts()).get(envelope.origin, 0):
            kind = type(message).__name__
            broken.append(f"{self._book.me.id} heeds {kind} of dead {envelope.origin}:{envelope.generation}")
        arrived(self, envelope, message)

    def watched_apply(self: CellReceiver, number: int, cell: int, *rest: Any, **how: Any) -> Apply:
        effect = apply(self, number, cell, *rest, **how)
        generation = read_head(effect.body).generation
        if generation <= self._dead.get(number, -1):
            broken.append(f"a frame of dead gs{number}:{generation} is applied")
        return effect

    with (
        mock.patch.object(Commands, "arrived", watched_arrived),
        mock.patch.object(CellReceiver, "_apply", watched_apply),
    ):
        yield


@contextmanager
def epoch_watch(broken: list[str]) -> Iterator[None]:
    """Whoever acts on the word of a unit's older owner, having acted on a newer one's, is written down in ``broken``:
    a gateway by an avatar's events and views, a game server by the facts of actors and by deliveries."""
    events, view = Session.owner_events, Session.view
    remote: ContextVar[tuple[str, int] | None] = ContextVar("remote", default=None)  # whose word is served now
    highest: dict[tuple[object, str], int] = {}

    def heed(who: object, unit: str, epoch: int) -> None:
        if epoch < highest.setdefault((who, unit), epoch):
            broken.append(f"{type(who).__name__} heeds {unit} at epoch {epoch}, after {highest[who, unit]}")
        highest[who, unit] = max(highest[who, unit], epoch)

    def watched_events(self: Session, message: Events) -> Effects:
        effects = events(self, message)
        if message.epoch < self.owner.epoch and any(isinstance(effect, Say) for effect in effects):
            broken.append(f"avatar {self.avatar} is told events of epoch {message.epoch}, after {self.owner.epoch}")
        return effects

    def watched_view(self: Session, epoch: int, x: float, y: float, radius: float) -> Effects:
        effects = view(self, epoch, x, y, radius)
        if epoch < self.owner.epoch and effects:
            broken.append(f"avatar {self.avatar} looks where epoch {epoch} said, after {self.owner.epoch}")
        return effects

    def served(kind: type, word: Callable[[Any], tuple[str, int] | None]) -> Any:
        serve = kind.serve  # type: ignore[attr-defined]

        async def watched(self: Any, sender: Any, message: Any) -> Any:
            remote.set(word(message))  # calls are served by a task each
            return await serve(self, sender, message)

        return watched

    def acted(kind: type, name: str) -> Any:
        act = getattr(kind, name)

        async def watched(self: Any, *rest: Any) -> Any:
            said = remote.get()
            if said is not None:
                heed(self, *said)
            return await act(self, *rest)

        return watched

    with (
        mock.patch.object(Session, "owner_events", watched_events),
        mock.patch.object(Session, "view", watched_view),
        mock.patch.object(Invoking, "serve", served(Invoking, _of_actor)),
        mock.patch.object(Invoking, "_here", acted(Invoking, "_here")),
        mock.patch.object(Transfers, "serve", served(Transfers, _of_giver)),
        mock.patch.object(Transfers, "_receive", acted(Transfers, "_receive")),
    ):
        yield


def _of_actor(message: Invoke) -> tuple[str, int] | None:
    return None if message.actor is None else (avatar_unit(message.actor.avatar), message.actor.epoch)


def _of_giver(message: Deliver) -> tuple[str, int]:
    return message.giver, message.giver_epoch


@contextmanager
def wall_clock_watch(broken: list[str]) -> Iterator[None]:
    """The wall clock jumps at every look; whoever of ours looks is written down in ``broken``."""
    jumps = random.Random("wall clock")

    def now() -> float:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.partition(".")[0] in OURS:
            broken.append(f"{caller} reads the wall clock")
        return jumps.uniform(0, 4e9)

    with mock.patch.object(time, "time", now):
        yield
