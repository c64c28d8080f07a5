"""Game servers that do not answer, though nobody has declared them dead: perhaps because nobody is left to do so."""

from runtime.mesh.api import Book
from world.clock import Clock
from world.ids import NodeId
from world.limits import OWNER_SILENT_MS


class SilentServers:
    """Who has been suspected for OWNER_SILENT_MS without a break; named once for each silence."""

    def __init__(self, book: Book, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._since_ms: dict[NodeId, float] = {}  # of the game servers suspected now
        self._named: set[NodeId] = set()

    def found(self, servers: dict[NodeId, int]) -> list[tuple[NodeId, int]]:
        """Of these (server: generation) those whose silence has just lasted too long."""
        now = self._clock.monotonic_ms()
        suspected = {node for node in servers if self._book.suspected(node)}
        self._since_ms = {node: self._since_ms.get(node, now) for node in suspected}
        long = {node for node, since in self._since_ms.items() if now - since >= OWNER_SILENT_MS}
        news, self._named = long - self._named, long
        return [(node, servers[node]) for node in sorted(news)]
