"""The ground, from the seed alone: integers throughout, so that every server and platform has the same world.

Heights, moisture and rivers are sums of lattice noise in 64-bit integers: corner values from an integer hash, smoothed
and interpolated in fixed point. Around the spawn place the land is levelled to a dry meadow, whatever the seed says.

``ground(seed, rx, ry)`` is uint8[64, 64] (y first) of 4 m tiles with the ids of ``content/ground.toml``.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world.content import content
from world.grid import REGIONS
from world.limits import NOISE_STEPS_CACHED, REGION_M, SEEDS_CACHED, WORLD_M

TILE_M = 4
REGION_TILES = REGION_M // TILE_M  # 64
WORLD_TILES = WORLD_M // TILE_M  # 2048

WATER, DEEP_WATER, FORD, SAND, GRASS, MEADOW, FOREST, HILL, HIGHLAND = range(9)

Ints = NDArray[np.int64]
ONE = 1 << 12  # noise values and weights are fixed point: 0..4095
SEA = 1_720  # heights below are water
DEEP = 1_480
BEACH = 1_800
HILLS = 2_560
HIGH = 2_860
SPAWN_HEIGHT = 2_080
COAST_TILES = 110  # the land falls to the sea over the world's outermost tiles
CLEARING_TILES = 17  # 68 m around the spawn place are level, and blend into the land over as much again
GENTLE_TILES = 300  # hills and lakes are low and rare around the spawn place, and as they come this far away
RIVER_WIDTH = 34  # of 4096, either side of the river noise's middle
RIVER_SPRING = 300  # rivers widen over this fall below the hills
FORDS = 2_700  # of 4096: river tiles where the ford noise is higher can be waded

HEIGHT_OCTAVES = ((256, 5), (128, 6), (64, 4), (32, 2), (16, 1))  # (period in tiles, weight)
MOISTURE_OCTAVES = ((128, 4), (32, 3), (8, 1))
RIVER_OCTAVES = ((256, 6), (64, 2), (16, 1))
FORD_OCTAVES = ((16, 1),)


def _constant(value: int) -> np.uint64:
    return np.uint64(value)


_K1, _K2, _K3 = _constant(0x9E3779B97F4A7C15), _constant(0xBF58476D1CE4E5B9), _constant(0x94D049BB133111EB)
_S30, _S27, _S31 = _constant(30), _constant(27), _constant(31)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer over an array: 64 well-mixed bits each."""
    with np.errstate(over="ignore"):
        z = values * _K1
        z = (z ^ (z >> _S30)) * _K2
        z = (z ^ (z >> _S27)) * _K3
    return z ^ (z >> _S31)


def scramble(*parts: int) -> int:
    """One 64-bit number from several: what ``mix`` is for arrays."""
    mask = (1 << 64) - 1
    z = 0
    for part in parts:
        z = (z ^ part) & mask
        z = z * 0x9E3779B97F4A7C15 & mask
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        z ^= z >> 31
    return z


def _corners(salt: int, xs: Ints, ys: Ints) -> Ints:
    """int64[len(ys), len(xs)] in 0..4095: the lattice's values."""
    packed = (ys.astype(np.uint64)[:, None] << np.uint64(32)) | xs.astype(np.uint64)[None, :]
    return (mix(packed ^ np.uint64(salt)) >> np.uint64(52)).astype(np.int64)


@lru_cache(maxsize=NOISE_STEPS_CACHED)
def _steps(first: int, period: int) -> tuple[Ints, Ints, Ints]:
    """Along one side of a region that starts at tile ``first``: lattice indices needed, each tile's place among
    them, and its smoothed weight 0..4096 toward the next one."""
    tiles = np.arange(first, first + REGION_TILES, dtype=np.int64)
    index, inside = tiles // period, tiles % period
    lattice = np.arange(index[0], index[-1] + 2, dtype=np.int64)
    t = (2 * inside + 1) * ONE // (2 * period)
    return lattice, index - index[0], t * t // ONE * (3 * ONE - 2 * t) // ONE


def _noise(salt: int, octaves: tuple[tuple[int, int], ...], x0: int, y0: int) -> Ints:
    """int64[64, 64] in 0..4095."""
    total = np.zeros((REGION_TILES, REGION_TILES), dtype=np.int64)
    for number, (period, weight) in enumerate(octaves):
        xs, ix, tx = _steps(x0, period)
        ys, iy, ty = _steps(y0, period)
        corner = _corners(scramble(salt, number), xs, ys)
        rows: Ints = corner[:, ix] * (ONE - tx) + corner[:, ix + 1] * tx  # [lattice, 64]
        smooth: Ints = rows[iy] * (ONE - ty)[:, None] + rows[iy + 1] * ty[:, None]
        total += smooth // (ONE * ONE) * weight
    return total // sum(weight for _, weight in octaves)


def spawn(seed: int) -> tuple[float, float]:
    """Where newcomers meet: metres; dry, level land for at least 60 m around, in the middle of one region."""
    chance = scramble(seed, 0x5A)
    rx, ry = 14 + chance % 4, 14 + (chance >> 8) % 4
    x = rx * REGION_TILES + 26 + (chance >> 16) % 13
    y = ry * REGION_TILES + 26 + (chance >> 24) % 13
    return float(x * TILE_M), float(y * TILE_M)


def spawn_place(seed: int, avatar: int) -> tuple[float, float]:
    """Where this newcomer stands: within 12 m of ``spawn``, so that they do not stand in each other."""
    chance = scramble(seed, avatar)
    x, y = spawn(seed)
    return x + (chance % 129 - 64) / 8, y + ((chance >> 16) % 129 - 64) / 8


def _near_spawn(seed: int, x: Ints, y: Ints, inner: int, outer: int) -> Ints:
    """int64[64, 64] 0..4096: 4096 within ``inner`` tiles of the spawn place, 0 beyond ``outer``."""
    sx, sy = (int(v) // TILE_M for v in spawn(seed))
    squared = (x - sx)[None, :] ** 2 + (y - sy)[:, None] ** 2
    weight: Ints = np.clip((outer**2 - squared) * ONE // (outer**2 - inner**2), 0, ONE)
    return weight


def _coast(x: Ints, y: Ints) -> Ints:
    """int64[64, 64]: what to take off the height near the world's border."""
    to_x, to_y = np.minimum(x, WORLD_TILES - 1 - x), np.minimum(y, WORLD_TILES - 1 - y)
    near = np.clip(COAST_TILES - np.minimum(to_x[None, :], to_y[:, None]), 0, COAST_TILES)
    fall: Ints = near * near * 2_400 // (COAST_TILES * COAST_TILES)
    return fall


def _fields(seed: int, rx: int, ry: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Height, moisture, river distance, clearing."""
    x0, y0 = rx * REGION_TILES, ry * REGION_TILES
    x = np.arange(x0, x0 + REGION_TILES, dtype=np.int64)
    y = np.arange(y0, y0 + REGION_TILES, dtype=np.int64)
    height = _noise(scramble(seed, 1), HEIGHT_OCTAVES, x0, y0)
    height = 2_150 + (height - 2_048) * 4 // 3 - _coast(x, y)
    river = np.abs(_noise(scramble(seed, 3), RIVER_OCTAVES, x0, y0) - 2_048)
    gentle = _near_spawn(seed, x, y, 0, GENTLE_TILES)
    height -= (height - SPAWN_HEIGHT) * 3 // 4 * gentle // ONE
    clear = _near_spawn(seed, x, y, CLEARING_TILES, 2 * CLEARING_TILES)
    height = (height * (ONE - clear) + SPAWN_HEIGHT * clear) // ONE
    return height, _noise(scramble(seed, 2), MOISTURE_OCTAVES, x0, y0), river + clear // 8, clear


def make_ground(seed: int, rx: int, ry: int) -> NDArray[np.uint8]:
    """Compute a region's tiles; ``Terrain`` keeps them."""
    height, moisture, river, clear = _fields(seed, rx, ry)
    kinds = np.full(height.shape, GRASS, dtype=np.uint8)
    kinds[moisture < 1_860] = MEADOW
    kinds[moisture > 2_170] = FOREST
    kinds[height > HILLS] = HILL
    kinds[height > HIGH] = HIGHLAND
    bed = RIVER_WIDTH * np.clip(HILLS - height, 0, RIVER_SPRING) // RIVER_SPRING
    kinds[(river < bed * 2) | (height < BEACH)] = SAND
    fords = _noise(scramble(seed, 4), FORD_OCTAVES, rx * REGION_TILES, ry * REGION_TILES) > FORDS
    kinds[river < bed] = np.where(fords, FORD, WATER)[river < bed]
    kinds[height < SEA] = WATER
    kinds[height < DEEP] = DEEP_WATER
    kinds[clear == ONE] = MEADOW
    return kinds


class Terrain:
    """One seed's ground, computed region by region as it is asked for, and kept: at most 4 MiB."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._tiles = np.zeros((WORLD_TILES, WORLD_TILES), dtype=np.uint8)
        self._known = np.zeros((REGIONS, REGIONS), dtype=bool)
        self._walkable = np.zeros(256, dtype=bool)
        for kind in content().ground:
            self._walkable[kind.id] = kind.walkable

    def ground(self, rx: int, ry: int) -> NDArray[np.uint8]:
        """uint8[64, 64], y first; read-only. Raises ValueError outside the world."""
        if not (0 <= rx < REGIONS and 0 <= ry < REGIONS):
            raise ValueError(f"no region {rx},{ry}")
        n = REGION_TILES
        tiles = self._tiles[ry * n : ry * n + n, rx * n : rx * n + n]
        if not self._known[ry, rx]:
            tiles[:] = make_ground(self.seed, rx, ry)
            self._known[ry, rx] = True
        view = tiles.view()
        view.flags.writeable = False
        return view

    def kinds(self, xs: NDArray[Any], ys: NDArray[Any]) -> NDArray[np.uint8]:
        """float[n] x2, metres inside the world -> uint8[n] ground kinds."""
        tx, ty = (xs // TILE_M).astype(np.int64), (ys // TILE_M).astype(np.int64)
        rx, ry = tx // REGION_TILES, ty // REGION_TILES
        known = self._known[ry, rx]
        if not known.all():
            for region in np.unique((ry * REGIONS + rx)[~known]).tolist():
                self.ground(region % REGIONS, region // REGIONS)
        found: NDArray[np.uint8] = self._tiles[ty, tx]
        return found

    def walkable(self, xs: NDArray[Any], ys: NDArray[Any]) -> NDArray[np.bool_]:
        """float[n] x2, metres -> bool[n]; False outside the world and where not finite."""
        inside = (xs >= 0) & (xs < WORLD_M) & (ys >= 0) & (ys < WORLD_M)
        if inside.all():
            return self._walkable[self.kinds(xs, ys)]
        result = np.zeros(len(xs), dtype=bool)
        result[inside] = self._walkable[self.kinds(xs[inside], ys[inside])]
        return result


@lru_cache(maxsize=SEEDS_CACHED)
def terrain(seed: int) -> Terrain:
    return Terrain(seed)


def ground(seed: int, rx: int, ry: int) -> NDArray[np.uint8]:
    return terrain(seed).ground(rx, ry)


def walkable(seed: int) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]]:
    """(float[n], float[n]) metres -> bool[n]"""
    return terrain(seed).walkable
