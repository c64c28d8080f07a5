"""One cluster for all tests that leave it as they found it; those that do not start their own."""

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, cluster


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("shared"), placement="spread") as running:
        yield running


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test says what its cluster's logs say last."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed and (running := getattr(item, "funcargs", {}).get("shared")) is not None:
        report.sections.append(("logs of the cluster", running.output() + running.logs()))
