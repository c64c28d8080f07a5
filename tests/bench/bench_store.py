"""The store's throughput and latency against plain group commit: ``python -m tests.bench.bench_store [--seconds S]``.

Replaces of 1,000-byte documents, 1, 16, 64 and 256 in flight. Three ways, in turns of a fraction of a second each, so
that what else the machine does meets all of them:

    plain       a bare loop over SQLite, no event loop and no threads: BEGIN IMMEDIATE, as many replaces, COMMIT
    embedded    SqliteStore in the asking process
    process     the store process over the mesh, as a cluster has it: codec, two sockets, two processes

``of plain`` is the median over the rounds of (its writes/s : plain's of the same round). ``CPU`` is what one write
took of both processes' processors, which other work disturbs least.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import uvloop

from runtime.mesh.node import MeshNode
from runtime.store.api import Store
from runtime.store.client import StoreClient
from runtime.store.sqlite import SqliteStore
from tests.bench.store_process import store_process
from tests.support.mesh import ZmqBackend, until
from tests.support.processes import cpu_seconds

IN_FLIGHT = (1, 16, 64, 256)
VALUE = b"x" * 1_000
DEFAULT_SECONDS = 48.0
ROUND_S = 0.5
WAYS = ("plain", "embedded", "process")


@dataclass(slots=True)
class Figures:
    """Of one way at one number in flight, over all rounds."""

    latencies_s: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)  # writes/s, of each round
    cpu_s: float = 0.0

    def add(self, latencies_s: list[float], seconds: float, cpu_s: float) -> None:
        self.latencies_s += latencies_s
        self.rates.append(len(latencies_s) / seconds)
        self.cpu_s += cpu_s

    def row(self, baseline: "Figures") -> str:
        self.latencies_s.sort()
        at = len(self.latencies_s)
        p50, p99 = self.latencies_s[at // 2] * 1_000, self.latencies_s[at * 99 // 100] * 1_000
        ratio = statistics.median(mine / plain for mine, plain in zip(self.rates, baseline.rates, strict=True))
        per_write_us = self.cpu_s / at * 1e6
        return f"{statistics.median(self.rates):11.0f} {p50:8.2f} {p99:8.2f} {ratio:9.2f} {per_write_us:9.1f}"


class Plain:
    """Groups of ``in_flight`` by a loop that does nothing else; each write's latency is its group's."""

    def __init__(self, folder: Path) -> None:
        self._base = apsw.Connection(str(folder / "plain.sqlite"))
        self._base.pragma("journal_mode", "wal")
        self._base.pragma("synchronous", "full")
        self._base.execute(
            "CREATE TABLE documents(key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, cas INTEGER NOT NULL) STRICT"
        )
        for n in range(max(IN_FLIGHT)):
            self._base.execute("INSERT INTO documents VALUES(?, ?, 0)", (f"unit:{n}", VALUE))
        self._tokens = [0] * max(IN_FLIGHT)

    def load(self, in_flight: int, seconds: float) -> list[float]:
        latencies: list[float] = []
        until_s = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < until_s:
            self._base.execute("BEGIN IMMEDIATE")
            for n in range(in_flight):
                cas = self._tokens[n]
                self._base.execute(
                    "UPDATE documents SET value = ?, cas = ? WHERE key = ? AND cas = ?",
                    (VALUE, cas + 1, f"unit:{n}", cas),
                )
                self._tokens[n] = cas + 1
            self._base.execute("COMMIT")
            latencies += [time.perf_counter() - begun] * in_flight
        return latencies


class Load:
    """As many writers, each with a document of its own, as are in flight."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tokens: dict[str, int] = {}

    async def prepare(self) -> None:
        for n in range(max(IN_FLIGHT)):
            self._tokens[f"unit:{n}"] = await self._store.insert(f"unit:{n}", VALUE)

    async def run(self, in_flight: int, seconds: float) -> list[float]:
        latencies: list[float] = []
        until_s = time.perf_counter() + seconds

        async def write(key: str) -> None:
            cas = self._tokens[key]
            while (begun := time.perf_counter()) < until_s:
                cas = await self._store.replace(key, VALUE, cas)
                latencies.append(time.perf_counter() - begun)
            self._tokens[key] = cas

        await asyncio.gather(*(write(f"unit:{n}") for n in range(in_flight)))
        return latencies


async def measured(figures: Figures, load: Callable[[], Awaitable[list[float]]], others: tuple[int, ...] = ()) -> None:
    cpu_s = time.process_time() + sum(cpu_seconds(pid) for pid in others)
    started = time.perf_counter()
    latencies = await load()
    seconds = time.perf_counter() - started
    figures.add(latencies, seconds, time.process_time() + sum(cpu_seconds(pid) for pid in others) - cpu_s)


async def compare(seconds: float, folders: list[Path]) -> dict[tuple[int, str], Figures]:
    """``folders``: one for each way."""
    found = {(in_flight, way): Figures() for in_flight in IN_FLIGHT for way in WAYS}
    async with AsyncExitStack() as stack:
        plain = Plain(folders[0])
        store = SqliteStore(folders[1] / "world.sqlite")
        stack.push_async_callback(store.close)
        mesh: MeshNode = await ZmqBackend(stack).mesh("gameserver", "gs1", 1)
        pid = stack.enter_context(store_process(folders[2], mesh.me.command))
        await until(lambda: any(m.status == "ready" for m in mesh.book.members("store")), within_ms=60_000)
        embedded, process = Load(store), Load(StoreClient(mesh))
        await embedded.prepare()
        await process.prepare()

        async def bare(in_flight: int) -> list[float]:
            return plain.load(in_flight, ROUND_S)

        for _ in range(max(1, round(seconds / (ROUND_S * len(found))))):
            for n in IN_FLIGHT:
                await measured(found[n, "plain"], lambda n=n: bare(n))  # type: ignore[misc]
                await measured(found[n, "embedded"], lambda n=n: embedded.run(n, ROUND_S))  # type: ignore[misc]
                await measured(found[n, "process"], lambda n=n: process.run(n, ROUND_S), (pid,))  # type: ignore[misc]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Store throughput and latency.")
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, help="for the whole run")
    seconds: float = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        folders = [Path(name) / way for way in WAYS]
        for folder in folders:
            folder.mkdir()
        found = runner.run(compare(seconds, folders))
    print("in flight  way         writes/s   p50 ms   p99 ms  of plain   CPU, us")
    for (in_flight, way), row in found.items():
        print(f"{in_flight:9}  {way:8} {row.row(found[in_flight, 'plain'])}")


if __name__ == "__main__":
    main()
