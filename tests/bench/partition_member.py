"""A member of the mesh that publishes digests, listens to the other's and calls it, and says how that goes.

It also takes streams as a store does, and asks the other by one. A line on stdout every LOOK_S: ``[monotonic s, ms
since anything was heard of the other, staleness of its cells in ms, ms since its last answered call began, ms since its
last answered call of a store began]``. ``python -m tests.bench.partition_member`` with PROJECTK_ variables.
"""

import asyncio
import contextlib
import json
import sys
import time

import numpy as np

from runtime.cells import CellPublishing, CellSubscriber
from runtime.mesh.api import Mesh, MeshError
from runtime.mesh.node import MeshNode
from runtime.mesh.open import open_mesh
from runtime.service import Service, run
from runtime.settings import read_settings
from runtime.store.app import listen, open_streams
from runtime.store.link import StoreLink
from runtime.store.server import Everywhere
from world.channels.publisher import CellPublisher, summary_of
from world.ids import NodeId, node_number
from world.limits import DIGEST_MS, STORE_CALL_MS
from world.messages import AskSnapshot, StoreCounter, StoreNumber

CELL = 7
LOOK_S = 0.05
CALL_EVERY_S = 0.1
CALL_MS = 500


class Probe:
    """Looks for one other game server in the book."""

    def __init__(self, service: Service, mesh: Mesh) -> None:
        self._node = service.node_id
        self._mesh = mesh
        summary = summary_of(np.array([CELL]), np.array([1], np.uint64))
        core = CellPublisher(node_number(self._node), mesh.me.generation)
        self._out = CellPublishing(service, mesh, core, lambda _cell, _world_ms: [], lambda: summary)
        self._in = CellSubscriber(service, mesh, lambda *_: None, lambda *_: None)
        self._in.want({CELL})
        self._answered_s = time.monotonic()
        self._link = StoreLink(mesh)
        self._stored_s = time.monotonic()
        self._asking: set[asyncio.Task[None]] = set()  # STORE_CALL_MS / CALL_EVERY_S of them at most

    def _other(self) -> NodeId | None:
        return next((NodeId(m.id) for m in self._mesh.book.members("gameserver") if m.id != self._node), None)

    async def publish(self) -> None:
        while True:
            self._out.digest()
            await asyncio.sleep(DIGEST_MS / 1_000)

    async def call(self) -> None:
        while True:
            began_s = time.monotonic()
            try:
                if other := self._other():
                    await self._mesh.call(other, AskSnapshot(CELL), deadline_ms=CALL_MS)
                    self._answered_s = began_s
            except MeshError:
                pass  # the next one may be answered
            await asyncio.sleep(CALL_EVERY_S)

    async def ask(self) -> None:
        """As many callers do: the next does not wait for the one before."""
        while True:
            if other := self._other():
                self._asking.add(task := asyncio.create_task(self._ask(other, time.monotonic())))
                task.add_done_callback(self._asking.discard)
            await asyncio.sleep(CALL_EVERY_S)

    async def _ask(self, other: NodeId, began_s: float) -> None:
        with contextlib.suppress(MeshError):
            await self._link.call(other, StoreCounter("n:1", 1), deadline_ms=STORE_CALL_MS)
            self._stored_s = max(self._stored_s, began_s)

    async def say(self) -> None:
        while True:
            if other := self._other():
                now_s = time.monotonic()
                stale_ms = self._in.staleness_ms(node_number(other))
                since_ms = [(now_s - answered_s) * 1_000 for answered_s in (self._answered_s, self._stored_s)]
                print(json.dumps([now_s, self._mesh.book.silent_ms(other), stale_ms, *since_ms]), flush=True)
            await asyncio.sleep(LOOK_S)


async def take_streams(service: Service, mesh: MeshNode) -> str:
    """Where it takes them; a counter is answered by what was to be added."""
    listener = listen(service, mesh)
    Everywhere(mesh, listener).serve(StoreCounter, lambda _sender, message: StoreNumber(message.delta))
    return await open_streams(service.settings, mesh, listener)


async def start(service: Service) -> None:
    mesh = await open_mesh(service, role="gameserver", node_id=service.node_id, generation=None, publishes_state=True)
    mesh.update_me(store=await take_streams(service, mesh))
    probe = Probe(service, mesh)
    for name in ("publish", "call", "ask", "say"):
        service.spawn(getattr(probe, name)(), name, loop=True)
    service.ready(command=mesh.me.command)


if __name__ == "__main__":
    sys.exit(run("gameserver", read_settings(), start))
