"""The play page as a player's hands and eyes: what tests do to it, and what they read from it."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from playwright.sync_api import BrowserContext, ConsoleMessage, Page

KEYS = {(0, -1): "ArrowUp", (0, 1): "ArrowDown", (-1, 0): "ArrowLeft", (1, 0): "ArrowRight"}
PICTURE_MS = 30  # about twenty pictures a second
# Fewer pictures a second: on a software GPU a window takes all of a processor, and a test
# needs none of the pictures between. And a picture of a moment: it takes longer for one than a flash lasts.
STILLS = """(everyMs) => {
  const real = window.requestAnimationFrame.bind(window);
  const held = [];
  let frozen = false;
  const draw = (run) => real((now) => (frozen ? held.push(run) : run(now)));
  window.requestAnimationFrame = (run) => (frozen ? held.push(run) : setTimeout(() => draw(run), everyMs));
  window.freezeWhen = async (condition, afterMs) => {
    const late = performance.now() + 30_000;
    while (!condition()) {
      if (performance.now() > late) throw new Error(`never: ${condition}`);
      await new Promise((done) => setTimeout(done, 20));
    }
    for (let drawn = 0; drawn < 2; drawn++) await new Promise(window.requestAnimationFrame);
    await new Promise((done) => setTimeout(done, afterMs));
    frozen = true;
  };
  window.freeze = () => { frozen = true; };
  window.thaw = () => {
    frozen = false;
    held.splice(0).forEach((run) => window.requestAnimationFrame(run));
  };
}"""


def slow(context: BrowserContext, every_ms: int = PICTURE_MS) -> BrowserContext:
    """Its windows rest that long after each picture, and can be frozen."""
    context.add_init_script(f"({STILLS})({every_ms})")
    return context


class PlayPage:
    """One window of the game. Reads through ``window.projectk``; acts by keys and clicks only."""

    def __init__(self, context: BrowserContext, url: str, each_step: Callable[[], None] = lambda: None) -> None:
        self.page: Page = context.new_page()
        self.url = url
        self.each_step = each_step  # what makes the other side go on while we wait (nothing, for a real cluster)
        self.complaints: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def open(self, *, ready_s: float = 30) -> "PlayPage":
        """Load the page and wait until the avatar is attached and the ground is drawn."""
        self.load()
        return self.shown(ready_s)

    def load(self) -> "PlayPage":
        """Only begin to: several windows may then load at once."""
        self.page.goto(self.url, wait_until="commit")
        return self

    def shown(self, ready_s: float = 60) -> "PlayPage":
        self.wait("projectk.state === 'attached' && projectk.shown", ready_s)
        return self

    def wait(self, condition: str, within_s: float = 10) -> None:
        """Until a JavaScript expression over ``projectk`` is true. Raises AssertionError."""
        if self.try_wait(condition, within_s):
            return
        raise AssertionError(f"not within {within_s} s: {condition}; the page says {self.state()}; {self.complaints}")

    def try_wait(self, condition: str, within_s: float) -> bool:
        """As ``wait``; whether it became true."""
        for _ in range(int(within_s * 20)):
            if self.page.evaluate(f"() => Boolean(window.projectk && ({condition}))"):
                return True
            self.each_step()
            self.page.wait_for_timeout(50)
        return False

    def wait_attached(self, within_s: float = 30) -> None:
        self.wait("projectk.state === 'attached'", within_s)

    def read(self, name: str) -> Any:
        return self.page.evaluate(f"() => window.projectk.{name}")

    def state(self) -> Any:
        return self.page.evaluate(
            "() => window.projectk && {state: projectk.state, server: projectk.server, position: projectk.position,"
            " entities: projectk.entities.length, chat: projectk.chat.slice(-3)}"
        )

    @property
    def avatar(self) -> int:
        return int(self.read("avatar"))

    @property
    def name(self) -> str:
        return str(self.read("name"))

    @property
    def server(self) -> str:
        """The game server that owns the avatar: ``gs2``."""
        return str(self.read("server"))

    @property
    def server_number(self) -> int:
        return int(self.server.removeprefix("gs"))

    @property
    def wood(self) -> int:
        return int(self.read("inventory").get("wood", 0))

    @property
    def position(self) -> tuple[float, float]:
        at = self.read("position")
        return at["x"], at["y"]

    def entities(self, kind: str | None = None) -> list[dict[str, Any]]:
        found = cast(list[dict[str, Any]], self.read("entities"))
        return [e for e in found if kind in (None, e["kind"])]

    def entity(self, entity: int) -> dict[str, Any] | None:
        return next((e for e in self.entities() if e["id"] == entity), None)

    def walk(self, dx: int, dy: int, ms: int) -> None:
        """Hold an arrow key (two for a diagonal) for some time."""
        keys = [KEYS[step] for step in ((dx, 0), (0, dy)) if step in KEYS]
        for key in keys:
            self.page.keyboard.down(key)
        self.pass_ms(ms)
        for key in keys:
            self.page.keyboard.up(key)

    def walk_until(self, dx: int, dy: int, condition: str, within_s: float = 20) -> None:
        """Hold an arrow key until a condition is true, however slow the machine. Raises AssertionError."""
        self.page.keyboard.down(KEYS[dx, dy])
        try:
            self.wait(condition, within_s)
        finally:
            self.page.keyboard.up(KEYS[dx, dy])

    def settled(self, within_s: float = 10) -> tuple[float, float]:
        """Wait until the avatar stands and its owner has heard so; where."""
        self.wait("!projectk.position.vx && !projectk.position.vy", within_s)
        self.wait("projectk.position.acknowledged === projectk.position.input", within_s)
        return self.position

    def sees(
        self, entity: int, *, near: tuple[float, float] | None = None, more: str = "", within_s: float = 40
    ) -> None:
        """Wait until an entity is shown, within half a metre of ``near``, and ``more`` (over ``e``) is true."""
        there = f" && Math.hypot(e.x - {near[0]}, e.y - {near[1]}) < 0.5" if near else ""
        also = f" && ({more})" if more else ""
        self.wait(f"projectk.entities.some((e) => e.id === {entity}{there}{also})", within_s)

    @property
    def carried(self) -> int:
        """How many items, of all kinds."""
        return sum(self.read("inventory").values())

    def approach(self, x: float, y: float, near_m: float = 6, within_s: float = 40) -> None:
        """Walk by the arrow keys, one axis after the other, until both are within ``near_m``. Raises AssertionError."""
        for axis, aim in enumerate((x, y)):
            for _ in range(int(within_s)):
                gap = aim - self.position[axis]
                if abs(gap) <= near_m:
                    break
                step = 1 if gap > 0 else -1
                ms = min(int((abs(gap) - near_m / 2) / 6 * 1000), 900)
                self.walk(step if axis == 0 else 0, step if axis == 1 else 0, ms)
            else:
                raise AssertionError(f"never came near {x}, {y}: {self.state()}")

    def pass_ms(self, ms: int) -> None:
        for _ in range(max(ms // 50, 1)):
            self.each_step()
            self.page.wait_for_timeout(50)

    def say(self, text: str) -> None:
        self.page.keyboard.press("Enter")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    def click(self, entity: int) -> None:
        """Click on an entity where it stands on screen, a little above its foot."""
        x, y = self.point(entity)
        self.page.mouse.click(x, y)

    def point(self, entity: int) -> tuple[float, float]:
        """Move the mouse onto an entity; CSS pixels."""
        found = self.entity(entity)
        assert found is not None, f"entity {entity} is not in sight"
        x, y = self.page.evaluate("([x, y]) => projectk.project(x, y)", [found["x"], found["y"] - 0.4])
        self.page.mouse.move(x, y)
        return float(x), float(y)

    def card(self, entity: int, within_s: float = 20) -> str:
        """Point at an entity until its card shows; the card's text."""
        for _ in range(int(within_s * 5)):
            self.point(entity)
            self.pass_ms(200)
            if self.page.is_visible("#card"):
                return self.page.inner_text("#card")
        raise AssertionError(f"no card for {entity} within {within_s} s; {self.state()}")

    def zoom(self, steps: int) -> None:
        """Press a zoom button, negative: out, and wait until the picture has that size."""
        before = self.page.evaluate(PX_PER_M)
        for _ in range(abs(steps)):
            self.page.click("#zoom-in" if steps > 0 else "#zoom-out")
        self.wait(f"Math.abs(({PX_PER_M[6:]}) / {before} / 1.3 ** {steps} - 1) < 0.02")

    def spot(self, entity: int) -> tuple[float, float] | None:
        """Where on screen a click meets an entity, and no panel or nearer thing before it; CSS pixels."""
        found = self.page.evaluate(SPOT, entity)
        return (found["x"], found["y"]) if found else None

    def gather(self, entity: int, within_s: float = 40) -> None:
        """Click a node until what is carried grew: one walks there by itself. Raises AssertionError."""
        before = self.carried
        grown = f"Object.values(projectk.inventory).reduce((a, b) => a + b, 0) > {before}"
        for _ in range(int(within_s / 5)):
            if (spot := self.spot(entity)) is not None:
                self.page.mouse.click(*spot)
            if self.try_wait(grown, 5):
                return
        raise AssertionError(f"nothing gathered within {within_s} s: {self.entity(entity)}; {self.state()}")

    def screenshot(self, path: Path) -> bytes:
        return self.page.screenshot(path=str(path))

    def pixels_not_blank(self, png: bytes = b"") -> bool:
        """Whether the window, or a screenshot of it, shows many colours, not one flat area."""
        return colors(self.page, png or self.page.screenshot()) > 200


def colors(page: Page, png: bytes) -> int:
    """How many different colours a picture has."""
    return int(page.evaluate(COUNT_COLORS, base64.b64encode(png).decode()))


PX_PER_M = "() => projectk.project(1, 0)[0] - projectk.project(0, 0)[0]"
SPOT = """(id) => {
  const found = projectk.entities.find((e) => e.id === id);
  for (const up of found ? [0.4, 0.9, 1.5, 2.2, 3, 4] : []) {
    for (const aside of [0, -0.4, 0.4, -0.8, 0.8]) {
      const [x, y] = projectk.project(found.x + aside, found.y - up);
      const free = document.elementFromPoint(x, y)?.closest("#field");
      if (free && projectk.pick(x, y) === id) return { x, y };
    }
  }
  return null;
}"""
COUNT_COLORS = """async (png) => {
  const bytes = Uint8Array.from(atob(png), (c) => c.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const pen = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  pen.drawImage(bitmap, 0, 0);
  return new Set(new Uint32Array(pen.getImageData(0, 0, bitmap.width, bitmap.height).data.buffer)).size;
}"""
