"""The trade window on desktop and phone, against a scripted other side: what players see and can do, step by step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, ViewportSize, expect

from tests.browser.fake_gateway import ORIGIN, FakeGateway
from tests.browser.fake_trade import FakeTrade
from tests.browser.pages import PlayPage, slow

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

NAME = "Misty <i>Wren</i>"  # a name is text, whatever is in it
DESKTOP: ViewportSize = {"width": 1040, "height": 585}
PHONE: ViewportSize = {"width": 360, "height": 640}
TOUCH_PX = 44
STEP_MS = 10_000
PICTURE_MS = 80  # between two of the world: the window is what is tested
SMALL = """(least) => [...document.querySelectorAll("#trade button, #trade input")]
  .map((e) => ({ name: e.id || e.ariaLabel, box: e.getBoundingClientRect() }))
  .filter(({ box }) => box.width && (box.width < least || box.height < least))
  .map(({ name, box }) => `${name} ${box.width}x${box.height}`)"""
# one's own figure with its name, and the window
OVER_OWN = """() => {
  const [x, y] = projectk.project(projectk.position.x, projectk.position.y);
  const box = document.getElementById("trade").getBoundingClientRect();
  const over = box.left < x + 40 && box.right > x - 40 && box.top < y && box.bottom > y - 90;
  return { over, box: box.toJSON(), at: [x, y] };
}"""

# Clicks on Confirm as soon as it may not be clicked on: no hand is so fast, and no test on a slow machine.
HASTY = """() => {
  window.hasty = 0;
  const confirm = document.getElementById("trade-confirm");
  new MutationObserver(() => {
    if (!confirm.classList.contains("looking")) return;
    window.hasty += 1;
    confirm.click();
  }).observe(confirm, { attributes: true });
}"""


def enter(context: BrowserContext) -> tuple[PlayPage, FakeGateway, FakeTrade]:
    gateway = FakeGateway()
    gateway.inventory = {"wood": 5, "berries": 2}
    companion = gateway.join(21, NAME, 2.2, 0.4, publisher=3)
    play = PlayPage(context, f"{ORIGIN}/", gateway.tick)
    gateway.install(play.page)
    play.page.set_default_timeout(STEP_MS)
    play.load().shown()
    return play, gateway, FakeTrade(gateway, companion, NAME)


def orders(gateway: FakeGateway) -> list[dict[str, Any]]:
    return [{"op": heard["op"], **heard["args"]} for heard in gateway.heard if heard["t"] == "command"]


def confirm_when_allowed(play: PlayPage) -> None:
    play.wait("projectk.trade.current.obstacle === ''")
    play.page.click("#trade-confirm")


def test_on_a_desktop_one_asks_offers_is_warned_of_a_swap_and_trades(
    profile: Callable[..., BrowserContext], shots: Path
) -> None:
    play, gateway, trade = enter(slow(profile(viewport=DESKTOP), PICTURE_MS))
    page = play.page
    play.page.click("#help-close")
    for _ in range(10):  # the picture may still be on its way to where the avatar stands
        page.mouse.click(*play.point(trade.told["with"]["id"]))
        if play.try_wait(f"document.getElementById('person-name').textContent === {NAME!r}", 2):
            break
    expect(page.locator("#person-name")).to_have_text(NAME)
    page.click("#person-trade")
    expect(page.locator(".invitation")).to_contain_text(f"Asking {NAME} to trade")
    trade.open()
    expect(page.get_by_role("dialog", name=f"Trade with {NAME}")).to_be_visible()

    page.click("#trade-bag [data-key=wood] button")
    page.click("#trade-bag [data-key=wood] button")
    page.click("#inventory [data-item=berries]", modifiers=["Shift"])
    page.click("#trade-mine [data-key=wood] button")
    play.wait("projectk.trade.current.obstacle === ''")
    assert trade.told["mine"] == {"wood": 1, "berries": 2}
    trade.offer({"stone": 3})
    confirm_when_allowed(play)
    play.wait("projectk.trade.current.i_confirmed")
    expect(page.locator("#trade-confirm")).to_have_text(f"✓ Waiting for {NAME}")

    page.evaluate(HASTY)
    trade.offer({"stone": 1})  # the swap at the last moment
    expect(page.locator("#trade-confirm")).to_have_text("Look again…")
    expect(page.locator("#trade-theirs .changed.less")).to_have_attribute("aria-label", "Stone: 1, was 3")
    expect(page.locator("#trade-live")).to_contain_text("Your confirmation was cleared")
    page.screenshot(path=str(shots / "trade-swapped.png"))
    assert page.evaluate("hasty") > 0
    assert [order["op"] for order in orders(gateway)].count("trade_confirm") == 1, "not before it was looked at"

    page.click("#trade-mine [data-key=berries] button", button="right")
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    trade.confirm()
    confirm_when_allowed(play)
    play.wait("projectk.trade.current.state === 'committing'")
    gateway.socket.close(code=1012)  # the window says so still, when one is back
    play.wait("projectk.state === 'attached' && projectk.trade.current.state === 'committing'")
    trade.tell()
    expect(page.locator("#trade-confirm")).to_have_text("Trading…")
    page.keyboard.press("Escape")
    trade.commit()
    expect(page.locator("#trade")).to_be_hidden()
    expect(page.locator("#toasts")).to_contain_text(
        f"Traded with {NAME}: you gave 1 Wood and 1 Berries and got 1 Stone."
    )
    assert play.read("inventory") == {"berries": 1, "stone": 1, "wood": 4}
    assert {"op": "trade_cancel", "trade": 77} not in orders(gateway), "what is being committed cannot be cancelled"
    assert page.locator("#person i, #trade i, #toasts i, #invitations i, #chat-log i").count() == 0
    assert play.complaints == []


def test_on_a_phone_the_sheet_leaves_the_avatar_free_and_the_keys_and_fingers_at_work(
    profile: Callable[..., BrowserContext], shots: Path
) -> None:
    play, gateway, trade = enter(slow(profile(viewport=PHONE, has_touch=True, is_mobile=True), PICTURE_MS))
    page = play.page
    trade.invite()
    expect(page.locator(".invitation .time")).to_have_text("0:30")
    x = play.position[0]
    play.walk_until(-1, 0, f"projectk.position.x < {x} - 0.5")  # an invitation takes nothing from the player's hands
    page.screenshot(path=str(shots / "trade-invited.png"))
    page.tap(".invitation >> text=Decline")
    expect(page.locator(".invitation")).to_have_count(0)
    assert orders(gateway)[-1] == {"op": "trade_cancel", "trade": 77}

    trade.told["trade"] = 78
    trade.invite()
    expect(page.locator(".invitation >> text=Decline")).to_be_visible()  # before that T would ask for a trade
    page.keyboard.press("t")
    expect(page.locator("#trade")).to_be_focused()
    page.tap("#trade-bag [data-key=wood] button")
    trade.offer({"berries": 12, "stone": 150})
    play.wait("projectk.trade.current.mine.wood === 1")
    for height in (640, 740):
        page.set_viewport_size({"width": 360, "height": height})
        play.pass_ms(250)
        found = page.evaluate(OVER_OWN)
        assert not found["over"], found
        assert found["box"]["bottom"] <= height, found
        assert page.evaluate(SMALL, TOUCH_PX) == []
    page.screenshot(path=str(shots / "trade-phone.png"))

    hold(play, "#trade-bag [data-key=wood] button")
    expect(page.locator("#trade-number")).to_be_visible()
    assert page.evaluate(SMALL, TOUCH_PX) == []
    page.tap("#trade-all")
    page.tap("#trade-less")
    page.tap("#trade-number >> text=Offer")
    play.wait("projectk.trade.current.mine.wood === 4")
    page.touchscreen.tap(90, 420)
    play.wait(f"projectk.position.x < {x} - 1")
    page.keyboard.press("Escape")
    expect(page.locator("#trade")).to_be_hidden()
    expect(page.locator("#toasts")).to_contain_text("You cancelled the trade. Nothing changed hands.")
    assert play.complaints == []


def hold(play: PlayPage, selector: str) -> None:
    """A finger rests on something until its number is asked for."""
    box = play.page.locator(selector).bounding_box()
    assert box is not None
    session = play.page.context.new_cdp_session(play.page)
    points = [{"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}]
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points})
    expect(play.page.locator("#trade-number")).to_be_visible()
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
