"""``open_mesh``: what a service's composition root calls to get into the mesh."""

from runtime.mesh.api import ForeignProtocol
from runtime.mesh.metrics import MeshCollector
from runtime.mesh.node import MeshNode
from runtime.mesh.zmq_transport import ZmqTransport
from runtime.service import Service, StartRefused
from world.ids import NodeId
from world.limits import FORMAT, MESH_PROTOCOL_MAX, MESH_PROTOCOL_MIN
from world.messages import Member

FIRST_ROLES = frozenset({"broker", "store"})  # these may well be the first of their cluster


class ZmqMesh(MeshNode):
    """A member of the mesh over ZeroMQ."""


async def open_mesh(
    service: Service,
    *,
    role: str,
    node_id: NodeId,
    generation: int | None,
    publishes_state: bool,
    subscribes_state: bool = True,
    http: str = "",
    load: dict[str, object] | None = None,
) -> ZmqMesh:
    """Bind, join by ``settings.join``, take a generation (given, or one above what the book shows), take world time.
    The mesh closes on stop. Call ``update_me(status="ready")`` when the service serves.
    Raises StartRefused where the addresses cannot be bound, or a member speaks no protocol version of ours."""
    settings = service.settings
    try:
        transport = ZmqTransport(
            bind_host=settings.bind_host,
            command_port=settings.command_port,
            state_port=settings.state_port,
            publishes_state=publishes_state,
            advertise_command=settings.advertise_command,
            advertise_state=settings.advertise_state,
        )
    except OSError as error:
        raise StartRefused(
            f"The mesh cannot listen on {settings.bind_host} (--command-port {settings.command_port}, "
            f"--state-port {settings.state_port}): {error.strerror}."
        ) from error

    def report(what: str, error: BaseException) -> None:
        service.log.error("handler failed", message=what, exc_info=error)

    mesh = ZmqMesh(
        transport,
        Member(
            role,
            node_id,
            0,
            "",
            http=http,
            protocol_min=MESH_PROTOCOL_MIN,
            protocol_max=MESH_PROTOCOL_MAX,
            format_max=FORMAT,
            load=dict(load or {}),
        ),
        clock=service.clock,
        rng=service.rng,
        spawn=service.spawn,
        report=report,
        join=tuple(settings.join),
        subscribes=subscribes_state,
    )
    service.metrics.register(MeshCollector(mesh))
    service.on_close(mesh.close)
    try:
        await mesh.join(generation)
    except ForeignProtocol as error:
        raise StartRefused(str(error)) from error
    if settings.join and len(mesh.book.members()) == 1 and role not in FIRST_ROLES:
        service.log.warning("nobody answers where this process is to join; it goes on asking", join=settings.join)
    return mesh
