"""Time as services see it: handed in, never read. ``runtime.clock`` has the real one, tests a manual one."""

from typing import Protocol


class Clock(Protocol):
    def monotonic_ms(self) -> float:
        """This process's own time: for timeouts, deadlines, staleness. Never compared between processes."""
        ...

    def world_ms(self) -> int:
        """World time in ms, agreed between servers within a few ms and slewed, never stepped: for motion only."""
        ...
