"""A gateway on a real port, with stand-ins behind it, and clients that behave or do not."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import orjson
from prometheus_client import generate_latest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from gateway.gateway import Gateway
from gateway.http import Routes, WorldPages, build_app
from gateway.observe import ObserveHub
from gateway.origins import Origins
from gateway.pages import Pages
from gateway.server import bind, build_server
from runtime.service import Service
from tests.unit.gateway.support import StubMesh, token, with_login

SUBPROTOCOL = Subprotocol("projectk.v1")


class Live:
    def __init__(self, gateway: Gateway, mesh: StubMesh, port: int, observers: ObserveHub) -> None:
        self.gateway = gateway
        self.mesh = mesh
        self.port = port
        self.observers = observers
        self.url = f"http://127.0.0.1:{port}"

    def counter(self, name: str, **labels: str) -> float:
        return self.gateway.service.metrics.get_sample_value(f"projectk_gateway_{name}_total", labels) or 0.0

    def metrics(self) -> str:
        return generate_latest(self.gateway.service.metrics).decode()

    def access(self, **changes: Any) -> str:
        return token("access", self.gateway.clock.world_ms() / 1_000, **changes)

    async def connect(self, path: str = "/v1/socket", origin: str | None = None) -> ClientConnection:
        return await connect(
            f"ws://127.0.0.1:{self.port}{path}",
            subprotocols=[SUBPROTOCOL],
            origin=Origin(origin) if origin else None,
            compression=None,
            ping_interval=None,
            max_size=None,
        )

    async def player(self, avatar: int) -> "Player":
        player = Player(await self.connect())
        await player.until("hello")
        await player.say(t="identify", protocol=1, token=self.access(avatar=avatar))
        player.ready = await player.until("ready")
        await player.until("attached")
        return player

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw_socket(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Upgraded by hand: for frames that no library sends."""
        reader, writer = await self.raw()
        writer.write(UPGRADE)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"101" in head.split(b"\r\n")[0]
        return reader, writer


UPGRADE = (
    b"GET /v1/socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: projectk.v1\r\n\r\n"
)


class Player:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.ready: dict[str, Any] = {}

    async def say(self, **message: Any) -> None:
        await self.socket.send(orjson.dumps(message).decode())

    async def until(self, tag: str) -> dict[str, Any]:
        async with asyncio.timeout(5):
            async for data in self.socket:
                if isinstance(data, str) and (message := orjson.loads(data))["t"] == tag:
                    return dict(message)
        raise AssertionError(f"closed before {tag}: {self.socket.close_code}")

    async def closed(self) -> int:
        """Read until the gateway closes; its code."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
        return self.socket.close_code or 0

    async def alive(self) -> None:
        """A neighbour that nothing has happened to."""
        await self.say(t="ping", c=7)
        assert (await self.until("pong"))["c"] == 7


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    first = opcode | (0x80 if fin else 0)
    if len(payload) < 126:
        head = bytes((first, 0x80 | len(payload)))
    elif len(payload) < 1 << 16:
        head = bytes((first, 0xFE)) + struct.pack("!H", len(payload))
    else:
        head = bytes((first, 0xFF)) + struct.pack("!Q", len(payload))
    return head + bytes(4) + payload


async def close_code(reader: asyncio.StreamReader) -> int:
    """The code of the close frame that ends what the server sends; 0 where the connection ended without one."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        async with asyncio.timeout(5):
            while True:
                first, length = await reader.readexactly(2)
                if length == 126:
                    length = int.from_bytes(await reader.readexactly(2), "big")
                payload = await reader.readexactly(length)
                if first & 0x0F == 8:
                    return int.from_bytes(payload[:2], "big")
    return 0


@contextlib.asynccontextmanager
async def live(**settings: Any) -> AsyncIterator[Live]:
    service = Service.for_test("gateway", "gw1", **settings)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with service:
        mesh = with_login(StubMesh(), lambda: service.clock.world_ms() / 1_000)
        gateway = Gateway(service, mesh)
        gateway.serve()
        observers = ObserveHub(mesh, service.clock, gateway.noted)
        origins = Origins(mesh.book, service.settings.public_origins, f"http://127.0.0.1:{port}")
        pages = WorldPages(b'{"seed":1}', lambda x, y: bytes([x, y]) * 2_048)
        server = build_server(gateway, build_app(Routes(gateway, observers, pages), Pages(origins), origins), origins)
        serving = service.spawn(server.serve(sockets=[listener]), "http")
        service.spawn(observers.loop(), "observe", loop=True)
        await server.listening.wait()
        try:
            yield Live(gateway, mesh, port, observers)
        finally:
            gateway.close_all()
            await observers.stop()
            server.should_exit = True
            await asyncio.wait([serving])
