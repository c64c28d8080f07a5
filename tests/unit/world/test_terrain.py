"""The land: the same everywhere, walkable where it must be."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from world.content import content
from world.grid import REGIONS
from world.ids import kind_of, natural_region
from world.kinds import BUSH, ROCK, TREE
from world.limits import REGION_M, WORLD_M
from world.natural import natural
from world.terrain import GRASS, WATER, Terrain, ground, make_ground, spawn, spawn_place, terrain, walkable

SEEDS = st.integers(0, (1 << 63) - 1)
DRY = [g.id for g in content().ground if g.walkable and g.name != "ford"]


def test_the_same_seed_is_the_same_world_on_every_platform() -> None:
    """A changed digest means that stored worlds no longer fit their land: do not just update it."""
    digest = hashlib.sha256()
    for region in ((0, 0), (7, 12), (15, 15), (20, 9), (31, 31)):
        digest.update(make_ground(1, *region).tobytes())
        digest.update(repr([tuple(n) for n in natural(1, *region)]).encode())
    assert digest.hexdigest() == "08920be795e7f71567c6b24cb3d7ec13caf9b83fb920db4ebf18dc11887cfc7f"


def test_different_seeds_are_different_worlds() -> None:
    assert not np.array_equal(make_ground(1, 10, 10), make_ground(2, 10, 10))


def test_regions_join_without_seams() -> None:
    """Neighbouring tiles across a border differ about as often as inside."""
    row = np.hstack([make_ground(3, rx, 15) for rx in range(10, 22)]).astype(int)
    differs = (row[:, 1:] != row[:, :-1]).mean(axis=0)
    borders = differs[63::64]
    assert borders.mean() < 3 * differs.mean() + 0.02


def test_the_world_ends_in_water() -> None:
    kinds = {int(k) for n in range(REGIONS) for k in make_ground(5, 0, n)[:, 0]}
    walks = {g.id for g in content().ground if g.walkable}
    assert not kinds & walks


def test_ground_is_read_only_and_bounded() -> None:
    with pytest.raises(ValueError, match="read-only"):
        ground(1, 3, 3)[0, 0] = GRASS
    with pytest.raises(ValueError, match="no region"):
        ground(1, 32, 0)


def test_walkable_agrees_with_the_ground_and_refuses_what_is_no_place() -> None:
    chance = np.random.default_rng(4)
    xs, ys = chance.random(500) * WORLD_M, chance.random(500) * WORLD_M
    allowed = {g.id for g in content().ground if g.walkable}
    expected = [
        int(ground(1, int(x) // REGION_M, int(y) // REGION_M)[int(y) % REGION_M // 4, int(x) % REGION_M // 4])
        in allowed
        for x, y in zip(xs, ys, strict=True)
    ]
    assert walkable(1)(xs, ys).tolist() == expected
    odd = np.array([-1.0, WORLD_M, np.nan, np.inf, -np.inf, 5.0])
    assert not walkable(1)(odd, np.full(6, 4000.0))[:5].any()
    assert not walkable(1)(np.full(6, 4000.0), odd)[:5].any()


def test_terrain_is_kept_per_seed() -> None:
    assert terrain(1) is terrain(1)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_spawn_is_dry_roomy_and_has_everything_near(seed: int) -> None:
    x, y = spawn(seed)
    land = Terrain(seed)
    angles = np.linspace(0, 2 * np.pi, 64)
    for radius in range(0, 62, 3):
        kinds = land.kinds(x + radius * np.cos(angles), y + radius * np.sin(angles))
        assert set(kinds.tolist()) <= set(DRY)
    rx, ry = int(x) // REGION_M, int(y) // REGION_M
    near = Counter(n.kind for n in natural(seed, rx, ry) if (n.x - x) ** 2 + (n.y - y) ** 2 <= 40**2)
    assert min(near[TREE], near[ROCK], near[BUSH]) >= 4
    at = spawn_place(seed, seed % 1000)
    assert (at[0] - x) ** 2 + (at[1] - y) ** 2 <= 12**2


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(0, REGIONS - 1), st.integers(0, REGIONS - 1))
def test_natural_things_stand_on_dry_land_of_their_region(seed: int, rx: int, ry: int) -> None:
    things = natural(seed, rx, ry)
    assert len({n.entity for n in things}) == len(things)
    assert len(things) <= 300
    for n in things:
        assert kind_of(n.entity) == n.kind
        assert natural_region(n.entity) == (rx, ry)
        assert (int(n.x) // REGION_M, int(n.y) // REGION_M) == (rx, ry)
    if things:
        xs, ys = np.array([n.x for n in things]), np.array([n.y for n in things])
        assert set(terrain(seed).kinds(xs, ys).tolist()) <= set(DRY)


def test_land_has_enough_to_gather_and_forests_are_dense() -> None:
    counts, trees = [], []
    for rx in range(8, 24):
        tiles = ground(1, rx, 16)
        if (tiles > WATER + 2).mean() > 0.9:
            found = Counter(n.kind for n in natural(1, rx, 16))
            counts.append(sum(found.values()))
            trees.append((found[TREE], float((tiles == 6).mean())))
    assert 100 <= sum(counts) / len(counts) <= 250
    thick = [t for t, forest in trees if forest > 0.5]
    thin = [t for t, forest in trees if forest < 0.1]
    assert not thick or not thin or min(thick) > max(thin)
