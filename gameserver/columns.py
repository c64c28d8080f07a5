"""The columns of this server's own reals: one numpy array per attribute, one row per entity, no gaps.

Capacity grows by doubling; removing moves the last row into the gap, so row numbers hold only until the next ``add``
or ``remove``. Positions are metres, velocities metres per second; times are world ms, those named ``own`` monotonic ms.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]

FIRST_CAPACITY = 256

LAYOUT: tuple[tuple[str, type[np.generic]], ...] = (
    ("entity", np.uint64),
    ("epoch", np.uint32),
    # An avatar: walks by its client's claims.
    ("avatar", np.bool_),
    # Busy (hand-off): no input is applied, nothing is published.
    ("frozen", np.bool_),
    # -- motion: x0 + vx * (t - t0); (at_x, at_y) is where the last tick checked that it may stand
    ("x0", np.float64),
    ("y0", np.float64),
    ("t0", np.float64),
    ("vx", np.float64),
    ("vy", np.float64),
    ("at_x", np.float64),
    ("at_y", np.float64),
    ("subcell", np.int64),
    ("last_input", np.uint32),
    ("flags", np.uint32),
    # -- what observers were last told; ``said_subcell`` -1 = nothing yet
    ("version", np.uint32),
    ("said_x", np.float64),
    ("said_y", np.float64),
    ("said_vx", np.float64),
    ("said_vy", np.float64),
    ("said_time", np.float64),
    ("said_subcell", np.int64),
    ("said_cell", np.int64),
    ("said_input", np.uint32),
    ("said_flags", np.uint32),
    ("said_key", np.uint32),
    ("key", np.uint32),
    # -- the client whose inputs count (avatars); the gateway's number, -1 = none attached
    ("gateway", np.int32),
    ("session", np.uint64),
    ("connection", np.uint32),
    ("heard_own", np.float64),
    ("budget", np.float64),
    ("filled_at", np.float64),
    ("view_x", np.float64),
    ("view_y", np.float64),
    ("view_own", np.float64),
    # -- what was last given to the motion document
    ("saved_version", np.uint32),
    ("saved_x", np.float64),
    ("saved_y", np.float64),
)


class Columns:
    """``columns.vx[:columns.count]`` are the velocities of all rows; ``row`` finds an entity's."""

    entity: Column
    epoch: Column
    avatar: Column
    frozen: Column
    x0: Column
    y0: Column
    t0: Column
    vx: Column
    vy: Column
    at_x: Column
    at_y: Column
    subcell: Column
    last_input: Column
    flags: Column
    version: Column
    said_x: Column
    said_y: Column
    said_vx: Column
    said_vy: Column
    said_time: Column
    said_subcell: Column
    said_cell: Column
    said_input: Column
    said_flags: Column
    said_key: Column
    key: Column
    gateway: Column
    session: Column
    connection: Column
    heard_own: Column
    budget: Column
    filled_at: Column
    view_x: Column
    view_y: Column
    view_own: Column
    saved_version: Column
    saved_x: Column
    saved_y: Column

    def __init__(self) -> None:
        self.count = 0
        self.capacity = FIRST_CAPACITY
        self.row: dict[int, int] = {}
        for name, kind in LAYOUT:
            setattr(self, name, np.zeros(self.capacity, kind))

    def add(self, entity: int) -> int:
        """A zeroed row for a new entity. Raises ValueError if it has one."""
        if entity in self.row:
            raise ValueError(f"entity {entity} is here already")
        if self.count == self.capacity:
            self._grow()
        row = self.count
        self.count += 1
        for name, _kind in LAYOUT:
            getattr(self, name)[row] = 0
        self.entity[row] = entity
        self.said_subcell[row] = self.said_cell[row] = self.gateway[row] = -1
        self.row[entity] = row
        return row

    def remove(self, entity: int) -> None:
        """Raises KeyError."""
        row = self.row.pop(entity)
        last = self.count - 1
        if row != last:
            for name, _kind in LAYOUT:
                column = getattr(self, name)
                column[row] = column[last]
            self.row[int(self.entity[row])] = row
        self.count = last

    def rows_of(self, entities: Column) -> NDArray[np.int64]:
        """uint64[n] -> int64[n] rows, -1 where not here."""
        find = self.row.get
        return np.array([find(e, -1) for e in entities.tolist()], np.int64)

    def _grow(self) -> None:
        self.capacity *= 2
        for name, kind in LAYOUT:
            wider = np.zeros(self.capacity, kind)
            wider[: self.count] = getattr(self, name)[: self.count]
            setattr(self, name, wider)
