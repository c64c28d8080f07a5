"""Chromium for the browser tests: Debian's own, driven by playwright, nothing downloaded."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ViewportSize, expect, sync_playwright

from gateway.pages import WEB_CLIENT
from tests.support.cluster import Cluster, cluster
from tests.support.require import missing

NAMES = ("chromium", "chromium-browser", "google-chrome")
WINDOW: ViewportSize = {"width": 720, "height": 450}  # small: a software GPU pays by the pixel
PIXI = WEB_CLIENT.parent / "node_modules/pixi.js/dist/pixi.min.js"
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
EXPECT_MS = 20_000  # a software GPU beside real clusters is slow; what is expected comes, or never
ARGUMENTS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where screenshots go."""
    folder = Path("var/screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One headless Chromium; each test opens contexts (fresh profiles) of its own. It ends with this folder's tests:
    while playwright runs, its event loop is the thread's, and no other test could run one."""
    if CHROMIUM is None:
        missing("browser", "apt-get install chromium (Debian), or put chromium on the PATH")
    if not PIXI.is_file():
        missing("browser", "with PixiJS for its pages, which make test fetches with npm")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(ARGUMENTS))
        expect.set_options(timeout=EXPECT_MS)
        yield launched
        launched.close()


@pytest.fixture
def profile(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes fresh profiles; ``profile(**options)`` over a window's defaults. All are closed at the test's end."""
    made: list[BrowserContext] = []

    def make(**options: object) -> BrowserContext:
        made.append(browser.new_context(**{"viewport": WINDOW, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for context in made:
        context.close()


@pytest.fixture(scope="package")
def shared(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real cluster of two game servers and two gateways, newcomers spread over the servers, for all tests that
    leave it as they found it."""
    with cluster(tmp_path_factory.mktemp("pages"), placement="spread", gameservers=2, logins=1, brokers=1) as running:
        yield running


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test says what its cluster's logs say last."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed and (running := getattr(item, "funcargs", {}).get("shared")) is not None:
        report.sections.append(("logs of the cluster", running.output() + running.logs()))
