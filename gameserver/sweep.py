"""The sweep: what a dead generation owned and nobody has needed since is settled and released.

Its ``owned:`` lists name all of it. A list is closed by CAS first: a zombie that still writes it finds it closed, and
of several survivors one sweeps it. Units with open intents are taken (their outbox is driven, then they sleep); the
others are released where they are, an avatar at the position of the motion document. Throttled: those who need a
unit now come first.
"""

from collections.abc import Awaitable, Callable

import msgspec

from gameserver.death import DeathWatch
from gameserver.documents import Documents, Overtaken, sleep_ms
from gameserver.ownership import Contended, Ownership
from gameserver.records import OwnedList, OwnerHead, motion_key, owned_key_parts, parse
from gameserver.units import StoreGone, UnitFull
from runtime.service import Service
from runtime.store.api import Ambiguous, Document, TooLarge, Unavailable
from world.ids import NodeId
from world.limits import STORE_GIVE_UP_MS, SWEEP_DELAY_MS, SWEEP_MS, SWEEP_UNITS_PER_S
from world.unit import BadDocument, Unit


class _Outbox(msgspec.Struct, frozen=True):
    entries: list[msgspec.Raw] = []


class _OpenHead(msgspec.Struct, frozen=True):
    """Whose a unit is, and whether anything of it is under way."""

    owner: str = ""
    generation: int = 0
    epoch: int = 0
    outbox: _Outbox = _Outbox()
    pending: dict[str, msgspec.Raw] = {}

    @property
    def is_open(self) -> bool:
        return bool(self.outbox.entries or self.pending)

    @property
    def head(self) -> OwnerHead:
        return OwnerHead(self.owner, self.generation, self.epoch)


class Sweeper:
    """One per game server; all survivors look, the first to close a list sweeps it."""

    def __init__(
        self,
        service: Service,
        documents: Documents,
        watch: DeathWatch,
        ownership: Ownership,
        load: Callable[[str, Document], Unit],
        restore: Callable[[Unit, OwnerHead], Awaitable[int]],
    ) -> None:
        self._clock = service.clock
        self._log = service.log
        self._rng = service.rng
        self._documents = documents
        self._watch = watch
        self._ownership = ownership
        self._load = load
        self._restore = restore
        self._noticed_ms: dict[tuple[NodeId, int], float] = {}  # dead generations that still have lists
        self.settled = 0

    @property
    def _me(self) -> str:
        return f"{self._watch.node}:{self._watch.generation}"

    async def keep(self) -> None:
        """For ever."""
        while True:
            await sleep_ms(SWEEP_MS * self._rng.uniform(0.5, 1.5))
            try:
                await self.round()
            except (StoreGone, Unavailable, Ambiguous) as problem:
                self._log.info("sweep put off", reason=problem.code)

    async def round(self) -> None:
        """Look once for lists of dead generations and sweep those that are due. Raises Unavailable, Ambiguous."""
        lists: dict[tuple[NodeId, int], list[str]] = {}
        for key in await self._documents.list("owned", give_up_ms=STORE_GIVE_UP_MS):
            server, generation, _ = owned_key_parts(key)
            lists.setdefault((server, generation), []).append(key)
        self._noticed_ms = {life: at for life, at in self._noticed_ms.items() if life in lists}
        for life, keys in lists.items():
            if life == (self._watch.node, self._watch.generation) or not await self._watch.is_dead(*life):
                continue
            now = self._clock.monotonic_ms()
            if now - self._noticed_ms.setdefault(life, now) >= SWEEP_DELAY_MS:
                await self._sweep_life(life, keys)

    async def _sweep_life(self, life: tuple[NodeId, int], keys: list[str]) -> None:
        swept = [await self._sweep_list(life, key) for key in keys]
        if all(swept):
            motion = motion_key(*life)
            found = await self._documents.read(motion, give_up_ms=STORE_GIVE_UP_MS)
            if found is not None:
                await self._documents.remove(motion, found.cas, give_up_ms=STORE_GIVE_UP_MS)
            self._log.info("swept", server=life[0], generation=life[1])

    async def _sweep_list(self, life: tuple[NodeId, int], key: str) -> bool:
        """True when the list is gone; False where another sweeps it, or a unit could not be settled yet."""
        found = await self._documents.read(key, give_up_ms=STORE_GIVE_UP_MS)
        if found is None:
            return True
        closed = await self._close(key, found)
        if closed is None:
            return False
        units, cas = closed
        settled = True
        for unit in units:
            try:
                settled = await self._settle(life, unit) and settled
            except (BadDocument, TooLarge, UnitFull) as error:  # it stays as it is; who needs it finds it so too
                self._log.error("unreadable or too large", unit=unit, problem=str(error))
            await sleep_ms(1_000 / SWEEP_UNITS_PER_S)
        return settled and await self._documents.remove(key, cas, give_up_ms=STORE_GIVE_UP_MS)

    async def _close(self, key: str, found: Document) -> tuple[list[str], int] | None:
        """(units, token) of the list closed by me; None where a living other has it."""
        listed = parse(OwnedList, key, found)
        if listed.closed_by == self._me:
            return listed.units, found.cas
        if listed.closed_by:
            sweeper, _, generation = listed.closed_by.rpartition(":")
            if await self._watch.is_alive(sweeper, int(generation)):
                return None
        write_id = self._documents.new_write_id()
        closed = msgspec.json.encode(OwnedList(listed.units, closed_by=self._me, write_id=write_id))
        try:
            cas = await self._documents.write(key, closed, found.cas, write_id, give_up_ms=STORE_GIVE_UP_MS)
        except Overtaken:
            return None
        return listed.units, cas

    async def _settle(self, life: tuple[NodeId, int], unit: str) -> bool:
        """One unit of the list; True when nothing of that life is left in it."""
        found = await self._documents.read(unit, give_up_ms=STORE_GIVE_UP_MS)
        if found is None:
            return True
        head = parse(_OpenHead, unit, found)
        if head.owner and (head.owner, head.generation) != life:
            return True
        self.settled += 1
        if head.is_open:
            try:
                await self._ownership.take(unit)
            except Contended:
                return False
        elif head.owner:
            await self._release(unit, found, head.head)
        return True

    async def _release(self, unit: str, found: Document, head: OwnerHead) -> None:
        """Owner none, epoch kept, in the dead one's stead. Overtaken: somebody needed it just now."""
        claimed = self._load(unit, found)
        await self._restore(claimed, head)
        write_id = self._documents.new_write_id()
        claimed.begin_write()
        try:
            await self._documents.write(
                unit,
                claimed.document("", 0, write_id, self._documents.format),
                found.cas,
                write_id,
                give_up_ms=STORE_GIVE_UP_MS,
            )
        except Overtaken:
            return
