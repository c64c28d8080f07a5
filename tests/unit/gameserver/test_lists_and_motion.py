"""The lists of owned units, and the motion document."""

import asyncio
import random

import msgspec
import pytest

from gameserver.death import SelfDead
from gameserver.documents import Documents
from gameserver.motion_document import MotionLog
from gameserver.owned_lists import OwnedLists
from gameserver.records import OwnedList, owned_key, shard_of
from runtime.service import Service
from runtime.store.api import Unavailable
from runtime.store.memory import Faults, MemoryStore
from tests.support.virtual import run_virtual

UNITS = [f"region:{n},1" for n in range(40)]


def listed(store: MemoryStore) -> set[str]:
    return {
        unit
        for key, document in store.table.documents.items()
        if key.startswith("owned:")
        for unit in msgspec.json.decode(document.value, type=OwnedList).units
    }


def test_a_unit_is_listed_before_hold_returns_and_goes_when_cleaned() -> None:
    async def scenario() -> None:
        faults = Faults(random.Random(1), lost=0.2, applied=0.2, delay_ms=(1.0, 5.0))
        store = MemoryStore(faults)
        service = Service.for_test()
        lists = OwnedLists(service, Documents(service, store), 3)

        async def hold(unit: str) -> None:
            await lists.hold(unit)
            assert unit in listed(store)

        await asyncio.gather(*(hold(unit) for unit in UNITS))
        for unit in UNITS[:20]:
            lists.discard(unit)
        assert listed(store) == set(UNITS), "a superset until cleaned"
        await lists.hold(UNITS[0])
        await lists.clean()
        assert listed(store) == {UNITS[0], *UNITS[20:]}

    run_virtual(scenario())


def test_a_closed_list_means_that_i_am_dead() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        service = Service.for_test()
        lists = OwnedLists(service, Documents(service, store), 3)
        await lists.hold(UNITS[0])
        key = owned_key("gs1", 3, shard_of(UNITS[0]))
        store.table.put(key, msgspec.json.encode(OwnedList([UNITS[0]], closed_by="gs2:1")))
        lists.discard(UNITS[0])
        with pytest.raises(SelfDead):
            await lists.clean()

    run_virtual(scenario())


def test_a_list_write_given_up_does_not_close_the_door() -> None:
    async def scenario() -> None:
        faults = Faults(random.Random(1))
        store = MemoryStore(faults)
        service = Service.for_test()
        lists = OwnedLists(service, Documents(service, store), 3)
        faults.unavailable.append((0.0, float("inf")))
        with pytest.raises(Unavailable):
            await lists.hold(UNITS[0], 500)
        faults.unavailable.clear()
        await lists.hold(UNITS[0], 500)
        assert UNITS[0] in listed(store)

    run_virtual(scenario())


def test_the_motion_document_holds_the_last_row_of_everyone_present() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        service = Service.for_test()
        rows: list[list[float]] = []

        def moved() -> list[list[float]]:
            taken = rows.copy()
            rows.clear()
            return taken

        documents = Documents(service, store)
        mine, reader = MotionLog(service, documents, 4, moved), MotionLog(service, documents, 5, list)
        rows += [[1, 2, 7, 10.0, 11.0, 99], [2, 1, 3, 20.0, 21.0, 5]]
        await mine.write(1_000)
        rows += [[1, 2, 8, 12.0, 13.0, 100]]
        await mine.write(1_000)
        assert await reader.row("gs1", 4, 1, 2) == (1, 2, 8, 12.0, 13.0, 100)
        assert await reader.row("gs1", 4, 2, 1) == (2, 1, 3, 20.0, 21.0, 5)
        assert await reader.row("gs1", 4, 1, 3) is None, "of another epoch"
        assert await reader.row("gs1", 9, 1, 2) is None, "no such document"
        mine.forget(1)
        cas = store.table.documents["motion:gs1:4"].cas
        await mine.write(1_000)
        assert store.table.documents["motion:gs1:4"].cas > cas
        fresh = MotionLog(service, documents, 6, list)
        assert await fresh.row("gs1", 4, 1, 2) is None
        cas = store.table.documents["motion:gs1:4"].cas
        await mine.write(1_000)
        assert store.table.documents["motion:gs1:4"].cas == cas, "nobody moved, nothing is written"

    run_virtual(scenario())


def test_a_motion_document_that_was_lost_with_the_store_is_written_again() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        service = Service.for_test()
        x = iter(range(100))
        log = MotionLog(service, Documents(service, store), 4, lambda: [[1, 2, 7, float(next(x)), 0.0, 1]])
        await log.write(1_000)
        older = store.table.documents["motion:gs1:4"]
        await log.write(1_000)
        store.table.documents["motion:gs1:4"] = older  # the store restarted without its last, unflushed write
        await log.write(1_000)
        await log.write(1_000)
        assert b"3.0" in store.table.documents["motion:gs1:4"].value

    run_virtual(scenario())


def test_all_avatars_of_a_dead_server_are_served_by_one_read_of_its_motion_document() -> None:
    async def scenario() -> None:
        faults = Faults(random.Random(1), delay_ms=(5.0, 5.0))
        store = MemoryStore(faults)
        service = Service.for_test()
        rows = [[n, 1, 7, float(n), 0.0, n] for n in range(50)]
        await MotionLog(service, Documents(service, store), 4, lambda: rows).write(1_000)
        reads = store.statistics().get("well", 0)
        reader = MotionLog(service, Documents(service, store), 5, list)
        found = await asyncio.gather(*(reader.row("gs1", 4, n, 1) for n in range(50)))
        assert found == [tuple(row) for row in rows]
        assert store.statistics()["well"] == reads + 1
        faults.unavailable.append((0.0, float("inf")))
        lost = await asyncio.gather(*(reader.row("gs2", 4, n, 1) for n in range(3)), return_exceptions=True)
        assert [type(problem) for problem in lost] == [Unavailable] * 3

    run_virtual(scenario())
