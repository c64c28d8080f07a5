"""Simulating while other tests wait: the seeds of the suite run from its start on, with what the processors have left.

Tests of real clusters spend much of their time waiting for processes and clocks. The workers here run only when
nothing else would (SCHED_IDLE where the system has it, and a session of the lowest weight), so that they delay nobody.
The simulation's own test then finds most seeds done. What a seed does and finds is the same whenever it runs.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed

from tests.simulation.pool import spawned, steady_hashes, work
from tests.simulation.run import Report
from tests.support.priority import yield_to_other_sessions

LOWEST_NICENESS = 19


def step_back() -> None:
    """In a worker, before its first seed."""
    yield_to_other_sessions(LOWEST_NICENESS)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """A worker waits for its next seed for ever, also where nobody lives to send one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Ahead:
    """All of ``seeds`` under way; ``reports`` gives them as they come."""

    def __init__(self, seeds: list[int], processes: int) -> None:
        self.seeds = seeds
        self._pool = ProcessPoolExecutor(processes, spawned(), initializer=step_back)
        with steady_hashes():
            self._futures: list[Future[Report]] = [self._pool.submit(work, seed) for seed in seeds]

    def reports(self) -> Iterator[Report]:
        yield from (future.result() for future in as_completed(self._futures))

    def close(self) -> None:
        """Seeds that nobody asked for any more are not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)
