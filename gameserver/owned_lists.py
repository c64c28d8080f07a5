"""My ``owned:`` lists: the units this generation owns or is about to take, always a superset of the truth.

A unit is listed before its document names me, and leaves the list some time after it was released. So whoever
survives me finds all that was mine without searching the store. A list that somebody else has closed means that I
have been declared dead: ``SelfDead``.
"""

import asyncio

import msgspec

from gameserver.death import SelfDead
from gameserver.documents import NOT_THERE, Documents, Overtaken, sleep_ms
from gameserver.records import OwnedList, owned_key, parse, shard_of
from runtime.service import Service
from runtime.store.api import Ambiguous, Unavailable
from world.limits import OWNED_CLEAN_MS, OWNED_SHARDS


class _Shard:
    """One list document: one write in flight, everything wanted meanwhile joins the next."""

    def __init__(self, documents: Documents, node: str, generation: int, number: int) -> None:
        self._documents = documents
        self.key = owned_key(node, generation, number)
        self._cas = NOT_THERE
        self.wanted: set[str] = set()
        self.stored: set[str] = set()
        self._writing = asyncio.Lock()

    async def hold(self, unit: str, give_up_ms: float | None) -> None:
        """Return once the stored list names ``unit``. Raises SelfDead, Unavailable, Ambiguous."""
        self.wanted.add(unit)
        async with self._writing:
            if unit not in self.stored:
                await self._write(give_up_ms)

    async def clean(self, give_up_ms: float | None) -> None:
        """Write the released units out of the list."""
        async with self._writing:
            if self.stored - self.wanted:
                await self._write(give_up_ms)

    async def _write(self, give_up_ms: float | None) -> None:
        listed = set(self.wanted)
        write_id = self._documents.new_write_id()
        value = msgspec.json.encode(OwnedList(sorted(listed), write_id=write_id))
        self.stored &= listed  # what is being removed may be gone from now on, whatever becomes of the write
        try:
            self._cas = await self._documents.write(self.key, value, self._cas, write_id, give_up_ms=give_up_ms)
        except Overtaken as overtaken:
            self._resume(overtaken)
            await self._write(give_up_ms)
        else:
            self.stored = listed

    def _resume(self, overtaken: Overtaken) -> None:
        """An earlier write of mine, given up as ambiguous, has landed: go on from it. Raises SelfDead."""
        if overtaken.found is None:
            raise SelfDead(f"{self.key}: gone")
        found = parse(OwnedList, self.key, overtaken.found)
        if found.closed_by:
            raise SelfDead(f"{self.key}: closed by {found.closed_by}")
        self._cas = overtaken.found.cas


class OwnedLists:
    """All shards of this generation. One cleaning loop; everything else on need."""

    def __init__(self, service: Service, documents: Documents, generation: int) -> None:
        self._log = service.log
        self._shards = [_Shard(documents, service.node_id, generation, n) for n in range(OWNED_SHARDS)]

    async def hold(self, unit: str, give_up_ms: float | None = None) -> None:
        """Return once ``unit`` is listed. Raises SelfDead; after ``give_up_ms`` Unavailable or Ambiguous."""
        await self._shards[shard_of(unit)].hold(unit, give_up_ms)

    def discard(self, unit: str) -> None:
        """``unit`` is not mine (any more): it leaves the list with the next write."""
        self._shards[shard_of(unit)].wanted.discard(unit)

    async def clean(self, give_up_ms: float | None = None) -> None:
        """Write out what was released. Raises as ``hold``."""
        for shard in self._shards:
            await shard.clean(give_up_ms)

    async def keep_clean(self) -> None:
        """For ever. Raises SelfDead."""
        while True:
            await sleep_ms(OWNED_CLEAN_MS)
            try:
                await self.clean(OWNED_CLEAN_MS)
            except (Unavailable, Ambiguous):
                self._log.info("owned lists not cleaned: the store does not answer")
