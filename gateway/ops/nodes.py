"""Who is in the cluster, as this gateway's book says; and sending one of them away."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http import read_body
from gateway.ops.problems import of_mesh, problem
from gateway.ops.requests import Nothing, flag, reply
from runtime.mesh.api import Mesh, MeshError, Refused
from world.clock import Clock
from world.ids import NodeId
from world.limits import OPS_CALL_MS
from world.messages import Drain, Json, Member

NEEDED = ("gameserver", "gateway", "login", "store")  # without any one of these nobody can play


class Nodes:
    """Routes under ``/v1/ops/nodes``."""

    def __init__(self, mesh: Mesh, clock: Clock) -> None:
        self._mesh = mesh
        self._clock = clock

    def routes(self) -> list[Route]:
        return [
            Route("/v1/ops/nodes", self.all),
            Route("/v1/ops/nodes/{node:node}", self.one),
            Route("/v1/ops/nodes/{node:node}:drain", self.drain, methods=["POST"]),
        ]

    async def all(self, _request: Request) -> Response:
        members = sorted(self._mesh.book.members(), key=lambda m: (m.role, len(m.id), m.id))
        return reply(
            {"asked": self._mesh.me.id, "world_ms": self._clock.world_ms(), "nodes": [*map(self._view, members)]}
        )

    async def one(self, request: Request) -> Response:
        return reply(self._view(self._member(request)))

    async def drain(self, request: Request) -> Response:
        await read_body(request, Nothing)
        force, member = flag(request, "force"), self._member(request)
        if member.status == "draining":
            return reply(self._view(member))
        if not force and member.role in NEEDED and not self._others(member):
            raise problem(
                "last_of_its_role", f"{member.id} is the last ready {member.role}; ?force=true drains it anyway"
            )
        try:
            await self._mesh.call(NodeId(member.id), Drain(), deadline_ms=OPS_CALL_MS)
        except Refused as refusal:
            raise problem("not_drainable", f"a {member.role} does not drain: {refusal.code}") from refusal
        except MeshError as error:
            raise of_mesh(error, member.id) from error
        return reply({**self._view(member), "status": "draining"}, 202)

    def _member(self, request: Request) -> Member:
        node = request.path_params["node"]
        member = self._mesh.book.get(NodeId(node))
        if member is None:
            raise problem("not_found", f"there is no {node} in this cluster")
        return member

    def _others(self, member: Member) -> list[str]:
        """Who else does what this one does."""
        book = self._mesh.book
        ready = [m.id for m in book.members(member.role) if m.status == "ready" and not book.suspected(NodeId(m.id))]
        return [node for node in ready if node != member.id]

    def _view(self, member: Member) -> Json:
        """One node as operators see it; figures of its role under ``load``, without the long lists."""
        book, node, me = self._mesh.book, NodeId(member.id), member.id == self._mesh.me.id
        endpoints = {"command": member.command, "state": member.state, "http": member.http}
        endpoints["ops"] = str(member.load.get("ops", ""))
        return {
            "id": member.id,
            "role": member.role,
            "generation": member.generation,
            "status": member.status,
            "suspected": book.suspected(node),
            "silent_ms": 0 if me else round(min(book.silent_ms(node), 1e12)),
            "round_trip_ms": 0.0 if me else round(book.round_trip_ms(node), 2),
            "ready_ms": max(0, self._clock.world_ms() - member.ready_ms) if member.ready_ms else None,
            "endpoints": {name: where for name, where in endpoints.items() if where},
            "protocol": [member.protocol_min, member.protocol_max],
            "format_max": member.format_max,
            "load": {k: v for k, v in member.load.items() if k != "ops" and isinstance(v, int | float | str)},
        }
