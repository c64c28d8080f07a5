"""The play page as a player's hands and eyes: what tests do to it, and what they read from it."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from playwright.sync_api import BrowserContext, ConsoleMessage, Page

KEYS = {(0, -1): "ArrowUp", (0, 1): "ArrowDown", (-1, 0): "ArrowLeft", (1, 0): "ArrowRight"}


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
        self.page.goto(self.url)
        self.wait_attached(ready_s)
        self.wait("projectk.shown", ready_s)
        return self

    def wait(self, condition: str, within_s: float = 10) -> None:
        """Until a JavaScript expression over ``projectk`` is true. Raises AssertionError."""
        for _ in range(int(within_s * 20)):
            if self.page.evaluate(f"() => Boolean(window.projectk && ({condition}))"):
                return
            self.each_step()
            self.page.wait_for_timeout(50)
        raise AssertionError(f"not within {within_s} s: {condition}; the page says {self.state()}; {self.complaints}")

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

    def gather(self, entity: int, within_s: float = 20) -> None:
        """Walk until a node is on screen, click it and wait until what is carried grew."""
        found = self.entity(entity)
        assert found is not None, f"entity {entity} is not in sight"
        self.approach(found["x"], found["y"])
        before = sum(self.read("inventory").values())
        self.click(entity)
        self.wait(f"Object.values(projectk.inventory).reduce((a, b) => a + b, 0) > {before}", within_s)

    def screenshot(self, path: Path) -> bytes:
        return self.page.screenshot(path=str(path))

    def pixels_not_blank(self) -> bool:
        """Whether the window shows many colours, not one flat area."""
        png = base64.b64encode(self.page.screenshot()).decode()
        return int(self.page.evaluate(COUNT_COLORS, png)) > 200


COUNT_COLORS = """async (png) => {
  const bytes = Uint8Array.from(atob(png), (c) => c.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const pen = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  pen.drawImage(bitmap, 0, 0);
  return new Set(new Uint32Array(pen.getImageData(0, 0, bitmap.width, bitmap.height).data.buffer)).size;
}"""
