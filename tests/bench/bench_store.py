"""The store's throughput and latency against plain group commit: ``python -m tests.bench.bench_store [--seconds S]``.

Replaces by CAS of 1,000-byte documents, 1, 16, 64 and 256 in flight: as many callers on one asyncio loop, each with a
document of its own, each waiting for its write's new token. All on SQLite with WAL and ``synchronous=FULL``, a CAS per
write, acknowledged after the commit. In turns of a fraction of a second, so that what else the machine does meets all
of them alike:

    bare        no callers at all: a loop of BEGIN IMMEDIATE, as many replaces, COMMIT. What SQLite itself can do
    lockstep    what the callers ask for in one turn of the loop is one transaction on that loop, which stands still
                during each sync: nothing could run beside it, so no server can be built so
    plain       group commit in one process and nothing else: a thread writes and syncs what is queued, and what is
                asked for meanwhile is the next group. No bounds, no checks, no reads
    embedded    SqliteStore in the callers' process
    process     the store process over its streams, as a cluster has it: codec, socket, two processes

``of plain``, ``of lockstep`` and ``of bare`` are the medians over the rounds of (its writes/s : the other's of the same
round). ``CPU`` is what one write took of both processes' processors, which other work disturbs least.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Protocol, Self

import apsw
import uvloop

from runtime.mesh.node import MeshNode
from runtime.store.api import Store
from runtime.store.client import StoreClient
from runtime.store.link import StoreLink
from runtime.store.sqlite import SqliteStore
from tests.bench.store_process import store_process
from tests.support.mesh import ZmqBackend, until
from tests.support.processes import cpu_seconds

IN_FLIGHT = (1, 16, 64, 256)
VALUE = b"x" * 1_000
DEFAULT_SECONDS = 80.0
ROUND_S = 0.5
WAYS = ("bare", "lockstep", "plain", "embedded", "process")
_SCHEMA = "CREATE TABLE documents(key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, cas INTEGER NOT NULL) STRICT"
_REPLACE = "UPDATE documents SET value = ?, cas = ? WHERE key = ? AND cas = ?"


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

    def of(self, other: "Figures") -> float:
        return statistics.median(mine / theirs for mine, theirs in zip(self.rates, other.rates, strict=True))

    def row(self, others: "list[Figures]") -> str:
        self.latencies_s.sort()
        at = len(self.latencies_s)
        p50, p99 = self.latencies_s[at // 2] * 1_000, self.latencies_s[at * 99 // 100] * 1_000
        rate, per_write_us = statistics.median(self.rates), self.cpu_s / at * 1e6
        ratios = "".join(f"{self.of(other):12.2f}" for other in others)
        return f"{rate:11.0f} {p50:8.2f} {p99:8.2f}{ratios} {per_write_us:9.1f}"


def opened(folder: Path) -> apsw.Connection:
    """A file as the store makes it, with the documents of all callers at token 0."""
    base = apsw.Connection(str(folder / "plain.sqlite"))
    base.pragma("journal_mode", "wal")
    base.pragma("synchronous", "full")
    base.execute(_SCHEMA)
    for n in range(max(IN_FLIGHT)):
        base.execute("INSERT INTO documents VALUES(?, ?, 0)", (f"unit:{n}", VALUE))
    return base


class Bare:
    """Groups of ``in_flight`` by a loop that does nothing else; each write's latency is its group's."""

    def __init__(self, folder: Path) -> None:
        self._cursor = opened(folder).cursor()
        self._tokens = [0] * max(IN_FLIGHT)

    async def run(self, in_flight: int, seconds: float) -> list[float]:
        latencies: list[float] = []
        until_s = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < until_s:
            self._cursor.execute("BEGIN IMMEDIATE")
            for n in range(in_flight):
                cas = self._tokens[n]
                self._cursor.execute(_REPLACE, (VALUE, cas + 1, f"unit:{n}", cas))
                self._tokens[n] = cas + 1
            self._cursor.execute("COMMIT")
            latencies += [time.perf_counter() - begun] * in_flight
        return latencies


@dataclass(slots=True)
class Asked:
    """A write of a caller who waits for its token."""

    key: str
    value: bytes
    cas: int
    answer: "asyncio.Future[int]"


class Groups:
    """Groups of writes as transactions, each of which ends with its tokens."""

    def __init__(self, folder: Path) -> None:
        self._base = opened(folder)
        self._cursor = self._base.cursor()
        self._last_token = 0

    def commit(self, group: list[Asked]) -> list[int]:
        tokens: list[int] = []
        self._cursor.execute("BEGIN IMMEDIATE")
        for asked in group:
            self._last_token += 1
            self._cursor.execute(_REPLACE, (asked.value, self._last_token, asked.key, asked.cas))
            assert self._base.changes() == 1
            tokens.append(self._last_token)
        self._cursor.execute("COMMIT")
        return tokens


def answer(group: list[Asked], tokens: list[int]) -> None:
    for asked, token in zip(group, tokens, strict=True):
        asked.answer.set_result(token)


class Lockstep:
    """What the callers ask for in one turn of the loop is one group, committed there."""

    def __init__(self, folder: Path) -> None:
        self._groups = Groups(folder)
        self._asked: list[Asked] = []

    def replace(self, key: str, value: bytes, cas: int) -> "asyncio.Future[int]":
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._commit)
        self._asked.append(Asked(key, value, cas, loop.create_future()))
        return self._asked[-1].answer

    def _commit(self) -> None:
        group, self._asked = self._asked, []
        answer(group, self._groups.commit(group))


class Plain:
    """What the callers ask for while a group is synced is the next one. The thread is woken once per turn of the loop,
    not per write."""

    def __init__(self, folder: Path) -> None:
        self._groups = Groups(folder)
        self._asked: list[Asked] = []
        self._queue: SimpleQueue[list[Asked]] = SimpleQueue()
        self._busy = False
        self._loop = asyncio.get_running_loop()
        Thread(target=self._work, daemon=True).start()

    def replace(self, key: str, value: bytes, cas: int) -> "asyncio.Future[int]":
        if not self._asked and not self._busy:
            self._loop.call_soon(self._leave)
        self._asked.append(Asked(key, value, cas, self._loop.create_future()))
        return self._asked[-1].answer

    def _leave(self) -> None:
        self._busy = bool(self._asked)
        if self._busy:
            group, self._asked = self._asked, []
            self._queue.put(group)

    def _work(self) -> None:
        while True:
            group = self._queue.get()
            self._loop.call_soon_threadsafe(self._committed, group, self._groups.commit(group))

    def _committed(self, group: list[Asked], tokens: list[int]) -> None:
        self._busy = False
        answer(group, tokens)
        if self._asked:
            self._leave()


class Replaces(Protocol):
    def replace(self, key: str, value: bytes, cas: int) -> Awaitable[int]: ...


class Load:
    """As many writers, each with a document of its own, as are in flight."""

    def __init__(self, store: Replaces, tokens: dict[str, int]) -> None:
        self._store = store
        self._tokens = tokens

    @classmethod
    async def on(cls, store: Store) -> Self:
        """With a document for each."""
        return cls(store, {f"unit:{n}": await store.insert(f"unit:{n}", VALUE) for n in range(max(IN_FLIGHT))})

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


async def measured(figures: Figures, load: Awaitable[list[float]], others: tuple[int, ...]) -> None:
    cpu_s = time.process_time() + sum(cpu_seconds(pid) for pid in others)
    started = time.perf_counter()
    latencies = await load
    seconds = time.perf_counter() - started
    figures.add(latencies, seconds, time.process_time() + sum(cpu_seconds(pid) for pid in others) - cpu_s)


async def compare(seconds: float, folders: list[Path]) -> dict[tuple[int, str], Figures]:
    """``folders``: one for each way."""
    found = {(in_flight, way): Figures() for in_flight in IN_FLIGHT for way in WAYS}
    async with AsyncExitStack() as stack:
        store = SqliteStore(folders[3] / "world.sqlite")
        stack.push_async_callback(store.close)
        mesh: MeshNode = await ZmqBackend(stack).mesh("gameserver", "gs1", 1)
        pid = stack.enter_context(store_process(folders[4], mesh.me.command))
        await until(lambda: any(m.status == "ready" for m in mesh.book.members("store")), within_ms=60_000)
        loads: dict[str, Bare | Load] = {
            "bare": Bare(folders[0]),
            "lockstep": Load(Lockstep(folders[1]), {f"unit:{n}": 0 for n in range(max(IN_FLIGHT))}),
            "plain": Load(Plain(folders[2]), {f"unit:{n}": 0 for n in range(max(IN_FLIGHT))}),
            "embedded": await Load.on(store),
            "process": await Load.on(StoreClient(StoreLink(mesh))),
        }
        for _ in range(max(1, round(seconds / (ROUND_S * len(found))))):
            for in_flight, way in found:
                others = (pid,) if way == "process" else ()
                await measured(found[in_flight, way], loads[way].run(in_flight, ROUND_S), others)
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
    print("in flight  way         writes/s   p50 ms   p99 ms    of plain of lockstep     of bare   CPU, us")
    for (in_flight, way), row in found.items():
        baselines = [found[in_flight, other] for other in ("plain", "lockstep", "bare")]
        print(f"{in_flight:9}  {way:8} {row.row(baselines)}")


if __name__ == "__main__":
    main()
