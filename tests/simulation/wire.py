"""A client's connection without a network: both ends, in order, delayed; it can be cut, or stall."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Protocol

from cluster.bots.wire import ABNORMAL
from gateway.client import Client as GatewayClient
from gateway.closing import Closing
from gateway.gateway import Gateway

IN_FLIGHT = 10_000  # messages one way: reaching it is a mistake
STALLED_WEIGHT = 64  # a byte that a stalled client does not take counts as so many: its kernel's buffers are small


class Receiver(Protocol):
    """The client's end: ``cluster.bots.client.Client``."""

    def text(self, payload: bytes) -> None: ...
    def binary(self, payload: bytes) -> None: ...
    def closed(self, code: int, reason: str) -> None: ...


def unframe(chunk: bytes) -> list[bytes]:
    """The payloads of whole unmasked binary WebSocket messages."""
    found, at = [], 0
    while at < len(chunk):
        assert chunk[at] == 0x82, "one whole binary message"
        length, at = chunk[at + 1], at + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(chunk[at : at + size], "big"), at + size
        found.append(chunk[at : at + length])
        at += length
    return found


class SimSocket:
    """Made by the client's side; the gateway's side is ``gateway.client.Socket``, the client's is what
    ``cluster.bots.wire.Socket`` offers."""

    def __init__(
        self,
        gateway: Gateway,
        receiver: Receiver,
        rng: random.Random,
        serial: int,
        delay_ms: float,
        there: Context | None = None,
        here: Context | None = None,
    ) -> None:
        """What reaches the gateway runs ``there``, what reaches the client ``here``; None: in the present context."""
        self.serial = serial
        self._there, self._here = there or copy_context(), here or copy_context()
        self.gateway = gateway
        self.received_bytes = 0
        self._receiver = receiver
        self._rng = rng
        self._delay_ms = delay_ms
        self._last_up_s = self._last_down_s = 0.0
        self._upward: deque[Callable[[], None]] = deque(maxlen=IN_FLIGHT)
        self._downward: deque[Callable[[], None]] = deque(maxlen=IN_FLIGHT)
        self._waiting_bytes = 0
        self._stalled_until_s = 0.0
        self._client_open = self._gateway_open = True
        self._client: GatewayClient = gateway.connect(self)

    # -- delays -----------------------------------------------------------------------------------------------------
    def _put(
        self, direction: deque[Callable[[], None]], after_s: float, act: Callable[[], None], context: Context
    ) -> float:
        """Done a little later, behind what was put there before; when, at the latest. (What is due at the same time
        is run in any order by the loop: so each turn takes the oldest.)"""
        loop = asyncio.get_running_loop()
        at_s = max(after_s, loop.time() + self._rng.uniform(0.1, self._delay_ms) / 1_000)
        assert len(direction) < IN_FLIGHT
        direction.append(act)
        loop.call_at(at_s, lambda: direction.popleft()(), context=context)
        return at_s

    def _up(self, act: Callable[[], None]) -> None:
        self._last_up_s = self._put(self._upward, self._last_up_s, act, self._there)

    def _down(self, act: Callable[[], None], size: int = 0) -> None:
        self._waiting_bytes += size

        def arrive() -> None:
            self._waiting_bytes -= size
            act()

        after_s = max(self._last_down_s, self._stalled_until_s)
        self._last_down_s = self._put(self._downward, after_s, arrive, self._here)

    def stall(self, seconds: float) -> None:
        """The client reads nothing for so long."""
        self._stalled_until_s = asyncio.get_running_loop().time() + seconds

    # -- gateway.client.Socket ----------------------------------------------------------------------------------------
    def say(self, text: bytes) -> None:
        if self._gateway_open:
            self._down(lambda: self._text(text), len(text))

    def _text(self, text: bytes) -> None:
        if self._client_open:
            self._receiver.text(text)

    def write(self, chunk: bytes) -> None:
        if self._gateway_open:
            self._down(lambda: self._binary(chunk), len(chunk))

    def _binary(self, chunk: bytes) -> None:
        self.received_bytes += len(chunk)
        for payload in unframe(chunk):
            if self._client_open:
                self._receiver.binary(payload)

    def buffered(self) -> int:
        stalled = asyncio.get_running_loop().time() < self._stalled_until_s
        return self._waiting_bytes * STALLED_WEIGHT if stalled else 0

    def close(self, reason: Closing) -> None:
        if self._gateway_open:
            self._gateway_open = False
            self._down(lambda: self._client_closed(reason.code, reason.name))
            self._client.gone()

    # -- cluster.bots.wire.Socket -------------------------------------------------------------------------------------
    def send_text(self, payload: bytes) -> None:
        self._send(lambda: self._client.text(payload))

    def send_binary(self, payload: bytes) -> None:
        self._send(lambda: self._client.binary(payload))

    def _send(self, act: Callable[[], None]) -> None:
        def arrive() -> None:
            if self._gateway_open and self._client.heard():
                act()

        if self._client_open:
            self._up(arrive)

    def abort(self) -> None:
        """The client's side is cut; the gateway learns of it as late as everything else."""
        self._client_closed(ABNORMAL, "")
        self._up(self._gateway_gone)

    def crash(self) -> None:
        """The gateway's process is gone: it hears nothing any more, the client is told by its kernel."""
        self._gateway_open = False
        self._down(lambda: self._client_closed(ABNORMAL, "reset"))

    def _gateway_gone(self) -> None:
        if self._gateway_open:
            self._gateway_open = False
            self._client.gone()

    def _client_closed(self, code: int, reason: str) -> None:
        if self._client_open:
            self._client_open = False
            self._receiver.closed(code, reason)
