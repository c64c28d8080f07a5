"""ZeroMQ sockets on an asyncio loop: a ROUTER that only receives, a DEALER per peer that only sends, an XPUB, and a
SUB per publisher.

A socket's FD is edge-triggered: it becomes readable when its mailbox gets a command, and any call on the socket may
take that edge away. So after every call that is not a drain, a drain is scheduled, which asks EVENTS afresh.
"""

import asyncio
import threading
from collections.abc import Callable

import zmq

from runtime.mesh.transport import Inlets
from world.limits import (
    COMMAND_MESSAGE_BYTES,
    COMMAND_SEND_HWM_MESSAGES,
    CONNECT_TIMEOUT_MS,
    CONTEXT_END_MS,
    DRAIN_MESSAGES,
    LINK_BATCH_BYTES,
    LINK_BATCH_MESSAGES,
    RECONNECT_CAP_MS,
    RECONNECT_MS,
    STATE_FRAME_BYTES,
    STATE_RECEIVE_HWM_FRAMES,
    STATE_SEND_HWM_FRAMES,
    TOPIC_BYTES,
    ZMTP_HEARTBEAT_MS,
    ZMTP_TIMEOUT_MS,
)

Context = zmq.Context[zmq.Socket[bytes]]

# Plain numbers: pyzmq's are enum.IntFlag, and each operation on one costs as much as a message.
_NOW, _MORE = int(zmq.DONTWAIT), int(zmq.DONTWAIT | zmq.SNDMORE)
_READABLE, _WRITABLE = int(zmq.POLLIN), int(zmq.POLLOUT)
_EITHER = _READABLE | _WRITABLE


class Watched:
    """One socket in the loop. ``drain`` handles up to DRAIN_MESSAGES and says whether more may be waiting."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: zmq.Socket[bytes], drain: Callable[[], bool]) -> None:
        self.socket = socket
        self._loop, self._drain = loop, drain
        self._scheduled = False
        self._fd = int(socket.get(zmq.FD))
        self._closed = False
        loop.add_reader(self._fd, self._ready)
        self.check()

    def check(self) -> None:
        """After any other call on the socket: its edge may be spent, look once more."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._later)

    def _later(self) -> None:
        self._scheduled = False
        self._ready()

    def _ready(self) -> None:
        if self._closed:
            return
        try:
            more = self._drain()
        except Exception:
            self.check()  # a callback's failure is the loop's to report; what still waits must not be stranded
            raise
        if more:
            self.check()

    def close(self, linger_ms: int = 0) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            self.socket.close(linger_ms)


def _events(socket: zmq.Socket[bytes]) -> int:
    """Asks EVENTS. Through a poll, which takes half as long as the option's own getter with its look-up of enums."""
    ready = zmq.zmq_poll([(socket, _EITHER)], 0)
    return ready[0][1] if ready else 0


def _receive(socket: zmq.Socket[bytes]) -> list[bytes]:
    """One message's parts, as frames: asking the socket whether more follow costs more than receiving. Raises Again."""
    frame = socket.recv(_NOW, False)
    parts = [frame.bytes]
    while frame.more:
        frame = socket.recv(_NOW, False)
        parts.append(frame.bytes)
    return parts


def _waiting(socket: zmq.Socket[bytes]) -> bool:
    return bool(_events(socket) & _READABLE)


def _drain(socket: zmq.Socket[bytes], take: Callable[[list[bytes]], bool]) -> bool:
    """Up to DRAIN_MESSAGES; True: more may be waiting. ``take`` False: the socket was closed by what it delivered.

    A message mostly comes alone. So EVENTS is asked after the first, which costs a third of the exception that ends a
    series."""
    for number in range(DRAIN_MESSAGES):
        try:
            parts = _receive(socket)
        except zmq.Again:
            return _waiting(socket)
        if not take(parts) or (number == 0 and not _waiting(socket)):
            return False
    return True


def _heartbeats(socket: zmq.Socket[bytes]) -> None:
    """Finds connections whose other end is gone without a word, and reconnects with backoff. An attempt that nobody
    answers is made anew: the kernel alone would repeat it ever more rarely, and a link that was cut for half a minute
    would stay away as long again once the network is whole."""
    socket.set(zmq.HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, ZMTP_TIMEOUT_MS)
    socket.set(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS)
    socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_CAP_MS)


def _connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Raises ValueError, with the socket closed."""
    try:
        if not endpoint.startswith("tcp://"):
            raise ValueError(f"{endpoint!r} is no tcp endpoint")
        socket.connect(endpoint)
    except (zmq.ZMQError, ValueError) as error:
        socket.close(0)
        raise ValueError(f"cannot connect to {endpoint!r}: {error}") from error


class DealerLink:
    """IMMEDIATE: nothing is queued for a peer that is not connected; what is not taken waits in the peer's outbox.

    What is sent in one turn of the loop leaves as the parts of one ZeroMQ message: handing a message to ZeroMQ's thread
    costs more than all the rest of a call.
    """

    def __init__(self, transport: "ZmqTransport", endpoint: str, name: bytes, on_writable: Callable[[], None]) -> None:
        socket = transport.context.socket(zmq.DEALER)
        socket.set(zmq.IDENTITY, name)
        socket.set(zmq.IMMEDIATE, 1)
        socket.set(zmq.SNDHWM, COMMAND_SEND_HWM_MESSAGES)
        _heartbeats(socket)
        _connect(socket, endpoint)
        self._transport, self._socket, self._on_writable = transport, socket, on_writable
        self._blocked = False
        self._closed = False
        self._batch: list[bytes] = []  # of this turn: at most LINK_BATCH_MESSAGES, about LINK_BATCH_BYTES
        self._batch_bytes = 0
        self._watched = Watched(transport.loop, socket, self._drain)

    def send(self, data: bytes) -> bool:
        if self._blocked or not (self._batch or _events(self._socket) & _WRITABLE):
            self._blocked = True
            self._watched.check()
            return False
        if not self._batch:
            self._transport.loop.call_soon(self._leave)
        self._batch.append(data)
        self._batch_bytes += len(data)
        if len(self._batch) >= LINK_BATCH_MESSAGES or self._batch_bytes >= LINK_BATCH_BYTES:
            self._leave()
        return True

    def _leave(self) -> None:
        """Hand the batch over. What is refused after all (the connection has just ended) waits for the next."""
        if not self._batch or self._closed:
            return
        try:
            for data in self._batch[:-1]:
                self._socket.send(data, _MORE)
            self._socket.send(self._batch[-1], _NOW)
        except zmq.Again:
            self._blocked = True
            self._watched.check()
        else:
            self._batch, self._batch_bytes = [], 0

    def _drain(self) -> bool:
        # EVENTS is read whether or not anything waits: until it is, the FD stays readable and the loop spins.
        if _events(self._socket) & _WRITABLE and self._blocked:
            self._blocked = False
            self._leave()
            if not self._blocked:
                self._on_writable()
        return False

    def close(self, linger_ms: int = 0) -> None:
        self._leave()
        self._closed = True
        self._watched.close(linger_ms)


class SubListening:
    """One publisher's channels. SNDHWM 0 before connect, or the socket drops its own subscriptions beyond 1,000."""

    def __init__(self, transport: "ZmqTransport", endpoint: str, publisher: str) -> None:
        socket = transport.context.socket(zmq.SUB)
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, STATE_RECEIVE_HWM_FRAMES)
        socket.set(zmq.MAXMSGSIZE, STATE_FRAME_BYTES)
        socket.set(zmq.LINGER, 0)
        _heartbeats(socket)
        _connect(socket, endpoint)
        self._transport, self._socket, self._publisher = transport, socket, publisher
        self._open = True
        self._watched = Watched(transport.loop, socket, lambda: _drain(socket, self._take))

    def subscribe(self, topic: bytes) -> None:
        self._socket.set(zmq.SUBSCRIBE, topic)
        self._watched.check()

    def unsubscribe(self, topic: bytes) -> None:
        self._socket.set(zmq.UNSUBSCRIBE, topic)
        self._watched.check()

    def _take(self, parts: list[bytes]) -> bool:
        if len(parts) == 2:
            self._transport.inlets.frame(self._publisher, parts[0], parts[1])
        return self._open

    def close(self) -> None:
        self._open = False
        self._watched.close(0)


class ZmqTransport:
    """Implements ``runtime.mesh.transport.Transport``."""

    def __init__(
        self,
        *,
        bind_host: str,
        command_port: int = 0,
        state_port: int = 0,
        publishes_state: bool = False,
        advertise_command: str = "",
        advertise_state: str = "",
    ) -> None:
        """Binds at once; port 0 is a free one. Raises OSError where an address is taken or not ours."""
        self.inlets = Inlets()
        self.loop = asyncio.get_running_loop()
        self.context: Context = zmq.Context()
        self._closed = False
        self._links = 0
        self._router: Watched | None = None
        self._xpub: Watched | None = None
        try:
            command = self._open_router(bind_host, command_port)
            state = self._open_xpub(bind_host, state_port) if publishes_state else ""
        except zmq.ZMQError as error:
            self.context.destroy(linger=0)
            raise OSError(error.errno, f"cannot listen on {bind_host}: {error}") from error
        self.command = advertise_command or command
        self.state = (advertise_state or state) if publishes_state else ""

    def _open_router(self, host: str, port: int) -> str:
        socket = self.context.socket(zmq.ROUTER)
        socket.set(zmq.ROUTER_HANDOVER, 1)  # a peer that reconnects before its old connection is noticed lost
        socket.set(zmq.RCVHWM, COMMAND_SEND_HWM_MESSAGES)
        socket.set(zmq.MAXMSGSIZE, COMMAND_MESSAGE_BYTES + 4_096)
        endpoint = _bind(socket, host, port)
        self._router = Watched(self.loop, socket, lambda: _drain(socket, self._take_commands))
        return endpoint

    def _open_xpub(self, host: str, port: int) -> str:
        socket = self.context.socket(zmq.XPUB)
        socket.set(zmq.XPUB_VERBOSER, 1)  # every subscribe and unsubscribe of everyone, disconnects included
        socket.set(zmq.SNDHWM, STATE_SEND_HWM_FRAMES)  # never XPUB_NODROP: one stuck subscriber would stall all
        socket.set(zmq.MAXMSGSIZE, 64 * TOPIC_BYTES)
        endpoint = _bind(socket, host, port)
        # Looked at after every frame, while subscriptions are rare: asking first saves the exception.
        self._xpub = Watched(self.loop, socket, lambda: _waiting(socket) and _drain(socket, self._take_subscription))
        return endpoint

    def _take_commands(self, parts: list[bytes]) -> bool:
        for data in parts[1:]:  # behind the sender's identity
            self.inlets.message(data)
            if self._closed:
                return False
        return True

    def _take_subscription(self, parts: list[bytes]) -> bool:
        said = parts[0]
        if said[:1] in (b"\x00", b"\x01"):
            self.inlets.subscription(said[1:], said[0] == 1)
        return not self._closed

    def link(self, endpoint: str, name: str, on_writable: Callable[[], None]) -> DealerLink:
        self._links += 1
        return DealerLink(self, endpoint, f"{name}:{self._links}".encode(), on_writable)

    def listen(self, endpoint: str, publisher: str) -> SubListening:
        return SubListening(self, endpoint, publisher)

    def publish(self, topic: bytes, body: bytes) -> None:
        assert self._xpub is not None, "this member publishes no state"
        self._xpub.socket.send_multipart((topic, body), _NOW)
        self._xpub.check()

    async def close(self, linger_ms: int = 0) -> None:
        """The links' linger goes on for up to ``linger_ms``, in ZeroMQ's own thread."""
        if self._closed:
            return
        self._closed = True
        for watched in (self._router, self._xpub):
            if watched is not None:
                watched.close(0)
        await asyncio.to_thread(end_context, self.context, linger_ms + CONTEXT_END_MS)


def end_context(context: Context, within_ms: float) -> bool:
    """Close what is open of it, then it; True: it has ended. Very rarely libzmq never ends one, though nothing lingers
    (zeromq/libzmq#2586, seen once in a test of a full XPUB): then a daemon thread is left behind with it, and a
    process can end all the same."""
    thread = threading.Thread(target=context.destroy, kwargs={"linger": 0}, name="zmq-term", daemon=True)
    thread.start()
    thread.join(within_ms / 1_000)
    return not thread.is_alive()


def _bind(socket: zmq.Socket[bytes], host: str, port: int) -> str:
    """The endpoint bound. Raises ZMQError, with the socket closed."""
    try:
        socket.bind(f"tcp://{host}:{port or '*'}")
    except zmq.ZMQError:
        socket.close(0)
        raise
    return socket.get(zmq.LAST_ENDPOINT).decode()  # type: ignore[union-attr]
