"""uvicorn inside the service's loop: our sockets, our HTTP and WebSocket classes, no signal handling of its own."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import Server

from gateway.gateway import Gateway
from gateway.headers import capped_http
from gateway.origins import Origins
from gateway.websocket import game_socket
from runtime.service import StartRefused
from world.limits import CLIENT_CLOSE_MS, HTTP_ACCEPTS_PER_TURN, HTTP_BACKLOG_CONNECTIONS


class QuietServer(Server):
    """The service owns the signals. ``listening`` is set once connections are accepted."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int, flag: str = "--port") -> socket.socket:
    """A listening socket, so that its port is known before anything is said about it. Raises StartRefused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise StartRefused(f"{flag}: cannot listen on {host}:{port} ({error}); choose another with {flag}.") from error
    listener.setblocking(False)
    return listener


def many(listener: socket.socket) -> list[socket.socket]:
    """The same listener several times. libuv takes one connection per listener and turn of the loop: of a hundred
    clients that come over from a lost gateway, the last would wait for a hundred turns."""
    return [listener, *(listener.dup() for _ in range(HTTP_ACCEPTS_PER_TURN - 1))]


def build_server(gateway: Gateway, app: ASGIApp, origins: Origins) -> QuietServer:
    """Run it with ``serve(sockets=[…])``; ``should_exit`` begins its stop."""
    config = Config(
        app,
        http=capped_http(gateway.counters),
        ws=game_socket(gateway, origins.allowed),
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        backlog=HTTP_BACKLOG_CONNECTIONS,
        timeout_graceful_shutdown=max(1, CLIENT_CLOSE_MS // 1_000),
    )
    return QuietServer(config)
