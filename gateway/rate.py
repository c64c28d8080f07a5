"""A token bucket."""


class TokenBucket:
    """Allows ``per_s`` on average and ``burst`` at once."""

    __slots__ = ("_at_ms", "_burst", "_per_ms", "_tokens")

    def __init__(self, per_s: float, burst: float, now_ms: float) -> None:
        self._per_ms = per_s / 1_000
        self._burst = burst
        self._tokens = burst
        self._at_ms = now_ms

    def take(self, now_ms: float) -> bool:
        """False where the rate is exceeded."""
        tokens = min(self._burst, self._tokens + (now_ms - self._at_ms) * self._per_ms)
        self._at_ms = now_ms
        if tokens < 1.0:
            self._tokens = tokens
            return False
        self._tokens = tokens - 1.0
        return True
