"""Which seeds the suite runs: PROJECTK_TEST_SEEDS from PROJECTK_TEST_SEED_START on, and those that failed once."""

import os

from tests.simulation.pool import regressions

SEEDS = int(os.environ.get("PROJECTK_TEST_SEEDS", "500"))
START = int(os.environ.get("PROJECTK_TEST_SEED_START", "0"))
WORKERS = os.cpu_count() or 1


def suite_seeds() -> list[int]:
    return [*regressions(), *range(START, START + SEEDS)]
