"""Interest management: what is watched from where, as unions of sights, with hysteresis. Pure.

A sight is a circle around any point of its centre's sub-cell (``grid.subcells_in_sight``), so it changes only when its
owner crosses a sub-cell border. What came into sight stays watched until it is SIGHT_HYSTERESIS_M beyond it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from world import grid
from world.limits import SIGHT_HYSTERESIS_M, SIGHT_M


def watched_subcells(previous: frozenset[int], centre_subcell: int, radius_m: float = SIGHT_M) -> frozenset[int]:
    """One watcher's sub-cells: those in sight, and of the previous ones those not yet far beyond it."""
    keep = grid.subcells_in_sight(centre_subcell, radius_m + SIGHT_HYSTERESIS_M)
    return grid.subcells_in_sight(centre_subcell, radius_m) | (previous & keep)


def watched_cells(
    previous: frozenset[int], centre_subcells: Iterable[int], radius_m: float = SIGHT_M
) -> frozenset[int]:
    """The union of many watchers' cells: a server's sight, given the distinct sub-cells its avatars stand in."""
    near: set[int] = set()
    keep: set[int] = set()
    for centre in centre_subcells:
        near |= grid.cells_in_sight(centre, radius_m)
        keep |= grid.cells_in_sight(centre, radius_m + SIGHT_HYSTERESIS_M)
    return frozenset(near | (previous & keep))


def seers_by_region(watchers: Mapping[int, int], radius_m: float = SIGHT_M) -> dict[tuple[int, int], int]:
    """{centre sub-cell: avatars standing there} -> {region: avatars whose sight touches it}."""
    seers: Counter[tuple[int, int]] = Counter()
    for centre, avatars in watchers.items():
        for region in grid.regions_in_sight(centre, radius_m):
            seers[region] += avatars
    return dict(seers)
