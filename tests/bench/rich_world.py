"""A world in which nothing runs out, written into a store before its cluster starts: trees with a large stock, and the
avatars of the guests to come, who find themselves beside one. No rule of the game and no setting knows of it: these
are documents as game servers write them, so what follows is the ordinary path, and players can do none of this.

``items`` of the avatars are said to be given by the first region, so that the books add up from the start.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.store.format import agree
from runtime.store.sqlite import SqliteStore
from world.content import guest_name
from world.grid import REGIONS, region_at
from world.ids import AVATAR_KIND, NUMBER_MASK, entity_id
from world.kinds import TREE, Tree
from world.limits import REGION_M
from world.natural import natural
from world.terrain import Terrain, spawn
from world.unit import Unit

STOCK = 100_000_000  # of each tree: no run is so long
BESIDE_M = 1.5
PARTS = 2  # a region's side is cut into so many parts, with one tree in each: most are out of each other's sight
TREES_PER_REGION = PARTS * PARTS
ITEMS: dict[str, int] = {}


class Place(NamedTuple):
    """A tree, and where who gathers from it stands (metres)."""

    tree: int
    region: tuple[int, int]
    x: float
    y: float


def places(seed: int, regions: int) -> list[Place]:
    """TREES_PER_REGION of each of the ``regions`` nearest to the spawn that have them; neighbours in the list are of
    different regions. Raises ValueError where the world has not so many."""
    terrain, found = Terrain(seed), []
    for x, y in _around(region_at(*spawn(seed))):
        here = _places_of(terrain, x, y)
        if len(here) == TREES_PER_REGION:
            found.append(here)
        if len(found) == regions:
            return [row[n] for n in range(TREES_PER_REGION) for row in found]
    raise ValueError(f"the world has no {regions} regions with {TREES_PER_REGION} trees apart")


def _around(center: tuple[int, int]) -> Iterator[tuple[int, int]]:
    everywhere = [(x, y) for y in range(REGIONS) for x in range(REGIONS)]
    yield from sorted(everywhere, key=lambda at: (math.dist(at, center), at))


def _places_of(terrain: Terrain, x: int, y: int) -> list[Place]:
    """In each part of the region the tree nearest to its middle that can be stood beside."""
    trees = [node for node in natural(terrain.seed, x, y) if node.kind == TREE]
    side = REGION_M / PARTS
    found = []
    for part in range(TREES_PER_REGION):
        middle = (x * REGION_M + (part % PARTS + 0.5) * side, y * REGION_M + (part // PARTS + 0.5) * side)
        for tree in sorted(trees, key=lambda tree: math.dist((tree.x, tree.y), middle)):
            stands = terrain.walkable(np.array([tree.x + BESIDE_M]), np.array([tree.y]))[0]
            if stands and math.dist((tree.x, tree.y), middle) < side / 2:
                found.append(Place(tree.entity, (x, y), tree.x + BESIDE_M, tree.y))
                break
    return found


def avatar_of(guest: int) -> int:
    """The avatar of the ``guest``-th to come, from 0, in a world without accounts."""
    return entity_id(AVATAR_KIND, guest + 1)


def guest_number(avatar: int) -> int:
    """And back."""
    return (avatar & NUMBER_MASK) - 1


async def write_rich_world(
    folder: Path, seed: int, standing: Sequence[Place], items: Sequence[Mapping[str, int]] = ()
) -> None:
    """``folder``: the cluster's data folder, new. ``standing``: the place of each guest to come; ``items``: what each
    carries."""
    (folder / "store").mkdir(parents=True)
    store = SqliteStore(folder / "store" / "world.sqlite")
    try:
        agreed = await agree(store, seed)
        carried = [items[n] if items else ITEMS for n in range(len(standing))]
        units = [*_regions(seed, standing, carried), *_avatars(seed, standing, carried)]
        for unit in units:
            unit.begin_write()
            await store.insert(unit.key, unit.document("", 0, "bench", agreed.number))
    finally:
        await store.close()


def _regions(seed: int, standing: Sequence[Place], carried: Sequence[Mapping[str, int]]) -> Iterator[Unit]:
    given: dict[str, int] = {}
    for row in carried:
        given = {name: given.get(name, 0) + row.get(name, 0) for name in {*given, *row}}
    for x, y in dict.fromkeys(place.region for place in standing):
        unit = Unit.new_region(x, y, seed)
        for place in standing:
            tree = unit.entities.get(place.tree)
            if isinstance(tree, Tree):
                before = tree.open()
                tree.wood = STOCK
                tree.close(before, keep=True)
        unit.given, given = given, {}
        yield unit


def _avatars(seed: int, standing: Sequence[Place], carried: Sequence[Mapping[str, int]]) -> Iterator[Unit]:
    for guest, (place, items) in enumerate(zip(standing, carried, strict=True)):
        avatar = avatar_of(guest)
        unit = Unit.new_avatar(avatar, guest_name(guest + 1), place.x, place.y, seed)
        unit._receive(items)
        unit.gained = dict(items)
        yield unit
