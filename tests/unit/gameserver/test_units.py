"""The table of units: one write in flight, joined writes, bounded waits, fences."""

import asyncio
import random

import pytest

from gameserver.documents import NOT_THERE, Documents
from gameserver.units import Fenced, Owned, StoreGone, UnitFull, UnitTable
from runtime.service import Service
from runtime.store.api import Durability
from runtime.store.memory import Faults, MemoryStore
from tests.support.virtual import run_virtual
from world import limits
from world.entity import WRITE_BEHIND
from world.ids import AVATAR_KIND, entity_id
from world.limits import WRITE_BEHIND_MS
from world.messages import Deliver
from world.unit import Property, Unit
from world.unit_document import Head

AVATAR = entity_id(AVATAR_KIND, 7)


class Shop:
    """A table with one avatar's unit in it, and what it reported."""

    def __init__(self, service: Service, faults: Faults | None = None) -> None:
        self.store = MemoryStore(faults)
        self.documents = Documents(service, self.store)
        self.landed: list[int] = []
        self.dropped: list[str] = []
        self.table = UnitTable(service, self.documents, 1, self._landed, lambda owned: self.dropped.append(owned.key))
        service.spawn(self.table.write_behind(), "write-behind", loop=True)
        self.gifts = 0

    def _landed(self, owned: Owned, changes: list[Property]) -> None:
        self.landed.append(owned.unit.committed)

    async def stock(self) -> Owned:
        unit = Unit.new_avatar(AVATAR, "Ada", 1.0, 2.0)
        version = unit.begin_write()
        value = unit.document("gs1", 1, "first")
        unit.landed(version, await self.documents.write(unit.key, value, NOT_THERE, "first"))
        return self.table.install(unit)

    def give(self, owned: Owned) -> int:
        """A change of class COMMIT; the version to await."""
        self.gifts += 1
        version = owned.unit.deliver(Deliver("region:1,1", 1, self.gifts, 0, owned.key, owned.unit.epoch, {"wood": 1}))
        self.table.touch(owned)
        return version

    @property
    def head(self) -> Head:
        return Head.parse(self.store.table.documents[f"avatar:{AVATAR}"].value)


def test_changes_during_a_write_join_the_next_one() -> None:
    async def scenario() -> None:
        async with Service.for_test() as service:
            shop = Shop(service, Faults(random.Random(1), delay_ms=(10.0, 10.0)))
            owned = await shop.stock()
            versions = []
            for _ in range(10):
                versions.append(shop.give(owned))
                await asyncio.sleep(0.001)
            await asyncio.gather(*(shop.table.committed(owned, version) for version in versions))
            assert shop.table.writes == 2
            assert owned.unit.view(AVATAR).values["items"] == {"wood": 10}
            assert shop.landed == [2, 3]

    run_virtual(scenario())


def test_nothing_is_acknowledged_before_its_write_landed() -> None:
    async def scenario() -> None:
        async with Service.for_test() as service:
            shop = Shop(service)
            owned = await shop.stock()
            shop.store.pause()
            version = shop.give(owned)
            with pytest.raises(StoreGone):
                await shop.table.committed(owned, version)
            assert owned.unit.view(AVATAR).values["items"] == {}, "nobody sees it"
            shop.store.resume()
            await shop.table.committed(owned, version)
            assert owned.unit.view(AVATAR).values["items"] == {"wood": 1}, "and it has its effect once"
            assert owned.waiters == []

    run_virtual(scenario())


def test_write_behind_is_written_within_its_time() -> None:
    async def scenario() -> None:
        async with Service.for_test() as service:
            shop = Shop(service)
            owned = await shop.stock()
            owned.unit.save(WRITE_BEHIND)
            shop.table.touch(owned)
            await asyncio.sleep(WRITE_BEHIND_MS / 1_000 + 0.01)
            assert shop.head.version == 2

    run_virtual(scenario())


def test_each_class_is_written_as_durably_as_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is joined in one write the most urgent counts."""
    levels: list[Durability] = []
    replace = MemoryStore.replace

    async def noted(store: MemoryStore, key: str, value: bytes, cas: int, *, durability: Durability) -> int:
        levels.append(durability)
        return await replace(store, key, value, cas, durability=durability)

    monkeypatch.setattr(MemoryStore, "replace", noted)

    async def scenario() -> None:
        async with Service.for_test() as service:
            shop = Shop(service, Faults(random.Random(1), delay_ms=(10.0, 10.0)))
            owned = await shop.stock()
            owned.unit.save(WRITE_BEHIND)
            shop.table.touch(owned)
            await shop.table.committed(owned, 2)
            assert levels == [Durability.MAJORITY]
            owned.unit.save(WRITE_BEHIND)
            await shop.table.committed(owned, shop.give(owned))
            assert levels == [Durability.MAJORITY, Durability.PERSIST_TO_MAJORITY]
            owned.unit.save(WRITE_BEHIND)
            waiting = service.spawn(shop.table.committed(owned, 4), "waits for what is written behind")
            await asyncio.sleep(0.005)
            version = shop.give(owned)
            assert version == 5, "not of the write in flight, which is less durable"
            await shop.table.committed(owned, version)
            assert waiting.done()
            assert levels[2:] == [Durability.MAJORITY, Durability.PERSIST_TO_MAJORITY]

    run_virtual(scenario())


def test_a_unit_taken_by_another_is_dropped_and_its_waiters_are_told() -> None:
    async def scenario() -> None:
        async with Service.for_test() as service:
            shop = Shop(service)
            owned = await shop.stock()
            theirs = Unit.load(owned.key, shop.store.table.documents[owned.key].value, owned.unit.cas, 0)
            theirs.take()
            theirs.begin_write()
            shop.store.table.put(owned.key, theirs.document("gs2", 5, "theirs"))
            with pytest.raises(Fenced):
                await shop.table.committed(owned, shop.give(owned))
            assert shop.dropped == [owned.key]
            assert (shop.head.owner, shop.head.epoch) == ("gs2", 2)
            with pytest.raises(Fenced):
                await shop.table.committed(owned, owned.unit.committed + 1)

    run_virtual(scenario())


def test_a_released_unit_has_no_owner_and_keeps_its_epoch() -> None:
    async def scenario() -> None:
        async with Service.for_test() as service:
            shop = Shop(service)
            owned = await shop.stock()
            shop.give(owned)
            assert await shop.table.release(owned)
            assert (shop.head.owner, shop.head.epoch) == ("", 1)
            assert shop.dropped == [owned.key]
            assert shop.table.get(owned.key) is None

    run_virtual(scenario())


def test_a_unit_stays_mine_when_the_store_cannot_take_its_release() -> None:
    async def scenario() -> None:
        async with Service.for_test() as service:
            faults = Faults(random.Random(1))
            shop = Shop(service, faults)
            owned = await shop.stock()
            faults.unavailable.append((0.0, float("inf")))
            assert not await shop.table.release(owned, 1_000)
            assert owned.serving
            faults.unavailable.clear()
            await shop.table.committed(owned, shop.give(owned))
            assert shop.head.owner == "gs1"

    run_virtual(scenario())


def test_a_unit_too_large_for_the_store_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not acknowledged of it is undone by dropping it; the writer of units goes on."""

    async def scenario() -> None:
        async with Service.for_test() as service:
            shop = Shop(service)
            owned = await shop.stock()
            await shop.table.committed(owned, shop.give(owned))
            before = shop.store.table.documents[owned.key]
            monkeypatch.setattr(limits, "STORE_VALUE_BYTES", len(before.value))
            with pytest.raises(UnitFull) as refused:
                await shop.table.committed(owned, shop.give(owned))
            assert refused.value.code == "unit_full"
            assert shop.dropped == [owned.key]
            assert shop.table.too_large == 1
            assert shop.store.table.documents[owned.key] == before
            monkeypatch.undo()
            other = Unit.load(owned.key, before.value, before.cas, 0)
            other.take()
            again = shop.table.install(other)
            await shop.table.committed(again, shop.give(again))

    run_virtual(scenario())


@pytest.mark.parametrize("give_up", ["release", "settle"])
def test_who_gives_up_a_unit_that_is_too_large_learns_that_it_is_gone(
    give_up: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with Service.for_test() as service:
            shop = Shop(service)
            owned = await shop.stock()
            monkeypatch.setattr(limits, "STORE_VALUE_BYTES", 10)
            if give_up == "release":
                assert await shop.table.release(owned)
            else:
                owned.unit.save()
                with pytest.raises(UnitFull):
                    await shop.table.settle(owned, 1_000)
            assert owned.gone
            assert owned.too_large

    run_virtual(scenario())
