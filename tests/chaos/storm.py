"""A storm: each kind of fault strikes every few seconds, on a clock of its own, for a given time."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from tests.chaos.faults import FAULTS
from tests.chaos.stage import Stage

SAID_EVERY_S = 15.0


def storm(
    stage: Stage,
    faults: Sequence[str],
    every_s: tuple[float, float],
    seconds: float,
    seed: int,
    say: Callable[[], None],
) -> None:
    """``every_s``: between a kind's strikes, from one to the next, at least and at most; later where what was struck is
    not back yet. ``say`` is called now and then. Raises what a fault raises, at once."""
    ending = threading.Event()
    ends_s = time.monotonic() + seconds

    def strikes(kind: str) -> None:
        rng = random.Random(f"{seed} {kind}")
        own = stage.beside(rng)
        due_s = time.monotonic() + rng.uniform(0, every_s[1])
        while due_s < ends_s and not ending.wait(max(0.0, due_s - time.monotonic())):
            began_s = time.monotonic()
            FAULTS[kind](own)
            due_s = began_s + rng.uniform(*every_s)

    stage.note("storm")
    with ThreadPoolExecutor(len(faults), "storm") as pool:
        running = {pool.submit(strikes, kind) for kind in faults}
        try:
            while running:
                done, running = wait(running, SAID_EVERY_S, FIRST_EXCEPTION)
                for strike in done:
                    strike.result()
                say()
        finally:
            ending.set()
