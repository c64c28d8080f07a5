"""A short run of real chaos. It judges what must never be wrong; how long things take is for the figures of
docs/reliability.md, made on a machine that does nothing else."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.rows import Row
from tests.chaos.run import Verdict, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(150)]

BOTS = 30
FAULTS = ("partition", "kill-both", "pause-store")
QUICK_S = 3.0  # a pause or a partition here; the figures' are longer


def plan(_rng: random.Random) -> Iterator[str]:
    yield from FAULTS


def failures(verdict: Verdict, kind: str, counted: str) -> int:
    return sum(n for name, n in verdict.figures[kind].counts.items() if name.startswith(counted))


def test_faults_back_to_back_lose_double_and_fork_nothing(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1, 1 << 31)
    print(f"make chaos SEED={seed} BOTS={BOTS}")
    row = Row(FAULTS, (), {"gameservers": 1, "brokers": 1}, settle_s=3.5, proxied=True, lasts_s=QUICK_S)
    verdict = run("short", row, plan, folder=tmp_path, bots=BOTS, seed=seed, say=print)
    assert verdict.problems == []
    assert set(verdict.figures) == set(FAULTS)
    gathered = sum(len(found.samples.get("answer_s", ())) for found in verdict.figures.values())
    assert gathered, "nothing was asked while it was broken: the run proves nothing"
    assert failures(verdict, "partition", "closed") == 0
    for kind in FAULTS:
        assert failures(verdict, kind, "unanswered") == 0
