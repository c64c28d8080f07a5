"""Two worlds to run one mesh test in: real sockets in real time, and the simulated network in virtual time."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Protocol, cast

from runtime.clock import LoopClock
from runtime.mesh import open_mesh
from runtime.mesh.fake import FakeNetwork, Faults
from runtime.mesh.node import MeshNode
from runtime.service import Service
from tests.support import aio
from tests.support.virtual import VirtualLoop, run_virtual
from world.ids import NodeId
from world.limits import HEARTBEAT_MS


class Backend(Protocol):
    async def mesh(
        self, role: str, node: str, generation: int | None = None, *, by: MeshNode | None = None, offset_ms: float = 0.0
    ) -> MeshNode:
        """Open and join by the member given, else by all that are there. ``offset_ms``: its clock is wrong so far."""
        ...

    async def kill(self, mesh: MeshNode) -> None:
        """No goodbye."""
        ...

    def pause(self, seconds: float) -> None:
        """The loop stands still."""
        ...


class ZmqBackend:
    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._meshes: list[MeshNode] = []

    async def mesh(
        self, role: str, node: str, generation: int | None = None, *, by: MeshNode | None = None, offset_ms: float = 0.0
    ) -> MeshNode:
        members = [by] if by is not None else self._meshes
        service = Service.for_test(
            role,
            node,
            join=tuple(m.me.command for m in members),
            clock=LoopClock(1_000_000.0 + offset_ms),
            rng=random.Random(),
        )
        await self._stack.enter_async_context(service)
        mesh = await open_mesh(
            service, role=role, node_id=NodeId(node), generation=generation, publishes_state=role == "gameserver"
        )
        self._meshes.append(mesh)
        return mesh

    async def kill(self, mesh: MeshNode) -> None:
        self._meshes.remove(mesh)
        mesh.abort()
        await mesh.close()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


class FakeBackend:
    def __init__(self, network: FakeNetwork) -> None:
        self.network = network

    async def mesh(
        self, role: str, node: str, generation: int | None = None, *, by: MeshNode | None = None, offset_ms: float = 0.0
    ) -> MeshNode:
        return await self.network.mesh(
            role,
            node,
            generation,
            join=(by.me.command,) if by is not None else None,
            clock=LoopClock(1_000_000.0 + offset_ms),
        )

    async def kill(self, mesh: MeshNode) -> None:
        self.network.crash(mesh.me.id)

    def pause(self, seconds: float) -> None:
        cast(VirtualLoop, asyncio.get_running_loop()).pause(seconds)


Scenario = Callable[[Any], Awaitable[None]]


def run_zmq(scenario: Scenario) -> None:
    async def body() -> None:
        async with AsyncExitStack() as stack:
            await scenario(ZmqBackend(stack))

    aio.run(body(), uvloop=True)


def run_fake(scenario: Scenario, seed: int = 0, faults: Faults | None = None) -> None:
    async def body() -> None:
        async with FakeNetwork(random.Random(seed), faults=faults) as network:
            await scenario(FakeBackend(network))

    run_virtual(body(), seed)


async def until(condition: Callable[[], bool], within_ms: float = 10 * HEARTBEAT_MS) -> None:
    """Look until it holds. Raises AssertionError naming the condition's place after ``within_ms``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_ms / 1_000
    while not condition():
        code = condition.__code__
        assert loop.time() < deadline, f"not within {within_ms} ms: {code.co_filename}:{code.co_firstlineno}"
        await asyncio.sleep(0.005)
