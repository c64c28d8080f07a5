"""What rules need of this server (``world.handle.Runtime``): reads of real and ghost alike, events, mutator calls."""

from collections.abc import Sequence

import orjson

from gameserver.invoking import Invoking
from gameserver.state import StateSide
from gameserver.trading import Trading
from gameserver.trading_talks import Talks
from gameserver.units import Fenced, StoreGone, UnitTable
from world.entity import table_of
from world.ids import AVATAR_KIND, avatar_unit, kind_of, unit_of
from world.limits import COMMAND_DEADLINE_MS, REACH_M
from world.message_values import Change
from world.messages import Actor, Json, Key
from world.results import Refusal
from world.unit import View
from world.view import EntityView


class RuleRuntime:
    """Implements ``world.handle.Runtime``."""

    def __init__(self, table: UnitTable, state: StateSide, invoking: Invoking) -> None:
        self._table = table
        self._state = state
        self._invoking = invoking
        self._trading: Trading  # this and the next by ``connect``
        self._talks: Talks

    def connect(self, trading: Trading, talks: Talks) -> None:
        self._trading, self._talks = trading, talks

    def view(self, entity: int) -> View | None:
        """The committed view of a real of mine, a ghost's newest properties, None for what is not known here."""
        seen = self._state.find(entity)
        return None if seen is None else self._as_view(seen)

    def knows(self, entity: int) -> bool:
        return self._state.knows(entity)

    def near(self, x: float, y: float, radius: float, kind: int | None = None) -> list[View]:
        return [self._as_view(seen) for seen in self._state.near(x, y, radius, kind)]

    def _as_view(self, seen: EntityView) -> View:
        owned = self._table.get(unit_of(seen.entity)) if seen.publisher is None else None
        if owned is not None:
            return owned.unit.view(seen.entity)._replace(x=seen.x, y=seen.y)
        table = table_of(seen.entity)
        values = dict(table.defaults)
        for group, (_, body) in seen.groups.items():
            values.update(table.decode_group(group, body))
        return View(seen.entity, seen.epoch, seen.x, seen.y, values, seen.stale)

    def actor(self, avatar: int) -> Actor:
        """Raises Refusal ``moved``."""
        owned = self._table.get(avatar_unit(avatar))
        place = self._state.place(avatar)
        if owned is None or place is None or kind_of(avatar) != AVATAR_KIND:
            raise Refusal("moved", owned.key if owned is not None else avatar_unit(avatar))
        name = owned.unit.view(avatar).values["name"]
        return Actor(avatar, owned.unit.epoch, name, *place, REACH_M)

    def area_event(self, entity: int, body: Json) -> None:
        self._state.area_event(entity, orjson.dumps(body))

    async def invoke(self, entity: int, mutator: str, args: Json, key: Key, actor: Actor | None) -> Json:
        return await self._invoking.invoke(entity, mutator, args, key, actor, COMMAND_DEADLINE_MS)

    async def transact(self, avatar: int, changes: Sequence[Change], key: Key, result: Json | None) -> None:
        owned = self._table.get(avatar_unit(avatar))
        if owned is None or not owned.serving:
            raise Refusal("moved", avatar_unit(avatar))
        try:
            await self._trading.transact(owned, changes, key, result)
        except Fenced as fenced:
            raise Refusal("moved", avatar_unit(avatar)) from fenced
        except StoreGone as gone:
            raise Refusal(gone.code) from gone

    async def bargain(self, avatar: int, trade: str, act: str, args: Json, key: Key) -> Json:
        return await self._talks.act(avatar, trade, act, args, f"{avatar}.{key.session}.{key.number}")

    def bargain_ended(self, avatar: int, trade: str, code: str, commit: str) -> None:
        self._talks.tell_end(avatar, trade, code, commit)
