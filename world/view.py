"""How game code sees an entity, wherever its real is: one type for the real here and for a ghost of one elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from world.ids import kind_of


@dataclass(frozen=True, slots=True)
class EntityView:
    """What is known of an entity at the time of asking, in metres and metres per second."""

    entity: int
    epoch: int
    x: float
    y: float
    vx: float
    vy: float
    motion_version: int
    # group -> (version, JSON array of the group's public fields in table order)
    groups: Mapping[int, tuple[int, bytes]]
    # Number of the publisher a ghost was heard from; None = the real is here. For the runtime, not for rules.
    publisher: int | None = None
    # A ghost older than its bound (its publisher's digests are missing): never silently read as fresh.
    stale: bool = False

    @property
    def kind(self) -> int:
        return kind_of(self.entity)

    def fields(self, group: int) -> list[Any]:
        """The group's fields; empty where nothing of that group was ever published."""
        held = self.groups.get(group)
        fields: list[Any] = [] if held is None else orjson.loads(held[1])
        return fields
