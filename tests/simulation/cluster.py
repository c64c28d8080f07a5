"""The real services of a cluster on one loop: game servers, gateways, logins over the fake network and one store.

Each node is supervised as ``projectk up`` does it: a process that ended, by a crash or by its own decision, is started
again a little later. Each has its own way to the store, so that one can be cut off from it or hang alone.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from zlib import crc32

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gameserver.app import begin
from gameserver.death import SelfDead, StoreLost
from gameserver.server import GameServer
from gameserver.units import Owned
from gateway.app import build as build_gateway
from gateway.fanout import Watcher
from gateway.gateway import Gateway
from gateway.ops.entities import Entities
from login.app import build as build_login
from runtime.clock import LoopClock
from runtime.drain import drainable
from runtime.mesh.fake import FakeNetwork
from runtime.mesh.node import MeshNode
from runtime.notes import Notes
from runtime.service import Service
from runtime.settings import Settings
from runtime.store.memory import MemoryStore
from tests.simulation.plan import Plan
from tests.simulation.player import Player
from tests.simulation.trace import LogLines, Trace
from tests.simulation.watch import DigestWatch, StoreWatch
from tests.simulation.wire import Receiver, SimSocket
from tests.support.virtual import PROCESS, VirtualLoop
from world.messages import GiveAway

T = TypeVar("T")
SEED = 1  # of the world
SETTINGS = Settings()
RESTART_S = 0.3
WISH_BOUND_S = 20.0
WORLD_MS = 10_000_000.0  # world time where the loop's is 0


class WireStore(MemoryStore):
    """What a process sent to the store is done there, whether the process still lives and runs, or not."""

    async def _read(self, apply: Callable[[], T]) -> T:
        return await self._aside(super()._read(apply))

    async def _write(self, apply: Callable[[], T]) -> T:
        return await self._aside(super()._write(apply))

    async def _aside(self, request: Coroutine[Any, Any, T]) -> T:
        there = asyncio.get_running_loop().create_task(request, context=Context())
        there.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody waits any more
        return await asyncio.shield(there)


class DriftingClock(LoopClock):
    """A quartz that runs ``rate`` faster than the others (its timers do not)."""

    def __init__(self, offset_ms: float, loop: VirtualLoop, rate: float) -> None:
        super().__init__(offset_ms, loop)
        self._virtual, self._rate, self._began_s = loop, rate, loop.time()

    def monotonic_ms(self) -> float:
        now_s = self._virtual.time()
        return (now_s + (now_s - self._began_s) * self._rate) * 1_000.0


def steady_identities() -> None:
    """Sets of these iterate in an order of their own, the same in every run: by default it is that of addresses."""
    setattr(Watcher, "__hash__", _watcher_hash)  # noqa: B010 - mypy knows better what a class may change
    setattr(Owned, "__hash__", _owned_hash)  # noqa: B010


def _watcher_hash(self: Watcher) -> int:
    assert isinstance(self.link, SimSocket)
    return self.link.serial


def _owned_hash(self: Owned) -> int:
    return crc32(self.key.encode())


@dataclass
class Node:
    """One process's name and what of it is up now."""

    name: str
    role: str
    store: MemoryStore
    service: Service | None = None
    mesh: MeshNode | None = None
    game: GameServer | None = None
    gateway: Gateway | None = None
    up: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)  # it has been up once
    down_s: float = RESTART_S  # until it is started again, after its next end
    context: Context = field(default_factory=Context)  # of all that runs in it, and is held when it stands still
    excused: bool = False  # the nemesis gave it a reason to end by itself
    woke_s: float = 0.0  # when it last went on after standing still
    starts: int = 0
    drains: int = 0
    ends: list[BaseException] = field(default_factory=list)


class SimCluster:
    """``async with`` a task group given: everything runs in it until ``ending`` is set and all are crashed."""

    def __init__(self, plan: Plan, trace: Trace) -> None:
        self.plan = plan
        self.trace = trace
        self.rng = random.Random(f"cluster {plan.seed}")
        self.network = FakeNetwork(random.Random(f"network {plan.seed}"))
        self.table = MemoryStore().table
        self.watch = StoreWatch(self.table, trace, self.lives)
        self.digests = DigestWatch()
        self.sockets: dict[int, SimSocket] = {}
        self.players: list[Player] = []
        self.client_delay_ms = 15.0
        self.ending = False
        self.problems: list[str] = []
        self.gateway_names = [f"gw{n}" for n in range(1, plan.gateways + 1)]
        logins = [f"lg{n}" for n in range(1, plan.logins + 1)]
        roles = {**dict.fromkeys(plan.server_names, "gameserver"), **dict.fromkeys(self.gateway_names, "gateway")}
        roles |= dict.fromkeys(logins, "login")
        self.nodes = {name: Node(name, role, self._store(name)) for name, role in roles.items()}
        for node in self.nodes.values():
            node.context.run(PROCESS.set, node.name)
        self._clocks = random.Random(f"clocks {plan.seed}")
        self._serial = 0

    def _store(self, name: str) -> MemoryStore:
        store = WireStore(self.plan.store_faults(random.Random(f"store {name} {self.plan.seed}")))
        assert store.faults is not None
        store.faults.temporary = store.faults.lost = store.faults.applied = store.faults.late = 0.0  # later
        store.table = self.table
        return store

    # -- who is there -------------------------------------------------------------------------------------------------
    def gateway(self, url: str) -> Gateway | None:
        node = self.nodes[url.removeprefix("sim://")]
        return node.gateway if node.up else None

    @property
    def games(self) -> dict[str, GameServer]:
        """The living game servers."""
        return {n.name: n.game for n in self.nodes.values() if n.up and n.game is not None}

    def lives(self, name: str, generation: int) -> bool:
        game = self.games.get(name)
        return game is not None and game.generation == generation and not self.stands_still(name)

    def hindered(self, name: str) -> bool:
        """It stood still or was cut off, or the store was away: then it could not write down what it told."""
        return self.nodes[name].excused or any(strike.kind == "store_away" for strike in self.plan.strikes)

    def store_is_away(self, now_s: float) -> bool:
        """From every game server."""
        stores = [self.nodes[name].store.faults for name in self.plan.server_names]
        return all(faults is not None and faults.away(now_s) for faults in stores)

    @property
    def loop(self) -> VirtualLoop:
        return cast(VirtualLoop, asyncio.get_running_loop())

    def stands_still(self, name: str) -> bool:
        return self.loop.frozen(name)

    # -- from outside into a process ----------------------------------------------------------------------------------
    async def inside(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """Do it as part of that process: not while it stands still."""
        return await self.loop.create_task(work, context=self.nodes[name].context.copy())

    async def accept(self, url: str, gateway: Gateway, receiver: Receiver, seed: int) -> SimSocket:
        """A new connection to a gateway. Raises ConnectionResetError where it was killed meanwhile."""
        node = self.nodes[url.removeprefix("sim://")]
        self._serial += 1
        serial, here = self._serial, copy_context()

        def gone() -> bool:
            return not node.up or node.gateway is not gateway

        async def greet() -> SimSocket:
            if gone():
                raise ConnectionResetError(url)
            rng = random.Random(seed)
            return SimSocket(gateway, receiver, rng, serial, self.client_delay_ms, node.context, here)

        link = await self.inside(node.name, greet())
        if gone():
            raise ConnectionResetError(url)
        self.sockets[serial] = link
        return link

    # -- processes ----------------------------------------------------------------------------------------------------
    async def start_all(self, group: asyncio.TaskGroup) -> None:
        for node in self.nodes.values():
            group.create_task(self._supervise(node), name=f"supervise {node.name}", context=node.context)
        await asyncio.gather(*(node.arrived.wait() for node in self.nodes.values()))

    async def _supervise(self, node: Node) -> None:
        while not self.ending:
            node.starts += 1
            node.service = Service.for_test(
                node.role,
                node.name,
                SETTINGS,
                rng=random.Random(self.rng.getrandbits(64)),
                lines=LogLines(self.trace, node.name),
                clock=self._clock(node),
                world_seed=SEED,
                placement=self.plan.placement,
            )
            try:
                await node.service.serve(lambda service, node=node: self._start(node, service))  # type: ignore[misc]
            except (SelfDead, StoreLost) as end:
                self._ended(node, end)
            except Exception as end:
                self._ended(node, end)
                self.problems.append(f"{node.name} failed: {end!r}")
            node.up = False
            self._cut_sockets(node)
            down_s, node.down_s = node.down_s, RESTART_S
            await asyncio.sleep(down_s)

    def _clock(self, node: Node) -> LoopClock:
        """No two processes have the same; one that is started again may find its wall clock an hour off."""
        skew_ms = self._clocks.uniform(-300, 300)
        if node.starts > 1 and self._clocks.random() < self.plan.clock_jump:
            skew_ms += self._clocks.choice((-3_600_000, 3_600_000))
        return DriftingClock(WORLD_MS + skew_ms, self.loop, self._clocks.uniform(-1, 1) * self.plan.clock_drift)

    def _ended(self, node: Node, end: BaseException) -> None:
        node.ends.append(end)
        self.trace.note(node.name, f"ended: {end!r}")
        if not node.excused:
            self.problems.append(f"{node.name} ended without a reason: {end!r}")

    async def _start(self, node: Node, service: Service) -> None:
        node.mesh = mesh = await self.network.mesh(node.role, node.name, service=service)
        await self._role(node, service, mesh)
        node.up = True
        node.arrived.set()
        self.trace.note(node.name, f"up, generation {mesh.me.generation}")

    async def _role(self, node: Node, service: Service, mesh: MeshNode) -> None:
        if node.role == "gameserver":
            node.game = await begin(service, mesh, node.store)
            self.digests.follow(node.name, mesh)
        elif node.role == "gateway":
            node.gateway = gateway = build_gateway(service, mesh)

            async def stop() -> None:
                gateway.close_all()

            service.on_stop(stop)
            drainable(service, mesh, Notes(mesh, service.clock), gateway.drain)
            mesh.update_me(status="ready", http=f"sim://{node.name}")
        else:
            chance = random.Random(f"login {node.name} {self.plan.seed}")
            key = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
            login_rng = random.Random(f"tokens {node.name} {node.starts} {self.plan.seed}")
            build_login(service, mesh, node.store, private=key, random_bytes=login_rng.randbytes)
            mesh.update_me(status="ready")

    def crash(self, name: str, down_s: float = RESTART_S) -> None:
        """kill -9; started again after ``down_s``."""
        node = self.nodes[name]
        if not node.up or node.service is None:
            return
        self.trace.note(name, f"killed for {down_s:.2f} s")
        node.up, node.down_s = False, down_s
        node.service.crash()
        self.network.crash(name)
        self._cut_sockets(node)
        self.loop.thaw(name)

    def drain(self, name: str, down_s: float = RESTART_S) -> None:
        """SIGTERM; started again ``down_s`` after its end."""
        node = self.nodes[name]
        if node.up and node.service is not None:
            node.down_s = down_s
            node.drains += 1
            self.loop.call_soon(node.service.drain, "SIGTERM", context=node.context)

    async def hand_off(self, unit: str, to: str) -> bool:
        """An operator's wish at any gateway; whether it came true."""
        node = next((n for n in self.nodes.values() if n.up and n.gateway is not None), None)
        if node is None or node.gateway is None:
            return False
        wish = asyncio.create_task(self.inside(node.name, Entities(node.gateway).give_away(GiveAway(unit, to))))
        done, _ = await asyncio.wait([wish], timeout=WISH_BOUND_S)
        if not done:
            wish.cancel()  # its gateway was killed meanwhile
        return bool(done) and wish.exception() is None

    def freeze(self, name: str) -> bool:
        """SIGSTOP: nothing of it runs, what is sent to it waits. False: it is down."""
        node = self.nodes[name]
        if not node.up:
            return False
        node.excused = True
        self.loop.freeze(name)
        return True

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        if self.stands_still(name):
            self.nodes[name].woke_s = self.loop.time()
            self.loop.thaw(name)

    def _cut_sockets(self, node: Node) -> None:
        for socket in [s for s in self.sockets.values() if s.gateway is node.gateway]:
            socket.crash()

    async def end(self) -> None:
        """Everything is killed."""
        self.ending = True
        for node in self.nodes.values():
            if node.service is not None:
                node.service.crash()
            self.network.crash(node.name)
            node.up = False
            self.loop.thaw(node.name)
