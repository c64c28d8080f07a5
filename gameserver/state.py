"""The state side of a game server: its reals' motion and public properties, and the ghosts of everybody else's.

Ten times a second: take the inputs that arrived, walk, publish what observers would misjudge, tell gateways where their
clients look, subscribe to what our avatars see. Nothing here writes durably; what it shows of properties is committed.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson

from gameserver import ghosts, tick
from gameserver.columns import Columns
from gameserver.meter import TickMeter
from gameserver.publishing import Publishing
from runtime.cells import CellPublishing, CellSubscriber, StatisticsCollector
from runtime.mesh.api import Mesh
from runtime.service import Service
from world import frames, grid, motion, sight
from world.channels.publisher import CellPublisher
from world.ids import AVATAR_KIND, NodeId, kind_of, node_number
from world.limits import (
    DIGEST_MS,
    HANDOFF_SIGHT_MS,
    MOVE_ROWS_PENDING,
    SIGHT_M,
    TICK_MS,
    VIEW_MOVE_M,
    VIEW_RESEND_MS,
)
from world.messages import HandedAvatar, MoveAnswers, Views
from world.view import EntityView

# columns that move with an avatar, and what ``messages.HandedAvatar`` calls some of them
CARRIED = ("x0", "y0", "t0", "vx", "vy", "at_x", "at_y", "budget", "filled_at")
HANDED_NAMES = {"x0": "x", "y0": "y", "t0": "t"}

# avatar -> (server, generation, epoch) of its owner as far as it is known here, or None
OwnerHint = Callable[[int], tuple[str, int, int] | None]


@dataclass(frozen=True, slots=True)
class Motion:
    """How an own entity moves now; metres, metres per second."""

    x: float
    y: float
    vx: float
    vy: float
    version: int
    last_input: int


class StateSide:
    """All methods are synchronous and immediate; what they change is published by the next tick."""

    def __init__(
        self,
        service: Service,
        mesh: Mesh,
        terrain_walkable: motion.Walkable,
        owner_hint: OwnerHint,
    ) -> None:
        self._service, self._mesh, self._clock = service, mesh, service.clock
        self._walkable, self._owner_hint = terrain_walkable, owner_hint
        core = CellPublisher(node_number(mesh.me.id), mesh.me.generation)
        self._columns = Columns()
        self._publishing = Publishing(self._columns, core)
        self._out = CellPublishing(service, mesh, core, self._publishing.snapshot, self._publishing.summary)
        self._ghosts = ghosts.Ghosts(watched=lambda cell: cell in self._sight)
        self._in = CellSubscriber(service, mesh, self._applied, self._ghosts.forget, self._ghosts.hash_of)
        self._sight: frozenset[int] = frozenset()
        self._watchers: dict[int, int] = {}  # sub-cell -> own avatars standing there
        self._expected: dict[int, float] = {}  # sub-cell -> until when it is watched ahead of an avatar, own time
        self._first_inputs: dict[int, Callable[[], None]] = {}  # of avatars just handed over
        self._moves: deque[tuple[NodeId, frames.Records]] = deque(
            maxlen=MOVE_ROWS_PENDING
        )  # a batch has a row at least
        self._moves_pending = 0
        self._gateways: list[NodeId] = []  # by the number in the gateway column
        self.rows_dropped = 0
        self._meter = TickMeter(service)
        self._digest_ms = 0.0
        service.metrics.register(StatisticsCollector("projectk_state", self._counters))
        service.spawn(self._loop(), "tick", loop=True)

    # -- own reals ----------------------------------------------------------------------------------------------------
    def add(
        self,
        entity: int,
        epoch: int,
        x: float,
        y: float,
        *,
        moves: bool,
        motion_version: int = 1,
        last_input: int = 0,
        properties: Sequence[tuple[int, int, bytes]] = (),
    ) -> None:
        """A real of mine appears; properties are (group, version, JSON array). Raises ValueError if it is here."""
        c = self._columns
        row = c.add(entity)
        c.epoch[row], c.avatar[row], c.version[row] = epoch, moves, max(motion_version, 1)
        c.x0[row] = c.at_x[row] = x
        c.y0[row] = c.at_y[row] = y
        c.t0[row] = c.filled_at[row] = self._clock.world_ms()
        c.budget[row] = motion.BUDGET_M
        c.subcell[row] = grid.subcell_at(x, y)
        c.last_input[row] = last_input
        for group, version, body in properties:
            self._publishing.set_property(entity, group, version, body)

    def remove(self, entity: int, next_subcell: int = frames.DESPAWNED) -> None:
        """It goes from here; unknown entities are ignored (a fenced unit may be dropped twice)."""
        if entity in self._columns.row:
            self._publishing.leave(entity, next_subcell)
            self._forget(entity)

    def carry(self, avatar: int) -> dict[str, Any]:
        """Its motion, as ``messages.HandedAvatar`` names it. Raises KeyError for an avatar that is not here."""
        c, row = self._columns, self._columns.row[avatar]
        whole = {name: int(getattr(c, name)[row]) for name in ("version", "last_input", "flags")}
        real = {name: float(getattr(c, name)[row]) for name in CARRIED}
        return whole | {HANDED_NAMES.get(name, name): value for name, value in real.items()}

    def arrive(
        self, avatar: int, epoch: int, handed: HandedAvatar, properties: Sequence[tuple[int, int, bytes]]
    ) -> None:
        """An avatar handed over by its last owner walks on where it is. Raises ValueError if it is here."""
        self.add(avatar, epoch, handed.at_x, handed.at_y, moves=True, properties=properties)
        c, row = self._columns, self._columns.row[avatar]
        for name in CARRIED:
            getattr(c, name)[row] = getattr(handed, HANDED_NAMES.get(name, name))
        c.version[row] = handed.version + 1
        c.last_input[row], c.flags[row] = handed.last_input, handed.flags

    def expect(self, x: float, y: float) -> None:
        """An avatar is about to be handed to me there: listen to what it sees, for HANDOFF_SIGHT_MS."""
        self._expected[grid.subcell_at(x, y)] = self._clock.monotonic_ms() + HANDOFF_SIGHT_MS
        self._look()

    def on_first_input(self, avatar: int, callback: Callable[[], None]) -> None:
        """``callback()`` once, when an input of it is applied here."""
        self._first_inputs[avatar] = callback

    def hand_over(self, entity: int, epoch: int, publisher: int) -> None:
        """It lives on at another publisher with this epoch: observers keep it until they hear of it from there."""
        if entity in self._columns.row:
            self._publishing.hand(entity, epoch, publisher)
            self._forget(entity)

    def _forget(self, entity: int) -> None:
        self._columns.remove(entity)
        self._first_inputs.pop(entity, None)

    def set_properties(self, entity: int, group: int, version: int, body: bytes) -> None:
        """A group as committed; ignored for entities not here and where a version as new is known."""
        if entity in self._columns.row:
            self._publishing.set_property(entity, group, version, body)

    def area_event(self, entity: int, body: bytes) -> None:
        """Speech, a blow: a JSON object that rides in the entity's next cell frame; best effort beyond repair."""
        if entity in self._columns.row:
            self._publishing.event(entity, body)

    def freeze(self, avatar: int, on: bool) -> None:
        """Busy: no input is applied and nothing new of its motion is published."""
        row = self._columns.row.get(avatar)
        if row is not None:
            self._columns.frozen[row] = on
            self._columns.heard_own[row] = self._clock.monotonic_ms()  # its client was not heard meanwhile

    # -- clients ------------------------------------------------------------------------------------------------------
    def attach(self, avatar: int, gateway: NodeId, session: int, connection: int) -> None:
        """From now on this client's inputs count, and views are sent to its gateway. Raises KeyError if not here."""
        c = self._columns
        row = c.row[avatar]
        if gateway not in self._gateways:
            self._gateways.append(gateway)
        c.gateway[row] = self._gateways.index(gateway)
        c.session[row], c.connection[row] = session, connection
        c.heard_own[row] = self._clock.monotonic_ms()
        c.view_own[row] = -np.inf

    def detach(self, avatar: int) -> None:
        """Its client is gone: it stops at the next tick."""
        row = self._columns.row.get(avatar)
        if row is not None:
            self._columns.gateway[row] = -1

    def moves(self, gateway: NodeId, rows: bytes) -> None:
        """A MoveBatch: applied by the next tick, which answers for rows it could not apply. Raises BadFrame."""
        if len(rows) % frames.MOVE_ROW.itemsize:
            raise frames.BadFrame(f"{len(rows)} bytes are no move rows")
        batch = np.frombuffer(rows, frames.MOVE_ROW)[: max(MOVE_ROWS_PENDING - self._moves_pending, 0)]
        self.rows_dropped += len(rows) // frames.MOVE_ROW.itemsize - len(batch)
        if len(batch):
            self._moves_pending += len(batch)
            self._moves.append((gateway, batch))

    # -- what game code asks ------------------------------------------------------------------------------------------
    def find(self, entity: int) -> EntityView | None:
        """The real here, or the ghost of one elsewhere."""
        row = self._columns.row.get(entity)
        if row is not None:
            return self._real(entity, row)
        return self._ghosts.view(entity, self._clock.world_ms(), self._in.stale)

    def knows(self, entity: int) -> bool:
        """Whether ``find`` would."""
        return entity in self._columns.row or entity in self._ghosts.held

    def place(self, entity: int) -> tuple[float, float] | None:
        """Where a real here stands; None: it is not here."""
        row = self._columns.row.get(entity)
        return None if row is None else self._place(row)

    def near(self, x: float, y: float, radius: float, kind: int | None = None) -> list[EntityView]:
        """Everything within the circle, real and ghost alike, nearest first."""
        c, n = self._columns, self._columns.count
        rows = np.flatnonzero(np.hypot(c.at_x[:n] - x, c.at_y[:n] - y) <= radius)
        own = zip(c.entity[rows].tolist(), rows.tolist(), strict=True)
        found = [self._real(e, row) for e, row in own if kind is None or kind_of(e) == kind]
        world_ms = self._clock.world_ms()
        others = (g for g in self._ghosts.near(x, y, radius, kind, world_ms) if g.entity not in c.row)
        found += [ghosts.view_of(ghost, world_ms, self._in.stale) for ghost in others]
        return sorted(found, key=lambda v: ((v.x - x) ** 2 + (v.y - y) ** 2, v.entity))

    def position(self, entity: int) -> Motion:
        """Raises KeyError for an entity that is not here."""
        c, row = self._columns, self._columns.row[entity]
        x, y = self._place(row)
        return Motion(x, y, float(c.vx[row]), float(c.vy[row]), int(c.version[row]), int(c.last_input[row]))

    def _place(self, row: int) -> tuple[float, float]:
        """Where the last tick checked that it may stand, or since has claimed to."""
        return float(self._columns.at_x[row]), float(self._columns.at_y[row])

    def _real(self, entity: int, row: int) -> EntityView:
        c = self._columns
        velocity = (float(c.vx[row]), float(c.vy[row]))
        groups = self._publishing.properties.get(entity, {})
        return EntityView(entity, int(c.epoch[row]), *self._place(row), *velocity, int(c.version[row]), groups)

    def seers(self) -> dict[tuple[int, int], int]:
        """Region -> own avatars whose sight touches it."""
        return sight.seers_by_region(self._watched_from())

    def motion_rows(self) -> list[list[Any]]:
        """[avatar, epoch, version, x, y, last input] of own avatars that moved since the last call, be it straight on
        without a new version."""
        c, n = self._columns, self._columns.count
        walked = (c.at_x[:n] != c.saved_x[:n]) | (c.at_y[:n] != c.saved_y[:n])
        rows = np.flatnonzero(c.avatar[:n] & (walked | (c.version[:n] != c.saved_version[:n])))
        c.saved_version[rows] = c.version[rows]
        c.saved_x[rows], c.saved_y[rows] = c.at_x[rows], c.at_y[rows]
        columns = (c.entity, c.epoch, c.version, c.at_x, c.at_y, c.last_input)
        return [list(row) for row in zip(*(column[rows].tolist() for column in columns), strict=True)]

    def observe(self) -> dict[str, Any]:
        """This side's part of ``messages.Observed``."""
        c, n = self._columns, self._columns.count
        rows = np.flatnonzero(c.avatar[:n])
        places = zip(c.entity[rows].tolist(), c.at_x[rows].tolist(), c.at_y[rows].tolist(), strict=True)
        world_ms = self._clock.world_ms()
        shown = [g for g in self._ghosts.held.values() if kind_of(g.entity) == AVATAR_KIND and g.entity not in c.row]
        return {
            "tick_ms": round(self._meter.recent_ms, 2),
            "ghost_age_ms": round(self.ghost_age_ms(), 1),
            "avatars": [[e, self._name(e), round(x, 2), round(y, 2)] for e, x, y in places],
            "ghosts": [[g.entity, *(round(v, 2) for v in ghosts.place_of(g, world_ms)), g.publisher] for g in shown],
            "sight": sorted(self._sight),
            "cells": np.unique(c.said_cell[:n][c.said_cell[:n] >= 0]).tolist(),
        }

    def ghost_age_ms(self) -> float:
        """The age of the stalest publisher whose ghosts we show; 0 where we show none."""
        shown = {publisher for (publisher, _cell), said in self._ghosts.said.items() if said}
        return max((self._in.staleness_ms(p) for p in shown), default=0.0)

    @property
    def tick_ms(self) -> float:
        """How long a tick takes: a moving average."""
        return self._meter.recent_ms

    def statistics(self) -> dict[str, Any]:
        """Counters of all parts."""
        parts = {"publisher": self._out.statistics(), "channels": self._in.statistics()}
        return parts | self._counters()

    def _counters(self) -> dict[str, int]:
        ghost_counts = {f"ghosts_{name}": count for name, count in asdict(self._ghosts.statistics).items()}
        return ghost_counts | {
            "rows_dropped": self.rows_dropped,
            "events_dropped": self._publishing.events_dropped,
            "changes_lost": self._publishing.changes_lost,
            "frames_oversized": self._publishing.frames_oversized,
            "ticks_skipped": self._meter.skipped,
        }

    def _name(self, entity: int) -> str:
        held = self._publishing.properties.get(entity, {}).get(0)
        fields = orjson.loads(held[1]) if held else []
        return str(fields[0]) if fields and isinstance(fields[0], str) else ""

    # -- the tick -----------------------------------------------------------------------------------------------------
    async def _loop(self) -> None:
        """Drift-free: due times are multiples of TICK_MS from the start; ticks that were missed whole are skipped."""
        due = self._clock.monotonic_ms()
        while True:
            due += TICK_MS
            await asyncio.sleep(max(due - self._clock.monotonic_ms(), 0.0) / 1_000)
            late = self._clock.monotonic_ms() - due
            missed = int(max(late, 0.0) // TICK_MS)
            self._meter.skipped += missed
            due += missed * TICK_MS
            self.tick()

    def tick(self) -> None:
        """One whole tick, now."""
        c, meter = self._columns, self._meter
        own_ms, now = self._clock.monotonic_ms(), self._clock.world_ms()
        meter.start()
        self._take_moves(now, own_ms)
        meter.lap("inputs")
        tick.walk(c, now, own_ms, self._walkable)
        meter.lap("walk")
        self._publishing.flush(tick.due(c, now), now, own_ms, self._out.publish)
        meter.lap("publish")
        self._send_views(own_ms)
        self._look()
        meter.lap("sight")
        self._ghosts.tick(own_ms)
        if own_ms - self._digest_ms >= DIGEST_MS - TICK_MS / 2:
            self._digest_ms = own_ms
            self._out.digest()
        meter.lap("digest")
        meter.stop(entities=c.count, ghosts=len(self._ghosts.held))

    def _take_moves(self, now: float, own_ms: float) -> None:
        if not self._moves:
            return
        batches = [batch for _gateway, batch in self._moves]
        senders = {int(a): gateway for gateway, batch in self._moves for a in np.unique(batch["avatar"])}
        self._moves.clear()
        self._moves_pending = 0
        unapplied = tick.take_inputs(self._columns, np.concatenate(batches), now, own_ms, self._walkable)
        self._tell_first_inputs(own_ms)
        answers: defaultdict[NodeId, list[tuple[int, int, int, str, str, int, int]]] = defaultdict(list)
        for row in unapplied:
            hint = self._owner_hint(row.avatar) if row.code == "moved" else None
            answers[senders[row.avatar]].append((*row, *(hint or ("", 0, 0))))
        for gateway, rows in answers.items():
            self._mesh.send(gateway, MoveAnswers(rows))

    def _tell_first_inputs(self, own_ms: float) -> None:
        c = self._columns
        for avatar in [a for a in self._first_inputs if c.heard_own[c.row[a]] == own_ms]:
            self._first_inputs.pop(avatar)()

    def _send_views(self, own_ms: float) -> None:
        """Tell gateways where their clients look: on change, and now and then, for one-way messages may be lost."""
        c, n = self._columns, self._columns.count
        rows = (c.gateway[:n] >= 0).nonzero()[0]
        far = np.hypot(c.at_x[rows] - c.view_x[rows], c.at_y[rows] - c.view_y[rows]) >= VIEW_MOVE_M
        rows = rows[far | (own_ms - c.view_own[rows] >= VIEW_RESEND_MS)]
        if not len(rows):
            return
        by_gateway: defaultdict[int, list[int]] = defaultdict(list)
        for row, number in zip(rows.tolist(), c.gateway[rows].tolist(), strict=True):
            by_gateway[number].append(row)
        for number, mine in by_gateway.items():
            columns = (c.entity, c.session, c.epoch, c.at_x, c.at_y)
            views = [(*row, SIGHT_M) for row in zip(*(column[mine].tolist() for column in columns), strict=True)]
            if self._mesh.send(self._gateways[number], Views(views, c.connection[mine].tolist())):
                c.view_x[mine], c.view_y[mine], c.view_own[mine] = c.at_x[mine], c.at_y[mine], own_ms

    def _watched_from(self) -> dict[int, int]:
        c, n = self._columns, self._columns.count
        return dict(Counter(c.subcell[:n][c.avatar[:n]].tolist()))

    def _look(self) -> None:
        """Subscribe to the union of our avatars' sights, where it changed."""
        watchers = self._watched_from()
        if self._expected:
            own_ms = self._clock.monotonic_ms()
            self._expected = {at: until for at, until in self._expected.items() if until > own_ms}
            watchers |= dict.fromkeys(self._expected.keys() - watchers.keys(), 0)
        if watchers.keys() != self._watchers.keys():
            self._sight = sight.watched_cells(self._sight, watchers)
            self._in.want(self._sight)
        self._watchers = watchers

    def _applied(self, publisher: int, cell: int, body: bytes, snapshot: bool) -> None:
        self._ghosts.apply(publisher, cell, body, snapshot, self._clock.monotonic_ms())
