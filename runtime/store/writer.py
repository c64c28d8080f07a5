"""Group commit: what runs on the store's one writing thread, or on its loop where that is quicker.

A group is one transaction: everything queued when it begins and what arrives while it fills, until the queue is
empty, GROUP_COMMIT_WRITES are in or GROUP_COMMIT_MS have passed. While it is synced to disk the next one queues up,
so groups grow with the load by themselves and a single write waits for nobody.

- A write refused by its own row (exists, other token) does not disturb the group; its answer waits for the commit all
  the same, because it depends on what the group did before it.
- Durability NONE is answered when the write is in the open group, everything else after the commit.
- Disk full: the group is rolled back and every member is refused with Temporary. Any other failure of the file leaves
  it open what the disk holds: the group is Ambiguous, and the store ends, to be opened anew.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import apsw

from runtime.store.api import Ambiguous, CasMismatch, Exists, NotFound, StoreError, Temporary, TooLarge, Unavailable
from runtime.store.database import Opened
from world import limits
from world.message_values import BatchedWrite

_INSERT = "INSERT INTO documents(key, value, cas) VALUES(?, ?, ?) ON CONFLICT DO NOTHING"
_REPLACE = "UPDATE documents SET value = ?, cas = ? WHERE key = ? AND cas = ?"
_REMOVE = "DELETE FROM documents WHERE key = ? AND cas = ?"
_PRESENT = "SELECT 1 FROM documents WHERE key = ?"
_COUNT = """INSERT INTO counters(key, value) VALUES(?1, ?2)
    ON CONFLICT DO UPDATE SET value = value + ?3 WHERE value + ?3 <= ?4 RETURNING value"""
_RAISE_GENERATION = "UPDATE meta SET value = max(value, ?) WHERE name = 'generation'"
_RESERVE_CAS = "UPDATE meta SET value = ? WHERE name = 'cas'"


Outcomes = list[Any]  # in the order of the writes: a value each, or the StoreError to raise
Refusals = list[tuple[int, StoreError]]  # (place among the writes, why), in rising order


@dataclass(frozen=True, slots=True)
class Count:
    """Raises a counter."""

    key: str
    delta: int
    initial: int
    op: ClassVar[str] = "counter"


@dataclass(frozen=True, slots=True)
class Generation:
    """Keeps a generation, where it is higher than the one kept."""

    at_least: int
    op: ClassVar[str] = "generation"


@dataclass(slots=True, eq=False)
class Job:
    """Writes asked for together: one entry of the queue, applied in their order in one group, answered as a whole.
    ``answer(outcomes)`` runs on the loop; ``refused``: what was refused at the door, by place in that answer."""

    writes: Sequence[Any]  # BatchedWrite | Count | Generation
    size: int  # bytes of keys and values
    answer: Callable[[Outcomes], None]
    early: bool = False  # all of durability NONE
    refused: Refusals = field(default_factory=list)
    outcomes: Outcomes = field(default_factory=list)

    def fail(self, error: StoreError) -> None:
        self.outcomes = [type(error)(*error.args) for _ in self.writes]

    def finish(self) -> None:
        """On the loop, once the outcomes are there."""
        for place, error in self.refused:  # in rising order, so that each insertion lands in its final place
            self.outcomes.insert(place, error)
        self.answer(self.outcomes)


@dataclass(slots=True)
class WriterStatistics:
    """Totals since the store opened; times in ms."""

    groups: int = 0
    writes: int = 0
    largest_group: int = 0
    last_commit_ms: float = 0.0
    recent_commit_ms: float = 2 * limits.STORE_HERE_COMMIT_MS  # moving average; slow until it is known
    total_commit_ms: float = 0.0
    longest_commit_ms: float = 0.0
    full: int = 0
    checkpoints: int = 0
    failed_checkpoints: int = 0
    last_checkpoint_ms: float = 0.0
    longest_checkpoint_ms: float = 0.0
    log_pages: int = 0


Report = Callable[..., None]


@dataclass(slots=True)
class Group:
    """One transaction: its jobs, and those of them that were answered early once ``accepted``."""

    number: int
    jobs: list[Job] = field(default_factory=list)
    early: list[Job] = field(default_factory=list)
    writes: int = 0
    accepted: bool = False
    reserves_cas: int = 0  # the last token that may be given away once this group is committed; 0: as before
    commit_ms: float = 0.0

    def add(self, job: Job) -> None:
        self.jobs.append(job)
        self.writes += len(job.writes)

    @property
    def unanswered(self) -> list[Job]:
        return [job for job in self.jobs if not job.early] if self.accepted else self.jobs


class Writer:
    """``work`` and ``finish`` run on the writing thread; ``report(event, …)`` posts to the loop."""

    def __init__(self, opened: Opened, report: Report) -> None:
        self.statistics = WriterStatistics()
        self._connection = opened.writer
        self._cursor = opened.writer.cursor()  # one for all statements: to make one costs a third of a small write
        self._report = report
        self._last_cas = opened.last_cas
        self._reserved_cas = opened.last_cas  # what the file says: no committed group gave a token above it away
        self._broken: StoreError | None = None
        self._checkpoint_at = limits.STORE_CHECKPOINT_PAGES
        self._apply: dict[str, Callable[[Any], Any]] = {
            "insert": self._insert,
            "replace": self._replace,
            "remove": self._remove,
            "counter": self._count,
            "generation": self._raise_generation,
        }
        self._connection.set_wal_hook(self._note_log_pages)

    def work(self, queue: deque[Job]) -> None:
        """One group. Never raises: a failure goes to those who wait, and ends the store."""
        if self._broken is not None:
            job = queue.popleft()
            job.fail(Unavailable("the store has failed"))
            self._report("answers", [job])
            return
        group = Group(self.statistics.groups + 1)
        try:
            self._fill(group, queue)
            self._commit(group)
        except (apsw.FullError, apsw.BusyError) as error:
            self.statistics.full += isinstance(error, apsw.FullError)
            self._give_up(group, queue, Temporary(_words(error)))
        except Exception as error:
            self._broken = Ambiguous(_words(error))
            self._give_up(group, queue, self._broken)
            self._report("failed", error)
        else:
            self._report("committed", group)
            self._checkpoint()

    @property
    def is_quick(self) -> bool:
        """A small group is committed sooner than a thread is woken and wakes another: the disk was quick lately, and
        the log is not about to be moved into the file."""
        note = self.statistics
        room = note.log_pages + limits.STORE_HERE_PAGES < self._checkpoint_at
        return room and note.recent_commit_ms < limits.STORE_HERE_COMMIT_MS

    def finish(self) -> None:
        """Close the file, its log moved into it as far as nobody reads from it; the rest stays in the log and is not
        lost. The log of a file that failed is left for the next opening."""
        try:
            self._connection.set_wal_hook(None)
            if self._broken is None:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            else:
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.close(True)
        except Exception:  # everything acknowledged is in the log
            self.statistics.failed_checkpoints += 1

    def _fill(self, group: Group, queue: deque[Job]) -> None:
        until = time.perf_counter() + limits.GROUP_COMMIT_MS / 1_000
        self._cursor.execute("BEGIN IMMEDIATE")
        while queue and (not group.jobs or group.writes + len(queue[0].writes) <= limits.GROUP_COMMIT_WRITES):
            job = queue.popleft()
            group.add(job)
            job.outcomes = [self._apply[write.op](write) for write in job.writes]
            if job.early:
                group.early.append(job)
            if time.perf_counter() > until:
                break
        if self._last_cas > self._reserved_cas:  # of a whole block: else each commit would write one page more
            group.reserves_cas = self._last_cas + limits.STORE_CAS_BLOCK
            self._cursor.execute(_RESERVE_CAS, (group.reserves_cas,))
        if group.early:
            group.accepted = True
            self._report("accepted", group)

    def _commit(self, group: Group) -> None:
        started = time.perf_counter()
        self._cursor.execute("COMMIT")
        group.commit_ms = (time.perf_counter() - started) * 1_000
        self._reserved_cas = max(self._reserved_cas, group.reserves_cas)
        self._note_commit(group)

    def _note_commit(self, group: Group) -> None:
        note = self.statistics
        note.groups += 1
        note.writes += group.writes
        note.largest_group = max(note.largest_group, group.writes)
        note.last_commit_ms = group.commit_ms
        note.recent_commit_ms += (group.commit_ms - note.recent_commit_ms) / limits.STORE_RECENT_COMMITS
        note.total_commit_ms += group.commit_ms
        note.longest_commit_ms = max(note.longest_commit_ms, group.commit_ms)

    def _give_up(self, group: Group, queue: deque[Job], error: StoreError) -> None:
        """Roll back and refuse every member. Where not even BEGIN succeeded, the first in the queue is refused, so
        that the queue moves. Tokens of the group are not given again: some may be known already."""
        try:
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except apsw.Error as failure:
            self._broken = Ambiguous(_words(failure))
            self._report("failed", failure)
        if not group.jobs and queue:
            group.add(queue.popleft())
        for job in group.unanswered:
            job.fail(error)
        self._report("given_up", group)

    def _checkpoint(self) -> None:
        """Move the log into the file once it is long. A reader elsewhere can keep it from being reset: try again
        only after it has grown by as much. A full disk leaves everything in the log."""
        if self.statistics.log_pages < self._checkpoint_at:
            return
        started = time.perf_counter()
        note = self.statistics
        try:
            pages, moved = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except (apsw.FullError, apsw.BusyError):
            note.failed_checkpoints += 1
            self._checkpoint_at = note.log_pages + limits.STORE_CHECKPOINT_PAGES
            return
        except Exception as error:
            self._broken = Ambiguous(_words(error))
            self._report("failed", error)
            return
        self._checkpoint_at = limits.STORE_CHECKPOINT_PAGES + (0 if pages == moved else pages)
        note.checkpoints += 1
        note.last_checkpoint_ms = (time.perf_counter() - started) * 1_000
        note.longest_checkpoint_ms = max(note.longest_checkpoint_ms, note.last_checkpoint_ms)

    def _note_log_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.statistics.log_pages = pages
        return apsw.SQLITE_OK

    def _insert(self, write: BatchedWrite) -> int | StoreError:
        token = self._last_cas + 1
        self._cursor.execute(_INSERT, (write.key, write.value, token))
        if not self._connection.changes():
            return Exists(write.key)
        self._last_cas = token
        return token

    def _replace(self, write: BatchedWrite) -> int | StoreError:
        token = self._last_cas + 1
        self._cursor.execute(_REPLACE, (write.value, token, write.key, write.cas))
        if not self._connection.changes():
            return self._why_not(write)
        self._last_cas = token
        return token

    def _remove(self, write: BatchedWrite) -> None | StoreError:
        self._cursor.execute(_REMOVE, (write.key, write.cas))
        return None if self._connection.changes() else self._why_not(write)

    def _why_not(self, write: BatchedWrite) -> StoreError:
        present = self._cursor.execute(_PRESENT, (write.key,)).fetchall()
        return CasMismatch(write.key) if present else NotFound(write.key)

    def _count(self, write: Count) -> int | StoreError:
        bindings = (write.key, write.initial, write.delta, limits.STORE_COUNTER_STEPS)
        rows: list[Any] = self._cursor.execute(_COUNT, bindings).fetchall()
        if not rows:
            return TooLarge(f"counter {write.key!r} would pass {limits.STORE_COUNTER_STEPS}")
        return int(rows[0][0])

    def _raise_generation(self, write: Generation) -> None:
        self._cursor.execute(_RAISE_GENERATION, (write.at_least,))


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
