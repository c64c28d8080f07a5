"""A WebSocket of a bot: websockets' sans-IO protocol opens it and sends; frames from the server are read by hand.

A bot receives a thousand times as many frames as it sends, all of them unmasked and unfragmented: reading their
two-byte heads costs 1 µs instead of 13, which on one machine with the cluster is what keeps 500 bots honest.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Protocol, cast
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from world.limits import BOT_CONNECT_S, BOT_FRAME_BYTES

SUBPROTOCOL = "projectk.v1"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
ABNORMAL = 1006  # the connection ended without a close frame

_CODE = struct.Struct("!H")
_LENGTH16 = struct.Struct("!H")
_LENGTH64 = struct.Struct("!Q")


class Refused(Exception):
    """The upgrade was answered with an HTTP error; ``status``."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class BadServerFrame(ValueError):
    """Fragmented, masked or too long: nothing that a gateway sends."""


class Receiver(Protocol):
    """Who is told of what arrives. ``opening`` comes first, before anything can arrive."""

    def opening(self, socket: "Socket") -> None: ...
    def text(self, payload: bytes) -> None: ...
    def binary(self, payload: bytes) -> None: ...
    def closed(self, code: int, reason: str) -> None: ...


def split_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Complete server frames [(opcode, payload)] at the start of ``data``, and the rest. Raises BadServerFrame."""
    frames = []
    at, end = 0, len(data)
    while end - at >= 2:
        first, length = data[at], data[at + 1]
        start = at + 2
        if first & 0xF0 != 0x80 or length & 0x80:
            raise BadServerFrame(f"head {first:#x} {length:#x}")
        if length == 126:
            if end - start < 2:
                break
            (length,) = _LENGTH16.unpack_from(data, start)
            start += 2
        elif length == 127:
            if end - start < 8:
                break
            (length,) = _LENGTH64.unpack_from(data, start)
            start += 8
            if length > BOT_FRAME_BYTES:
                raise BadServerFrame(f"{length} bytes")
        if end - start < length:
            break
        frames.append((first & 0x0F, data[start : start + length]))
        at = start + length
    return frames, data[at:]


class Socket(asyncio.Protocol):
    """One connection. ``opened`` is done when the upgrade succeeded, or has failed."""

    def __init__(self, url: str, receiver: Receiver) -> None:
        """``url``: a gateway's base URL, http(s)://host:port."""
        parts = urlsplit(url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        self._protocol = ClientProtocol(
            parse_uri(f"{scheme}://{parts.netloc}/v1/socket"),
            origin=Origin(f"{parts.scheme}://{parts.netloc}"),
            subprotocols=[Subprotocol(SUBPROTOCOL)],
        )
        self._receiver = receiver
        self._transport: asyncio.Transport | None = None
        self._upgraded = False
        self._rest = b""
        self._ended = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received_bytes = 0
        self.received_frames = 0

    # -- asyncio.Protocol -----------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._receiver.opening(self)
        request = self._protocol.connect()
        request.headers = Headers(request.headers, **{"User-Agent": "projectk-bots"})
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if not self._upgraded:
            data = self._upgrade(data)
            if not self._upgraded:
                return
        try:
            frames, self._rest = split_frames(self._rest + data if self._rest else data)
        except BadServerFrame as error:
            self._end(ABNORMAL, str(error))
            return
        self.received_frames += len(frames)
        for opcode, payload in frames:
            self._frame(opcode, payload)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("closed during the upgrade"))
        self._end(ABNORMAL, str(error or ""))

    # -- for the client -----------------------------------------------------------
    @property
    def _may_send(self) -> bool:
        """After a close frame, ours or theirs, nothing may follow: what comes too late is dropped."""
        return self._upgraded and not self._ended and self._protocol.state is OPEN

    def send_text(self, payload: bytes) -> None:
        if self._may_send:
            self._protocol.send_text(payload)
            self._flush()

    def send_binary(self, payload: bytes) -> None:
        if self._may_send:
            self._protocol.send_binary(payload)
            self._flush()

    def close(self, code: int = 1000) -> None:
        if self._may_send:
            self._protocol.send_close(code)
            self._flush()

    def abort(self) -> None:
        """Drop the connection without a word, as a lost network does."""
        if self._transport is not None:
            self._transport.abort()

    # -- inside -----------------------------------------------------------
    def _upgrade(self, data: bytes) -> bytes:
        """Feed the handshake; what follows it, once it is complete."""
        self._rest += data
        head, found, after = self._rest.partition(b"\r\n\r\n")
        if not found:
            return b""
        self._rest = b""
        self._protocol.receive_data(head + found)
        for event in self._protocol.events_received():
            if isinstance(event, Response) and self._protocol.handshake_exc is None:
                self._upgraded = True
                if not self.opened.done():
                    self.opened.set_result(None)
                return after
        if not self.opened.done():
            self.opened.set_exception(Refused(int(head.split(b" ", 2)[1])))
        self.abort()
        return b""

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == BINARY:
            self._receiver.binary(payload)
        elif opcode == TEXT:
            self._receiver.text(payload)
        elif opcode == PING and self._may_send:
            self._protocol.send_pong(payload)
            self._flush()
        elif opcode == CLOSE:
            code = _CODE.unpack_from(payload)[0] if len(payload) >= 2 else 1005
            self._end(code, payload[2:].decode(errors="replace"))

    def _end(self, code: int, reason: str) -> None:
        if self._ended:
            return
        self._ended = True
        if self._transport is not None:
            self._transport.close()
        self._receiver.closed(code, reason)

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            for data in self._protocol.data_to_send():
                if data:
                    self._transport.write(data)


async def open_socket(url: str, receiver: Receiver) -> Socket:
    """Connect and upgrade, at most BOT_CONNECT_S. Raises OSError, TimeoutError, Refused."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    secure = parts.scheme == "https"
    factory: Callable[[], Socket] = lambda: Socket(url, receiver)  # noqa: E731
    async with asyncio.timeout(BOT_CONNECT_S):
        port = parts.port or (443 if secure else 80)
        _transport, socket = await loop.create_connection(factory, parts.hostname or "", port, ssl=secure or None)
        try:
            await socket.opened
        except BaseException:
            socket.abort()
            raise
    return socket
