"""From columns to cell frames: each tick, one pass over what changed, each cell's frame built once.

Movers are sorted by (cell, place of the sub-cell in it); their records are one structured array. Frames of cells where
only motion happened, which is nearly all of them, are laid into one buffer by array operations and cut out of it; a
cell with leaves, properties or events as well is put together block by block. Cells nobody listens to are not built.

What changes between two ticks is bounded by CHANGES_PER_TICK. Beyond it a change is not named: its cell's sequence
skips one, so that every subscriber finds itself behind, finds nothing to repair with, and takes a snapshot.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gameserver.columns import Columns
from world import frames, grid, motion, runs
from world.channels.content import property_key
from world.channels.publisher import CellPublisher, Summary, summary_of
from world.limits import (
    AREA_EVENT_BYTES,
    AREA_EVENTS_PER_TICK,
    CHANGES_PER_TICK,
    PROPERTY_BYTES,
    STATE_FRAME_BYTES,
)

PLACES = grid.PER_CELL * grid.PER_CELL
Ints = NDArray[np.int64]
Groups = dict[int, tuple[int, bytes]]  # group -> (version, JSON array)
Publish = Callable[[int, bytes], bool]  # (cell, frame) -> whether somebody listens

_HEAD_WORDS, _SLICE_WORDS, _RECORD_WORDS = 6, 9, 10  # frame head; length + slice head + block head; one MOTION record

_NO_KEYS, _NO_RECORDS = np.empty(0, np.int64), np.empty(0, frames.MOTION)


def sort_key(subcells: Ints) -> Ints:
    """World sub-cells -> numbers that sort by cell, then by place in it."""
    side = subcells // grid.SUBCELLS % grid.PER_CELL * grid.PER_CELL + subcells % grid.SUBCELLS % grid.PER_CELL
    key: Ints = grid.cells_of_subcells(subcells) * PLACES + side
    return key


def _spans(ordered: Ints) -> list[tuple[int, int]]:
    """[start, end) of each run of equal values."""
    cuts = [*runs.starts(ordered).tolist(), len(ordered)]
    return list(pairwise(cuts)) if len(ordered) else []


def motion_frames(
    keys: Ints, records: frames.Records, sequences: Mapping[int, int], publisher: int, generation: int, world_ms: int
) -> list[tuple[int, bytes]]:
    """Sorted keys int64[m] and their MOTION[m] -> [(cell, frame)] with one delta slice per sub-cell, one motion block
    each. ``sequences`` names every cell of ``keys``."""
    groups = runs.starts(keys)
    group_keys = keys[groups]
    group_sizes = runs.sizes(groups, len(keys))
    group_cells = group_keys // PLACES
    firsts = runs.starts(group_cells)  # the first group of each frame
    cells = group_cells[firsts]
    slices_in = runs.sizes(firsts, len(groups))
    frame_of_group = np.repeat(np.arange(len(firsts)), slices_in)
    group_of_record = np.repeat(np.arange(len(groups)), group_sizes)

    at_frame = _RECORD_WORDS * groups[firsts] + _SLICE_WORDS * firsts + _HEAD_WORDS * np.arange(len(firsts))
    at_group = _RECORD_WORDS * groups + _SLICE_WORDS * np.arange(len(groups)) + _HEAD_WORDS * (frame_of_group + 1)
    at_record = (
        _RECORD_WORDS * np.arange(len(keys))
        + _SLICE_WORDS * (group_of_record + 1)
        + _HEAD_WORDS * (frame_of_group[group_of_record] + 1)
    )
    sequence = np.array([sequences[cell] for cell in cells.tolist()], np.int64)
    time = (world_ms & 0xFFFFFFFF, world_ms >> 32)

    out = np.empty(_RECORD_WORDS * len(keys) + _SLICE_WORDS * len(groups) + _HEAD_WORDS * len(firsts), "<u4")
    heads = np.empty((len(firsts), _HEAD_WORDS), np.int64)
    heads[:, 0] = frames.FRAME | slices_in << 8 | cells << 16
    heads[:, 1], heads[:, 2], heads[:, 3] = publisher, generation, sequence
    heads[:, 4:] = time
    out[at_frame[:, None] + np.arange(_HEAD_WORDS)] = heads

    parts = np.empty((len(groups), _SLICE_WORDS), np.int64)
    payload = group_sizes * frames.MOTION.itemsize
    parts[:, 0] = frames.HEAD.size + frames.BLOCK.size + payload
    parts[:, 1] = frames.SLICE | group_keys % PLACES << 8 | group_cells << 16
    parts[:, 2] = publisher | 1 << 16  # one block
    parts[:, 3], parts[:, 4] = generation, sequence[frame_of_group]
    parts[:, 5:7] = time
    parts[:, 7], parts[:, 8] = frames.BLOCK_MOTION | group_sizes << 16, payload
    out[at_group[:, None] + np.arange(_SLICE_WORDS)] = parts
    out[at_record[:, None] + np.arange(_RECORD_WORDS)] = records.view("<u4").reshape(-1, _RECORD_WORDS)

    data = out.tobytes()
    cuts = [*(4 * at_frame).tolist(), len(data)]
    return [(cell, data[cuts[i] : cuts[i + 1]]) for i, cell in enumerate(cells.tolist())]


@dataclass(slots=True)
class Extras:
    """What else happens in a sub-cell in one tick."""

    leaves: list[tuple[int, int, int, int]] = field(default_factory=list)
    properties: list[frames.Property] = field(default_factory=list)
    events: list[frames.AreaEvent] = field(default_factory=list)
    handed: list[tuple[int, int, int]] = field(default_factory=list)

    def blocks(self) -> list[bytes]:
        built = []
        if self.leaves:
            built.append(frames.leave_block(np.array(self.leaves, frames.LEAVE)))
        if self.properties:
            built.append(frames.property_block(self.properties))
        if self.events:
            built.append(frames.event_block(self.events))
        if self.handed:
            built.append(frames.handed_block(np.array(self.handed, frames.HANDED)))
        return built


class Publishing:
    """Collects what changes between ticks and publishes it with the tick's movers."""

    def __init__(self, columns: Columns, publisher: CellPublisher) -> None:
        self.columns = columns
        self.publisher = publisher
        self.properties: dict[int, Groups] = {}
        self.events_dropped = 0
        self.changes_lost = 0  # beyond CHANGES_PER_TICK: their cells are taken by snapshot
        self.frames_oversized = 0
        self._lost: set[int] = set()
        self._extras: defaultdict[int, Extras] = defaultdict(
            Extras
        )  # by sub-cell; what it may hold is bounded by _room
        self._changed: dict[tuple[int, int], None] = {}  # (entity, group) to publish, in order
        self._events: list[frames.AreaEvent] = []
        self._event_number = 0
        self._room = CHANGES_PER_TICK

    # -- between ticks -------------------------------------------------------------------------------------------------
    def leave(self, entity: int, next_subcell: int) -> None:
        """The entity's row is about to go."""
        row = self.columns.row[entity]
        if self._shown_and_room(row):
            version = int(self.columns.version[row]) + 1
            self._extras[int(self.columns.said_subcell[row])].leaves.append(
                (entity, int(self.columns.epoch[row]), version, next_subcell)
            )
        self.properties.pop(entity, None)

    def hand(self, entity: int, epoch: int, publisher: int) -> None:
        """The entity lives on elsewhere at ``epoch``; its row is about to go."""
        row = self.columns.row[entity]
        if self._shown_and_room(row):
            self._extras[int(self.columns.said_subcell[row])].handed.append((entity, epoch, publisher))
        self.properties.pop(entity, None)

    def set_property(self, entity: int, group: int, version: int, body: bytes) -> bool:
        """A committed group; False where one as new is known. Raises ValueError beyond PROPERTY_BYTES."""
        if len(body) > PROPERTY_BYTES:
            raise ValueError(f"group {group} of {entity} has {len(body)} bytes")
        groups = self.properties.setdefault(entity, {})
        if group in groups and groups[group][0] >= version:
            return False
        groups[group] = (version, body)
        row = self.columns.row[entity]
        self.columns.key[row] = property_key(groups)
        if (entity, group) in self._changed:
            return True
        if self._shown_and_room(row):
            self._changed[entity, group] = None
        else:
            self.columns.said_key[row] = self.columns.key[row]
        return True

    def _shown_and_room(self, row: int) -> bool:
        """False for an entity nobody was told of (its first record will say all), and beyond the bound."""
        cell = int(self.columns.said_cell[row])
        if cell < 0:
            return False
        if self._room <= 0:
            self._lost.add(cell)
            self.changes_lost += 1
            return False
        self._room -= 1
        return True

    def event(self, entity: int, body: bytes) -> bool:
        """An area event rides in the entity's next slice; False (counted) beyond AREA_EVENTS_PER_TICK.
        Raises ValueError beyond AREA_EVENT_BYTES."""
        if len(body) > AREA_EVENT_BYTES:
            raise ValueError(f"an area event of {len(body)} bytes")
        if len(self._events) >= AREA_EVENTS_PER_TICK:
            self.events_dropped += 1
            return False
        self._event_number += 1
        epoch = int(self.columns.epoch[self.columns.row[entity]])
        self._events.append(frames.AreaEvent(entity, epoch, self._event_number, body))
        return True

    # -- the tick -----------------------------------------------------------------------------------------------------
    def flush(self, rows: Ints, world_ms: int, now_ms: float, publish: Publish) -> int:
        """Publish the movers ``rows`` (new entities among them) and all that was collected; frames sent."""
        if not (len(rows) or self._extras or self._changed or self._events or self._lost):
            return 0
        if len(rows):
            self._cross(rows[self.columns.said_subcell[rows] != self.columns.subcell[rows]])
            self._say(rows, world_ms)
        self._collect_properties()
        self._collect_events()
        sent = self._publish(rows, world_ms, now_ms, publish)
        self._extras.clear()
        self._lost.clear()
        self._changed.clear()
        self._events.clear()
        self._room = CHANGES_PER_TICK
        return sent

    def _cross(self, rows: Ints) -> None:
        """Leaves for the old sub-cells; all properties for the new ones, which may never have seen the entity."""
        c = self.columns
        for row, entity, old, new in zip(
            rows.tolist(), c.entity[rows].tolist(), c.said_subcell[rows].tolist(), c.subcell[rows].tolist(), strict=True
        ):
            if old >= 0:
                self._extras[old].leaves.append((entity, int(c.epoch[row]), int(c.version[row]) + 1, new))
            for group in self.properties.get(entity, ()):
                self._changed[entity, group] = None

    def _say(self, rows: Ints, world_ms: int) -> None:
        c = self.columns
        c.version[rows] += (c.said_subcell[rows] >= 0).astype(
            np.uint32
        )  # the first record has the version it came with
        c.said_x[rows], c.said_y[rows] = c.at_x[rows], c.at_y[rows]
        c.said_vx[rows], c.said_vy[rows] = c.vx[rows], c.vy[rows]
        c.said_time[rows] = world_ms
        c.said_subcell[rows] = c.subcell[rows]
        c.said_cell[rows] = grid.cells_of_subcells(c.subcell[rows])
        c.said_input[rows], c.said_flags[rows] = c.last_input[rows], c.flags[rows]

    def _collect_properties(self) -> None:
        c = self.columns
        for entity, group in self._changed:
            row = c.row.get(entity)
            if row is None or c.said_subcell[row] < 0:
                continue  # gone again, or not shown yet: its first record brings all groups
            held = self.properties.get(entity, {}).get(group)
            if held is None:
                continue  # it went and came back in this tick, without this group
            version, body = held
            self._extras[int(c.said_subcell[row])].properties.append(
                frames.Property(entity, int(c.epoch[row]), version, group, body)
            )
            c.said_key[row] = c.key[row]

    def _collect_events(self) -> None:
        c = self.columns
        for event in self._events:
            row = c.row.get(event.entity)
            if row is not None and c.said_subcell[row] >= 0:
                self._extras[int(c.said_subcell[row])].events.append(event)

    def _publish(self, rows: Ints, world_ms: int, now_ms: float, publish: Publish) -> int:
        if self._lost:
            self.publisher.advance(np.array(sorted(self._lost), np.int64))
            self.publisher.touched(np.array(sorted(self._lost), np.int64), now_ms)
        keys = sort_key(self.columns.said_subcell[rows]) if len(rows) else _NO_KEYS
        extra_cells = {grid.cell_of_subcell(subcell) for subcell in self._extras}
        changed = np.array(sorted({*(keys // PLACES).tolist(), *extra_cells}), np.int64)
        if not len(changed):
            return 0
        sequences = dict(zip(changed.tolist(), self.publisher.advance(changed).tolist(), strict=True))
        self.publisher.touched(changed, now_ms)
        if len(rows):
            built = self._with_movers(keys, rows, sequences, extra_cells, world_ms)
        else:
            built = self._mixed_frames(_NO_KEYS, _NO_RECORDS, sequences, world_ms)
        for cell, body in built:
            if len(body) > STATE_FRAME_BYTES:
                self.frames_oversized += 1  # its sequence is spent: who listens takes a snapshot
            elif publish(cell, body):
                self.publisher.sent(cell, body, now_ms)
        return len(built)

    def _with_movers(
        self, keys: Ints, rows: Ints, sequences: Mapping[int, int], extra_cells: set[int], world_ms: int
    ) -> list[tuple[int, bytes]]:
        """All frames of a tick with movers, of whom those that somebody listens to are built."""
        order = np.argsort(keys, kind="stable")
        order = order[self.publisher.listeners[keys[order] // PLACES] > 0]
        keys, records = keys[order], self.records(rows[order], world_ms)
        mixed = np.isin(keys // PLACES, list(extra_cells)) if extra_cells else np.zeros(len(keys), np.bool_)
        built = motion_frames(keys[~mixed], records[~mixed], sequences, *self._name(), world_ms)
        return built + self._mixed_frames(keys[mixed], records[mixed], sequences, world_ms)

    def _name(self) -> tuple[int, int]:
        return self.publisher.publisher, self.publisher.generation

    def _mixed_frames(
        self, keys: Ints, records: frames.Records, sequences: Mapping[int, int], world_ms: int
    ) -> list[tuple[int, bytes]]:
        """Frames of the listened cells in which more than motion happened, block by block."""
        blocks: dict[int, list[bytes]] = {}
        for start, end in _spans(keys):
            blocks[int(keys[start])] = [frames.motion_block(records[start:end])]
        for subcell, extras in self._extras.items():
            if self.publisher.listened(grid.cell_of_subcell(subcell)):
                key = grid.cell_of_subcell(subcell) * PLACES + grid.place_in_cell(subcell)
                blocks.setdefault(key, []).extend(extras.blocks())
        by_cell: defaultdict[int, list[bytes]] = defaultdict(list)
        for key, parts in sorted(blocks.items()):
            cell = key // PLACES
            by_cell[cell].append(
                frames.slice_bytes(frames.SLICE, key % PLACES, cell, *self._name(), sequences[cell], world_ms, parts)
            )
        return [
            (cell, frames.frame_bytes(cell, *self._name(), sequences[cell], world_ms, slices))
            for cell, slices in by_cell.items()
        ]

    def records(self, rows: Ints, world_ms: int) -> frames.Records:
        """MOTION[n] of what was said of these rows, brought forward to ``world_ms``."""
        c = self.columns
        records = np.empty(len(rows), frames.MOTION)
        records["entity"], records["epoch"], records["version"] = c.entity[rows], c.epoch[rows], c.version[rows]
        vx, vy = c.said_vx[rows], c.said_vy[rows]
        records["x"], records["y"] = motion.position(
            c.said_x[rows], c.said_y[rows], vx, vy, c.said_time[rows], world_ms
        )
        records["vx"], records["vy"] = vx, vy
        records["last_input"], records["flags"] = c.said_input[rows], c.said_flags[rows]
        return records

    # -- what others may ask ------------------------------------------------------------------------------------------
    def snapshot(self, cell: int, world_ms: int) -> list[bytes]:
        """Snapshot slices of all that was said to be in the cell, at the cell's sequence."""
        c = self.columns
        rows = (c.said_cell[: c.count] == cell).nonzero()[0]
        rows = rows[np.argsort(c.said_subcell[rows], kind="stable")]
        sequence = int(self.publisher.sequences[cell])
        spans = _spans(c.said_subcell[rows])
        return [self._snapshot_slice(cell, rows[start:end], sequence, world_ms) for start, end in spans]

    def _snapshot_slice(self, cell: int, rows: Ints, sequence: int, world_ms: int) -> bytes:
        c = self.columns
        properties = [
            frames.Property(entity, int(c.epoch[row]), version, group, body)
            for row, entity in zip(rows.tolist(), c.entity[rows].tolist(), strict=True)
            for group, (version, body) in self.properties.get(entity, {}).items()
        ]
        parts = [frames.motion_block(self.records(rows, world_ms))]
        parts += [frames.property_block(properties)] if properties else []
        place = grid.place_in_cell(int(c.said_subcell[rows[0]]))
        return frames.slice_bytes(frames.SNAPSHOT, place, cell, *self._name(), sequence, world_ms, parts)

    def summary(self) -> Summary:
        """What was said to be in each cell: the content of digests."""
        c = self.columns
        rows = (c.said_subcell[: c.count] >= 0).nonzero()[0]
        hashes = frames.entity_hash(c.entity[rows], c.epoch[rows], c.version[rows], c.said_key[rows])
        return summary_of(c.said_cell[rows], hashes)
