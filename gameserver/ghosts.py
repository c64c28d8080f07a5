"""Ghosts: what other servers publish of the entities near ours.

Two tables. ``said``: per channel (publisher, cell) exactly what that publisher said to be there, which is what its
digest hashes. ``held``: per entity, over all channels, the one ghost that counts: the newest by (epoch, version),
never by time. A leave removes only an entity that still stands in that sub-cell and is not newer; where ``next`` is
watched, or the entity was handed to another publisher, the ghost stays shown a moment until its new record comes.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from world import frames, grid
from world.channels.content import HASH_MASK, content_hashes, property_key
from world.ids import kind_of
from world.limits import HIDE_AFTER_LEAVE_MS, PUBLISHER_HIDE_MS, WALK_SPEED_M_PER_S
from world.view import EntityView

ChannelKey = tuple[int, int]  # publisher, cell


@dataclass(slots=True)
class Ghost:
    """One entity as one publisher said it to be, in one cell."""

    entity: int
    publisher: int
    cell: int
    subcell: int
    epoch: int
    version: int
    x: float
    y: float
    vx: float
    vy: float
    world_ms: int  # when it stood at x, y
    groups: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    groups_epoch: int = 0
    hide_ms: float | None = None  # own time at which it is hidden, unless its new record comes
    hash: int | None = None  # its part of the channel's hash; None: not reckoned since it changed

    @property
    def age(self) -> tuple[int, int]:
        return self.epoch, self.version


@dataclass(slots=True)
class GhostStatistics:
    """Counters since the start."""

    records: int = 0
    older: int = 0  # records not newer than what is held
    removed: int = 0
    hidden: int = 0  # left for a watched cell, and did not arrive in time
    strays: int = 0  # properties of an entity that channel does not hold


class Ghosts:
    """``watched(cell)``: whether a leave's next cell is one we listen to."""

    def __init__(self, watched: Callable[[int], bool]) -> None:
        self.said: dict[ChannelKey, dict[int, Ghost]] = {}
        self.held: dict[int, Ghost] = {}
        self.statistics = GhostStatistics()
        self._watched = watched
        self._leaving: dict[int, Ghost] = {}
        self._hashes: dict[ChannelKey, tuple[int, int]] = {}

    # -- what channels deliver ----------------------------------------------------------------------------------------
    def apply(self, publisher: int, cell: int, body: bytes, snapshot: bool, now_ms: float) -> None:
        """A frame of a channel. Raises BadFrame, having applied the slices before the bad one."""
        self._hashes.pop((publisher, cell), None)
        said = self.said.setdefault((publisher, cell), {})
        named: set[int] = set()
        for _place, piece in frames.split_frame(body)[1]:
            content = frames.read_slice(piece)
            self._motion(said, content, publisher, cell, now_ms)
            self._properties(said, content)
            if snapshot:
                named.update(content.motion["entity"].tolist())
            self._leaves(said, content, now_ms)
        if snapshot:
            for entity in [e for e in said if e not in named]:
                self._remove(said.pop(entity))

    def _motion(self, said: dict[int, Ghost], content: frames.Slice, publisher: int, cell: int, now_ms: float) -> None:
        subcell, world_ms = grid.subcell_of_place(cell, content.head.place_or_count), content.head.world_ms
        for entity, epoch, version, x, y, vx, vy, _last_input, _flags in content.motion.tolist():
            ghost = said.get(entity)
            if ghost is not None and ghost.age >= (epoch, version):
                self.statistics.older += 1
                continue
            self.statistics.records += 1
            fresh = Ghost(entity, publisher, cell, subcell, epoch, version, x, y, vx, vy, world_ms)
            if ghost is not None:
                fresh.groups, fresh.groups_epoch = ghost.groups, ghost.groups_epoch
            said[entity] = fresh
            self._consider(fresh, ghost)

    def _consider(self, fresh: Ghost, before: Ghost | None) -> None:
        held = self.held.get(fresh.entity)
        if held is None or held is before or fresh.age > held.age:
            self.held[fresh.entity] = fresh
            self._leaving.pop(fresh.entity, None)

    def _properties(self, said: dict[int, Ghost], content: frames.Slice) -> None:
        for row in content.properties:
            ghost = said.get(row.entity)
            if ghost is None or row.epoch < ghost.groups_epoch:
                self.statistics.strays += 1
                continue
            if row.epoch > ghost.groups_epoch:
                ghost.groups, ghost.groups_epoch, ghost.hash = {}, row.epoch, None
            if row.group not in ghost.groups or row.version > ghost.groups[row.group][0]:
                ghost.groups, ghost.hash = {**ghost.groups, row.group: (row.version, row.fields)}, None

    def _leaves(self, said: dict[int, Ghost], content: frames.Slice, now_ms: float) -> None:
        subcell = grid.subcell_of_place(content.head.cell, content.head.place_or_count)
        for entity, epoch, version, next_subcell in content.leaves.tolist():
            ghost = said.get(entity)
            if ghost is None or ghost.subcell != subcell or ghost.age > (epoch, version):
                continue
            del said[entity]
            stays = next_subcell != frames.DESPAWNED and self._watched(grid.cell_of_subcell(next_subcell))
            self._remove(ghost, now_ms + HIDE_AFTER_LEAVE_MS if stays else None)
        for entity, epoch, _publisher in content.handed.tolist():
            ghost = said.get(entity)
            if ghost is not None and ghost.epoch < epoch:
                del said[entity]
                self._remove(ghost, now_ms + PUBLISHER_HIDE_MS)

    def _remove(self, ghost: Ghost, hide_ms: float | None = None) -> None:
        """It is no longer said; if it is the one that counts, it goes now or at ``hide_ms``."""
        self.statistics.removed += 1
        if self.held.get(ghost.entity) is not ghost:
            return
        if hide_ms is not None:
            ghost.hide_ms = hide_ms
            self._leaving[ghost.entity] = ghost
            return
        del self.held[ghost.entity]
        self._leaving.pop(ghost.entity, None)
        self._fall_back(ghost.entity)

    def _fall_back(self, entity: int) -> None:
        """Another channel may still say this entity (an older record of the same walk)."""
        others = [said[entity] for said in self.said.values() if entity in said]
        if others:
            self.held[entity] = max(others, key=lambda g: g.age)

    def forget(self, publisher: int, cell: int) -> None:
        """All that this channel said is void."""
        self._hashes.pop((publisher, cell), None)
        for ghost in self.said.pop((publisher, cell), {}).values():
            self._remove(ghost)

    def tick(self, now_ms: float) -> None:
        """Hide who left and did not arrive."""
        for entity, ghost in list(self._leaving.items()):
            if ghost.hide_ms is not None and ghost.hide_ms <= now_ms:
                self.statistics.hidden += 1
                del self._leaving[entity], self.held[entity]
                self._fall_back(entity)

    # -- what others ask ----------------------------------------------------------------------------------------
    def hash_of(self, publisher: int, cell: int) -> tuple[int, int]:
        """(count, hash) of a channel, to compare with its digest row; kept until the channel changes."""
        key = (publisher, cell)
        found = self._hashes.get(key)
        if found is None:
            said = self.said.get(key, {}).values()
            found = self._hashes[key] = len(said), sum(self._hashed(said)) & HASH_MASK
        return found

    def _hashed(self, said: Collection[Ghost]) -> Iterator[int]:
        """Each ghost's part of its channel's hash. Few of a channel change between two digests: only those are
        reckoned anew."""
        fresh = [ghost for ghost in said if ghost.hash is None]
        if fresh:
            hashes = content_hashes((g.entity, g.epoch, g.version, property_key(g.groups)) for g in fresh)
            for ghost, value in zip(fresh, hashes, strict=True):
                ghost.hash = value
        return (ghost.hash or 0 for ghost in said)

    def view(self, entity: int, world_ms: int, stale: Callable[[int], bool]) -> EntityView | None:
        """The ghost that counts, brought forward to ``world_ms``."""
        ghost = self.held.get(entity)
        return None if ghost is None else view_of(ghost, world_ms, stale)

    def near(self, x: float, y: float, radius_m: float, kind: int | None, world_ms: int) -> Iterator[Ghost]:
        """Ghosts that count, within the circle at ``world_ms``, of a kind if given."""
        for ghost in self._around(x, y, radius_m + WALK_SPEED_M_PER_S):  # may have walked a second out of its cell
            if (kind is None or kind_of(ghost.entity) == kind) and self.held.get(ghost.entity) is ghost:
                at_x, at_y = place_of(ghost, world_ms)
                if (at_x - x) ** 2 + (at_y - y) ** 2 <= radius_m * radius_m:
                    yield ghost

    def _around(self, x: float, y: float, radius_m: float) -> Iterator[Ghost]:
        cells = _cells_touched(x, y, radius_m)
        for (_publisher, cell), said in self.said.items():
            if cell in cells:
                yield from said.values()
        yield from self._leaving.values()


def _cells_touched(x: float, y: float, radius_m: float) -> set[int]:
    low, high = grid.cell_at(x - radius_m, y - radius_m), grid.cell_at(x + radius_m, y + radius_m)
    columns = range(low % grid.CELLS, high % grid.CELLS + 1)
    return {row * grid.CELLS + column for row in range(low // grid.CELLS, high // grid.CELLS + 1) for column in columns}


def place_of(ghost: Ghost, world_ms: int) -> tuple[float, float]:
    """Extrapolated, at most as long as a silent publisher's entities are shown."""
    seconds = min(max(world_ms - ghost.world_ms, 0), PUBLISHER_HIDE_MS) / 1_000
    return ghost.x + ghost.vx * seconds, ghost.y + ghost.vy * seconds


def view_of(ghost: Ghost, world_ms: int, stale: Callable[[int], bool]) -> EntityView:
    x, y = place_of(ghost, world_ms)
    return EntityView(
        ghost.entity,
        ghost.epoch,
        x,
        y,
        ghost.vx,
        ghost.vy,
        ghost.version,
        ghost.groups,
        ghost.publisher,
        stale(ghost.publisher),
    )
