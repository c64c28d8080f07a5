"""What a process makes sure of before it touches a world's documents."""

import asyncio
import random

import msgspec
import pytest

from runtime.service import StartRefused
from runtime.store.format import KEY, ClusterFormat, agree
from runtime.store.memory import Faults, MemoryStore
from tests.support.aio import run
from tests.support.virtual import run_virtual
from world.limits import FORMAT


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
