"""What operators want to know of, told to every gateway, which keeps it for ``/v1/ops/events`` and the observe page.

::

    kind       detail
    death      node, generation, by, proof (silence | reaped | newer)
    handoff    unit, from, to, epoch
    adoption   unit, from, to, epoch        taken from a dead owner
    fenced     unit, node, epoch            a write came too late: somebody else owns the unit
    repair     publisher, cell, node, more  a channel (cell null: the whole link) was taken anew after loss; and others
    drain      node, state (began | done), units
    deploy     id, node, state

Best effort and never waited for: a note tells what has happened, nothing rests on it. Ten fields or so, small.
"""

from typing import Any

import orjson

from runtime.mesh.api import Mesh
from world.clock import Clock
from world.ids import NodeId
from world.limits import NOTE_BYTES, REPAIR_NOTE_MS
from world.messages import Noted

KINDS = ("death", "handoff", "adoption", "fenced", "too_large", "repair", "drain", "deploy")


class Notes:
    """Stateless but for a count: as many as there are parts that have something to tell."""

    def __init__(self, mesh: Mesh, clock: Clock) -> None:
        self._mesh = mesh
        self._clock = clock
        self.said = 0

    def note(self, kind: str, **detail: Any) -> None:
        """Tell all gateways, this process included where it is one. Raises KeyError for a kind not in the table."""
        if kind not in KINDS:
            raise KeyError(kind)
        if len(orjson.dumps(detail)) > NOTE_BYTES:
            detail = {"too_long": True}
        self.said += 1
        noted = Noted(kind, self._clock.world_ms(), detail)
        for member in self._mesh.book.members("gateway"):
            self._mesh.send(NodeId(member.id), noted)


class RepairNotes:
    """Channels are lost and taken anew in bursts: a publisher is told of once in REPAIR_NOTE_MS, by the first of its
    channels; ``more`` are those not told of since the note before."""

    def __init__(self, mesh: Mesh, clock: Clock) -> None:
        self._notes = Notes(mesh, clock)
        self._me = mesh.me.id
        self._clock = clock
        self._told: dict[NodeId, tuple[float, int]] = {}  # per publisher: when, and how many since

    def repaired(self, publisher: NodeId, cell: int | None) -> None:
        now_ms = self._clock.monotonic_ms()
        told_ms, more = self._told.get(publisher, (-REPAIR_NOTE_MS, 0))
        if now_ms - told_ms < REPAIR_NOTE_MS:
            self._told[publisher] = (told_ms, more + 1)
            return
        self._told[publisher] = (now_ms, 0)
        self._notes.note("repair", publisher=publisher, cell=cell, node=self._me, more=more)
