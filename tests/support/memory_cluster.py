"""Rules on one, two or three in-memory 'servers': what scenarios run on. Each server holds some units as reals, and
of all others the ghosts that their owners published, as bytes; calls and deliveries travel encoded."""

import asyncio
from collections.abc import Sequence
from typing import Any

from world.entity import table_of
from world.ids import avatar_unit, entity_id, kind_of, region_unit, unit_of
from world.limits import REACH_M, REGION_M
from world.message_values import Change
from world.messages import Actor, Deliver, Invoke, Json, Key, Returned, decode, encode
from world.results import Outcome, Refusal, command_key
from world.rules import Context, SavedBy, digest, find, perform
from world.terrain import spawn
from world.transaction_document import holds_of, transaction_id
from world.unit import Property, Unit, View

SEED = 1


class MemoryServer:
    """A ``world.handle.Runtime``."""

    def __init__(self, cluster: "MemoryCluster", name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.units: dict[str, Unit] = {}
        self.ghosts: dict[int, tuple[int, float, float, dict[str, Any]]] = {}  # entity -> epoch, x, y, public fields

    # -- Runtime -----------------------------------------------------------------------------------------------------
    def view(self, entity: int) -> View | None:
        unit = self.units.get(unit_of(entity))
        if unit is not None:
            return unit.view(entity) if entity in unit.entities else None
        ghost = self.ghosts.get(entity)
        return None if ghost is None else View(entity, *ghost)

    def knows(self, entity: int) -> bool:
        return self.view(entity) is not None

    def near(self, x: float, y: float, radius: float, kind: int | None = None) -> list[View]:
        known = [*self.ghosts, *(e for unit in self.units.values() for e in unit.entities)]
        views = [v for e in known if kind in (None, kind_of(e)) and (v := self.view(e)) is not None]
        found = sorted(((v.x - x) ** 2 + (v.y - y) ** 2, v.entity, v) for v in views)
        return [v for squared, _, v in found if squared <= radius**2]

    def actor(self, avatar: int) -> Actor:
        unit = self.units[avatar_unit(avatar)]
        view = unit.view(avatar)
        return Actor(avatar, unit.epoch, view.values["name"], view.x, view.y, REACH_M)

    def area_event(self, entity: int, body: Json) -> None:
        self.cluster.heard.append(body)

    async def invoke(self, entity: int, mutator: str, args: Json, key: Key, actor: Actor | None) -> Json:
        owner = self.cluster.owner(unit_of(entity))
        await asyncio.sleep(0)
        if owner is self:
            return self.run(entity, mutator, args, key, actor)
        asked = decode(encode(Invoke(entity, 0, mutator, args, key, actor)))
        assert isinstance(asked, Invoke)
        value = owner.run(asked.entity, asked.mutator, asked.args, asked.key, asked.actor)
        answer = decode(encode(Returned(value, 1, 1)))
        assert isinstance(answer, Returned)
        return answer.value

    async def transact(self, avatar: int, changes: Sequence[Change], key: Key, result: Json | None) -> None:
        """Nobody dies here: lock all, then apply all."""
        tx, units = transaction_id(key), self.cluster.unit
        if self.units[avatar_unit(avatar)].results.find(key) is not None:
            return
        holds, locked = holds_of(changes, key, result), list[str]()
        try:
            for unit, hold in holds.items():
                units(unit).lock(tx, hold)
                locked.append(unit)
        except Refusal:
            for unit in locked:
                units(unit).unlock(tx)
            raise
        for unit in holds:
            units(unit).apply(tx)
            self.cluster.commit(units(unit))

    async def bargain(self, avatar: int, trade: str, act: str, args: Json, key: Key) -> Json:
        raise Refusal("trade_closed", "nobody negotiates here")

    def bargain_ended(self, avatar: int, trade: str, code: str, commit: str) -> None: ...

    # -- owning ------------------------------------------------------------------------------------------------------
    def run(self, entity: int, mutator: str, args: Json, key: Key, actor: Actor | None) -> Json:
        unit = self.units[unit_of(entity)]
        pending = unit.invoke(entity, mutator, args, key, actor)
        self.cluster.commit(unit)
        assert unit.committed >= pending.version
        return pending.value

    async def command(self, avatar: int, key: Key, op: str, args: Json) -> Outcome:
        """As the avatar's owner serves a client's command."""
        unit = self.units[avatar_unit(avatar)]
        try:
            found = unit.result(key)
            return found[0] if found is not None else await self._fresh(unit, avatar, key, op, args)
        except Refusal as refusal:
            return Outcome.refused(refusal)

    async def _fresh(self, unit: Unit, avatar: int, key: Key, op: str, args: Json) -> Outcome:
        value = await perform(Context(self, avatar, key), op, args)
        if find(op).saved_by is SavedBy.MEMORY:
            unit.record_result(key, Outcome(True, value), durable=False)
        found = unit.result(key)
        assert found is not None, "the transfer saved the command's result"
        assert unit.committed >= found[1]
        return found[0]

    def show(self, entity: int, epoch: int, x: float, y: float, group: int, body: bytes) -> None:
        """A record of another server's real."""
        _, _, _, fields = self.ghosts.get(entity, (0, 0.0, 0.0, dict(table_of(entity).defaults)))
        self.ghosts[entity] = (epoch, x, y, {**fields, **table_of(entity).decode_group(group, body)})


class MemoryCluster:
    """``places``: index of the server that owns the region, then of those that own each avatar."""

    def __init__(self, servers: int, places: tuple[int, ...], names: tuple[str, ...]) -> None:
        self.servers = [MemoryServer(self, f"gs{n + 1}") for n in range(servers)]
        self.heard: list[Json] = []
        x, y = spawn(SEED)
        region = (int(x) // REGION_M, int(y) // REGION_M)
        self.region = region_unit(*region)
        self.avatars = {name: entity_id(1, n + 1) for n, name in enumerate(names)}
        self._place(Unit.new_region(*region, SEED), places[0])
        for (name, avatar), place in zip(self.avatars.items(), places[1:], strict=True):
            self._place(Unit.new_avatar(avatar, name, x, y), place)

    def _place(self, unit: Unit, server: int) -> None:
        self.servers[server].units[unit.key] = unit
        self.commit(unit)
        self._publish(unit, list(unit.properties()))

    def owner(self, key: str) -> MemoryServer:
        return next(s for s in self.servers if key in s.units)

    def unit(self, key: str) -> Unit:
        return self.owner(key).units[key]

    def move(self, name: str, x: float, y: float) -> None:
        avatar = self.avatars[name]
        unit = self.unit(avatar_unit(avatar))
        unit.place(avatar, x, y)
        self._publish(unit, list(unit.properties()))

    def commit(self, unit: Unit) -> None:
        """Write, publish, deliver what is in the outbox, until nothing is left to do."""
        while unit.dirty is not None:
            version = unit.begin_write()
            unit.document("gs", 1, f"w{version}")
            self._publish(unit, unit.landed(version, version))
            for entry in unit.outbox_entries():
                self._deliver(
                    Deliver(
                        unit.key, unit.epoch, entry.n, unit.floor, entry.to, 0, entry.items, entry.cause, entry.result
                    )
                )
                unit.delivered(entry.n)

    def _deliver(self, delivery: Deliver) -> None:
        received = decode(encode(delivery))
        assert isinstance(received, Deliver)
        receiver = self.unit(received.unit)
        receiver.deliver(received)
        self.commit(receiver)

    def _publish(self, unit: Unit, properties: list[Property]) -> None:
        for p in properties:
            real = unit.entities[p.entity]
            for server in self.servers:
                if unit.key not in server.units:
                    server.show(p.entity, unit.epoch, real.x, real.y, p.group, p.body)

    async def command(self, name: str, number: int, op: str, args: Json, floor: int = 0) -> Outcome:
        avatar = self.avatars[name]
        key = command_key(avatar_unit(avatar), 1, number, floor, digest(op, args))
        return await self.owner(key.origin).command(avatar, key, op, args)
