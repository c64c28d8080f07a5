"""The real services of a cluster on one loop: game servers, gateways, logins over the fake network and one store.

Each node is supervised as ``projectk up`` does it: a process that ended, by a crash or by its own decision, is started
again a little later. Each has its own way to the store, so that one can be cut off from it or hang alone.
"""

import asyncio
import random
from dataclasses import dataclass, field
from zlib import crc32

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gameserver.app import begin
from gameserver.death import SelfDead, StoreLost
from gameserver.server import GameServer
from gameserver.units import Owned
from gateway.app import build as build_gateway
from gateway.fanout import Watcher
from gateway.gateway import Gateway
from login.app import build as build_login
from runtime.mesh.fake import FakeNetwork
from runtime.mesh.node import MeshNode
from runtime.service import Service
from runtime.settings import Settings
from runtime.store.memory import MemoryStore
from tests.simulation.plan import SERVERS, Plan
from tests.simulation.trace import LogLines, Trace
from tests.simulation.watch import DigestWatch, StoreWatch
from tests.simulation.wire import SimSocket

SEED = 1  # of the world
SETTINGS = Settings()
RESTART_S = 0.3


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
    excused: bool = False  # the nemesis gave it a reason to end by itself
    starts: int = 0
    ends: list[BaseException] = field(default_factory=list)


class SimCluster:
    """``async with`` a task group given: everything runs in it until ``ending`` is set and all are crashed."""

    def __init__(self, plan: Plan, trace: Trace) -> None:
        self.plan = plan
        self.trace = trace
        self.rng = random.Random(f"cluster {plan.seed}")
        self.network = FakeNetwork(random.Random(f"network {plan.seed}"))
        self.table = MemoryStore().table
        self.watch = StoreWatch(self.table, trace)
        self.digests = DigestWatch()
        self.sockets: dict[int, SimSocket] = {}
        self.client_delay_ms = 15.0
        self.ending = False
        self.problems: list[str] = []
        self.gateway_names = [f"gw{n}" for n in range(1, plan.gateways + 1)]
        logins = [f"lg{n}" for n in range(1, plan.logins + 1)]
        roles = {**dict.fromkeys(SERVERS, "gameserver"), **dict.fromkeys(self.gateway_names, "gateway")}
        roles |= dict.fromkeys(logins, "login")
        self.nodes = {name: Node(name, role, self._store(name)) for name, role in roles.items()}
        self._serial = 0

    def _store(self, name: str) -> MemoryStore:
        store = MemoryStore(self.plan.store_faults(random.Random(f"store {name} {self.plan.seed}")))
        assert store.faults is not None
        store.faults.temporary = store.faults.lost = store.faults.applied = store.faults.late = 0.0  # later
        store.table = self.table
        return store

    def next_serial(self) -> int:
        self._serial += 1
        return self._serial

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
        return game is not None and game.generation == generation

    # -- processes ----------------------------------------------------------------------------------------------------
    async def start_all(self, group: asyncio.TaskGroup) -> None:
        for node in self.nodes.values():
            group.create_task(self._supervise(node), name=f"supervise {node.name}")
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
            node.gateway = build_gateway(service, mesh)
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
