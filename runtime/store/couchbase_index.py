"""Which documents there are of a kind, without a query: index documents, each a shard of one kind.

::

    :index:{kind}:{shard}     {"{rest of the key}": mark, …}     shard = CRC-32 of the key, modulo the kind's shards
    :kinds, :counters         {"{kind, key of a counter}": 1, …}    which there are: for copying a whole world

An entry is written, as durably as the document will be, **before** the document is inserted, so that the index is a
superset: an entry without a document is of no account (``list`` looks), a document without an entry must not be.

Entries of removed documents are tidied away, against which an insert of the same key must be safe. Every insert writes
a new mark. Who tidies has seen one mark for STORE_INDEX_SETTLE_MS of its own time and no document behind it, and
removes it by compare-and-swap on the shard, so that no entry written meanwhile is lost. Left is an insert that was
itself longer under way than that since it wrote its entry (its process stood still): it writes the entry again before
it answers.
"""

import asyncio
import random
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote

import orjson
from couchbase import subdocument
from couchbase.subdocument import StoreSemantics

from runtime.store.api import Ambiguous, Durability, NotFound, StoreError, TooLarge, Unavailable
from runtime.store.couchbase_link import CALL, TRANSCODER, Link
from world import limits

PREFIX = ":index:"
KINDS, COUNTERS = ":kinds", ":counters"
FEW = frozenset({"srv", "owned", "signkey", "cluster"})  # a handful of documents, listed often: one shard
_PLAIN = " !#$&'()*+,-./:;<=>?@[]^_{|}~"  # what needs no escape inside of a quoted path of a sub-document


class Index:
    """``exists``: is there a document of that key?"""

    def __init__(self, link: Link, exists: Callable[[str], Awaitable[bool]]) -> None:
        self._link = link
        self._exists = exists
        self._marks = random.Random()  # seeded by the system: marks of different processes differ
        self._suspects: OrderedDict[str, tuple[int, float]] = OrderedDict()  # key: (mark, seen since); 0: no mark yet
        self._named: set[tuple[str, str]] = set()
        self.tidied = 0

    async def insert(self, key: str, durability: Durability, insert: Callable[[], Awaitable[int]]) -> int:
        """``insert()`` with the key in the index before. Raises what it raises; Unavailable or Temporary where the
        entry could not be written."""
        loop = asyncio.get_running_loop()
        durability = max(
            durability, Durability.MAJORITY
        )  # of the entry: it must not be lost where the document is kept
        await self._add(key, durability)
        since_s = loop.time()
        cas = await insert()
        if loop.time() - since_s > limits.STORE_INDEX_LATE_MS / 1_000:
            await self._add(key, durability)
        return cas

    async def name(self, place: str, entry: str) -> None:
        """See that ``place``, KINDS or COUNTERS, has this entry, before anything of it is written: once a process.
        Raises Unavailable, Temporary."""
        if (place, entry) in self._named:
            return
        await self._upsert(place, quote(entry, safe=_PLAIN), 1, Durability.PERSIST_TO_MAJORITY)
        if len(self._named) < limits.STORE_INDEX_SUSPECTS:
            self._named.add((place, entry))

    async def named(self, place: str) -> list[str]:
        """All entries of ``place``. Raises StoreError."""
        return sorted((unquote(entry) for entry in (await self._shard(place))[0]), key=str.encode)

    async def keys(self, kind: str) -> list[str]:
        """A superset of the kind's keys, in no order. Raises StoreError."""
        shards = await asyncio.gather(*(self._shard(name) for name in _shards(kind)))
        return [f"{kind}:{unquote(entry)}" for entries, _ in shards for entry in entries]

    def suspect(self, keys: Iterable[str]) -> None:
        """These have no document: look whether their entries may go."""
        for key in keys:
            self._suspects.setdefault(key, (0, 0.0))
        while len(self._suspects) > limits.STORE_INDEX_SUSPECTS:
            self._suspects.popitem(last=False)

    async def tidy(self, now_s: float) -> None:
        """One look at what is suspected. ``now_s``: a clock that only rises. Raises StoreError."""
        by_shard: dict[str, list[str]] = {}
        for key, (mark, since_s) in self._suspects.items():
            if not mark or now_s - since_s >= limits.STORE_INDEX_SETTLE_MS / 1_000:
                by_shard.setdefault(_shard_of(key), []).append(key)
        for shard, keys in by_shard.items():
            await self._tidy_shard(shard, keys, now_s)

    def statistics(self) -> dict[str, float]:
        return {"index_suspects": len(self._suspects), "index_tidied": self.tidied}

    # -- one shard -----------------------------------------------------------------------------------------------------
    async def _add(self, key: str, durability: Durability) -> None:
        await self._upsert(_shard_of(key), _entry(key), self._marks.randrange(1, 1 << 32), durability)

    async def _upsert(self, place: str, entry: str, mark: int, durability: Durability) -> None:
        specs = (subdocument.upsert(f"`{entry}`", mark),)
        try:
            await self._mutate(place, specs, durability, store_semantics=StoreSemantics.UPSERT)
        except Ambiguous as error:  # of the entry: the document is certainly not there
            raise Unavailable(f"its index entry: {error}") from error

    async def _shard(self, name: str) -> tuple[dict[str, int], int]:
        """(entries, CAS token of the shard); nothing where nothing is."""
        request = self._link.build.build_get_request(name, None, transcoder=TRANSCODER, timeout=CALL)[0]
        try:
            found = await self._link.read(request)
        except NotFound:
            return {}, 0
        return orjson.loads(found["value"] or b"{}"), found["cas"]

    async def _tidy_shard(self, shard: str, keys: list[str], now_s: float) -> None:
        entries, cas = await self._shard(shard)
        gone = []
        for key in keys:
            mark, entry = entries.get(_entry(key), 0), _entry(key)
            if not mark:
                self._suspects.pop(key, None)
            elif self._suspects.get(key, (0, 0.0))[0] != mark:
                self._suspects[key] = (mark, now_s)
            elif await self._exists(key):
                self._suspects.pop(key, None)
            else:
                gone.append((key, entry))
        for key, entry in gone[: limits.STORE_INDEX_PATHS]:
            del entries[entry]
            self._suspects.pop(key, None)
        await self._remove(shard, gone[: limits.STORE_INDEX_PATHS], cas)

    async def _remove(self, shard: str, gone: list[tuple[str, str]], cas: int) -> None:
        if not gone:
            return
        try:
            await self._mutate(
                shard, tuple(subdocument.remove(f"`{entry}`") for _, entry in gone), Durability.NONE, cas=cas
            )
        except StoreError:
            self.suspect(key for key, _ in gone)
            raise
        self.tidied += len(gone)

    async def _mutate(self, shard: str, specs: Any, durability: Durability, **more: Any) -> None:
        level = self._link.levels[durability]
        if level is not None:
            more["durability"] = level
        request = self._link.build.build_mutate_in_request(shard, specs, None, timeout=CALL, **more)
        await self._link.write(request)


def _shard_of(key: str) -> str:
    kind = key.partition(":")[0]
    return f"{PREFIX}{kind}:{zlib.crc32(key.encode()) % _count(kind)}"


def _shards(kind: str) -> list[str]:
    return [f"{PREFIX}{kind}:{n}" for n in range(_count(kind))]


def _count(kind: str) -> int:
    """Never to be changed for a world that is: its entries would not be found."""
    return 1 if kind in FEW else limits.STORE_INDEX_SHARDS


def _entry(key: str) -> str:
    """The rest of the key with quotes, backslashes, percent signs and all that is not ASCII escaped."""
    return quote(key.partition(":")[2], safe=_PLAIN)


def check_kind(kind: str) -> None:
    """Raises TooLarge where the name of its shards would be."""
    if len(kind.encode()) > limits.STORE_KEY_BYTES - len(f"{PREFIX}:{limits.STORE_INDEX_SHARDS}"):
        raise TooLarge(f"kind {kind[:64]!r} is too long for an index")
