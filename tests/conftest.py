"""Hooks of the whole suite: simulated seeds run from its start on, while other tests wait."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.simulation.ahead import Ahead

SIMULATION = "tests/simulation/"
ALL_SEEDS = "test_all_invariants_hold_in_every_seed"
MANY_TESTS = 200  # fewer are somebody's selection, who waits for them and not for the seeds

_ahead: "pytest.StashKey[Ahead]" = pytest.StashKey()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The simulation last: its seeds are done by then, or nearly."""
    items.sort(key=lambda item: item.nodeid.startswith(SIMULATION))


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted = any(item.name == ALL_SEEDS for item in session.items)
    if not wanted or len(session.items) < MANY_TESTS or session.config.option.collectonly:
        return
    from tests.simulation.ahead import Ahead  # here, so that a few unit tests need not load all services
    from tests.simulation.seeds import WORKERS, suite_seeds

    session.config.stash[_ahead] = Ahead(suite_seeds(), WORKERS)


def pytest_sessionfinish(session: pytest.Session) -> None:
    ahead = session.config.stash.get(_ahead, None)
    if ahead is not None:
        ahead.close()


@pytest.fixture(scope="session")
def ahead(request: pytest.FixtureRequest) -> "Ahead | None":
    """The seeds that have been running since the suite's start; None where few tests were selected."""
    return request.config.stash.get(_ahead, None)
