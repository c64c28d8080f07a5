"""The index of keys on Couchbase: a superset of the documents, tidied without ever losing one."""

import pytest

from runtime.store.api import (
    CasMismatch,
    Durability,
    Exists,
    Unavailable,
)
from runtime.store.couchbase import CouchbaseStore
from runtime.store.couchbase_index import Index
from tests.support.couchbase_mock import (
    DURABILITY_IMPOSSIBLE,
    CouchbaseMock,
)
from tests.support.on_couchbase import on_couchbase
from world import limits


def test_an_entry_is_written_before_its_document(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        await store.insert("a:1", b"{}")
        keys = [write.key for write in mock.shim.durable]
        assert len(keys) == 2
        assert keys[0].startswith(":index:a:")
        assert keys[1] == "a:1"
        mock.shim.fail.append(DURABILITY_IMPOSSIBLE)
        with pytest.raises(Unavailable):
            await store.insert("a:2", b"{}")
        assert "a:2" not in [write.key for write in mock.shim.durable]

    on_couchbase(test)


def test_an_entry_without_a_document_is_not_listed() -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        await store.index._add("a:ghost", Durability.NONE)
        await store.insert("a:1", b"{}")
        with pytest.raises(Exists):
            await store.insert("a:1", b"{}")
        assert sorted(await store.index.keys("a")) == ["a:1", "a:ghost"]
        assert await store.list("a") == ["a:1"]

    on_couchbase(test)


@pytest.mark.parametrize("rest", ['"', "\\", "`", "``.x[3]", "%60", "a.b[0]", "ü𐀀", "$", " "])
def test_a_key_of_odd_characters_is_listed_as_it_is(rest: str) -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        cas = await store.insert(f"a:{rest}", b"{}")
        assert await store.list("a") == [f"a:{rest}"]
        await store.remove(f"a:{rest}", cas)
        await settled(store.index)
        assert await store.index.keys("a") == []

    on_couchbase(test)


async def settled(index: Index) -> None:
    """Twice the time, so that what was seen once is seen again."""
    for now_s in (1.0, 2.0 + limits.STORE_INDEX_SETTLE_MS / 1_000):
        await index.tidy(now_s)


def test_an_entry_goes_only_when_it_has_stood_without_a_document_for_long() -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        cas = await store.insert("a:1", b"{}")
        await store.remove("a:1", cas)
        await store.index.tidy(1.0)
        await store.index.tidy(limits.STORE_INDEX_SETTLE_MS / 1_000)
        assert await store.index.keys("a") == ["a:1"]
        await store.index.tidy(1.5 + limits.STORE_INDEX_SETTLE_MS / 1_000)
        assert await store.index.keys("a") == []
        assert store.statistics()["index_tidied"] == 1

    on_couchbase(test)


def test_an_insert_that_comes_back_meanwhile_keeps_its_entry() -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        await store.remove("a:1", await store.insert("a:1", b"{}"))
        await store.index.tidy(1.0)
        await store.index._add("a:1", Durability.MAJORITY)  # another process begins an insert: a new mark
        await store.index.tidy(2.0 + limits.STORE_INDEX_SETTLE_MS / 1_000)
        assert await store.index.keys("a") == ["a:1"]

    on_couchbase(test)


def test_an_entry_written_between_the_look_and_the_removal_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        await store.remove("srv:1", await store.insert("srv:1", b"{}"))
        await store.index.tidy(1.0)
        look = store.index._exists

        async def looked(key: str) -> bool:
            found = await look(key)
            await store.index._add("srv:1", Durability.MAJORITY)  # the same shard, after the look
            return found

        monkeypatch.setattr(store.index, "_exists", looked)
        with pytest.raises(CasMismatch):
            await store.index.tidy(2.0 + limits.STORE_INDEX_SETTLE_MS / 1_000)
        assert await store.index.keys("srv") == ["srv:1"]

    on_couchbase(test)


def test_an_insert_that_took_too_long_writes_its_entry_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_INDEX_LATE_MS", -1)

    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        await store.insert("a:1", b"{}")
        assert [write.key.startswith(":index:") for write in mock.shim.durable] == [True, False, True]

    on_couchbase(test)
