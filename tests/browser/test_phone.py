"""The play page on a phone: nothing lies over what one needs, and a finger walks and gathers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests.browser.pages import PlayPage, slow
from tests.support.cluster import Cluster

pytestmark = [pytest.mark.browser, pytest.mark.cluster, pytest.mark.timeout(240)]

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
ESSENTIAL = ("#badge", ".corner", "#chat-log", "#chat-form", "#inventory", "#help")
BOXES = """(names) => names.map((name) => {
  const { left, top, right, bottom } = document.querySelector(name).getBoundingClientRect();
  return [name, left, top, right, bottom];
})"""


def boxes(play: PlayPage) -> list[tuple[str, float, float, float, float]]:
    return [tuple(box) for box in play.page.evaluate(BOXES, list(ESSENTIAL))]


def assert_apart(play: PlayPage) -> None:
    """All that is shown is on the screen, and no two over one another."""
    shown = [box for box in boxes(play) if box[3] > box[1]]
    for i, (name, left, top, right, bottom) in enumerate(shown):
        assert left >= 0, name
        assert top >= 0, name
        assert right <= PHONE["viewport"]["width"], name  # type: ignore[index]
        assert bottom <= PHONE["viewport"]["height"], name  # type: ignore[index]
        for other, left2, top2, right2, bottom2 in shown[i + 1 :]:
            apart = left >= right2 or left2 >= right or top >= bottom2 or top2 >= bottom
            assert apart, f"{name} and {other} overlap: {shown}"


def test_a_phone_shows_all_and_a_finger_walks(
    shared: Cluster, profile: Callable[..., BrowserContext], shots: Path
) -> None:
    play = PlayPage(slow(profile(**PHONE)), f"{shared.url}/").open()
    assert_apart(play)
    told = play.page.inner_text("#help")
    assert "Tap the ground to walk" in told
    assert "press" not in told, "there are no keys"
    play.page.tap("#help-close")
    play.page.tap("#chat-input")
    play.page.keyboard.type("a longer sentence that needs more than one line of the log on a narrow screen")
    play.page.keyboard.press("Enter")
    play.wait("projectk.chat.some((line) => line.endsWith('narrow screen'))")
    assert_apart(play)

    x, y = play.settled()
    middle = (195, 422)
    play.page.touchscreen.tap(middle[0] - 90, middle[1] - 60)
    play.wait(f"projectk.position.x < {x} - 1.5 && projectk.position.y < {y} - 1")
    play.settled()
    assert play.pixels_not_blank(play.screenshot(shots / "phone.png"))
    assert play.complaints == []
