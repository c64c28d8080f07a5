"""One peer's link and its bounded outbox: what the transport did not take waits here, in order."""

from collections import deque
from collections.abc import Callable

from runtime.mesh.statistics import MeshStatistics
from runtime.mesh.transport import Link, Transport
from world.limits import OUTBOX_EXPIRE_MS, PEER_OUTBOX_BYTES, PEER_OUTBOX_MESSAGES


class Peer:
    """A link to one (node, generation, endpoint). Bounded by PEER_OUTBOX_MESSAGES and PEER_OUTBOX_BYTES; when full,
    the newest is refused; what waited OUTBOX_EXPIRE_MS is dropped unsent, and so is a call that nobody waits for any
    more: its caller was told that it certainly was not sent."""

    def __init__(
        self,
        transport: Transport,
        endpoint: str,
        name: str,
        node: str,
        generation: int,
        role: str,
        now_ms: Callable[[], float],
        statistics: MeshStatistics,
        on_taken: Callable[[int], None],
        is_awaited: Callable[[int], bool],
    ) -> None:
        """``on_taken(call number)``: a call that had waited in the outbox was taken by the transport.
        ``is_awaited(call number)``: its caller still waits for an answer."""
        self.endpoint, self.node, self.generation, self.role = endpoint, node, generation, role
        self._now_ms, self._statistics, self._on_taken = now_ms, statistics, on_taken
        self._is_awaited = is_awaited
        self._outbox: deque[tuple[bytes, int, float]] = deque(maxlen=PEER_OUTBOX_MESSAGES + 1)  # data, call, at ms
        self._bytes = 0
        self._waiting: set[int] = set()  # call numbers with an attempt in the outbox
        self.opened_ms = now_ms()
        self.closed = False
        self._link: Link = transport.link(endpoint, name, self.flush)

    @property
    def depth(self) -> int:
        return len(self._outbox)

    def send(self, data: bytes, *, call: int = 0, queue: bool = True) -> bool | None:
        """True: the transport took it. None: it waits in the outbox. False: refused (full, or ``queue`` is off).
        A call (its number) of which an attempt still waits is not queued twice."""
        if self._outbox:
            self.flush()
        if not self._outbox and self._take(data):
            return True
        if not queue:
            return False
        if call and call in self._waiting:
            return None
        if len(self._outbox) >= PEER_OUTBOX_MESSAGES or self._bytes + len(data) > PEER_OUTBOX_BYTES:
            self._statistics.outbox_refused += 1
            return False
        self._outbox.append((data, call, self._now_ms()))
        self._bytes += len(data)
        if call:
            self._waiting.add(call)
        return None

    def flush(self) -> None:
        """The link may take more now."""
        oldest_ms = self._now_ms() - OUTBOX_EXPIRE_MS
        while self._outbox and not self.closed:
            data, call, at_ms = self._outbox[0]
            if at_ms < oldest_ms:
                self._statistics.outbox_expired += 1
            elif call and not self._is_awaited(call):
                self._statistics.outbox_settled += 1
            elif self._take(data):
                if call:
                    self._on_taken(call)
            else:
                return
            self._outbox.popleft()
            self._bytes -= len(data)
            self._waiting.discard(call)

    def _take(self, data: bytes) -> bool:
        if not self._link.send(data):
            return False
        self._statistics.messages_out += 1
        self._statistics.bytes_out += len(data)
        return True

    def close(self, linger_ms: int = 0) -> None:
        self.closed = True
        self._statistics.outbox_dropped += len(self._outbox)
        self._outbox.clear()
        self._waiting.clear()
        self._bytes = 0
        self._link.close(linger_ms)
