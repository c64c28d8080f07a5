"""The motion document: where my avatars are, written every MOTION_DOCUMENT_MS, one document per server generation.

It is what bounds the rollback of VOLATILE position to that time: an avatar taken from a dead server stands where the
row of equal epoch says. Only this generation writes it; losing its last write costs nothing but that.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from gameserver.documents import NOT_THERE, Documents, Overtaken, sleep_ms
from gameserver.records import MotionDocument, MotionRow, motion_key, parse
from runtime.service import Service
from runtime.store.api import Ambiguous, Durability, Unavailable
from world.limits import MOTION_CACHE_MS, MOTION_CACHED_DOCUMENTS, MOTION_DOCUMENT_MS, STORE_CALL_MS
from world.unit import BadDocument


class MotionLog:
    """Writes mine, reads those of dead generations (many avatars of one server come at once: kept for a moment)."""

    def __init__(
        self,
        service: Service,
        documents: Documents,
        generation: int,
        moved: Callable[[], Sequence[Sequence[float]]],
    ) -> None:
        """``moved()``: rows of my avatars that moved since the last call."""
        self._clock = service.clock
        self._log = service.log
        self._documents = documents
        self._key = motion_key(service.node_id, generation)
        self._moved = moved
        self._rows: dict[int, MotionRow] = {}
        self._changed = False
        self._cas = NOT_THERE
        self._cache: OrderedDict[str, tuple[float, dict[int, MotionRow]]] = OrderedDict()
        self._reading: dict[str, asyncio.Future[dict[int, MotionRow]]] = {}  # one read serves all who ask meanwhile

    def forget(self, avatar: int) -> None:
        """It is saved in its own document, or not mine any more."""
        self._changed = self._rows.pop(avatar, None) is not None or self._changed

    async def keep(self) -> None:
        """For ever: write when anybody moved."""
        while True:
            await sleep_ms(MOTION_DOCUMENT_MS)
            await self.write(STORE_CALL_MS)

    async def write(self, give_up_ms: float) -> None:
        """Write what moved since the last write. A store that does not answer is only logged: the next one will do."""
        for avatar, epoch, version, x, y, last_input in self._moved():
            self._rows[int(avatar)] = (int(avatar), int(epoch), int(version), x, y, int(last_input))
            self._changed = True
        if not self._changed:
            return
        self._changed = False
        write_id = self._documents.new_write_id()
        value = msgspec.json.encode(MotionDocument(list(self._rows.values()), write_id))
        try:
            self._cas = await self._documents.write(
                self._key, value, self._cas, write_id, give_up_ms=give_up_ms, durability=Durability.NONE
            )
        except Overtaken as overtaken:  # an older write of mine, of open fate or lost with the store's memory
            self._cas = overtaken.found.cas if overtaken.found is not None else NOT_THERE
            self._changed = True
        except (Unavailable, Ambiguous):
            self._log.info("motion document not written: the store does not answer")
            self._changed = True

    async def row(self, server: str, generation: int, avatar: int, epoch: int) -> MotionRow | None:
        """Where that generation last saw the avatar under ``epoch``. Raises Unavailable."""
        rows = await self._read(motion_key(server, generation))
        row = rows.get(avatar)
        return row if row is not None and row[1] == epoch else None

    async def _read(self, key: str) -> dict[int, MotionRow]:
        now = self._clock.monotonic_ms()
        cached = self._cache.get(key)
        if cached is not None and now - cached[0] < MOTION_CACHE_MS:
            return cached[1]
        if key in self._reading:
            return await asyncio.shield(self._reading[key])
        shared: asyncio.Future[dict[int, MotionRow]] = asyncio.get_running_loop().create_future()
        self._reading[key] = shared
        try:
            shared.set_result(await self._fetch(key))
        except (Unavailable, BadDocument) as problem:
            shared.set_exception(problem)
        finally:
            del self._reading[key]
            if not shared.done():
                shared.set_exception(Unavailable(f"{key}: its reader was ended"))
                shared.exception()  # nobody need have waited for it
        self._keep(key, now, shared.result())
        return shared.result()

    async def _fetch(self, key: str) -> dict[int, MotionRow]:
        found = await self._documents.read(key, give_up_ms=STORE_CALL_MS)
        return {row[0]: row for row in parse(MotionDocument, key, found).rows} if found is not None else {}

    def _keep(self, key: str, now: float, rows: dict[int, MotionRow]) -> None:
        self._cache[key] = (now, rows)
        self._cache.move_to_end(key)
        if len(self._cache) > MOTION_CACHED_DOCUMENTS:
            self._cache.popitem(last=False)
