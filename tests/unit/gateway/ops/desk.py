"""An operators' listener with stand-ins behind it, asked in memory or over a real port."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx

from gateway.gateway import Gateway
from gateway.ops.listener import build_ops, build_ops_server
from gateway.server import bind
from runtime.mesh.api import Sender
from runtime.service import Service
from runtime.store.search import MeshSearch
from tests.unit.gateway.support import StubMesh
from world.ids import NodeId
from world.messages import Json, Noted

TOKEN = "a-token-of-some-length"
BEARER = {"authorization": f"Bearer {TOKEN}"}
FROM = Sender(NodeId("gs1"), 3)


class Desk:
    """``http`` brings the token."""

    def __init__(self, gateway: Gateway, mesh: StubMesh, http: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.mesh = mesh
        self.http = http

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(path)

    async def post(self, path: str, body: object = None) -> httpx.Response:
        return await self.http.post(path, json=body) if body is not None else await self.http.post(path)

    def note(self, kind: str, **detail: object) -> None:
        self.gateway.noted.hear(FROM, Noted(kind, 1, dict(detail)))


@contextlib.asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    """In memory: answers come whole, so no endless ones."""
    service = Service.for_test("gateway", "gw1")
    async with service:
        mesh = StubMesh()
        gateway = Gateway(service, mesh)
        transport = httpx.ASGITransport(build_ops(gateway, TOKEN, MeshSearch(mesh)), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://ops", headers=BEARER) as http:
            yield Desk(gateway, mesh, http)


@contextlib.asynccontextmanager
async def live_desk() -> AsyncIterator[Desk]:
    """Over a real port."""
    service = Service.for_test("gateway", "gw1")
    listener = bind("127.0.0.1", 0)
    async with service:
        mesh = StubMesh()
        gateway = Gateway(service, mesh)
        server = build_ops_server(gateway, TOKEN, MeshSearch(mesh))
        serving = service.spawn(server.serve(sockets=[listener]), "ops")
        await server.listening.wait()
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=base, headers=BEARER, timeout=5) as http:
            try:
                yield Desk(gateway, mesh, http)
            finally:
                gateway.noted.close()
                server.should_exit = True
                await asyncio.wait([serving])


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """A problem's status and code, and that it is one."""
    assert answer.headers["content-type"] == "application/problem+json"
    document: Json = answer.json()
    assert document["status"] == answer.status_code
    return answer.status_code, document["code"]
