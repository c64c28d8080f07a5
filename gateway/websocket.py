"""The game socket: bytes to messages and back, on websockets' sans-IO protocol, behind uvicorn's ``ws=`` hook.

Everything that is not a message's meaning is refused here: route, Origin, subprotocol, size, fragments, UTF-8. No send
ever waits: a client that does not read is judged by its transport's buffer.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import orjson
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State as WireState
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from gateway import closing
from gateway.client import Client
from gateway.closing import Closing
from gateway.gateway import Gateway
from gateway.leaving import Leaving
from world.limits import CLIENT_CLOSE_MS, CLIENT_FRAGMENTS, CLIENT_MESSAGE_BYTES

PATH = "/v1/socket"
SUBPROTOCOL = "projectk.v1"
_PIECE_BYTES = 4_096  # fed to the parser at once: between two pieces a flooding client can be stopped
_SHORT, _MEDIUM = 126, 1 << 16
_LOG = logging.getLogger("projectk.wire")  # the library logs every connection; the gateway counts them
_LOG.setLevel(logging.ERROR)


def text_frame(payload: bytes) -> bytes:
    """A whole unmasked text message (RFC 6455 section 5.2)."""
    length = len(payload)
    if length < _SHORT:
        return bytes((0x81, length)) + payload
    if length < _MEDIUM:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


def game_socket(gateway: Gateway, allowed_origin: Callable[[str], bool]) -> type[asyncio.Protocol]:
    """What uvicorn calls as its WebSocket class."""
    return cast(type[asyncio.Protocol], partial(GameSocket, gateway, allowed_origin, Leaving()))


class GameSocket(asyncio.Protocol):
    """One connection after its upgrade request: ``gateway.client.Socket`` on a transport."""

    def __init__(
        self,
        gateway: Gateway,
        allowed_origin: Callable[[str], bool],
        leaving: Leaving,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._gateway = gateway
        self._allowed_origin = allowed_origin
        self._leaving = leaving
        self._said: list[bytes] = []  # not written yet; counted in ``buffered``
        self._said_bytes = 0
        self._loop = _loop or asyncio.get_running_loop()
        self._connections = cast(set[asyncio.Protocol], server_state.connections)
        self._wire = ServerProtocol(subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=CLIENT_MESSAGE_BYTES, logger=_LOG)
        self._transport: asyncio.Transport | None = None
        self._client: Client | None = None  # once open
        self._parts: list[bytes] = []  # of a fragmented message, at most CLIENT_FRAGMENTS
        self._text = False  # whether that message is text
        self._ended = False  # nothing more is read; the connection is cut at the latest when _cut fires
        self._cut: asyncio.TimerHandle | None = None

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._connections.discard(self)
        self._ended = True
        if self._cut is not None:
            self._cut.cancel()
        if self._client is not None:
            self._client.gone()

    def data_received(self, data: bytes) -> None:
        for at in range(0, len(data), _PIECE_BYTES):
            if self._wire.eof_sent:
                return  # discarded: the close frame is on its way
            self._wire.receive_data(data[at : at + _PIECE_BYTES])
            for event in self._wire.events_received():
                self._event(event)
            self._after_parsing()

    def eof_received(self) -> None:
        """The transport closes itself; connection_lost follows."""

    def shutdown(self) -> None:
        """uvicorn stops: said by the gateway to those with a session, repeated here for the others."""
        if self._client is not None:
            self._client.close(closing.RESTARTING)
        elif self._transport is not None:
            self._transport.close()

    # -- gateway.client.Socket ---------------------------------------------------------------------------------------
    def say(self, text: bytes) -> None:
        self.write(text_frame(text))

    def write(self, chunk: bytes) -> None:
        if self._ended:
            return
        if not self._said:
            self._leaving.add(self._leave)
        self._said.append(chunk)
        self._said_bytes += len(chunk)

    def _leave(self) -> None:
        """Write what was said."""
        said, self._said, self._said_bytes = self._said, [], 0
        if said and self._transport is not None and not self._transport.is_closing():
            self._transport.write(said[0] if len(said) == 1 else b"".join(said))

    def buffered(self) -> int:
        return self._said_bytes + (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    def close(self, reason: Closing) -> None:
        if self._wire.state is WireState.OPEN:
            self._wire.send_close(reason.code, reason.name)
            self._flush()
        self._end()

    # -- the handshake -----------------------------------------------------------------------------------------------
    def _handshake(self, request: Request) -> None:
        refusal = self._refusal(request)
        response = refusal if refusal is not None else self._wire.accept(request)
        self._wire.send_response(response)
        self._flush()
        if response.status_code == 101:
            self._client = self._gateway.connect(self)
            return
        if refusal is None:
            self._gateway.counters.refused.labels("handshake").inc()
        self._end()

    def _refusal(self, request: Request) -> Response | None:
        if request.path.partition("?")[0] != PATH:
            return self._problem(404, "Not Found", "not_found")
        origins = request.headers.get_all("Origin")
        if len(origins) > 1 or (origins and not self._allowed_origin(origins[0])):
            return self._problem(403, "Forbidden", "origin_refused")
        return None

    def _problem(self, status: int, phrase: str, code: str) -> Response:
        self._gateway.counters.refused.labels(code).inc()
        body = orjson.dumps({"type": "about:blank", "title": phrase, "status": status, "code": code})
        headers = Headers(
            [
                ("Content-Type", "application/problem+json"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ]
        )
        return Response(status, phrase, headers, body)

    # -- frames to messages ------------------------------------------------------------------------------------------
    def _event(self, event: object) -> None:
        if isinstance(event, Request):
            self._handshake(event)
        elif isinstance(event, Frame) and self._client is not None and not self._ended and self._client.heard():
            self._frame(event)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._gateway.counters.closes.labels("by_client").inc()
        elif frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._text = frame.opcode is Opcode.TEXT
            if frame.fin:
                self._message(bytes(frame.data))
            else:
                self._parts = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT:
            self._continue(frame)

    def _continue(self, frame: Frame) -> None:
        self._parts.append(bytes(frame.data))
        if len(self._parts) > CLIENT_FRAGMENTS:
            self._refuse(closing.TOO_BIG)
        elif frame.fin:
            data = b"".join(self._parts)
            self._parts = []
            self._message(data)

    def _message(self, data: bytes) -> None:
        assert self._client is not None
        if not self._text:
            self._client.binary(data)
        elif _is_utf8(data):
            self._client.text(data)
        else:
            self._refuse(closing.NOT_UTF8)

    def _refuse(self, reason: Closing) -> None:
        if self._client is not None:
            self._gateway.counters.bad_input.labels(reason.name).inc()
            self._client.close(reason)

    # -- endings -----------------------------------------------------------------------------------------------------
    def _after_parsing(self) -> None:
        """Send pongs and close replies; notice that the parser gave up (too big, a protocol error) or is done."""
        error = self._wire.parser_exc
        if error is not None and not self._ended:
            name = closing.TOO_BIG.name if isinstance(error, PayloadTooBig) else "protocol_error"
            self._gateway.counters.bad_input.labels(name).inc()
            self._gateway.counters.closes.labels(name).inc()
        self._flush()
        if self._wire.close_rcvd is not None and self._transport is not None:
            self._transport.close()
            self._end()

    def _flush(self) -> None:
        """What the protocol wants written. Its end-of-stream mark half-closes: closing with unread bytes in the
        kernel would reset the connection, and the close frame would be lost."""
        transport = self._transport
        pieces = self._wire.data_to_send()
        if pieces:
            self._leave()
        for piece in pieces:
            if transport is None or transport.is_closing():
                return
            if piece:
                transport.write(piece)
            elif transport.can_write_eof():
                transport.write_eof()
                self._end()

    def _end(self) -> None:
        """Read no more messages, and cut the connection soon, whatever the client does."""
        self._ended = True
        if self._cut is None and self._transport is not None:
            self._cut = self._loop.call_later(CLIENT_CLOSE_MS / 1_000, self._transport.abort)
            if self._client is not None:
                self._client.gone()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
