"""Places and the queue before them: never more than the bound, first come first served, nothing lost by a cancel."""

import asyncio

import pytest

from runtime.store.api import Temporary
from runtime.store.slots import Slots
from tests.support.aio import run


def test_places_are_taken_at_once_and_waited_for_in_order() -> None:
    async def body() -> None:
        slots = Slots(2, queue=10, wait_ms=60_000)
        await slots.take()
        await slots.take()
        order: list[int] = []

        async def waiter(n: int) -> None:
            await slots.take()
            order.append(n)

        waiters = [asyncio.ensure_future(waiter(n)) for n in range(3)]
        await asyncio.sleep(0)
        assert (slots.taken, slots.statistics()["waiting"], order) == (2, 3, [])
        for _ in range(3):
            slots.give()
        await asyncio.gather(*waiters)
        assert (slots.taken, order) == (2, [0, 1, 2])
        slots.give()
        slots.give()
        assert slots.taken == 0
        assert slots.statistics()["waits"] == 3

    run(body())


def test_who_is_cancelled_as_a_place_is_given_only_goes() -> None:
    async def body() -> None:
        slots = Slots(1, queue=10, wait_ms=60_000)
        await slots.take()
        leaving, staying = asyncio.ensure_future(slots.take()), asyncio.ensure_future(slots.take())
        await asyncio.sleep(0)
        leaving.cancel()  # what it waits for is cancelled at once, itself at its next turn
        slots.give()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await staying
        assert (slots.taken, slots.statistics()["waiting"]) == (1, 0)

    run(body())


def test_a_full_queue_and_a_long_wait_are_refused() -> None:
    async def body() -> None:
        slots = Slots(1, queue=1, wait_ms=50)
        await slots.take()
        waiting = asyncio.ensure_future(slots.take())
        await asyncio.sleep(0)
        with pytest.raises(Temporary, match="1 calls are under way and 1 wait"):
            await slots.take()
        with pytest.raises(Temporary, match=r"waited 0\.1 s for one of 1 places"):
            await waiting
        assert slots.statistics() | {"longest_wait_ms": 0} == {
            "in_flight": 1,
            "waiting": 0,
            "waits": 1,
            "refused": 2,
            "longest_wait_ms": 0,
        }
        assert slots.statistics()["longest_wait_ms"] >= 45
        slots.give()
        await slots.take()

    run(body())


@pytest.mark.parametrize("given_first", [False, True])
def test_a_cancelled_waiter_takes_no_place_with_him(given_first: bool) -> None:
    async def body() -> None:
        slots = Slots(1, queue=10, wait_ms=60_000)
        await slots.take()
        first, second = (asyncio.ensure_future(slots.take()) for _ in range(2))
        await asyncio.sleep(0)
        if given_first:
            slots.give()  # his, but he is cancelled before he runs
        first.cancel()
        await asyncio.wait([first])
        if not given_first:
            slots.give()
        await second
        assert (slots.taken, slots.statistics()["waiting"]) == (1, 0)
        slots.give()
        assert slots.taken == 0

    run(body())


def test_who_closes_waits_until_no_place_is_taken_but_not_for_ever() -> None:
    async def body() -> None:
        slots = Slots(2, queue=1, wait_ms=1)
        await slots.emptied(60_000)
        await slots.take()
        await slots.emptied(10)
        emptied = asyncio.ensure_future(slots.emptied(60_000))
        await asyncio.sleep(0)
        assert not emptied.done()
        slots.give()
        await emptied

    run(body())
