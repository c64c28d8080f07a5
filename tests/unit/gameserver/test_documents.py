"""Writes whose fate becomes known."""

import random

import msgspec
import pytest

from gameserver.documents import NOT_THERE, Documents, Overtaken, Stamp
from runtime.service import Service
from runtime.store.api import Ambiguous, Unavailable
from runtime.store.memory import Faults, MemoryStore
from tests.support.virtual import run_virtual

KEY = "avatar:1"


def made(faults: Faults | None = None) -> tuple[Documents, MemoryStore]:
    store = MemoryStore(faults)
    return Documents(Service.for_test(), store), store


def stamped(write_id: str) -> bytes:
    return msgspec.json.encode(Stamp(write_id))


@pytest.mark.parametrize("fate", ["lost", "applied", "late"])
def test_an_ambiguous_write_lands_exactly_once(fate: str) -> None:
    async def scenario() -> None:
        faults = Faults(random.Random(1))
        documents, store = made(faults)
        cas = await documents.write(KEY, stamped("a"), NOT_THERE, "a")
        setattr(faults, fate, 0.7)
        for n in range(20):
            write_id = documents.new_write_id()
            cas = await documents.write(KEY, stamped(write_id), cas, write_id)
            found = store.table.documents[KEY]
            assert (found.value, found.cas) == (stamped(write_id), cas), n
        assert documents.ambiguous > 10

    run_virtual(scenario())


def test_another_writer_is_never_overwritten() -> None:
    async def scenario() -> None:
        documents, store = made()
        cas = await documents.write(KEY, stamped("a"), NOT_THERE, "a")
        store.table.put(KEY, stamped("theirs"))
        with pytest.raises(Overtaken) as overtaken:
            await documents.write(KEY, stamped("mine"), cas, "mine")
        assert overtaken.value.found == store.table.documents[KEY]
        with pytest.raises(Overtaken):
            await documents.write(KEY, stamped("new"), NOT_THERE, "new")
        assert store.table.documents[KEY].value == stamped("theirs")

    run_virtual(scenario())


def test_giving_up_says_whether_the_write_may_still_land() -> None:
    async def scenario() -> None:
        faults = Faults(random.Random(1))
        documents, _ = made(faults)
        faults.unavailable.append((0.0, float("inf")))
        with pytest.raises(Unavailable):
            await documents.write(KEY, stamped("a"), NOT_THERE, "a", give_up_ms=1_500)
        assert documents.failing_ms() > 1_000
        with pytest.raises(Unavailable):
            await documents.read(KEY, give_up_ms=1_500)
        faults.unavailable.clear()
        assert await documents.read(KEY) is None
        assert documents.failing_ms() == 0

    run_virtual(scenario())


def test_a_hung_store_leaves_the_fate_of_a_write_open() -> None:
    async def scenario() -> None:
        documents, store = made()
        store.pause()
        with pytest.raises(Ambiguous):
            await documents.write(KEY, stamped("a"), NOT_THERE, "a", give_up_ms=3_000)
        store.resume()
        assert store.table.documents[KEY].value == stamped("a"), "it landed after all"

    run_virtual(scenario())
