"""The store of the simulation and of unit tests: documents in a dict, faults from a seed, time from the loop.

Nothing here starts a thread or reads a clock of its own, so a simulation replays it exactly.

A request travels, is applied, and its answer travels back. ``Faults`` chooses, per request, how long either way takes
and what goes wrong; ``pause()`` is a store that hangs (SIGSTOP): its callers run into their deadline, and what they
had sent is applied, in order, at ``resume()`` - later than its caller believes.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeVar

from runtime.store.api import (
    Ambiguous,
    CasMismatch,
    Document,
    Durability,
    Exists,
    NotFound,
    StoreError,
    Temporary,
    TooLarge,
    Unavailable,
)
from runtime.store.checks import check_counter, check_key, check_keys, check_list, check_value
from world import limits

T = TypeVar("T")
Fate = Literal["well", "temporary", "lost", "applied", "late"]


@dataclass(slots=True)
class Faults:
    """What goes wrong, each a share of requests between 0 and 1, and delays in ms of loop time each way.

    ``lost``, ``applied`` and ``late`` are the three truths behind Ambiguous: never applied, applied before the caller
    hears of it, applied some time after. Reads suffer only ``temporary``, delays and ``unavailable`` windows.
    """

    rng: Random
    temporary: float = 0.0
    lost: float = 0.0
    applied: float = 0.0
    late: float = 0.0
    delay_ms: tuple[float, float] = (0.0, 0.0)
    unavailable: list[tuple[float, float]] = field(default_factory=list)  # [from, until) in seconds of loop time

    def fate(self, *, writes: bool) -> Fate:
        chance = self.rng.random()
        shares: tuple[tuple[Fate, float], ...] = (("temporary", self.temporary),)
        if writes:
            shares += (("lost", self.lost), ("applied", self.applied), ("late", self.late))
        for fate, share in shares:
            if chance < share:
                return fate
            chance -= share
        return "well"

    def delay_s(self) -> float:
        return self.rng.uniform(*self.delay_ms) / 1_000

    def away(self, now_s: float) -> bool:
        return any(start <= now_s < end for start, end in self.unavailable)


class Table:
    """Documents and counters, and the operations on them as plain calls that raise what the Store protocol says."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.counters: dict[str, int] = {}
        self.last_cas = 0

    def get(self, key: str) -> Document:
        found = self.documents.get(key)
        if found is None:
            raise NotFound(key)
        return found

    def put(self, key: str, value: bytes) -> int:
        self.last_cas += 1
        self.documents[key] = Document(bytes(value), self.last_cas)
        return self.last_cas

    def insert(self, key: str, value: bytes) -> int:
        if key in self.documents:
            raise Exists(key)
        return self.put(key, value)

    def replace(self, key: str, value: bytes, cas: int) -> int:
        self._match(key, cas)
        return self.put(key, value)

    def remove(self, key: str, cas: int) -> None:
        self._match(key, cas)
        del self.documents[key]

    def _match(self, key: str, cas: int) -> None:
        if self.get(key).cas != cas:
            raise CasMismatch(key)

    def list(self, kind: str, after: str, limit: int) -> list[str]:
        prefix, beyond = f"{kind}:", after.encode()
        found = (key for key in self.documents if key.startswith(prefix) and key.encode() > beyond)
        return sorted(found, key=str.encode)[:limit]

    def counter_rows(self, after: str, limit: int) -> Sequence[tuple[str, int]]:
        keys = sorted((key for key in self.counters if key.encode() > after.encode()), key=str.encode)
        return [(key, self.counters[key]) for key in keys[:limit]]

    def counter(self, key: str, delta: int, initial: int) -> int:
        value = self.counters[key] + delta if key in self.counters else initial
        if value > limits.STORE_COUNTER_STEPS:
            raise TooLarge(f"counter {key!r} would pass {limits.STORE_COUNTER_STEPS}")
        self.counters[key] = value
        return value


class _Gone(Exception):
    """The store closed while it held the request."""


@dataclass(slots=True)
class _Held:
    """A request sent to a paused store: what to do, and who waits for it (perhaps no longer)."""

    apply: Callable[[], Any]
    answer: "asyncio.Future[Any] | None"


class MemoryStore:
    """Implements runtime.store.api.Store."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.table = Table()
        self.faults = faults
        self._paused = False
        self._closed = False
        self._held: deque[_Held] = deque(maxlen=limits.STORE_QUEUE_WRITES)
        self._fates: dict[Fate, int] = {}

    async def get(self, key: str) -> Document:
        check_key(key)
        return await self._read(lambda: self.table.get(key))

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, Document]:
        check_keys(keys)
        asked = list(keys)
        return await self._read(lambda: {key: self.table.get(key) for key in asked if key in self.table.documents})

    async def list(self, kind: str, *, after: str = "", limit: int = 1_000) -> list[str]:
        check_list(kind, after, limit)
        return await self._read(lambda: self.table.list(kind, after, limit))

    async def insert(self, key: str, value: bytes, *, durability: Durability = Durability.PERSIST_TO_MAJORITY) -> int:
        check_key(key)
        check_value(value)
        return await self._write(lambda: self.table.insert(key, value))

    async def replace(
        self, key: str, value: bytes, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY
    ) -> int:
        check_key(key)
        check_value(value)
        return await self._write(lambda: self.table.replace(key, value, cas))

    async def remove(self, key: str, cas: int, *, durability: Durability = Durability.PERSIST_TO_MAJORITY) -> None:
        check_key(key)
        await self._write(lambda: self.table.remove(key, cas))

    async def counter(self, key: str, *, delta: int = 1, initial: int = 1) -> int:
        check_counter(key, delta, initial)
        return await self._write(lambda: self.table.counter(key, delta, initial))

    async def kinds(self) -> Sequence[str]:
        """Kinds of which there is a document, each once: for copying a whole store."""
        return await self._read(lambda: sorted({key.partition(":")[0] for key in self.table.documents}, key=str.encode))

    async def counters(self, *, after: str = "", limit: int = 1_000) -> Sequence[tuple[str, int]]:
        """Counters with keys greater than ``after``, in byte order: for copying a whole store."""
        check_list("counter", after, limit)
        return await self._read(lambda: self.table.counter_rows(after, limit))

    async def close(self) -> None:
        """Later calls, and those held by a pause, fail as from a store that has gone."""
        self._closed = True
        for held in self._held:
            if held.answer is not None and not held.answer.done():
                held.answer.set_exception(_Gone())
        self._held.clear()

    def pause(self) -> None:
        """Hang: requests arrive and nothing answers, until ``resume``."""
        self._paused = True

    def resume(self) -> None:
        """Apply what was sent meanwhile, in order; callers that still wait get their answer."""
        self._paused = False
        while self._held:
            held = self._held.popleft()
            try:
                result = held.apply()
            except StoreError as error:
                if held.answer is not None and not held.answer.done():
                    held.answer.set_exception(error)
            else:
                if held.answer is not None and not held.answer.done():
                    held.answer.set_result(result)

    def statistics(self) -> dict[str, int]:
        """How often each fate was dealt, how many requests a pause holds, how many documents there are."""
        fates: dict[str, int] = {str(fate): times for fate, times in self._fates.items()}
        return {**fates, "held": len(self._held), "documents": len(self.table.documents)}

    async def _read(self, apply: Callable[[], T]) -> T:
        if await self._travel(writes=False) == "temporary":
            raise Temporary("by chance")
        try:
            result = await self._arrive(apply)
        except (TimeoutError, _Gone):
            raise Unavailable("no answer in time") from None
        await self._delay()
        if self._away():
            raise Unavailable("the store went away before it answered")
        return result

    async def _write(self, apply: Callable[[], T]) -> T:
        fate = await self._travel(writes=True)
        if fate == "temporary":
            raise Temporary("by chance")
        if fate in ("lost", "late"):
            if fate == "late":
                self._apply_later(apply)
            await self._delay()
            raise Ambiguous("no answer, by chance")
        try:
            result = await self._arrive(apply)
        except (TimeoutError, _Gone):
            raise Ambiguous("no answer in time") from None
        except StoreError:
            if fate == "applied":  # the answer, whatever it was, is lost
                raise Ambiguous("answer lost, by chance") from None
            raise
        await self._delay()
        if fate == "applied" or self._away():
            raise Ambiguous("applied, answer lost")
        return result

    async def _travel(self, *, writes: bool) -> Fate:
        """The way there. Raises Unavailable where the store is away at either end of it: nothing was applied."""
        fate: Fate = "well" if self.faults is None else self.faults.fate(writes=writes)
        self._fates[fate] = self._fates.get(fate, 0) + 1
        self._check_away()
        await self._delay()
        self._check_away()
        return fate

    def _check_away(self) -> None:
        if self._away():
            raise Unavailable("the store is away")

    def _away(self) -> bool:
        if self._closed:
            return True
        return self.faults is not None and self.faults.away(asyncio.get_running_loop().time())

    async def _arrive(self, apply: Callable[[], T]) -> T:
        """Apply at once, or when the pause ends. Raises TimeoutError after STORE_CALL_MS, Temporary when full."""
        if not self._paused:
            return apply()
        if len(self._held) == self._held.maxlen:
            raise Temporary("the store's queue is full")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._held.append(_Held(apply, answer))
        async with asyncio.timeout(limits.STORE_CALL_MS / 1_000):
            return await answer

    def _apply_later(self, apply: Callable[[], Any]) -> None:
        """Applied after its caller was told Ambiguous: the request that sat in a queue."""
        assert self.faults is not None
        after_s = 2 * self.faults.delay_ms[1] / 1_000 + self.faults.delay_s()
        asyncio.get_running_loop().call_later(after_s, self._arrive_late, apply)

    def _arrive_late(self, apply: Callable[[], Any]) -> None:
        if self._paused:
            if len(self._held) < limits.STORE_QUEUE_WRITES:
                self._held.append(_Held(apply, None))
        elif not self._closed:
            with contextlib.suppress(StoreError):  # nobody waits for the answer
                apply()

    async def _delay(self) -> None:
        """Either way takes at least a turn of the loop, as over a wire: callers never get an answer synchronously."""
        await asyncio.sleep(0 if self.faults is None else self.faults.delay_s())
