"""The ring of notes: bounded, numbered, waited for."""

import asyncio

from gateway.noted import NoteRing
from runtime.mesh.api import Sender
from tests.support.virtual import run_virtual
from world.ids import NodeId
from world.limits import OPS_EVENTS_KEPT
from world.messages import Noted

FROM = Sender(NodeId("gs1"), 1)


def numbers(ring: NoteRing, after: int) -> list[int]:
    return [note.number for note in ring.since(after)]


def test_the_newest_are_kept_and_numbered_from_one() -> None:
    ring = NoteRing()
    assert ring.since(0) == []
    for n in range(1, 4):
        ring.hear(FROM, Noted("death", n, {"node": "gs2"}))
    assert numbers(ring, 0) == [1, 2, 3]
    assert numbers(ring, 2) == [3]
    assert numbers(ring, 3) == numbers(ring, 99) == []
    assert ring.since(2)[0].view() == {"n": 3, "kind": "death", "world_ms": 3, "by": "gs1", "detail": {"node": "gs2"}}
    for n in range(OPS_EVENTS_KEPT):
        ring.hear(FROM, Noted("repair", n, {}))
    assert ring.forgotten == 3
    assert numbers(ring, 0) == list(range(4, OPS_EVENTS_KEPT + 4))


def test_readers_wait_for_the_next_one() -> None:
    async def play() -> None:
        ring = NoteRing()
        async with asyncio.timeout(1):
            async with asyncio.TaskGroup() as group:
                waiting = [group.create_task(ring.wait(0)) for _ in range(2)]
                await asyncio.sleep(0.1)
                assert not any(task.done() for task in waiting)
                ring.hear(FROM, Noted("death", 1, {}))
            await ring.wait(0)

    run_virtual(play())
