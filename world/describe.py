"""What a client is told of the world before it draws anything: ``GET /v1/world``. JSON-able, a function of the seed."""

from typing import Any

from world.content import Node, content
from world.entity import KindTable, table
from world.kinds import AVATAR
from world.limits import CELL_M, REACH_M, REGION_M, SIGHT_M, SUBCELL_M, TICK_MS, WALK_SPEED_M_PER_S, WORLD_M
from world.terrain import REGION_TILES, TILE_M, spawn

AVATAR_LOOK = {"label": "Traveller", "color": "#f2c14e", "radius_m": 0.6}


def describe(seed: int) -> dict[str, Any]:
    """Sizes in metres, speeds in metres per second, the ground's kinds, the entities' public groups, the items."""
    return {
        "seed": seed,
        "world_m": WORLD_M,
        "cell_m": CELL_M,
        "subcell_m": SUBCELL_M,
        "region_m": REGION_M,
        "sight_m": SIGHT_M,
        "reach_m": REACH_M,
        "walk_m_per_s": WALK_SPEED_M_PER_S,
        "tick_ms": TICK_MS,
        "spawn": list(spawn(seed)),
        "ground": _ground(),
        "entities": [_entity(kind) for _, kind in sorted(table().items())],
        "items": [{"name": i.name, "label": i.label, "color": i.color} for i in content().items],
    }


def _ground() -> dict[str, Any]:
    kinds = [
        {"id": g.id, "name": g.name, "label": g.label, "color": g.color, "walkable": g.walkable}
        for g in content().ground
    ]
    return {"tile_m": TILE_M, "region_tiles": REGION_TILES, "kinds": kinds}


def _entity(kind: KindTable) -> dict[str, Any]:
    groups = {str(group): list(names) for group, names in kind.groups.items()}
    told: dict[str, Any] = {"kind": kind.kind, "name": kind.name, "groups": groups}
    if kind.kind == AVATAR:
        return {**told, **AVATAR_LOOK, "verb": None, "item": None, "holds": 0}
    return {**told, **_node(content().node(kind.name))}


def _node(node: Node) -> dict[str, Any]:
    return {
        "label": node.label,
        "color": node.color,
        "radius_m": node.radius_m,
        "verb": node.verb,
        "item": node.item,
        "holds": node.holds,
    }
