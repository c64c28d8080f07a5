"""What the store's client concludes from each way a call can fail."""

import asyncio
from collections.abc import Awaitable

import pytest

from runtime.store.api import (
    Ambiguous,
    CasMismatch,
    Durability,
    Exists,
    NotFound,
    StoreError,
    Temporary,
    Unavailable,
)
from runtime.store.batching import ERRORS
from runtime.store.client import StoreClient
from runtime.store.memory import MemoryStore
from runtime.store.server import StoreServer
from tests.support.aio import run
from tests.support.store_plane import Plane, plane_over
from world import limits
from world.messages import StoreDocs, StoreGet


def fixture() -> tuple[MemoryStore, Plane, StoreClient]:
    store = MemoryStore()
    plane = plane_over(store)
    return store, plane, StoreClient(plane)


def raises(error: type[StoreError], call: Awaitable[object]) -> Awaitable[None]:
    async def body() -> None:
        with pytest.raises(StoreError) as caught:
            await call
        assert type(caught.value) is error

    return body()


def test_without_a_store_in_the_book_nothing_was_applied() -> None:
    async def body() -> None:
        store, plane, client = fixture()
        plane.book.known = []
        await raises(Unavailable, client.insert("a:1", b""))
        await raises(Unavailable, client.get("a:1"))
        assert not store.table.documents

    run(body())


def test_a_call_that_was_never_sent_is_unavailable_not_ambiguous() -> None:
    async def body() -> None:
        _, plane, client = fixture()
        plane.unsent = True
        await raises(Unavailable, client.insert("a:1", b""))
        await raises(Unavailable, client.remove("a:1", 1))
        await raises(Unavailable, client.counter("a:1"))

    run(body())


@pytest.mark.parametrize("lost", ["lose_request", "lose_reply"])
def test_a_write_without_answer_is_ambiguous_a_read_unavailable(lost: str) -> None:
    async def body() -> None:
        store, plane, client = fixture()
        for call in (client.insert("a:1", b""), client.replace("a:1", b"", 1), client.counter("n:1")):
            setattr(plane, lost, True)
            with pytest.raises((Ambiguous, NotFound)):
                await call
        setattr(plane, lost, True)
        await raises(Unavailable, client.list("a"))
        assert ("a:1" in store.table.documents) == (lost == "lose_reply")

    run(body())


def test_a_write_that_meets_a_newer_generation_is_ambiguous_and_not_applied() -> None:
    """Had the old store applied it, Exists or CasMismatch from the new one would mean our own write."""

    async def body() -> None:
        store, plane, client = fixture()
        cas = await client.insert("a:1", b"old")

        async def restart() -> None:
            StoreServer(plane, store, lambda: 2)

        for call in (client.insert("a:2", b""), client.replace("a:1", b"new", cas), client.remove("a:1", cas)):
            plane.joined(1)
            plane.before_arrival = restart
            await raises(Ambiguous, call)
        assert store.table.documents["a:1"].value == b"old"
        plane.joined(2)
        await client.replace("a:1", b"new", cas)

    run(body())


def test_a_peer_without_handlers_yet_has_applied_nothing() -> None:
    async def body() -> None:
        plane = Plane()
        plane.joined(1)
        await raises(Unavailable, StoreClient(plane).insert("a:1", b""))
        await raises(Unavailable, StoreClient(plane).get("a:1"))

    run(body())


def test_every_store_error_survives_the_wire() -> None:
    class Failing(MemoryStore):
        def __init__(self, error: type[StoreError]) -> None:
            super().__init__()
            self.error = error

        async def insert(self, key: str, value: bytes, *, durability: Durability = Durability.NONE) -> int:
            raise self.error("as told")

    async def body() -> None:
        for error in ERRORS.values():
            await raises(error, StoreClient(plane_over(Failing(error))).insert("a:1", b""))
        assert {Exists, CasMismatch, Temporary} < set(ERRORS.values())

    run(body())


def test_a_bug_in_the_store_leaves_a_write_ambiguous() -> None:
    class Broken(MemoryStore):
        async def counter(self, key: str, *, delta: int = 1, initial: int = 1) -> int:
            raise StoreError("no code of ours")

    async def body() -> None:
        await raises(Ambiguous, StoreClient(plane_over(Broken())).counter("n:1"))

    run(body())


def test_a_page_fits_a_message_and_is_continued() -> None:
    async def body() -> None:
        store, plane, client = fixture()
        for n in range(100):
            await store.insert(f"a:{n}", b"x" * 50_000)
        reply = await plane.call(client._store().id, StoreGet([f"a:{n}" for n in range(100)]))  # type: ignore[arg-type]
        assert isinstance(reply, StoreDocs)
        assert 0 < sum(len(value) for _, value, _ in reply.docs) <= limits.STORE_PAGE_BYTES
        assert reply.looked == len(reply.docs) < 100
        assert len(await client.get_many([f"a:{n}" for n in range(100)])) == 100

    run(body())


def test_drain_answers_what_runs_and_refuses_what_comes() -> None:
    async def body() -> None:
        store = MemoryStore()
        plane = Plane()
        server = StoreServer(plane, store, lambda: 1)
        plane.joined(1)
        client = StoreClient(plane)
        store.pause()
        running = asyncio.ensure_future(client.insert("a:1", b""))
        for _ in range(5):
            await asyncio.sleep(0)
        draining = asyncio.ensure_future(server.drain())
        await asyncio.sleep(0)
        await raises(Unavailable, client.insert("a:2", b""))
        assert not draining.done()
        store.resume()
        assert await running == 1
        await draining

    run(body())
