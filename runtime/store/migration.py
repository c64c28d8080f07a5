"""A stopped world copied from one store into another: every document and counter, compared at the end.

::

    empty ──marker inserted──> copying ──> documents and counters as in the source ──> compared ──marker──> a world
                                 ^ killed anywhere: the same command goes on                     replaced

The marker stands under ``cluster:format``, which every process of a world reads before it touches anything: with the
marker there none starts (``runtime.store.format``). The last write puts the source's own document in its place. What
lies between is idempotent: a document is written where it is missing or different, a counter raised to where it
stands. So going on needs no journal: who is killed reads again and writes what is lacking.

Tokens are the target's own. No document holds one, and a world that is stopped holds none in memory.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from runtime.store.api import (
    Ambiguous,
    CasMismatch,
    Document,
    Exists,
    NotFound,
    Store,
    StoreError,
    Temporary,
    TooLarge,
    Unavailable,
)
from runtime.store.format import KEY as FORMAT_KEY
from runtime.store.format import MIGRATION_FORMAT, ClusterFormat
from world.limits import (
    DEATH_AFTER_MS,
    MIGRATE_GIVE_UP_MS,
    MIGRATE_IN_FLIGHT_DOCUMENTS,
    STORE_LIST_KEYS,
    STORE_RETRY_CAP_MS,
    STORE_RETRY_MS,
)

COUNTER_STEP = 0xFFFFFFFF  # the most that one call adds (checks.check_counter)
_BUSY = (Temporary, Unavailable)

T = TypeVar("T")
Progress = Callable[[str, int, int], None]  # stage, done, of


class WholeStore(Store, Protocol):
    """A store that can also tell all it holds. The live path needs neither."""

    async def kinds(self) -> Sequence[str]:
        """Kinds of which there is a document (or was), each once."""
        ...

    async def counters(self, *, after: str = "", limit: int = 1_000) -> Sequence[tuple[str, int]]:
        """Counters with keys greater than ``after``, in byte order, at most ``limit`` (<= STORE_LIST_KEYS)."""
        ...


class MigrationRefused(Exception):
    """It was not begun, or what stands in the target is not ours: one sentence for the operator."""


class MigrationStopped(Exception):
    """It was begun and did not come to its end; the same command goes on. One sentence for the operator."""


class Census(NamedTuple):
    """What a store holds, but for ``cluster:format``; ``digest``: SHA-256 over all keys and values in byte order."""

    documents: int
    counters: int
    digest: str


@dataclass(slots=True)
class Report:
    """``written``, ``removed``: by this run; less than ``documents`` where an earlier one was gone on with."""

    documents: int
    counters: int
    digest: str
    written: int = 0
    removed: int = 0
    resumed: bool = False


class _Record(msgspec.Struct, frozen=True):
    """The part of a game server's ``srv:`` record that tells whether it lives."""

    renewed: int = 0
    state: str = ""


class Migration:
    """``origin`` names the source in the marker: only a migration from there is gone on with."""

    def __init__(self, source: WholeStore, target: WholeStore, origin: str, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._origin = origin
        self._progress = progress
        self._written = 0
        self._removed = 0

    async def run(self) -> Report:
        """Raises MigrationRefused, MigrationStopped."""
        world = await self._world()
        await self._check_stopped()
        total = await self._count()
        found = await _read(self._target, FORMAT_KEY)
        if found is not None and found.value == world.value:
            return await self._compared_again(total)
        resumed = await self._mark(found)
        await self._copy(total, resumed)
        if resumed:
            await self._prune()
        await self._copy_counters()
        census = await self._compare(total)
        await self._finish(world)
        return Report(census.documents + 1, census.counters, census.digest, self._written + 1, self._removed, resumed)

    # -- before ------------------------------------------------------------------------------------------------------
    async def _world(self) -> Document:
        """The source's ``cluster:format``. Raises MigrationRefused."""
        found = await _read(self._source, FORMAT_KEY)
        if found is None:
            raise MigrationRefused(f"There is no world in {self._origin}: nothing to copy.")
        if _origin_of(found) is not None:
            raise MigrationRefused(
                f"{self._origin} is itself the target of a migration that did not end: finish that one first."
            )
        return found

    async def _check_stopped(self) -> None:
        """A record that says alive is a running server's, or of one that was killed: only the former renews it."""
        before = await self._living()
        if not before:
            return
        self._progress("watching for running servers", 0, 0)
        await asyncio.sleep(DEATH_AFTER_MS / 1_000)
        renewed = [key for key, value in (await self._living()).items() if before.get(key) != value]
        if renewed:
            names = ", ".join(key.partition(":")[2] for key in sorted(renewed))
            raise MigrationRefused(f"The world in {self._origin} is running ({names} is alive): stop it first.")

    async def _living(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        async for _keys, page in _pages(self._source, "srv"):
            found |= {key: document.value for key, document in page.items() if _alive(document.value)}
        return found

    async def _count(self) -> int:
        total = 0
        for kind in await _patient(self._source.kinds):
            async for keys in _key_pages(self._source, kind):
                total += len(keys)
                self._progress("counting", total, 0)
        return total

    async def _mark(self, found: Document | None) -> bool:
        """Put the marker into an empty target; True where it was there. Raises MigrationRefused."""
        if found is not None and (origin := _origin_of(found)) is not None:
            if origin != self._origin:
                raise MigrationRefused(
                    f"The target is half filled from {origin}: finish that migration, or empty the target."
                )
            return True
        if found is not None or await self._holds_anything():
            raise MigrationRefused("The target holds a world, or something else, already: it must be empty.")
        marker = msgspec.json.encode(ClusterFormat(MIGRATION_FORMAT, 0, self._origin))
        await _put(self._target, FORMAT_KEY, marker, None)
        return False

    async def _holds_anything(self) -> bool:
        for kind in await _patient(self._target.kinds):
            async for keys in _key_pages(self._target, kind):
                if keys:
                    return True
        return bool(await _patient(self._target.counters))

    # -- copying -----------------------------------------------------------------------------------------------------
    async def _copy(self, total: int, resumed: bool) -> None:
        done = 0
        for kind in await _patient(self._source.kinds):
            async for keys, documents in _pages(self._source, kind):
                documents.pop(FORMAT_KEY, None)
                await self._copy_page(documents, resumed)
                done += len(keys)
                self._progress("copying", done, max(total, done))

    async def _copy_page(self, documents: Mapping[str, Document], look: bool) -> None:
        """``look``: an earlier run may have written some of them."""
        asked = list(documents)
        there = await _patient(partial(self._target.get_many, asked)) if look else {}
        lacking = [key for key in asked if key not in there or there[key].value != documents[key].value]
        await _together(*(_put(self._target, key, documents[key].value, there.get(key)) for key in lacking))
        self._written += len(lacking)

    async def _prune(self) -> None:
        """What an earlier run copied and the source, started again in between, has no more."""
        for kind in await _patient(self._target.kinds):
            async for _keys, page in _pages(self._target, kind):
                page.pop(FORMAT_KEY, None)
                asked = list(page)
                kept = await _patient(partial(self._source.get_many, asked))
                gone = [key for key in asked if key not in kept]
                await _together(*(_remove(self._target, key, page[key].cas) for key in gone))
                self._removed += len(gone)

    async def _copy_counters(self) -> None:
        async for page in _counter_pages(self._source):
            await _together(*(self._raise_counter(key, value) for key, value in page))

    async def _raise_counter(self, key: str, value: int) -> None:
        """Looked at by adding nothing: an answer that is lost is looked at anew. Raises MigrationRefused."""
        patience = _Patience()
        delta = 0
        while True:
            try:
                stands = await self._target.counter(key, delta=delta, initial=value)
            except (*_BUSY, Ambiguous) as error:
                await patience.wait(error)
                delta = 0
                continue
            if stands > value:
                raise MigrationRefused(
                    f"The target's counter {key} stands at {stands}, beyond the source's {value}: empty the target."
                )
            if stands == value:
                return
            delta = min(value - stands, COUNTER_STEP)

    # -- after -------------------------------------------------------------------------------------------------------
    async def _compare(self, total: int) -> Census:
        """Raises MigrationStopped where the stores differ."""
        looked = [0, 0]

        def saw(side: int) -> Callable[[int], None]:
            def note(documents: int) -> None:
                looked[side] = documents
                self._progress("comparing", sum(looked), max(2 * total, sum(looked)))

            return note

        source, target = await _together(census(self._source, saw(0)), census(self._target, saw(1)))
        if source != target:
            raise MigrationStopped(
                f"The stores differ ({source.documents} documents and {source.counters} counters in the source, "
                f"{target.documents} and {target.counters} in the target): is one of them in use? "
                "Run the same command again."
            )
        return source

    async def _finish(self, world: Document) -> None:
        """The last write: from now on the target is a world."""
        marker = await _read(self._target, FORMAT_KEY)
        await _put(self._target, FORMAT_KEY, world.value, marker)

    async def _compared_again(self, total: int) -> Report:
        """An earlier run came to its end. Raises MigrationRefused where the target has lived since."""
        try:
            found = await self._compare(total)
        except MigrationStopped as differ:
            raise MigrationRefused("The target holds a world already: it must be empty.") from differ
        return Report(found.documents + 1, found.counters, found.digest, resumed=True)


async def census(store: WholeStore, saw: Callable[[int], None] = lambda documents: None) -> Census:
    """Read all of a store, a page at a time. Raises MigrationStopped."""
    digest = hashlib.sha256()
    documents = counters = 0

    def add(*parts: bytes) -> None:
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)

    for kind in sorted(await _patient(store.kinds), key=str.encode):
        async for keys, page in _pages(store, kind):
            there = [key for key in keys if key in page and key != FORMAT_KEY]
            for key in there:
                add(b"document", key.encode(), page[key].value)
            documents += len(there)
            saw(documents)
    async for rows in _counter_pages(store):
        for key, value in rows:
            add(b"counter", key.encode(), str(value).encode())
        counters += len(rows)
    return Census(documents, counters, digest.hexdigest())


# -- one store -------------------------------------------------------------------------------------------------------
class _Patience:
    """Pauses between tries, ever longer, for MIGRATE_GIVE_UP_MS in all."""

    def __init__(self) -> None:
        self._pause_ms = float(STORE_RETRY_MS)
        self._waited_ms = 0.0

    async def wait(self, error: StoreError) -> None:
        """Raises MigrationStopped."""
        if self._waited_ms >= MIGRATE_GIVE_UP_MS:
            raise MigrationStopped(
                f"A store does not answer ({error.code}: {error}): run the same command again, and it goes on."
            ) from error
        await asyncio.sleep(self._pause_ms / 1_000)
        self._waited_ms += self._pause_ms
        self._pause_ms = min(self._pause_ms * 2, STORE_RETRY_CAP_MS)


async def _patient(read: Callable[[], Awaitable[T]]) -> T:
    patience = _Patience()
    while True:
        try:
            return await read()
        except _BUSY as error:
            await patience.wait(error)


async def _read(store: Store, key: str) -> Document | None:
    async def get() -> Document | None:
        try:
            return await store.get(key)
        except NotFound:
            return None

    return await _patient(get)


async def _put(store: Store, key: str, value: bytes, found: Document | None) -> None:
    """See that ``value`` stands there, in place of ``found``. Raises MigrationStopped, MigrationRefused."""
    patience = _Patience()
    while found is None or found.value != value:
        try:
            if found is None:
                await store.insert(key, value)
            else:
                await store.replace(key, value, found.cas)
        except TooLarge as error:
            raise MigrationRefused(f"The target does not take the document {key}: {error}.") from error
        except (*_BUSY, Ambiguous, Exists, CasMismatch, NotFound) as error:
            await patience.wait(error)
            found = await _read(store, key)
        else:
            return


async def _remove(store: Store, key: str, cas: int) -> None:
    patience = _Patience()
    while True:
        try:
            return await store.remove(key, cas)
        except NotFound:
            return None
        except (*_BUSY, Ambiguous, CasMismatch) as error:
            await patience.wait(error)
            found = await _read(store, key)
            if found is None:
                return None
            cas = found.cas


async def _key_pages(store: Store, kind: str) -> AsyncIterator[list[str]]:
    after = ""
    while True:
        keys = await _patient(partial(store.list, kind, after=after, limit=STORE_LIST_KEYS))
        if keys:
            yield keys
        if len(keys) < STORE_LIST_KEYS:
            return
        after = keys[-1]


async def _pages(store: Store, kind: str) -> AsyncIterator[tuple[list[str], dict[str, Document]]]:
    """(keys, those of them that exist), so few that the largest documents fit into memory."""
    async for keys in _key_pages(store, kind):
        for start in range(0, len(keys), MIGRATE_IN_FLIGHT_DOCUMENTS):
            part = keys[start : start + MIGRATE_IN_FLIGHT_DOCUMENTS]
            yield part, dict(await _patient(partial(store.get_many, part)))


async def _counter_pages(store: WholeStore) -> AsyncIterator[Sequence[tuple[str, int]]]:
    after = ""
    while True:
        rows = await _patient(partial(store.counters, after=after, limit=MIGRATE_IN_FLIGHT_DOCUMENTS))
        if rows:
            yield rows
        if len(rows) < MIGRATE_IN_FLIGHT_DOCUMENTS:
            return
        after = rows[-1][0]


async def _together(*work: Awaitable[T]) -> list[T]:
    """All at once; the first failure ends the others and is raised as it is."""

    async def run(one: Awaitable[T]) -> T:
        return await one

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(one)) for one in work]
    except* (MigrationRefused, MigrationStopped) as failures:
        raise _first(failures) from None
    return [task.result() for task in tasks]


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = failures.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _origin_of(found: Document) -> str | None:
    """Where the migration comes from whose marker this is; None: it is none."""
    try:
        document = msgspec.json.decode(found.value, type=ClusterFormat)
    except (msgspec.DecodeError, RecursionError):
        return None
    return document.migrating_from or None


def _alive(value: bytes) -> bool:
    try:
        return msgspec.json.decode(value, type=_Record).state == "alive"
    except (msgspec.DecodeError, RecursionError):
        return False
