"""Entity, unit and node identities.

An entity id is an integer below 2**53, so that it is exact in JavaScript and JSON::

    bits 52..48  kind      0..31, the entity kind of world/entity.py
    bits 47..0   number    avatars: a store counter
                           natural contents of a region: region y (8) | region x (8) | index (32)

A unit (what is owned, fenced, saved and moved whole) is named by its document key: ``avatar:{id}`` or
``region:{x},{y}``.
A node is ``{role prefix}{number}``: ``gs1``, ``gw2``, ``lg1``, ``br1``, ``st1``.
"""

from typing import NewType

EntityId = NewType("EntityId", int)
UnitKey = NewType("UnitKey", str)
NodeId = NewType("NodeId", str)

KIND_SHIFT = 48
NUMBER_MASK = (1 << KIND_SHIFT) - 1
ENTITY_ID_LIMIT = 1 << 53

AVATAR_KIND = 1

ROLE_PREFIX = {"gameserver": "gs", "gateway": "gw", "login": "lg", "broker": "br", "store": "st", "supervisor": "sv"}


def entity_id(kind: int, number: int) -> EntityId:
    """Raises ValueError outside 5 bits of kind and 48 bits of number."""
    if not 0 < kind < 32 or not 0 <= number <= NUMBER_MASK:
        raise ValueError(f"no entity id for kind {kind}, number {number}")
    return EntityId(kind << KIND_SHIFT | number)


def kind_of(entity: int) -> int:
    return entity >> KIND_SHIFT


def natural_id(kind: int, region_x: int, region_y: int, index: int) -> EntityId:
    """The id of the ``index``-th natural entity of a region; the same on every server, from the seed alone."""
    return entity_id(kind, region_y << 40 | region_x << 32 | index)


def natural_region(entity: int) -> tuple[int, int]:
    """(x, y) of the region a natural (non-avatar) entity belongs to."""
    return entity >> 32 & 0xFF, entity >> 40 & 0xFF


def avatar_unit(avatar: int) -> UnitKey:
    return UnitKey(f"avatar:{avatar}")


def avatar_of(unit: str) -> int:
    """The avatar whose unit it is. Raises ValueError for another unit's key."""
    return int(unit.removeprefix("avatar:"))


def region_unit(x: int, y: int) -> UnitKey:
    return UnitKey(f"region:{x},{y}")


def unit_of(entity: int) -> UnitKey:
    """The unit whose document holds this entity."""
    if kind_of(entity) == AVATAR_KIND:
        return avatar_unit(entity)
    return region_unit(*natural_region(entity))


def node_number(node: str) -> int:
    """The numeric part of a node id: the publisher number in binary frames."""
    return int(node.lstrip("abcdefghijklmnopqrstuvwxyz"))
