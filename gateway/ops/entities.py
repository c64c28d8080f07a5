"""Moving what an operator names: the unit of an entity, to another game server."""

import asyncio
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.gateway import Gateway
from gateway.http import read_body
from gateway.ops.problems import of_mesh, problem
from gateway.ops.requests import NodeConvertor, query, reply
from runtime.mesh.api import MeshError
from world.ids import ENTITY_ID_LIMIT, NodeId, kind_of, unit_of
from world.limits import OPS_CALL_MS, OPS_HAND_OFF_MS, OPS_REDIRECTS, RETRY_AFTER_MS
from world.messages import Busy, GiveAway, HandedOver, Message, Moved

_REFUSALS = ("no_such_target", "no_destination", "not_taken")


class HandOffBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    to: Annotated[str, msgspec.Meta(pattern=f"^({NodeConvertor.regex})?$")] = ""


class Entities:
    """Routes under ``/v1/ops/entities``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[Route]:
        return [Route("/v1/ops/entities/{entity:int}:handoff", self.hand_off, methods=["POST"])]

    async def hand_off(self, request: Request) -> Response:
        query(request)
        body, entity = await read_body(request, HandOffBody), request.path_params["entity"]
        if entity >= ENTITY_ID_LIMIT or not kind_of(entity):
            raise problem("not_found", "no entity has such an id")
        answer = await self.give_away(GiveAway(unit_of(entity), body.to))
        return reply({"unit": answer.unit, "server": answer.server, "epoch": answer.epoch})

    async def give_away(self, wish: GiveAway) -> HandedOver:
        """Ask any game server, follow ``moved``, wait while the owner is busy. Raises Problem."""
        clock = self._gateway.clock
        server, redirects = self._gateway.any_server(), 0
        until_ms = clock.monotonic_ms() + OPS_HAND_OFF_MS
        while clock.monotonic_ms() < until_ms:
            answer = await self._ask(server, wish)
            if isinstance(answer, HandedOver):
                return answer
            if isinstance(answer, Moved) and not answer.server:
                raise problem("no_owner", f"{wish.unit} is nobody's right now: there is nothing to hand off")
            if isinstance(answer, Moved) and redirects < OPS_REDIRECTS:
                server, redirects = answer.server, redirects + 1
            else:
                redirects = 0
                await asyncio.sleep(max(RETRY_AFTER_MS, answer.retry_ms if isinstance(answer, Busy) else 0) / 1_000)
        raise problem("unreachable", f"{wish.unit} stayed busy", retry_after_s=1)

    async def _ask(self, server: str, wish: GiveAway) -> Message:
        if not server:
            raise problem("unreachable", "no game server is ready", retry_after_s=1)
        try:
            return await self._gateway.mesh.call(NodeId(server), wish, deadline_ms=OPS_CALL_MS)
        except MeshError as error:
            raise of_mesh(error, server, _REFUSALS) from error
