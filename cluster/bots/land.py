"""What all bots of a worker know of the world: where one can walk, and what grows where. From HTTP and from slices."""

import asyncio
import math
import random
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import numpy as np

from cluster.bots.client import ClientError
from world.frames import BLOCK, BLOCK_MOTION, HEAD, MOTION, Records
from world.ids import AVATAR_KIND, KIND_SHIFT
from world.limits import BOT_HTTP_S

_GRID_M = 16.0
_SAMPLE_M = 2.0
_STEP_M = 8.0
EXPLORED_RADII = 2
_NEIGHBOURS = ((1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))


class Land:
    """``spawn`` is (x, y) in m; ``sight_m``, ``reach_m``, ``walk_m_per_s`` as the server says."""

    def __init__(self, http: httpx.AsyncClient, url: str, facts: dict[str, Any]) -> None:
        self._http = http
        self._url = url
        self.spawn: tuple[float, float] = (float(facts["spawn"][0]), float(facts["spawn"][1]))
        self.sight_m = float(facts["sight_m"])
        self.reach_m = float(facts["reach_m"])
        self.walk_m_per_s = float(facts["walk_m_per_s"])
        self._world_m = float(facts["world_m"])
        self._region_m = float(facts["region_m"])
        self._tile_m = float(facts["ground"]["tile_m"])
        self._tiles = int(facts["ground"]["region_tiles"])
        self._dry = bytes(255 if kind["walkable"] else 0 for kind in facts["ground"]["kinds"])
        self._ground: dict[tuple[int, int], bytes] = {}
        self._nodes: dict[tuple[int, int], dict[int, tuple[float, float]]] = {}  # grid square → entity → place
        self._came_from: dict[tuple[int, int], tuple[int, int]] = {(0, 0): (0, 0)}  # explored node → the one before
        self._reachable: list[tuple[int, int]] = [(0, 0)]

    @classmethod
    async def fetch(cls, http: httpx.AsyncClient, url: str) -> "Land":
        """Raises ClientError."""
        try:
            response = await http.get(f"{url}/v1/world", timeout=BOT_HTTP_S)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise ClientError("http", f"/v1/world: {error!r}") from error
        return cls(http, url, response.json())

    async def load_around(self, x: float, y: float, radius_m: float) -> None:
        """Fetch the ground of every region within the radius. Raises ClientError."""
        last = int(self._world_m // self._region_m) - 1
        spans = [
            range(max(0, int((c - radius_m) // self._region_m)), min(last, int((c + radius_m) // self._region_m)) + 1)
            for c in (x, y)
        ]
        wanted = [(rx, ry) for ry in spans[1] for rx in spans[0] if (rx, ry) not in self._ground]
        for rx, ry in wanted:
            try:
                response = await self._http.get(f"{self._url}/v1/world/ground/{rx},{ry}", timeout=BOT_HTTP_S)
                response.raise_for_status()
            except httpx.HTTPError as error:
                raise ClientError("http", f"/v1/world/ground: {error!r}") from error
            self._ground[rx, ry] = response.content
            await asyncio.sleep(0)

    def walkable(self, x: float, y: float) -> bool:
        """False on water, outside of the world, and where the ground was not fetched."""
        if not (0 <= x < self._world_m and 0 <= y < self._world_m):
            return False
        rx, ry = int(x // self._region_m), int(y // self._region_m)
        ground = self._ground.get((rx, ry))
        if ground is None:
            return False
        tile_x = int((x - rx * self._region_m) // self._tile_m)
        tile_y = int((y - ry * self._region_m) // self._tile_m)
        return self._dry[ground[tile_y * self._tiles + tile_x]] != 0

    def clear(self, x: float, y: float, to_x: float, to_y: float) -> bool:
        """One can walk straight from here to there."""
        steps = max(1, math.ceil(math.hypot(to_x - x, to_y - y) / _SAMPLE_M))
        return all(self.walkable(x + (to_x - x) * i / steps, y + (to_y - y) * i / steps) for i in range(1, steps + 1))

    def explore(self, radius_m: float) -> None:
        """Find the points, on a grid of _STEP_M, that one can walk to from the spawn: as much dry land as a disc of
        this radius has, the nearest of it, at most twice the radius away."""
        enough = math.pi * (radius_m / _STEP_M) ** 2
        reach = int(EXPLORED_RADII * radius_m // _STEP_M)
        self._came_from = {(0, 0): (0, 0)}
        edge = [(0, 0)]
        while edge and len(self._came_from) < enough:
            edge = [step for node in edge for step in self._steps(node, reach)]
        self._reachable = sorted(self._came_from)

    def _steps(self, node: tuple[int, int], reach: int) -> Iterator[tuple[int, int]]:
        """Unvisited neighbours of a grid node; they are visited then."""
        for di, dj in _NEIGHBOURS:
            step = node[0] + di, node[1] + dj
            if step in self._came_from or math.hypot(*step) > reach:
                continue
            if self.clear(*self._point(node), *self._point(step)):
                self._came_from[step] = node
                yield step

    def _point(self, node: tuple[int, int]) -> tuple[float, float]:
        return self.spawn[0] + node[0] * _STEP_M, self.spawn[1] + node[1] * _STEP_M

    def route(self, rng: random.Random) -> list[tuple[float, float]]:
        """From a random explored point back to the spawn: the last is the first to walk to."""
        node = rng.choice(self._reachable)
        points = [self._point(node)]
        while node != (0, 0):
            node = self._came_from[node]
            points.append(self._point(node))
        return points

    # -- what grows
    def learn(self, rows: Records) -> None:
        """Remember what of these motion records does not walk."""
        for entity, x, y in standing(rows):
            self._nodes.setdefault((int(x // _GRID_M), int(y // _GRID_M)), {})[entity] = (x, y)

    def forget(self, entity: int, x: float, y: float) -> None:
        self._nodes.get((int(x // _GRID_M), int(y // _GRID_M)), {}).pop(entity, None)

    def nodes(self, x: float, y: float, radius_m: float) -> list[tuple[int, float, float]]:
        """(entity, x, y) of known nodes within the radius, nearest first."""
        near = []
        for gx in range(int((x - radius_m) // _GRID_M), int((x + radius_m) // _GRID_M) + 1):
            for gy in range(int((y - radius_m) // _GRID_M), int((y + radius_m) // _GRID_M) + 1):
                for entity, (nx, ny) in self._nodes.get((gx, gy), {}).items():
                    if (distance := math.hypot(nx - x, ny - y)) <= radius_m:
                        near.append((distance, entity, nx, ny))
        return [(entity, nx, ny) for _distance, entity, nx, ny in sorted(near)]


def motions(piece: bytes) -> Records | None:
    """The MOTION rows of a slice, undecoded otherwise; None where it has none."""
    at = HEAD.size
    for _ in range(HEAD.unpack_from(piece)[4]):
        kind, _zero, count, length = BLOCK.unpack_from(piece, at)
        at += BLOCK.size
        if kind == BLOCK_MOTION and count:
            return np.frombuffer(piece, MOTION, count, at)
        at += length
    return None


def standing(rows: Records) -> Iterable[tuple[int, float, float]]:
    """(entity, x, y) of all that are no avatars."""
    kept = rows[rows["entity"] >> np.uint64(KIND_SHIFT) != AVATAR_KIND]
    return zip(kept["entity"].tolist(), kept["x"].tolist(), kept["y"].tolist(), strict=True)
