"""The Couchbase adapter against what the wire can show: what is asked for, what goes wrong, what it may conclude."""

import asyncio
import contextlib

import pytest

from runtime.store.api import (
    Ambiguous,
    CasMismatch,
    Durability,
    NotFound,
    StoreError,
    Temporary,
    TooLarge,
    Unavailable,
)
from runtime.store.couchbase import COUNTER, CouchbaseStore
from tests.chaos.snapshot import stored
from tests.support.couchbase_mock import (
    DURABILITY_IMPOSSIBLE,
    SYNC_WRITE_AMBIGUOUS,
    SYNC_WRITE_IN_PROGRESS,
    CouchbaseMock,
    couchbase_mock,
)
from tests.support.on_couchbase import again, on_couchbase
from world import limits
from world.messages import HandOff, decode, encode

ENOMEM, BUSY, INTERNAL = 0x82, 0x85, 0x84
REPLACE = 0x03


# -- what is asked for -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("level", list(Durability))
def test_each_write_asks_for_its_own_durability_with_a_deadline(level: Durability) -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        cas = await store.insert("a:1", b"{}", durability=level)
        cas = await store.replace("a:1", b"{}", cas, durability=level)
        await store.remove("a:1", cas, durability=level)
        sent = [write for write in mock.shim.durable if write.key == "a:1"]
        assert [write.level for write in sent] == [level] * (3 if level else 0)
        assert all(0 < write.server_ms < limits.STORE_CALL_MS for write in mock.shim.durable)

    on_couchbase(test)


def test_an_address_may_lower_all_durability() -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        await store.insert("a:1", b"{}")
        await store.insert("a:2", b"{}", durability=Durability.NONE)
        await store.counter("n:1")
        assert {write.level for write in mock.shim.durable} == {Durability.MAJORITY}
        assert "a:2" not in {write.key for write in mock.shim.durable}

    on_couchbase(test, query="?durability=majority")


def test_documents_are_json_that_operators_can_search() -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        await store.insert("a:1", b'{"wood":1}')
        collection = store._link._cluster.bucket(mock.bucket).default_collection()
        found = await collection.get("a:1")
        assert found.content_as[dict] == {"wood": 1}
        assert found.flags == 0x02000000  # JSON

    on_couchbase(test)


def test_counters_and_the_index_live_outside_of_the_documents_names() -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        await store.counter("a:1")
        await store.insert("a:1", b"{}")
        written = {write.key for write in mock.shim.durable}
        assert written - {"a:1"} == {key for key in written if key.startswith(":")}
        for key in written - {"a:1"}:
            with pytest.raises(TooLarge):
                await store.get(key)

    on_couchbase(test)


def test_a_picture_of_the_world_is_all_that_is_there_and_nothing_that_is_gone() -> None:
    async def test(store: CouchbaseStore, _: CouchbaseMock) -> None:
        wanted = {f"{kind}:{n}": b'{"n":%d}' % n for kind in ("avatar", "region", "tx") for n in range(3)}
        for key, value in (wanted | {"srv:gs1": b"{}"}).items():
            await store.insert(key, value)
        await store.remove("tx:9", await store.insert("tx:9", b"{}"))
        assert await stored(store) == wanted

    on_couchbase(test)


def test_what_the_server_would_refuse_is_refused_before_it_is_sent() -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        for call in (
            store.insert("a:" + "x" * 249, b""),
            store.insert("a:1", b"x" * (limits.STORE_VALUE_BYTES + 1)),
            store.insert("k" * 248 + ":1", b""),  # its index document's key would be too long
            store.counter("n:" + "x" * (limits.STORE_KEY_BYTES - len(COUNTER) - 1)),
        ):
            with pytest.raises(TooLarge):
                await call
        assert not mock.shim.durable
        await store.counter("n:" + "x" * (limits.STORE_KEY_BYTES - len(COUNTER) - 2))

    on_couchbase(test)


@pytest.mark.parametrize("cas", [0, -1, 1 << 64])
def test_a_token_that_means_any_to_the_server_matches_none(cas: int) -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        kept = await store.insert("a:1", b"{}")
        with pytest.raises(CasMismatch):
            await store.replace("a:1", b"[]", cas)
        with pytest.raises(CasMismatch):
            await store.remove("a:1", cas)
        with pytest.raises(NotFound):
            await store.replace("a:2", b"[]", cas)
        assert (await store.get("a:1")).cas == kept

    on_couchbase(test)


def test_a_token_of_64_bits_goes_out_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        kept = await store.insert("a:1", b"{}")
        with pytest.raises(CasMismatch):  # narrowed to 53 or 32 bits it would be the one that is kept
            await store.replace("a:1", b"[]", kept + (1 << 53))
        with pytest.raises(CasMismatch):
            await store.replace("a:1", b"[]", (1 << 64) - 1)

    on_couchbase(test)


# -- what goes wrong ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (DURABILITY_IMPOSSIBLE, Unavailable),
        (SYNC_WRITE_AMBIGUOUS, Ambiguous),
        (ENOMEM, Temporary),
        (BUSY, Temporary),
        (INTERNAL, Ambiguous),
    ],
)
def test_a_refused_write_is_what_the_server_says_and_nothing_is_applied(
    status: int, expected: type[StoreError]
) -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        cas = await store.insert("a:1", b"{}")
        mock.shim.fail.append(status)
        with pytest.raises(StoreError) as failed:
            await store.replace("a:1", b"[]", cas)
        assert type(failed.value) is expected
        assert await store.get("a:1") == (b"{}", cas)

    on_couchbase(test)


def test_a_write_in_progress_is_waited_for() -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        cas = await store.insert("a:1", b"{}")
        mock.shim.fail += [SYNC_WRITE_IN_PROGRESS] * 2
        new = await store.replace("a:1", b"[]", cas)
        assert await store.get("a:1") == (b"[]", new)

    on_couchbase(test)


def test_an_applied_write_whose_answer_is_lost_is_ambiguous_and_is_never_sent_again() -> None:
    """Sent again it would meet its own result, and CasMismatch or Exists would mean the caller himself."""

    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        cas = await store.insert("a:1", b"1")
        mock.shim.durable.clear()
        mock.shim.lose = 1
        with pytest.raises(Ambiguous):
            await store.replace("a:1", b"2", cas)
        assert [write.opcode for write in mock.shim.durable] == [REPLACE]
        found = await again(lambda: store.get("a:1"))
        assert found.value == b"2"
        assert found.cas != cas

    on_couchbase(test)


def test_an_index_entry_of_unknown_fate_means_that_nothing_was_inserted() -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        mock.shim.lose = 1
        with pytest.raises(Unavailable):
            await store.insert("a:1", b"{}")
        with pytest.raises(NotFound):
            await again(lambda: store.get("a:1"))
        assert await again(lambda: store.list("a")) == []

    on_couchbase(test)


def test_a_node_that_does_not_answer_makes_writes_ambiguous_and_reads_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with couchbase_mock() as mock:

        async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
            cas = await store.insert("a:1", b"{}")
            mock.command("hiccup", msecs=60_000, offset=5)
            results = await asyncio.gather(
                store.replace("a:1", b"[]", cas), store.get("a:1"), store.counter("n:1"), return_exceptions=True
            )
            assert [type(result) for result in results] == [Ambiguous, Unavailable, Ambiguous]
            assert store.statistics()["in_flight"] == 0

        on_couchbase(test, mock)


def test_a_truncated_answer_is_no_answer() -> None:
    with couchbase_mock() as mock:

        async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
            cas = await store.insert("a:1", b"{}")
            mock.command("truncate", limit=10)
            with pytest.raises(Ambiguous):
                await store.replace("a:1", b"[]", cas)
            mock.command("truncate", limit=0)

        on_couchbase(test, mock)


def test_failing_nodes_are_told_apart_from_missing_documents() -> None:
    with couchbase_mock() as mock:

        async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
            cas = await store.insert("a:1", b"{}")
            mock.command("opfail", code=ENOMEM, count=-1, servers=[0, 1, 2])
            with pytest.raises(Temporary):
                await store.get("a:1")
            with pytest.raises(Temporary):
                await store.replace("a:1", b"[]", cas)
            mock.command("opfail", code=ENOMEM, count=0, servers=[0, 1, 2])
            assert await store.get("a:1") == (b"{}", cas)

        on_couchbase(test, mock)


def test_a_node_fails_over_and_comes_back_under_load_and_every_writer_gets_through() -> None:
    """What was acknowledged is not asked for: the mock does not replicate it, and values go back by one or two."""

    with couchbase_mock() as mock:

        async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
            acknowledged: dict[str, int] = {}
            stop = asyncio.Event()

            async def write(key: str) -> None:
                """As the game server does: after an ambiguous answer it looks."""
                n, cas = 0, await store.insert(key, b"0")
                while not stop.is_set():
                    try:
                        cas = await store.replace(key, b"%d" % (n + 1), cas)
                    except (Ambiguous, Temporary, Unavailable, CasMismatch):
                        with contextlib.suppress(Temporary, Unavailable):
                            value, cas = await store.get(key)
                            n = int(value)
                        continue
                    n += 1
                    acknowledged[key] = n
                    await asyncio.sleep(0.01)

            async def disturb() -> None:
                await asyncio.sleep(0.3)
                await asyncio.to_thread(mock.command, "failover", idx=1, bucket=mock.bucket)
                await progress()
                await asyncio.to_thread(mock.command, "respawn", idx=1, bucket=mock.bucket)
                await progress()
                stop.set()

            async def progress() -> None:
                """Every writer has got through since."""
                before = dict(acknowledged)
                async with asyncio.timeout(30):
                    while any(acknowledged.get(key, 0) <= before.get(key, 0) for key in keys):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)

            keys = [f"a:{n}" for n in range(16)]
            await asyncio.gather(disturb(), *map(write, keys))
            assert set(await store.get_many(keys)) == set(keys)

        on_couchbase(test, mock)


# -- how many at once --------------------------------------------------------------------------------------------------
def test_no_more_calls_are_under_way_than_the_bound_and_the_others_wait_or_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STORE_COUCHBASE_CALLS", 4)
    monkeypatch.setattr(limits, "STORE_COUCHBASE_WAITERS", 10)

    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        most = 0
        run_request = store._link._adapter.execute_collection_request

        def watched(*arguments: object) -> object:
            nonlocal most
            most = max(most, store._link.slots.taken)
            return run_request(*arguments)

        monkeypatch.setattr(store._link._adapter, "execute_collection_request", watched)
        results = await asyncio.gather(*(store.counter("n:1") for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(result, Temporary) for result in results) == 6
        assert sorted(result for result in results if isinstance(result, int)) == list(range(1, 15))
        assert most == 4
        figures = store.statistics()
        assert (figures["in_flight"], figures["waiting"], figures["waits"], figures["refused"]) == (0, 0, 10, 6)
        assert figures["longest_wait_ms"] > 0

    on_couchbase(test)


def test_a_cancelled_caller_leaves_his_call_its_place_until_it_has_ended() -> None:
    async def test(store: CouchbaseStore, mock: CouchbaseMock) -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        calls = [asyncio.ensure_future(store.counter("n:1")) for _ in range(20)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await store._link.slots.emptied(limits.STORE_CALL_MS)
        assert store.statistics()["in_flight"] == 0
        assert await store.counter("n:1") == 21
        assert not errors

    on_couchbase(test)


def test_a_hand_off_carries_a_token_of_64_bits() -> None:
    message = HandOff("avatar:1", 1, (1 << 64) - 1, b"{}")
    assert decode(encode(message)) == message
