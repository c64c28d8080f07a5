"""One timer for many waits: what each of them would cost as a timer of its own is more than what it waits for."""

import asyncio
from collections.abc import Callable

from world.limits import OVERDUE_LOOK_MS


class Overdue:
    """``look()`` ends what is overdue, and says whether anybody still waits: then it is called again, every
    OVERDUE_LOOK_MS."""

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Somebody waits."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(OVERDUE_LOOK_MS / 1_000, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._look():
            self.begin()
