"""Hooks of the whole suite. Tests of real clusters and browsers spend much of their time waiting, and bear no second
cluster beside them. So `make test` has two workers: one runs those tests, one after the other; the other runs the rest
meanwhile, with what the first leaves of the processors, and simulated seeds run from the start on behind both.
"""

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.priority import yield_to_other_sessions

if TYPE_CHECKING:
    from tests.simulation.ahead import Ahead

SIMULATION = "tests/simulation/"
REAL = ("tests/browser/", "tests/chaos/", "tests/e2e/")  # real clusters: one worker, one after the other
BESIDE = (  # but these: no players, no figures; they bear company
    "tests/browser/test_javascript.py",
    "tests/e2e/test_migrate_store.py",
    "ends_the_start_with_one_sentence",
)
REST_NICENESS = 2  # some of the rest measure time, too
ALL_SEEDS = "test_all_invariants_hold_in_every_seed"
MANY_TESTS = 200  # fewer are somebody's selection, who waits for them and not for the seeds

# One verdict for one state of the code, however busy the machine: the same examples each time, no time limit for one.
# HYPOTHESIS_PROFILE=explore draws new ones.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

# Each process of each cluster would compile the project again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_ahead: "pytest.StashKey[Ahead]" = pytest.StashKey()
_begun: "pytest.StashKey[bool]" = pytest.StashKey()


def is_real(nodeid: str) -> bool:
    return nodeid.startswith(REAL) and not any(words in nodeid for words in BESIDE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The simulation last: its seeds are done by then, or nearly."""
    items.sort(key=lambda item: item.nodeid.startswith(SIMULATION))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Two parts, each in order in a worker of its own."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class TwoParts(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "real" if is_real(nodeid) else "rest"

    return TwoParts(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """With the first test of the rest, the worker that got it steps back and starts the seeds."""
    stash = item.config.stash
    if not is_real(item.nodeid) and not stash.get(_begun, False):
        stash[_begun] = True
        begin_rest(item.session)
    return (yield)


def begin_rest(session: pytest.Session) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        yield_to_other_sessions(REST_NICENESS)
    if len(session.items) < MANY_TESTS or not any(item.originalname == ALL_SEEDS for item in functions(session)):
        return
    from tests.simulation.ahead import Ahead  # here, so that a few unit tests need not load all services
    from tests.simulation.seeds import WORKERS, suite_seeds

    session.config.stash[_ahead] = Ahead(suite_seeds(), WORKERS)


def functions(session: pytest.Session) -> list[pytest.Function]:
    return [item for item in session.items if isinstance(item, pytest.Function)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    ahead = session.config.stash.get(_ahead, None)
    if ahead is not None:
        ahead.close()


@pytest.fixture(scope="session")
def ahead(request: pytest.FixtureRequest) -> "Ahead | None":
    """The seeds that have been running since the suite's start; None where few tests were selected."""
    return request.config.stash.get(_ahead, None)
