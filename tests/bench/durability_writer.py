"""A game server that does nothing but change values, one of each durability class, and says when: to be killed.

The persistence is the real one: unit table, write-behind, motion document, store client, mesh. Each class has a unit of
its own, because a write takes the whole unit along. Lines on stdout, each one write to the pipe::

    volatile|write_behind|commit N SECONDS    value N was set, by the system's monotonic clock
    acknowledged N SECONDS                    COMMIT: its caller was told

``python -m tests.bench.durability_writer`` with PROJECTK_ variables, as any role.
"""

import asyncio
import os
import sys
import time

from gameserver.app import claim
from gameserver.documents import Documents
from gameserver.motion_document import MotionLog
from gameserver.units import Owned, UnitTable
from runtime.mesh.open import open_mesh
from runtime.service import Service, run
from runtime.settings import read_settings
from runtime.store.access import serve_store
from runtime.store.format import agree
from world.entity import COMMIT, SERVER, WRITE_BEHIND, Act, Count, Entity, entity, field, mutator
from world.ids import avatar_unit, entity_id
from world.messages import Json, Key
from world.unit import Unit

PROBE = 31  # a kind that the game does not have
EVERY_S = 0.005  # a change of each class
WALKER, WORKER, TRADER = (entity_id(PROBE, n) for n in (1, 2, 3))


@entity(kind=PROBE, name="probe")
class Probe(Entity):
    behind: Count = field(WRITE_BEHIND, SERVER, default=0)
    committed: Count = field(COMMIT, SERVER, default=0)

    @mutator
    def work(self, act: Act) -> Json:
        self.behind = act.args["n"]
        return {}

    @mutator
    def trade(self, act: Act) -> Json:
        self.committed = act.args["n"]
        return {}


def say(what: str, n: int) -> None:
    os.write(1, b"%s %d %.6f\n" % (what.encode(), n, time.monotonic()))


class Writer:
    """Continues each value where the store has it."""

    def __init__(self, service: Service, documents: Documents, generation: int) -> None:
        self._service = service
        self._documents = documents
        self._steps = 0
        self.table = UnitTable(service, documents, generation, lambda owned, changes: None, lambda owned: None)
        self.motion = MotionLog(service, documents, generation, self._moved)

    def _moved(self) -> list[tuple[float, ...]]:
        return [(WALKER, 1, self._steps, 0.0, 0.0, 0)]

    async def take(self, probe: int) -> Owned:
        key = avatar_unit(probe)
        found = await self._documents.read(key)
        if found is None:
            unit = Unit.new_avatar(probe, "", 0.0, 0.0)
        else:
            unit = Unit.load(key, found.value, found.cas, 0)
            unit.take()
        owned = self.table.install(unit)
        self.table.touch(owned)
        await self.table.committed(owned, unit.awaited)
        return owned

    def change(self, owned: Owned, probe: int, name: str, n: int) -> int:
        """The version that holds it."""
        unit = owned.unit
        key = Key(owned.key, unit.epoch, n, owned.key, name, 0, max(n - 1, 0))
        version = unit.invoke(probe, name, {"n": n}, key).version
        self.table.touch(owned)
        return version

    async def walk(self) -> None:
        while True:
            self._steps += 1
            say("volatile", self._steps)
            await asyncio.sleep(EVERY_S)

    async def work(self, owned: Owned) -> None:
        n = int(owned.unit.entities[WORKER].values["behind"])
        while True:
            n += 1
            self.change(owned, WORKER, "work", n)
            say("write_behind", n)
            await asyncio.sleep(EVERY_S)

    async def trade(self, owned: Owned) -> None:
        n = int(owned.unit.entities[TRADER].values["committed"])
        while True:
            n += 1
            version = self.change(owned, TRADER, "trade", n)
            say("commit", n)
            await self.table.committed(owned, version)
            say("acknowledged", n)
            await asyncio.sleep(EVERY_S)


async def start(service: Service) -> None:
    mesh = await open_mesh(service, role="gameserver", node_id=service.node_id, generation=None, publishes_state=False)
    store = await serve_store(service, mesh)
    documents = Documents(service, store, await agree(store, service.settings.world_seed), life=mesh.me.nonce)
    generation = (await claim(documents, mesh)).generation
    documents.begin_generation(generation)
    writer = Writer(service, documents, generation)
    worker, trader = await writer.take(WORKER), await writer.take(TRADER)
    say("generation", generation)
    service.spawn(writer.table.write_behind(), "write-behind", loop=True)
    service.spawn(writer.motion.keep(), "motion", loop=True)
    service.spawn(writer.walk(), "walk", loop=True)
    service.spawn(writer.work(worker), "work", loop=True)
    service.spawn(writer.trade(trader), "trade", loop=True)


if __name__ == "__main__":
    sys.exit(run("gameserver", read_settings(), start))
