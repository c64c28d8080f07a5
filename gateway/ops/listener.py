"""The operators' listener: routes behind a token, on a socket of its own in the gateway's loop."""

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config

from gateway.gateway import Gateway
from gateway.headers import capped_http
from gateway.middleware import CappedBody, SecurityHeaders
from gateway.ops.deployments import Deployments
from gateway.ops.entities import Entities
from gateway.ops.events import EventStream
from gateway.ops.nodes import Nodes
from gateway.ops.openapi import DOCUMENT
from gateway.ops.requests import reply
from gateway.ops.search import Searching
from gateway.ops.token import same_token
from gateway.problems import Problem, on_error, on_http_exception, on_problem, problem_response
from gateway.server import QuietServer
from runtime.store.search import Search
from world.limits import CLIENT_CLOSE_MS, OPS_BACKLOG_CONNECTIONS


class Authorized:
    """ASGI layer: nothing is answered to who does not bring the token, not even what exists."""

    def __init__(self, app: ASGIApp, token: str, gateway: Gateway) -> None:
        self._app = app
        self._token = token
        self._refused = gateway.counters.http_refused.labels("ops_token")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._allows(Headers(scope=scope)):
            self._refused.inc()
            response = problem_response("unauthorized", "Authorization: Bearer and the operators' token")
            response.headers["www-authenticate"] = 'Bearer realm="projectk operators"'
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _allows(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and same_token(given.strip(), self._token)


async def _openapi(_request: Request) -> Response:
    return reply(DOCUMENT)


def build_ops(gateway: Gateway, token: str, search: Search) -> Starlette:
    mesh = gateway.mesh
    parts = (Nodes(mesh, gateway.clock), Entities(gateway), Deployments(mesh), EventStream(gateway), Searching(search))
    return Starlette(
        routes=[*(route for part in parts for route in part.routes()), Route("/v1/ops/openapi.json", _openapi)],
        middleware=[Middleware(SecurityHeaders), Middleware(Authorized, token, gateway), Middleware(CappedBody)],
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception, 500: on_error},
    )


def build_ops_server(gateway: Gateway, token: str, search: Search) -> QuietServer:
    """Run it with ``serve(sockets=[…])``; ``should_exit`` begins its stop."""
    return QuietServer(
        Config(
            build_ops(gateway, token, search),
            http=capped_http(gateway.counters),
            ws="none",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_config=None,
            backlog=OPS_BACKLOG_CONNECTIONS,
            timeout_graceful_shutdown=max(1, CLIENT_CLOSE_MS // 1_000),
        )
    )
