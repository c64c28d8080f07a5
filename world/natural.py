"""What grows and lies in a region, from the seed alone: the same list on every server, whoever wakes it.

One candidate per 8 m square, at a jittered place; the ground under it and the wood's thickness decide whether
something stands there and what. Ids number the squares, so they never shift when content is tuned.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from world.grid import REGIONS
from world.ids import natural_id
from world.kinds import BUSH, ROCK, TREE
from world.limits import NATURAL_REGIONS_CACHED, REGION_M
from world.terrain import (
    FOREST,
    GRASS,
    HIGHLAND,
    HILL,
    MEADOW,
    REGION_TILES,
    SAND,
    TILE_M,
    ground,
    mix,
    scramble,
    spawn,
)

SQUARE_M = 8
SIDE = REGION_M // SQUARE_M  # 32 squares a side
SPAWN_INDEX = SIDE * SIDE  # indices from here on are the spawn's own nodes
SPAWN_FREE_M = 14  # nothing stands in the newcomers' way

# Of 1024: how often a square of this ground holds a tree, a rock, a bush.
CHANCES = {
    GRASS: (70, 12, 24),
    MEADOW: (30, 8, 72),
    FOREST: (205, 10, 26),
    HILL: (24, 120, 14),
    HIGHLAND: (4, 100, 2),
    SAND: (6, 16, 4),
}
# Around the spawn place: kind and offset in metres, all between 14 and 40 m away.
GLADE = (
    (TREE, 16, 8), (TREE, 20, -6), (TREE, -18, 10), (TREE, -23, -9), (TREE, 6, 24), (TREE, -9, -26), (TREE, 28, 15),
    (ROCK, 9, -17), (ROCK, -16, -17), (ROCK, 25, -19), (ROCK, -29, 4), (ROCK, 14, 30),
    (BUSH, -7, 17), (BUSH, 18, 19), (BUSH, -20, 21), (BUSH, 3, -21), (BUSH, 30, 2),
)  # fmt: skip


class Natural(NamedTuple):
    entity: int
    kind: int
    x: float
    y: float


def _thresholds() -> NDArray[np.int64]:
    """int64[256, 3]: cumulative chances by ground kind."""
    table = np.zeros((256, 3), dtype=np.int64)
    for kind, chances in CHANCES.items():
        table[kind] = np.cumsum(chances)
    return table


_THRESHOLDS = _thresholds()
_KINDS = np.array([TREE, ROCK, BUSH], dtype=np.int64)
_COLUMN = np.tile(np.arange(SIDE, dtype=np.int64), SIDE)
_ROW = np.repeat(np.arange(SIDE, dtype=np.int64), SIDE)


@lru_cache(maxsize=NATURAL_REGIONS_CACHED)
def natural(seed: int, rx: int, ry: int) -> tuple[Natural, ...]:
    """A region's natural contents. Raises ValueError outside the world."""
    tiles = ground(seed, rx, ry)
    squares = np.arange(SIDE * SIDE, dtype=np.uint64)
    bits = mix(squares ^ np.uint64(scramble(seed, 5, rx, ry)))
    sixteenths_x = _COLUMN * 128 + 16 + _bits(bits, 0, 6) + _bits(bits, 6, 5)  # 1/16 m: 1 .. 6.9 m into the square
    sixteenths_y = _ROW * 128 + 16 + _bits(bits, 11, 6) + _bits(bits, 17, 5)
    here = tiles[sixteenths_y // (16 * TILE_M), sixteenths_x // (16 * TILE_M)]
    limits = _THRESHOLDS[here] * _thickness(seed, rx, ry)[:, None] // 1024
    choice = (_bits(bits, 32, 10)[:, None] >= limits).sum(axis=1)  # 0 tree, 1 rock, 2 bush, 3 nothing
    chosen = np.nonzero((choice < 3) & ~_near_spawn(seed, rx, ry, sixteenths_x, sixteenths_y))[0]
    rows = zip(
        chosen.tolist(),
        _KINDS[choice[chosen]].tolist(),
        (rx * REGION_M + sixteenths_x[chosen] / 16).tolist(),
        (ry * REGION_M + sixteenths_y[chosen] / 16).tolist(),
        strict=True,
    )
    wild = tuple(Natural(natural_id(kind, rx, ry, index), kind, x, y) for index, kind, x, y in rows)
    return wild + _glade(seed, rx, ry)


def _bits(values: NDArray[np.uint64], shift: int, count: int) -> NDArray[np.int64]:
    return (values >> np.uint64(shift) & np.uint64((1 << count) - 1)).astype(np.int64)


def _thickness(seed: int, rx: int, ry: int) -> NDArray[np.int64]:
    """int64[1024]: groves and gaps, from 640 to 1408 of 1024 per block of 4 x 4 squares."""
    blocks = ((_ROW + ry * SIDE) // 4 << 16 | (_COLUMN + rx * SIDE) // 4).astype(np.uint64)
    return 640 + _bits(mix(blocks ^ np.uint64(scramble(seed, 6))), 20, 8) * 3


def _near_spawn(
    seed: int, rx: int, ry: int, sixteenths_x: NDArray[np.int64], sixteenths_y: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """bool[1024]: squares kept free for the spawn place and its own nodes."""
    x, y = (round(v) for v in spawn(seed))
    dx = sixteenths_x - (x - rx * REGION_M) * 16
    dy = sixteenths_y - (y - ry * REGION_M) * 16
    free = dx * dx + dy * dy < (SPAWN_FREE_M * 16) ** 2
    for _kind, at_x, at_y in GLADE:
        free |= (dx - at_x * 16) ** 2 + (dy - at_y * 16) ** 2 < (3 * 16) ** 2
    return free


def _glade(seed: int, rx: int, ry: int) -> tuple[Natural, ...]:
    """All three kinds, close to where newcomers stand."""
    x, y = spawn(seed)
    if (int(x) // REGION_M, int(y) // REGION_M) != (rx, ry):
        return ()
    return tuple(
        Natural(natural_id(kind, rx, ry, SPAWN_INDEX + n), kind, x + at_x, y + at_y)
        for n, (kind, at_x, at_y) in enumerate(GLADE)
    )


def natural_count(seed: int) -> int:
    """Over the whole world (seconds): for tools and tests."""
    return sum(len(natural(seed, rx, ry)) for ry in range(REGIONS) for rx in range(REGIONS))


assert REGION_TILES * TILE_M == REGION_M
