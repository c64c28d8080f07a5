"""Hooks of the whole suite. Tests of real clusters and browsers spend much of their time waiting, and bear no second
cluster beside them. So `make test` has two workers: one runs those tests, one after the other; the other runs the rest
meanwhile, with what the first leaves of the processors, and simulated seeds run from the start on behind both.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.priority import yield_to_other_sessions

if TYPE_CHECKING:
    from tests.simulation.ahead import Ahead

SIMULATION = "tests/simulation/"
ALL_SEEDS = "test_all_invariants_hold_in_every_seed"
MANY_TESTS = 200  # fewer are somebody's selection, who waits for them and not for the seeds
REAL, REST = "real", "rest"  # what runs in one worker, in order
REST_NICENESS = 5

_ahead: "pytest.StashKey[Ahead]" = pytest.StashKey()
_begun: "pytest.StashKey[bool]" = pytest.StashKey()


def is_real(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("cluster", "browser"))


@pytest.hookimpl(wrapper=True)  # so that groups are known when xdist looks at them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """The simulation last: its seeds are done by then, or nearly. What needs quiet is one group, all else another."""
    items.sort(key=lambda item: item.nodeid.startswith(SIMULATION))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(REAL if is_real(item) else REST))
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """With the first test of the rest, the worker that got it steps back and starts the seeds."""
    stash = item.config.stash
    if not is_real(item) and not stash.get(_begun, False):
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
