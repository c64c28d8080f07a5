"""Kill a game server and keep walking: what players' windows and the observe page show while a real cluster hands an
avatar over, loses a game server, and loses a gateway. Nobody stops to walk; the pictures go into the documentation.
"""

import base64
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, ViewportSize

from tests.browser.pages import PlayPage, slow
from tests.browser.test_observe_page import people
from tests.support.cluster import COMMAND, Cluster, cluster, environment
from world.limits import REGION_M, WALK_SPEED_M_PER_S

pytestmark = [pytest.mark.browser, pytest.mark.cluster, pytest.mark.timeout(240)]

WINDOW: ViewportSize = {"width": 560, "height": 520}
SMALL: ViewportSize = {"width": 320, "height": 300}  # nobody takes pictures of it
MAP: ViewportSize = {"width": 1080, "height": 520}
STALL_MS = 900  # a machine that stands still for longer uses up the walking budget: the owner puts the walker back
NOTICED_MS = 1_000
FRAME_SLACK_M = 0.5

# Every frame of a window is written down: where one's own avatar is shown, what the page tells, where the other is. Its
# time is that of the frame that walked it there: between two of this recorder's turns the game may have drawn none, or
# one that took long.
RECORD = """(other) => {
  const film = (window.film = { frames: [], other });
  const told = (id, name) => document.getElementById(id).classList.contains(name);
  const each = () => {
    const { at, x, y, corrections, acknowledged } = projectk.position;
    const seen = projectk.entities.find((e) => e.id === film.other);
    film.frames.push({
      now: at, x, y, corrections, acknowledged, server: projectk.server, state: projectk.state,
      badge: document.getElementById("badge-server").textContent,
      lost: told("badge-dot", "lost"), notice: told("notice", "shown"), overlay: told("overlay", "shown"),
      toasts: document.querySelectorAll(".toast").length, other: seen ? [seen.x, seen.y, seen.publisher] : null,
    });
    requestAnimationFrame(each);
  };
  requestAnimationFrame(each);
}"""
# East and west on the arrow keys, whatever the test waits for meanwhile.
PACE = """() => {
  const press = (type, code) => window.dispatchEvent(new KeyboardEvent(type, { code }));
  let [now, next] = ["ArrowRight", "ArrowLeft"];
  press("keydown", now);
  const timer = setInterval(() => {
    press("keyup", now);
    [now, next] = [next, now];
    press("keydown", now);
  }, 900);
  window.pace = { stop: () => { clearInterval(timer); press("keyup", now); } };
}"""
SIDE_BY_SIDE = """async (sources) => {
  document.body.style.cssText = "margin:0;display:flex;gap:6px;background:#0c151c";
  document.body.replaceChildren(...sources.map((source) => Object.assign(new Image(), { src: source })));
  await Promise.all([...document.images].map((image) => image.decode()));
}"""


def film(play: PlayPage, since: int = 0) -> list[dict[str, Any]]:
    return list(play.page.evaluate("(since) => film.frames.slice(since)", since))


def assert_walks_on(frames: list[dict[str, Any]]) -> None:
    """No frame shows the avatar farther on than it can have walked since the one before: nothing jumped."""
    for before, after in pairwise(frames):
        walked = ((after["x"] - before["x"]) ** 2 + (after["y"] - before["y"]) ** 2) ** 0.5
        may = WALK_SPEED_M_PER_S * (after["now"] - before["now"]) / 1_000 + FRAME_SLACK_M
        assert walked <= may, f"jumped {walked} m: {before} {after}"


def longest_pause_ms(frames: list[dict[str, Any]]) -> float:
    """Between two of the owner's echoes, while the avatar walked."""
    walking = [b for a, b in pairwise(frames) if (a["x"], a["y"]) != (b["x"], b["y"])]
    echoes = [b["now"] for a, b in pairwise(walking) if a["acknowledged"] != b["acknowledged"]]
    return float(max((after - before for before, after in pairwise(echoes)), default=0))


def both(play: PlayPage, observe: Page, folder: Path, name: str) -> None:
    """A picture of a player's window beside the observer's."""
    for page in (play.page, observe):
        page.evaluate("freeze()")
    shots = [page.screenshot() for page in (play.page, observe)]
    for page in (play.page, observe):
        page.evaluate("thaw()")
    side_by_side(observe.context, shots, folder / f"{name}.jpg", WINDOW["width"] + 6 + MAP["width"], MAP["height"])


def side_by_side(context: BrowserContext, shots: list[bytes], path: Path, width: int, height: int) -> None:
    """One picture of several, six pixels between them; ``width`` and ``height`` of the whole."""
    sheet = context.new_page()
    sheet.set_viewport_size({"width": width, "height": height})
    sheet.evaluate(SIDE_BY_SIDE, [f"data:image/png;base64,{base64.b64encode(shot).decode()}" for shot in shots])
    sheet.screenshot(path=str(path), type="jpeg", quality=78)
    sheet.close()


def picture(observe: Page, folder: Path, name: str, condition: str, after_ms: int) -> None:
    """Of the moment that comes some time after a condition holds."""
    observe.evaluate(f"freezeWhen(() => {condition}, {after_ms})")
    observe.screenshot(path=str(folder / f"{name}.jpg"), type="jpeg", quality=78)
    observe.evaluate("thaw()")


def map_says(observe: Page, condition: str, within_s: float = 20) -> None:
    observe.wait_for_function(f"() => window.projectk && ({condition})", timeout=within_s * 1_000, polling=50)


def nearest(play: PlayPage) -> int:
    """The nearest thing to gather from that can be clicked on."""
    play.zoom(-3)
    x, y = play.position
    things = [e for e in play.entities() if e["kind"] != "avatar" and any(e["fields"].values())]
    for thing in sorted(things, key=lambda e: abs(e["x"] - x) + abs(e["y"] - y)):
        if play.spot(thing["id"]):
            return int(thing["id"])
    raise AssertionError(f"nothing to gather near {x}, {y}")


def handoff(running: Cluster, play: PlayPage, to: str) -> "subprocess.Popen[bytes]":
    """An operator's command."""
    words = ("handoff", str(play.avatar), "--to", to, "--data", str(running.data))
    return subprocess.Popen([*COMMAND, *words], env=environment(), stdout=subprocess.DEVNULL)


def hand_over(running: Cluster, walker: PlayPage, watcher: PlayPage, observe: Page, to: str, shots: Path) -> None:
    """An operator moves a walking player's avatar: the badge changes, and nothing else."""
    start = len(film(walker))
    walker.page.evaluate(PACE)
    observe.click(f".server:has-text('{walker.server}')")  # the map looks at those it has
    flashed = observe.evaluate("projectk.pulses")
    with handoff(running, walker, to) as operator:
        picture(observe, shots, "handoff", f"projectk.pulses > {flashed}", 600)
        walker.wait(f"projectk.server === '{to}' && document.querySelector('#badge-server').textContent === '{to}'")
        walker.page.evaluate("pace.stop()")
    assert operator.returncode == 0
    observe.click("#fit")
    observe.evaluate("document.querySelector('.side').scrollTop = 0")
    walker.settled()
    frames = film(walker, start)
    assert {frame["badge"] for frame in frames} > {to}, "the badge told of both"
    told = [frame for frame in frames if frame["lost"] or frame["notice"] or frame["overlay"] or frame["toasts"]]
    pause_ms = longest_pause_ms(frames)
    assert not told or pause_ms > NOTICED_MS, f"a hand-off is no trouble: {told[0]}"
    if pause_ms < STALL_MS:
        assert len({frame["corrections"] for frame in frames}) == 1, f"put back after {pause_ms} ms"
        assert_walks_on(frames)
    watcher.sees(walker.avatar, near=walker.position, more=f"'gs' + e.publisher === '{to}'")


def owner_of_land(play: PlayPage, observe: Page) -> str:
    """Who owns the region in which the avatar stands, once the map shows it."""
    x, y = (int(v // REGION_M) for v in play.position)
    land = f"projectk.plots.find((p) => p.x === {x} && p.y === {y} && p.state === 'owned')"
    map_says(observe, land)
    return str(observe.evaluate(f"{land}.owner"))


def test_kill_a_game_server_and_keep_walking(
    profile: Callable[..., BrowserContext], tmp_path: Path, shots: Path
) -> None:
    flags = {"placement": "spread", "gameservers": 3, "logins": 1, "brokers": 1, "restart": "never"}
    with cluster(tmp_path, **flags) as running, people(running):
        walker = PlayPage(slow(profile(viewport=WINDOW), 25), f"{running.gateways[0]}/").open()
        watcher = PlayPage(slow(profile(viewport=SMALL), 150), f"{running.gateways[1]}/").open()
        observe = slow(profile(viewport=MAP), 100).new_page()
        observe.goto(f"{running.gateways[1]}/observe")
        for window, other in ((walker, watcher), (watcher, walker)):
            window.page.click("#help-close")
            window.page.evaluate(RECORD, other.avatar)
        walker.gather(nearest(walker))
        carried = walker.read("inventory")

        if (lord := owner_of_land(walker, observe)) != walker.server:
            hand_over(running, walker, watcher, observe, lord, shots)
        else:
            away = next(server for server in ("gs1", "gs2", "gs3") if server not in (lord, watcher.server))
            hand_over(running, watcher, walker, observe, away, shots)
        while (lord := owner_of_land(walker, observe)) != walker.server:  # servers share the load by themselves
            assert handoff(running, walker, lord).wait(30) == 0
            walker.wait(f"projectk.server === '{lord}'")
        session = [walker.read(name) for name in ("session", "connection")]
        both(walker, observe, shots, "failover-before")
        observe.screenshot(path=str(shots / "observe.jpg"), type="jpeg", quality=78)

        start, watched = len(film(walker)), len(film(watcher))
        walker.page.evaluate(PACE)
        now = observe.evaluate("performance.now()")
        running.kill(lord)
        lost = f"projectk.plots.some((p) => p.state === 'nobodys' || (p.since > {now} && p.before === '{lord}'))"
        picture(observe, shots, "failover-nobodys", lost, 100)
        walker.wait(f"projectk.state === 'attached' && projectk.server !== '{lord}'", 30)
        walker.wait(f"document.querySelector('#badge-server').textContent === '{walker.server}'")
        assert [walker.read(name) for name in ("session", "connection")] == session, "the socket stayed"
        assert walker.read("inventory") == carried
        map_says(observe, f"projectk.processes.some((p) => p.id === '{lord}' && p.status === 'dead')")
        assert owner_of_land(walker, observe) != lord
        both(walker, observe, shots, "failover-after")
        walker.page.evaluate("pace.stop()")
        walker.settled()
        assert not [frame for frame in film(walker, start) if frame["overlay"]], "the world stays in reach"
        seen = [frame["other"] for frame in film(watcher, watched)]
        assert None not in seen, "the other window saw it all along"
        assert max(place[0] for place in seen) - min(place[0] for place in seen) > 3, "… and walking"
        watcher.sees(walker.avatar, near=walker.position, more=f"'gs' + e.publisher === '{walker.server}'")

        gateway = walker.read("gateway")
        running.kill(gateway)
        walker.page.evaluate(PACE)
        walker.wait(f"projectk.state === 'attached' && projectk.gateway !== '{gateway}'", 30)
        walker.page.evaluate("pace.stop()")
        assert walker.read("session") == session[0], "resumed, not begun anew"
        walker.wait("document.querySelector('#badge-gateway').textContent === `via ${projectk.gateway}`")
        walker.settled()
        assert walker.read("inventory") == carried
        assert walker.pixels_not_blank()
