"""Channels taken anew are told of to gateways, once a second and publisher."""

import asyncio
import random

from runtime.mesh.fake import FakeNetwork
from runtime.notes import RepairNotes
from runtime.service import Service
from tests.support.virtual import run_virtual
from tests.unit.gameserver.test_state import ANA, World, X, Y, pause, play
from world.grid import cell_at
from world.ids import NodeId
from world.limits import PUBLISHER_RECONNECT_MS, REPAIR_NOTE_MS
from world.messages import Noted

GS1 = NodeId("gs1")


def test_bursts_are_told_by_their_first_and_counted() -> None:
    heard: list[Noted] = []

    async def main() -> None:
        async with Service.for_test("gateway", "gw1") as service:
            mesh = await FakeNetwork(random.Random(1)).mesh("gateway", "gw1", service=service)
            mesh.serve(Noted, lambda _sender, note: heard.append(note))
            repairs = RepairNotes(mesh, service.clock)
            for cell in range(5):
                repairs.repaired(GS1, cell)
            repairs.repaired(NodeId("gs2"), 7)
            await asyncio.sleep(REPAIR_NOTE_MS / 1_000)
            repairs.repaired(GS1, None)
            await asyncio.sleep(0.1)
            service.stop()

    run_virtual(main())
    told = [(note.detail["publisher"], note.detail["cell"], note.detail["more"]) for note in heard]
    assert told == [("gs1", 0, 0), ("gs2", 7, 0), ("gs1", None, 4)]


def test_a_silent_link_that_is_made_anew_is_told() -> None:
    heard: list[Noted] = []

    async def scene(world: World) -> None:
        await world.server("gs1")
        cells = await world.gateway()
        mesh = cells._mesh
        mesh.serve(Noted, lambda _sender, note: heard.append(note))
        cells.want([cell_at(10.0, 10.0)])
        await pause(1_000)
        assert heard == [], "joining is no repair"
        world.network.faults.frame_loss = 1.0
        await pause(PUBLISHER_RECONNECT_MS + 1_000)

    play(scene)
    assert {(n.kind, n.detail["publisher"], n.detail["cell"], n.detail["node"]) for n in heard} == {
        ("repair", "gs1", None, "gw1")
    }


def test_a_channel_whose_subscription_was_lost_is_told_when_it_is_taken_anew() -> None:
    heard: list[Noted] = []
    cell = cell_at(X, Y)

    async def scene(world: World) -> None:
        one = await world.server("gs1")
        one.add(ANA, 1, X, Y, moves=True)
        cells = await world.gateway()
        cells._mesh.serve(Noted, lambda _sender, note: heard.append(note))
        await pause(1_000)
        world.network.faults.subscription_loss = 1.0
        cells.want([cell])
        for _ in range(10):
            one.area_event(ANA, b'{"kind":"say"}')
            await pause(300)

    play(scene)
    assert heard
    assert {(n.detail["publisher"], n.detail["cell"]) for n in heard} == {("gs1", cell)}
