"""What operators want to know of, told to every gateway, which keeps it for ``/v1/ops/events`` and the observe page.

::

    kind       detail
    death      node, generation, by, proof (silence | reaped | newer)
    handoff    unit, from, to, epoch
    adoption   unit, from, to, epoch        taken from a dead owner
    fenced     unit, node, epoch            a write came too late: somebody else owns the unit
    repair     publisher, cell, node        a channel was taken anew after loss
    drain      node, state (began | done), units
    deploy     id, node, state

Best effort and never waited for: a note tells what has happened, nothing rests on it. Ten fields or so, small.
"""

from typing import Any

import orjson

from runtime.mesh.api import Mesh
from world.clock import Clock
from world.ids import NodeId
from world.limits import NOTE_BYTES
from world.messages import Noted

KINDS = ("death", "handoff", "adoption", "fenced", "repair", "drain", "deploy")


class Notes:
    """One per process."""

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
