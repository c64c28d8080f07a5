"""Copying a world: killed at any point and gone on with, compared at the end, refused where it must be."""

import random
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from runtime.service import StartRefused
from runtime.store.api import Ambiguous, NotFound
from runtime.store.format import KEY, ClusterFormat, agree
from runtime.store.memory import Faults, MemoryStore, Table
from runtime.store.migration import Migration, MigrationRefused, MigrationStopped, Report, census
from tests.support.virtual import run_virtual
from world.limits import FORMAT, MIGRATE_IN_FLIGHT_DOCUMENTS

SEED = 7
WORLD = msgspec.json.encode(ClusterFormat(FORMAT, SEED))
ORIGIN = "sqlite:///srv/world.sqlite"


def nothing(stage: str, done: int, of: int) -> None: ...


def world(avatars: int = 5) -> MemoryStore:
    store = MemoryStore()
    store.table.put(KEY, WORLD)
    for n in range(avatars):
        store.table.put(f"avatar:{n}", b'{"n":%d}' % n)
    store.table.put("region:1,1", b'{"trees":{}}')
    store.table.counters.update({"counter:session": 41, "counter:avatar": 1 << 40})
    return store


def copied(source: MemoryStore, target: MemoryStore, origin: str = ORIGIN) -> Coroutine[Any, Any, Report]:
    return Migration(source, target, origin, nothing).run()


def contents(store: MemoryStore) -> tuple[dict[str, bytes], dict[str, int]]:
    return {key: document.value for key, document in store.table.documents.items()}, store.table.counters


def test_everything_is_there_and_counted() -> None:
    async def play() -> None:
        source, target = world(3 * MIGRATE_IN_FLIGHT_DOCUMENTS), MemoryStore()
        report = await copied(source, target)
        assert contents(target) == contents(source)
        assert report.documents == report.written == len(source.table.documents)
        assert (report.counters, report.removed, report.resumed) == (2, 0, False)
        assert (await agree(target, SEED)).number == FORMAT

    run_virtual(play())


class Killed(BaseException):
    """The process ends here: nothing after it runs."""


class Dying(MemoryStore):
    """Dies at its write number ``at``, before it or just after it was applied."""

    def __init__(self, table: Table, at: int, applied: bool) -> None:
        super().__init__()
        self.table = table
        self.left = at
        self.applied = applied

    async def _write(self, apply: Callable[[], Any]) -> Any:
        self.left -= 1
        if self.left < 0:
            if self.applied and self.left == -1:
                apply()
            raise Killed
        return await super()._write(apply)


@pytest.mark.parametrize("applied", [False, True])
def test_killed_at_any_write_the_same_command_goes_on(applied: bool) -> None:
    """And until its end nobody takes the target for a world."""

    async def play() -> None:
        at, died = 0, True
        while died:
            source, target = world(), MemoryStore()
            died = await dies(source, Dying(target.table, at, applied))
            if died and KEY in target.table.documents and not finished(target):
                with pytest.raises(StartRefused, match=f"half a world, which is being copied from {ORIGIN}"):
                    await agree(target, SEED)
            report = await copied(source, target)
            assert contents(target) == contents(source), at
            assert report.resumed == (at > 0 or applied)
            at += 1
        assert at > len(source.table.documents) + 2, "each write was a place to die at"

    run_virtual(play())


async def dies(source: MemoryStore, target: MemoryStore) -> bool:
    try:
        await copied(source, target)
    except (Killed, BaseExceptionGroup):  # the latter from writes that run together
        return True
    return False


def finished(target: MemoryStore) -> bool:
    return target.table.documents[KEY].value == WORLD


def test_a_source_that_lived_on_in_between_is_followed() -> None:
    async def play() -> None:
        source, target = world(), MemoryStore()
        assert await dies(source, Dying(target.table, 8, True))
        source.table.put("avatar:0", b'{"n":100}')
        source.table.put("avatar:9", b'{"n":9}')
        source.table.remove("avatar:1", source.table.get("avatar:1").cas)
        source.table.counters["counter:session"] = 50
        report = await copied(source, target)
        assert contents(target) == contents(source)
        assert report.removed == 1

    run_virtual(play())


def test_answers_that_are_lost_or_late_change_nothing() -> None:
    for seed in range(20):

        async def play(seed: int = seed) -> None:
            rng = random.Random(seed)
            faults = Faults(rng, temporary=0.05, lost=0.05, applied=0.05, delay_ms=(0.0, 5.0))
            source, target = world(100), MemoryStore(faults)
            source.faults = Faults(rng, temporary=0.05)
            await copied(source, target)
            assert contents(target) == contents(source)

        run_virtual(play())


def test_a_store_that_does_not_answer_ends_it_and_it_can_be_gone_on_with() -> None:
    async def play() -> None:
        source, target = world(), MemoryStore()
        target.faults = Faults(random.Random(0), unavailable=[(0.0, 1e9)])
        with pytest.raises(MigrationStopped, match="does not answer"):
            await copied(source, target)
        target.faults = None
        await copied(source, target)
        assert contents(target) == contents(source)

    run_virtual(play())


def test_done_already_it_only_compares() -> None:
    async def play() -> None:
        source, target = world(), MemoryStore()
        first = await copied(source, target)
        again = await copied(source, target)
        assert (again.written, again.documents, again.digest) == (0, first.documents, first.digest)
        target.table.put("avatar:0", b"lived on")
        with pytest.raises(MigrationRefused, match="holds a world already"):
            await copied(source, target)

    run_virtual(play())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s, t: s.table.documents.clear(), "There is no world in"),
        (lambda s, t: t.table.put("avatar:1", b"{}"), "must be empty"),
        (lambda s, t: t.table.counters.update({"counter:x": 1}), "must be empty"),
        (lambda s, t: t.table.put(KEY, msgspec.json.encode(ClusterFormat(FORMAT, 8))), "must be empty"),
        (lambda s, t: t.table.put(KEY, marker("couchbase://x/y")), "half filled from couchbase://x/y"),
        (lambda s, t: s.table.put(KEY, marker("couchbase://x/y")), "is itself the target"),
    ],
)
def test_what_is_no_stopped_world_or_no_empty_target_is_refused(
    make: Callable[[MemoryStore, MemoryStore], Any], said: str
) -> None:
    async def play() -> None:
        source, target = world(), MemoryStore()
        make(source, target)
        before = contents(source), contents(target)
        with pytest.raises(MigrationRefused, match=said):
            await copied(source, target)
        assert (contents(source), contents(target)) == before

    run_virtual(play())


def marker(origin: str) -> bytes:
    return msgspec.json.encode(ClusterFormat(0, 0, origin))


class Renewing(MemoryStore):
    """A world whose server renews its record at each look."""

    async def get_many(self, keys: Any) -> Any:
        for key in keys:
            if key == "srv:gs1":
                renewed = msgspec.json.decode(self.table.get(key).value)["renewed"] + 1
                self.table.put(key, b'{"generation":3,"renewed":%d,"state":"alive","write_id":""}' % renewed)
        return await super().get_many(keys)


def test_a_running_world_is_refused_and_a_killed_one_is_not() -> None:
    async def play() -> None:
        for kind, refused in ((Renewing, True), (MemoryStore, False)):
            source, target = kind(), MemoryStore()
            source.table = world().table
            source.table.put("srv:gs1", b'{"generation":3,"renewed":1,"state":"alive","write_id":""}')
            source.table.put("srv:gs2", b'{"generation":1,"renewed":1,"state":"dead","write_id":""}')
            if refused:
                with pytest.raises(MigrationRefused, match=r"is running \(gs1 is alive\): stop it first"):
                    await copied(source, target)
                assert not target.table.documents
            else:
                await copied(source, target)

    run_virtual(play())


class Corrupting(MemoryStore):
    """Loses a bit of one value on its way."""

    async def insert(self, key: str, value: bytes, **more: Any) -> int:
        return await super().insert(key, value.replace(b"3", b"2") if key == "avatar:3" else value, **more)


def test_what_arrived_otherwise_is_found_by_the_comparison() -> None:
    async def play() -> None:
        source, target = world(), Corrupting()
        with pytest.raises(MigrationStopped, match="The stores differ"):
            await copied(source, target)
        with pytest.raises(StartRefused):
            await agree(target, SEED)

    run_virtual(play())


def test_the_digest_tells_keys_values_and_counters_apart() -> None:
    async def play() -> None:
        digests = set()
        for change in range(6):
            store = world()
            if change == 1:
                store.table.put("avatar:0", b'{"n":1}')
            elif change == 2:
                store.table.documents["avatar:00"] = store.table.documents.pop("avatar:0")
            elif change == 3:
                store.table.counters["counter:session"] += 1
            elif change == 4:
                store.table.remove("avatar:0", store.table.get("avatar:0").cas)
            elif change == 5:
                store.table.put("owned:gs1:1:0", b"")
            digests.add((await census(store)).digest)
        assert len(digests) == 6

    run_virtual(play())


def test_memory_is_bounded_by_a_page() -> None:
    """However large the world, no more than a page is asked for at once, and no more writes are in flight."""

    class Watched(MemoryStore):
        running = highest = 0

        async def get_many(self, keys: Any) -> Any:
            assert len(keys) <= MIGRATE_IN_FLIGHT_DOCUMENTS
            return await super().get_many(keys)

        async def _write(self, apply: Callable[[], Any]) -> Any:
            self.running += 1
            self.highest = max(self.highest, self.running)
            try:
                return await super()._write(apply)
            finally:
                self.running -= 1

    async def play() -> None:
        source, target = Watched(), Watched()
        source.table = world(1_000).table
        await copied(source, target)
        assert 1 < target.highest <= MIGRATE_IN_FLIGHT_DOCUMENTS

    run_virtual(play())


def test_an_ambiguous_insert_is_looked_at() -> None:
    class Lost(MemoryStore):
        async def insert(self, key: str, value: bytes, **more: Any) -> int:
            try:
                await self.get(key)
            except NotFound:
                await super().insert(key, value, **more)
                raise Ambiguous("lost") from None
            return await super().insert(key, value, **more)

    async def play() -> None:
        source, target = world(), Lost()
        await copied(source, target)
        assert contents(target) == contents(source)

    run_virtual(play())
