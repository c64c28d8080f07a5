"""How long ticks take, and which part of a tick took the time.

Measured with the processor's counter: a loop's own time may stand still while one callback runs (uvloop's does). The
figures are for people and metrics; nothing decides by them.
"""

import time
from collections.abc import Callable

from prometheus_client import Counter, Histogram

from runtime.service import Service
from world.limits import TICK_MS

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.5)
_SMOOTH = 0.2  # weight of the newest tick in the moving average


class TickMeter:
    """``start``, a ``lap`` after each part, ``stop``. A tick over TICK_MS is logged with its laps."""

    def __init__(self, service: Service, timer_s: Callable[[], float] = time.perf_counter) -> None:
        self._timer_s, self._log = timer_s, service.log
        self._seconds = Histogram(
            "projectk_tick_seconds", "Duration of a tick", registry=service.metrics, buckets=_BUCKETS_S
        )
        self._over = Counter(
            "projectk_ticks_over_budget", "Ticks that took longer than TICK_MS", registry=service.metrics
        )
        self.recent_ms = 0.0  # moving average
        self.skipped = 0  # ticks never run because an earlier one, or the loop, was late
        self._started = self._last = 0.0
        self._laps: dict[str, float] = {}

    def start(self) -> None:
        self._started = self._last = self._timer_s() * 1_000
        self._laps = {}

    def lap(self, part: str) -> None:
        now = self._timer_s() * 1_000
        self._laps[part] = now - self._last
        self._last = now

    def stop(self, **sizes: int) -> None:
        took = self._last - self._started
        self._seconds.observe(took / 1_000)
        self.recent_ms += (took - self.recent_ms) * _SMOOTH
        if took > TICK_MS:
            self._over.inc()
            laps = {part: round(ms, 1) for part, ms in self._laps.items()}
            self._log.warning("tick over budget", took_ms=round(took, 1), budget_ms=TICK_MS, **laps, **sizes)
