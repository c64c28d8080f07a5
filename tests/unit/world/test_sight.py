import math

from hypothesis import given
from hypothesis import strategies as st

from world import grid, sight
from world.limits import SIGHT_M, SUBCELL_M, WORLD_M

places = st.tuples(st.floats(0, WORLD_M - 1), st.floats(0, WORLD_M - 1))


@given(places, st.floats(0, 6.28), st.floats(0, SIGHT_M))
def test_whatever_is_in_sight_stands_in_a_watched_subcell(
    place: tuple[float, float], angle: float, away: float
) -> None:
    x, y = place
    other_x = min(max(x + away * 0.99 * math.cos(angle), 0), WORLD_M - 1)
    other_y = min(max(y + away * 0.99 * math.sin(angle), 0), WORLD_M - 1)
    watched = sight.watched_subcells(frozenset(), grid.subcell_at(x, y))
    assert grid.subcell_at(other_x, other_y) in watched


def test_walking_to_and_fro_over_a_border_changes_nothing() -> None:
    here, there = grid.subcell_at(4_095.0, 4_000.0), grid.subcell_at(4_097.0, 4_000.0)
    both = sight.watched_subcells(sight.watched_subcells(frozenset(), here), there)
    assert sight.watched_subcells(both, here) == both == sight.watched_subcells(both, there)


def test_what_is_far_behind_is_left() -> None:
    watched = sight.watched_subcells(frozenset(), grid.subcell_at(4_000.0, 4_000.0))
    moved = sight.watched_subcells(watched, grid.subcell_at(4_000.0 + 4 * SUBCELL_M, 4_000.0))
    assert watched - moved
    assert moved == sight.watched_subcells(frozenset(), grid.subcell_at(4_000.0 + 4 * SUBCELL_M, 4_000.0)) | (
        watched & moved
    )


@given(st.lists(places, max_size=6))
def test_a_servers_sight_is_the_union_of_its_objects_sights(stands: list[tuple[float, float]]) -> None:
    centres = [grid.subcell_at(*place) for place in stands]
    union: set[int] = set()
    for centre in centres:
        union |= grid.cells_in_sight(centre, SIGHT_M)
    assert sight.watched_cells(frozenset(), centres) == union
    assert sight.watched_cells(frozenset({0}), []) == frozenset()


def test_seers_are_counted_by_every_region_their_sight_touches() -> None:
    inside, border = grid.subcell_at(128.0, 128.0), grid.subcell_at(255.0, 128.0)
    assert sight.seers_by_region({inside: 2, border: 3}) == {(0, 0): 5, (1, 0): 3}
