"""The grid: positions in metres to cells (channels), sub-cells (slices) and regions (units). Pure, vectorized.

A cell index is ``cy * CELLS + cx`` (0..4095); a sub-cell index is ``sy * SUBCELLS + sx`` over the whole world
(0..65535), and its place inside its cell is ``(sy % 4) * 4 + sx % 4`` (0..15). Coordinates outside are clamped.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world.limits import CELL_M, REGION_M, SIGHT_CACHE_SUBCELLS, SUBCELL_M, WORLD_M

CELLS = WORLD_M // CELL_M  # per side: 64
SUBCELLS = WORLD_M // SUBCELL_M  # per side: 256
PER_CELL = CELL_M // SUBCELL_M  # sub-cells per cell side: 4
REGIONS = WORLD_M // REGION_M  # per side: 32
CELLS_PER_REGION = REGION_M // CELL_M

Array = NDArray[Any]


def _index(v: float, size: int, count: int) -> int:
    return min(max(int(v // size), 0), count - 1)


def subcell_at(x: float, y: float) -> int:
    return _index(y, SUBCELL_M, SUBCELLS) * SUBCELLS + _index(x, SUBCELL_M, SUBCELLS)


def cell_at(x: float, y: float) -> int:
    return _index(y, CELL_M, CELLS) * CELLS + _index(x, CELL_M, CELLS)


def region_at(x: float, y: float) -> tuple[int, int]:
    return _index(x, REGION_M, REGIONS), _index(y, REGION_M, REGIONS)


def subcells_at(x: Array, y: Array) -> NDArray[np.int64]:
    """float[n], float[n] -> int64[n]"""
    sx = np.minimum(np.maximum(x // SUBCELL_M, 0), SUBCELLS - 1).astype(np.int64)
    sy = np.minimum(np.maximum(y // SUBCELL_M, 0), SUBCELLS - 1).astype(np.int64)
    both: NDArray[np.int64] = sy * SUBCELLS + sx
    return both


def cells_of_subcells(sub: Array) -> NDArray[np.int64]:
    """int64[n] world sub-cell -> int64[n] cell"""
    cells: NDArray[np.int64] = sub // SUBCELLS // PER_CELL * CELLS + sub % SUBCELLS // PER_CELL
    return cells


def cell_of_subcell(sub: int) -> int:
    return sub // SUBCELLS // PER_CELL * CELLS + sub % SUBCELLS // PER_CELL


def place_in_cell(sub: int) -> int:
    """0..15: the sub-cell's number inside its cell."""
    return sub // SUBCELLS % PER_CELL * PER_CELL + sub % SUBCELLS % PER_CELL


def subcell_of_place(cell: int, place: int) -> int:
    return (cell // CELLS * PER_CELL + place // PER_CELL) * SUBCELLS + cell % CELLS * PER_CELL + place % PER_CELL


def region_of_cell(cell: int) -> tuple[int, int]:
    return cell % CELLS // CELLS_PER_REGION, cell // CELLS // CELLS_PER_REGION


def cells_of_region(x: int, y: int) -> list[int]:
    n = CELLS_PER_REGION
    return [(y * n + j) * CELLS + x * n + i for j in range(n) for i in range(n)]


@lru_cache(maxsize=SIGHT_CACHE_SUBCELLS)
def subcells_in_sight(centre_subcell: int, radius_m: float) -> frozenset[int]:
    """All sub-cells that a circle of this radius around *any* point of the centre sub-cell can touch.

    Taking the whole centre sub-cell keeps the set unchanged while its watcher stays inside it.
    """
    return frozenset(_touching(centre_subcell, radius_m, SUBCELLS, SUBCELL_M))


@lru_cache(maxsize=SIGHT_CACHE_SUBCELLS)
def cells_in_sight(centre_subcell: int, radius_m: float) -> frozenset[int]:
    return frozenset(cell_of_subcell(s) for s in subcells_in_sight(centre_subcell, radius_m))


@lru_cache(maxsize=SIGHT_CACHE_SUBCELLS)
def regions_in_sight(centre_subcell: int, radius_m: float) -> frozenset[tuple[int, int]]:
    return frozenset(region_of_cell(c) for c in cells_in_sight(centre_subcell, radius_m))


def _touching(centre: int, radius: float, side: int, size: int) -> list[int]:
    cx, cy = centre % side, centre // side
    reach = int(radius // size) + 1
    found = []
    for y in range(max(cy - reach, 0), min(cy + reach, side - 1) + 1):
        for x in range(max(cx - reach, 0), min(cx + reach, side - 1) + 1):
            gap_x, gap_y = max(abs(x - cx) - 1, 0) * size, max(abs(y - cy) - 1, 0) * size
            if gap_x * gap_x + gap_y * gap_y < radius * radius:
                found.append(y * side + x)
    return found
