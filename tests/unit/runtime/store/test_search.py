"""Searching the store's file: what is found, the bounds in rows and time, and that no commit waits for it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from runtime.mesh.api import Sender
from runtime.store import search_sqlite
from runtime.store.search import BadQuestion, Found, Hit, MeshSearch, Question, SearchRefused, asked
from runtime.store.search_sqlite import SqliteSearch, open_for_search, search, serve_search
from runtime.store.sqlite import SqliteStore
from tests.support.aio import run
from tests.support.store_plane import Plane
from world.ids import AVATAR_KIND, NodeId, entity_id
from world.kinds import TREE
from world.limits import SEARCH_QUEUED_SEARCHES

WAIT_S = 10.0


def avatar(number: int, name: str, server: str = "gs1", **items: int) -> tuple[str, bytes]:
    entity = entity_id(AVATAR_KIND, number)
    values = {"name": name} | ({"items": items} if items else {})
    document = {"format": 1, "owner": server, "data": {"entities": {str(entity): values}}}
    return f"avatar:{entity}", msgspec.json.encode(document)


CHEST = entity_id(TREE, 77)
DOCUMENTS = dict(
    [
        avatar(1, "Mossy Otter", wood=12, stone=1),
        avatar(2, "Quick otter", "gs2", wood=3),
        avatar(3, "Änne", "", wood=12),
        avatar(4, "Plain Heron"),
        ("region:1,1", b'{"owner":"","data":{"entities":{"%d":{"items":{"wood":40}}}}}' % CHEST),
        ("region:1,2", b'{"owner":"gs1","data":{"entities":{"5":{"wood":4}}}}'),
        ("avatar:broken", b"\xff{"),
        ("avatar:1", b'{"data":{"entities":[]}}'),
        ("account:x", b'{"name":"Mossy Otter","data":{"entities":{"1":{"items":{"wood":1000}}}}}'),
    ]
)


@asynccontextmanager
async def store(folder: Path, documents: dict[str, bytes] | None = None) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(folder / "world.sqlite")
    try:
        given = DOCUMENTS if documents is None else documents
        await asyncio.gather(*(opened.insert(key, value) for key, value in given.items()))
        yield opened
    finally:
        await opened.close()


def found(folder: Path, question: Question) -> Found:
    connection = open_for_search(folder / "world.sqlite")
    try:
        return search(connection, question, WAIT_S * 1_000)
    finally:
        connection.close()


def names(found: Found) -> list[tuple[str, int]]:
    return [(hit.name, hit.held) for hit in found.hits]


def test_who_holds_an_item_with_most_first(tmp_path: Path) -> None:
    async def body() -> None:
        async with store(tmp_path):
            all_ = found(tmp_path, Question("item", "wood"))
            assert names(all_) == [("", 40), ("Mossy Otter", 12), ("Änne", 12), ("Quick otter", 3)]
            assert all_.hits[0] == Hit("region:1,1", CHEST, "", "", 40)
            assert [hit.server for hit in all_.hits[1:]] == ["gs1", "", "gs2"]
            assert (all_.more, all_.cut) == (False, False)
            many = found(tmp_path, Question("item", "wood", at_least=12, limit=2))
            assert names(many) == [("", 40), ("Mossy Otter", 12)]
            assert many.more
            assert found(tmp_path, Question("item", "gold")).hits == []

    run(body())


def test_players_by_a_part_of_their_name_in_any_case(tmp_path: Path) -> None:
    async def body() -> None:
        async with store(tmp_path):
            assert names(found(tmp_path, Question("player", "OTTER"))) == [("Mossy Otter", 0), ("Quick otter", 0)]
            assert names(found(tmp_path, Question("player", "äN"))) == [("Änne", 0)]
            assert found(tmp_path, Question("player", "%")).hits == [], "no wildcard"
            one = found(tmp_path, Question("player", "r", limit=1))
            assert (names(one), one.more) == ([("Mossy Otter", 0)], True)

    run(body())


def test_it_reads_a_file_that_nobody_has_open(tmp_path: Path) -> None:
    async def body() -> None:
        async with store(tmp_path):
            pass

    run(body())
    assert len(found(tmp_path, Question("player", "otter")).hits) == 2


def test_its_connection_cannot_write(tmp_path: Path) -> None:
    async def body() -> None:
        async with store(tmp_path):
            connection = open_for_search(tmp_path / "world.sqlite")
            with pytest.raises(apsw.ReadOnlyError):
                connection.execute("DELETE FROM documents")
            connection.close()

    run(body())


class Slow:
    """Every look at a name waits until it is let go: a search that takes as long as the test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        quick = search_sqlite.lowered

        def lowered(*texts: Any) -> Any:
            self.begun.set()
            assert self.go.wait(WAIT_S)
            return quick(*texts)

        monkeypatch.setattr(search_sqlite, "lowered", lowered)

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, WAIT_S)


def test_a_slow_search_holds_up_no_write_and_no_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)

    async def body() -> None:
        async with store(tmp_path) as live, asyncio.TaskGroup() as group:
            engine = SqliteSearch(tmp_path / "world.sqlite", WAIT_S * 1_000)
            searching = group.create_task(engine.find(Question("player", "otter")))
            await slow.until_begun()
            async with asyncio.timeout(WAIT_S / 2):
                for n in range(50):
                    cas = await live.insert(f"avatar:{n + 100}", b"{}")
                    await live.replace(f"avatar:{n + 100}", b"[]", cas)
                    assert (await live.get(f"avatar:{n + 100}")).value == b"[]"
            assert not searching.done(), "it was there all the time"
            slow.go.set()
            assert names(await searching) == [("Mossy Otter", 0), ("Quick otter", 0)], "as of its beginning"
            await engine.close()

    run(body())


def test_a_search_beyond_its_time_is_cut_and_says_so(tmp_path: Path) -> None:
    """Inside one statement, not only between its rows."""
    crowd = dict(avatar(n, f"Heron {n}", wood=1) for n in range(1, 4_001))

    async def body() -> None:
        async with store(tmp_path, crowd):
            whole = found(tmp_path, Question("item", "wood", at_least=2))
            assert not whole.cut
            engine = SqliteSearch(tmp_path / "world.sqlite", time_ms=2)
            began_s = time.monotonic()
            cut = await engine.find(Question("item", "wood", at_least=2))
            assert cut == Found([], False, True)
            assert time.monotonic() - began_s < WAIT_S / 2
            partly = await engine.find(Question("item", "wood", limit=3))
            assert partly.cut
            await engine.close()

    run(body())


def test_few_searches_wait_and_a_stop_waits_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)

    async def body() -> None:
        async with store(tmp_path), asyncio.TaskGroup() as group:
            engine = SqliteSearch(tmp_path / "world.sqlite", 1e9)
            finds = [group.create_task(engine.find(Question("player", "x"))) for _ in range(SEARCH_QUEUED_SEARCHES)]
            await slow.until_begun()
            with pytest.raises(SearchRefused) as refused:
                await engine.find(Question("player", "x"))
            assert refused.value.code == "too_many_searches"
            closing = group.create_task(engine.close())
            await asyncio.sleep(0)
            slow.go.set()
            await closing
            assert all(one.cut for one in await asyncio.gather(*finds))
            with pytest.raises(SearchRefused):
                await engine.find(Question("player", "x"))

    run(body())


def test_a_failure_is_the_searchs_alone(tmp_path: Path) -> None:
    async def body() -> None:
        engine = SqliteSearch(tmp_path / "nowhere.sqlite")
        for _ in range(SEARCH_QUEUED_SEARCHES + 1):
            with pytest.raises(SearchRefused) as refused:
                await engine.find(Question("player", "x"))
            assert refused.value.code == "search_unavailable"
        await engine.close()

    run(body())


class AsGateway(Plane):
    """A plane whose calls come from ``who``."""

    def __init__(self, who: str) -> None:
        super().__init__()
        self.who = Sender(NodeId(who), 1)
        self.joined(1)

    def serve(self, kind: type[Any], handler: Any) -> None:
        super().serve(kind, lambda _me, message: handler(self.who, message))


def test_a_gateway_asks_the_store_and_a_game_server_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        async with store(tmp_path):
            engine = SqliteSearch(tmp_path / "world.sqlite")
            plane = AsGateway("gw1")
            serve_search(plane, engine)
            question = Question("item", "wood", 12, 2)
            assert await MeshSearch(plane).find(question) == found(tmp_path, question)
            other = AsGateway("gs1")
            serve_search(other, engine)
            with pytest.raises(SearchRefused, match="gateways search"):
                await MeshSearch(other).find(question)
            plane.lose_reply = True
            with pytest.raises(SearchRefused, match="does not answer"):
                await MeshSearch(plane).find(question)
            plane.book.known = []
            with pytest.raises(SearchRefused, match="no store is known"):
                await MeshSearch(plane).find(question)
            await engine.close()

    run(body())


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"item": "wood"}, Question("item", "wood", 1, 50)),
        ({"item": "oak_wood", "at_least": "10", "limit": "1000"}, Question("item", "oak_wood", 10, 1_000)),
        ({"player": "Ä b", "limit": "1"}, Question("player", "Ä b", 1, 1)),
    ],
)
def test_an_operators_words(said: dict[str, str], meant: Question) -> None:
    assert asked(said) == meant


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"item": "wood", "player": "x"},
        {"item": ""},
        {"item": 'wood"'},
        {"item": "a b"},
        {"player": "x" * 65},
        {"player": "a\nb"},
        {"player": "x", "at_least": "2"},
        {"item": "wood", "limit": "0"},
        {"item": "wood", "limit": "1001"},
        {"item": "wood", "limit": "²"},
        {"item": "wood", "at_least": "-1"},
        {"item": "wood", "at_least": "9" * 40},
    ],
)
def test_words_that_mean_nothing(said: dict[str, str]) -> None:
    with pytest.raises(BadQuestion):
        asked(said)
