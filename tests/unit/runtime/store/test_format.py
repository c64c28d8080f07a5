"""What a process makes sure of before it touches a world's documents."""

import asyncio
import random

import msgspec
import pytest

from runtime.service import StartRefused
from runtime.store.format import KEY, ClusterFormat, OutOfFormat, agree, raise_to
from runtime.store.memory import Faults, MemoryStore
from tests.support.aio import run
from tests.support.virtual import run_virtual
from world.limits import FORMAT, FORMAT_LOOK_MS


def store_with(value: bytes) -> MemoryStore:
    store = MemoryStore()
    store.table.insert(KEY, value)
    return store


def test_the_first_writes_it_and_the_next_agree() -> None:
    async def body() -> None:
        store = MemoryStore()
        await asyncio.gather(*(agree(store, 7) for _ in range(3)))
        found = msgspec.json.decode((await store.get(KEY)).value, type=ClusterFormat)
        assert found == ClusterFormat(FORMAT, 7)
        assert store.table.get(KEY).cas == 1, "written once"

    run(body())


def test_another_seed_a_later_format_and_nonsense_are_refused_and_left_as_they_are() -> None:
    async def body() -> None:
        for value, said in (
            (msgspec.json.encode(ClusterFormat(FORMAT, 8)), "--world-seed 7: this world was made with --world-seed 8;"),
            (msgspec.json.encode(ClusterFormat(FORMAT + 1, 7)), f"format {FORMAT + 1}, and this release writes"),
            (b"{", "cannot be read"),
        ):
            store = store_with(value)
            with pytest.raises(StartRefused, match=said):
                await agree(store, 7)
            assert store.table.get(KEY).value == value

    run(body())


def test_a_store_that_fails_and_loses_answers_is_asked_until_it_says() -> None:
    async def body() -> None:
        store = MemoryStore(Faults(random.Random(3), temporary=0.4, applied=0.3, lost=0.3))
        await agree(store, 7)
        assert store.table.get(KEY).cas == 1

    run_virtual(body())


# -- the agreed format over time ----------------------------------------------------------------------------
def document(number: int) -> bytes:
    return msgspec.json.encode(ClusterFormat(number, 7))


def test_a_raise_is_one_write_and_never_goes_back() -> None:
    async def body() -> None:
        store = store_with(b'{"format":1,"world_seed":7,"later":true}')
        assert await raise_to(store, 3) == (1, 3)
        assert await raise_to(store, 2) == (3, 3)
        assert await raise_to(store, 3) == (3, 3)
        found = await store.get(KEY)
        assert msgspec.json.decode(found.value) == {"format": 3, "world_seed": 7, "later": True}
        assert found.cas == 2, "raised once"

    run(body())


def test_two_who_raise_at_once_through_lost_answers_end_at_the_higher() -> None:
    async def body() -> None:
        store = MemoryStore(Faults(random.Random(5), applied=0.4, lost=0.4))
        store.table.insert(KEY, document(1))
        await asyncio.gather(raise_to(store, 2), raise_to(store, 3))
        assert msgspec.json.decode(store.table.get(KEY).value)["format"] == 3

    run_virtual(body())


def test_who_writes_documents_follows_a_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.store.format.FORMAT", 2)

    async def body() -> None:
        store = store_with(document(1))
        agreed = await agree(store, 7)
        assert agreed.number == 1, "an older cluster's, though this release knows 2"
        following = asyncio.create_task(agreed.follow(store))
        await raise_to(store, 2)
        await asyncio.sleep(FORMAT_LOOK_MS / 1_000 + 0.1)
        assert agreed.number == 2
        await raise_to(store, 3)
        with pytest.raises(OutOfFormat, match="documents have format 3 by now, and this release writes 1 to 2"):
            await following

    run_virtual(body())
