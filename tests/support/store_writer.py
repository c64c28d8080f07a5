"""A process that writes to a store as fast as it is answered and says so: one line ``key value cas level`` per
acknowledged write, after ``generation``. To be killed. ``python -m tests.support.store_writer FOLDER WRITERS``"""

import asyncio
import os
import sys
from pathlib import Path

from runtime.store.api import Durability
from runtime.store.sqlite import SqliteStore


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")  # one write, unbuffered: a kill leaves no acknowledged line unsaid


async def write(store: SqliteStore, key: str, durability: Durability) -> None:
    cas, n = await store.insert(key, b"0", durability=durability), 0
    while True:
        say(f"{key} {n} {cas} {durability}")
        n += 1
        cas = await store.replace(key, b"%d" % n, cas, durability=durability)


async def main() -> None:
    store = SqliteStore(Path(sys.argv[1]) / "world.sqlite")
    say(f"generation {store.generation}")
    round_ = f"g{store.generation}"
    writers = [write(store, f"{round_}:{n}", Durability.PERSIST_TO_MAJORITY) for n in range(int(sys.argv[2]))]
    await asyncio.gather(*writers, write(store, f"{round_}:none", Durability.NONE))


if __name__ == "__main__":
    asyncio.run(main())
