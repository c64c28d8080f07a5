"""The end of one process of a cluster that goes on: the same order for every role.

::

    Drain (an operator), SIGTERM ──> service.drain()
        book: "draining": nobody sends anything new here         note: drain, began
        give_away(): the role's own, bounded by DRAIN_MS         note: drain, done, units
        service.stop(): what is left is saved, the mesh is left

A process that only stops (SIGINT, the whole cluster ends) does none of this.
"""

from collections.abc import Awaitable, Callable

from runtime.mesh.api import Mesh, Sender
from runtime.notes import Notes
from runtime.service import Service
from world.messages import Drain, Ok

GiveAway = Callable[[], Awaitable[int]]


async def nothing() -> int:
    """Of a role that owns nothing: to stop answers what is in flight."""
    return 0


def drainable(service: Service, mesh: Mesh, notes: Notes, give_away: GiveAway = nothing) -> None:
    """Serve ``Drain`` and do the same on SIGTERM. ``give_away`` gives what is here to others while everything is still
    served, and says how many pieces (units, clients) it was; it bounds itself, and is cancelled after DRAIN_MS."""

    async def drain() -> None:
        mesh.update_me(status="draining")
        notes.note("drain", node=service.node_id, state="began")
        units = await give_away()
        notes.note("drain", node=service.node_id, state="done", units=units)

    def asked(_sender: Sender, _message: Drain) -> Ok:
        service.drain("an operator")
        return Ok()

    service.on_drain(drain)
    mesh.serve(Drain, asked)
