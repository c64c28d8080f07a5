"""The observe page on a real cluster with people in it: who owns what, and who sees what, live."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.pages import colors, slow
from tests.support.cluster import COMMAND, STOP_S, Cluster, environment

pytestmark = [pytest.mark.browser, pytest.mark.cluster, pytest.mark.timeout(240)]

BOTS = 4
SECONDS = 600  # longer than the test; it ends them
LAYERS = ("regions", "sight", "avatars", "ghosts", "cells")


@contextmanager
def people(running: Cluster) -> Iterator[None]:
    """Some wander near the spawn, on both servers."""
    words = ("bots", "--url", running.url, "--count", str(BOTS), "--seconds", str(SECONDS), "--spread", "20")
    with (running.folder / "bots.out").open("wb") as out:
        bots = subprocess.Popen([*COMMAND, *words], env=environment(), stdout=out, stderr=out)
    try:
        yield
    finally:
        bots.terminate()
        bots.wait(3 * STOP_S)


def until(page: Page, condition: str, within_s: float = 60) -> list[dict[str, Any]]:
    """Wait for a JavaScript condition over ``projectk``; the servers of the very picture that fulfilled it."""
    expression = f"() => window.projectk && ({condition}) && projectk.servers"
    found = page.wait_for_function(expression, timeout=within_s * 1_000, polling=100).json_value()
    return sorted(found, key=lambda view: str(view["server"]))


# Every avatar is real on one server and a ghost on the other; both listen; some region has an owner; ground is drawn.
ALIVE = f"""projectk.servers.flatMap((s) => s.avatars).length >= {BOTS} && projectk.servers.length === 2
  && projectk.servers.every((s) => s.ghosts.length && s.sight.length)
  && projectk.servers.some((s) => s.regions.length) && projectk.ground > 0 && projectk.pictures > 2"""


def drawn(page: Page, layer: str) -> int:
    """How many pixels of the live canvas a layer alone paints."""
    for name in LAYERS:
        page.set_checked(f"#layer-{name}", name == layer)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return int(page.evaluate(PAINTED))


def still(page: Page) -> float:
    """Pixels per metre, once the map has stopped to zoom."""
    return float(page.evaluate(STILL))


STILL = """async () => {
  for (let before = NaN, same = 0; same < 3; ) {
    await new Promise((done) => requestAnimationFrame(done));
    same = Math.abs(projectk.zoom / before - 1) < 0.001 ? same + 1 : 0;
    before = projectk.zoom;
  }
  return projectk.zoom;
}"""
PAINTED = """() => {
  const live = document.getElementById("live");
  const pixels = live.getContext("2d").getImageData(0, 0, live.width, live.height).data;
  let painted = 0;
  for (let i = 3; i < pixels.length; i += 4) painted += pixels[i] > 0;
  return painted;
}"""


def test_servers_regions_avatars_and_sights_are_shown(
    shared: Cluster, profile: Callable[..., BrowserContext], shots: Path
) -> None:
    page = slow(profile(viewport={"width": 1000, "height": 640})).new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    with people(shared):
        page.goto(f"{shared.url}/observe")
        servers = until(page, ALIVE)
        owned = [region[:2] for view in servers for region in view["regions"]]
        assert len({tuple(place) for place in owned}) == len(owned), "a region has one owner"
        cards = page.locator(".server").all_inner_texts()
        assert [card.split()[0] for card in cards] == ["gs1", "gs2"]
        for card, view in zip(cards, servers, strict=True):
            assert f"generation {view['generation']}" in card
            assert "peak" in card
            assert view["tick_ms"] >= 0 <= view["ghost_age_ms"]
        until(
            page, "[...document.querySelectorAll('.server dd')].filter((d) => / ms$/.test(d.textContent)).length === 4"
        )
        assert page.inner_text("#stream-state") == "Live, twice a second"

        first = still(page)
        page.mouse.move(300, 300)
        page.mouse.wheel(0, -400)
        nearer = still(page)
        assert nearer > first * 1.2
        for _ in range(3):
            page.click("#zoom-out")
        farther = still(page)
        assert farther < nearer / 2
        page.click("#fit")
        assert still(page) > farther * 1.1
        assert colors(page, page.screenshot(path=str(shots / "observe.png"))) > 200
        for layer in LAYERS:
            assert drawn(page, layer) > 50, f"the map shows no {layer}"
    assert complaints == []
