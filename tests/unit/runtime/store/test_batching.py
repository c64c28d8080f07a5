"""Writes on their way to the store: what leaves together, what apart, and what each caller hears."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from runtime.mesh.api import Refused, Sender
from runtime.store.api import (
    Ambiguous,
    Batched,
    CasMismatch,
    Durability,
    Exists,
    NotFound,
    Temporary,
    TooLarge,
    Unavailable,
)
from runtime.store.client import StoreClient
from runtime.store.memory import MemoryStore
from runtime.store.server import StoreServer
from runtime.store.sqlite import SqliteStore
from tests.support.aio import run
from tests.support.store_plane import ME, Plane, plane_over
from world import limits
from world.ids import NodeId
from world.messages import BatchedWrite, Message, Problem, StoreWrite, StoreWrites, StoreWritten


class Recorder:
    """Notes the writes of each message that arrives, and lets the store's server answer it."""

    def __init__(self, plane: Plane) -> None:
        self.arrived: list[list[str]] = []  # keys, by message
        for kind in (StoreWrite, StoreWrites):
            plane.handlers[kind] = self._noting(plane.handlers[kind])

    def _noting(self, handler: Any) -> Any:
        def handle(sender: Sender, message: Any) -> Any:
            writes = message.writes if isinstance(message, StoreWrites) else [message]
            self.arrived.append([write.key for write in writes])
            return handler(sender, message)

        return handle


def fixture() -> tuple[MemoryStore, Plane, Recorder, StoreClient]:
    store = MemoryStore()
    plane = plane_over(store)
    return store, plane, Recorder(plane), StoreClient(plane)


async def outcomes(*calls: Awaitable[object]) -> list[object]:
    """Values, and the types of errors."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    return [type(outcome) if isinstance(outcome, BaseException) else outcome for outcome in found]


async def written(store: Batched, writes: list[BatchedWrite]) -> list[Any]:
    whole: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    store.write_many(writes, whole.set_result)
    return await whole


def test_what_is_asked_in_one_turn_leaves_together_and_what_is_asked_later_does_not() -> None:
    async def body() -> None:
        store, _, recorder, client = fixture()
        tokens = await asyncio.gather(*(client.insert(f"a:{n}", b"") for n in range(3)))
        await client.insert("a:3", b"")
        assert tokens == [1, 2, 3]
        assert recorder.arrived == [["a:0", "a:1", "a:2"], ["a:3"]]
        assert (client.statistics.writes, client.statistics.messages, client.statistics.largest) == (4, 2, 3)
        assert client.unanswered_writes == 0
        assert len(store.table.documents) == 4

    run(body())


def test_each_write_of_a_message_is_answered_for_itself() -> None:
    async def body() -> None:
        store, _, _, client = fixture()
        await client.insert("a:1", b"old")
        found = await outcomes(
            client.insert("a:1", b""),
            client.insert("a:2", b""),
            client.replace("a:1", b"", 9),
            client.replace("a:9", b"", 1),
            client.remove("a:1", 1),
        )
        assert found == [Exists, 2, CasMismatch, NotFound, None]
        assert list(store.table.documents) == ["a:2"]

    run(body())


def test_writes_that_wait_for_no_disk_travel_apart() -> None:
    async def body() -> None:
        _, _, recorder, client = fixture()
        await asyncio.gather(
            client.insert("a:1", b""),
            client.insert("a:2", b"", durability=Durability.NONE),
            client.insert("a:3", b"", durability=Durability.MAJORITY),
        )
        assert sorted(recorder.arrived) == [["a:1", "a:3"], ["a:2"]]

    run(body())


def test_a_message_is_bounded_in_writes_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.store.batching.STORE_BATCH_WRITES", 2)
    monkeypatch.setattr("runtime.store.batching.STORE_BATCH_BYTES", 1_000)

    async def body() -> None:
        _, _, recorder, client = fixture()
        sizes = {"a:1": 10, "a:2": 10, "a:3": 10, "a:4": 995, "a:5": 5_000, "a:6": 10}
        await asyncio.gather(*(client.insert(key, b"x" * size) for key, size in sizes.items()))
        assert recorder.arrived == [["a:1", "a:2"], ["a:3"], ["a:4"], ["a:5"], ["a:6"]]

    run(body())


def test_writes_beyond_the_bound_are_refused_as_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.store.batching.STORE_CLIENT_WRITES", 2)

    async def body() -> None:
        store, _, _, client = fixture()
        assert await outcomes(*(client.insert(f"a:{n}", b"") for n in range(3))) == [1, 2, Unavailable]
        assert list(store.table.documents) == ["a:0", "a:1"]
        assert client.statistics.refused == 1
        assert await client.insert("a:3", b"") == 3

    run(body())


def test_a_store_of_an_older_release_is_sent_its_writes_one_by_one() -> None:
    async def body() -> None:
        _, plane, recorder, client = fixture()
        plane.joined(1, protocol=limits.MESH_PROTOCOL_BATCHES - 1)
        assert await outcomes(client.insert("a:1", b""), client.insert("a:1", b"")) == [1, Exists]
        assert await client.remove("a:1", 1) is None  # type: ignore[func-returns-value]
        assert recorder.arrived == [["a:1"], ["a:1"], ["a:1"]]

    run(body())


@pytest.mark.parametrize(
    "reply", [StoreWritten([1]), StoreWritten([1, 2, 3]), Problem("internal"), Problem("reply_too_big")]
)
def test_an_answer_that_says_nothing_of_the_writes_leaves_them_ambiguous(reply: Message) -> None:
    async def body() -> None:
        _, plane, _, client = fixture()
        plane.handlers[StoreWrites] = lambda sender, message: reply
        assert await outcomes(client.insert("a:1", b""), client.insert("a:2", b"")) == [Ambiguous, Ambiguous]
        assert client.unanswered_writes == 0

    run(body())


def test_a_caller_that_is_cancelled_harms_no_other_write() -> None:
    async def body() -> None:
        store, _, _, client = fixture()
        calls = [asyncio.ensure_future(client.insert(f"a:{n}", b"")) for n in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
        assert await outcomes(*calls) == [1, asyncio.CancelledError, 3]
        assert len(store.table.documents) == 3

    run(body())


def test_a_bug_in_the_store_leaves_a_whole_message_ambiguous() -> None:
    class Broken(MemoryStore):
        async def insert(self, key: str, value: bytes, *, durability: Durability = Durability.NONE) -> int:
            raise ValueError("a bug")

    async def body() -> None:
        plane = Plane()
        server = StoreServer(plane, Broken(), lambda: 1)
        write = StoreWrites(1, [BatchedWrite("insert", "a:1"), BatchedWrite("insert", "a:2")])
        with pytest.raises(ValueError, match="a bug"):
            await plane.handlers[StoreWrites](ME, write)
        await server.drain()  # and nothing is left running

    run(body())


def test_too_many_writes_at_once_are_refused_before_any_is_applied() -> None:
    async def body() -> None:
        store, plane, _, client = fixture()
        node = NodeId(client._store().id)
        writes = [BatchedWrite("insert", f"a:{n}") for n in range(limits.STORE_BATCH_WRITES + 1)]
        for wrong in (writes, []):
            with pytest.raises(Refused) as caught:
                await plane.call(node, StoreWrites(1, wrong))
            assert caught.value.code == TooLarge.code
        assert not store.table.documents

    run(body())


def test_sqlite_takes_many_at_once_and_refuses_each_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_QUEUE_WRITES", 3)

    async def body() -> None:
        store = SqliteStore(tmp_path / "world.sqlite")
        assert isinstance(store, Batched)
        assert not isinstance(MemoryStore(), Batched)
        first = await store.insert("a:1", b"old")
        found = await written(
            store,
            [
                BatchedWrite("insert", "no key"),
                BatchedWrite("counter", "a:1"),
                BatchedWrite("replace", "a:1", b"new", first),
                BatchedWrite("remove", "a:1", b"", first),
                BatchedWrite("insert", "a:2", b"", 0, Durability.NONE),
                BatchedWrite("insert", "a:3"),
            ],
        )
        kinds = [type(outcome) for outcome in found]
        assert kinds == [TooLarge, TooLarge, int, CasMismatch, int, Temporary]
        assert (await store.get("a:1")).value == b"new"
        assert store.statistics()["unanswered_writes"] == 0
        assert len(await written(store, [BatchedWrite("insert", f"b:{n}") for n in range(3)])) == 3
        await store.close()
        with pytest.raises(Unavailable):
            await written(store, [BatchedWrite("insert", "a:4")])

    run(body())
