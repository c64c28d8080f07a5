"""A storm: faults strike every few seconds, for a given time. One clock strikes every kind of process in turn, each
once a round in a new order; or each kind has a clock of its own, so that several strike at once."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

from tests.chaos.faults import FAULTS
from tests.chaos.rows import ON_COUCHBASE
from tests.chaos.stage import Stage

SAID_EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class Storm:
    """``every_s``: from one strike of a clock to its next, at least and at most; later where what was struck is not
    back yet. ``each``: a clock for each kind."""

    faults: tuple[str, ...]
    seconds: float
    every_s: tuple[float, float]
    seed: int
    each: bool = False

    def clocks(self) -> list[tuple[str, ...]]:
        """Which kinds strike in turn. What Couchbase's nodes do is beside the kills, or these would be fewer."""
        if self.each:
            return [(kind,) for kind in self.faults]
        nodes = tuple(kind for kind in self.faults if kind in ON_COUCHBASE)
        return [kinds for kinds in (tuple(kind for kind in self.faults if kind not in nodes), nodes) if kinds]

    def strikes(self, kinds: Sequence[str], rng: random.Random) -> Iterator[tuple[float, str]]:
        """For ever: (s since the last strike's begin, kind)."""
        while True:
            for kind in rng.sample(kinds, len(kinds)):
                yield rng.uniform(*self.every_s), kind


def blow(storm: Storm, stage: Stage, say: Callable[[], None]) -> None:
    """``say`` is called now and then. Raises what a fault raises, at once."""
    ending = threading.Event()
    ends_s = time.monotonic() + storm.seconds

    def run_clock(kinds: tuple[str, ...]) -> None:
        rng = random.Random(f"{storm.seed} {kinds}")
        own = stage.beside(rng)
        began_s = time.monotonic()
        for after_s, kind in storm.strikes(kinds, random.Random(rng.random())):
            due_s = began_s + after_s
            if due_s >= ends_s or ending.wait(max(0.0, due_s - time.monotonic())):
                return
            began_s = time.monotonic()
            FAULTS[kind](own)

    clocks = storm.clocks()
    if len(clocks) > 1:
        stage.note("storm")
    with ThreadPoolExecutor(len(clocks), "storm") as pool:
        running = {pool.submit(run_clock, kinds) for kinds in clocks}
        try:
            while running:
                done, running = wait(running, SAID_EVERY_S, FIRST_EXCEPTION)
                for clock in done:
                    clock.result()
                say()
        finally:
            ending.set()
