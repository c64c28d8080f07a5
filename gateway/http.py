"""The gateway's HTTP: accounts (by any login over the mesh), the book's gateways, the world's description, probes."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, NamedTuple, TypeVar

import msgspec
import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gateway.gateway import Gateway
from gateway.middleware import CappedBody, ClusterCors, SecurityHeaders
from gateway.observe import ObserveHub, TooManyObservers
from gateway.origins import Origins
from gateway.pages import Pages
from gateway.problems import Problem, on_error, on_http_exception, on_problem
from gateway.proxies import TrustedProxies
from gateway.rate import TokenBucket
from runtime.mesh.api import MeshError, Refused, Unreachable
from world.clock import Clock
from world.grid import REGIONS
from world.limits import GUEST_ADDRESSES, GUESTS_BURST, GUESTS_PER_S, HTTP_LOGIN_MS, RPC_RETRY_MS
from world.messages import Granted, LoginGuest, LoginRefresh, Logout, Message

T = TypeVar("T")


NOT_WRITTEN = ("unavailable", "temporary")  # what a login adds to store_unavailable where nothing was written


class WorldPages(NamedTuple):
    """What a client must know of the world, made once."""

    description: bytes  # /v1/world, JSON
    ground: Callable[[int, int], bytes]  # (region x, region y) -> 4096 tile kinds


class GuestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True): ...


class RefreshBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


async def read_body(request: Request, kind: type[T]) -> T:
    """The JSON body; an empty one counts as {}. Raises Problem("bad_request")."""
    body = await request.body()
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (ValueError, RecursionError) as error:
        raise Problem("bad_request", str(error)[:200]) from error


def _did_nothing(error: MeshError) -> bool:
    if isinstance(error, Refused):
        return error.code == "store_unavailable" and error.detail in NOT_WRITTEN
    return isinstance(error, Unreachable) and not error.sent


class AddressLimits:
    """Guests per client address; the least recently seen addresses are forgotten beyond GUEST_ADDRESSES."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, address: str) -> bool:
        now = self._clock.monotonic_ms()
        bucket = self._buckets.pop(address, None) or TokenBucket(GUESTS_PER_S, GUESTS_BURST, now)
        self._buckets[address] = bucket
        if len(self._buckets) > GUEST_ADDRESSES:
            self._buckets.popitem(last=False)
        return bucket.take(now)


class Routes:
    """Handlers of the routes that need the mesh."""

    def __init__(self, gateway: Gateway, observers: ObserveHub, world: WorldPages) -> None:
        self._gateway = gateway
        self._observers = observers
        self._world = world
        self._guests = AddressLimits(gateway.clock)
        self._proxies = TrustedProxies(gateway.service.settings.trusted_proxies)

    def all(self) -> list[Route]:
        return [
            Route("/v1/auth/guest", self.guest, methods=["POST"]),
            Route("/v1/auth/refresh", self.refresh, methods=["POST"]),
            Route("/v1/auth/logout", self.logout, methods=["POST"]),
            Route("/v1/gateways", self.gateways),
            Route("/v1/world", self.world),
            Route("/v1/world/ground/{x:int},{y:int}", self.ground),
            Route("/v1/observe/stream", self.observe),
            Route("/metrics", self.metrics),
            Route("/livez", self.live),
            Route("/readyz", self.ready),
        ]

    # -- accounts ------------------------------------------------------------------------------------------------------
    async def guest(self, request: Request) -> Response:
        await read_body(request, GuestBody)
        address = self._proxies.client(request)
        allowed = self._guests.take(address)
        self._gateway.service.log.debug("guest", address=address, allowed=allowed)
        if not allowed:
            self._gateway.counters.http_refused.labels("guest_rate").inc()
            raise Problem("rate_limited", "too many guests from this address", retry_after_s=5)
        return _granted(await self._login(LoginGuest(address)))

    async def refresh(self, request: Request) -> Response:
        body = await read_body(request, RefreshBody)
        return _granted(await self._login(LoginRefresh(body.refresh_token, self._proxies.client(request))))

    async def logout(self, request: Request) -> Response:
        body = await read_body(request, RefreshBody)
        await self._login(Logout(body.refresh_token))
        return Response(status_code=204)

    async def _login(self, ask: Message) -> Message:
        try:
            return await self._ask_login(ask)
        except Refused as refusal:
            known = refusal.code in ("unauthorized", "store_unavailable", "session_not_ended", "rate_limited")
            raise Problem(refusal.code if known else "internal", refusal.detail) from refusal
        except MeshError as error:
            raise Problem("login_unavailable", "no login answers", retry_after_s=1) from error

    async def _ask_login(self, ask: Message) -> Message:
        """Again, until HTTP_LOGIN_MS are over, where no login is there just now or its store is away (a deployment
        starts both anew): what was not sent, or certainly not written, has not happened. Raises MeshError."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + HTTP_LOGIN_MS / 1_000
        while True:
            try:
                return await self._gateway.mesh.call_any("login", ask, deadline_ms=(end_s - loop.time()) * 1_000)
            except MeshError as error:
                if not _did_nothing(error) or loop.time() + RPC_RETRY_MS / 1_000 >= end_s:
                    raise
            await asyncio.sleep(RPC_RETRY_MS / 1_000)

    # -- reading -------------------------------------------------------------------------------------------------------
    async def gateways(self, _request: Request) -> Response:
        members = [m for m in self._gateway.mesh.book.members("gateway") if m.http and m.status == "ready"]
        rows = [{"id": m.id, "url": m.http, "clients": m.load.get("clients", 0)} for m in members]
        return _json({"gateways": sorted(rows, key=lambda row: str(row["id"]))})

    async def world(self, _request: Request) -> Response:
        return Response(self._world.description, media_type="application/json", headers={"cache-control": "no-cache"})

    async def ground(self, request: Request) -> Response:
        x, y = request.path_params["x"], request.path_params["y"]
        if not (0 <= x < REGIONS and 0 <= y < REGIONS):
            raise Problem("not_found", f"regions are 0..{REGIONS - 1}")
        named = request.query_params.get("seed") == str(self._gateway.service.settings.world_seed)
        headers = {"cache-control": "public, max-age=31536000, immutable" if named else "no-cache"}
        return Response(self._world.ground(x, y), media_type="application/octet-stream", headers=headers)

    async def observe(self, _request: Request) -> Response:
        try:
            stream = self._observers.watch()
        except TooManyObservers as error:
            raise Problem("too_many_observers", retry_after_s=10) from error
        return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-store"})

    # -- probes --------------------------------------------------------------------------------------------------------
    async def metrics(self, _request: Request) -> Response:
        self._gateway.measure()
        return Response(generate_latest(self._gateway.service.metrics), media_type=CONTENT_TYPE_LATEST)

    async def live(self, _request: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def ready(self, _request: Request) -> Response:
        ready = self._gateway.ready()
        return Response("ready\n" if ready else "not ready\n", 200 if ready else 503, media_type="text/plain")


def build_app(routes: Routes, pages: Pages, origins: Origins) -> Starlette:
    return Starlette(
        routes=[*routes.all(), *pages.routes()],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(ClusterCors, allowed=origins.allowed),
            Middleware(CappedBody),
        ],
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception, 500: on_error},
    )


def _granted(answer: Message) -> Response:
    if not isinstance(answer, Granted):
        raise Problem("internal")
    return _json(
        {
            "access_token": answer.access_token,
            "refresh_token": answer.refresh_token,
            "avatar": answer.avatar,
            "name": answer.name,
            "expires_s": answer.expires_s,
        },
        {"cache-control": "no-store"},
    )


def _json(document: object, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), headers=headers, media_type="application/json")
