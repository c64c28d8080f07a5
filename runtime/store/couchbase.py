"""The store on Couchbase: documents, counters and an index of keys in one bucket, shared by all processes of a world.

::

    {kind}:{rest}            a document, its value the JSON bytes it was given, flagged as JSON
    :counter:{kind}:{rest}   a counter
    :index:{kind}:{shard}    which documents there are (``runtime.store.couchbase_index``)
    :kinds, :counters        which kinds and counters there are
    :opened                  written by the check at every opening

A key that begins with a colon is none of the protocol's, so nothing here collides with a document. Tokens are
Couchbase's own, 64 bits wide: they rise with each write of a document and never come back, but those of two documents
say nothing about each other.
"""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from couchbase.options import DeltaValue, SignedInt64

from runtime.store.api import CasMismatch, Document, Durability, NotFound, StoreError, TooLarge, Unavailable
from runtime.store.checks import check_counter, check_key, check_keys, check_list, check_value
from runtime.store.couchbase_index import COUNTERS, KINDS, Index, check_kind
from runtime.store.couchbase_link import CALL, TRANSCODER, Link, open_link
from runtime.store.opening import CouchbaseUrl, Credentials
from world import limits

COUNTER = ":counter:"
_MAX_CAS = (1 << 64) - 1


class CouchbaseStore:
    """Implements runtime.store.api.Store. Any number of processes open one bucket at the same time."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._build = link.build
        self.index = Index(link, self._exists)
        self._closed = False

    @classmethod
    async def open(cls, url: CouchbaseUrl, credentials: Credentials) -> "CouchbaseStore":
        """Within STORE_OPEN_MS. Raises StoreOpenError."""
        return cls(await open_link(url, credentials))

    # -- the Store protocol --------------------------------------------------------------------------------------------
    async def get(self, key: str) -> Document:
        check_key(key)
        return await self._get(key)

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Document]:
        check_keys(keys)
        asked = list(dict.fromkeys(keys))
        found = await asyncio.gather(*map(self._get_or_none, asked))
        return {key: document for key, document in zip(asked, found, strict=True) if document is not None}

    async def insert(self, key: str, value: bytes, *, durability: Durability = Durability.PERSIST_TO_MAJORITY) -> int:
        check_key(key)
        check_value(value)
        check_kind(key.partition(":")[0])
        self._check_open()
        request = self._build.build_insert_request(key, value, None, **self._how(durability), transcoder=TRANSCODER)
        await self.index.name(KINDS, key.partition(":")[0])
        return await self.index.insert(key, durability, lambda: self._token(request))

    async def replace(
        self, key: str, value: bytes, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY
    ) -> int:
        check_key(key)
        check_value(value)
        self._check_open()
        if not 0 < cas <= _MAX_CAS:
            await self._never_given(key)
        request = self._build.build_replace_request(
            key, value, None, **self._how(durability), transcoder=TRANSCODER, cas=cas
        )
        return await self._token(request)

    async def remove(self, key: str, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY) -> None:
        check_key(key)
        self._check_open()
        if not 0 < cas <= _MAX_CAS:
            await self._never_given(key)
        await self._token(self._build.build_remove_request(key, None, **self._how(durability), cas=cas))
        self.index.suspect((key,))

    async def list(self, kind: str, *, after: str = "", limit: int = 1_000) -> list[str]:
        check_list(kind, after, limit)
        self._check_open()
        beyond = after.encode()
        listed = sorted(key.encode() for key in await self.index.keys(kind) if key.encode() > beyond)
        found: list[str] = []
        while listed and len(found) < limit:
            part = [key.decode() for key in listed[: limits.STORE_INDEX_LOOKS]]
            del listed[: len(part)]
            there = await asyncio.gather(*map(self._exists, part))
            found += itertools.compress(part, there)
            self.index.suspect(key for key, exists in zip(part, there, strict=True) if not exists)
        return found[:limit]

    async def counter(self, key: str, *, delta: int = 1, initial: int = 1) -> int:
        """What passes the bound is taken back, and refused: whoever reads in between is refused too."""
        check_counter(key, delta, initial)
        self._check_open()
        place = COUNTER + key
        if len(place.encode()) > limits.STORE_KEY_BYTES:
            raise TooLarge(f"counter key of more than {limits.STORE_KEY_BYTES - len(COUNTER)} bytes")
        await self.index.name(COUNTERS, key)
        value = await self._count(self._build.build_increment_request, place, delta, initial)
        if value > limits.STORE_COUNTER_STEPS:
            await self._count(self._build.build_decrement_request, place, delta, initial)
            raise TooLarge(f"counter {key!r} would pass {limits.STORE_COUNTER_STEPS}")
        return value

    async def close(self) -> None:
        """Later calls raise Unavailable; may be called again."""
        self._closed = True
        await self._link.close()

    # -- beside the protocol -------------------------------------------------------------------------------------------
    async def kinds(self) -> Sequence[str]:
        """Kinds of which there is a document, or was, each once: for copying a whole store."""
        self._check_open()
        return await self.index.named(KINDS)

    async def counters(self, *, after: str = "", limit: int = 1_000) -> Sequence[tuple[str, int]]:
        """Counters with keys greater than ``after``, in byte order: for copying a whole store."""
        check_list("counter", after, limit)
        keys = [key for key in await self.index.named(COUNTERS) if key.encode() > after.encode()]
        found = await asyncio.gather(*(self._get_or_none(COUNTER + key) for key in keys))
        rows = [(key, int(document.value)) for key, document in zip(keys, found, strict=True) if document is not None]
        return rows[:limit]

    async def tidy(self) -> None:
        """For ever: take entries of removed documents out of the index. For one who serves; else they only stay."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(limits.STORE_INDEX_TIDY_MS / 1_000)
            try:
                await self.index.tidy(loop.time())
            except StoreError:
                continue  # next time

    def statistics(self) -> dict[str, float]:
        """Places taken and waited for, refusals by code, the index's tidying."""
        codes = {f"error_{code}": float(times) for code, times in self._link.outcomes.items()}
        return {**self._link.slots.statistics(), **codes, **self.index.statistics()}

    # -- one call ------------------------------------------------------------------------------------------------------
    async def _get(self, key: str) -> Document:
        self._check_open()
        request, _ = self._build.build_get_request(key, None, timeout=CALL)
        found = await self._link.read(request)
        return Document(found["value"] or b"", found["cas"])

    async def _get_or_none(self, key: str) -> Document | None:
        try:
            return await self._get(key)
        except NotFound:
            return None

    async def _exists(self, key: str) -> bool:
        found = await self._link.read(self._build.build_exists_request(key, None, timeout=CALL))
        return bool(found["document_exists"])

    async def _token(self, request: Any) -> int:
        cas: int = (await self._link.write(request))["cas"]
        return cas

    async def _count(self, build: Any, place: str, delta: int, initial: int) -> int:
        steps = {"delta": DeltaValue(delta), "initial": SignedInt64(initial)}
        request = build(place, None, **self._how(Durability.PERSIST_TO_MAJORITY), **steps)
        value: int = (await self._link.write(request))["content"]
        return value

    async def _never_given(self, key: str) -> NoReturn:
        """A token that no document has; 0 would mean any to the server."""
        await self._get(key)
        raise CasMismatch(key)

    def _how(self, durability: Durability) -> dict[str, Any]:
        level = self._link.levels[durability]
        return {"timeout": CALL} if level is None else {"timeout": CALL, "durability": level}

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed")
