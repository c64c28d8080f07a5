"""The store's throughput and latency against plain group commit: ``python -m tests.bench.bench_store [--seconds S]``.

Replaces of 1,000-byte documents, 1, 16, 64 and 256 in flight. The baseline of the same run and disk is a bare loop
over SQLite, no event loop and no threads: BEGIN IMMEDIATE, as many replaces, COMMIT. ``over mesh`` adds the codec and
two sockets, client and server in this one process.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import apsw
import uvloop

from runtime.store.api import Store
from runtime.store.client import StoreClient
from runtime.store.server import StoreServer
from runtime.store.sqlite import SqliteStore
from tests.support.mesh import ZmqBackend, until

IN_FLIGHT = (1, 16, 64, 256)
VALUE = b"x" * 1_000
DEFAULT_SECONDS = 8.0


class Figures(NamedTuple):
    per_s: float
    p50_ms: float
    p99_ms: float


def figures(latencies_s: list[float], seconds: float) -> Figures:
    latencies_s.sort()
    at = len(latencies_s)
    return Figures(at / seconds, latencies_s[at // 2] * 1_000, latencies_s[at * 99 // 100] * 1_000)


def plain(folder: Path, in_flight: int, seconds: float) -> Figures:
    """Groups of ``in_flight`` by a loop that does nothing else; each write's latency is its group's."""
    base = apsw.Connection(str(folder / "plain.sqlite"))
    base.pragma("journal_mode", "wal")
    base.pragma("synchronous", "full")
    base.execute("CREATE TABLE documents(key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, cas INTEGER NOT NULL) STRICT")
    for n in range(in_flight):
        base.execute("INSERT INTO documents VALUES(?, ?, 0)", (f"unit:{n}", VALUE))
    latencies: list[float] = []
    cas, started = 0, time.perf_counter()
    while time.perf_counter() < started + seconds:
        begun = time.perf_counter()
        base.execute("BEGIN IMMEDIATE")
        for n in range(in_flight):
            bindings = (VALUE, cas + 1, f"unit:{n}", cas)
            base.execute("UPDATE documents SET value = ?, cas = ? WHERE key = ? AND cas = ?", bindings)
        base.execute("COMMIT")
        cas += 1
        latencies += [time.perf_counter() - begun] * in_flight
    result = figures(latencies, time.perf_counter() - started)
    base.close()
    return result


async def load(store: Store, in_flight: int, seconds: float) -> Figures:
    latencies: list[float] = []
    tokens = [await store.insert(f"unit:{in_flight}.{n}", VALUE) for n in range(in_flight)]
    started = time.perf_counter()

    async def write(n: int, cas: int) -> None:
        key = f"unit:{in_flight}.{n}"
        while (begun := time.perf_counter()) < started + seconds:
            cas = await store.replace(key, VALUE, cas)
            latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*(write(n, cas) for n, cas in enumerate(tokens)))
    return figures(latencies, time.perf_counter() - started)


async def embedded(folder: Path, in_flight: int, seconds: float) -> Figures:
    store = SqliteStore(folder / "world.sqlite")
    try:
        return await load(store, in_flight, seconds)
    finally:
        await store.close()


async def over_mesh(folder: Path, in_flight: int, seconds: float) -> Figures:
    store = SqliteStore(folder / "world.sqlite")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        backend = ZmqBackend(stack)
        server = await backend.mesh("store", "st1", store.generation)
        StoreServer(server, store, lambda: server.me.generation)
        client = await backend.mesh("gameserver", "gs1", 1, by=server)
        await until(lambda: bool(client.book.members("store")))
        return await load(StoreClient(client), in_flight, seconds)


def on_loop(measure: Callable[[Path, int, float], Awaitable[Figures]], in_flight: int, seconds: float) -> Figures:
    async def body(folder: Path) -> Figures:
        return await measure(folder, in_flight, seconds)

    with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(body(Path(name)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Store throughput and latency.")
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, help="for the whole run")
    each = parser.parse_args().seconds / (3 * len(IN_FLIGHT))
    print("in flight  way           writes/s   p50 ms   p99 ms   of plain")
    for in_flight in IN_FLIGHT:
        with tempfile.TemporaryDirectory() as name:
            baseline = plain(Path(name), in_flight, each)
        rows = {
            "plain": baseline,
            "store": on_loop(embedded, in_flight, each),
            "over mesh": on_loop(over_mesh, in_flight, each),
        }
        for way, row in rows.items():
            ratio = row.per_s / baseline.per_s
            print(f"{in_flight:9}  {way:10} {row.per_s:11.0f} {row.p50_ms:8.2f} {row.p99_ms:8.2f} {ratio:10.2f}")


if __name__ == "__main__":
    main()
