"""The real clock of a service: its event loop's time, and world time on top of it.

World time = the loop's time + an offset. The mesh measures peers' offsets and hands the median to ``aim``; the
difference is slewed in at CLOCK_SLEW_MS_PER_S, so that world time never jumps and never runs backward once
the service runs. Under a virtual-time loop both times are virtual: nothing here reads the wall clock.
"""

import asyncio

from world.limits import CLOCK_SLEW_MS_PER_S

_SLEW_PER_MS = CLOCK_SLEW_MS_PER_S / 1_000


class LoopClock:
    """``world.clock.Clock`` over a loop: the running one, taken at the first reading, or the one handed in."""

    def __init__(self, offset_ms: float = 0.0, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._offset_ms = offset_ms  # in force at _at_ms
        self._aim_ms = offset_ms  # where it is slewed to
        self._at_ms: float | None = None  # monotonic time at which _offset_ms was last brought forward

    def monotonic_ms(self) -> float:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time() * 1_000.0

    def offset_ms(self) -> float:
        """World time - this process's monotonic time, now; moved toward the aim by the time that passed."""
        now = self.monotonic_ms()
        if self._at_ms is not None and self._offset_ms != self._aim_ms:
            reach = (now - self._at_ms) * _SLEW_PER_MS
            gap = self._aim_ms - self._offset_ms
            self._offset_ms = self._aim_ms if abs(gap) <= reach else self._offset_ms + (reach if gap > 0 else -reach)
        self._at_ms = now
        return self._offset_ms

    def world_ms(self) -> int:
        return int(self.monotonic_ms() + self.offset_ms())

    def aim(self, offset_ms: float) -> None:
        """Slew the offset toward this value from now on."""
        self.offset_ms()
        self._aim_ms = offset_ms

    def step(self, offset_ms: float) -> None:
        """Set the offset at once. Only while joining, before the service publishes or validates any motion."""
        self._offset_ms = self._aim_ms = offset_ms
        self._at_ms = self.monotonic_ms()
