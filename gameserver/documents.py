"""The store as a game server uses it: reads that keep trying, and writes whose fate becomes known.

A write carries a unique write id in its document. Where the answer leaves its fate open, the document is read back::

    write id there                 landed
    token as before the write      not applied (yet): the same content again with the same token
    anything else                  overtaken: somebody else's write is there, and mine is not

``NOT_THERE`` stands for "no document" as a token: the write is an insert.
"""

import asyncio
import builtins
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from runtime.service import Service
from runtime.store.api import (
    Ambiguous,
    CasMismatch,
    Document,
    Durability,
    Exists,
    NotFound,
    Store,
    Temporary,
    Unavailable,
)
from runtime.store.format import AgreedFormat
from world.limits import STORE_MANY_KEYS, STORE_RETRY_CAP_MS, STORE_RETRY_MS

NOT_THERE: Final = 0

T = TypeVar("T")


class Overtaken(Exception):
    """Another writer's document stands where mine was to go: ``found`` (None: no document at all)."""

    def __init__(self, key: str, found: Document | None) -> None:
        super().__init__(key)
        self.key = key
        self.found = found


class Stamp(msgspec.Struct):
    """The one field that every document of a game server has."""

    write_id: str = ""


_stamps = msgspec.json.Decoder(Stamp)


def write_id_of(value: bytes) -> str:
    """The write id in a document, "" where there is none (or no such document)."""
    try:
        return _stamps.decode(value).write_id
    except msgspec.DecodeError:
        return ""


class Documents:
    """Also knows since when the store has not answered, which tells a lost store from a lost server, and in which
    format documents are written. ``life``: any number that no other process of this node has, for the write ids of
    a claim, before there is a generation: else it could take a former life's write for its own."""

    def __init__(self, service: Service, store: Store, agreed: AgreedFormat | None = None, *, life: int = 0) -> None:
        self._clock = service.clock
        self._log = service.log
        self._rng: random.Random = service.rng
        self._store = store
        self._agreed = agreed or AgreedFormat()
        self._node = service.node_id
        self._origin = f"{self._node}:0.{life}"
        self._writes = 0
        self._failing_since_ms: float | None = None
        self.ambiguous = 0  # writes whose answer left their fate open
        self.retries = 0

    @property
    def format(self) -> int:
        """What unit documents are written in now."""
        return self._agreed.number

    async def follow_format(self) -> None:
        """For ever. Raises OutOfFormat."""
        await self._agreed.follow(self._store)

    def begin_generation(self, generation: int) -> None:
        """Write ids from now on are of this generation."""
        self._origin = f"{self._node}:{generation}"

    def new_write_id(self) -> str:
        """Unique over all servers and generations."""
        self._writes += 1
        return f"{self._origin}:{self._writes}"

    def failing_ms(self) -> float:
        """How long all calls have failed: 0 where the last one was answered."""
        return 0.0 if self._failing_since_ms is None else self._clock.monotonic_ms() - self._failing_since_ms

    # -- reads -------------------------------------------------------------------------------------------------------
    async def read(self, key: str, *, give_up_ms: float | None = None) -> Document | None:
        """The document, None where there is none. Raises Unavailable after ``give_up_ms`` (None: tries for ever)."""

        async def get() -> Document | None:
            try:
                return await self._store.get(key)
            except NotFound:
                return None

        return await self._persist(get, give_up_ms)

    async def read_many(self, keys: Sequence[str], *, give_up_ms: float | None = None) -> dict[str, Document]:
        """Those that exist. Raises Unavailable as ``read``."""
        found: dict[str, Document] = {}
        for start in range(0, len(keys), STORE_MANY_KEYS):
            part = keys[start : start + STORE_MANY_KEYS]

            async def get_many(part: Sequence[str] = part) -> Mapping[str, Document]:
                return await self._store.get_many(part)

            found.update(await self._persist(get_many, give_up_ms))
        return found

    async def list(self, kind: str, *, give_up_ms: float | None = None) -> list[str]:
        """All keys of a kind. Raises Unavailable as ``read``."""
        keys: list[str] = []
        while True:
            more = await self.list_page(kind, keys[-1] if keys else "", STORE_MANY_KEYS, give_up_ms=give_up_ms)
            keys += more
            if len(more) < STORE_MANY_KEYS:
                return keys

    async def list_page(
        self, kind: str, after: str, limit: int, *, give_up_ms: float | None = None
    ) -> "builtins.list[str]":
        """At most ``limit`` keys of a kind, in order, those greater than ``after``. Raises Unavailable as ``read``."""

        async def page() -> "builtins.list[str]":
            return await self._store.list(kind, after=after, limit=limit)

        return await self._persist(page, give_up_ms)

    # -- writes ------------------------------------------------------------------------------------------------------
    async def write(
        self,
        key: str,
        value: bytes,
        cas: int,
        write_id: str,
        *,
        give_up_ms: float | None = None,
        durability: Durability = Durability.PERSIST_TO_MAJORITY,
    ) -> int:
        """The new token once this very content is in the store. Raises Overtaken; after ``give_up_ms`` Unavailable,
        or Ambiguous where the write may still land."""
        deadline = self._deadline(give_up_ms)
        pause_ms = float(STORE_RETRY_MS)
        open_fate = False
        while True:
            try:
                token = await self._send(key, value, cas, durability)
                self._answered()
                return token
            except (CasMismatch, Exists, NotFound, Ambiguous) as error:
                open_fate = open_fate or isinstance(error, Ambiguous)
                self.ambiguous += isinstance(error, Ambiguous)
                try:
                    landed = await self._read_back(key, cas, write_id, deadline)
                except Unavailable:
                    raise (Ambiguous(key) if open_fate else Unavailable(key)) from error
                if landed is not None:
                    return landed
            except (Temporary, Unavailable) as error:
                self._failed()
                if self._clock.monotonic_ms() >= deadline:
                    raise (Ambiguous(key) if open_fate else Unavailable(key)) from error
            self.retries += 1
            pause_ms = await self._pause(pause_ms)

    async def remove(self, key: str, cas: int, *, give_up_ms: float | None = None) -> bool:
        """True when the document with this token is gone; False where another stands there. Raises Unavailable."""

        async def remove() -> bool:
            try:
                await self._store.remove(key, cas)
            except NotFound:
                return True
            except CasMismatch:
                return False
            return True

        return await self._persist(remove, give_up_ms)

    async def _send(self, key: str, value: bytes, cas: int, durability: Durability) -> int:
        if cas == NOT_THERE:
            return await self._store.insert(key, value, durability=durability)
        return await self._store.replace(key, value, cas, durability=durability)

    async def _read_back(self, key: str, cas: int, write_id: str, deadline: float) -> int | None:
        """The token where the write landed, None where it may be sent again. Raises Overtaken, Unavailable."""
        left = deadline - self._clock.monotonic_ms()
        found = await self.read(key, give_up_ms=None if left == float("inf") else max(left, 1.0))
        if found is not None and write_id_of(found.value) == write_id:
            return found.cas
        if (found.cas if found is not None else NOT_THERE) == cas:
            return None
        raise Overtaken(key, found)

    # -- patience ----------------------------------------------------------------------------------------------------
    async def _persist(self, call: Callable[[], Awaitable[T]], give_up_ms: float | None) -> T:
        deadline = self._deadline(give_up_ms)
        pause_ms = float(STORE_RETRY_MS)
        while True:
            try:
                answer = await call()
            except (Temporary, Unavailable, Ambiguous) as error:
                self._failed()
                if self._clock.monotonic_ms() >= deadline:
                    raise Unavailable(str(error)) from error
            else:
                self._answered()
                return answer
            pause_ms = await self._pause(pause_ms)

    def _deadline(self, give_up_ms: float | None) -> float:
        return float("inf") if give_up_ms is None else self._clock.monotonic_ms() + give_up_ms

    async def _pause(self, pause_ms: float) -> float:
        """Sleep about this long; the next, longer pause."""
        await sleep_ms(pause_ms * self._rng.uniform(0.5, 1.0))
        return min(pause_ms * 2, STORE_RETRY_CAP_MS)

    def _answered(self) -> None:
        self._failing_since_ms = None

    def _failed(self) -> None:
        if self._failing_since_ms is None:
            self._failing_since_ms = self._clock.monotonic_ms()


async def sleep_ms(ms: float) -> None:
    await asyncio.sleep(ms / 1_000)
