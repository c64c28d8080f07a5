"""A world goes from a file to Couchbase and back, over the wire (Couchbase's mock, or the cluster that is named)."""

import asyncio
import json
from pathlib import Path
from typing import cast

import pytest

from runtime.store.api import Store
from runtime.store.format import KEY
from runtime.store.migration import Migration, WholeStore, census
from runtime.store.sqlite import SqliteStore
from tests.contract.test_store_contract import OPENERS
from tests.support.aio import run
from world.limits import MIGRATE_IN_FLIGHT_DOCUMENTS, STORE_COUNTER_STEPS

COUCHBASES = [name for name in OPENERS if name.startswith("couchbase")]
COUNTERS = {"counter:account": 1, "counter:avatar": STORE_COUNTER_STEPS, 'counter:with "quotes" and ü': 7}


async def fill(store: Store) -> None:
    await store.insert(KEY, b'{"format":1,"world_seed":1}')
    values = (json.dumps({"n": n, "name": f'Änne "{n}"'}).encode() for n in range(3 * MIGRATE_IN_FLIGHT_DOCUMENTS))
    await asyncio.gather(*(store.insert(f"avatar:{n}", value) for n, value in enumerate(values)))
    await store.insert('odd-kind:a "quoted" `key` 100%', b"[]")
    for key, value in COUNTERS.items():
        await store.counter(key, initial=value)


async def copied(source: Store, target: Store) -> int:
    migration = Migration(cast(WholeStore, source), cast(WholeStore, target), "here", lambda stage, done, of: None)
    return (await migration.run()).written


@pytest.mark.parametrize("name", COUCHBASES)
def test_a_world_goes_to_couchbase_and_back(name: str, tmp_path: Path) -> None:
    async def play() -> None:
        first, second = SqliteStore(tmp_path / "first.sqlite"), SqliteStore(tmp_path / "second.sqlite")
        try:
            await fill(first)
            async with OPENERS[name](tmp_path) as couchbase:
                written = await copied(first, couchbase)
                assert await copied(first, couchbase) == 0, "said again, it only compares"
                assert await copied(couchbase, second) == written
            assert await census(second) == await census(first)
            assert dict(await second.counters()) == COUNTERS
        finally:
            await first.close()
            await second.close()

    run(play())
