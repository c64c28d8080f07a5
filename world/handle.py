"""Handles: a rule reads ``tree.wood`` and awaits ``tree.chop(by=avatar)`` without knowing where the real is.

A read is local on real and ghost alike (the committed view, or the ghost's properties). A mutator call goes through the
``Runtime``, which runs it here or asks the real's owner; it returns once the write that holds its effect is committed.
Both sides offer the same: public fields, ``x``, ``y``, ``stale`` and mutators. Anything else raises AttributeError.
"""

from collections.abc import Awaitable, Callable, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from world.entity import OWNER, PUBLIC, KindTable, table_of
from world.ids import avatar_of, unit_of
from world.limits import COMMAND_MUTATOR_CALLS
from world.message_values import Change
from world.messages import Actor, Json, Key
from world.results import Refusal, call_key
from world.unit import View

TRANSACTION = "transaction"  # what stands in a key for a mutator's name


class Runtime(Protocol):
    """What rules need of the server they run on."""

    def view(self, entity: int) -> View | None:
        """Real or ghost, as everyone may read it; None: not known here."""
        ...

    def knows(self, entity: int) -> bool:
        """Whether ``view`` would find it."""
        ...

    def near(self, x: float, y: float, radius: float, kind: int | None = None) -> list[View]:
        """Views of entities within ``radius`` metres, nearest first."""
        ...

    def actor(self, avatar: int) -> Actor:
        """The facts this server vouches for, as of now. Raises Refusal ``moved`` where it does not own the avatar."""
        ...

    def area_event(self, entity: int, body: Json) -> None:
        """Tell all who see the entity; not durable."""
        ...

    async def invoke(self, entity: int, mutator: str, args: Json, key: Key, actor: Actor | None) -> Json:
        """Run a mutator on the real, here or elsewhere, once, and return its value when it is committed.
        Retries ``Moved`` and ``Busy`` itself. Raises Refusal: the rule's codes, ``unreachable``,
        ``store_unavailable``."""
        ...

    async def transact(self, avatar: int, changes: Sequence[Change], key: Key, result: Json | None) -> None:
        """Do all changes or none, once; returns when that is committed. Raises Refusal."""
        ...

    async def bargain(self, avatar: int, trade: str, act: str, args: Json, key: Key) -> Json:
        """One deed in a negotiation, wherever it is kept; its answer. Raises Refusal."""
        ...

    def bargain_ended(self, avatar: int, trade: str, code: str, commit: str) -> None:
        """Tell who keeps it how its commit ended, "" for well; not waited for."""
        ...


class Scope:
    """One command's calls: each gets the command's key, its unit, mutator and ordinal."""

    __slots__ = ("_ordinal", "key", "runtime")

    def __init__(self, runtime: Runtime, key: Key) -> None:
        self.runtime = runtime
        self.key = key
        self._ordinal = 0

    async def call(self, entity: int, mutator: str, args: Json, avatar: int) -> Json:
        key = self._next_key(unit_of(entity), mutator)
        return await self.runtime.invoke(entity, mutator, args, key, self.runtime.actor(avatar))

    async def transact(self, changes: Sequence[Change], result: Json | None) -> None:
        """As the command's avatar."""
        origin = self.key.origin
        await self.runtime.transact(avatar_of(origin), changes, self._next_key(origin, TRANSACTION), result)

    def _next_key(self, unit: str, mutator: str) -> Key:
        if self._ordinal >= COMMAND_MUTATOR_CALLS:
            raise Refusal("busy", "the command makes too many calls")
        key = call_key(self.key, unit, mutator, self._ordinal)
        self._ordinal += 1
        return key


class Handle:
    """An entity as a rule holds it. Raises Refusal ``no_such_target`` once it is not known here any more."""

    __slots__ = ("_own", "_scope", "id", "table")

    id: int
    table: KindTable

    def __init__(self, entity: int, scope: Scope, *, own: bool = False) -> None:
        """``own``: the actor's own avatar, whose OWNER fields may be read, as its command runs at its owner.
        Raises Refusal ``no_such_target`` for an id of no kind."""
        self.id = entity
        self.table = table_of(entity)
        self._scope = scope
        self._own = own

    @property
    def scope(self) -> Scope:
        """Of the command that holds this handle."""
        return self._scope

    def view(self) -> View:
        found = self._scope.runtime.view(self.id)
        if found is None:
            raise Refusal("no_such_target", f"{self.id} is not to be seen")
        return found

    @property
    def x(self) -> float:
        return self.view().x

    @property
    def y(self) -> float:
        return self.view().y

    @property
    def stale(self) -> bool:
        """Whether this may be older than its bound."""
        return self.view().stale

    def distance(self, other: "Handle") -> float:
        """Metres."""
        a, b = self.view(), other.view()
        return float(((a.x - b.x) ** 2 + (a.y - b.y) ** 2) ** 0.5)

    def __getattr__(self, name: str) -> Any:
        declared = self.table.fields.get(name)
        if declared is not None and (declared.visibility is PUBLIC or (self._own and declared.visibility is OWNER)):
            value = self.view().values[name]
            return MappingProxyType(value) if type(value) is dict else value
        if name in self.table.mutators:
            return self._caller(name)
        raise AttributeError(f"{self.table.name} has no public field or mutator {name!r}")

    def _caller(self, mutator: str) -> Callable[..., Awaitable[Json]]:
        async def call(*, by: "Handle", **args: Any) -> Json:
            return await self._scope.call(self.id, mutator, args, by.id)

        return call

    def __repr__(self) -> str:
        return f"<{self.table.name} {self.id}>"
