"""Composition root of the gateway: puts the parts together and starts them."""

import asyncio
import socket

import orjson
from starlette.applications import Starlette

from gateway.gateway import Gateway
from gateway.http import Routes, WorldPages, build_app
from gateway.leveling import Leveling
from gateway.observe import ObserveHub
from gateway.ops.listener import build_ops_server
from gateway.ops.token import load_or_make_token, token_path
from gateway.origins import Origins
from gateway.pages import Pages
from gateway.server import QuietServer, bind, build_server, many
from runtime.cells import CellSubscriber
from runtime.drain import drainable
from runtime.mesh.api import Mesh
from runtime.mesh.open import open_mesh
from runtime.notes import Notes
from runtime.service import Service
from runtime.store.access import reach_store
from runtime.store.api import Store
from runtime.store.format import agree
from runtime.store.search_open import open_search
from world.describe import describe
from world.limits import GATEWAY_LOAD_MS
from world.terrain import ground


def build(service: Service, mesh: Mesh) -> Gateway:
    """The gateway without HTTP and sockets: what the simulation runs, with links of its own."""
    gateway = Gateway(service, mesh)
    cells = CellSubscriber(service, mesh, gateway.fanout.apply, gateway.fanout.forget)
    gateway.want_cells = cells.want
    gateway.serve()
    return gateway


def world_pages(seed: int) -> WorldPages:
    return WorldPages(orjson.dumps(describe(seed)), lambda x, y: ground(seed, x, y).tobytes())


def build_http(gateway: Gateway, own_url: str) -> tuple[QuietServer, ObserveHub]:
    """The HTTP server over a gateway; nothing is spawned yet."""
    service, mesh = gateway.service, gateway.mesh
    origins = Origins(mesh.book, service.settings.public_origins, own_url)
    observers = ObserveHub(mesh, service.clock, gateway.noted)
    routes = Routes(gateway, observers, world_pages(service.settings.world_seed))
    app: Starlette = build_app(routes, Pages(origins), origins)
    return build_server(gateway, app, origins), observers


async def start(service: Service) -> None:
    settings = service.settings
    token = load_or_make_token(token_path(settings.data, settings.ops_token_file))
    ops_listener = bind(settings.ops_host, settings.ops_port, "--ops-port")
    ops_url = _url(settings.ops_host, ops_listener)
    listener = bind(settings.host, settings.port)
    url = settings.advertise_http or _url(settings.host, listener)
    mesh = await open_mesh(
        service,
        role="gateway",
        node_id=service.node_id,
        generation=None,
        publishes_state=False,
        subscribes_state=True,
        http=url,
        load={"ops": ops_url},
    )
    search = open_search(settings, mesh)
    service.on_close(search.close)
    gateway = build(service, mesh)
    server, observers = build_http(gateway, url)
    serving = service.spawn(server.serve(sockets=many(listener)), "http", loop=True)
    ops = build_ops_server(gateway, token, search)
    serving_ops = service.spawn(ops.serve(sockets=[ops_listener]), "ops", loop=True)
    service.spawn(observers.loop(), "observe", loop=True)
    service.spawn(_tell_load(gateway, ops_url), "load", loop=True)
    if settings.balance == "on":
        service.spawn(Leveling(gateway).keep(), "leveling", loop=True)
    service.spawn(_agree(await reach_store(settings, mesh), settings.world_seed), "agree")

    async def stop() -> None:
        """Everybody is sent elsewhere, then HTTP ends; the mesh closes after this."""
        mesh.update_me(status="draining")
        gateway.close_all()
        await observers.stop()
        gateway.noted.close()
        server.should_exit = ops.should_exit = True
        await asyncio.wait([serving, serving_ops])

    service.on_stop(stop)
    await asyncio.gather(server.listening.wait(), ops.listening.wait())
    drainable(service, mesh, Notes(mesh, service.clock), gateway.drain)
    mesh.update_me(status="ready")
    service.ready(http=url, command=mesh.me.command, ops=ops_url)


async def _agree(store: Store, world_seed: int) -> None:
    """Ends a gateway of another world's ground; it needs the store for nothing else."""
    try:
        await agree(store, world_seed)
    finally:
        await store.close()


async def _tell_load(gateway: Gateway, ops_url: str) -> None:
    """The book's figures of this gateway, for /v1/gateways and for operators."""
    while True:
        await asyncio.sleep(GATEWAY_LOAD_MS / 1_000)
        gateway.mesh.update_me(load={"clients": len(gateway), "ops": ops_url})


def _url(host: str, listener: socket.socket) -> str:
    """Where a browser on this machine finds us; behind a balancer ``advertise_http`` says it."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{listener.getsockname()[1]}"
