"""HTTP requests before they are requests: deadlines and caps that uvicorn's httptools protocol does not have.

Our WebSocket class is made only after a whole request has arrived, so a silent or trickling client is ended here.
"""

import asyncio
from typing import Any, cast

import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.counters import Counters
from world.limits import (
    CLIENT_CLOSE_MS,
    HANDSHAKE_MS,
    HTTP_HEADER_BYTES,
    HTTP_PIPELINED_REQUESTS,
    HTTP_REQUEST_MS,
    HTTP_STALL_MS,
)

_PIECE_BYTES = 4_096  # fed to the parser at once: the header cap is exact to one piece
_TITLE = {408: "Request Timeout", 431: "Request Header Fields Too Large"}


class CappedHttpProtocol(HttpToolsProtocol):
    """``http=`` for uvicorn; ``counters`` is set by the subclass that ``capped_http`` makes."""

    counters: Counters

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._in_headers = True
        self._header_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None  # for the whole request
        self._stall: asyncio.TimerHandle | None = None  # for a reader that has stopped
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(HANDSHAKE_MS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for at in range(0, len(data), _PIECE_BYTES):
            if self._refused or self.transport.is_closing():
                return
            protocol = self.transport.get_protocol()
            if protocol is not self:  # upgraded by an earlier piece
                cast(asyncio.Protocol, protocol).data_received(data[at:])
                return
            piece = data[at : at + _PIECE_BYTES]
            self._header_bytes += len(piece) if self._in_headers else 0
            super().data_received(piece)
            if self._in_headers and self._header_bytes > HTTP_HEADER_BYTES:
                self._refuse(431, "header_too_large")
            elif len(self.pipeline) > HTTP_PIPELINED_REQUESTS:
                self._refuse(431, "too_many_requests_at_once")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers, self._header_bytes = True, 0
        self._arm(HTTP_REQUEST_MS)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._disarm()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._disarm()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(HTTP_STALL_MS / 1_000, self._stalled)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _arm(self, after_ms: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(after_ms / 1_000, self._refuse, 408, "request_timeout")

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stalled(self) -> None:
        self.counters.http_refused.labels("not_reading").inc()
        self.transport.abort()

    def _refuse(self, status: int, code: str) -> None:
        """Answer with a problem and close; the connection is cut by the stall timer if that is not read."""
        self._refused = True
        self._disarm()
        self.counters.http_refused.labels(code).inc()
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # in the middle of another answer: nothing can be said
            return
        title = _TITLE[status]
        body = orjson.dumps({"type": "about:blank", "title": title, "status": status, "code": code})
        head = f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.write_eof()
        self._stall = self.loop.call_later(CLIENT_CLOSE_MS / 1_000, self.transport.abort)


def capped_http(counters: Counters) -> type[CappedHttpProtocol]:
    """The class for one gateway."""
    return type("CappedHttp", (CappedHttpProtocol,), {"counters": counters})
