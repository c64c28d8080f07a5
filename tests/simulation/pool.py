"""Many seeds over a few processes. Workers are started with PYTHONHASHSEED=0, so that a seed is the same everywhere."""

import gc
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from tests.simulation.run import Report, simulate

REGRESSIONS = Path(__file__).with_name("regressions.txt")


def regressions() -> list[int]:
    """Seeds that once failed, one per line, with what they found behind a #."""
    lines = (line.partition("#")[0].strip() for line in REGRESSIONS.read_text().splitlines())
    return [int(line) for line in lines if line]


def replay_command(seed: int, without: str = "") -> str:
    return f"python -m tests.simulation --seed {seed} --trace" + (f" --without {without}" if without else "")


def work(seed: int, without: str = "") -> Report:
    """One seed in a worker: memory is collected between seeds, never in the middle of one, and what lives on from
    the first one (modules, caches) is not looked through again after every other."""
    gc.disable()
    try:
        return simulate(seed, without)
    finally:
        gc.collect()
        gc.freeze()


@contextmanager
def steady_hashes() -> Iterator[None]:
    """Processes spawned meanwhile hash strings alike."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before


def spawned() -> multiprocessing.context.SpawnContext:
    """Workers begin as interpreters of their own."""
    return multiprocessing.get_context("spawn")


@contextmanager
def workers(count: int) -> Iterator[Executor]:
    """Processes that are shared by several ``run_seeds``."""
    with steady_hashes(), ProcessPoolExecutor(count, spawned()) as pool:
        yield pool


def run_seeds(pool: Executor, seeds: Iterable[int], ahead: int, without: str = "") -> Iterator[Report]:
    """Reports as they come, ``ahead`` seeds under way. Stopping early leaves the rest undone."""
    remaining = iter(seeds)
    running: set[Future[Report]] = set()
    try:
        while True:
            for seed in islice(remaining, ahead - len(running)):
                running.add(pool.submit(work, seed, without))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in running:
            future.cancel()
