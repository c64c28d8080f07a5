"""What every Store does, whoever stands behind it: memory, SQLite, a client over the command plane, Couchbase."""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runtime.store.api import (
    CasMismatch,
    Document,
    Durability,
    Exists,
    NotFound,
    Store,
    StoreError,
    TooLarge,
    Unavailable,
)
from runtime.store.client import StoreClient
from runtime.store.memory import MemoryStore
from runtime.store.server import StoreServer
from runtime.store.sqlite import SqliteStore
from tests.support import store_plane
from tests.support.aio import run
from tests.support.mesh import Backend, run_fake, run_zmq, until
from tests.support.store_plane import CLUSTER
from tests.support.streams import ends
from world import limits

Opener = Callable[[Path], AbstractAsyncContextManager[Store]]
OPENERS: dict[str, Opener] = {
    "memory": store_plane.memory,
    "sqlite": store_plane.sqlite,
    "client": store_plane.client,
    "couchbase": store_plane.couchbase,
}
if CLUSTER in os.environ:
    OPENERS["couchbase_cluster"] = store_plane.couchbase_cluster
Test = Callable[[Store], Awaitable[None]]
Check = Callable[[Test], None]


async def over_mesh(backend: Backend, store: Store, generation: int, test: Test) -> None:
    """The test as a game server, the store as its own member."""
    server = await backend.mesh("store", "st1", generation)
    StoreServer(server, store, lambda: server.me.generation)
    server.update_me(status="ready")
    client = await backend.mesh("gameserver", "gs1", 1, by=server)
    await until(lambda: bool(client.book.members("store")))
    await test(StoreClient(client))


def on_zmq(folder: Path, test: Test) -> None:
    async def scenario(backend: Backend) -> None:
        store = SqliteStore(folder / "world.sqlite")
        try:
            await over_mesh(backend, store, store.generation, test)
        finally:
            await store.close()

    run_zmq(scenario)


def on_fake_mesh(_folder: Path, test: Test) -> None:
    run_fake(lambda backend: over_mesh(backend, MemoryStore(), 1, test))


def alone(opener: Opener) -> Callable[[Path, Test], None]:
    def run_alone(folder: Path, test: Test) -> None:
        async def body() -> None:
            async with opener(folder) as store:
                await test(store)

        run(body())

    return run_alone


def on_stream(folder: Path, test: Test) -> None:
    """As the store process and its clients do it, but for the process."""

    async def scenario() -> None:
        store = SqliteStore(folder / "world.sqlite")
        try:
            async with ends() as at:
                StoreServer(at.listener, store, lambda: 1)
                await at.linked()
                by_mesh = at.link.statistics.meshed
                await test(StoreClient(at.link))
                assert (at.link.statistics.meshed, at.link.statistics.opened) == (by_mesh, 1)
        finally:
            await store.close()

    run(scenario(), uvloop=True)


RUNNERS: dict[str, Callable[[Path, Test], None]] = {
    **{name: alone(opener) for name, opener in OPENERS.items()},
    "zmq": on_zmq,
    "stream": on_stream,
    "fake_mesh": on_fake_mesh,
}


@pytest.fixture(params=list(RUNNERS))
def check(request: pytest.FixtureRequest, tmp_path: Path) -> Check:
    """Runs ``test(store)`` on a fresh, empty store."""
    return lambda test: RUNNERS[request.param](tmp_path, test)


@pytest.mark.skipif(CLUSTER in os.environ, reason="it runs, as couchbase_cluster")
def test_the_contract_on_a_real_couchbase_cluster() -> None:
    pytest.skip(f"did NOT run on a real Couchbase cluster: {CLUSTER}=couchbase://host/bucket names none")


def test_get_returns_what_was_inserted_with_its_token(check: Check) -> None:
    async def test(store: Store) -> None:
        cas = await store.insert("avatar:1", b'{"wood":1}')
        assert cas > 0
        assert await store.get("avatar:1") == Document(b'{"wood":1}', cas)

    check(test)


def test_get_of_nothing_is_not_found(check: Check) -> None:
    async def test(store: Store) -> None:
        with pytest.raises(NotFound):
            await store.get("avatar:1")

    check(test)


def test_insert_never_overwrites(check: Check) -> None:
    async def test(store: Store) -> None:
        cas = await store.insert("avatar:1", b"first")
        with pytest.raises(Exists):
            await store.insert("avatar:1", b"second")
        assert await store.get("avatar:1") == Document(b"first", cas)

    check(test)


def test_replace_needs_the_present_token(check: Check) -> None:
    async def test(store: Store) -> None:
        old = await store.insert("avatar:1", b"a")
        new = await store.replace("avatar:1", b"b", old)
        assert new > old
        with pytest.raises(CasMismatch):
            await store.replace("avatar:1", b"c", old)
        assert await store.get("avatar:1") == Document(b"b", new)
        with pytest.raises(NotFound):
            await store.replace("avatar:2", b"c", new)

    check(test)


def test_remove_needs_the_present_token(check: Check) -> None:
    async def test(store: Store) -> None:
        old = await store.insert("tx:1", b"a")
        new = await store.replace("tx:1", b"b", old)
        with pytest.raises(CasMismatch):
            await store.remove("tx:1", old)
        await store.remove("tx:1", new)
        with pytest.raises(NotFound):
            await store.get("tx:1")
        with pytest.raises(NotFound):
            await store.remove("tx:1", new)

    check(test)


def test_a_key_is_never_given_a_token_again_even_after_remove_and_insert(check: Check) -> None:
    async def test(store: Store) -> None:
        seen: list[int] = []
        for _ in range(5):
            seen.append(await store.insert("tx:1", b"same"))
            seen.append(await store.replace("tx:1", b"same", seen[-1]))
            await store.remove("tx:1", seen[-1])
        assert seen == sorted(set(seen))

    check(test)


def test_of_concurrent_replaces_with_one_token_exactly_one_wins(check: Check) -> None:
    async def test(store: Store) -> None:
        cas = await store.insert("region:1,1", b"start")
        tries = [store.replace("region:1,1", b"%d" % n, cas) for n in range(50)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        won = [n for n, result in enumerate(results) if isinstance(result, int)]
        assert len(won) == 1
        assert sum(isinstance(result, CasMismatch) for result in results) == 49
        assert (await store.get("region:1,1")).value == b"%d" % won[0]

    check(test)


def test_of_concurrent_inserts_exactly_one_wins(check: Check) -> None:
    async def test(store: Store) -> None:
        tries = [store.insert("account:x", b"%d" % n) for n in range(50)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(result, int) for result in results) == 1
        assert sum(isinstance(result, Exists) for result in results) == 49

    check(test)


def test_a_refused_row_leaves_its_neighbours_alone(check: Check) -> None:
    async def test(store: Store) -> None:
        await store.insert("a:1", b"")
        results = await asyncio.gather(
            store.insert("a:0", b"x"), store.insert("a:1", b"x"), store.insert("a:2", b"x"), return_exceptions=True
        )
        assert [type(result) for result in results] == [int, Exists, int]
        assert sorted(await store.get_many(["a:0", "a:2"])) == ["a:0", "a:2"]

    check(test)


@pytest.mark.parametrize("durability", list(Durability))
def test_a_read_never_lies_behind_an_acknowledged_write(check: Check, durability: Durability) -> None:
    async def test(store: Store) -> None:
        async def own(key: str) -> None:
            cas = await store.insert(key, b"-1", durability=durability)
            for n in range(20):
                cas = await store.replace(key, b"%d" % n, cas, durability=durability)
                assert await store.get(key) == Document(b"%d" % n, cas)
            await store.remove(key, cas, durability=durability)
            assert key not in await store.list("k")
            assert not await store.get_many([key])

        await asyncio.gather(*(own(f"k:{n}") for n in range(8)))

    check(test)


def test_get_many_returns_those_that_exist(check: Check) -> None:
    async def test(store: Store) -> None:
        one, two = await store.insert("a:1", b"1"), await store.insert("a:2", b"2")
        found = await store.get_many(["a:1", "a:3", "a:2", "a:1"])
        assert dict(found) == {"a:1": Document(b"1", one), "a:2": Document(b"2", two)}
        assert dict(await store.get_many([])) == {}

    check(test)


def test_get_many_carries_more_than_one_message_holds(check: Check) -> None:
    async def test(store: Store) -> None:
        value = b"x" * (limits.STORE_VALUE_BYTES - 1)
        keys = [f"a:{n}" for n in range(7)]
        assert sum(map(len, keys)) + len(value) * len(keys) > limits.COMMAND_MESSAGE_BYTES
        for key in keys:
            await store.insert(key, value)
        asked = [key for pair in zip(keys, (f"b:{n}" for n in range(7)), strict=True) for key in pair]
        assert sorted(await store.get_many(asked)) == keys

    check(test)


def test_list_is_one_kind_in_byte_order_from_after_on(check: Check) -> None:
    async def test(store: Store) -> None:
        names = ["1", "10", "2", "ü", "Z", "a", "𐀀", "\uffee"]
        for name in names:
            await store.insert(f"srv:{name}", b"")
        for other in ("sr:9", "srv2:9", "srw:9", "srv;:9"):
            await store.insert(other, b"")
        keys = sorted((f"srv:{name}" for name in names), key=str.encode)
        assert await store.list("srv") == keys
        assert await store.list("srv", after=keys[2]) == keys[3:]
        assert await store.list("srv", after=keys[2] + "!", limit=2) == keys[3:5]
        assert await store.list("srv", after="a:0") == keys
        assert await store.list("srv", after="t:0") == []
        assert await store.list("srv", limit=0) == []
        assert await store.list("none") == []

    check(test)


def test_counter_starts_at_initial_and_adds_delta(check: Check) -> None:
    async def test(store: Store) -> None:
        assert await store.counter("next:avatar") == 1
        assert await store.counter("next:avatar") == 2
        assert await store.counter("next:avatar", delta=10) == 12
        assert await store.counter("next:avatar", delta=0) == 12
        assert await store.counter("next:other", delta=5, initial=100) == 100
        numbers = await asyncio.gather(*(store.counter("next:avatar") for _ in range(100)))
        assert sorted(numbers) == list(range(13, 113))
        with pytest.raises(NotFound):  # counters are no documents
            await store.get("next:avatar")

    check(test)


def test_a_counter_stays_exact_in_javascript(check: Check) -> None:
    async def test(store: Store) -> None:
        assert await store.counter("n:1", initial=limits.STORE_COUNTER_STEPS) == limits.STORE_COUNTER_STEPS
        with pytest.raises(TooLarge):
            await store.counter("n:1")
        assert await store.counter("n:1", delta=0) == limits.STORE_COUNTER_STEPS

    check(test)


@pytest.mark.parametrize(
    "key", ["", "nokind", ":x", "kind:", "a:\x00", "a:\n", "a:\ud800", "a:" + "x" * 249, "a:" + "ü" * 125]
)
def test_malformed_keys_are_refused_everywhere(check: Check, key: str) -> None:
    async def test(store: Store) -> None:
        for call in (
            store.get(key),
            store.get_many([key]),
            store.insert(key, b""),
            store.replace(key, b"", 1),
            store.remove(key, 1),
            store.counter(key),
        ):
            with pytest.raises(TooLarge):
                await call

    check(test)


def test_the_largest_key_and_value_fit_and_one_byte_more_does_not(check: Check) -> None:
    async def test(store: Store) -> None:
        key, value = "a:" + "ü" * 124, b"\x00\xff" * (limits.STORE_VALUE_BYTES // 2)
        cas = await store.insert(key, value)
        assert await store.get(key) == Document(value, cas)
        assert await store.list("a") == [key]
        with pytest.raises(TooLarge):
            await store.insert("a:1", value + b"!")
        with pytest.raises(TooLarge):
            await store.replace(key, value + b"!", cas)
        with pytest.raises(TooLarge):
            await store.get_many(["a:1"] * (limits.STORE_MANY_KEYS + 1))
        with pytest.raises(TooLarge):
            await store.list("a", limit=limits.STORE_LIST_KEYS + 1)

    check(test)


def test_a_cancelled_caller_harms_nobody(check: Check) -> None:
    async def test(store: Store) -> None:
        cas = await store.insert("a:1", b"")
        calls = [asyncio.ensure_future(store.replace("a:1", b"x", cas)), asyncio.ensure_future(store.get("a:1"))]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await store.insert("a:2", b"") != cas
        assert (await store.get("a:1")).value in (b"", b"x")

    check(test)


def test_after_close_everything_is_unavailable(check: Check) -> None:
    async def test(store: Store) -> None:
        await store.close()
        for call in (store.get("a:1"), store.list("a"), store.insert("a:1", b""), store.counter("a:1")):
            with pytest.raises(Unavailable):
                await call
        await store.close()

    check(test)


# -- against a model ---------------------------------------------------------------------------------------------------
KEYS = st.sampled_from(["a:1", "a:2", "a:10", "b:1"])
VALUES = st.binary(max_size=20)
DURABILITIES = st.sampled_from(list(Durability))
TOKENS = st.sampled_from(["present", "former", "foreign"])


class StoreMachine(RuleBasedStateMachine):
    """Random calls, one at a time, against a dict; tokens present, former and never given."""

    opener: Opener

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.context = self.opener(Path(self.folder.name))
        self.store: Store = self.runner.run(self._enter())
        self.model: dict[str, Document] = {}
        self.former: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.counters: dict[str, int] = {}
        self.newest = 0

    async def _enter(self) -> Store:
        return await self.context.__aenter__()

    async def _leave(self) -> None:
        await self.context.__aexit__(None, None, None)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self._leave())
            self.runner.close()
            self.folder.cleanup()

    def outcome(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Asked again where the answer is that nothing happened: a loaded machine may hold a server's answer back."""

        async def body() -> Any:
            for _ in range(3):
                try:
                    return await call()
                except Unavailable:
                    continue
                except StoreError as error:
                    return type(error)
            return Unavailable

        return self.runner.run(body())

    def stored(self, key: str, value: bytes, cas: Any) -> None:
        assert isinstance(cas, int)
        assert cas > self.last.get(key, 0)  # tokens of different documents are not compared
        if key in self.model:
            self.former[key] = self.model[key].cas
        self.newest, self.last[key] = max(cas, self.newest), cas
        self.model[key] = Document(value, cas)

    def token(self, key: str, which: str) -> int:
        present = self.model[key].cas if key in self.model else self.newest + 1
        return {"present": present, "former": self.former.get(key, 0), "foreign": self.newest + 7}[which]

    def expected(self, key: str, cas: int) -> type[StoreError] | None:
        if key not in self.model:
            return NotFound
        return None if self.model[key].cas == cas else CasMismatch

    @rule(key=KEYS, value=VALUES, durability=DURABILITIES)
    def insert(self, key: str, value: bytes, durability: Durability) -> None:
        result = self.outcome(lambda: self.store.insert(key, value, durability=durability))
        if key in self.model:
            assert result is Exists
        else:
            self.stored(key, value, result)

    @rule(key=KEYS, value=VALUES, which=TOKENS, durability=DURABILITIES)
    def replace(self, key: str, value: bytes, which: str, durability: Durability) -> None:
        cas = self.token(key, which)
        expected = self.expected(key, cas)
        result = self.outcome(lambda: self.store.replace(key, value, cas, durability=durability))
        if expected is not None:
            assert result is expected
        else:
            self.stored(key, value, result)

    @rule(key=KEYS, which=TOKENS, durability=DURABILITIES)
    def remove(self, key: str, which: str, durability: Durability) -> None:
        cas = self.token(key, which)
        expected = self.expected(key, cas)
        assert self.outcome(lambda: self.store.remove(key, cas, durability=durability)) is expected
        if expected is None:
            self.former[key] = self.model.pop(key).cas

    @rule(key=KEYS, delta=st.integers(0, 5), initial=st.integers(0, 5))
    def count(self, key: str, delta: int, initial: int) -> None:
        expected = self.counters[key] + delta if key in self.counters else initial
        assert self.outcome(lambda: self.store.counter(key, delta=delta, initial=initial)) == expected
        self.counters[key] = expected

    @rule(after=st.sampled_from(["", "a:1", "a:2", "b:"]), limit=st.integers(0, 4))
    def list(self, after: str, limit: int) -> None:
        for kind in "ab":
            expected = sorted(key for key in self.model if key.startswith(f"{kind}:") and key > after)
            assert self.outcome(partial(self.store.list, kind, after=after, limit=limit)) == expected[:limit]

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if hasattr(self, "store"):
            assert dict(self.outcome(lambda: self.store.get_many(["a:1", "a:2", "a:10", "b:1"]))) == self.model


@pytest.mark.parametrize("name", list(OPENERS))
def test_random_calls_agree_with_a_model(name: str) -> None:
    machine: type[StoreMachine] = type("Machine", (StoreMachine,), {"opener": staticmethod(OPENERS[name])})
    machine.TestCase.settings = settings(
        max_examples=5 if name.startswith("couchbase") else 15,  # over the wire: ten times slower
        stateful_step_count=30,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    machine.TestCase("runTest").runTest()
