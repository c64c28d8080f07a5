"""The layout of a unit's document; ``world.unit`` draws it. Unknown fields are ignored; older formats are brought up to
FORMAT when they are read (``world.upgrades``)."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec

from world.entity import Entity, Stock, table_of
from world.message_values import Hold
from world.messages import Json
from world.natural import natural
from world.results import Origin, Refusal
from world.transaction_locks import Locks
from world.transfer import Entry
from world.upgrades import FORMATS
from world.upgrades import BadDocument as BadDocument

UNIT = "unit"  # the kind of these documents in ``world.upgrades``
Whole = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]


DocumentT = TypeVar("DocumentT", bound=msgspec.Struct)


class Head(msgspec.Struct, frozen=True):
    """Who owns the unit and which write this is, alike in all formats. ``owner`` "": nobody."""

    format: int
    owner: str
    generation: Whole
    epoch: Whole
    version: Whole
    write_id: str

    @staticmethod
    def parse(value: bytes) -> "Head":
        """Raises BadDocument."""
        return _parse(value, Head)


class Data(msgspec.Struct, omit_defaults=True):
    entities: dict[str, Json] = {}
    attach: tuple[Whole, Whole, str] = (0, 0, "")
    grown: Whole = 0
    given: Stock = {}
    gained: Stock = {}


class OutboxData(msgspec.Struct):
    last: Whole = 0
    entries: list[Entry] = []


class _Body(msgspec.Struct):
    data: Data = msgspec.field(default_factory=Data)
    outbox: OutboxData = msgspec.field(default_factory=OutboxData)
    pending: dict[str, Hold] = {}
    done: dict[str, Whole] = {}
    results: dict[str, Origin] = {}
    received: dict[str, tuple[Whole, list[Whole]]] = {}


class UnitDocument(_Body):
    format: int = 0
    owner: str = ""
    generation: Whole = 0
    epoch: Whole = 0
    version: Whole = 0
    write_id: str = ""

    @staticmethod
    def parse(value: bytes) -> "UnitDocument":
        """Raises BadDocument."""
        document = _parse(FORMATS.read(UNIT, value), UnitDocument)
        if not all(i.isdecimal() for i in document.data.entities):
            raise BadDocument("an entity id is no number")
        return document


def _parse(value: bytes, of: type[DocumentT]) -> DocumentT:
    try:
        return msgspec.json.decode(value, type=of)
    except (ValueError, RecursionError) as error:
        raise BadDocument(str(error)) from error


def freeze(
    data: Data,
    outbox: OutboxData,
    locks: Locks,
    results: Mapping[str, Origin],
    received: Mapping[str, tuple[int, list[int]]],
) -> bytes:
    """Everything but the head, encoded now: later changes of the parts do not show."""
    rows = {g: (f, above) for g, (f, above) in received.items()}
    body = _Body(data, outbox, locks.pending, locks.done, dict(results), rows)
    return msgspec.json.encode(body)


def compose(head: Head, body: bytes) -> bytes:
    """Two JSON objects joined into one, in the format that the head names."""
    newest = msgspec.structs.replace(head, format=FORMATS.newest)
    return FORMATS.write(UNIT, msgspec.json.encode(newest)[:-1] + b"," + body[1:], head.format)


def natural_entities(seed: int, x: int, y: int, stored: Mapping[str, Json]) -> dict[int, Entity]:
    """What the seed puts into a region, with what of it is stored."""
    found: dict[int, Entity] = {}
    for entity, _kind, at_x, at_y in natural(seed, x, y):
        found[entity] = table_of(entity).cls(entity, at_x, at_y, stored.get(str(entity)))
    return found


def entities_of(key: str, seed: int, stored: Mapping[str, Json]) -> dict[int, Entity]:
    """What a unit consists of, by its key. Raises BadDocument."""
    try:
        kind, _, rest = key.partition(":")
        if kind == "avatar":
            avatar = int(rest)
            return {avatar: table_of(avatar).cls(avatar, 0.0, 0.0, stored.get(rest))}
        x, y = rest.split(",")
        return natural_entities(seed, int(x), int(y), stored)
    except (ValueError, Refusal) as error:
        raise BadDocument(f"{key}: {error}") from error
