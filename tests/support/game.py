"""A whole game side on one virtual loop: game servers over the fake network and the memory store, and scripted players.

``async with Game(servers=2) as game: player = await game.player(1, at="gs1"); await player.gather(tree)``
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
import orjson

from gameserver.app import begin
from gameserver.server import GameServer
from runtime.mesh.api import Mesh, MeshError, Refused, Sender
from runtime.mesh.fake import FakeNetwork
from runtime.service import Service
from runtime.store.api import Store, Unavailable
from runtime.store.memory import Faults as StoreFaults
from runtime.store.memory import MemoryStore
from world.frames import MOVE_ROW
from world.ids import AVATAR_KIND, NodeId, entity_id, region_unit
from world.kinds import TREE
from world.limits import REGION_M
from world.messages import (
    Attach,
    Attached,
    ClientCommand,
    CommandResult,
    Detach,
    Events,
    EventsSeen,
    HandOffAhead,
    Json,
    Message,
    MoveAnswers,
    MoveBatch,
    Moved,
    SessionEnded,
    Views,
)
from world.natural import natural
from world.terrain import spawn
from world.unit_document import Head

SEED = 1
GATEWAY = NodeId("gw1")


class NoAnswer(AssertionError):
    """A player waited longer than a player should."""


@dataclass
class Server:
    service: Service
    game: GameServer
    task: asyncio.Task[None]
    failure: BaseException | None = None


class Cable(MemoryStore):
    """One server's own way to the store, which can be cut."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self.table = store.table
        self.cut = False

    def _check_away(self) -> None:
        if self.cut:
            raise Unavailable("the cable is cut")


class Fences:
    """Watches every write that lands: invariant 1, at most one writer per (unit, epoch), and no version twice."""

    def __init__(self, store: MemoryStore) -> None:
        self.broken: list[str] = []
        self._heads: dict[str, Head] = {}
        self._put = store.table.put
        store.table.put = self.put  # type: ignore[method-assign]

    def put(self, key: str, value: bytes) -> int:
        if key.startswith(("avatar:", "region:")):
            self._check(key, Head.parse(value))
        return self._put(key, value)

    def _check(self, key: str, head: Head) -> None:
        last = self._heads.get(key)
        self._heads[key] = head
        if last is None:
            return
        if head.version != last.version + 1:
            self.broken.append(f"{key}: version {last.version} followed by {head.version}")
        released = not head.owner and head.epoch == last.epoch
        same = (head.owner, head.generation, head.epoch) == (last.owner, last.generation, last.epoch)
        if not (same or released or head.epoch == last.epoch + 1):
            self.broken.append(f"{key}: {last.owner}:{last.generation} at {last.epoch} followed by {head}")


class Game:
    """Servers gs1…, one gateway; everything ends with the ``async with``."""

    def __init__(self, servers: int = 1, *, seed: int = 0, store_faults: StoreFaults | None = None, **settings: Any):
        self.rng = random.Random(seed)
        self.network = FakeNetwork(random.Random(seed + 1))
        self.store = MemoryStore(store_faults)
        self.fences = Fences(self.store)
        self.servers: dict[str, Server] = {}
        self.players: dict[int, Player] = {}
        self.failures: list[BaseException] = []
        self.lines: list[Any] = []
        self.gateway: Mesh
        self._count = servers
        self._settings = {"world_seed": SEED, "balance": "off", **settings}
        self._group = asyncio.TaskGroup()
        self._following: dict[int, asyncio.Task[Attached]] = {}  # players that are told where their avatar is

    async def __aenter__(self) -> Self:
        await self.network.__aenter__()
        await self._group.__aenter__()
        self.gateway = await self.new_gateway(GATEWAY)
        for n in range(1, self._count + 1):
            await self.start(f"gs{n}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in list(self._following.values()):
            task.cancel()
        for node in list(self.servers):
            await self.kill(node)
        await self._group.__aexit__(kind, error, trace)
        await self.network.__aexit__(kind, error, trace)

    async def new_gateway(self, node: str) -> Mesh:
        mesh = await self.network.mesh("gateway", node)
        mesh.serve(Events, self._events)
        mesh.serve(Views, lambda sender, message: None)
        mesh.serve(MoveAnswers, self._move_answers)
        mesh.serve(SessionEnded, self._ended)
        mesh.update_me(status="ready")
        return mesh

    def forget_announcements(self, node: str) -> None:
        """That server is of a release that knows no HandOffAhead."""

        def unknown(_: Sender, message: HandOffAhead) -> None:
            raise Refused("unknown_message")

        self.servers[node].game.handing._mesh.serve(HandOffAhead, unknown)

    async def start(self, node: str, store: Store | None = None) -> GameServer:
        """A game server's process begins; ``store``: its own way to the one store."""
        service = Service.for_test(
            "gameserver", node, rng=random.Random(self.rng.getrandbits(32)), lines=self.lines, **self._settings
        )
        ready: asyncio.Future[GameServer] = asyncio.get_running_loop().create_future()

        async def start(service: Service) -> None:
            mesh = await self.network.mesh("gameserver", node, service=service)
            ready.set_result(await begin(service, mesh, store or self.store))

        async def live() -> None:
            try:
                await service.serve(start)
            except Exception as failure:
                self.failures.append(failure)
                if not ready.done():
                    ready.set_exception(failure)

        task = self._group.create_task(live())
        game = await ready
        self.servers[node] = Server(service, game, task)
        return game

    async def kill(self, node: str) -> None:
        """kill -9"""
        server = self.servers.pop(node)
        server.service.crash()
        self.network.crash(node)
        await asyncio.wait([server.task])

    async def drain(self, node: str) -> None:
        """SIGTERM, and wait for its end."""
        server = self.servers[node]
        server.service.drain("test")
        await server.task
        del self.servers[node]

    async def stop(self, node: str) -> None:
        """SIGINT, and wait for its end."""
        server = self.servers.pop(node)
        server.service.stop("test")
        await server.task

    # -- the gateway's side ----------------------------------------------------------------------------------------
    def _events(self, sender: Sender, message: Events) -> None:
        player = self.players.get(message.avatar)
        if player is not None and (message.session, message.connection) == (player.session, player.connection):
            player.events += [(message.stream, n, orjson.loads(body)) for n, body in message.items]

    def _move_answers(self, sender: Sender, message: MoveAnswers) -> None:
        for avatar, session, connection, code, server, _generation, epoch in message.rows:
            player = self.players[avatar]
            player.refused.append(code)
            if code in ("moved", "handed") and (session, connection) == (player.session, player.connection):
                player.told_moved(server, epoch)

    def _ended(self, sender: Sender, message: SessionEnded) -> None:
        self.players[message.avatar].ended.append((message.session, message.connection, message.code))

    def follow(self, player: "Player", server: str) -> None:
        """Attach anew; one at a time."""
        if player.avatar not in self._following:
            task = self._following[player.avatar] = self._group.create_task(player.attach(server))
            task.add_done_callback(lambda _: self._following.pop(player.avatar, None))

    def following(self, player: "Player") -> bool:
        """Whether it is attaching to whom it was told."""
        return player.avatar in self._following

    # -- players -----------------------------------------------------------------------------------------------------
    async def player(self, number: int, at: str, session: int = 1) -> "Player":
        player = Player(self, entity_id(AVATAR_KIND, number), f"Walker{number}", session)
        self.players[player.avatar] = player
        await player.attach(at)
        return player

    async def gatherer(self, number: int, at: str) -> tuple["Player", int]:
        """A player who stands beside the tree nearest to the spawn, and that tree."""
        tree, x, y = nearest()
        player = await self.player(number, at)
        await player.walk(x, y)
        return player, tree

    # -- what is true -------------------------------------------------------------------------------------------------
    def document(self, key: str) -> Json:
        value: Json = msgspec.json.decode(self.store.table.documents[key].value)
        return value

    def documents(self, kind: str) -> dict[str, Json]:
        return {key: self.document(key) for key in self.store.table.documents if key.startswith(f"{kind}:")}

    def owner(self, key: str) -> str:
        """ "" where the document says nobody, or is not there."""
        return str(self.document(key)["owner"]) if key in self.store.table.documents else ""

    async def until(self, true: Callable[[], bool], seconds: float = 30.0, what: str = "it") -> None:
        end = asyncio.get_running_loop().time() + seconds
        while not true():
            if asyncio.get_running_loop().time() > end:
                raise NoAnswer(f"{what} did not come true in {seconds} s")
            await asyncio.sleep(0.05)


@dataclass
class Player:
    """A client with its gateway's patience: follows Moved, keeps a command until its result."""

    game: Game
    avatar: int
    name: str
    session: int
    connection: int = 1
    server: str = ""
    number: int = 0
    input: int = 0
    x: float = 0.0
    y: float = 0.0
    attached: Attached | None = None
    gateway: Mesh | None = None
    events: list[tuple[int, int, Json]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    ended: list[tuple[int, int, str]] = field(default_factory=list)
    follows: bool = True  # attaches anew when told that its avatar has moved
    kept: list[tuple[int, bytes]] = field(default_factory=list)  # (input, row) without the head, for a new owner

    @property
    def mesh(self) -> Mesh:
        return self.gateway or self.game.gateway

    @property
    def unit(self) -> str:
        return f"avatar:{self.avatar}"

    @property
    def region(self) -> str:
        return region_unit(int(self.x // REGION_M), int(self.y // REGION_M))

    @property
    def inventory(self) -> Json:
        """As told by events."""
        said = [e["items"] for _, _, e in self.events if e["kind"] == "inventory"]
        return dict(said[-1]) if said else {}

    def told_moved(self, server: str, epoch: int) -> None:
        """As the gateway does: attach where the avatar is now, unless that is no news."""
        if self.follows and server and self.attached is not None and epoch > self.attached.epoch:
            self.game.follow(self, server)

    def attach_message(self) -> Attach:
        stream, event = (self.attached.stream, 0) if self.attached else (0, 0)
        event = max([n for s, n, _ in self.events if s == stream], default=event)
        return Attach(self.avatar, self.session, self.connection, self.name, stream, event, self.input)

    async def attach(self, at: str, seconds: float = 30.0) -> Attached:
        """Until attached. Raises Refused, NoAnswer."""
        end = asyncio.get_running_loop().time() + seconds
        target = at
        while asyncio.get_running_loop().time() < end:
            answer: Message | None = None
            try:
                answer = await self.mesh.call(NodeId(target), self.attach_message(), deadline_ms=6_000)
            except MeshError as problem:
                if problem.code in ("replaced", "full", "no_such_avatar"):
                    raise
            if isinstance(answer, Attached):
                self.attached, self.server = answer, answer.server
                if answer.last_input >= self.input:
                    self.x, self.y = answer.x, answer.y
                self.input = max(self.input, answer.last_input)
                self._take(answer)
                return answer
            if isinstance(answer, Moved) and answer.server:
                target = answer.server
            else:
                target = self.game.rng.choice(list(self.game.servers))
                await asyncio.sleep(0.2)
        raise NoAnswer(f"{self.name} could not attach")

    def _take(self, answer: Attached) -> None:
        """The events missed, and the moves that this owner has not seen."""
        self.events += [(answer.stream, n, orjson.loads(body)) for n, body in answer.events]
        for number, row in self.kept:
            if number > answer.last_input:
                self._send_row(row)

    def detach(self, *, leave: bool = False) -> None:
        self.mesh.send(NodeId(self.server), Detach(self.avatar, self.session, self.connection, leave))

    async def call(self, op: str, number: int = 0, seconds: float = 60.0, floor: int = 0, **args: Any) -> CommandResult:
        """One command to its result, across moves and fail-overs."""
        if not number:
            self.number += 1
        command = ClientCommand(
            self.avatar, self.session, self.connection, number or self.number, floor, op, args
        )  # fmt: skip
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            try:
                answer = await self.mesh.call(NodeId(self.server), command, deadline_ms=6_000)
            except MeshError as problem:
                if problem.code not in ("unreachable", "deadline", "unhandled"):
                    raise
                answer = Moved("", "", 0, 0)
            if isinstance(answer, CommandResult):
                return answer
            if isinstance(answer, Moved):
                await self.attach(answer.server or self.server)
            await asyncio.sleep(0.1)
        raise NoAnswer(f"{op} of {self.name}")

    async def gather(self, target: int, **how: Any) -> CommandResult:
        return await self.call("gather", target=target, **how)

    async def walk(self, x: float, y: float, stop_m: float = 2.0) -> None:
        """Straight there at a walk, five claims a second."""
        clock = self.game.servers[self.server].service.clock
        while (gap := float(np.hypot(x - self.x, y - self.y))) > stop_m:
            step = min(1.0, gap)
            self.x += (x - self.x) / gap * step
            self.y += (y - self.y) / gap * step
            self.claim(clock.world_ms())
            await asyncio.sleep(0.2)

    def claim(self, world_ms: int, vx: float = 0.0, vy: float = 0.0) -> None:
        self.input += 1
        row = np.zeros(1, MOVE_ROW)
        epoch = self.attached.epoch if self.attached else 0
        row[0] = (self.avatar, self.session, self.connection, epoch, self.input, world_ms, self.x, self.y, vx, vy)
        self.kept = [*self.kept[-20:], (self.input, row.tobytes())]
        self._send_row(row.tobytes())

    def _send_row(self, row: bytes) -> None:
        self.mesh.send(NodeId(self.server), MoveBatch(row))

    def seen(self, n: int) -> None:
        assert self.attached is not None
        self.mesh.send(NodeId(self.server), EventsSeen(self.avatar, self.session, self.attached.stream, n))


def around(count: int) -> list[tuple[int, float, float]]:
    """(entity, x, y) of the natural entities nearest to the spawn."""
    x, y = spawn(SEED)
    rows = natural(SEED, int(x // REGION_M), int(y // REGION_M))
    near = sorted(rows, key=lambda r: (r[2] - x) ** 2 + (r[3] - y) ** 2)
    return [(entity, at_x, at_y) for entity, _, at_x, at_y in near[:count]]


def nearest(kind: int = TREE, to: tuple[float, float] | None = None) -> tuple[int, float, float]:
    """(entity, x, y) of the natural entity of this kind nearest to a place, by default the spawn."""
    x, y = to or spawn(SEED)
    rows = natural(SEED, int(x // REGION_M), int(y // REGION_M))
    entity, _, at_x, at_y = min((r for r in rows if r[1] == kind), key=lambda r: (r[2] - x) ** 2 + (r[3] - y) ** 2)
    return entity, at_x, at_y
