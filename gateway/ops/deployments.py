"""Deployments: asked of the cluster's supervisor, which alone starts and stops processes."""

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http import read_body
from gateway.ops.problems import of_mesh, problem
from gateway.ops.requests import NodeConvertor, query, reply
from runtime.mesh.api import Mesh, MeshError, Refused
from world.ids import NodeId
from world.limits import OPS_CALL_MS
from world.messages import AskDeployment, Deploy, Deployment, Json, Message

PATH = "/v1/ops/deployments"
_ID_CHARACTERS = 64  # of messages.Short


class DeployBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``node``: this process only."""

    node: Annotated[str, msgspec.Meta(pattern=f"^({NodeConvertor.regex})?$")] = ""


class Deployments:
    """Routes under ``/v1/ops/deployments``."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def routes(self) -> list[Route]:
        return [
            Route(PATH, self.begin, methods=["POST"]),
            Route(PATH, self.all),
            Route(PATH + "/{id}", self.one),
        ]

    async def begin(self, request: Request) -> Response:
        query(request)
        body = await read_body(request, DeployBody)
        view = await self._ask(Deploy(body.node))
        if view is None:
            raise problem("no_such_target", f"the supervisor has no process {body.node}")
        return reply(view, 202, {"location": f"{PATH}/{view.get('id', '')}"})

    async def all(self, request: Request) -> Response:
        """Those that the supervisor remembers: the last one."""
        query(request)
        view = await self._ask(AskDeployment())
        return reply({"deployments": [] if view is None else [view]})

    async def one(self, request: Request) -> Response:
        query(request)
        name = request.path_params["id"]
        view = await self._ask(AskDeployment(name)) if len(name) <= _ID_CHARACTERS else None
        if view is None:
            raise problem("not_found", f"there was no deployment {name[:_ID_CHARACTERS]}")
        return reply(view)

    async def _ask(self, message: Message) -> Json | None:
        """The deployment as the supervisor tells it; None: there is none such. Raises Problem."""
        supervisors = [m.id for m in self._mesh.book.members("supervisor") if m.status == "ready"]
        if not supervisors:
            raise problem("no_supervisor", "no supervisor is in this cluster: roll its processes by hand")
        try:
            answer = await self._mesh.call(NodeId(supervisors[0]), message, deadline_ms=OPS_CALL_MS)
        except Refused as refusal:
            if refusal.code == "no_such_target":
                return None
            raise of_mesh(refusal, supervisors[0]) from refusal
        except MeshError as error:
            raise of_mesh(error, supervisors[0]) from error
        if not isinstance(answer, Deployment):
            raise problem("internal", f"{supervisors[0]} answered {type(answer).__name__}")
        return answer.view
