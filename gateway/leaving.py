"""One write for all that a socket has to say: each is a system call here, and wakes the reader at the other end."""

import asyncio
from collections.abc import Callable


class Leaving:
    """Sockets that have something to write. They do so at the end of the next turn of the loop, not of this one: what
    one message of the mesh brings for a client, its events and the result of its command, is said in two turns."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []  # bounded: emptied every second turn

    def add(self, leave: Callable[[], None]) -> None:
        """Call ``leave`` then."""
        if not self._waiting:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._leave)
        self._waiting.append(leave)

    def _leave(self) -> None:
        waiting, self._waiting = self._waiting, []
        for leave in waiting:
            leave()
