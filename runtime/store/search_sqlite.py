"""Searching the SQLite file: on a connection of its own that can only read, in a thread of its own.

The writer's thread and connection are not touched: in WAL mode a reader holds up no commit, only the log's reset while
its transaction lasts, which is bounded. SQLite asks after every few thousand steps whether the time is over.
"""

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

from runtime.mesh.api import Refused, Sender
from runtime.store.lane import Lane
from runtime.store.search import ITEM, KINDS_OF_UNITS, Found, Hit, Question, SearchRefused
from runtime.store.server import Handlers
from world.ids import ROLE_PREFIX
from world.limits import SEARCH_MS, SEARCH_QUEUED_SEARCHES, SEARCH_ROWS, SEARCH_STEPS, STORE_BUSY_MS
from world.messages import StoreFound, StoreSearch

_ENTITIES = """SELECT d.key AS unit, e.key AS entity, e.value AS entity_value, d.text ->> '$.owner' AS server
    FROM (SELECT key, iif(json_valid(CAST(value AS TEXT)), CAST(value AS TEXT), '{}') AS text
          FROM documents WHERE key > :first AND key < :last) AS d, json_each(d.text, '$.data.entities') AS e"""
_HOLDERS = f"""SELECT unit, entity, entity_value ->> '$.name', server, entity_value ->> :path
    FROM ({_ENTITIES}) WHERE json_type(entity_value, :path) = 'integer' AND entity_value ->> :path >= :at_least"""
_NAMED = f"""SELECT unit, entity, entity_value ->> '$.name', server, 0
    FROM ({_ENTITIES}) WHERE instr(lowered(entity_value ->> '$.name'), :part) > 0"""

Asked = tuple[Question, "asyncio.Future[Found]"]


class SqliteSearch:
    """Implements runtime.store.search.Search, on the running loop; further searches than one wait, a few of them.
    ``time_ms`` bounds each one."""

    def __init__(self, path: Path, time_ms: float = SEARCH_MS) -> None:
        self._path = path
        self._time_ms = time_ms
        self._loop = asyncio.get_running_loop()
        self._connection: apsw.Connection | None = None
        self._closing = False
        self._waiting = 0
        self._lane: Lane[Asked] = Lane("store-search", SEARCH_QUEUED_SEARCHES, self._work, self._finish)

    async def find(self, question: Question) -> Found:
        if self._closing or self._waiting >= SEARCH_QUEUED_SEARCHES:
            raise SearchRefused("too_many_searches", f"{self._waiting} searches are under way")
        answer: asyncio.Future[Found] = self._loop.create_future()
        self._waiting += 1
        self._lane.put((question, answer))
        return await answer

    async def close(self) -> None:
        """What is being searched is cut."""
        if not self._closing:
            self._closing = True
            await self._lane.stop()

    # -- on the thread -------------------------------------------------------------------------------------------------
    def _work(self, queue: deque[Asked]) -> None:
        question, answer = queue.popleft()
        try:
            if self._connection is None:
                self._connection = open_for_search(self._path)
            found: Found | SearchRefused = search(self._connection, question, self._time_ms, lambda: self._closing)
        except Exception as error:  # whatever it is, only the search fails
            found = SearchRefused("search_unavailable", f"{type(error).__name__}: {error}")
        self._lane.post(self._answer, answer, found)

    def _finish(self) -> None:
        if self._connection is not None:
            self._connection.close(True)

    def _answer(self, answer: "asyncio.Future[Found]", found: Found | SearchRefused) -> None:
        self._waiting -= 1
        if answer.done():
            return
        if isinstance(found, SearchRefused):
            answer.set_exception(found)
        else:
            answer.set_result(found)


def open_for_search(path: Path) -> apsw.Connection:
    """Raises apsw.Error."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(STORE_BUSY_MS)
    connection.create_scalar_function("lowered", lowered, 1, deterministic=True)
    return connection


def lowered(*texts: Any) -> Any:
    """SQLite's own lower() knows ASCII only."""
    (text,) = texts
    return text.lower() if isinstance(text, str) else None


def search(
    connection: apsw.Connection, question: Question, time_ms: float, stopped: Callable[[], bool] = lambda: False
) -> Found:
    """Until it is complete, its time is over or ``stopped()``; never more than ``limit`` + 1 hits are held. Raises
    apsw.Error."""
    until = time.monotonic() + time_ms / 1_000
    keep = min(max(question.limit, 0), SEARCH_ROWS) + 1
    best = _Best(keep)
    cut = False
    if stopped():
        return Found([], False, True)
    connection.set_progress_handler(lambda: stopped() or time.monotonic() > until, SEARCH_STEPS)
    try:
        for hit in _hits(connection, question):
            best.add(hit)
            if stopped() or time.monotonic() > until:  # the handler is not asked in statements as short as this one
                cut = True
                break
    except apsw.InterruptError:
        cut = True
    finally:
        connection.set_progress_handler(None)
    hits = best.sorted()
    return Found(hits[: keep - 1], len(hits) == keep, cut or stopped())


def _hits(connection: apsw.Connection, question: Question) -> Iterator[Hit]:
    for kind in KINDS_OF_UNITS if question.what == ITEM else KINDS_OF_UNITS[:1]:
        bindings: dict[str, Any] = {"first": f"{kind}:", "last": f"{kind};"}
        if question.what == ITEM:
            rows = connection.execute(
                _HOLDERS, bindings | {"path": f'$.items."{question.word}"', "at_least": question.at_least}
            )
        else:
            rows = connection.execute(_NAMED, bindings | {"part": question.word.lower()})
        for row in rows:
            unit, entity, name, server, count = row
            yield Hit(str(unit), int(str(entity)), str(name or ""), str(server or ""), int(str(count)))


class _Best:
    """The first ``keep`` of all hits, by what is held downwards, then name, then entity."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._hits: list[Hit] = []

    def add(self, hit: Hit) -> None:
        self._hits.append(hit)
        if len(self._hits) >= 2 * self._keep:
            self._hits = self.sorted()

    def sorted(self) -> list[Hit]:
        return heapq.nsmallest(self._keep, self._hits, key=lambda hit: (-hit.held, hit.name.lower(), hit.entity))


def serve_search(mesh: Handlers, engine: SqliteSearch) -> None:
    """The store's side of ``StoreSearch``: gateways ask, nobody else is answered."""

    async def answer(sender: Sender, message: StoreSearch) -> StoreFound:
        if not sender.node.startswith(ROLE_PREFIX["gateway"]):
            raise Refused("not_allowed", "gateways search, for operators")
        try:
            found = await engine.find(Question(message.what, message.word, message.at_least, message.limit))
        except SearchRefused as refusal:
            raise Refused(refusal.code, str(refusal)) from refusal
        return StoreFound([(h.unit, h.entity, h.name, h.server, h.held) for h in found.hits], found.more, found.cut)

    mesh.serve(StoreSearch, answer)
