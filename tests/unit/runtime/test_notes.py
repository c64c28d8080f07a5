"""Notes reach every gateway, and only known kinds of bearable size are told."""

import asyncio
import random

import pytest

from runtime.mesh.fake import FakeNetwork
from runtime.notes import Notes
from runtime.service import Service
from tests.support.virtual import run_virtual
from world.limits import NOTE_BYTES
from world.messages import Noted


def test_every_gateway_hears_a_note_and_a_long_detail_is_left_out() -> None:
    heard: list[tuple[str, Noted]] = []

    async def main() -> None:
        network = FakeNetwork(random.Random(1))
        async with Service.for_test("gameserver", "gs1") as server, Service.for_test("gateway", "gw1") as gateway:
            mine = await network.mesh("gameserver", "gs1", service=server)
            theirs = await network.mesh("gateway", "gw1", service=gateway)
            theirs.serve(Noted, lambda sender, message: heard.append((sender.node, message)))
            await asyncio.sleep(1)
            notes = Notes(mine, server.clock)
            notes.note("death", node="gs2", generation=3)
            notes.note("handoff", unit="x" * NOTE_BYTES)
            with pytest.raises(KeyError):
                notes.note("gossip")
            await asyncio.sleep(1)
            server.stop()
            gateway.stop()

    run_virtual(main())
    assert [(node, n.kind, n.detail) for node, n in heard] == [
        ("gs1", "death", {"node": "gs2", "generation": 3}),
        ("gs1", "handoff", {"too_long": True}),
    ]
