"""What bots know of the land: where one can walk, and what stands where, from snapshot slices."""

import itertools
import math
import random
from typing import Any

import httpx
import numpy as np

from cluster.bots.land import Land, motions, standing
from tests.support.aio import run
from world import frames
from world.ids import AVATAR_KIND, entity_id

FACTS: dict[str, Any] = {
    "spawn": [100, 100],
    "sight_m": 50,
    "reach_m": 4,
    "walk_m_per_s": 6,
    "world_m": 512,
    "region_m": 256,
    "ground": {
        "tile_m": 4,
        "region_tiles": 64,
        "kinds": [{"id": 0, "walkable": False}, {"id": 1, "walkable": True}],
    },
}


def river(request: httpx.Request) -> httpx.Response:
    """Region 0,0 is dry but for a river at x = 120 … 124; no other region is asked for here."""
    assert request.url.path == "/v1/world/ground/0,0"
    ground = np.ones((64, 64), np.uint8)
    ground[:, 30] = 0
    return httpx.Response(200, content=ground.tobytes())


def dry_land() -> Land:
    async def fetch() -> Land:
        async with httpx.AsyncClient(transport=httpx.MockTransport(river), base_url="http://x") as http:
            land = Land(http, "http://x", FACTS)
            await land.load_around(100, 100, 50)
            return land

    return run(fetch())


def snapshot(*rows: tuple[int, float, float]) -> bytes:
    records = np.zeros(len(rows), frames.MOTION)
    for n, (entity, x, y) in enumerate(rows):
        records[n]["entity"], records[n]["x"], records[n]["y"] = entity, x, y
    return frames.slice_bytes(frames.SNAPSHOT, 0, 0, 1, 1, 1, 0, [frames.motion_block(records)])


def test_water_the_unknown_and_the_outside_are_not_walked() -> None:
    land = dry_land()
    assert land.walkable(100, 100)
    assert not land.walkable(121, 100)
    assert not land.walkable(300, 100)
    assert not land.walkable(-1, 100)
    assert land.clear(100, 100, 110, 140)
    assert not land.clear(100, 100, 140, 100)


def test_routes_lead_around_water_to_places_near_the_spawn() -> None:
    land, rng = dry_land(), random.Random(1)
    land.explore(40)
    routes = [land.route(rng) for _ in range(50)]
    assert len({route[0] for route in routes}) > 20
    for route in routes:
        assert route[-1] == land.spawn
        assert math.hypot(route[0][0] - 100, route[0][1] - 100) <= 80
        assert all(land.clear(*here, *there) for here, there in itertools.pairwise(route))
        assert route[0][0] < 120  # the river is in the way


def test_what_stands_is_learned_and_found_nearest_first() -> None:
    tree, rock = entity_id(2, 7), entity_id(3, 8)
    piece = snapshot((tree, 105.0, 100.0), (entity_id(AVATAR_KIND, 1), 101.0, 100.0), (rock, 102.0, 100.0))
    rows = motions(piece)
    assert rows is not None
    assert list(standing(rows)) == [(tree, 105.0, 100.0), (rock, 102.0, 100.0)]
    land = dry_land()
    land.learn(rows)
    assert [node[0] for node in land.nodes(100, 100, 20)] == [rock, tree]
    land.forget(rock, 102.0, 100.0)
    assert [node[0] for node in land.nodes(100, 100, 20)] == [tree]


def test_a_slice_without_motion_has_no_rows() -> None:
    assert motions(frames.slice_bytes(frames.SNAPSHOT, 0, 0, 1, 1, 1, 0, [])) is None
