"""Moves of all clients on their way out: one message per game server and flush."""

from collections.abc import Callable

from world.frames import MOVE_ROW
from world.limits import MOVE_BATCH_BYTES
from world.messages import MoveBatch


class MoveOutbox:
    """Rows (MOVE_ROW as bytes) per game server; a batch that reaches MOVE_BATCH_BYTES leaves at once."""

    def __init__(self, send: Callable[[str, MoveBatch], bool]) -> None:
        self.rows = self.batches = self.dropped_rows = 0  # counted, for the metrics
        self._send = send
        self._waiting: dict[str, list[bytes]] = {}
        self._waiting_bytes: dict[str, int] = {}

    def add(self, server: str, rows: bytes) -> None:
        self._waiting.setdefault(server, []).append(rows)
        size = self._waiting_bytes.get(server, 0) + len(rows)
        self._waiting_bytes[server] = size
        self.rows += len(rows) // MOVE_ROW.itemsize
        if size >= MOVE_BATCH_BYTES:
            self._leave(server)

    def flush(self) -> None:
        for server in list(self._waiting):
            self._leave(server)

    def _leave(self, server: str) -> None:
        rows = b"".join(self._waiting.pop(server))
        del self._waiting_bytes[server]
        self.batches += 1
        if not self._send(server, MoveBatch(rows)):
            self.dropped_rows += len(rows) // MOVE_ROW.itemsize  # the sessions keep them, for the next owner
