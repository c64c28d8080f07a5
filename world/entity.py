"""Entities declare their fields once; that table drives documents, ghosts, the wire and the client.

::

    @entity(kind=2, name="tree")
    class Tree(Entity):
        wood: Count = field(COMMIT, PUBLIC, default=5, group=0)

        @mutator
        def chop(self, act: Act) -> Json: ...

A field's *durability class* says what a crash may undo: VOLATILE (position, by the motion document's 500 ms),
WRITE_BEHIND (250 ms), COMMIT (nothing acknowledged). Its *visibility* says who is told: PUBLIC everyone who sees it,
OWNER the player whose it is, SERVER nobody. A *group* of fields travels whole, as a JSON array in table order, under
one property version; all fields of a group have one visibility.

Values are plain JSON values and immutable once set: a mutator assigns a new one (``self.items = {**self.items, …}``).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar, cast, get_type_hints

import msgspec

from world.messages import Actor, Json, Key
from world.results import Refusal, cause_of


class DurabilityClass(IntEnum):
    """Ordered by urgency."""

    VOLATILE = 0
    WRITE_BEHIND = 1
    COMMIT = 2


class Visibility(IntEnum):
    PUBLIC = 0
    OWNER = 1
    SERVER = 2


VOLATILE, WRITE_BEHIND, COMMIT = DurabilityClass.VOLATILE, DurabilityClass.WRITE_BEHIND, DurabilityClass.COMMIT
PUBLIC, OWNER, SERVER = Visibility.PUBLIC, Visibility.OWNER, Visibility.SERVER

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Stock = dict[str, Count]


class Field:
    """A declared field: a descriptor over the entity's working copy."""

    __slots__ = ("default", "durability", "group", "name", "type", "visibility")

    def __init__(self, durability: DurabilityClass, visibility: Visibility, default: Any, group: int) -> None:
        self.name = ""
        self.type: Any = Any
        self.durability = durability
        self.visibility = visibility
        self.default = default
        self.group = group

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: "Entity | None", owner: type) -> Any:
        if instance is None:
            return self
        value = instance.values[self.name]
        return MappingProxyType(value) if type(value) is dict else value

    def __set__(self, instance: "Entity", value: Any) -> None:
        if not instance.writable and self.durability is not VOLATILE:
            raise AttributeError(f"{self.name} is written by the entity's own mutators only")
        instance.values[self.name] = self.check(value)

    def check(self, value: Any) -> Any:
        """A copy of the declared type. Raises msgspec.ValidationError."""
        return msgspec.convert(dict(value) if isinstance(value, Mapping) else value, self.type)


def field(durability: DurabilityClass, visibility: Visibility, *, default: Any, group: int = 0) -> Any:
    """Declare a field; the annotation is its type."""
    return Field(durability, visibility, default, group)


@dataclass(frozen=True)
class KindTable:
    """What is declared of one kind. ``groups``: published group number -> field names in table order."""

    kind: int
    name: str
    cls: "type[Entity]"
    fields: Mapping[str, Field]
    groups: Mapping[int, tuple[str, ...]]
    mutators: Mapping[str, Callable[..., Json]]
    defaults: Mapping[str, Any]

    def visible(self, *visibilities: Visibility) -> tuple[str, ...]:
        return tuple(n for n, f in self.fields.items() if f.visibility in visibilities)

    def encode_group(self, group: int, values: Mapping[str, Any]) -> bytes:
        """JSON array of the group's fields: what a property record carries."""
        return msgspec.json.encode([values[name] for name in self.groups[group]])

    def decode_group(self, group: int, body: Any) -> dict[str, Any]:
        """From the JSON array (bytes, or a list decoded already). A shorter array of an older version gets defaults,
        a longer one of a newer version is cut. Raises msgspec.ValidationError, msgspec.DecodeError."""
        row = msgspec.json.decode(body, type=list[Any]) if isinstance(body, bytes | memoryview) else body
        names = self.groups.get(group, ())
        found = {name: self.fields[name].check(value) for name, value in zip(names, row, strict=False)}
        return {name: found.get(name, self.defaults[name]) for name in names}


class Entity:
    """A real: its working copy. ``x``, ``y``: metres; of a node for ever, of an avatar as last placed."""

    TABLE: ClassVar[KindTable]
    __slots__ = ("__dict__", "extra", "id", "values", "writable")

    x: float
    y: float

    def __init__(self, entity: int, x: float, y: float, stored: Mapping[str, Any] | None = None) -> None:
        """``stored``: field values of a document; unknown ones are kept and written back.
        Raises msgspec.ValidationError."""
        table = self.TABLE
        self.id = entity
        self.values: dict[str, Any] = dict(table.defaults)
        self.writable = False
        self.extra: dict[str, Any] = {}
        self.x, self.y = x, y
        for name, value in (stored or {}).items():
            declared = table.fields.get(name)
            if declared is None:
                self.extra[name] = value
            else:
                self.values[name] = declared.check(value)

    def receive(self, items: Mapping[str, int]) -> None:
        """Items of a transfer arrive. Kinds that can hold items override it. Raises Refusal ``not_a_receiver``."""
        raise Refusal("not_a_receiver", self.TABLE.name)

    def elapse(self, steps: int) -> None:
        """``steps`` x REGROW_MS of world time passed."""

    def open(self) -> dict[str, Any]:
        """Begin a change: the values before it, for ``close``. The old dict is never written again."""
        before, self.values = self.values, dict(self.values)
        self.writable = True
        return before

    def close(self, before: dict[str, Any], *, keep: bool) -> DurabilityClass | None:
        """End it, keeping or undoing all of it; the most urgent class among the fields that changed."""
        self.writable = False
        now = self.values
        changed = [f.durability for name, f in self.TABLE.fields.items() if now[name] != before[name]] if keep else []
        if not changed:
            self.values = before
        return max(changed, default=None)

    def stored(self) -> dict[str, Any]:
        """What a document says of it: only what differs from the defaults."""
        if not self.extra and self.values == self.TABLE.defaults:
            return {}  # most of a region is as the seed made it
        defaults = self.TABLE.defaults
        changed = {n: v for n, v in self.values.items() if v != defaults[n]}
        return {**changed, **self.extra} if self.extra else changed


class Container(Entity):
    """An entity that holds items: its kind declares a COMMIT field ``items: Stock``. ``HOLDS``: up to how many pieces a
    transaction may fill it; what is delivered is never refused. Locked items and reserved room are a transaction's: a
    mutator that leaves fewer than are locked is undone."""

    HOLDS: ClassVar[int]
    locked: Mapping[str, int] = MappingProxyType({})
    reserved: int = 0  # pieces

    items: Stock

    @property
    def stock(self) -> Stock:
        """All that it holds."""
        return dict(self.items)

    @stock.setter
    def stock(self, stock: Stock) -> None:
        self.items = stock

    @property
    def free(self) -> Stock:
        """What of it may be used."""
        return {name: count - self.locked.get(name, 0) for name, count in self.stock.items()}

    @property
    def room(self) -> int:
        """For how many more pieces."""
        return self.HOLDS - sum(self.stock.values()) - self.reserved

    @property
    def keeps_what_is_locked(self) -> bool:
        stock = self.stock
        return all(stock.get(name, 0) >= count for name, count in self.locked.items())

    def receive(self, items: Mapping[str, int]) -> None:
        self.stock = added(self.stock, items)

    def exchange(self, out: Mapping[str, int], into: Mapping[str, int]) -> None:
        """A transaction applies here."""
        left = added(added(self.stock, into), {name: -count for name, count in out.items()})
        self.stock = {name: count for name, count in left.items() if count or name not in out}


def added(stock: Mapping[str, int], items: Mapping[str, int]) -> Stock:
    """The sum of both."""
    return {**stock, **{name: stock.get(name, 0) + count for name, count in items.items()}}


@dataclass(frozen=True)
class Gift:
    """Items that a mutator gave away: the unit makes an outbox entry of it."""

    to: str
    items: Mapping[str, int]
    result: Json


class Act:
    """One mutator call as the rule sees it: who acts (facts vouched for by its owner), arguments, what it gives."""

    __slots__ = ("actor", "args", "gifts", "key")

    def __init__(self, args: Json, key: Key, actor: Actor | None) -> None:
        self.args = args
        self.key = key
        self.actor = actor
        self.gifts: list[Gift] = []

    @property
    def cause(self) -> Key:
        return cause_of(self.key)

    def give(self, items: Mapping[str, int], to: str, result: Json) -> None:
        """Send items, which the mutator has taken out of its own fields, to unit ``to``. The receiver saves
        ``result`` as the outcome of the command that caused it."""
        self.gifts.append(Gift(to, dict(items), result))

    def refuse(self, code: str, detail: str = "") -> NoReturn:
        """Undo everything and answer ``code``."""
        raise Refusal(code, detail)

    def within_reach(self, x: float, y: float) -> bool:
        """Whether the actor, where its owner says it stands, reaches x, y. False without an actor."""
        actor = self.actor
        return actor is not None and (actor.x - x) ** 2 + (actor.y - y) ** 2 <= actor.reach**2


MutatorT = TypeVar("MutatorT", bound=Callable[..., Json])
EntityT = TypeVar("EntityT", bound=type[Entity])
_KINDS: dict[int, KindTable] = {}


def mutator(function: MutatorT) -> MutatorT:
    """Mark a method that may write fields: synchronous, atomic, on one unit; it returns a JSON object."""
    function.__dict__["is_mutator"] = True
    return function


def entity(*, kind: int, name: str) -> Callable[[EntityT], EntityT]:
    """Declare a kind (1..31). Raises ValueError for a number taken, or a group of mixed visibility."""

    def declare(cls: EntityT) -> EntityT:
        if kind in _KINDS or not 0 < kind < 32:
            raise ValueError(f"kind {kind} of {name} is taken or out of range")
        _KINDS[kind] = cls.TABLE = _tabulate(cls, kind, name)
        return cls

    return declare


def _tabulate(cls: type[Entity], kind: int, name: str) -> KindTable:
    hints = get_type_hints(cls, include_extras=True)
    members = {n: getattr(cls, n) for base in reversed(cls.__mro__) for n in vars(base)}
    fields = {n: f for n, f in members.items() if isinstance(f, Field)}
    for field_name, declared in fields.items():
        declared.type = hints[field_name]
        declared.default = declared.check(declared.default)
    return KindTable(
        kind=kind,
        name=name,
        cls=cls,
        fields=MappingProxyType(fields),
        groups=MappingProxyType(_groups(fields.values())),
        mutators=MappingProxyType({n: m for n, m in members.items() if getattr(m, "is_mutator", False)}),
        defaults=MappingProxyType({n: f.default for n, f in fields.items()}),
    )


def _groups(fields: Iterable[Field]) -> dict[int, tuple[str, ...]]:
    groups: dict[int, tuple[str, ...]] = {}
    visibility: dict[int, Visibility] = {}
    for f in fields:
        if visibility.setdefault(f.group, f.visibility) is not f.visibility:
            raise ValueError(f"group {f.group} mixes visibilities at {f.name}")
        if f.visibility is PUBLIC:
            groups[f.group] = (*groups.get(f.group, ()), f.name)
    return groups


def table() -> Mapping[int, KindTable]:
    """The one table: kind number -> what is declared of it."""
    import world.kinds  # noqa: F401  declares every kind on import, and itself imports this module

    return cast(Mapping[int, KindTable], MappingProxyType(_KINDS))


def table_of(entity: int) -> KindTable:
    """Raises Refusal ``no_such_target`` for an id of no declared kind."""
    found = _KINDS.get(entity >> 48) or table().get(entity >> 48)
    if found is None:
        raise Refusal("no_such_target", f"no kind {entity >> 48}")
    return found
