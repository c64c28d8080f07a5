"""What a worker measures: latencies, logins, deliveries, errors. Plain numbers that add up over workers."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from world.limits import BOT_INPUTS_PENDING, BOT_UNSEEN_MS

BUCKET_MS = 1.0
BUCKETS = 10_000  # the last one takes everything slower


@dataclass(slots=True)
class Tally:
    """Sums since the start; ``latency`` counts by bucket of BUCKET_MS."""

    logins: int = 0
    login_s: float = 0.0  # from the first login's begin to the last one's end
    inputs: int = 0
    unseen: int = 0  # inputs that no observer saw within BOT_UNSEEN_MS though one stood near
    updates: int = 0  # motion records delivered to observers
    observer_s: float = 0.0  # observed time, summed over observers
    frames: int = 0
    bytes: int = 0
    client_s: float = 0.0  # connected time, summed over clients
    cpu_s: float = 0.0  # of the workers themselves, while measuring
    gathered: int = 0
    said: int = 0
    traded: int = 0  # trades told to be committed, by each of the two
    reconnects: int = 0
    corrections: int = 0
    in_sight: int = 0  # sum of how many others observers saw, per sample
    in_sight_samples: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)

    def took(self, latency_ms: float) -> None:
        self.latency[min(BUCKETS - 1, int(latency_ms / BUCKET_MS))] += 1

    def add(self, other: "Tally") -> None:
        for name in self.__slots__:
            mine, others = getattr(self, name), getattr(other, name)
            if isinstance(mine, Counter):
                mine.update(others)
            elif name == "login_s":
                self.login_s = max(mine, others)  # workers log in at the same time
            else:
                setattr(self, name, mine + others)

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"latency": [[bucket, n] for bucket, n in sorted(self.latency.items())]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Tally":
        latency = Counter({int(bucket): int(n) for bucket, n in values["latency"]})
        kept = {name: value for name, value in values.items() if name not in ("latency", "errors", "refusals")}
        return cls(**kept, latency=latency, errors=Counter(values["errors"]), refusals=Counter(values["refusals"]))


def percentiles(latency: Counter[int], wanted: tuple[float, ...]) -> list[float | None]:
    """Upper ends of the buckets that hold these percentiles, ms; None where nothing was measured."""
    if not latency:
        return [None] * len(wanted)
    buckets = np.array(sorted(latency))
    reached = np.cumsum([latency[int(bucket)] for bucket in buckets])
    at = [int(np.searchsorted(reached, np.ceil(p / 100 * reached[-1]))) for p in wanted]
    return [(int(buckets[i]) + 1) * BUCKET_MS for i in at]


class Inputs:
    """Inputs on their way: sent by one bot, to be seen by the first observer of the same worker.

    Only inputs made well within some observer's sight are waited for, so that coming back into sight is never taken
    for a delay. One that a later input overtook within the same tick is seen with it; one not seen after BOT_UNSEEN_MS
    counts with that time, so that nothing slow is left out.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._sent: dict[int, deque[tuple[int, float]]] = {}  # avatar → (input, sent ms), oldest first

    def sent(self, avatar: int, number: int, now_ms: float, watched: bool) -> None:
        if not watched:
            self.forget(avatar)
            return
        queue = self._sent.setdefault(avatar, deque(maxlen=BOT_INPUTS_PENDING))
        while queue and (now_ms - queue[0][1] > BOT_UNSEEN_MS or len(queue) == queue.maxlen):
            queue.popleft()
            self._tally.unseen += 1
            self._tally.took(BOT_UNSEEN_MS)
        queue.append((number, now_ms))

    def seen(self, avatar: int, last_input: int, now_ms: float) -> None:
        queue = self._sent.get(avatar)
        while queue and queue[0][0] <= last_input:
            self._tally.took(now_ms - queue.popleft()[1])

    def forget(self, avatar: int) -> None:
        self._sent.pop(avatar, None)
