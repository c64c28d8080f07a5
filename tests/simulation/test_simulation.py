"""500 seeds of the whole system in virtual time hold all invariants; without any one safeguard they do not.

``make sim SEEDS=…`` runs more; PROJECTK_TEST_SEEDS and PROJECTK_TEST_SEED_START set how many here, and the first. In a
run of the whole suite the seeds have been running since its start (``tests.simulation.ahead``).
"""

import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor

import pytest

from tests.simulation.ablations import FOUND_WITHIN
from tests.simulation.ahead import Ahead
from tests.simulation.plan import draw
from tests.simulation.pool import replay_command, run_seeds, workers
from tests.simulation.run import Report
from tests.simulation.seeds import SEEDS, WORKERS, suite_seeds
from tests.simulation.trace import first

TIMEOUT_S = 120 + 4 * SEEDS

# What the seeds together must have met, or they prove nothing.
MET = (
    *("gathered", "frames_lost", "stale_seen", "corrections", "killed", "writes", "handed", "drained", "replaced"),
    *("traded", "trades_aborted"),
)


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with workers(WORKERS) as shared:
        yield shared


def describe(report: Report, without: str = "") -> str:
    return (
        f"seed {report.seed} fails; replay it by: {replay_command(report.seed, without)}\n"
        f"{draw(report.seed).describe()}\n  {first(report.problems)}"
    )


def progress(done: int, of: int) -> None:
    if sys.__stderr__ is not None and sys.__stderr__.isatty():
        print(f"\rsimulation: {done}/{of} seeds ", end="" if done < of else "\n", file=sys.__stderr__, flush=True)


@pytest.mark.timeout(TIMEOUT_S)
def test_all_invariants_hold_in_every_seed(pool: Executor, ahead: Ahead | None) -> None:
    seeds = suite_seeds()
    reports = run_seeds(pool, seeds, 2 * WORKERS) if ahead is None else ahead.reports()
    met: Counter[str] = Counter()
    for done, report in enumerate(reports, 1):
        progress(done, len(seeds))
        assert report.ok, describe(report)
        met.update({name: int(value) for name, value in report.figures.items()})
    assert done == len(seeds)
    assert SEEDS < 50 or all(met[name] for name in MET), met


def test_a_seed_is_the_same_run_in_every_process(pool: Executor) -> None:
    seed = next(s for s in range(1_000) if any(strike.kind == "zombie" for strike in draw(s).strikes))
    digests = {report.digest for report in run_seeds(pool, [seed] * 4, 4)}
    assert len(digests) == 1


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("safeguard", sorted(FOUND_WITHIN))
def test_without_a_safeguard_a_violation_is_found(pool: Executor, safeguard: str) -> None:
    """Removed by a patch of the test; ``python -m tests.simulation --without …`` shows what it finds."""
    within = FOUND_WITHIN[safeguard]
    seeds = range(within) if isinstance(within, int) else within
    found = next((r for r in run_seeds(pool, seeds, WORKERS, safeguard) if not r.ok), None)
    assert found is not None, f"without {safeguard} nothing was found in seeds {seeds}"
