"""What a game server gives away to others while all live: pure, on what the book says of each and on what it holds.

Load comes before locality::

    much fuller than the lightest server      give it whole groups (the avatars of a region, and the region), smallest
                                              and outermost first, at most half of the difference and its own share
                                              of what is missing there; a group is split only where none is small enough
    else, where ``pull``: an avatar           goes where more of those are who see what it sees (tie: to the lower id),
                                              unless that server is nearly as much fuller than the lightest
    always: a region                          goes where more of its seers are

A gain below BALANCE_GAIN_PERCENTS moves nothing, neither does a unit handed on within HANDOFF_AGAIN_MS
(``movable``). The two thresholds of load are apart, so what one rule has moved the other does not bring back.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from world.ids import node_number
from world.limits import (
    BALANCE_GAIN_PERCENTS,
    BALANCE_MOVES,
    BALANCE_TICK_MS,
    REGIONS_PER_SERVER,
)
from world.placement import Region, margin

DEPLOYING = "deploying"  # in the supervisor's load: whatever moved to a server now would soon have to leave it again


class Server(NamedTuple):
    """A ready game server's load."""

    id: str
    avatars: int
    cap: int
    regions: int
    tick_ms: float
    seers: Mapping[Region, int]

    def seers_of(self, regions: Iterable[Region]) -> int:
        return sum(self.seers.get(region, 0) for region in regions)


def server_of(id: str, load: Mapping[str, object]) -> Server:
    """From a member's ``load`` in the book; what is missing or malformed counts as none."""
    whole = {name: value if isinstance(value := load.get(name), int) else 0 for name in ("avatars", "cap", "regions")}
    tick_ms, seers = load.get("tick_ms"), load.get("seers")
    return Server(
        id,
        **whole,
        tick_ms=float(tick_ms) if isinstance(tick_ms, int | float) else 0.0,
        seers=_seers(seers) if isinstance(seers, Mapping) else {},
    )


def _seers(told: Mapping[object, object]) -> dict[Region, int]:
    found = {}
    for name, count in told.items():
        x, _, y = str(name).partition(",")
        if x.isdecimal() and y.isdecimal() and isinstance(count, int):
            found[int(x), int(y)] = count
    return found


class Avatar(NamedTuple):
    """One in the world on this server. ``sees``: the regions that its sight touches, its own among them."""

    unit: str
    x: float
    y: float
    region: Region
    sees: frozenset[Region]
    movable: bool


class Land(NamedTuple):
    """A region that this server owns."""

    unit: str
    region: Region
    movable: bool


class Move(NamedTuple):
    unit: str
    to: str


def margin_of(servers: Sequence[Server]) -> int:
    return margin([server.avatars for server in servers])


def plan(
    me: Server, others: Sequence[Server], avatars: Sequence[Avatar], lands: Sequence[Land], *, pull: bool
) -> list[Move]:
    """In order: who sees a region goes before it. ``others``: those that take something in."""
    if not others:
        return []
    given = _shed(me, others, avatars)
    if given is not None:
        moves = [Move(avatar.unit, given.to.id) for avatar in given.avatars]
        left, light = _after(me, given)
        return moves + _lands_toward_seers(left, [light], lands)
    moves = _toward_seers(me, others, avatars) if pull else []
    return moves + _lands_toward_seers(me, others, lands)[: BALANCE_MOVES - len(moves)]


def _lightest(servers: Iterable[Server]) -> Server:
    return min(servers, key=lambda s: (s.avatars, node_number(s.id)))


# -- load --------------------------------------------------------------------------------------------------------------
class _Given(NamedTuple):
    avatars: list[Avatar]
    to: Server


def _after(me: Server, given: _Given) -> tuple[Server, Server]:
    """Both, once those avatars have moved."""
    moved = Counter(region for avatar in given.avatars for region in avatar.sees)
    left = {region: seers - moved[region] for region, seers in me.seers.items()}
    return me._replace(seers=left), given.to._replace(seers=Counter(given.to.seers) + moved)


def _shed(me: Server, others: Sequence[Server], avatars: Sequence[Avatar]) -> _Given | None:
    light = _lightest(others)
    count = _surplus(me, light, [me, *others])
    chosen = _choose(avatars, min(count, light.cap - light.avatars)) if count > 0 else []
    return _Given(chosen, light) if chosen else None


def _surplus(me: Server, light: Server, servers: Sequence[Server]) -> int:
    """How many avatars the lightest should get from me: half of the difference at most, and of what it lacks to the
    mean the part that is mine by my excess over it. The fullest server may always give one."""
    difference = me.avatars - light.avatars
    hot = me.tick_ms > BALANCE_TICK_MS and light.tick_ms * 2 < me.tick_ms
    if difference < 2 or not (hot or difference > margin_of(servers)):
        return 0
    mean = sum(s.avatars for s in servers) / len(servers)
    excesses = [max(0.0, s.avatars - mean) for s in servers]
    share = (mean - light.avatars) * max(0.0, me.avatars - mean) / sum(excesses)
    fullest = max(servers, key=lambda s: (s.avatars, -node_number(s.id)))
    return min(difference // 2, max(int(share), int(fullest.id == me.id)))


def _choose(avatars: Sequence[Avatar], count: int) -> list[Avatar]:
    """At most ``count`` of them: groups whole if any is small enough, else a part of the largest, from one edge on."""
    groups: defaultdict[Region, list[Avatar]] = defaultdict(list)
    for avatar in avatars:
        groups[avatar.region].append(avatar)
    small = [group for group in groups.values() if len(group) <= count]
    if not small:
        largest = max(groups.items(), key=lambda item: (len(item[1]), item[0]), default=(None, []))[1]
        edge = sorted((a for a in largest if a.movable), key=lambda a: (-a.x, a.y, a.unit))
        return edge[: min(count, BALANCE_MOVES)]
    middle = _middle(avatars)
    chosen: list[Avatar] = []
    for group in sorted(small, key=lambda g: (len(g), -_distance(g[0], middle), g[0].region)):
        total = len(chosen) + len(group)
        if total > count or (chosen and total > BALANCE_MOVES):
            break
        if all(avatar.movable for avatar in group):
            chosen += group
    return chosen


def _middle(avatars: Sequence[Avatar]) -> tuple[float, float]:
    return sum(a.x for a in avatars) / len(avatars), sum(a.y for a in avatars) / len(avatars)


def _distance(avatar: Avatar, middle: tuple[float, float]) -> float:
    return (avatar.x - middle[0]) ** 2 + (avatar.y - middle[1]) ** 2


# -- locality ----------------------------------------------------------------------------------------------------------
def _toward_seers(me: Server, others: Sequence[Server], avatars: Sequence[Avatar]) -> list[Move]:
    """A few avatars, those first that gain most."""
    mine, coming = me.avatars, dict.fromkeys((s.id for s in others), 0)
    wishes = sorted(_wishes(me, others, avatars), key=lambda w: (-w[0], w[1].unit))
    moves: list[Move] = []
    for _, avatar, to in wishes:
        there = to.avatars + coming[to.id] + 1
        lightest = min(mine - 1, *(s.avatars + coming[s.id] for s in others))
        if len(moves) < BALANCE_MOVES and there <= to.cap and there - lightest <= margin_of([me, *others]) // 2:
            moves.append(Move(avatar.unit, to.id))
            mine, coming[to.id] = mine - 1, coming[to.id] + 1
    return moves


def _wishes(me: Server, others: Sequence[Server], avatars: Sequence[Avatar]) -> Iterable[tuple[int, Avatar, Server]]:
    for avatar in avatars:
        if not avatar.movable:
            continue
        to = min(others, key=lambda s: (-s.seers_of(avatar.sees), node_number(s.id)))
        here, there = me.seers_of(avatar.sees), to.seers_of(avatar.sees)
        beyond_me = here - len(avatar.sees)  # what it would leave behind: itself it takes along
        more = there > here or (there == here and node_number(to.id) < node_number(me.id))
        if more and there > 0 and there * 100 >= beyond_me * BALANCE_GAIN_PERCENTS:
            yield there - beyond_me, avatar, to


def _lands_toward_seers(me: Server, others: Sequence[Server], lands: Sequence[Land]) -> list[Move]:
    moves = []
    coming = dict.fromkeys((s.id for s in others), 0)
    for land in sorted(lands, key=lambda one: one.region):
        to = min(others, key=lambda s: (-s.seers.get(land.region, 0), node_number(s.id)))
        here, there = me.seers.get(land.region, 0), to.seers.get(land.region, 0)
        enough = there > here and there * 100 >= here * BALANCE_GAIN_PERCENTS
        if land.movable and enough and to.regions + coming[to.id] < REGIONS_PER_SERVER:
            coming[to.id] += 1
            moves.append(Move(land.unit, to.id))
    return moves
