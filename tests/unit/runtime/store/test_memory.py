"""The in-memory store's faults: each does what its name says, and a seed repeats them. In virtual time: its delays and
windows are of the loop's time, which on a busy machine passes between one delay and the next."""

import asyncio
from random import Random

import pytest

from runtime.store.api import Ambiguous, StoreError, Temporary, Unavailable
from runtime.store.memory import Faults, MemoryStore
from tests.support.virtual import run_virtual
from world import limits


def test_lost_is_ambiguous_and_never_applied() -> None:
    async def body() -> None:
        store = MemoryStore(Faults(Random(1), lost=1.0))
        with pytest.raises(Ambiguous):
            await store.insert("a:1", b"")
        assert not store.table.documents

    run_virtual(body(), None)


def test_applied_is_ambiguous_and_applied() -> None:
    async def body() -> None:
        store = MemoryStore(Faults(Random(1), applied=1.0))
        for _ in range(2):  # the second is refused as Exists, and that answer is lost too
            with pytest.raises(Ambiguous):
                await store.insert("a:1", b"")
        assert list(store.table.documents) == ["a:1"]

    run_virtual(body(), None)


def test_late_is_applied_after_its_caller_heard_ambiguous() -> None:
    async def body() -> None:
        store = MemoryStore(Faults(Random(1), late=1.0, delay_ms=(1.0, 2.0)))
        with pytest.raises(Ambiguous):
            await store.insert("a:1", b"")
        assert not store.table.documents
        await asyncio.sleep(0.02)
        assert list(store.table.documents) == ["a:1"]

    run_virtual(body(), None)


def test_temporary_is_certainly_not_applied() -> None:
    async def body() -> None:
        store = MemoryStore(Faults(Random(1), temporary=1.0))
        with pytest.raises(Temporary):
            await store.insert("a:1", b"")
        with pytest.raises(Temporary):
            await store.get("a:1")
        assert not store.table.documents

    run_virtual(body(), None)


def test_reads_suffer_no_write_faults() -> None:
    async def body() -> None:
        faults = Faults(Random(1))
        store = MemoryStore(faults)
        await store.insert("a:1", b"x")
        faults.lost = faults.applied = 0.5
        assert (await store.get("a:1")).value == b"x"

    run_virtual(body(), None)


def test_an_unavailable_window_begins_and_ends_by_loop_time() -> None:
    async def body() -> None:
        now = asyncio.get_running_loop().time()
        store = MemoryStore(Faults(Random(1), unavailable=[(now, now + 0.05)]))
        with pytest.raises(Unavailable):
            await store.insert("a:1", b"")
        await asyncio.sleep(0.06)
        await store.insert("a:1", b"")

    run_virtual(body(), None)


def test_a_window_that_opens_before_the_answer_makes_a_write_ambiguous() -> None:
    async def body() -> None:
        now = asyncio.get_running_loop().time()
        store = MemoryStore(Faults(Random(1), delay_ms=(40.0, 40.0), unavailable=[(now + 0.06, now + 1)]))
        with pytest.raises(Ambiguous):
            await store.insert("a:1", b"")
        assert list(store.table.documents) == ["a:1"]

    run_virtual(body(), None)


def test_a_pause_holds_calls_and_applies_them_in_order_even_given_up_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_CALL_MS", 20)

    async def body() -> None:
        store = MemoryStore()
        store.pause()
        with pytest.raises(Ambiguous):
            await store.insert("a:1", b"given up")
        with pytest.raises(Unavailable):
            await store.get("a:1")
        patient = asyncio.ensure_future(store.insert("a:2", b""))
        await asyncio.sleep(0.005)
        assert not store.table.documents
        assert store.statistics()["held"] == 3
        store.resume()
        assert await patient == 2
        assert (await store.get("a:1")).value == b"given up"

    run_virtual(body(), None)


def test_a_pause_holds_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_QUEUE_WRITES", 3)

    async def body() -> None:
        store = MemoryStore()
        store.pause()
        calls = [asyncio.ensure_future(store.insert(f"a:{n}", b"")) for n in range(4)]
        await asyncio.sleep(0.005)
        with pytest.raises(Temporary):
            await calls[3]
        store.resume()
        assert await asyncio.gather(*calls[:3]) == [1, 2, 3]

    run_virtual(body(), None)


def test_close_during_a_pause_answers_everyone() -> None:
    async def body() -> None:
        store = MemoryStore()
        store.pause()
        write, read = asyncio.ensure_future(store.insert("a:1", b"")), asyncio.ensure_future(store.get("a:1"))
        await asyncio.sleep(0.005)
        await store.close()
        with pytest.raises(Ambiguous):
            await write
        with pytest.raises(Unavailable):
            await read

    run_virtual(body(), None)


def test_an_answer_never_comes_in_the_same_turn() -> None:
    async def body() -> None:
        store, order = MemoryStore(), []

        async def other() -> None:
            order.append("other")

        task = asyncio.ensure_future(other())
        await store.insert("a:1", b"")
        order.append("answer")
        await task
        assert order == ["other", "answer"]

    run_virtual(body(), None)


def test_the_same_seed_deals_the_same_fates() -> None:
    async def fates(seed: int) -> list[str]:
        store = MemoryStore(Faults(Random(seed), temporary=0.2, lost=0.2, applied=0.2, late=0.2))
        dealt = []
        for n in range(100):
            try:
                await store.insert(f"a:{n}", b"")
                dealt.append("well")
            except StoreError as error:
                dealt.append(error.code)
        return dealt

    async def body() -> None:
        assert await fates(7) == await fates(7)
        assert await fates(7) != await fates(8)
        assert {"well", "temporary", "ambiguous"} == set(await fates(7))

    run_virtual(body(), None)
