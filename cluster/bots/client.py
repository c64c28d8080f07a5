"""A client of the game protocol in Python: bots and tests speak to a cluster through it, and through nothing else.

Guest login by HTTP, then one WebSocket session: hello, identify or resume, ready, attached; moves as binary rows,
commands with numbered results, numbered events. State frames go undecoded to ``on_binary``.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from cluster.bots.wire import ABNORMAL, Socket, open_socket
from world.frames import client_moves
from world.limits import BOT_COMMAND_S, BOT_CONNECT_S, BOT_EVENTS, BOT_HTTP_S, BOT_PINGS_UNANSWERED, PROTOCOL_MAX

Json = dict[str, Any]

RECONNECT_CODES = frozenset({1006, 1012, 4003, 4004, 4005, 4008, 4009, 4010})  # docs/protocol: close codes
IDENTIFY_ANEW = frozenset({4001, 4008})
ELSEWHERE_CODES = frozenset({1006, 1012})  # this gateway is gone, or soon will be: the next one is tried first


class ClientError(Exception):
    """Something an orderly client should not meet; ``kind`` is counted in reports."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Outcome:
    """A command's result. ``code`` is "" when ok."""

    number: int
    ok: bool
    code: str
    detail: str
    value: Json


class Client:
    """One player. All coroutines may raise ClientError."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        gateways: Sequence[str],
        *,
        on_binary: Callable[[bytes], None] = lambda payload: None,
        on_event: Callable[[Json], None] = lambda event: None,
        on_message: Callable[[Json], None] = lambda message: None,
        rng: random.Random | None = None,
    ) -> None:
        """``gateways``: base URLs; the first is tried first, the others after a failure. ``on_message`` is told of
        every text message as it came, before the client acts on it."""
        self._http = http
        self.gateways = list(gateways)
        self._on_binary = on_binary
        self._on_event = on_event
        self._on_message = on_message
        self._rng = rng or random.Random()
        self._socket: Socket | None = None
        self._results: dict[int, asyncio.Future[Outcome]] = {}
        self._unanswered: dict[int, bytes] = {}  # commands, kept until their result, sent again after a resume
        self._seen_numbers: set[int] = set()  # results above the floor
        self._attached: asyncio.Future[None] | None = None
        self._heartbeat_s = 0.0
        self._ping_timer: asyncio.TimerHandle | None = None
        self._unanswered_pings = 0
        self._offset_ms = 0.0  # world time - this loop's time
        self._asked_to_leave = False
        self._in_session = False  # from "ready" on: before it a gateway takes neither moves nor commands
        # identity
        self.access_token = ""
        self.refresh_token = ""
        self.avatar = 0
        self.name = ""
        # session
        self.session = 0
        self.resume_token = ""
        self.connection = 0
        self.stream = 0
        self.event = 0
        self.input = 0
        self.number = 0  # of the last command
        self.floor = 0  # all results <= it were received
        # what the client knows
        self.server = ""
        self.epoch = 0
        self.x = 0.0
        self.y = 0.0
        self.inventory: dict[str, int] = {}
        self.events: deque[Json] = deque(maxlen=BOT_EVENTS)  # oldest forgotten; for looking back in tests
        self.attaches = 0
        self.resyncs = 0
        self.latency_ms = 0.0
        self.close_code = 0
        self.close_reason = ""
        self.lost = asyncio.Event()  # set while there is no connection
        self.lost.set()

    # -- HTTP -----------------------------------------------------------
    async def guest(self) -> None:
        """Become a new guest."""
        self._granted(await self._post("/v1/auth/guest", {}))

    async def refresh(self) -> None:
        """A new access token for the same avatar; the refresh token rotates."""
        self._granted(await self._post("/v1/auth/refresh", {"refresh_token": self.refresh_token}))

    async def _post(self, path: str, body: Json) -> Json:
        try:
            response = await self._http.post(self.gateways[0] + path, json=body, timeout=BOT_HTTP_S)
        except httpx.HTTPError as error:
            raise ClientError("http", f"{path}: {error!r}") from error
        if response.status_code >= 400:
            raise ClientError(f"http_{response.status_code}", f"{path}: {response.text[:200]}")
        answer: Json = response.json()
        return answer

    def _granted(self, granted: Json) -> None:
        self.access_token = granted["access_token"]
        self.refresh_token = granted["refresh_token"]
        self.avatar = granted["avatar"]
        self.name = granted["name"]

    # -- the session -----------------------------------------------------------
    async def connect(self, *, resume: bool | None = None) -> None:
        """Open a socket and be attached. ``resume``: None = if there is a session to resume. On failure the next
        gateway is first in line."""
        if resume is None:
            resume = bool(self.resume_token) and self.close_code not in IDENTIFY_ANEW
        self._asked_to_leave = False
        self._attached = asyncio.get_running_loop().create_future()
        if not resume:
            self._forget_session()
        self._socket = None
        self.connection += 1
        self.lost.clear()
        self.close_code, self._in_session = 0, False
        try:
            async with asyncio.timeout(BOT_CONNECT_S):
                await self._open(self.gateways[0])
                await self._attached
        except TimeoutError as error:
            self._give_up()
            raise ClientError("connect_timeout", self.gateways[0]) from error
        except ClientError:
            self._give_up()
            raise
        except Exception as error:
            self._give_up()
            raise ClientError("connect", f"{self.gateways[0]}: {error!r}") from error
        for _number, message in sorted(self._unanswered.items()):
            self.raw_text(message)

    async def _open(self, url: str) -> None:
        """A socket to this gateway; ``opening`` is told of it. Tests put another network under the client here."""
        await open_socket(url, self)

    def _forget_session(self) -> None:
        """A new session never sends old commands again: their outcome stays unknown."""
        for future in self._results.values():
            if not future.done():
                future.set_exception(ClientError("unknown_outcome"))
                future.exception()  # nobody need wait for it
        self._results.clear()
        self._unanswered.clear()
        self._seen_numbers.clear()
        self.resume_token = ""
        self.session = self.connection = self.stream = self.event = self.number = self.floor = 0

    def _give_up(self) -> None:
        self.gateways.append(self.gateways.pop(0))
        if self._socket is not None:
            self._socket.abort()
        self.close_code = self.close_code or ABNORMAL  # a refused connection never closed
        self._in_session = False
        self.lost.set()

    async def close(self) -> None:
        """Say bye and close."""
        if self._socket is not None and not self.lost.is_set():
            self._asked_to_leave = True
            self._send({"t": "bye"})
            self._socket.close()
            try:
                async with asyncio.timeout(BOT_CONNECT_S):
                    await self.lost.wait()
            except TimeoutError:
                self._socket.abort()
        self._stop_ping()

    def drop(self) -> None:
        """Lose the connection, as a phone in a tunnel does."""
        if self._socket is not None:
            self._socket.abort()

    # -- acting -----------------------------------------------------------
    def world_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1_000 + self._offset_ms)

    def move(self, x: float, y: float, vx: float, vy: float) -> int:
        """I stand at (x, y) m now and walk with (vx, vy) m/s; the input's number."""
        self.input += 1
        self.x, self.y = x, y
        if self._socket is not None and self._in_session:
            self._socket.send_binary(client_moves([(self.input, self.world_ms(), x, y, vx, vy)]))
        return self.input

    async def command(self, op: str, **args: Any) -> Outcome:
        """Send and wait for the result, over lost connections too if somebody reconnects meanwhile."""
        result = self.begin(op, **args)
        try:
            async with asyncio.timeout(BOT_COMMAND_S):
                return await result
        except TimeoutError as error:
            raise ClientError("command_timeout", op) from error

    def begin(self, op: str, **args: Any) -> "asyncio.Future[Outcome]":
        """Send a command; its result to come."""
        self.number += 1
        message = orjson.dumps({"t": "command", "n": self.number, "floor": self.floor, "op": op, "args": args})
        result = self._results[self.number] = asyncio.get_running_loop().create_future()
        self._unanswered[self.number] = message
        if self._socket is not None and self._in_session:  # else connect() sends it, once there is a session again
            self._socket.send_text(message)
        return result

    def raw_text(self, payload: bytes) -> None:
        """Send bytes as a text message as they are: tests of bad input."""
        if self._socket is not None:
            self._socket.send_text(payload)

    def raw_binary(self, payload: bytes) -> None:
        if self._socket is not None:
            self._socket.send_binary(payload)

    @property
    def received_bytes(self) -> int:
        return self._socket.received_bytes if self._socket is not None else 0

    def _send(self, message: Json) -> None:
        if self._socket is not None:
            self._socket.send_text(orjson.dumps(message))

    # -- what arrives (wire.Receiver)
    def opening(self, socket: Socket) -> None:
        self._socket = socket

    def binary(self, payload: bytes) -> None:
        self._on_binary(payload)

    def text(self, payload: bytes) -> None:
        message = orjson.loads(payload)
        self._on_message(message)
        handler = self._HANDLERS.get(message.get("t"))
        if handler is not None:  # unknown kinds are newer than this client
            handler(self, message)

    def closed(self, code: int, reason: str) -> None:
        self.close_code, self.close_reason = code, reason
        self._in_session = False
        self._stop_ping()
        self.lost.set()
        if self._attached is not None and not self._attached.done():
            self._attached.set_exception(ClientError(f"closed_{code}", reason))
            self._attached.exception()  # whoever awaits it still gets it; nobody need
        elif code in ELSEWHERE_CODES:  # a failing connect() turns to the next by itself
            self.gateways.append(self.gateways.pop(0))
        if code == 4001:
            self.access_token = ""

    @property
    def may_reconnect(self) -> bool:
        return not self._asked_to_leave and (self.close_code in RECONNECT_CODES or self.close_code in IDENTIFY_ANEW)

    def _hello(self, message: Json) -> None:
        self._heartbeat_s = message["heartbeat_ms"] / 1_000
        self._clock(message)
        if self.resume_token:
            self._send(
                {
                    "t": "resume",
                    "protocol": PROTOCOL_MAX,
                    "resume_token": self.resume_token,
                    "connection": self.connection,
                    "stream": self.stream,
                    "event": self.event,
                    "input": self.input,
                    "floor": self.floor,
                    "client": "bots/0.1",
                }
            )
        else:
            self._send({"t": "identify", "protocol": PROTOCOL_MAX, "token": self.access_token, "client": "bots/0.1"})

    def _ready(self, message: Json) -> None:
        self._in_session = True
        self.session = message["session"]
        self.connection = message["connection"]
        self.resume_token = message["resume_token"]
        self.avatar = message["avatar"]
        self.name = message["name"]
        self._clock(message)
        self._unanswered_pings = 0
        self._ping()

    def _on_attached(self, message: Json) -> None:
        self.server, self.epoch = message["server"], message["epoch"]
        if message["stream"] != self.stream:
            self.stream, self.event = message["stream"], message["event"]
        self.input = max(self.input, message["last_input"])
        self._clock(message)
        resync = message.get("resync")
        if resync is not None or self.attaches == 0:
            self.x, self.y = message["x"], message["y"]
        if resync is not None:
            self.resyncs += 1
            self.event = message["event"]
            self.inventory = dict(resync.get("inventory", {}))
        self.attaches += 1
        if self._attached is not None and not self._attached.done():
            self._attached.set_result(None)

    def _on_numbered(self, message: Json) -> None:
        if message["s"] != self.stream or message["n"] <= self.event:
            return
        self.event = message["n"]
        event = message["e"]
        if event.get("kind") == "inventory":
            self.inventory = dict(event["items"])
        self.events.append(event)
        self._on_event(event)

    def _on_result(self, message: Json) -> None:
        number = message["n"]
        self._unanswered.pop(number, None)
        self._seen_numbers.add(number)
        while self.floor + 1 in self._seen_numbers:
            self.floor += 1
            self._seen_numbers.discard(self.floor)
        future = self._results.pop(number, None)
        if future is not None and not future.done():
            future.set_result(
                Outcome(
                    number,
                    bool(message["ok"]),
                    message.get("code", ""),
                    message.get("detail", ""),
                    message.get("value", {}),
                )
            )

    def _on_pong(self, message: Json) -> None:
        self._unanswered_pings = 0
        self.latency_ms = asyncio.get_running_loop().time() * 1_000 - message["c"]
        self._clock(message, self.latency_ms / 2)

    def _clock(self, message: Json, since_ms: float = 0.0) -> None:
        if "world_ms" in message:
            self._offset_ms = message["world_ms"] + since_ms - asyncio.get_running_loop().time() * 1_000

    def _ping(self) -> None:
        """Every heartbeat, with what was seen of the events; the first at once, for the clock. A gateway that answers
        nothing any more hangs: another will do."""
        self._stop_ping()
        if self.lost.is_set():
            return
        if self._unanswered_pings >= BOT_PINGS_UNANSWERED:
            self.drop()
            return
        self._unanswered_pings += 1
        self._send({"t": "ping", "c": int(asyncio.get_running_loop().time() * 1_000)})
        if self.event:
            self._send({"t": "seen", "s": self.stream, "n": self.event})
        delay_s = self._heartbeat_s * self._rng.uniform(0.6, 0.9)
        self._ping_timer = asyncio.get_running_loop().call_later(delay_s, self._ping)

    def _stop_ping(self) -> None:
        if self._ping_timer is not None:
            self._ping_timer.cancel()
            self._ping_timer = None

    _HANDLERS: dict[str, Callable[["Client", Json], None]] = {  # noqa: RUF012 - never changed
        "hello": _hello,
        "ready": _ready,
        "attached": _on_attached,
        "event": _on_numbered,
        "result": _on_result,
        "pong": _on_pong,
    }


async def gateways_of(http: httpx.AsyncClient, url: str) -> list[str]:
    """All gateways' base URLs, the one asked first. Raises ClientError."""
    url = url.rstrip("/")
    try:
        response = await http.get(f"{url}/v1/gateways", timeout=BOT_HTTP_S)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise ClientError("http", f"{url}/v1/gateways: {error!r}") from error
    others = [gateway["url"].rstrip("/") for gateway in response.json()["gateways"]]
    return [url, *(other for other in others if other != url)]
