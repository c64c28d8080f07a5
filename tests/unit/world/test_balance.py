"""What is given away, alone and in clusters that look again and again until nothing moves any more."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from world.balance import Avatar, Land, Move, Server, margin_of, plan
from world.grid import region_at, regions_in_sight, subcell_at
from world.limits import (
    BALANCE_MARGIN_AVATARS,
    BALANCE_MOVES,
    BALANCE_MS,
    BALANCE_TICK_MS,
    HANDOFF_AGAIN_MS,
    REGION_M,
    SIGHT_M,
)
from world.placement import Region


def server(number: int, avatars: int = 0, cap: int = 2_000, tick_ms: float = 5.0, **seers: int) -> Server:
    """``seers``: r1=3 means three in region (1, 1)."""
    counts = {(int(name[1:]), int(name[1:])): n for name, n in seers.items()}
    return Server(f"gs{number}", avatars, cap, 0, tick_ms, counts)


def group(region: int, size: int, first: int = 0, *, movable: bool = True) -> list[Avatar]:
    """Avatars next to each other in the middle of region (region, region)."""
    middle = (region + 0.5) * REGION_M
    return [
        Avatar(
            f"avatar:{region * 1_000 + n}",
            middle + n,
            middle,
            (region, region),
            frozenset({(region, region)}),
            movable,
        )
        for n in range(first, first + size)
    ]


def land(region: int, *, movable: bool = True) -> Land:
    return Land(f"region:{region},{region}", (region, region), movable)


def test_a_small_difference_moves_nobody() -> None:
    me, other = server(1, BALANCE_MARGIN_AVATARS, r1=BALANCE_MARGIN_AVATARS), server(2)
    assert plan(me, [other], group(1, BALANCE_MARGIN_AVATARS), [land(1)], pull=True) == []
    assert plan(me, [], group(1, BALANCE_MARGIN_AVATARS), [land(1)], pull=True) == []


def test_a_new_server_gets_whole_groups_with_their_land_the_smallest_and_outermost_first() -> None:
    avatars = [*group(1, 10), *group(2, 4), *group(3, 2), *group(9, 2)]
    me = server(1, 18, r1=10, r2=4, r3=2, r9=2)
    moves = plan(me, [server(2)], avatars, [land(1), land(2), land(3), land(9)], pull=True)
    expected = [a.unit for a in [*group(9, 2), *group(3, 2), *group(2, 4)]]
    lands = ["region:2,2", "region:3,3", "region:9,9"]
    assert moves == [Move(unit, "gs2") for unit in [*expected, *lands]]


def test_a_group_that_is_too_large_is_split_from_one_edge_and_only_then() -> None:
    me = server(1, 20, r1=20)
    moves = plan(me, [server(2)], group(1, 20), [land(1)], pull=True)
    assert moves == [Move(f"avatar:{1_000 + n}", "gs2") for n in range(19, 19 - BALANCE_MOVES, -1)]
    with_small = [*group(1, 18), *group(2, 2, movable=False)]
    assert plan(server(1, 20, r1=18, r2=2), [server(2)], with_small, [], pull=True) == [], "it waits for the small one"


def test_several_full_servers_give_their_shares() -> None:
    full = [server(n, 30, r1=30) for n in (1, 2, 3)]
    given = [len(plan(s, [o for o in [*full, server(4)] if o != s], group(1, 30), [], pull=False)) for s in full]
    assert given == [7, 7, 7]


def test_hot_ticks_count_though_the_margin_does_not_and_caps_bind() -> None:
    hot = server(1, 6, tick_ms=BALANCE_TICK_MS + 1, r1=6)
    assert len(plan(hot, [server(2, 2)], group(1, 6), [], pull=False)) == 2
    assert plan(hot, [server(2, 2, tick_ms=BALANCE_TICK_MS)], group(1, 6), [], pull=False) == []
    assert len(plan(server(1, 30, r1=30), [server(2, cap=3)], group(1, 30), [], pull=False)) == 3


@pytest.mark.parametrize(
    ("mine", "theirs", "to"),
    [(1, 1, 1), (4, 4, 1), (10, 10, None), (4, 3, None), (4, 5, 1), (20, 21, None), (12, 15, 1)],
)
def test_an_avatar_moves_only_toward_more_seers_a_tie_to_the_lower_id(mine: int, theirs: int, to: int | None) -> None:
    me, other = server(2, 50, r1=mine), server(1, 50, r1=theirs)
    assert plan(me, [other], group(1, 1), [], pull=True) == ([Move("avatar:1000", "gs1")] if to else [])
    if mine == theirs:
        assert plan(other, [me], group(1, 1), [], pull=True) == [], "the other way there is no tie to break"
    assert plan(me, [other], group(1, 1), [], pull=False) == []
    assert plan(me, [other], group(1, 1, movable=False), [], pull=True) == []


def test_the_pull_of_seers_is_bounded_by_load() -> None:
    crowd = server(1, 40, r1=40)
    me, third = server(2, 38, r1=1), server(3, 38)
    assert len(plan(me, [crowd, third], group(1, 1), [], pull=True)) == 1
    assert plan(me, [server(1, 60, r1=60), third], group(1, 1), [], pull=True) == []


def test_land_goes_to_where_its_seers_are() -> None:
    me, other = server(1, 3, r1=4, r2=4, r3=0), server(2, 3, r1=5, r2=4, r3=1)
    assert plan(me, [other], [], [land(1), land(2), land(3)], pull=False) == [
        Move("region:1,1", "gs2"),
        Move("region:3,3", "gs2"),
    ]
    assert plan(me, [other], [], [land(1, movable=False)], pull=False) == []


# -- a whole cluster ---------------------------------------------------------------------------------------------------
@dataclass
class World:
    """Servers that all look at the same moment, at figures as fresh as the book's, and hand over at once."""

    owners: dict[str, int]  # unit -> server
    places: dict[str, tuple[float, float]]  # of avatars
    servers: int
    pull: bool
    now_ms: int = HANDOFF_AGAIN_MS
    handed_ms: dict[str, int] = field(default_factory=dict)
    moves: Counter[str] = field(default_factory=Counter)

    def sees(self, avatar: str) -> frozenset[Region]:
        return regions_in_sight(subcell_at(*self.places[avatar]), SIGHT_M)

    def server(self, number: int) -> Server:
        mine = [unit for unit, owner in self.owners.items() if owner == number]
        avatars = [unit for unit in mine if unit in self.places]
        seers = Counter(region for avatar in avatars for region in self.sees(avatar))
        return Server(f"gs{number}", len(avatars), 2_000, len(mine) - len(avatars), 5.0, seers)

    def movable(self, unit: str) -> bool:
        return self.now_ms - self.handed_ms.get(unit, 0) >= HANDOFF_AGAIN_MS

    def look(self) -> int:
        """One round of all; how many units moved."""
        cluster = [self.server(n) for n in range(1, self.servers + 1)]
        planned: list[Move] = []
        for me in cluster:
            mine = [unit for unit, owner in self.owners.items() if f"gs{owner}" == me.id]
            avatars = [
                Avatar(u, *self.places[u], region_at(*self.places[u]), self.sees(u), self.movable(u))
                for u in mine
                if u in self.places
            ]
            lands = [Land(u, self.region(u), self.movable(u)) for u in mine if u not in self.places]
            moves = plan(me, [s for s in cluster if s != me], avatars, lands, pull=self.pull)
            largest = max(Counter(a.region for a in avatars).values(), default=0)
            moved = [m.unit for m in moves if m.unit in self.places]
            assert len(moved) <= max(BALANCE_MOVES, min(largest, me.avatars // 2)), "few, or one group"
            assert all(self.movable(move.unit) for move in moves)
            assert len({move.unit for move in moves}) == len(moves)
            planned += moves
        for move in planned:
            self.owners[move.unit] = int(move.to.removeprefix("gs"))
            self.handed_ms[move.unit] = self.now_ms
            self.moves[move.unit] += 1
        self.now_ms += BALANCE_MS
        return len(planned)

    @staticmethod
    def region(unit: str) -> Region:
        x, y = unit.removeprefix("region:").split(",")
        return int(x), int(y)


def world_of(rng: Random, servers: int, avatars: int, hamlets: int, *, pull: bool, on: int) -> World:
    """Avatars around a few places; they and the land belong to the first ``on`` servers."""
    middles = [(rng.uniform(200, 2_500), rng.uniform(200, 2_500)) for _ in range(hamlets)]
    places = {}
    for n in range(avatars):
        x, y = rng.choice(middles)
        places[f"avatar:{n}"] = (x + rng.gauss(0, 40), y + rng.gauss(0, 40))
    world = World({}, places, servers, pull)
    seen = sorted({region for avatar in places for region in world.sees(avatar)})
    world.owners = {unit: rng.randint(1, on) for unit in [*places, *(f"region:{x},{y}" for x, y in seen)]}
    return world


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    servers=st.integers(2, 5),
    avatars=st.integers(1, 90),
    hamlets=st.integers(1, 6),
    pull=st.booleans(),
    alone=st.booleans(),
)
def test_every_cluster_settles_with_its_load_spread(
    seed: int, servers: int, avatars: int, hamlets: int, pull: bool, alone: bool
) -> None:
    world = world_of(Random(seed), servers, avatars, hamlets, pull=pull, on=1 if alone else servers)
    quiet, rounds = 0, 0
    while quiet * BALANCE_MS <= HANDOFF_AGAIN_MS:
        quiet = 0 if world.look() else quiet + 1
        rounds += 1
        assert rounds * BALANCE_MS < 10 * HANDOFF_AGAIN_MS, "it does not settle"
    cluster = [world.server(n) for n in range(1, servers + 1)]
    loads = [s.avatars for s in cluster]
    assert max(loads) - min(loads) <= margin_of(cluster), loads
    assert max(world.moves.values(), default=0) <= 5, "no unit goes to and fro"


def test_players_who_see_each_other_end_up_together_where_load_allows_it() -> None:
    world = world_of(Random(5), 4, 200, 20, pull=True, on=4)
    apart = scattered(world)
    for _ in range(2 * HANDOFF_AGAIN_MS // BALANCE_MS):
        world.look()
    assert scattered(world) < apart / 2
    assert sum(world.moves.values()) <= 200, "no more than one hand-off per avatar"


def scattered(world: World) -> int:
    """Pairs (region, server) with seers: each is a part of a sight that has to be synchronized."""
    return sum(len([n for n in world.server(s).seers.values() if n]) for s in range(1, world.servers + 1))
