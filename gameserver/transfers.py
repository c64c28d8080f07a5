"""Transfers under way: each committed outbox entry is delivered until the receiver's owner has committed it.

A unit with entries is driven by one task at a time; a delivery that fails is tried again after REDRIVE_MS, doubled up
to REDRIVE_CAP_MS. An ownerless receiver is taken here, given, and released when idle.
"""

import asyncio

from gameserver.documents import sleep_ms
from gameserver.invoking import Routing, serve_unit
from gameserver.ownership import Ownership
from gameserver.units import Owned, UnitTable
from runtime.mesh.api import Sender
from runtime.service import Service
from world.fence import EpochFence
from world.limits import DELIVERIES_IN_FLIGHT, REDRIVE_CAP_MS, REDRIVE_MS, RPC_DEADLINE_MS
from world.messages import Busy, Deliver, Message, Ok
from world.results import Refusal
from world.transfer import Entry


class Transfers:
    """Both ends of ``Deliver``."""

    def __init__(
        self, service: Service, table: UnitTable, ownership: Ownership, routing: Routing, fence: EpochFence
    ) -> None:
        self._service = service
        self._log = service.log
        self._table = table
        self._ownership = ownership
        self._routing = routing
        self._fence = fence
        self._driven: set[Owned] = set()
        self.delivered = 0
        self.failed = 0  # attempts that will be made again

    @property
    def depth(self) -> int:
        """Outbox entries of all my units."""
        return sum(len(owned.unit.outbox_entries()) for owned in self._driven)

    # -- giving ------------------------------------------------------------------------------------------------------
    def drive(self, owned: Owned) -> None:
        """After a commit or a take: deliver what is in the outbox, unless that is being done already."""
        if owned in self._driven or owned.gone or not owned.unit.outbox_entries():
            return
        self._driven.add(owned)
        self._service.spawn(self._drive(owned), f"deliver of {owned.key}")

    async def _drive(self, owned: Owned) -> None:
        pause_ms = float(REDRIVE_MS)
        try:
            while not owned.gone and (entries := owned.unit.outbox_entries()):
                landed = await asyncio.gather(
                    *(self._deliver(owned, entry) for entry in entries[:DELIVERIES_IN_FLIGHT])
                )
                if all(landed):
                    pause_ms = REDRIVE_MS
                    continue
                self.failed += landed.count(False)
                await sleep_ms(pause_ms)
                pause_ms = min(pause_ms * 2, REDRIVE_CAP_MS)
        finally:
            self._driven.discard(owned)

    async def _deliver(self, owned: Owned, entry: Entry) -> bool:
        unit = owned.unit

        def ask(to_epoch: int) -> Deliver:
            return Deliver(
                giver=owned.key,
                giver_epoch=unit.epoch,
                n=entry.n,
                floor=unit.floor,
                unit=entry.to,
                to_epoch=to_epoch,
                items=entry.items,
                cause=entry.cause,
                result=entry.result,
            )

        async def here(receiver: Owned) -> Ok:
            return await self._receive(receiver, ask(receiver.unit.epoch))

        try:
            await self._routing.reach(entry.to, here, ask, RPC_DEADLINE_MS)
        except Refusal as refusal:
            self._log.info("not delivered yet", giver=owned.key, n=entry.n, to=entry.to, code=refusal.code)
            return False
        self.delivered += 1
        if not owned.gone:
            unit.delivered(entry.n)
            self._table.touch(owned)
        return True

    # -- receiving ---------------------------------------------------------------------------------------------------
    async def serve(self, _: Sender, message: Deliver) -> Message:
        """Another server's delivery: Ok once committed. A giver's old owner is not heard: the new one delivers all
        that was committed. Raises Refused: store_unavailable, not_a_receiver."""
        if not self._fence.admit(message.giver, message.giver_epoch):
            return Busy(message.unit)

        async def here(owned: Owned) -> Ok:
            return await self._receive(owned, message)

        return await serve_unit(self._table, self._ownership, message.unit, message.to_epoch, here)

    async def _receive(self, owned: Owned, message: Deliver) -> Ok:
        version = owned.unit.deliver(message)
        self._table.touch(owned)
        await self._table.committed(owned, version)
        return Ok()
