"""The embedded store: one SQLite file, one writing thread with group commit, one reading thread. Where a group is small
and the disk has been quick, the loop commits it itself (``Lane``); a disk that stalls holds it up once.

The loop's side: bounds, futures, and the order between reads and acknowledged writes. A read begins its transaction
after it was asked for, so it sees every commit acknowledged before. Writes of durability NONE are acknowledged before
their commit: while one is open, reads wait for its group.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from runtime.store.api import Document, Durability, NotFound, StoreError, Temporary, Unavailable
from runtime.store.checks import (
    check_counter,
    check_key,
    check_keys,
    check_list,
    check_value,
    check_write,
    surely_sound,
)
from runtime.store.database import Opened, open_database
from runtime.store.lane import Lane
from runtime.store.writer import Count, Generation, Group, Job, Outcomes, Refusals, Writer
from world import limits
from world.message_values import BatchedWrite

_GET = "SELECT value, cas FROM documents WHERE key = ?"
_LIST = "SELECT key FROM documents WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
_NEXT = "SELECT key FROM documents WHERE key > ? ORDER BY key LIMIT 1"
_NONE = int(Durability.NONE)
_COUNTERS = "SELECT key, value FROM counters WHERE key > ? ORDER BY key LIMIT ?"

Query = Callable[[apsw.Connection], Any]
Read = tuple[Query, "asyncio.Future[Any]"]
ReadOutcomes = list[tuple["asyncio.Future[Any]", Any]]


class SqliteStore:
    """Implements runtime.store.api.Store. Made on the running loop; raises StoreOpenError.

    ``generation`` rises at each opening of the file and is kept in it. ``on_group(writes, commit_ms)`` is called on
    the loop after each commit. ``vfs`` names an SQLite VFS, for tests.
    """

    def __init__(
        self, path: Path, *, on_group: Callable[[int, float], None] | None = None, vfs: str | None = None
    ) -> None:
        self._opened = open_database(path, vfs)
        self.generation = self._opened.generation
        self._loop = asyncio.get_running_loop()
        self._on_group = on_group
        self._events: dict[str, Callable[..., None]] = {
            "accepted": self._accepted,
            "committed": self._committed,
            "given_up": self._settle,
            "answers": self._answer_jobs,
            "failed": self._failed,
        }
        self._writer = Writer(self._opened, self._from_writer)
        self._reader = Reader(self._opened, self._from_reader)
        self._writes: Lane[Job] = Lane(
            "store-writer", limits.STORE_QUEUE_WRITES, self._writer.work, self._writer.finish, self._is_quick
        )
        self._reads: Lane[Read] = Lane("store-reader", limits.STORE_QUEUE_READS, self._reader.work, self._reader.finish)
        self._unanswered = 0
        self._unanswered_bytes = 0
        self._unanswered_reads = 0
        self._refused = 0
        self._open_early = 0  # the latest group in which a write was acknowledged before its commit
        self._settled_group = 0
        self._settled = asyncio.Event()
        self._closing: asyncio.Future[None] | None = None
        self._failure: asyncio.Future[None] = self._loop.create_future()

    # -- the Store protocol --------------------------------------------------------------------------------------------
    async def get(self, key: str) -> Document:
        check_key(key)
        found: Document | None = await self._read(lambda connection: _get(connection, key))
        if found is None:
            raise NotFound(key)
        return found

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Document]:
        check_keys(keys)
        asked = list(keys)

        def query(connection: apsw.Connection) -> dict[str, Document]:
            found = ((key, _get(connection, key)) for key in asked)
            return {key: document for key, document in found if document is not None}

        result: dict[str, Document] = await self._read(query)
        return result

    async def list(self, kind: str, *, after: str = "", limit: int = 1_000) -> list[str]:
        check_list(kind, after, limit)
        start, end = max(f"{kind}:", after, key=str.encode), f"{kind};"  # ";" is the character after ":"
        keys: list[str] = await self._read(
            lambda connection: [row[0] for row in connection.execute(_LIST, (start, end, limit))]
        )
        return keys

    async def insert(self, key: str, value: bytes, *, durability: Durability = Durability.PERSIST_TO_MAJORITY) -> int:
        check_key(key)
        check_value(value)
        cas: int = await self._write(BatchedWrite("insert", key, value, 0, int(durability)))
        return cas

    async def replace(
        self, key: str, value: bytes, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY
    ) -> int:
        check_key(key)
        check_value(value)
        new: int = await self._write(BatchedWrite("replace", key, value, cas, int(durability)))
        return new

    async def remove(self, key: str, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY) -> None:
        check_key(key)
        await self._write(BatchedWrite("remove", key, b"", cas, int(durability)))

    async def counter(self, key: str, *, delta: int = 1, initial: int = 1) -> int:
        check_counter(key, delta, initial)
        value: int = await self._write(Count(key, delta, initial))
        return value

    async def close(self) -> None:
        """Commit everything accepted, move the log into the file, release the lock. May be called again."""
        if self._closing is not None:
            await asyncio.shield(self._closing)
            return
        self._closing = self._loop.create_future()
        await self._reads.stop()
        await self._writes.stop()
        self._opened.unlock()
        self._settled.set()
        self._closing.set_result(None)

    def write_many(self, writes: Sequence[BatchedWrite], answer: Callable[[Outcomes], None]) -> None:
        """Implements runtime.store.api.Batched: all of them enter the queue together, in their order."""
        self._check_open()
        accepted: Sequence[BatchedWrite] = writes
        refused: Refusals = []
        size = sum([len(write.key) + len(write.value) for write in writes])
        if not (all(map(surely_sound, writes)) and self._has_room(len(writes), size)):
            accepted, refused, size = self._sort_out(writes)
        job = Job(accepted, size, answer, all(write.durability == _NONE for write in accepted), refused)
        if accepted:
            self._enqueue(job)
        else:
            job.finish()

    # -- beside the protocol -------------------------------------------------------------------------------------------
    async def failed(self) -> None:
        """Waits until the file fails (an I/O error, corruption), then raises that error: the store must be opened
        anew. Every write of the failed group was answered Ambiguous, every later call Unavailable."""
        await asyncio.shield(self._failure)

    async def raise_generation(self, generation: int) -> None:
        """Keep a higher generation in the file: the mesh made this store appear above one it held for dead."""
        if generation > self.generation:
            await self._write(Generation(generation))
            self.generation = generation

    async def kinds(self) -> Sequence[str]:
        """Kinds of which there is a document, each once: for copying a whole store."""
        found: Sequence[str] = await self._read(_kinds)
        return found

    async def counters(self, *, after: str = "", limit: int = 1_000) -> Sequence[tuple[str, int]]:
        """Counters with keys greater than ``after``, in byte order: for copying a whole store."""
        check_list("counter", after, limit)
        rows: Sequence[tuple[str, int]] = await self._read(
            lambda connection: connection.execute(_COUNTERS, (after, limit)).fetchall()
        )
        return rows

    def statistics(self) -> dict[str, float]:
        """Figures for /metrics: queue depth, groups, commit times in ms, refusals."""
        return {
            "unanswered_writes": self._unanswered,
            "unanswered_bytes": self._unanswered_bytes,
            "unanswered_reads": self._unanswered_reads,
            "refused": self._refused,
            "reads": self._reader.reads,
            **asdict(self._writer.statistics),
        }

    # -- the loop's side -----------------------------------------------------------------------------------------------
    async def _write(self, write: BatchedWrite | Count | Generation) -> Any:
        self._check_open()
        whole: asyncio.Future[Outcomes] = self._loop.create_future()
        early, size = False, 0
        if isinstance(write, BatchedWrite):
            early, size = write.durability == _NONE, len(write.key) + len(write.value)
        self._check_room(1, size)
        self._enqueue(Job((write,), size, partial(_answer, whole), early))
        (outcome,) = await whole
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    def _sort_out(self, writes: Sequence[BatchedWrite]) -> tuple[Sequence[BatchedWrite], Refusals, int]:
        """(Those to be taken, the others' places and why, bytes of those taken)."""
        accepted: list[BatchedWrite] = []
        refused: Refusals = []
        size = 0
        for place, write in enumerate(writes):
            grown = size + len(write.key) + len(write.value)
            try:
                check_write(write)
                self._check_room(len(accepted) + 1, grown)
            except StoreError as error:
                refused.append((place, error))
            else:
                accepted.append(write)
                size = grown
        return accepted, refused, size

    def _has_room(self, writes: int, size: int) -> bool:
        full = self._unanswered + writes > limits.STORE_QUEUE_WRITES
        return not full and self._unanswered_bytes + size <= limits.STORE_QUEUE_BYTES

    def _check_room(self, writes: int, size: int) -> None:
        """Raises Temporary where the queue cannot take so much more."""
        if not self._has_room(writes, size):
            self._refused += 1
            raise Temporary("the store's write queue is full")

    def _enqueue(self, job: Job) -> None:
        self._unanswered += len(job.writes)
        self._unanswered_bytes += job.size
        self._writes.put(job)

    def _is_quick(self) -> bool:
        small = self._unanswered <= limits.STORE_HERE_WRITES and self._unanswered_bytes <= limits.STORE_HERE_BYTES
        return small and self._writer.is_quick

    async def _read(self, query: Query) -> Any:
        self._check_open()
        behind = self._open_early  # groups opened later hold nothing acknowledged before this read
        while self._settled_group < behind:
            await self._settled.wait()
            self._check_open()
        if self._unanswered_reads >= limits.STORE_QUEUE_READS:
            self._refused += 1
            raise Temporary("the store's read queue is full")
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._unanswered_reads += 1
        self._reads.put((query, answer))
        return await answer

    def _check_open(self) -> None:
        if self._closing is not None or self._failure.done():
            raise Unavailable("the store is closed" if self._closing is not None else "the store has failed")

    def _from_writer(self, event: str, *details: Any) -> None:
        """On the writing thread: one callback to the loop per group."""
        self._writes.post(self._events[event], *details)

    def _from_reader(self, answers: ReadOutcomes, failure: BaseException | None) -> None:
        """On the reading thread."""
        self._reads.post(self._answer_reads, answers, failure)

    def _accepted(self, group: Group) -> None:
        """Writes of durability NONE are in the open group: from now on reads wait for its commit."""
        self._open_early = group.number
        self._settled.clear()
        self._answer_jobs(group.early)

    def _settle(self, group: Group) -> None:
        self._settled_group = group.number
        self._settled.set()
        self._answer_jobs(group.unanswered)

    def _committed(self, group: Group) -> None:
        self._settle(group)
        if self._on_group is not None:
            self._on_group(group.writes, group.commit_ms)

    def _failed(self, error: BaseException) -> None:
        self._settled_group = self._open_early
        self._settled.set()
        if not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # looked at: nobody has to wait in failed()

    def _answer_jobs(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._unanswered -= len(job.writes)
            self._unanswered_bytes -= job.size
            job.finish()

    def _answer_reads(self, answers: ReadOutcomes, failure: BaseException | None) -> None:
        self._unanswered_reads -= len(answers)
        for answer, outcome in answers:
            _answer(answer, outcome)
        if failure is not None:
            self._failed(failure)


class Reader:
    """What runs on the reading thread: everything queued in one read transaction, answered in one callback."""

    def __init__(self, opened: Opened, report: Callable[[ReadOutcomes, BaseException | None], None]) -> None:
        self.reads = 0
        self._connection = opened.reader
        self._report = report

    def work(self, queue: deque[Read]) -> None:
        """Takes the batch before it begins: what it reads is not older than any of its questions."""
        batch = [queue.popleft() for _ in range(min(len(queue), limits.STORE_PAGE_KEYS))]
        try:
            self._connection.execute("BEGIN")
            answers = [(answer, query(self._connection)) for query, answer in batch]
            self._connection.execute("COMMIT")
        except apsw.BusyError as error:
            self._report([(answer, Temporary(str(error))) for _, answer in batch], self._roll_back())
        except Exception as error:
            self._report([(answer, Unavailable(str(error))) for _, answer in batch], self._roll_back() or error)
        else:
            self.reads += len(batch)
            self._report(answers, None)

    def finish(self) -> None:
        self._connection.close(True)

    def _roll_back(self) -> BaseException | None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            return error
        return None


def _get(connection: apsw.Connection, key: str) -> Document | None:
    rows: list[Any] = connection.execute(_GET, (key,)).fetchall()
    return Document(*rows[0]) if rows else None


def _kinds(connection: apsw.Connection) -> list[str]:
    """By one look into the index for each kind."""
    kinds: list[str] = []
    while rows := connection.execute(_NEXT, (f"{kinds[-1]};" if kinds else "",)).fetchall():
        kinds.append(str(rows[0][0]).partition(":")[0])
    return kinds


def _answer(answer: "asyncio.Future[Any]", outcome: Any) -> None:
    if answer.done():  # its caller was cancelled
        return
    if isinstance(outcome, StoreError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
