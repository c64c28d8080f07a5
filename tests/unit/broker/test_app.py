"""Brokers over real sockets: they merge, may all die, and have the whole book again soon after a restart."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from broker.app import build, start
from runtime.mesh import open_mesh
from runtime.mesh.node import MeshNode
from runtime.service import Service
from tests.support import aio
from tests.support.mesh import until
from world.ids import NodeId
from world.messages import Awake, Interest

BOOK_BACK_MS = 2_000


class Cluster:
    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def broker(self, node: str, *, port: int = 0, join: tuple[str, ...] = ()) -> MeshNode:
        service = Service.for_test("broker", node, rng=random.Random(), command_port=port, join=join)
        await self._stack.enter_async_context(service)
        mesh = await open_mesh(
            service, role="broker", node_id=NodeId(node), generation=None, publishes_state=False, subscribes_state=False
        )
        build(service, mesh)
        return mesh

    async def member(self, role: str, node: str, *brokers: MeshNode, generation: int | None = None) -> MeshNode:
        service = Service.for_test(role, node, rng=random.Random(), join=tuple(b.me.command for b in brokers))
        await self._stack.enter_async_context(service)
        return await open_mesh(
            service, role=role, node_id=NodeId(node), generation=generation, publishes_state=role == "gameserver"
        )


def run(scenario: Callable[[Cluster], Awaitable[None]]) -> None:
    async def body() -> None:
        async with AsyncExitStack() as stack:
            await scenario(Cluster(stack))

    aio.run(body(), uvloop=True)


async def kill(*meshes: MeshNode) -> None:
    for mesh in meshes:
        mesh.abort()
        await mesh.close()


def port_of(mesh: MeshNode) -> int:
    return int(mesh.me.command.rsplit(":", 1)[1])


def ids(mesh: MeshNode) -> list[str]:
    return [m.id for m in mesh.book.members()]


def test_brokers_merge_and_push_what_each_was_told() -> None:
    async def scenario(cluster: Cluster) -> None:
        br1 = await cluster.broker("br1")
        br2 = await cluster.broker("br2", join=(br1.me.command,))
        gs1 = await cluster.member("gameserver", "gs1", br1, generation=4)
        gw1 = await cluster.member("gateway", "gw1", br2)
        everyone = ["br1", "br2", "gs1", "gw1"]
        await until(lambda: all(ids(m) == everyone for m in (br1, br2, gs1, gw1)), within_ms=1_000)
        gs1.book.declare_dead(NodeId("gs9"), 2)
        await until(lambda: br2.book.is_dead(NodeId("gs9"), 2))

    run(scenario)


def test_with_every_broker_dead_nothing_stops() -> None:
    async def scenario(cluster: Cluster) -> None:
        br1 = await cluster.broker("br1")
        br2 = await cluster.broker("br2", join=(br1.me.command,))
        gs1 = await cluster.member("gameserver", "gs1", br1, br2, generation=4)
        gw1 = await cluster.member("gateway", "gw1", br1, br2)
        await until(lambda: len(ids(gs1)) == len(ids(gw1)) == 4)
        await kill(br1, br2)
        gs1.serve(Interest, lambda sender, message: Awake(message.epoch))
        gw1.subscribe(NodeId("gs1"), b"PKcell\x00\x07")
        for n in range(100):
            assert await gw1.call(NodeId("gs1"), Interest("x", n)) == Awake(n)
        await until(lambda: gs1.listeners(b"PKcell\x00\x07") == 1)
        gs2 = await cluster.member("gameserver", "gs2", br1, br2, gw1, generation=1)  # knows one living member
        await until(lambda: all("gs2" in ids(m) for m in (gs1, gw1)))
        assert {"gs1", "gw1"} <= set(ids(gs2))
        await until(lambda: gw1.book.suspected(NodeId("br1")))
        assert await gs2.call(NodeId("gs1"), Interest("x", 7)) == Awake(7)

    run(scenario)


def test_a_restarted_broker_has_the_whole_book_soon() -> None:
    async def scenario(cluster: Cluster) -> None:
        br1 = await cluster.broker("br1")
        others = [await cluster.member("gameserver", f"gs{n}", br1, generation=2) for n in (1, 2)]
        others.append(await cluster.member("gateway", "gw1", br1))
        await until(lambda: all(len(ids(m)) == 4 for m in (br1, *others)))
        old = br1.me
        await kill(br1)
        await asyncio.sleep(0.5)
        loop = asyncio.get_running_loop()
        began = loop.time()
        again = await cluster.broker("br1", port=port_of(br1))  # it knows nobody: they come back by themselves
        await until(lambda: ids(again) == ["br1", "gs1", "gs2", "gw1"])
        assert (loop.time() - began) * 1_000 < BOOK_BACK_MS
        await until(lambda: again.me.generation > old.generation)
        await until(lambda: all(m.book.highest_generation(NodeId("br1")) == again.me.generation for m in others))
        late = await cluster.member("gateway", "gw2", again)
        await until(lambda: len(ids(late)) == 5)

    run(scenario)


def test_a_member_that_started_before_its_broker_finds_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        br1 = await cluster.broker("br1")
        port = port_of(br1)
        await kill(br1)
        gs1 = await cluster.member("gameserver", "gs1", br1, generation=1)  # goes on alone
        gw1 = await cluster.member("gateway", "gw1", br1)
        assert ids(gs1) == ["gs1"]
        await cluster.broker("br1", port=port)
        await until(lambda: ids(gs1) == ids(gw1) == ["br1", "gs1", "gw1"], within_ms=BOOK_BACK_MS + 1_000)

    run(scenario)


def test_the_role_starts_says_where_it_is_and_stops() -> None:
    async def body() -> None:
        service = Service.for_test("broker", "br1")
        async with service:
            await start(service)
            assert service.addresses["command"].startswith("tcp://127.0.0.1:")
            gw = Service.for_test("gateway", "gw1", join=(service.addresses["command"],))
            async with gw:
                mesh = await open_mesh(
                    gw, role="gateway", node_id=NodeId("gw1"), generation=None, publishes_state=False
                )
                assert [m.status for m in mesh.book.members("broker")] == ["ready"]

    aio.run(body(), uvloop=True)
