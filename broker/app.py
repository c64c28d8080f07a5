"""The broker: exchanges addresses, nothing else. Soft state; with every broker dead nothing stops."""

import asyncio

from prometheus_client import Gauge

from broker.registry import Registry
from runtime.drain import drainable
from runtime.mesh import open_mesh
from runtime.mesh.node import MeshNode
from runtime.notes import Notes
from runtime.service import Service
from world.limits import BOOK_PUSH_MS, BROKER_FORGET_MS


class Broker:
    """Pushes the book to all members when it changes; joins are answered by the mesh itself, as by every member."""

    def __init__(self, service: Service, mesh: MeshNode) -> None:
        self._mesh = mesh
        self.registry = Registry()
        self._changed = asyncio.Event()
        self._members = Gauge(
            "projectk_broker_members", "Members in the book", labelnames=["role"], registry=service.metrics
        )
        mesh.book.on_change(self._changed.set)
        self._changed.set()

    async def run(self) -> None:
        """Gathers changes for BOOK_PUSH_MS; looks by itself too, because silence is a change nobody reports."""
        while True:
            try:
                async with asyncio.timeout(BROKER_FORGET_MS / 2_000):
                    await self._changed.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(BOOK_PUSH_MS / 1_000)
            self._changed.clear()
            self._push()

    def _push(self) -> None:
        page = self._mesh.page()
        if self.registry.due(page):
            self._mesh.tell_all(page)
        self._members.clear()
        for role, count in Registry.by_role(page.members).items():
            self._members.labels(role).set(count)


def build(service: Service, mesh: MeshNode) -> Broker:
    """The broker over a mesh that has joined; its loop runs in the service."""
    broker = Broker(service, mesh)
    service.spawn(broker.run(), "broker-push", loop=True)
    mesh.update_me(status="ready")
    return broker


async def start(service: Service) -> None:
    mesh = await open_mesh(
        service,
        role="broker",
        node_id=service.node_id,
        generation=None,
        publishes_state=False,
        subscribes_state=False,
    )
    build(service, mesh)
    drainable(service, mesh, Notes(mesh, service.clock))
    service.ready(command=mesh.me.command)
