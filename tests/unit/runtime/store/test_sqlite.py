"""The SQLite store's own promises: groups, bounds, generations, statistics."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.store.api import Durability, NotFound, Temporary
from runtime.store.sqlite import SqliteStore
from runtime.store.writer import Group, Writer
from tests.support.aio import run
from world import limits
from world.message_values import BatchedWrite


@asynccontextmanager
async def opened(folder: Path, **options: Any) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(folder / "world.sqlite", **options)
    try:
        yield store
    finally:
        await store.close()


class Held:
    """Lets commits wait until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        commit = Writer._commit

        def held(writer: Writer, group: Group) -> None:
            self.reached.set()
            assert self.go.wait(10)
            commit(writer, group)

        monkeypatch.setattr(Writer, "_commit", held)

    async def until_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 10)


def test_the_generation_rises_at_each_opening(tmp_path: Path) -> None:
    async def body() -> None:
        for generation in (1, 2, 3):
            async with opened(tmp_path) as store:
                assert store.generation == generation

    run(body())


def test_a_generation_the_mesh_has_raised_is_kept(tmp_path: Path) -> None:
    async def body() -> None:
        async with opened(tmp_path) as store:
            await store.raise_generation(7)
            await store.raise_generation(5)
            assert store.generation == 7
        async with opened(tmp_path) as store:
            assert store.generation == 8

    run(body())


def test_documents_tokens_and_counters_outlive_the_process(tmp_path: Path) -> None:
    async def body() -> None:
        async with opened(tmp_path) as store:
            cas = await store.insert("a:1", b"kept")
            assert await store.counter("n:1", initial=40) == 40
        async with opened(tmp_path) as store:
            assert await store.get("a:1") == (b"kept", cas)
            assert await store.counter("n:1", delta=2) == 42
            await store.remove("a:1", cas)
            assert await store.insert("a:1", b"kept") > cas

    run(body())


def test_what_was_accepted_is_committed_by_close(tmp_path: Path) -> None:
    async def body() -> None:
        async with opened(tmp_path) as store:
            calls = [asyncio.ensure_future(store.insert(f"a:{n}", b"")) for n in range(100)]
            await asyncio.sleep(0)
        assert all(isinstance(cas, int) for cas in await asyncio.gather(*calls))
        async with opened(tmp_path) as store:
            assert len(await store.list("a")) == 100

    run(body())


def test_writes_of_one_turn_share_few_groups(tmp_path: Path) -> None:
    seen: list[int] = []

    async def body() -> None:
        async with opened(tmp_path, on_group=lambda writes, _ms: seen.append(writes)) as store:
            await asyncio.gather(*(store.insert(f"a:{n}", b"") for n in range(1_000)))
            figures = store.statistics()
            assert figures["writes"] == sum(seen) == 1_000
            assert figures["groups"] == len(seen) <= 50
            assert max(seen) == figures["largest_group"] <= limits.GROUP_COMMIT_WRITES
            assert figures["unanswered_writes"] == figures["unanswered_bytes"] == 0

    run(body())


def test_a_group_is_committed_although_more_keeps_coming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GROUP_COMMIT_MS", 0)

    async def body() -> None:
        async with opened(tmp_path) as store:
            await asyncio.gather(*(store.insert(f"a:{n}", b"") for n in range(20)))
            assert store.statistics()["largest_group"] == 1

    run(body())


def test_beyond_its_bound_the_queue_refuses_with_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_QUEUE_WRITES", 10)

    async def body() -> None:
        async with opened(tmp_path) as store:
            results = await asyncio.gather(*(store.insert(f"a:{n}", b"") for n in range(15)), return_exceptions=True)
            assert [type(result) for result in results] == [int] * 10 + [Temporary] * 5
            assert store.statistics()["refused"] == 5
            assert isinstance(await store.insert("a:20", b""), int)

    run(body())


def test_beyond_its_bytes_the_queue_refuses_with_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_QUEUE_BYTES", 10_000)

    async def body() -> None:
        async with opened(tmp_path) as store:
            results = await asyncio.gather(
                *(store.insert(f"a:{n}", b"x" * 3_000) for n in range(5)), return_exceptions=True
            )
            assert [type(result) for result in results] == [int] * 3 + [Temporary] * 2

    run(body())


def test_none_is_answered_before_the_commit_and_everything_else_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def body() -> None:
        async with opened(tmp_path) as store:
            full = asyncio.ensure_future(store.insert("a:1", b""))
            early = asyncio.ensure_future(store.insert("a:2", b"", durability=Durability.NONE))
            refused = asyncio.ensure_future(store.insert("a:1", b""))
            async with asyncio.timeout(5):
                cas = await early
                read = asyncio.ensure_future(store.get("a:2"))
                await asyncio.sleep(0.05)
                assert not full.done()
                assert not refused.done(), "a refusal depends on the uncommitted write before it"
                assert not read.done(), "a read behind an acknowledged write"
                held.go.set()
                assert (await read).cas == cas
                await full
                await asyncio.wait([refused])
            assert refused.exception() is not None

    run(body())


def test_writes_asked_for_together_are_answered_early_only_if_all_of_them_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def body() -> None:
        async with opened(tmp_path) as store:
            early, mixed = store._loop.create_future(), store._loop.create_future()
            waits, none = Durability.PERSIST_TO_MAJORITY, Durability.NONE
            store.write_many([BatchedWrite("insert", f"a:{n}", b"", 0, none) for n in range(2)], early.set_result)
            store.write_many(
                [BatchedWrite("insert", "b:1", b"", 0, none), BatchedWrite("insert", "b:2", b"", 0, waits)],
                mixed.set_result,
            )
            async with asyncio.timeout(5):
                assert len(await early) == 2
                await held.until_reached()
                await asyncio.sleep(0.05)
                assert not mixed.done()
                held.go.set()
                assert len(await mixed) == 2

    run(body())


def test_reads_do_not_wait_for_a_commit_and_see_nothing_uncommitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def body() -> None:
        async with opened(tmp_path) as store:
            write = asyncio.ensure_future(store.insert("a:1", b""))
            async with asyncio.timeout(5):
                await held.until_reached()
                with pytest.raises(NotFound):
                    await store.get("a:1")
            assert not write.done()
            held.go.set()
            await write
            assert (await store.get("a:1")).value == b""

    run(body())


class Watched:
    """Who commits, and how long that takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on_loop: list[bool] = []
        self.ms = 0.1
        loop, note = threading.get_ident(), Writer._note_commit

        def took(writer: Writer, group: Group) -> None:
            self.on_loop.append(threading.get_ident() == loop)
            group.commit_ms = self.ms
            note(writer, group)

        monkeypatch.setattr(Writer, "_note_commit", took)


async def settled(store: SqliteStore) -> None:
    """Twenty writes, after which it is known how quick the disk is."""
    for n in range(20):
        await store.insert(f"a:{n}", b"")


def test_the_loop_commits_small_groups_itself_while_the_disk_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quick is what was: before the first commits nobody knows. A disk that stalls holds the loop up once."""

    async def body() -> None:
        watched = Watched(monkeypatch)
        async with opened(tmp_path) as store:
            await settled(store)
            assert (watched.on_loop[0], watched.on_loop[-1]) == (False, True)
            watched.ms = 50.0
            for n in range(20, 25):
                await store.insert(f"a:{n}", b"")
            assert watched.on_loop[20:] == [True, False, False, False, False]
            watched.ms = 0.1
            for n in range(25, 80):
                await store.insert(f"a:{n}", b"")
            assert (watched.on_loop[30], watched.on_loop[-1]) == (False, True)

    run(body())


@pytest.mark.parametrize(("writes", "size"), [(limits.STORE_HERE_WRITES + 1, 1), (1, limits.STORE_HERE_BYTES + 1)])
def test_what_takes_longer_to_write_is_not_committed_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int, size: int
) -> None:
    async def body() -> None:
        watched = Watched(monkeypatch)
        async with opened(tmp_path) as store:
            await settled(store)
            await asyncio.gather(*(store.insert(f"b:{n}", bytes(size)) for n in range(writes)))
            assert watched.on_loop[19:] == [True] + [False] * (len(watched.on_loop) - 20)

    run(body())


def test_the_log_is_never_moved_into_the_file_on_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_CHECKPOINT_PAGES", limits.STORE_HERE_PAGES + 20)
    moved: list[bool] = []
    checkpoint, loop = Writer._checkpoint, threading.get_ident()

    def watched(writer: Writer) -> None:
        before = writer.statistics.checkpoints
        checkpoint(writer)
        if writer.statistics.checkpoints > before:
            moved.append(threading.get_ident() == loop)

    monkeypatch.setattr(Writer, "_checkpoint", watched)

    async def body() -> None:
        commits = Watched(monkeypatch)
        async with opened(tmp_path) as store:
            n = 0
            while len(moved) < 2:
                await store.insert(f"a:{n}", bytes(1_000))
                n += 1
        assert moved == [False, False]
        assert any(commits.on_loop)

    run(body())


def test_a_long_log_is_moved_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_CHECKPOINT_PAGES", 50)

    async def body() -> None:
        async with opened(tmp_path) as store:
            cas = await store.insert("a:1", b"x" * 10_000)
            for _ in range(400):
                cas = await store.replace("a:1", b"x" * 10_000, cas)
            assert store.statistics()["checkpoints"] > 5
            log = tmp_path / "world.sqlite-wal"
            assert log.stat().st_size < 120 * 4_200
        assert not log.exists() or log.stat().st_size == 0

    run(body())


def test_the_file_is_written_safely(tmp_path: Path) -> None:
    async def body() -> None:
        async with opened(tmp_path) as store:
            writer = store._opened.writer
            assert writer.pragma("journal_mode") == "wal"
            assert writer.pragma("synchronous") == 2

    run(body())


def test_close_releases_the_file_and_may_be_called_again(tmp_path: Path) -> None:
    async def body() -> None:
        async with opened(tmp_path) as store:
            await asyncio.gather(store.close(), store.close())
            async with opened(tmp_path) as another:
                assert another.generation == store.generation + 1
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("store-")]

    run(body())
