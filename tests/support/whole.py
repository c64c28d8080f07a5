"""Everything between a player's socket and the store, on one virtual loop: the real gateways, logins and game servers.

``async with Whole(servers=2) as world: ana = await world.newcomer(); await ana.command("say", text="hello")``. The
players are the bots' own client over a simulated socket; they come back by themselves as a good client does.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Self, cast

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster.bots.client import Client, ClientError, Json
from cluster.bots.wire import ABNORMAL, Socket
from gateway.app import build as build_gateway
from gateway.gateway import Gateway
from login.app import build as build_login
from runtime.mesh.api import MeshError
from runtime.mesh.node import MeshNode
from runtime.service import Service
from tests.simulation.wire import SimSocket
from tests.support.game import Game
from world.limits import HTTP_LOGIN_MS
from world.messages import Granted, LoginGuest, LoginRefresh, Logout, Message

CLIENT_DELAY_MS = 15.0
ASKED = {"/v1/auth/guest": LoginGuest, "/v1/auth/refresh": LoginRefresh, "/v1/auth/logout": Logout}


class Whole(Game):
    """Gateways gw2, gw3 (gw1 only listens), logins lg1 …; game servers as in ``Game``."""

    def __init__(self, servers: int = 2, *, gateways: int = 2, logins: int = 1, **settings: Any) -> None:
        super().__init__(servers, **settings)
        self.gateways: dict[str, Gateway] = {}
        self.sockets: dict[int, SimSocket] = {}
        self._names = [*(f"gw{n + 2}" for n in range(gateways)), *(f"lg{n + 1}" for n in range(logins))]
        self._staying: list[asyncio.Task[None]] = []
        self._services: dict[str, tuple[Service, asyncio.Task[None]]] = {}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        for name in self._names:
            await self.begin(name)
        await asyncio.sleep(1)  # everybody has heard of everybody
        return self

    async def __aexit__(self, *error: Any) -> None:
        for task in self._staying:
            task.cancel()
        for name in list(self._services):
            await self.end(name)
        await super().__aexit__(*error)

    # -- processes -----------------------------------------------------------------------------------------------------
    async def begin(self, node: str) -> None:
        """A gateway's or a login's process begins."""
        role = {"gw": "gateway", "lg": "login"}[node[:2]]
        service = Service.for_test(
            role, node, rng=random.Random(self.rng.getrandbits(32)), lines=self.lines, **self._settings
        )
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def start(service: Service) -> None:
            mesh = await self.network.mesh(role, node, service=service)
            self._build(service, mesh)
            mesh.update_me(status="ready", http=f"sim://{node}" if role == "gateway" else "")
            ready.set_result(None)

        self._services[node] = service, self._group.create_task(service.serve(start))
        await ready

    def _build(self, service: Service, mesh: MeshNode) -> None:
        if service.role == "gateway":
            self.gateways[service.node_id] = build_gateway(service, mesh)
        else:
            build_login(
                service,
                mesh,
                self.store,
                private=Ed25519PrivateKey.from_private_bytes(self.rng.randbytes(32)),
                random_bytes=random.Random(self.rng.getrandbits(32)).randbytes,
            )

    async def end(self, node: str) -> None:
        """kill -9 of a gateway or a login."""
        service, task = self._services.pop(node)
        gateway = self.gateways.pop(node, None)
        service.crash()
        self.network.crash(node)
        for socket in [s for s in self.sockets.values() if s.gateway is gateway]:
            socket.crash()
        await asyncio.wait([task])

    def pass_days(self, seconds: float) -> None:
        """World time alone moves on, for gateways and logins alike."""
        for service, _ in self._services.values():
            now_ms = service.clock.world_ms
            setattr(service.clock, "world_ms", lambda now_ms=now_ms: now_ms() + round(seconds * 1_000))  # noqa: B010

    # -- players -------------------------------------------------------------------------------------------------------
    async def newcomer(self, gateway: str = "gw2") -> "PlayerClient":
        """A guest, playing through this gateway first."""
        player = PlayerClient(self, gateway)
        await player.guest()
        await player.connect()
        self._staying.append(self._group.create_task(player.stay()))
        return player

    async def ask_login(self, message: Message, deadline_ms: float = HTTP_LOGIN_MS) -> Message:
        """As a gateway's HTTP does. Raises MeshError."""
        gateway = next(iter(self.gateways.values()))
        return await gateway.mesh.call_any("login", message, deadline_ms=deadline_ms)


class PlayerClient(Client):
    """``stay`` comes back whenever it may; ``said`` is all it was told, in order."""

    def __init__(self, whole: Whole, gateway: str) -> None:
        names = [name for name in whole._names if name.startswith("gw")]
        at = names.index(gateway)
        super().__init__(
            cast(httpx.AsyncClient, None),
            [f"sim://{name}" for name in names[at:] + names[:at]],
            on_binary=lambda _: None,
            rng=random.Random(whole.rng.getrandbits(32)),
        )
        self._whole = whole
        self.said: list[bytes] = []
        self.codes: list[int] = []  # with which connections ended
        self.link: SimSocket

    async def _post(self, path: str, body: Json) -> Json:
        try:
            granted = await self._whole.ask_login(ASKED[path](**body))
        except MeshError as error:
            raise ClientError("http_503", error.code) from error
        assert isinstance(granted, Granted)
        return {name: getattr(granted, name) for name in ("access_token", "refresh_token", "avatar", "name")}

    async def _open(self, url: str) -> None:
        gateway = self._whole.gateways.get(url.removeprefix("sim://"))
        if gateway is None:
            raise ConnectionRefusedError(url)
        serial = len(self._whole.sockets) + 1
        self.link = SimSocket(gateway, self, random.Random(serial), serial, CLIENT_DELAY_MS)
        self._whole.sockets[serial] = self.link
        self.opening(cast(Socket, self.link))

    def text(self, payload: bytes) -> None:
        self.said.append(payload)
        super().text(payload)

    def closed(self, code: int, reason: str) -> None:
        self.codes.append(code)
        super().closed(code, reason)

    async def stay(self) -> None:
        while True:
            await self.lost.wait()
            if not self.may_reconnect:
                return
            await asyncio.sleep(0.1)
            try:
                if not self.access_token:
                    await self.refresh()
                await self.connect()
            except ClientError:
                await asyncio.sleep(0.2)

    def vanish(self) -> Callable[[], None]:
        """The way to the gateway is gone, and only the client knows; calling the answer tells the gateway too."""
        link = self.link
        link._client_open = False
        self.closed(ABNORMAL, "")
        return link._gateway_gone

    def leave(self) -> None:
        """By the player's wish."""
        self._asked_to_leave = True
        self.raw_text(b'{"t":"bye"}')

    async def until(self, true: Callable[[], bool], seconds: float = 10.0, what: str = "it") -> None:
        await self._whole.until(true, seconds, what)
