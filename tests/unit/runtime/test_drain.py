"""A drain is told in the book first, then what is here is given away, then the process stops."""

import asyncio
import random

from runtime.drain import drainable
from runtime.mesh.fake import FakeNetwork
from runtime.notes import Notes
from runtime.service import Service
from tests.support.virtual import run_virtual
from world.ids import NodeId
from world.messages import Drain, Noted, Ok


def test_an_operators_drain_is_told_given_away_and_ends() -> None:
    heard: list[Noted] = []
    told: list[str] = []

    async def main() -> None:
        network = FakeNetwork(random.Random(1))
        async with Service.for_test("gateway", "gw1") as gateway:
            theirs = await network.mesh("gateway", "gw1", service=gateway)
            theirs.serve(Noted, lambda _sender, message: heard.append(message))
            async with Service.for_test("gameserver", "gs1") as server:
                mine = await network.mesh("gameserver", "gs1", service=server)
                mine.update_me(status="ready")

                async def give_away() -> int:
                    await asyncio.sleep(1)
                    member = theirs.book.get(NodeId("gs1"))
                    told.append(member.status if member else "gone")
                    assert not server.stopping.is_set()
                    return 7

                drainable(server, mine, Notes(mine, server.clock), give_away)
                await asyncio.sleep(1)
                for _ in range(2):
                    answer = await theirs.call(NodeId("gs1"), Drain())
                    assert isinstance(answer, Ok)
                assert server.draining.is_set()
                async with asyncio.timeout(5):
                    await server.stopping.wait()
                await asyncio.sleep(0.1)
            gateway.stop()

    run_virtual(main())
    assert told == ["draining"]
    assert [note.detail for note in heard] == [
        {"node": "gs1", "state": "began"},
        {"node": "gs1", "state": "done", "units": 7},
    ]
